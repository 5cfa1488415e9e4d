"""The prompts on which a merge or an export is compared with base and adapter, as training would have written them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.data.rows import ASSISTANT, USER, Message, Row, row_from_plain
from engine.data.template import ChatTemplate, choose_template
from engine.data.tokenizer import TextTokenizer
from engine.project.atomic import disk_error
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say

GENERIC = (
    "Tell me about your day.",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Count from one to five.",
    "你好，请介绍一下你自己。",
    "用一句话描述春天。",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt.

    Attributes:
        messages: the conversation without the answer; empty for plain text.
        prompt: token ids up to where the answer begins.
        answer: token ids of the reference answer with its end; empty when there is none.
        text: prompt and answer as the chat template writes them, or the plain text.
    """

    messages: tuple[Message, ...]
    prompt: list[int]
    answer: list[int]
    text: str


@dataclass(frozen=True)
class Trained:
    """The tokenizer and the chat template in an adapter's folder, as training left them."""

    tokenizer: TextTokenizer
    template: ChatTemplate

    @classmethod
    def load(cls, folder: Path) -> Trained:
        """Those of an adapter's folder. Raises `UserError` when the tokenizer cannot be loaded."""
        tokenizer = TextTokenizer.load(folder)
        return cls(tokenizer, choose_template(folder, tokenizer=tokenizer))

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Ids that end an answer, the one that training taught first."""
        ids = (self.tokenizer.id_of(text) for text in self.template.stop)
        return tuple(number for number in ids if number is not None)

    @cached_property
    def starts_with_bos(self) -> bool:
        """Whether what was trained begins with the first-of-text token."""
        bos = self.tokenizer.bos
        asked = self.template.render((Message(USER, "Q"),), generation_prompt=True)
        return bool(bos) and asked.text.startswith(bos or "\0")

    def asked(self, messages: Sequence[Message]) -> Sample:
        """A sample without a reference answer."""
        text = self.template.render(messages, generation_prompt=True).text
        return Sample(tuple(messages), self.tokenizer.encode(text)[0], [], text)

    def answered(self, messages: Sequence[Message], answer: str) -> Sample | None:
        """A sample with a reference answer; None where the template leaves nothing of it."""
        rendered = self.template.render((*messages, Message(ASSISTANT, answer)))
        if not rendered.spans:
            return None
        start, end = rendered.spans[-1]
        # The whole is tokenised at once, as in training: a prompt alone may be cut into other tokens.
        ids, offsets = self.tokenizer.encode(rendered.text)
        first = next((at for at, (_, to) in enumerate(offsets) if to > start), len(ids))
        last = next((at for at, (begin, _) in enumerate(offsets) if begin >= end), len(ids))
        if not 0 < first < last:
            return None
        return Sample(tuple(messages), ids[:first], ids[first:last], rendered.text[:end])

    def continued(self, text: str, longest: int) -> Sample | None:
        """A sample of plain text, cut after ``longest`` tokens: its beginning is the prompt, the rest the answer."""
        whole = self.template.render_text(text).text
        ids = self.tokenizer.encode(whole)[0][:longest]
        cut = max(1, len(ids) // 4)
        return Sample((), ids[:cut], ids[cut:], whole) if len(ids) > cut else None

    def sample(self, row: Row, longest: int) -> Sample | None:
        """A row's prompt and answer, of at most ``longest`` tokens; None where it has none."""
        if row.text is not None:
            return self.continued(row.text, longest)
        found = self.answered(row.prompt, row.answer) if row.prompt and row.answer else None
        return found if found is not None and len(found.prompt) + len(found.answer) <= longest else None


def load_samples(run: RunFolder, trained: Trained, *, limit: int, longest: int = 512) -> list[Sample]:
    """Up to ``limit`` prompts of the run's held-out rows, of at most ``longest`` tokens; general ones if it has none.

    Raises:
        UserError: the held-out rows cannot be read.
    """
    samples: list[Sample] = []
    for row in _held_out(run):
        sample = trained.sample(row, longest)
        if sample is not None:
            samples.append(sample)
        if len(samples) == limit:
            return samples
    return samples or [trained.asked((Message(USER, text),)) for text in GENERIC[:limit]]


def _held_out(run: RunFolder) -> Iterator[Row]:
    """The run's held-out rows; of a preference row, the chosen answer is the answer."""
    if not run.held_out.is_file():
        return
    number = 0
    try:
        with run.held_out.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                yield row_from_plain(json.loads(line))
    except OSError as error:
        raise disk_error(error, run.held_out) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "file.damaged",
            say("The run's held-out rows are damaged.", "该次训练的留出数据已损坏。"),
            say("Train again, or restore the run's folder.", "请重新训练，或恢复该次训练的文件夹。"),
            where=f"{run.held_out}:{number}",
            details=str(error),
        ) from error
