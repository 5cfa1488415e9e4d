"""The prompts on which a merge or an export is compared with base and adapter, as token ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from engine.project.atomic import disk_error, read_json
from engine.project.run_folder import RunFolder

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
        prompt: token ids up to where the answer begins.
        answer: token ids of the reference answer; empty when there is none.
        text: prompt as text, as a chat template renders it.
        messages: the conversation without the answer.
    """

    prompt: list[int]
    answer: list[int]
    text: str
    messages: list[dict[str, str]]


class TrainedTokenizer:
    """The tokenizer, template and stop tokens in an adapter's folder, as training left them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    @cached_property
    def config(self) -> dict[str, Any]:
        """``tokenizer_config.json``, or nothing."""
        path = self.folder / "tokenizer_config.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def template(self) -> str:
        """The chat template's source; empty when there is none."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        inside = self.config.get("chat_template", "")
        return inside if isinstance(inside, str) else ""

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """Ids that end an answer, the one that training taught first."""
        path = self.folder / "generation_config.json"
        given = read_json(path).get("eos_token_id") if path.is_file() else None
        ids = [given] if isinstance(given, int) else list(given or ())
        if not ids:
            eos = self.special("eos_token")
            ids = [] if eos is None else [eos]
        return tuple(ids)

    def special(self, name: str) -> int | None:
        """Id of the special token that the configuration calls ``name`` ("bos_token"); None when there is none."""
        text = self.config.get(name)
        text = text.get("content") if isinstance(text, dict) else text
        return self.tokenizer.token_to_id(text) if isinstance(text, str) and text else None

    @cached_property
    def adds_bos(self) -> bool:
        """Whether the tokenizer itself puts the first-of-text token before every text."""
        bos = self.special("bos_token")
        return bos is not None and self.tokenizer.encode("a").ids[:1] == [bos]

    @cached_property
    def starts_with_bos(self) -> bool:
        """Whether what was trained begins with the first-of-text token, by the tokenizer or by the template."""
        bos = self.config.get("bos_token")
        text = bos.get("content") if isinstance(bos, dict) else bos
        if self.adds_bos or not text or not self.template:
            return self.adds_bos
        return self.render([{"role": "user", "content": "a"}]).startswith(str(text))

    def render(self, messages: list[dict[str, str]], *, answer: bool = False) -> str:
        """Messages as the template writes them; unless ``answer``, with the opening of the next answer."""
        if not self.template:
            return "\n".join(message["content"] for message in messages)
        rendered: str = self._chat.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answer)
        return rendered

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and character ranges of ``text``, with one first-of-text token where training has it."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        bos = self.special("bos_token")
        if self.adds_bos and bos is not None and encoding.ids[:1] != [bos]:
            return [bos, *encoding.ids], [(0, 0), *encoding.offsets]
        return encoding.ids, encoding.offsets

    @cached_property
    def _chat(self) -> Any:
        # Imported here: it takes seconds, and only rendering needs it.
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)


def load_samples(run: RunFolder, *, limit: int, longest: int = 512) -> list[Sample]:
    """Up to ``limit`` prompts of the run's held-out rows, of at most ``longest`` tokens; general ones where it has none.

    Raises:
        UserError: the held-out rows cannot be read.
    """
    tokenizer = TrainedTokenizer(run.adapter)
    samples: list[Sample] = []
    for messages in _held_out(run):
        sample = _sample(tokenizer, messages)
        if sample is not None and len(sample.prompt) + len(sample.answer) <= longest:
            samples.append(sample)
        if len(samples) == limit:
            return samples
    if not samples:
        samples = [_open(tokenizer, [{"role": "user", "content": text}]) for text in GENERIC[:limit]]
    return samples


def _held_out(run: RunFolder) -> Iterator[list[dict[str, str]]]:
    """Conversations that end with an answer; of a preference row, the chosen answer."""
    if not run.held_out.is_file():
        return
    try:
        with run.held_out.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
                if row.get("chosen"):
                    messages.append({"role": "assistant", "content": row["chosen"]})
                if len(messages) > 1 and messages[-1]["role"] == "assistant":
                    yield messages
    except OSError as error:
        raise disk_error(error, run.held_out) from error


def _sample(tokenizer: TrainedTokenizer, messages: list[dict[str, str]]) -> Sample | None:
    """The sample of a conversation; None where prompt and answer cannot be told apart as tokens."""
    prompt = tokenizer.render(messages[:-1])
    whole = tokenizer.render(messages, answer=True)
    if not whole.startswith(prompt):
        return None
    ids, offsets = tokenizer.encode(whole)
    # The whole is tokenised at once, as in training; a token belongs to the answer when it ends behind the prompt.
    first = next((at for at, (_, end) in enumerate(offsets) if end > len(prompt)), len(ids))
    answer = ids[first:]
    last = next((at for at, token in enumerate(answer) if token in tokenizer.stops), len(answer) - 1)
    return Sample(ids[:first], answer[: last + 1], prompt, messages[:-1]) if answer and first else None


def _open(tokenizer: TrainedTokenizer, messages: list[dict[str, str]]) -> Sample:
    prompt = tokenizer.render(messages)
    return Sample(tokenizer.encode(prompt)[0], [], prompt, messages)
