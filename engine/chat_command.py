"""``lorimer chat``: ask several models the same, once or in turns, or judge two of them blindly."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.project.run_folder import RunFolder
from engine.project.transcript import Exchange, Side, Transcript, write_transcript
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from engine.terminal import Terminal

if TYPE_CHECKING:
    from engine.chat.pair import Pair
    from engine.chat.sampling import Sampling
    from engine.project.held_out import HeldOutQuestion
    from engine.project.votes import BlindTest

KEYS = {"1": "first", "2": "second", "3": "tie", "4": "bad"}
HELP = say(
    "/regenerate asks again with another seed; /system TEXT, /seed N, /keep SIDE, /new, /save FILE, /quit",
    "/regenerate 换一个种子重新回答；/system 文本、/seed 数字、/keep 栏、/new、/save 文件、/quit",
)


def chat(options: argparse.Namespace, terminal: Terminal) -> int:
    """The command. Raises `UserError` when the run or a column cannot be loaded."""
    with warnings.catch_warnings():
        # peft 0.21 still reads the name that transformers 5.23 renamed; nobody here can act on it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        talk = _loaded(options, terminal)
        if options.blind:
            return _blind(options, terminal, talk)
        for prompt in options.prompt:
            talk.ask(prompt)
        if not options.prompt:
            _in_turns(terminal, talk)
    if options.transcript is not None:
        write_transcript(options.transcript.expanduser(), talk.transcript())
    terminal.result(talk.document(), *(talk.lines() if options.prompt else ()))
    return 0


def _loaded(options: argparse.Namespace, terminal: Terminal) -> Talk:
    from engine.chat.pair import ADAPTER, GGUF, Pair
    from engine.chat.sampling import Sampling
    from engine.project.project import open_run

    run = open_run(options.run)
    names = [f.name for f in dataclasses.fields(Sampling)]
    sampling = Sampling(**{name: getattr(options, name) for name in names})
    terminal.show(say("Loading the model…", "正在加载模型……"))
    pair = Pair.load(run)
    sides = [Side("base", "Base", "base"), Side("tuned", "Tuned", "tuned", str(run.adapter))]
    beside = [(ADAPTER, path) for path in options.adapter] + [(GGUF, path) for path in options.gguf]
    for number, (kind, given) in enumerate(beside, 1):
        path = given.expanduser().resolve()
        pair.add(f"{kind}{number}", kind, path)
        sides.append(
            Side(f"{kind}{number}", path.parent.name if path.name == "adapter" else path.name, kind, str(path))
        )
    return Talk(run, pair, sides, sampling, options.system)


@dataclass
class Talk:
    """A conversation with all columns; each knows its own answers of before.

    Attributes:
        run, pair: whose models.
        sides: the columns.
        sampling: of the next answers.
        system: None for that of training.
        turns: what was said.
    """

    run: RunFolder
    pair: Pair
    sides: list[Side]
    sampling: Sampling
    system: str | None
    turns: list[Exchange] = field(default_factory=list)

    def ask(self, question: str) -> Exchange:
        """All answers to one question. Raises `UserError` when none can answer."""
        from engine.chat.pair import conversation

        asked = {side.name: conversation(self._history(side.name, question)) for side in self.sides}
        replies = self.pair.ask(
            asked, self.sampling, sides=[side.name for side in self.sides], system=self.system, drop=True
        )
        answers = {name: reply.plain() for name, reply in replies.items()}
        self.turns.append(Exchange(question, answers, dataclasses.asdict(self.sampling), self.system))
        return self.turns[-1]

    def _history(self, side: str, question: str) -> list[dict[str, str]]:
        said: list[dict[str, str]] = []
        for turn in self.turns:
            answer = turn.answers.get(turn.kept or side, {}).get("text")
            if answer:
                said += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": answer}]
        return [*said, {"role": "user", "content": question}]

    def transcript(self) -> Transcript:
        """What was said."""
        title = str(self.run.read_facts().get("title") or self.run.id)
        return Transcript(title, self.pair.tuned.recipe.model.source, time.time(), self.sides, self.turns)

    def document(self) -> dict[str, Any]:
        """The last answers by side, and every turn."""
        from engine.protocol.codec import to_plain

        last = self.turns[-1].answers if self.turns else {}
        plain: dict[str, Any] = {side.name: last.get(side.name, {}).get("text", "") for side in self.sides}
        return {**plain, "sides": to_plain(self.sides), "turns": to_plain(self.turns)}

    def lines(self) -> list[Text]:
        """The last answers for people."""
        last = self.turns[-1].answers if self.turns else {}
        return [_line(side, last[side.name]) for side in self.sides if side.name in last]


def _line(side: Side, answer: Any) -> Text:
    failure = answer.get("failure")
    text = failure.message if failure is not None else answer["text"]
    names = {"base": say("Base", "基础模型"), "tuned": say("Tuned", "微调模型")}
    return say("{name}: {text}", "{name}：{text}", name=names.get(side.name, side.title), text=text)


# ------------------------------------------------------------------------------------------------------------- in turns
def _in_turns(terminal: Terminal, talk: Talk) -> None:
    """Questions line by line until the input ends or /quit."""
    terminal.show(HELP)
    for line in _lines():
        try:
            if line == "/quit":
                return
            if line.startswith("/"):
                _obey(terminal, talk, line)
            else:
                talk.ask(line)
                _show(terminal, talk)
        except UserError as error:
            terminal.show(say("{message} {hint}", "{message}{hint}", **_told(error)))


def _obey(terminal: Terminal, talk: Talk, line: str) -> None:
    """One of the commands that begin with a slash."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "/regenerate" and talk.turns:
        seed = int(rest) if rest.isdecimal() else talk.sampling.seed + 1
        talk.sampling = dataclasses.replace(talk.sampling, seed=seed)
        talk.ask(talk.turns.pop().question)
        _show(terminal, talk)
    elif word == "/system":
        talk.system = rest
    elif word == "/seed" and rest.isdecimal():
        talk.sampling = dataclasses.replace(talk.sampling, seed=int(rest))
    elif word == "/keep" and talk.turns and rest in talk.turns[-1].answers:
        talk.turns[-1] = dataclasses.replace(talk.turns[-1], kept=rest)
    elif word == "/new":
        talk.turns.clear()
    elif word == "/save" and rest:
        write_transcript(Path(rest).expanduser(), talk.transcript())
    else:
        terminal.show(HELP)


def _show(terminal: Terminal, talk: Talk) -> None:
    for line in talk.lines():
        terminal.show(line)


def _lines() -> Iterable[str]:
    """Lines of standard input that say something."""
    return filter(None, (line.strip() for line in sys.stdin))


def _told(error: UserError) -> dict[str, Text]:
    return {"message": error.problem.message, "hint": error.problem.hint}


# ---------------------------------------------------------------------------------------------------------------- blind
def _blind(options: argparse.Namespace, terminal: Terminal, talk: Talk) -> int:
    """Judge answers without knowing whose they are; votes are kept in the run's folder as they are cast."""
    from engine.project.votes import reveal_test

    test, questions = _test_of(options, talk)
    terminal.show(
        say(
            "1: A is better. 2: B is better. 3: equally good. 4: both bad. u: undo. r: reveal and end. q: go on later.",
            "1：A 更好。2：B 更好。3：一样好。4：都不好。u：撤销。r：揭晓并结束。q：以后继续。",
        )
    )
    revealed = _judge(terminal, talk, test, questions)
    if revealed:
        reveal_test(talk.run, test)
    terminal.result(_blind_document(test, revealed=revealed), *_blind_lines(test, revealed=revealed))
    return 0


def _test_of(options: argparse.Namespace, talk: Talk) -> tuple[BlindTest, list[HeldOutQuestion]]:
    """The test that is gone on with, or a new one, and its questions in order. Raises `UserError` without any."""
    from engine.project.held_out import HeldOutQuestion, read_questions
    from engine.project.votes import Contender, begin_test, read_tests

    pair = talk.sides[:2] if len(talk.sides) == 2 else [talk.sides[1], talk.sides[2]]
    written = {"tuned": talk.run.adapter_written}
    first, second = (Contender(_key(s), s.title, s.kind, s.path, written.get(s.name, 0)) for s in pair)
    own = [HeldOutQuestion("", prompt) for prompt in options.prompt]
    source = "own" if own else "held_out"
    test = None
    if not own and not options.new_test:
        same = [(side.name, side.written) for side in (first, second)]
        going = [t for t in read_tests(talk.run) if [(side.name, side.written) for side in t.sides] == same]
        test = next((t for t in reversed(going) if t.source == source and not t.revealed), None)
    seed = test.seed if test is not None else options.seed
    questions = own or read_questions(talk.run, most=10**6, seed=seed)[0]
    if not questions:
        raise _no_questions()
    if test is None:
        sampling = dataclasses.asdict(talk.sampling)
        test = begin_test(
            talk.run, (first, second), seed=options.seed, source=source, sampling=sampling, system=talk.system
        )
    return test, questions


def _key(side: Side) -> str:
    """What a side is called in the votes: the same the next time too."""
    return side.name if side.kind in ("base", "tuned") else side.path


def _no_questions() -> UserError:
    return UserError(
        "chat.no_questions",
        say("There are no questions to judge by.", "没有可用于评判的提问。"),
        say("Give your own: --prompt TEXT, several times.", "请自行给出：--prompt 文本，可写多次。"),
    )


def _judge(terminal: Terminal, talk: Talk, test: BlindTest, questions: Sequence[HeldOutQuestion]) -> bool:
    """Question after question; gives whether the person wants to know now."""
    from engine.project.votes import cast_vote, undo_vote

    keys = _lines()
    while test.next_index < len(questions):
        item = questions[test.next_index]
        answers = _two_answers(talk, test, item)
        shown = test.shown(test.next_index)
        terminal.show(say("— {n}. {text}", "— {n}. {text}", n=test.next_index + 1, text=item.question))
        for letter, name in zip("AB", shown, strict=True):
            terminal.show(say("{letter}: {text}", "{letter}：{text}", letter=letter, text=answers[name]))
        key = next((key for key in keys if key in KEYS or key in "urq"), "q")
        if key in ("r", "q"):
            return key == "r"
        if key == "u":
            undo_vote(talk.run, test)
            continue
        cast_vote(
            talk.run,
            test,
            question=item.question,
            choice=KEYS[key],
            answers=answers,
            where=item.where,
            reference=item.reference,
        )
    return True


def _two_answers(talk: Talk, test: BlindTest, item: HeldOutQuestion) -> dict[str, str]:
    from engine.chat.sampling import Sampling
    from engine.data.rows import USER, Message

    names = {side.name: _key(side) for side in talk.sides if _key(side) in {tested.name for tested in test.sides}}
    messages = (*item.before, Message(USER, item.question))
    sampling = Sampling.from_plain(test.sampling)
    replies = talk.pair.ask(messages, sampling, sides=list(names), system=test.system, drop=True)
    return {names[name]: reply.text.strip() for name, reply in replies.items()}


def _blind_document(test: BlindTest, *, revealed: bool) -> dict[str, Any]:
    from engine.project.votes import verdict

    result = test.result
    plain: dict[str, Any] = {"test": test.id, "votes": result.votes, "ties": result.ties, "bad": result.bad}
    if not revealed:
        return plain
    low, high = result.interval
    return {
        **plain,
        "wins": {test.sides[0].name: result.first, test.sides[1].name: result.second},
        "share": result.share,
        "interval": [low, high],
        "p_value": result.p_value,
        "more": result.more,
        "verdict": str(verdict(result, test.sides)),
    }


def _blind_lines(test: BlindTest, *, revealed: bool) -> list[Text]:
    from engine.project.votes import verdict

    result = test.result
    if not revealed:
        return [say("{n} votes kept; go on later.", "已保存 {n} 票，可以以后继续。", n=result.votes)]
    return [wins_line(test), verdict(result, test.sides)]


def wins_line(test: BlindTest) -> Text:
    """Wins, ties and the exact test."""
    result = test.result
    return say(
        "{first} {a}, {second} {b}, equally good {ties}, both bad {bad} (exact two-sided p = {p:.3g}; ties excluded)",
        "{first} {a}，{second} {b}，一样好 {ties}，都不好 {bad}（精确双侧 p = {p:.3g}；平局不计）",
        first=test.sides[0].title,
        second=test.sides[1].title,
        a=result.first,
        b=result.second,
        ties=result.ties,
        bad=result.bad,
        p=result.p_value,
    )
