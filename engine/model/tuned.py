"""The model that a run made, beside its base: base weights once in memory, each adapter on modules of its own.

Used wherever base and tuned model are compared: evaluation and chat. `engine.model.beside` says why nothing
is switched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging as library_log

from engine.catalogue import CATALOGUE
from engine.data.rows import Message, message_from_plain
from engine.data.template import ChatTemplate, choose_template, own_template
from engine.data.tokenizer import TextTokenizer
from engine.model.beside import AdapterFile, Untouched, put_beside, read_adapter
from engine.model.load import load_for
from engine.model.loading_progress import watched
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.file import load
from engine.recipe.recipe import Recipe

Side = Literal["base", "tuned"]
SIDES: tuple[Side, ...] = ("base", "tuned")
# Of the memory that is free, what expanded 4-bit weights may take; the rest is for activations and other programs.
_SHARE_OF_FREE_MEMORY = 0.6


@dataclass(frozen=True)
class Speaker:
    """One of the models over the base's weights, with what is needed to ask it.

    Attributes:
        model: transformers' for the base, PEFT's with an adapter.
        tokenizer, template: as trained with.
        stop_ids: tokens that end an answer.
        stop_texts: texts that end an answer and are no single token.
        examples: turns that stood before each question in training.
        adapter: what was put beside the base; None for the base itself.
    """

    model: Any
    tokenizer: TextTokenizer
    template: ChatTemplate
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]
    examples: tuple[Message, ...] = ()
    adapter: AdapterFile | None = None

    @property
    def virtual_tokens(self) -> int:
        """Positions of the context that the adapter itself takes."""
        return self.adapter.virtual_tokens if self.adapter is not None else 0

    @property
    def continues_with(self) -> Any:
        """What is given the tokens after the first pass: learned prompts stand before a text once, and are then in the
        keys and values that are kept."""
        return self.model.get_base_model() if self.virtual_tokens else self.model


@dataclass
class TunedModel:
    """A run's model with what is needed to ask it, its base, and further adapters of that base.

    Attributes:
        model: that of the side which was last chosen by `use`: PEFT's, or the base, which no adapter ever touches.
        tokenizer, template: as trained with.
        recipe: the recipe as run.
        stop_ids: tokens that end an answer.
        stop_texts: texts that end an answer and are no single token.
        pad_id: token to pad with; masked wherever it is used.
        examples: turns that stood before each question in training.
        context: positions the model has; None when its configuration does not say.
        vocabulary: width of the logits.
        untouched: what the base said before any adapter was there.
        speakers: base, tuned and what was added, by name.
    """

    model: Any
    tokenizer: TextTokenizer
    template: ChatTemplate
    recipe: Recipe
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]
    pad_id: int
    context: int | None
    vocabulary: int
    untouched: Untouched
    examples: tuple[Message, ...] = ()
    speakers: dict[str, Speaker] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.speakers["base"].model.device)

    def use(self, side: str) -> None:
        """Answer as ``side`` from now on. Nothing of any model changes by it."""
        self.model = self.speakers[side].model

    @contextmanager
    def as_side(self, side: str) -> Iterator[None]:
        """Answer as ``side`` within the block, as tuned model after it."""
        self.use(side)
        try:
            yield
        finally:
            self.use("tuned")

    def add(self, name: str, folder: Path) -> Speaker:
        """Put another adapter of the same base beside the others.

        Raises:
            UserError: it cannot be read, does not fit, or memory does not suffice; the others stay as they are. Where
                it changed the base after all the code is "adapter.changes_base": then all must be loaded anew.
        """
        adapter = read_adapter(folder)
        base = self.speakers["base"]
        model = put_beside(base.model, adapter)
        self.untouched.check(folder)
        made = _speaker(model, self, adapter)
        self.speakers[name] = made
        return made

    def remove(self, name: str) -> None:
        """Forget an adapter that was added; its memory is free again."""
        del self.speakers[name]


def load_tuned(run: RunFolder, *, told: Callable[[int, int], None] | None = None) -> TunedModel:
    """The model of a finished run, quantised and with the number format that it was trained with.

    On a CPU 4-bit weights are expanded once where memory allows, instead of at each token: see `expanded`.

    Args:
        told: called with the weights read so far and of all, from 0 on; what it raises ends the loading.

    Raises:
        UserError: the run has no adapter yet, its base model is gone or unreadable, or memory does not suffice.
    """
    # Expanding is told as a warning; it is what is wanted here.
    library_log.set_verbosity_error()
    folder = run.trained_on()
    try:
        adapter = read_adapter(run.adapter)
    except UserError as error:
        raise _wrong_adapter(run, error) from error
    recipe = load(run.recipe_as_run, CATALOGUE)
    with watched(told):
        base = expanded(load_for(recipe, folder))
    untouched = Untouched(base)
    try:
        model = put_beside(base, adapter)
    except UserError as error:
        raise _wrong_adapter(run, error) from error
    untouched.check(run.adapter)
    return _described(model, base, untouched, folder, run, recipe, adapter)


def expanded(base: PreTrainedModel) -> PreTrainedModel:
    """4-bit weights on a CPU as full ones with the very same values; anything else as it is.

    bitsandbytes expands a 4-bit weight to the compute format before each product, so expanding it once changes no bit
    of the result (a test compares), while a token comes ten times sooner on two cores (starter, 40 tokens: 1.1 s
    against 12.5 s). Left as it is where the memory for it is not free, and on a GPU, whose kernels read 4-bit weights.
    """
    if not getattr(base, "is_loaded_in_4bit", False) or base.device.type != "cpu":
        return base
    needed = base.num_parameters() * torch.finfo(base.dtype).bits / 8
    if needed > psutil.virtual_memory().available * _SHARE_OF_FREE_MEMORY:
        return base
    whole = base.dequantize(dtype=base.dtype)
    whole.requires_grad_(False)
    return cast(PreTrainedModel, whole.eval())


def _described(
    model: Any,
    base: PreTrainedModel,
    untouched: Untouched,
    folder: Path,
    run: RunFolder,
    recipe: Recipe,
    adapter: AdapterFile,
) -> TunedModel:
    # Tokens as in training, which reads the base model's files; the template is the one saved beside the adapter.
    tokenizer = TextTokenizer.load(folder)
    template = choose_template(run.adapter, tokenizer=tokenizer)
    stops, stop_texts = _stops(tokenizer, template, run.adapter)
    pad = tokenizer.pad_id
    examples = _examples(run)
    tuned = TunedModel(
        model=model,
        tokenizer=tokenizer,
        template=template,
        recipe=recipe,
        stop_ids=stops,
        stop_texts=stop_texts,
        pad_id=0 if pad is None else pad,
        context=getattr(base.config, "max_position_embeddings", None),
        vocabulary=int(base.config.vocab_size),
        untouched=untouched,
        examples=examples,
    )
    said = (tokenizer, template, stops, stop_texts, examples)
    tuned.speakers = {"base": Speaker(base, *said), "tuned": Speaker(model, *said, adapter)}
    for speaker in tuned.speakers.values():
        _ask_plainly(speaker.model, tuned.pad_id, stops)
    return tuned


def _ask_plainly(model: Any, pad: int, stops: frozenset[int]) -> None:
    """The base's own file may ask for sampling; what is wanted here is said with each answer."""
    model.generation_config = GenerationConfig(pad_token_id=pad, eos_token_id=sorted(stops) or None)


def _speaker(model: Any, tuned: TunedModel, adapter: AdapterFile) -> Speaker:
    """An added adapter speaks by the tokenizer and template in its folder; a checkpoint has none, and by the run's."""
    folder = adapter.folder
    tokenizer = tuned.tokenizer
    if (folder / "tokenizer.json").is_file():
        tokenizer = TextTokenizer.load(folder)
    template = tuned.template
    if own_template(folder) is not None:
        template = choose_template(folder, tokenizer=tokenizer)
    stops, stop_texts = _stops(tokenizer, template, folder)
    run = RunFolder(folder.parent)
    examples = _examples(run) if folder.name == "adapter" else tuned.examples
    _ask_plainly(model, tuned.pad_id, stops)
    return Speaker(model, tokenizer, template, stops, stop_texts, examples, adapter)


def _stops(tokenizer: TextTokenizer, template: ChatTemplate, adapter: Path) -> tuple[frozenset[int], tuple[str, ...]]:
    """What ends an answer: tokens, and texts that are no single token."""
    stops = {id_ for id_ in (tokenizer.eos_id, *_ends(adapter)) if id_ is not None}
    stop_texts = []
    for text in template.stop:
        ids, _ = tokenizer.encode(text)
        if len(ids) == 1:
            stops.add(ids[0])
        else:
            stop_texts.append(text)
    return frozenset(stops), tuple(stop_texts)


def _examples(run: RunFolder) -> tuple[Message, ...]:
    """The turns that the run put before each question."""
    if not run.examples.is_file():
        return ()
    return tuple(message_from_plain(json.loads(line)) for line in run.examples.read_text("utf-8").splitlines())


def _ends(adapter: Path) -> list[int]:
    """The end tokens that the run wrote down beside its adapter."""
    path = adapter / "generation_config.json"
    if not path.is_file():
        return []
    ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return [] if ends is None else [int(end) for end in (ends if isinstance(ends, list) else [ends])]


def _wrong_adapter(run: RunFolder, error: UserError) -> UserError:
    """What is wrong with the run's own adapter; errors of memory and of its kind are told as they are."""
    if error.problem.code in ("memory.gpu", "memory.ram", "adapter.memory", "adapter.unsupported"):
        return error
    return UserError(
        "run.adapter_damaged",
        say("The adapter of this run does not fit its base model.", "这次训练的适配器与基础模型不匹配。"),
        say(
            "Was the base model replaced? Train again, or restore the files.",
            "基础模型是否被替换？请重新训练或恢复文件。",
        ),
        where=str(run.adapter),
        details="\n".join(filter(None, (str(error), error.details))),
    )
