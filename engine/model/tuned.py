"""The model that a run made: base weights once in memory, the adapter on or off.

Used wherever base and tuned model are compared: evaluation and chat.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging as library_log

from engine.catalogue import CATALOGUE
from engine.data.rows import Message, message_from_plain
from engine.data.template import ChatTemplate, choose_template
from engine.data.tokenizer import TextTokenizer
from engine.model.load import load_for, ran_out_of_memory
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say
from engine.recipe.file import load
from engine.recipe.recipe import Recipe

WEIGHTS_FILE = "adapter_model.safetensors"
Side = Literal["base", "tuned"]
SIDES: tuple[Side, ...] = ("base", "tuned")
# Of the memory that is free, what expanded 4-bit weights may take; the rest is for activations and other programs.
_SHARE_OF_FREE_MEMORY = 0.6


@dataclass
class TunedModel:
    """A run's model with what is needed to ask it.

    Attributes:
        model: base weights with the adapter in it.
        tokenizer, template: as trained with.
        recipe: the recipe as run.
        stop_ids: tokens that end an answer.
        stop_texts: texts that end an answer and are no single token.
        pad_id: token to pad with; masked wherever it is used.
        examples: turns that stood before each question in training.
        context: positions the model has; None when its configuration does not say.
        vocabulary: width of the logits.
    """

    model: PeftModel
    tokenizer: TextTokenizer
    template: ChatTemplate
    recipe: Recipe
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]
    pad_id: int
    context: int | None
    vocabulary: int
    examples: tuple[Message, ...] = ()
    _base_on: ExitStack = field(default_factory=ExitStack, repr=False)
    _side: Side = "tuned"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.model.device)

    def use(self, side: Side) -> None:
        """Answer as ``side`` from now on. Not for two threads at once.

        Base is PEFT's `disable_adapter`: no adapter weight takes part. It walks through the whole model (8 ms for 28
        layers on a slow core), so it is entered once and not around every token.
        """
        if side == self._side:
            return
        self._base_on.close()
        if side == "base":
            self._base_on.enter_context(self.model.disable_adapter())
        self._side = side

    @contextmanager
    def as_side(self, side: Side) -> Iterator[None]:
        """Answer as ``side`` within the block, as tuned model after it."""
        self.use(side)
        try:
            yield
        finally:
            self.use("tuned")


def load_tuned(run: RunFolder) -> TunedModel:
    """The model of a finished run, quantised and with the number format that it was trained with.

    On a CPU 4-bit weights are expanded once where memory allows, instead of at each token: see `expanded`.

    Raises:
        UserError: the run has no adapter yet, its base model is gone or unreadable, or memory does not suffice.
    """
    # Expanding is told as a warning; it is what is wanted here.
    library_log.set_verbosity_error()
    folder = run.trained_on()
    if not (run.adapter / WEIGHTS_FILE).is_file():  # peft would look for a pickle next, and then ask the hub
        raise _wrong_adapter(run, FileNotFoundError(WEIGHTS_FILE))
    recipe = load(run.recipe_as_run, CATALOGUE)
    base = load_for(recipe, folder)
    try:
        model = PeftModel.from_pretrained(expanded(base), str(run.adapter), is_trainable=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ran_out_of_memory(error) or _wrong_adapter(run, error) from error
    model.eval()
    return _described(model, folder, run, recipe)


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


def _described(model: PeftModel, folder: Path, run: RunFolder, recipe: Recipe) -> TunedModel:
    # Tokens as in training, which reads the base model's files; the template is the one saved beside the adapter.
    tokenizer = TextTokenizer.load(folder)
    template = choose_template(run.adapter, tokenizer=tokenizer)
    stops = {id_ for id_ in (tokenizer.eos_id, *_ends(run.adapter)) if id_ is not None}
    stop_texts = []
    for text in template.stop:
        ids, _ = tokenizer.encode(text)
        if len(ids) == 1:
            stops.add(ids[0])
        else:
            stop_texts.append(text)
    config = model.config
    pad = tokenizer.pad_id
    tuned = TunedModel(
        model=model,
        tokenizer=tokenizer,
        template=template,
        recipe=recipe,
        stop_ids=frozenset(stops),
        stop_texts=tuple(stop_texts),
        pad_id=0 if pad is None else pad,
        context=getattr(config, "max_position_embeddings", None),
        vocabulary=int(config.vocab_size),
        examples=_examples(run),
    )
    # The base's own file may ask for sampling; what is wanted here is said with each answer.
    untyped: Any = model
    untyped.generation_config = GenerationConfig(pad_token_id=tuned.pad_id, eos_token_id=sorted(stops) or None)
    return tuned


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


def _wrong_adapter(run: RunFolder, error: Exception) -> UserError:
    return UserError(
        "run.adapter_damaged",
        say("The adapter of this run does not fit its base model.", "这次训练的适配器与基础模型不匹配。"),
        say(
            "Was the base model replaced? Train again, or restore the files.",
            "基础模型是否被替换？请重新训练或恢复文件。",
        ),
        where=str(run.adapter),
        details=str(error),
    )
