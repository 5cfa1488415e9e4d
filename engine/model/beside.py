"""Adapters beside a base model that none of them can touch: each on modules of its own over the same weights.

PEFT puts its layers into the model that it is given, and `disable_adapter` is meant to take them out of the way. For
some adapters it does not bring the base back: PiSSA and OLoRA take their beginnings off the base's own weights, and
embeddings that were saved with an adapter are written over the base's. So the base is never given to PEFT here: an
adapter gets a second tree of modules whose parameters lie on the base's memory (kilobytes a layer), and a copy of its
own of the tensors that it is going to write on. Adapters of any kinds stand beside each other that way, nothing is
switched between answers, and one is taken away by forgetting it. `Untouched` proves it each time.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import check_target_module_exists
from torch import nn
from transformers import PreTrainedModel

from engine.model.load import ran_out_of_memory
from engine.model.weights_header import Damaged, Header, read_header
from engine.project.atomic import read_json
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import Text, say

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
LARGEST_CONFIG = 2**24
"""Bytes; a larger one is none that PEFT wrote."""
_INPUTS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
_OUTPUTS = ("lm_head", "embed_out")
# What these begin with is taken off the base's weights, when they are loaded again too.
_TAKES_FROM_BASE = re.compile(r"pissa|olora|corda|lora_ga|loftq")
_BY_CHANCE = re.compile(r"pissa_niter_\d+")
# More of the free memory than this is not taken for copies.
_SHARE_OF_FREE_MEMORY = 0.6
_PROBE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter's folder, read and found usable; nothing of it is loaded yet.

    Attributes:
        folder: where it lies.
        config: PEFT's, without what would open other files or import modules.
        header: names and shapes of its tensors.
    """

    folder: Path
    config: PeftConfig
    header: Header

    @property
    def kind(self) -> str:
        """PEFT's name of its kind, such as "LORA"."""
        kind = self.config.peft_type
        return str(getattr(kind, "value", kind))

    @property
    def virtual_tokens(self) -> int:
        """Tokens that stand before each text and take room in the context."""
        return int(getattr(self.config, "num_virtual_tokens", 0) or 0) if self.config.is_prompt_learning else 0


def read_adapter(folder: Path) -> AdapterFile:
    """An adapter's folder as PEFT writes it.

    Raises:
        UserError: it is none, is damaged, holds pickled weights only, or is of a kind that cannot answer here.
    """
    config = _config(folder)
    if not (folder / WEIGHTS_FILE).is_file():  # peft would look for a pickle next, and then ask the hub
        raise _no_adapter(folder, f"{WEIGHTS_FILE} is missing")
    try:
        header = read_header(folder / WEIGHTS_FILE)
    except Damaged as error:
        raise UserError(
            error.problem.code, error.problem.message, error.problem.hint, where=error.problem.where
        ) from error
    return AdapterFile(folder, config, header)


def _config(folder: Path) -> PeftConfig:
    path = folder / CONFIG_FILE
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise _no_adapter(folder, f"{CONFIG_FILE} is too large")
    except OSError as error:
        raise _no_adapter(folder, str(error)) from error
    plain = read_json(path)
    if not isinstance(plain, dict):
        raise _no_adapter(folder, f"{CONFIG_FILE} holds no settings")
    _refuse(folder, plain)
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[plain["peft_type"]]
    try:
        with warnings.catch_warnings():
            # Settings of other versions of peft are passed over; what an adapter does is in its weights.
            warnings.simplefilter("ignore")
            config: Any = kind.from_pretrained(str(folder))
    except (OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _no_adapter(folder, str(error)) from error
    config.inference_mode = True
    if getattr(config, "prompt_tuning_init", None) is not None:
        config.prompt_tuning_init = "RANDOM"  # the weights are in the file; their beginning need not be made again
    found: PeftConfig = config
    return found


def _refuse(folder: Path, plain: dict[str, Any]) -> None:
    """Settings with which an adapter cannot answer here, or would open what it must not."""
    kind = plain.get("peft_type")
    reason: Text | None = None
    if not isinstance(kind, str) or kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise _no_adapter(folder, f"peft knows no adapter of the kind {kind!r}")
    if kind in ("XLORA", "POLY", "MULTITASK_PROMPT_TUNING"):
        reason = say("it is made of several, one for each task", "它由多个任务各自的适配器组成")
    elif plain.get("task_type") not in (None, "CAUSAL_LM"):
        reason = say("it was made for another task than writing", "它不是为文本生成训练的")
    elif plain.get("megatron_config") or plain.get("prompt_tuning_init_state_dict_path"):
        reason = say("it needs files or packages beside its own", "它需要自身以外的文件或软件包")
    elif plain.get("alora_invocation_tokens"):
        reason = say("it works from certain words of a text on only", "它只从文本中的特定词元起生效")
    elif _BY_CHANCE.fullmatch(str(plain.get("init_lora_weights"))):
        reason = say(
            "it was begun at random from the base's weights, which cannot be repeated",
            "它从基础权重随机分解开始，无法重现",
        )
    if reason is not None:
        raise UserError(
            "adapter.unsupported",
            say("This adapter cannot be loaded here: {reason}.", "无法在此加载该适配器：{reason}。", reason=reason),
            say("Choose another, or save it as a plain LoRA with peft.", "请换一个，或用 peft 将其另存为普通 LoRA。"),
            where=str(folder),
            details=str({name: plain.get(name) for name in ("peft_type", "task_type", "init_lora_weights")}),
        )


# --------------------------------------------------------------------------------------------------------- put beside
def put_beside(base: PreTrainedModel, adapter: AdapterFile) -> PeftModel:
    """The base with an adapter, on modules of its own; the base stays as it is.

    Raises:
        UserError: the adapter does not fit the base, or memory does not suffice.
    """
    try:
        second = _second(base, adapter)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(second, str(adapter.folder), config=adapter.config)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError) as error:
        raise ran_out_of_memory(error) or _does_not_fit(adapter.folder, str(error)) from error
    missing = [str(item.message) for item in heard if "missing adapter keys" in str(item.message)]
    left = _left_over(base, model, adapter)
    if missing or left:
        raise _does_not_fit(adapter.folder, "\n".join([*missing, *(f"no place for {name}" for name in left)]))
    model.requires_grad_(False)
    return model.eval()


def _second(base: PreTrainedModel, adapter: AdapterFile) -> PreTrainedModel:
    """The base's modules once more. Parameters lie on the same memory, but those that the adapter writes on."""
    named = [*base.named_parameters(), *base.named_buffers()]
    own = _written_on(base, adapter)
    _check_room(base, [tensor for name, tensor in named if name in own])
    memo: dict[int, Any] = {}
    for name, tensor in named:
        memo[id(tensor)] = _copied(tensor) if name in own else _on_same_memory(tensor)
    for module in base.modules():
        # bitsandbytes keeps it at the layer too; its tables are as large as an eighth of the weights.
        state = getattr(module, "quant_state", None)
        if state is not None:
            memo[id(state)] = state
    second = copy.deepcopy(base, memo)
    size = _vocabulary(base, adapter)
    if size is not None:
        second.resize_token_embeddings(size, mean_resizing=False)
    return second


def _on_same_memory(tensor: torch.Tensor) -> torch.Tensor:
    """A parameter of its own over the same numbers: what is put in its place is not put in the base's."""
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.data, requires_grad=False)
    return copy.copy(tensor) if isinstance(tensor, nn.Parameter) else tensor


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.data.clone(), requires_grad=False)
    return copy.deepcopy(tensor)


def _written_on(base: PreTrainedModel, adapter: AdapterFile) -> frozenset[str]:
    """Names of the base's tensors that loading the adapter writes on."""
    config = adapter.config
    takes = bool(_TAKES_FROM_BASE.match(str(getattr(config, "init_lora_weights", "")).lower()))
    biases = getattr(config, "bias", "none") not in ("none", None, False)
    kept_apart = tuple(f".{name}." for name in getattr(config, "modules_to_save", None) or ())
    saved = {_in_base(name) for name in adapter.header.tensors if not any(part in name for part in kept_apart)}
    found = set()
    for name, _ in [*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False)]:
        module, _, last = name.rpartition(".")
        if name in saved or (biases and last == "bias") or (takes and _is_target(config, module)):
            found.add(name)
    return frozenset(_first_names(base, found))


def _first_names(base: PreTrainedModel, names: set[str]) -> Iterator[str]:
    """The names under which tied tensors are listed once."""
    listed = {id(tensor): name for name, tensor in [*base.named_parameters(), *base.named_buffers()]}
    every = [*base.named_parameters(remove_duplicate=False), *base.named_buffers(remove_duplicate=False)]
    return (listed[id(tensor)] for name, tensor in every if name in names)


def _in_base(name: str) -> str:
    """What a tensor of an adapter's file is called in the base, where it is one of the base's."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _is_target(config: PeftConfig, module: str) -> bool:
    return getattr(config, "target_modules", None) is not None and bool(check_target_module_exists(config, module))


def _vocabulary(base: PreTrainedModel, adapter: AdapterFile) -> int | None:
    """How many tokens the adapter's embeddings have, where they are others than the base's."""
    rows = _embeddings(base).shape[0]
    for name, tensor in adapter.header.tensors.items():
        parts = name.split(".")
        if parts[-1] == "weight" and parts[-2] in (*_INPUTS, *_OUTPUTS) and "lora" not in name:
            return tensor.shape[0] if tensor.shape[0] != rows else None
    return None


def _embeddings(base: PreTrainedModel) -> torch.Tensor:
    weight: torch.Tensor = cast(Any, base.get_input_embeddings()).weight
    return weight


def _check_room(base: PreTrainedModel, copies: list[torch.Tensor]) -> None:
    needed = sum(tensor.numel() * tensor.element_size() for tensor in copies)
    free = torch.cuda.mem_get_info()[0] if base.device.type == "cuda" else psutil.virtual_memory().available
    if needed > free * _SHARE_OF_FREE_MEMORY:
        raise UserError(
            "adapter.memory",
            say(
                "This adapter changes weights of the base model; a copy of them ({gib:.1f} GiB) has no room.",
                "该适配器会改动基础模型的权重，而内存不足以容纳其副本（{gib:.1f} GiB）。",
                gib=needed / 2**30,
            ),
            say("Close other programs, or take other columns away.", "请关闭其他程序，或去掉其他栏。"),
            exit_code=EXIT_MACHINE,
        )


def _left_over(base: PreTrainedModel, model: PeftModel, adapter: AdapterFile) -> list[str]:
    """Tensors of the file that found no place: the adapter was made for another model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        placed = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    bases = {name for name, _ in base.named_parameters(remove_duplicate=False)}
    return [name for name in adapter.header.tensors if name not in placed and _in_base(name) not in bases]


# -------------------------------------------------------------------------------------------------------- the proof
class Untouched:
    """What the base says to a fixed text before any adapter is there, to be asked again after each.

    Attributes:
        repeatable: it said the very same twice; some GPU kernels do not, and then a small difference is let pass.
    """

    def __init__(self, base: PreTrainedModel) -> None:
        self._base = base
        size = int(_embeddings(base).shape[0])
        self._ids = torch.arange(_PROBE_TOKENS, device=base.device).mul(7919).remainder(size).unsqueeze(0)
        self._said = self._say()
        self.repeatable = torch.equal(self._say(), self._said)

    @torch.inference_mode()
    def _say(self) -> torch.Tensor:
        logits: torch.Tensor = self._base(input_ids=self._ids, use_cache=False).logits
        return logits.to("cpu")

    def holds(self) -> bool:
        """Whether the base still says the same: bit for bit where it is repeatable."""
        said = self._say()
        if self.repeatable:
            return torch.equal(said, self._said)
        return said.shape == self._said.shape and torch.allclose(said.float(), self._said.float(), rtol=1e-3, atol=1e-3)

    def check(self, folder: Path) -> None:
        """Raises `UserError` when an adapter changed the base after all."""
        if not self.holds():
            raise UserError(
                "adapter.changes_base",
                say(
                    "This adapter changed the base model, so the two could not be compared.",
                    "该适配器改动了基础模型，无法进行对比。",
                ),
                say(
                    "It was taken away; the base is loaded anew. Report the adapter's kind.",
                    "已将其去掉，基础模型会重新加载。请反馈该适配器的类型。",
                ),
                where=str(folder),
                exit_code=EXIT_MACHINE,
            )


def _no_adapter(folder: Path, details: str) -> UserError:
    return UserError(
        "adapter.none",
        say("{name} holds no adapter that can be read.", "{name} 中没有可读取的适配器。", name=folder.name or folder),
        say("Choose a folder that PEFT wrote.", "请选择由 PEFT 写出的文件夹。"),
        where=str(folder),
        details=details,
    )


def _does_not_fit(folder: Path, details: str) -> UserError:
    return UserError(
        "adapter.does_not_fit",
        say("This adapter does not fit the base model.", "该适配器与基础模型不匹配。"),
        say("It belongs to another model, or to another version of it.", "它属于其他模型，或同一模型的其他版本。"),
        where=str(folder),
        details=details,
    )
