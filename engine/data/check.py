"""What ``lorimer data check`` tells: what a file is, how many of its rows can be trained on, and what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataSet
from engine.data.encode import RowEncoder, learned_tokens, longest
from engine.data.lengths import percentiles
from engine.data.prepare import nothing_to_train
from engine.data.quality.inspect import set_poor_aside
from engine.data.quality.patterns import placeholders
from engine.data.read import Source
from engine.data.reasons import reason_hint
from engine.data.rows import Row, SetAside
from engine.data.template import choose_template
from engine.data.tokenise import encoded
from engine.data.tokenizer import TextTokenizer
from engine.data.turns import NOTES
from engine.protocol.codec import to_plain
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import DataSettings

# Each row is told by line; a file of a million bad rows would bury the reader and the terminal.
_MOST_PER_REASON = 1000
_BOUNDARIES = 20
NO_QUESTIONS = say(
    "Plain text has no questions: its loss and perplexity can be measured, answers cannot.",
    "纯文本没有提问：只能测量损失和困惑度，无法评估回答。",
)


class CheckFailed(UserError):
    """No row of the file can be trained on. ``report`` is as whole as that of a good file."""

    def __init__(self, error: UserError, report: dict[str, Any]) -> None:
        p = error.problem
        super().__init__(
            p.code,
            p.message,
            p.hint,
            where=p.where,
            problems=error.problems,
            exit_code=error.exit_code,
            details=error.details,
        )
        self.report = report


def check(
    path: Path | str,
    *,
    model_folder: Path | None = None,
    settings: DataSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
    quality: bool = False,
) -> dict[str, Any]:
    """What a data file is and what is wrong with it; every row is looked at.

    Args:
        path: the file.
        model_folder: with a model, rows are tokenised: ``tokens`` and ``template`` are told, and rows that its length
            or template rules out are set aside.
        settings: encoding, shape, mapping, template and lengths; its files are not looked at.
        progress: called with (rows done, rows in all) while rows are tokenised.
        quality: look at what the texts say, and for near duplicates.

    Returns:
        ``shape``, ``format``, ``encoding``, ``mapping`` (role → column), ``rows``, ``trainable``, ``set_aside``
        (reason → count), ``problems`` (``code``, ``message``, ``hint``, ``where``; in English), and beside these
        ``confidence`` (0 to 1), ``certainty`` ("sure", "likely", "ask"), ``columns``, ``preference``, ``bytes``,
        ``files`` (paths; of a folder those in it), ``sha256`` (of the first), ``template`` (``name``, ``reason``),
        ``tokens`` (``total`` and ``learned`` as trained; ``median``, ``p95``, ``longest`` before cutting; ``cut`` rows;
        ``limit``; these two are None without a model), and ``quality`` (as `engine.data.quality.report.Report`
        counts it; None where it was not asked for). ``texts`` says the reason of ``template`` and, in their order,
        ``message`` and ``hint`` of ``problems`` in both languages.

    Raises:
        CheckFailed: the file cannot be read or no row of it can be trained on; its ``report`` is the same dict.
    """
    settings = (settings or DataSettings()).model_copy(update={"files": (str(path),), "held_out_file": ""})
    report: dict[str, Any] = {
        "shape": None,
        "format": None,
        "encoding": None,
        "mapping": {},
        "rows": 0,
        "trainable": 0,
        "set_aside": {},
        "problems": [],
        "confidence": 0.0,
        "certainty": "",
        "columns": [],
        "preference": False,
        "bytes": 0,
        "sha256": None,
        "files": [],
        "template": None,
        "tokens": None,
        "quality": None,
        "texts": {"template": None, "problems": []},
    }
    try:
        _fill(report, settings, model_folder, progress, quality=quality)
    except UserError as error:
        found = [error.problem, *error.problems]
        known = {(p["code"], p["message"], p["where"]) for p in report["problems"]}
        _add(report, [p for p in found if _identity(problem_to_plain(p)) not in known])
        raise CheckFailed(error, report) from error
    return report


def problem_to_plain(problem: Problem) -> dict[str, str]:
    """A problem as the command line's JSON knows it, in English."""
    return {
        "code": problem.code,
        "message": problem.message.en,
        "hint": problem.hint.en,
        "where": problem.where,
    }


def _add(report: dict[str, Any], problems: Iterable[Problem]) -> None:
    """Add problems to the report, in English and, as ``texts``, in both languages."""
    for problem in problems:
        report["problems"].append(problem_to_plain(problem))
        report["texts"]["problems"].append({"message": to_plain(problem.message), "hint": to_plain(problem.hint)})


def _identity(plain: dict[str, str]) -> tuple[str, str, str]:
    return plain["code"], plain["message"], plain["where"]


def _fill(
    report: dict[str, Any],
    settings: DataSettings,
    model_folder: Path | None,
    progress: Callable[[int, int], None] | None,
    *,
    quality: bool,
) -> None:
    rows = DataSet(settings)
    source = rows.sources[0]
    report |= {
        "shape": source.shape.name,
        "mapping": source.mapping,
        "certainty": source.guess.certainty,
        "columns": list(source.columns),
        "files": [str(item.path) for item in rows.sources],
    }
    rows.refuse_doubt()
    rows.scan()
    if quality:
        report["quality"] = set_poor_aside(rows).to_plain()
    report |= {
        "format": source.format,
        "encoding": source.encoding,
        "rows": rows.count,
        "confidence": source.confidence,
        "columns": list(source.columns),
        "preference": source.shape.preference,
        "bytes": rows.bytes,
        "sha256": source.sha256,
    }
    set_aside = list(rows.set_aside(_MOST_PER_REASON + 1))
    counts = Counter(rows.reasons())
    odd = OddTexts()
    trainable = len(rows.usable)
    lengths: list[Problem] = []
    if model_folder is not None:
        trainable, lengths = _with_model(report, rows, settings, model_folder, odd, set_aside, counts, progress)
    else:
        for row in rows.rows():
            odd.look(row)
    set_aside.sort(key=lambda item: item.index)
    report["trainable"] = trainable
    report["set_aside"] = dict(counts.most_common())
    _add(
        report,
        (
            *rows.problems,
            *unasked_problems(rows.sources),
            *odd.problems(),
            *lengths,
            *set_aside_problems(set_aside, counts),
        ),
    )
    if trainable == 0:
        raise nothing_to_train(settings.files, set_aside, rows.count)


def _with_model(
    report: dict[str, Any],
    rows: DataSet,
    settings: DataSettings,
    model_folder: Path,
    odd: OddTexts,
    set_aside: list[SetAside],
    counts: Counter[str],
    progress: Callable[[int, int], None] | None,
) -> tuple[int, list[Problem]]:
    """Add template and token lengths to the report; gives the number of rows to train on, and what is wrong with
    lengths."""
    tokenizer = TextTokenizer.load(model_folder)
    template = choose_template(model_folder, settings.template, tokenizer=tokenizer)
    report["template"] = {"name": template.name, "reason": template.reason.en}
    report["texts"]["template"] = to_plain(template.reason)
    encoder = odd.encoder = RowEncoder(template, tokenizer, settings, longest(settings, tokenizer))
    for row in rows.rows():
        odd.look(row)
    whole: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
    total = learned = cut = done = 0
    for count, found in encoded(rows, rows.usable, encoder):
        for item in found.set_aside:
            counts[item.reason] += 1
            if counts[item.reason] <= _MOST_PER_REASON + 1:
                set_aside.append(item)
        whole.append(found.examples["whole"])
        odd.notes += found.notes
        total += int(found.lengths.sum())
        learned += int(found.learned.sum())
        cut += int(found.examples["cut"].sum())
        done += count
        if progress is not None:
            progress(done, len(rows.usable))
    lengths = np.concatenate(whole)
    report["tokens"] = {
        "total": total,
        "learned": learned,
        **percentiles(lengths),
        "cut": cut,
        "limit": encoder.limit,
    }
    return len(lengths), length_problems(encoder, cut)


# ---------------------------------------------------------------------------------------------------------- problems
def unasked_problems(sources: Iterable[Source]) -> list[Problem]:
    """What cannot be measured of plain text: said of the first file of it."""
    plain = next((source for source in sources if source.shape.kind == "text"), None)
    return [] if plain is None else [Problem("data.no_questions", NO_QUESTIONS, where=plain.path.name)]


def set_aside_problems(set_aside: Iterable[SetAside], counts: Mapping[str, int]) -> list[Problem]:
    """A problem for each set-aside row, up to a thousand for each reason, then one that counts the rest.

    Args:
        set_aside: rows; more than a thousand of a reason need not be given.
        counts: reason → rows in all.
    """
    found: list[Problem] = []
    told: Counter[str] = Counter()
    for item in set_aside:
        told[item.reason] += 1
        if told[item.reason] <= _MOST_PER_REASON:
            found.append(Problem(f"data.{item.reason}", item.text, reason_hint(item.reason), item.where))
    for reason, count in counts.items():
        if count > _MOST_PER_REASON:
            more = say("{n} more rows likewise.", "另有 {n} 行同样如此。", n=count - _MOST_PER_REASON)
            found.append(Problem(f"data.{reason}", more))
    return found


class OddTexts:
    """What is odd about the texts of usable rows, found while they pass by.

    Attributes:
        encoder: with it special tokens in texts and the prompt's boundary are looked at, too.
        notes: key of `engine.data.turns.NOTES` → rows in which the template drops or alters something so; counted by
            who renders them.
    """

    def __init__(self, encoder: RowEncoder | None = None) -> None:
        self.encoder = encoder
        self.notes: Counter[str] = Counter()
        self._filled = self._special = 0
        self._first_filled: tuple[str, str] = ("", "")
        self._first_special: tuple[str, str] = ("", "")
        self._first: list[Row] = []

    def look(self, row: Row) -> None:
        """One row."""
        if len(self._first) < _BOUNDARIES and row.chosen is None and row.text is None:
            self._first.append(row)
        if places := placeholders(row.answer):
            self._filled += 1
            if not self._first_filled[0]:
                start, end = places[0]
                self._first_filled = (row.answer[start:end], row.where)
        if self.encoder is not None and self._pattern is not None:
            for message in row.messages:
                if found := self._pattern.search(message.content):
                    self._special += 1
                    self._first_special = self._first_special if self._first_special[0] else (found.group(), row.where)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        specials = self.encoder.tokenizer.specials if self.encoder is not None else frozenset[str]()
        return re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True)))) if specials else None

    def problems(self) -> list[Problem]:
        """What was found."""
        found: list[Problem] = []
        if self._filled:
            found.append(_placeholders(self._filled, *self._first_filled))
        if self._special:
            found.append(_specials(self._special, *self._first_special))
        found += [_altered(note, count) for note, count in self.notes.most_common()]
        return found + (_boundary_problems(self.encoder, self._first) if self.encoder is not None else [])


def _altered(note: str, count: int) -> Problem:
    """What the template does to some rows."""
    message = say("{what} ({n} rows)", "{what}（{n} 行）", what=NOTES[note], n=count)
    hint = say(
        "Look at such a row; choose another template where that is not wanted.",
        "请查看这些行；若不希望如此，请选择其他模板。",
    )
    return Problem("data.template_alters", message, hint, "data.template")


def _placeholders(count: int, example: str, where: str) -> Problem:
    message = say(
        "{n} answers hold a placeholder such as {example}; the model will learn to write it.",
        "{n} 个回答含有 {example} 之类的占位符；模型会学着写出它。",
        n=count,
        example=example,
    )
    return Problem("data.placeholder", message, say("Fill them in before training.", "请在训练前填好。"), where)


def _specials(count: int, token: str, where: str) -> Problem:
    """Special tokens written out in texts become those tokens: a conversation inside a turn."""
    message = say(
        "{n} turns hold the special token {token}, which ends or begins turns for this model.",
        "{n} 轮对话含有特殊词元 {token}，模型会把它当作轮次的开始或结束。",
        n=count,
        token=token,
    )
    return Problem("data.special_token", message, say("Remove it from the texts.", "请从文本中删除。"), where)


def length_problems(encoder: RowEncoder, cut: int) -> list[Problem]:
    """What becomes of long rows; ``cut`` of them lose their end."""
    found: list[Problem] = []
    wish = encoder.data.max_length
    if encoder.limit < wish:
        found.append(
            Problem(
                "data.model_length",
                say(
                    "The model has {n} positions; longer rows are cut there, not at {wish}.",
                    "模型只有 {n} 个位置；更长的行在此截断，而不是 {wish}。",
                    n=encoder.limit,
                    wish=wish,
                ),
                where="data.max_length",
            )
        )
    if cut:
        found.append(
            Problem(
                "data.cut",
                say(
                    "{n} rows are longer than {limit} tokens and lose their end.",
                    "{n} 行超过 {limit} 个词元，结尾会丢失。",
                    n=cut,
                    limit=encoder.limit,
                ),
                say("Raise the longest length, or set such rows aside.", "请增大最大长度，或搁置这些行。"),
                "data.max_length",
            )
        )
    return found


def _boundary_problems(encoder: RowEncoder, rows: Sequence[Row]) -> list[Problem]:
    """Whether prompts are cut into the same tokens alone, as when the model is asked, and before their answers."""
    for row in rows:
        try:
            whole = encoder.template.render(row.messages, tools=row.tools)
            prompt = encoder.template.render(row.prompt, tools=row.tools, generation_prompt=True)
        except UserError:
            continue
        asked, trained = encoder.tokenizer.encode_batch([prompt.text, whole.text])
        learned = learned_tokens(whole, trained)
        # All that the model is not asked with it must have learned to write.
        if trained.ids[: len(asked.ids)] != asked.ids or not all(learned[len(asked.ids) :][:1]):
            return [Problem("data.prompt_boundary", _BOUNDARY, _BOUNDARY_HINT, row.where)]
    return []


_BOUNDARY: Text = say(
    "With this chat template a prompt alone is cut into other tokens than the same prompt in training.",
    "使用该对话模板时，单独的提问与训练时的提问切分成的词元不同。",
)
_BOUNDARY_HINT: Text = say('The template "plain" works with every tokenizer.', "“plain”模板适用于所有分词器。")
