"""Whether what is taken away says what base and adapter say: that truth, and folders for transformers against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import peft
import psutil
import torch
import transformers

from engine.data.rows import Message
from engine.export.parity import GREEDY_TOKENS, Difference, Parity
from engine.merge.asked import (
    conversations,
    lost_token,
    no_end,
    other_template,
    other_tokens,
    own_tokens,
    texts,
    unreadable,
)
from engine.merge.compare import Agreement, counting, judged
from engine.merge.prompts import Sample, Trained, load_samples
from engine.merge.reference import Choice, opened
from engine.merge.same_weights import other_weights
from engine.merge.weights import BaseWeights
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, telling
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

ANSWER = GREEDY_TOKENS
PLACES = 128  # of an answer at most are compared
ROWS, ASKED = 32, 12  # held-out rows that are read, and of these the first that a model answers by itself
ENOUGH = 4  # rows that are compared however long it takes
BUDGET = 90.0  # seconds after which no further row is begun, on either side
_GIB = 1024**3

Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """What an export is held against.

    Attributes:
        base: the weights that were trained on.
        adapter: the folder of the trained adapter.
        trained: its tokenizer and template.
        samples: held-out rows, or general prompts without an answer.
    """

    base: BaseWeights
    adapter: Path
    trained: Trained
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, run: RunFolder, *, rows: int = ROWS) -> Subject:
        """That of a run. Raises `UserError` when the base, the adapter's tokenizer or the rows cannot be read."""
        trained = Trained.load(run.adapter)
        samples = load_samples(run, trained, limit=rows)
        return cls(BaseWeights.open(run.trained_on()), run.adapter, trained, tuple(samples))

    @property
    def held_out(self) -> bool:
        """Whether the samples are held-out rows."""
        return any(sample.answer for sample in self.samples)

    def spell(self, token: int) -> str:
        """The text of a token."""
        return self.trained.tokenizer.decode([token], skip_special=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how base and adapter are computed: "fp32" or "bf16", on "cpu" or "cuda"."""

    precision: str
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Expected:
    """What base and adapter say to one sample: along its answer, and on their own (empty: not asked)."""

    sample: Sample
    forced: list[Choice]
    greedy: list[Choice]


def place_that_fits(base: BaseWeights) -> Place | None:
    """The most exact place whose free memory holds the model, a GPU before the CPU; None where there is none.

    Free is what is free now: a model that is loaded elsewhere, for a chat say, takes its share of it.
    """
    free = {"cpu": psutil.virtual_memory().available}
    if torch.cuda.is_available():
        free = {"cuda": torch.cuda.mem_get_info()[0], **free}
    for precision, size in (("fp32", 4), ("bf16", 2)):
        for device, available in free.items():
            if base.elements * size * 1.3 < available:
                return Place(precision, device)
    return None


def no_memory(base: BaseWeights) -> Text:
    """Why nothing was compared, and what is needed."""
    return say(
        "comparing needs {need:.1f} GiB of free memory, and {free:.1f} GiB are free; close other programs and check"
        " again",
        "对比需要 {need:.1f} GiB 空闲内存，目前空闲 {free:.1f} GiB；请关闭其他程序后重新检查",
        need=base.elements * 2.6 / _GIB,
        free=psutil.virtual_memory().available / _GIB,
    )


def watching(channel: Channel) -> Watch:
    """Tells the channel how far a check is, and ends it when a stop is asked. Raises `Stopped`."""
    return telling(channel, "rows")


def expect(subject: Subject, place: Place, watch: Watch, *, asked: int = ASKED) -> list[Expected]:
    """What base and adapter say to the samples, fewer of them where that takes longer than `BUDGET`.

    Args:
        watch: told how many steps of how many are done; may raise to end it.
        asked: how many of the samples are also answered freely.
    """
    stops, samples = subject.trained.stops, subject.samples
    found: list[Expected] = []
    with opened(subject.base.folder, subject.adapter, place.precision, place.device) as reference:
        began = time.monotonic()
        for at, sample in enumerate(samples):
            watch(at, 2 * len(samples))
            if at >= ENOUGH and time.monotonic() - began > BUDGET:
                break
            greedy = reference.greedy(sample.prompt, ANSWER, stops) if at < asked or not sample.answer else []
            # A prompt without a reference answer is compared along what base and adapter say themselves.
            answer = sample.answer[:PLACES] or [choice.token for choice in greedy]
            forced = reference.forced(sample.prompt + answer, len(sample.prompt))
            found.append(Expected(replace(sample, answer=answer), forced, greedy))
    return found


def verify_folder(subject: Subject, folder: Path, kind: str, watch: Watch) -> Parity:
    """Hold a folder for transformers against what was trained.

    Args:
        kind: "merged" for a complete model, "adapter" for an adapter that peft puts on the subject's base.
        watch: told how many steps of how many are done; may raise to end the check.

    Raises:
        UserError: base or run cannot be read.
        Stopped: as ``watch`` says.
    """
    began = time.monotonic()
    about = Parity(type=kind, held_out=subject.held_out, runtime=_runtime(kind), time=time.time())
    place = place_that_fits(subject.base)
    agreement = None
    try:
        theirs = Trained.load(folder)
        differs = [*_cuts(subject, theirs), *_ends(subject.trained, folder)]
        if kind == "merged":
            told = 2 * len(subject.samples)
            differs += other_weights(subject.base, subject.adapter, folder, lambda: watch(0, told))
        if place is None:
            about = replace(about, reason=no_memory(subject.base))
        else:
            about = replace(about, reference=place.precision)
            agreement = _folder_agreement(subject, folder, kind, place, watch)
    except FolderError as error:
        differs = [unreadable(error.cause)]
    result = judged(about, agreement, differs, subject.spell)
    return replace(result, seconds=time.monotonic() - began)


class FolderError(Exception):
    """The folder that is checked cannot be loaded: a finding, where the same of the base is an error."""

    def __init__(self, cause: UserError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _folder_agreement(subject: Subject, folder: Path, kind: str, place: Place, watch: Watch) -> Agreement:
    expected = expect(subject, place, watch)
    base, adapter = (subject.base.folder, folder) if kind == "adapter" else (folder, None)
    ends = stops_of(folder)
    agreement = counting(place.precision)
    try:
        with opened(base, adapter, place.precision, place.device) as model:
            for item in within(expected, watch):
                agreement.add_forced(item.forced, model.forced(*along(item)))
                if item.greedy:
                    found = model.greedy(item.sample.prompt, ANSWER, ends)
                    add_greedy(agreement, item, found, subject, found[-1].token in ends)
    except UserError as error:
        raise FolderError(error) from error
    return agreement


def add_greedy(agreement: Agreement, item: Expected, found: list[Choice], subject: Subject, ended: bool | None) -> None:
    """Count a model's own answer.

    Args:
        ended: whether it ended by itself; None where that is not to be judged, and tokens are compared as far as both
            wrote.
    """
    ours = item.greedy
    if ended is None:
        count = min(len(ours), len(found))
        agreement.add_greedy(ours[:count], found[:count], ended=(False, False))
    else:
        agreement.add_greedy(ours, found, ended=(ours[-1].token in subject.trained.stops, ended))


def along(item: Expected) -> tuple[list[int], int]:
    """The text along which an export is compared, and where the answer in it begins."""
    return item.sample.prompt + item.sample.answer, len(item.sample.prompt)


def within(expected: Sequence[Expected], watch: Watch) -> Iterator[Expected]:
    """Each in turn, told as the second half of the check; none is begun after `BUDGET` when `ENOUGH` are done."""
    began, count = time.monotonic(), len(expected)
    for at, item in enumerate(expected):
        watch(count + at, 2 * count)
        if at >= ENOUGH and time.monotonic() - began > BUDGET:
            break
        yield item
    watch(2 * count, 2 * count)


def stops_of(folder: Path) -> tuple[int, ...]:
    """Ids at which transformers ends an answer of the model in ``folder``."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            ids = read_json(folder / name).get("eos_token_id")
            if ids is not None:
                return tuple(ids) if isinstance(ids, list) else (int(ids),)
    return ()


def _cuts(subject: Subject, theirs: Trained) -> list[Difference]:
    """Where the folder's tokenizer or template do otherwise than in training."""
    trained = subject.trained
    found: list[Difference] = []
    lost = [text for number, text in own_tokens(trained) if theirs.tokenizer.id_of(text) != number]
    other = [
        text for text in texts(subject.samples) if theirs.tokenizer.encode(text)[0] != trained.tokenizer.encode(text)[0]
    ]
    found += [lost_token(text) for text in lost[:1]] or [other_tokens(text) for text in other[:1]]
    for messages in conversations(trained, subject.samples):
        if _written(theirs, messages) != _written(trained, messages):
            return [*found, other_template()]
    return found


def _written(by: Trained, messages: Sequence[Message]) -> str | None:
    """With the opening of the next answer; None where the template refuses it."""
    try:
        return by.template.render(messages, generation_prompt=True).text
    except UserError:
        return None


def _ends(trained: Trained, folder: Path) -> list[Difference]:
    ends = stops_of(folder)
    first = trained.stops[:1]
    return [no_end(trained.template.stop[0]) for token in first if token not in ends]


def _runtime(kind: str) -> str:
    beside = f", peft {peft.__version__}" if kind == "adapter" else ""
    return f"transformers {transformers.__version__}{beside}"
