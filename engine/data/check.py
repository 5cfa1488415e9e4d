"""What ``lorimer data check`` tells: what a file is, how many of its rows can be trained on, and what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from engine.data.prepare import Gathered, RowEncoder, gather, learned_tokens, longest, nothing_to_train
from engine.data.rows import HINTS, Row, SetAside
from engine.data.template import choose_template
from engine.data.tokenizer import TextTokenizer
from engine.protocol.codec import to_plain
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import Text, say
from engine.recipe.recipe import DataSettings

# Each row is told by line; a file of a million bad rows would bury the reader and the terminal.
_MOST_PER_REASON = 1000
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}|\bTODO\b|待补充")


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
) -> dict[str, Any]:
    """What a data file is and what is wrong with it; every row is looked at.

    Args:
        path: the file.
        model_folder: with a model, rows are tokenised: ``tokens`` and ``template`` are told, and rows that its length
            or template rules out are set aside.
        settings: encoding, shape, mapping, template and lengths; its files are not looked at.
        progress: called with (rows done, rows in all) while rows are tokenised.

    Returns:
        ``shape``, ``format``, ``encoding``, ``mapping`` (role → column), ``rows``, ``trainable``, ``set_aside``
        (reason → count), ``problems`` (``code``, ``message``, ``hint``, ``where``; in English), and beside these
        ``confidence`` (0 to 1), ``columns``, ``preference``, ``bytes``, ``sha256``, ``template`` (``name``, ``reason``)
        and ``tokens`` (``total`` and ``learned`` as trained; ``median``, ``p95``, ``longest`` before cutting; ``cut``
        rows; ``limit``); these two are None without a model. ``texts`` says the reason of ``template`` and, in their
        order, ``message`` and ``hint`` of ``problems`` in both languages.

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
        "columns": [],
        "preference": False,
        "bytes": 0,
        "sha256": None,
        "template": None,
        "tokens": None,
        "texts": {"template": None, "problems": []},
    }
    try:
        _fill(report, settings, model_folder, progress)
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
) -> None:
    gathered = gather(settings)
    source = gathered.sources[0]
    report |= {
        "shape": source.shape.name,
        "format": source.format,
        "encoding": source.encoding,
        "mapping": source.mapping,
        "rows": source.count,
        "confidence": source.confidence,
        "columns": list(source.columns),
        "preference": source.shape.preference,
        "bytes": source.bytes,
        "sha256": source.sha256,
    }
    problems = [*gathered.problems, *row_problems(gathered.rows)]
    set_aside = list(gathered.set_aside)
    trainable = len(gathered.rows)
    if model_folder is not None:
        trainable = _with_model(report, gathered, settings, model_folder, problems, set_aside, progress)
    set_aside.sort(key=lambda item: item.index)
    report["trainable"] = trainable
    report["set_aside"] = dict(Counter(item.reason for item in set_aside).most_common())
    _add(report, (*problems, *set_aside_problems(set_aside)))
    if trainable == 0:
        raise nothing_to_train(settings.files, set_aside, source.count)


def _with_model(
    report: dict[str, Any],
    gathered: Gathered,
    settings: DataSettings,
    model_folder: Path,
    problems: list[Problem],
    set_aside: list[SetAside],
    progress: Callable[[int, int], None] | None,
) -> int:
    """Add template and token lengths to the report; returns the number of rows that can be trained on."""
    tokenizer = TextTokenizer.load(model_folder)
    template = choose_template(model_folder, settings.template, tokenizer=tokenizer)
    report["template"] = {"name": template.name, "reason": template.reason.en}
    report["texts"]["template"] = to_plain(template.reason)
    encoder = RowEncoder(template, tokenizer, settings, longest(settings, tokenizer))
    lengths: list[int] = []
    total = learned = cut = 0
    for item in encoder.encode(gathered.rows, progress):
        if isinstance(item, SetAside):
            set_aside.append(item)
            continue
        lengths.append(item.whole)
        total += item.length
        learned += item.learned_tokens
        cut += item.cut
    report["tokens"] = {
        "total": total,
        "learned": learned,
        **percentiles(lengths),
        "cut": cut,
        "limit": encoder.limit,
    }
    problems += [*length_problems(encoder, cut), *text_problems(encoder, gathered.rows)]
    return len(lengths)


def percentiles(lengths: Sequence[int]) -> dict[str, int]:
    """Median, 95th percentile and greatest of lengths; zeros for none."""
    ordered = sorted(lengths) or [0]

    def at(share: float) -> int:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"median": at(0.5), "p95": at(0.95), "longest": ordered[-1]}


# ---------------------------------------------------------------------------------------------------------- problems
def set_aside_problems(set_aside: Iterable[SetAside]) -> list[Problem]:
    """A problem for each set-aside row, up to a thousand for each reason, then one that counts the rest."""
    found: list[Problem] = []
    counts: Counter[str] = Counter()
    for item in set_aside:
        counts[item.reason] += 1
        if counts[item.reason] <= _MOST_PER_REASON:
            found.append(Problem(f"data.{item.reason}", item.text, HINTS[item.reason], item.where))
    for reason, count in counts.items():
        if count > _MOST_PER_REASON:
            more = say("{n} more rows likewise.", "另有 {n} 行同样如此。", n=count - _MOST_PER_REASON)
            found.append(Problem(f"data.{reason}", more))
    return found


def row_problems(rows: Sequence[Row]) -> list[Problem]:
    """What is odd about usable rows, without a model."""
    filled = [row for row in rows if _PLACEHOLDER.search(row.answer)]
    if not filled:
        return []
    message = say(
        "{n} answers hold a placeholder such as {example}; the model will learn to write it.",
        "{n} 个回答含有 {example} 之类的占位符；模型会学着写出它。",
        n=len(filled),
        example=_matched(_PLACEHOLDER, filled[0].answer),
    )
    hint = say("Fill them in before training.", "请在训练前填好。")
    return [Problem("data.placeholder", message, hint, filled[0].where)]


def _matched(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group() if found else ""


def text_problems(encoder: RowEncoder, rows: Sequence[Row]) -> list[Problem]:
    """What is odd about texts under a model's tokenizer and template."""
    return _special_problems(rows, encoder.tokenizer) + _boundary_problems(encoder, rows)


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


def _special_problems(rows: Sequence[Row], tokenizer: TextTokenizer) -> list[Problem]:
    """Special tokens written out in texts become those tokens: a conversation inside a turn."""
    if not tokenizer.specials:
        return []
    pattern = re.compile("|".join(re.escape(t) for t in sorted(tokenizer.specials, key=len, reverse=True)))
    hits = [(row, m.content) for row in rows for m in row.messages if pattern.search(m.content)]
    if not hits:
        return []
    message = say(
        "{n} turns hold the special token {token}, which ends or begins turns for this model.",
        "{n} 轮对话含有特殊词元 {token}，模型会把它当作轮次的开始或结束。",
        n=len(hits),
        token=_matched(pattern, hits[0][1]),
    )
    hint = say("Remove it from the texts.", "请从文本中删除。")
    return [Problem("data.special_token", message, hint, hits[0][0].where)]


def _boundary_problems(encoder: RowEncoder, rows: Sequence[Row]) -> list[Problem]:
    """Whether prompts are cut into the same tokens alone, as when the model is asked, and before their answers."""
    for row in [r for r in rows if r.chosen is None][:20]:
        try:
            whole = encoder.template.render(row.messages)
            prompt = encoder.template.render(row.prompt, generation_prompt=True)
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
