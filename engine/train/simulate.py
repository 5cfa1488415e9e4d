"""One training step of the real model class, with nothing allocated: the reference for the memory model's formulas.

transformers, peft, TRL's loss and the optimizer run on fake tensors (shapes without memory), while every storage that
they make is counted until it is freed; an 8B model takes seconds and half a gigabyte. It lives in the training room
because it goes through the run's own code: the method's `build`, the objective's head, the trainer's optimizer. What it
counts is the allocator's view; workspaces inside kernels, the CUDA context and fragments are not seen.

Tokens of a mixture of experts are spread evenly over the experts.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from bitsandbytes.functional import QuantState
from bitsandbytes.nn.modules import Linear4bit
from bitsandbytes.optim.adamw import AdamW as BitsAndBytesAdamW
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache, PreTrainedModel, masking_utils
from transformers.initialization import no_init_weights
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, add_fused_lm_head

from engine.machine import asking
from engine.methods.registry import METHODS
from engine.model.load import DTYPES, attention_of
from engine.objectives.head import Scored, add_learned_head, score_all
from engine.objectives.registry import OBJECTIVES
from engine.recipe.recipe import Recipe
from engine.train.as_on_gpu import as_on_gpu, replaced
from engine.train.storages import ACTIVATIONS, ADAPTER, GRADIENTS, OPTIMIZER, WEIGHTS, Storages, total

Device = Literal["cuda", "cpu"]

# torch's allocators give multiples of this many bytes (c10/cuda/CUDACachingAllocator.h, kMinBlockSize).
GRANULE = {"cuda": 512, "cpu": 1}
# bitsandbytes, functional.py: weights that share a constant, and constants that share one.
BLOCK, OUTER_BLOCK = 64, 256


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a step needed.

    Attributes:
        parts: bytes by part at the moment of the peak.
        resting: bytes by part between two steps.
        at: operation that reached the peak.
    """

    parts: Mapping[str, int]
    resting: Mapping[str, int]
    at: str

    @property
    def peak(self) -> int:
        """Bytes at the peak."""
        return total(self.parts)


def simulate(
    config: Mapping[str, Any],
    recipe: Recipe,
    *,
    longest: int,
    device: Device,
    learned: float = 1.0,
    loss: Literal["chunked", "full"] | None = None,
) -> Simulated:
    """The peak of a training step by ``recipe`` on a batch whose rows all have ``longest`` tokens.

    Args:
        config: the parsed ``config.json``.
        device: "cuda" for what a GPU's kernels keep and make, "cpu" for what the CPU's do.
        learned: share of the tokens that the loss counts.
        loss: "chunked" for learned tokens in pieces, "full" for all logits at once; None as the recipe says.

    Liger's kernels, which need less, are not simulated; flash-attention is where the recipe names it.
    """
    dtype = _dtype(recipe.train.precision, device)
    objective, attention = OBJECTIVES[recipe.objective.name], recipe.train.attention
    if loss is None:
        loss = "full" if recipe.train.loss == "all" and not objective.preference else "chunked"
    batch = recipe.train.batch_size * objective.rows_per_example
    masked = batch > 1 and attention != "flash"
    answers = _Answers(learned=max(1, round(batch * (longest - 1) * learned)))
    vocab = int(config["vocab_size"])
    widths = {vocab, _CHUNKED_LOGPROB_CHUNK_SIZE, vocab % _CHUNKED_LOGPROB_CHUNK_SIZE}
    counter = Storages(widths=widths, granule=GRANULE[device], rule=answers)
    with torch.device("meta"):
        base = _model(config, recipe, dtype, "eager" if attention == "eager" else "sdpa")
        adapted = _adapted(base, recipe, device, loss)
    with FakeTensorMode(), _static_masks(masked=masked), _like(device), counter:
        _bring_to_life(adapted, counter)
        optimizer = _optimizer(adapted, recipe)
        trained = [weight for weight in adapted.parameters() if weight.requires_grad]
        for weight in trained:
            weight.register_post_accumulate_grad_hook(lambda it: counter.retag(it.grad, GRADIENTS))
        # As after a first step, whose memory is of no interest: the optimizer has its states, and with accumulation the
        # gradients are there when the last micro-batch comes.
        _first_update(optimizer, trained, counter)
        if recipe.train.accumulation == 1:
            optimizer.zero_grad()
        counter.start()
        _Step(adapted, recipe, batch, longest, dtype, loss).run()
        nn.utils.clip_grad_norm_(trained, recipe.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return Simulated(dict(counter.peak), dict(counter.live), counter.at)


def simulate_afterwards(
    config: Mapping[str, Any], recipe: Recipe, *, longest: int, device: Device
) -> dict[Literal["measuring", "answering"], Simulated]:
    """The peaks of the evaluation that follows: texts of ``longest`` tokens measured, every token counted, and prompts
    of that length answered to the last token; as many at once as the recipe says."""
    dtype, rows = _dtype(recipe.train.precision, device), recipe.evaluate.batch_size
    vocab = int(config["vocab_size"])
    counter = Storages(widths={vocab}, granule=GRANULE[device], rule=_Answers(learned=1))
    with torch.device("meta"):
        model = _model(config, recipe, dtype)
        adapted = importlib.import_module(METHODS[recipe.method.name].work).build(model, recipe.method).eval()
    found: dict[Literal["measuring", "answering"], Simulated] = {}
    with FakeTensorMode(), _static_masks(masked=rows > 1), _like(device), counter, torch.no_grad():
        _bring_to_life(adapted, counter)
        counter.start()
        _measure(adapted, rows, longest, vocab, device)
        found["measuring"] = Simulated(dict(counter.peak), dict(counter.live), counter.at)
        counter.start()
        _read(adapted, rows, longest)
        _last_token(adapted, rows, longest + recipe.evaluate.max_new_tokens, dtype)
        found["answering"] = Simulated(dict(counter.peak), dict(counter.live), counter.at)
    return found


def _measure(model: Any, rows: int, length: int, vocab: int, device: Device) -> None:
    """`engine.evaluate.score` on one batch: the output layer sees what counts alone, in as many goes as needed."""
    most = max(1, asking.MOST_LOGITS_BYTES[device] // (vocab * asking.BYTES_PER_LOGIT))
    seen = min(most, rows * (length - 1))
    head = model.get_base_model().get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, given: (given[0].reshape(-1, given[0].shape[-1])[:seen][None],))
    ids = torch.zeros((rows, length), dtype=torch.int64)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    handle.remove()
    log = logits.float().log_softmax(-1)
    log.gather(-1, ids.new_zeros(seen, 1))
    torch.special.entr(log.exp_()).sum(-1)


def _read(model: Any, rows: int, length: int) -> None:
    """transformers' ``generate`` until the first token."""
    ids = torch.zeros((rows, length), dtype=torch.int64)
    model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=1).logits.float()


def _last_token(model: Any, rows: int, length: int, dtype: torch.dtype) -> None:
    """Likewise for the last of ``length`` tokens, with those before in the cache."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache = DynamicCache()
    for layer in range(config.num_hidden_layers):
        before = torch.empty((rows, config.num_key_value_heads, length - 1, width), dtype=dtype)
        cache.update(before, before, layer)
        del before
    ids = torch.zeros((rows, 1), dtype=torch.int64)
    mask = torch.ones((rows, length), dtype=torch.int64)
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1).logits.float()


# ------------------------------------------------------------------------------------------------------ what is built
def _dtype(precision: str, device: Device) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if device == "cuda" else torch.float32
    return DTYPES[precision]


def _model(config: Mapping[str, Any], recipe: Recipe, dtype: torch.dtype, attention: str = "sdpa") -> PreTrainedModel:
    """The model class of a config, as `engine.model.load` gives it: frozen, linear layers in 4-bit where asked for."""
    settings = CONFIG_MAPPING[str(config["model_type"])].from_dict(dict(config))
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(
            settings, dtype=dtype, attn_implementation=attention_of(settings, attention)
        )
    assert isinstance(model, PreTrainedModel)
    model.tie_weights()
    if METHODS[recipe.method.name].quantised:
        _quantise(model, recipe, dtype)
    model.requires_grad_(False)
    return model


def _quantise(model: PreTrainedModel, recipe: Recipe, dtype: torch.dtype) -> None:
    """Put bitsandbytes' linear layers in the place of all but the output layer's, as transformers does."""
    double = bool(getattr(recipe.method, "double_quantisation", True))
    kind = str(getattr(recipe.method, "quant_type", "nf4"))
    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear) and layer is not head:
                setattr(parent, name, _four_bit(layer, dtype, kind, double))
    model.is_loaded_in_4bit = True  # type: ignore[assignment]  # what peft looks for


def _four_bit(layer: nn.Linear, dtype: torch.dtype, kind: str, double: bool) -> nn.Module:
    rows, columns = layer.weight.shape
    blocks = -(-rows * columns // BLOCK)
    state2 = None
    if double:
        outer = torch.empty(-(-blocks // OUTER_BLOCK))
        state2 = QuantState(absmax=outer, blocksize=OUTER_BLOCK, code=torch.empty(256), dtype=torch.float32)
    state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8 if double else torch.float32),
        shape=layer.weight.shape,
        code=torch.empty(16),
        blocksize=BLOCK,
        quant_type=kind,
        dtype=dtype,
        offset=torch.empty(()) if double else None,
        state2=state2,
    )
    new = Linear4bit(columns, rows, bias=False, compute_dtype=dtype, quant_type=kind)
    # `Params4bit` cannot hold a fake tensor; a plain parameter with its attributes can.
    weight: Any = nn.Parameter(torch.empty(-(-rows * columns // 2), 1, dtype=torch.uint8), requires_grad=False)
    weight.quant_state, weight.compress_statistics, weight.quant_type = state, double, kind
    new._parameters["weight"] = weight
    new._parameters["bias"] = layer.bias
    new.quant_state = state
    new.support_avx512bf16_for_cpu = False
    return new


def _adapted(model: PreTrainedModel, recipe: Recipe, device: Device, loss: str) -> Any:
    """The model with its adapter and Lorimer's loss, checkpointed where asked for, as the trainer sets it up."""
    adapted = importlib.import_module(METHODS[recipe.method.name].work).build(model, recipe.method)
    sft = not OBJECTIVES[recipe.objective.name].preference
    if loss == "chunked":
        outputs = ("log_probs", "entropy", "is_top1") if sft else ("log_probs", "entropy", "mean_logits", "is_top1")
        add_fused_lm_head(model, outputs=outputs)
        if sft and device == "cpu" and not getattr(model.config, "router_aux_loss_coef", 0.0):
            add_learned_head(model)
    if recipe.train.checkpointing:
        adapted.enable_input_require_grads()
        model.activation_checkpointing_enable()
    return adapted.train()


def _bring_to_life(model: nn.Module, counter: Storages) -> None:
    """Put fake tensors in the place of the meta device's, the same one where weights are shared.

    The model cannot be built on fake tensors at once: peft moves modules, and `Module.to` cannot swap them."""
    made: dict[int, torch.Tensor] = {}
    originals = [*model.parameters(), *model.buffers()]  # kept, so that no id is used twice

    def fresh(tensor: torch.Tensor, what: str) -> torch.Tensor:
        new = torch.empty(tensor.shape, dtype=tensor.dtype)
        counter.retag(new, what)
        return new

    for original in originals:
        if not isinstance(original, nn.Parameter):
            made[id(original)] = fresh(original, WEIGHTS)
            continue
        new = nn.Parameter(fresh(original, ADAPTER if original.requires_grad else WEIGHTS), original.requires_grad)
        new.__dict__.update(original.__dict__)
        if hasattr(new, "quant_state"):
            _freshen(new.quant_state, fresh)
        made[id(original)] = new
    for module in model.modules():
        tables: tuple[Any, ...] = (module._parameters, module._buffers)
        for held in tables:
            held.update({name: made[id(tensor)] for name, tensor in held.items() if tensor is not None})


def _freshen(state: QuantState, fresh: Any) -> None:
    """The same for the constants of a quantised weight."""
    for name in ("absmax", "code", "offset"):
        if isinstance(getattr(state, name), torch.Tensor):
            setattr(state, name, fresh(getattr(state, name), WEIGHTS))
    if state.state2 is not None:
        _freshen(state.state2, fresh)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The class that transformers' trainer takes for the recipe's name (`trainer.OPTIMIZERS`)."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    name, rate = recipe.train.optimizer, recipe.train.learning_rate
    if name == "adamw":
        return torch.optim.AdamW(weights, lr=rate, weight_decay=recipe.train.weight_decay, fused=True)
    # Paged states lie in memory that the driver moves between the GPU and the machine; counted as if all were here.
    return BitsAndBytesAdamW(weights, lr=rate, optim_bits=8 if name.endswith("8bit") else 32)


def _first_update(optimizer: torch.optim.Optimizer, trained: list[nn.Parameter], counter: Storages) -> None:
    """Let the optimizer make its states."""
    for weight in trained:
        weight.grad = torch.empty_like(weight)
        counter.retag(weight.grad, GRADIENTS)
    counter.phase = OPTIMIZER
    optimizer.step()
    counter.phase = ACTIVATIONS


# ------------------------------------------------------------------------------------------------------- what is run
@dataclass(frozen=True, slots=True)
class _Step:
    """One micro-batch forward and backward."""

    model: Any
    recipe: Recipe
    batch: int
    length: int
    dtype: torch.dtype
    loss: str

    def run(self) -> None:
        """As the trainer does it: the loss under autocast, the backward pass outside."""
        inputs = self._inputs()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype != torch.float32):
            if OBJECTIVES[self.recipe.objective.name].preference:
                loss = self._preference(inputs)
            elif self.loss == "full":
                labels = inputs.pop("labels")
                scored = score_all(self.model(**inputs, use_cache=False).logits, labels)
                loss = scored.total / scored.learned
            elif getattr(self.model.config, "router_aux_loss_coef", 0.0):
                # A mixture of experts, whose loss TRL makes together with that of its balance.
                loss = self.model(**inputs, output_router_logits=True, fused_lm_head=True).loss
            else:
                scored = Scored.of(self.model(**inputs, use_cache=False, fused_lm_head=True))
                loss = scored.total / scored.learned.clamp(min=1)
        del inputs
        loss.backward()

    def _inputs(self) -> dict[str, torch.Tensor]:
        if self.recipe.train.short_rows == "packed":
            shape = (1, self.batch * self.length)
            names = ("input_ids", "labels", "position_ids")
        else:
            shape = (self.batch, self.length)
            names = ("input_ids", "labels", "attention_mask")
        return {name: torch.zeros(shape, dtype=torch.int64) for name in names}

    def _preference(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """TRL's `DPOTrainer._compute_loss` for the sigmoid loss: the reference goes through while the policy's
        activations are kept."""
        chosen, rejected = self.model(**inputs, use_cache=False, fused_lm_head=True).log_probs.sum(1).chunk(2)
        with torch.no_grad(), self.model.disable_adapter():
            reference = self.model(**inputs, use_cache=False, fused_lm_head=True).log_probs.sum(1).chunk(2)
        margin = (chosen - reference[0]) - (rejected - reference[1])
        beta = float(getattr(self.recipe.objective, "beta", 0.1))
        return -nn.functional.logsigmoid(beta * margin).mean()


# --------------------------------------------------------------------------------------------- what fake tensors lack
@contextlib.contextmanager
def _static_masks(*, masked: bool) -> Iterator[None]:
    """transformers builds its most general masks when it sees fake tensors; here it decides as for real ones."""
    with (
        replaced(masking_utils, "is_tracing", lambda *_: False),
        replaced(masking_utils, "fast_all", lambda *_: not masked),
        # Asked for packed rows only, since all others come with a mask.
        replaced(masking_utils, "find_packed_sequence_indices", lambda at: at.cumsum(-1) if masked else None),
    ):
        yield


def _like(device: Device) -> contextlib.AbstractContextManager[None]:
    return as_on_gpu() if device == "cuda" else contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class _Answers:
    """Stands in for operations whose result depends on values, which fake tensors do not have.

    Attributes:
        learned: tokens that the loss counts.
    """

    learned: int

    def __call__(self, func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return self.learned
        if func is torch.ops.aten.index.Tensor and args[1][0] is not None and args[1][0].dtype is torch.bool:
            mask = args[1][0]
            return args[0].new_empty(self.learned, *args[0].shape[mask.dim() :])
        if func is torch.ops.aten._grouped_mm.default:  # its rule for fake tensors refuses fp32, which the CPU computes
            left, right = args[:2]
            experts = () if right.dim() == 3 else (args[2].numel(),)
            return left.new_empty(*experts, left.shape[0], right.shape[-1])
        if func.namespace == "bitsandbytes" and "optimizer_update" in str(func):
            return None
        return NotImplemented
