"""Whether a GGUF says in llama.cpp what base and adapter say in transformers."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from engine.data.tokenizer import TextTokenizer
from engine.export.llama_cpp import LlamaCpp, loaded, runtime
from engine.export.llama_logits import available, reading
from engine.export.parity import Difference, Parity
from engine.merge.asked import (
    conversations,
    lost_token,
    no_end,
    other_start,
    other_template,
    other_tokens,
    own_tokens,
    texts,
    too_few_tokens,
    unreadable,
)
from engine.merge.compare import Agreement, counting, judged
from engine.merge.verify import (
    ANSWER,
    PLACES,
    Expected,
    Subject,
    Watch,
    add_greedy,
    along,
    expect,
    no_memory,
    place_that_fits,
    within,
)
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

_GIB = 1024**3


def verify_gguf(
    subject: Subject,
    path: Path,
    kind: str,
    watch: Watch,
    *,
    lora: Path | None = None,
    expected: list[Expected] | None = None,
) -> Parity:
    """Hold a GGUF against what was trained, in llama.cpp: weights, tokenizer, template and stop.

    Whoever wrote the file, it is asked as it is: with its own tokenizer, template and ends.

    Args:
        path: the model's GGUF; of the base model where ``lora`` is given.
        kind: its type, for the limits ("Q4_K_M"); with ``lora`` that of the base's GGUF.
        watch: told how many steps of how many are done; may raise to end the check.
        lora: GGUF of the adapter, put on it by llama.cpp. Template and ends are then the base's, which a runtime
            takes from there: they are not judged.
        expected: what `expect` gave for the same subject, to check several files of one run.

    Raises:
        UserError: base or run cannot be read.
        Stopped: as ``watch`` says.
    """
    began = time.monotonic()
    about = Parity(type=kind, held_out=subject.held_out, runtime=runtime(), time=time.time(), reference="fp32")
    place = place_that_fits(subject.base)
    lack = _lack(subject, path, known=expected is not None or place is not None)
    if expected is None:
        expected = expect(subject, place, watch) if place is not None and lack is None else []
    if lack is not None:
        about = replace(about, reason=lack, reference="")
    elif place is not None:
        about = replace(about, reference=place.precision)
    agreement: Agreement | None = counting(about.reference) if expected else None
    try:
        differs = _asked(subject, path, lora, expected, agreement, watch)
    except UserError as error:
        agreement, differs = None, [unreadable(error)]
    result = judged(about, agreement, differs, subject.spell)
    return replace(result, seconds=time.monotonic() - began)


def _lack(subject: Subject, path: Path, *, known: bool) -> Text | None:
    """What memory is missing, None when there is enough."""
    if not known:
        return no_memory(subject.base)
    need = path.stat().st_size * 1.1 if path.is_file() else 0
    free = psutil.virtual_memory().available
    if need < free:
        return None
    return say(
        "llama.cpp needs {need:.1f} GiB of free memory for it, and {free:.1f} GiB are free; close other programs and"
        " check again",
        "llama.cpp 运行它需要 {need:.1f} GiB 空闲内存，目前空闲 {free:.1f} GiB；请关闭其他程序后重新检查",
        need=need / _GIB,
        free=free / _GIB,
    )


def _asked(
    subject: Subject,
    path: Path,
    lora: Path | None,
    expected: Sequence[Expected],
    agreement: Agreement | None,
    watch: Watch,
) -> list[Difference]:
    """Count the answers into ``agreement``; gives what differs besides. Raises `UserError` where it does not run."""
    with loaded(path, _context(subject), lora=lora) as model:
        differs = cuts(model, subject)
        if lora is None:
            differs += [*writes(model, subject), *ends(model, subject)]
        used = max((max(along(item)[0]) for item in expected), default=0)
        if used >= model.vocabulary:
            return [too_few_tokens(model.vocabulary, used), *differs]
        if agreement is None:
            return differs
        done = []
        for item in within(expected, watch):
            done.append(item)
            if not available():
                agreement.add_forced(item.forced, model.forced(*along(item)))
            if item.greedy:
                found, ended = model.greedy(item.sample.prompt, ANSWER)
                add_greedy(agreement, item, found, subject, ended if lora is None else None)
    if available():
        # One model in memory at a time.
        with reading(path, _context(subject), PLACES, lora=lora) as reader:
            for item in done:
                watch(2 * len(expected), 2 * len(expected))
                agreement.add_forced(item.forced, reader.forced(*along(item)))
    return differs


def _context(subject: Subject) -> int:
    longest = max((len(item.prompt) + max(len(item.answer), ANSWER) for item in subject.samples), default=0)
    return longest + 2 * ANSWER


def cuts(model: LlamaCpp, subject: Subject) -> list[Difference]:
    """Where llama.cpp cuts texts otherwise than training did."""
    tokenizer = subject.trained.tokenizer
    for number, text in own_tokens(subject.trained):
        if number not in model.tokenize(f"Hello{text}Hello"):
            return [lost_token(text)]
    drops = _drops_spaces(tokenizer)
    bos = tokenizer.bos or "\0"
    for text in texts(subject.samples):
        # llama.cpp puts bos in front by itself, as the file says; `writes` looks at that.
        asked = text.removeprefix(bos)
        if drops:
            # llama.cpp keeps the spaces that this tokenizer drops; everything else must still be equal.
            asked = re.sub(r" {2,}", " ", asked).strip()
        expected = tokenizer.encode(f"{bos}{asked}" if text.startswith(bos) else asked)[0]
        if _without(model.tokenize(asked), tokenizer.bos_id) != _without(expected, tokenizer.bos_id):
            return [other_tokens(text)]
    return []


def _without(ids: list[int], first: int | None) -> list[int]:
    """Ids without what stands for the beginning."""
    return next((ids[at:] for at, number in enumerate(ids) if number != first), [])


def _drops_spaces(tokenizer: TextTokenizer) -> bool:
    """Whether repeated or outer spaces are lost in it."""
    return (
        tokenizer.encode("a  b")[0] == tokenizer.encode("a b")[0]
        or tokenizer.encode("a ")[0] == tokenizer.encode("a")[0]
    )


def writes(model: LlamaCpp, subject: Subject) -> list[Difference]:
    """Where the template inside the file writes conversations otherwise than training did, bos included."""
    trained = subject.trained
    bos, start = trained.tokenizer.bos or "\0", None
    for messages in conversations(trained, subject.samples):
        ours = trained.template.render(messages, generation_prompt=True).text
        try:
            theirs = model.render(trained.template.handed(messages)[0])
        except UserError:  # the file's template refuses what the trained one writes
            return [other_template()]
        if _plain(ours, bos) != _plain(theirs, bos):
            return [other_template()]
        start = start or _beginning(
            model.tokenize(theirs), trained.tokenizer.encode(ours)[0], trained.tokenizer.bos_id, bos
        )
    return [start] if start else []


def _plain(text: str, bos: str) -> str:
    while text.startswith(bos):
        text = text.removeprefix(bos)
    return text


def _beginning(theirs: list[int], ours: list[int], first: int | None, bos: str) -> Difference | None:
    """Another number of first-of-text tokens before a conversation."""
    if first is None:
        more = len(theirs) - len(ours)
        return other_start(0, more, "bos") if more > 0 and theirs[more:] == ours else None
    found, expected = (len(ids) - len(_without(ids, first)) for ids in (theirs, ours))
    return other_start(expected, found, bos) if found != expected else None


def ends(model: LlamaCpp, subject: Subject) -> list[Difference]:
    """Whether the token that ended answers in training ends them here."""
    stops, trained = subject.trained.stops, subject.trained
    if not stops or stops[0] >= model.vocabulary:
        return []
    before = next((item.prompt for item in subject.samples if item.prompt), [stops[0]])
    return [] if model.ends_at(before, stops[0]) else [no_end(trained.template.stop[0])]
