"""Base models in memory: 16-bit or 4-bit, always from safetensors, never with code from the model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.liger import apply_liger_kernel
from transformers.utils import logging as library_log
from transformers.utils.import_utils import is_flash_attn_2_available, is_liger_kernel_available

from engine.data.template import ChatTemplate
from engine.data.tokenizer import TextTokenizer
from engine.methods.registry import METHODS
from engine.model.inspect import INDEX
from engine.model.weights_header import is_weights_name
from engine.project.atomic import read_json
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say
from engine.recipe.recipe import Recipe

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def device() -> str:
    """What models run on here: "cuda", "mps" or "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def decide_precision(precision: str, on: str) -> str:
    """The number format that "auto" means on a device: "bf16", "fp16" or "fp32".

    GPUs from Ampere on have bf16; older ones emulate it slowly, so they get fp16. CPUs get fp32: without AMX or
    AVX512-BF16 it is the fastest as well (see tests/bench/bench_train_speed.py).

    Raises:
        UserError: fp16 was asked for without a GPU, where its gradients underflow and nothing is gained.
    """
    if precision == "auto":
        if on != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision == "fp16" and on == "cpu":
        raise UserError(
            "recipe.precision",
            say("fp16 needs a GPU; this machine computes on the CPU.", "fp16 需要 GPU，而本机使用 CPU 计算。"),
            say('Set the number format to "auto".', "请将数值精度设为“auto”。"),
            where="train.precision",
        )
    return precision


def compute_dtype(precision: str, on: str) -> torch.dtype:
    """`decide_precision` as a torch dtype. Raises `UserError` as it does."""
    return DTYPES[decide_precision(precision, on)]


def load_base(
    folder: Path,
    *,
    quantised: bool,
    quant_type: str = "nf4",
    double: bool = True,
    precision: str = "auto",
    attention: str = "sdpa",
    device: str | None = None,
) -> PreTrainedModel:
    """The causal language model of a folder, on its device, in evaluation mode, with every weight frozen.

    Args:
        folder: `config.json` and safetensors.
        quantised: keep the linear layers' weights in 4-bit (Dettmers et al. 2023); the rest is in ``precision``.
        quant_type: "nf4" or "fp4".
        double: quantise the quantisation constants too.
        precision: "auto", "bf16", "fp16" or "fp32".
        attention: "sdpa", "flash" or "eager"; a model that cannot have the first has the last.
        device: "cuda", "mps" or "cpu"; None for the best there is.

    Raises:
        UserError: the weights cannot be read, the architecture is unknown, 4-bit was asked for on a Mac's GPU, or the
            model does not fit in memory.
    """
    on = device or _device()
    dtype = compute_dtype(precision, on)
    if quantised and on == "mps":
        raise UserError(
            "method.device",
            say("4-bit weights need an NVIDIA GPU or a CPU.", "4 位权重需要 NVIDIA GPU 或 CPU。"),
            say('Choose the method "lora" (16-bit) on this Mac.', "在这台 Mac 上请选择“lora”（16 位）方法。"),
            where="method.name",
        )
    library_log.disable_progress_bar()
    _check_index(folder)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            quantization_config=_quantisation(quant_type, double, dtype) if quantised else None,
            # One device for the whole model: nothing is silently offloaded, and accelerate adds no hooks.
            device_map={"": 0 if on == "cuda" else on},
            attn_implementation=attention_of(AutoConfig.from_pretrained(folder, local_files_only=True), attention),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except torch.OutOfMemoryError as error:
        raise out_of_memory(error, gpu=True) from error
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    return _frozen(model)


_device = device


def _check_index(folder: Path) -> None:
    """transformers opens what the index names, pickles too. Raises `UserError` where that is no safetensors here."""
    index = folder / INDEX
    try:
        names = set(read_json(index)["weight_map"].values()) if index.is_file() else set()
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable(folder, error) from error
    if not all(map(is_weights_name, names)):
        raise _unreadable(folder, ValueError(f"{INDEX} names files that are no safetensors of this folder"))


def load_for(recipe: Recipe, folder: Path, *, attention: str = "sdpa", device: str | None = None) -> PreTrainedModel:
    """The base model of a folder in the formats of ``recipe``; arguments and errors as `load_base`."""
    method, settings = METHODS[recipe.method.name], recipe.method.model_dump()
    quantisation: dict[str, Any] = {}
    if method.quantised:
        quantisation = {"quant_type": settings["quant_type"], "double": settings["double_quantisation"]}
    return load_base(
        folder,
        quantised=method.quantised,
        precision=recipe.train.precision,
        attention=attention,
        device=device,
        **quantisation,
    )


def attention_of(settings: PreTrainedConfig, wanted: str = "sdpa") -> str:
    """transformers' name of how a model's attention is computed.

    Args:
        wanted: "sdpa", "flash" or "eager". The few models whose scores are bent cannot have SDPA and are given "eager".
    """
    if wanted == "flash":
        return "flash_attention_2"
    family = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(settings), None)
    bent = family is not None and not getattr(family, "_supports_sdpa", True)
    return "eager" if bent else wanted


def decide_attention(recipe: Recipe, on: str) -> str:
    """What the recipe's attention comes to on a device: "sdpa", "flash" or "eager".

    SDPA keeps packed rows apart with a mask, which its fastest kernel does not know; flash-attention is told where
    each row ends (Dao 2023).

    Raises:
        UserError: flash-attention was asked for where it cannot be.
    """
    wanted, there = recipe.train.attention, on == "cuda" and is_flash_attn_2_available()
    half = decide_precision(recipe.train.precision, on) != "fp32"
    if wanted == "flash" and not (there and half):
        raise UserError(
            "train.attention",
            say(
                "flash-attention needs an NVIDIA GPU, 16-bit numbers, and the package flash-attn.",
                "flash-attention 需要 NVIDIA GPU、16 位精度以及 flash-attn 软件包。",
            ),
            say('Set the attention to "auto".', "请将注意力设为“auto”。"),
            where="train.attention",
        )
    if wanted == "auto":
        return "flash" if there and half and recipe.train.short_rows == "packed" else "sdpa"
    return wanted


def add_kernels(model: PreTrainedModel, recipe: Recipe) -> bool:
    """Put Liger's kernels into a model on an NVIDIA GPU where the recipe allows and the package is there (Hsu et al.
    2024); gives whether. The loss stays Lorimer's own, which needs no logits either."""
    if recipe.train.kernels == "off" or model.device.type != "cuda" or not is_liger_kernel_available():
        return False
    apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})
    return True


def _quantisation(quant_type: str, double: bool, dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quant_type,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=dtype,
    )


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    """The model with nothing to train.

    peft's ``prepare_model_for_kbit_training`` would also turn every 16-bit weight that is left (embeddings, output
    head, norms) into fp32: 2 GiB more for an 8B model with 128,000 tokens, for weights that are never updated, since
    norms compute in fp32 by themselves and adapters are fp32 anyway. So only the freezing is done here.
    """
    model.requires_grad_(False)
    for module in model.modules():
        # On CPUs with AVX512-BF16 bitsandbytes repacks 4-bit weights at the first evaluation, and the repacked product
        # has no gradient: training after an evaluation would silently lose everything behind the last layer.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010
    model.eval()
    return model


def load_tokenizer(folder: Path, template: ChatTemplate | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, padding on the right with a token that is never the end-of-text one.

    Args:
        folder: a model's or an adapter's folder.
        template: replaces the folder's own chat template.

    Raises:
        UserError: the tokenizer cannot be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            "model.tokenizer",
            say("The tokenizer in {folder} cannot be read.", "无法读取 {folder} 中的分词器。", folder=folder),
            say("Download the model again.", "请重新下载该模型。"),
            where=str(folder),
            details=str(error),
        ) from error
    # The data room decided the special tokens from all of the folder's files; rows were tokenised with those.
    known = TextTokenizer.load(folder)
    tokenizer.padding_side = "right"
    tokenizer.pad_token = known.pad
    tokenizer.bos_token = tokenizer.bos_token or known.bos
    tokenizer.eos_token = tokenizer.eos_token or known.eos
    if template is not None:
        tokenizer.chat_template = template.sources
    return tokenizer


def out_of_memory(error: BaseException, *, gpu: bool) -> UserError:
    """What a person should know when memory ran out."""
    if gpu:
        message = say("The GPU ran out of memory.", "显存不足。")
        hint = say(
            "Use fewer rows at once, shorter rows, QLoRA, or turn on recomputing; close other programs on the GPU.",
            "请减少每批行数、缩短最大长度、改用 QLoRA 或打开“重算以省显存”；并关闭占用 GPU 的其他程序。",
        )
    else:
        message = say("The machine ran out of memory.", "内存不足。")
        hint = say(
            "Use fewer rows at once, shorter rows or a smaller model; close other programs.",
            "请减少每批行数、缩短最大长度或换用更小的模型；并关闭其他程序。",
        )
    code = "memory.gpu" if gpu else "memory.ram"
    return UserError(code, message, hint, exit_code=EXIT_MACHINE, details=str(error))


def ran_out_of_memory(error: BaseException) -> UserError | None:
    """`out_of_memory` when that is what ``error`` says; None for any other error."""
    if isinstance(error, torch.OutOfMemoryError):
        return out_of_memory(error, gpu=True)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return out_of_memory(error, gpu=False)
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _GPU_IS_FULL):
        return out_of_memory(error, gpu=True)
    return None


_GPU_IS_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory")
"""What libraries under torch, and a Mac's GPU, say in a plain `RuntimeError`."""


def _unreadable(folder: Path, error: Exception) -> UserError:
    return ran_out_of_memory(error) or UserError(
        "model.unreadable",
        say("The model in {folder} cannot be loaded.", "无法加载 {folder} 中的模型。", folder=folder),
        say(
            "Lorimer loads causal language models from complete safetensors; download the model again.",
            "Lorimer 只从完整的 safetensors 加载因果语言模型；请重新下载该模型。",
        ),
        where=str(folder),
        details=str(error),
    )


def parameters(model: Any) -> tuple[int, int]:
    """Trained and all weights of a peft model, 4-bit ones counted one by one."""
    trained, total = model.get_nb_trainable_parameters()
    return int(trained), int(total)
