"""Which adapters can be merged: their kinds, the names of their tensors, and the settings whose arithmetic is known.

A setting that is not known here may change what the adapter computes. It is refused by its name rather than left out
in silence. Source of the names: ``adapter_config.json`` as PEFT 0.21 writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of adapter.

    Attributes:
        name: ``peft_type``.
        parts: ends of its tensors' names, each beside the module's name.
        settings: what its configuration may say beside what all may.
    """

    name: str
    parts: tuple[str, ...]
    settings: frozenset[str]


_LORA = frozenset(
    "r lora_alpha lora_dropout fan_in_fan_out bias use_rslora init_lora_weights rank_pattern alpha_pattern"
    " megatron_core trainable_token_indices loftq_config eva_config corda_config lora_ga_config use_dora"
    " qalora_group_size runtime_config lora_bias target_parameters ensure_weight_tying velora_config".split()
)
_LYCORIS = frozenset(
    "r alpha rank_dropout rank_dropout_scale module_dropout init_weights rank_pattern alpha_pattern"
    " use_effective_conv2d decompose_both decompose_factor".split()
)
_COMMON = frozenset(
    "peft_type peft_version auto_mapping base_model_name_or_path revision task_type inference_mode target_modules"
    " exclude_modules layers_to_transform layers_pattern modules_to_save".split()
)
_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
_TOKENS = ("token_adapter.trainable_tokens_delta", "trainable_tokens_delta")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "LORA",
            (
                "lora_A.weight",
                "lora_B.weight",
                "lora_B.bias",
                "lora_embedding_A",
                "lora_embedding_B",
                "lora_magnitude_vector",
                "lora_magnitude_vector.weight",
                *_TOKENS,
            ),
            _LORA,
        ),
        Kind(
            "ADALORA",
            ("lora_A", "lora_B", "lora_E"),
            _LORA | set("target_r init_r tinit tfinal deltaT beta1 beta2 orth_reg_weight total_step".split()),
        ),
        Kind("IA3", ("ia3_l",), frozenset("feedforward_modules fan_in_fan_out init_ia3_weights".split())),
        Kind(
            "VERA",
            ("vera_lambda_b", "vera_lambda_d"),
            frozenset(
                "r projection_prng_key save_projection vera_dropout d_initial fan_in_fan_out bias init_weights".split()
            ),
        ),
        Kind("LOHA", _LOHA, _LYCORIS),
        Kind("LOKR", _LOKR, _LYCORIS),
        Kind(
            "OFT",
            ("oft_R.weight",),
            frozenset(
                "r oft_block_size module_dropout fan_in_fan_out bias init_weights coft eps block_share"
                " use_cayley_neumann num_cayley_neumann_terms".split()
            ),
        ),
        Kind("TRAINABLE_TOKENS", _TOKENS, frozenset({"token_indices", "init_weights"})),
    )
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "rank_pattern": dict,
    "alpha_pattern": dict,
    "target_parameters": list,
    "feedforward_modules": (list, str),
    "trainable_token_indices": (list, dict),
    "token_indices": list,
}
# What a tensor of an adapter has in its name. One that is none of its kind's parts is of arithmetic unknown here.
_MARKS = (".lora_", ".ia3_", ".vera_", ".hada_", ".lokr_", ".oft_", ".trainable_tokens", ".bone_", ".boft_")
# First weights that peft takes out of the base before training, in a way that cannot be repeated from what was saved.
_BASE_CHANGED = {
    "loftq": say("LoftQ quantises the base", "LoftQ 量化了基础模型"),
    "corda": say("CorDA needs the data that it was prepared with", "CorDA 需要其准备时所用的数据"),
    "lora_ga": say("LoRA-GA needs the gradients that it was prepared with", "LoRA-GA 需要其准备时所用的梯度"),
    "pissa_niter": say("this PiSSA starts from random numbers", "该 PiSSA 由随机数初始化"),
}


def kind_of(config: Mapping[str, Any], where: str) -> Kind:
    """The kind of an adapter whose configuration is ``config``.

    Raises:
        UserError: it cannot be merged; says which kind or setting stands in the way, and what can be exported instead.
    """
    name = str(config.get("peft_type", "")) if isinstance(config, Mapping) else ""
    kind = KINDS.get(name)
    if kind is None:
        raise _refused(name or "?", where)
    allowed = kind.settings | _COMMON
    odd = sorted(key for key, value in config.items() if key not in allowed and value not in (None, False, "", [], {}))
    if odd:
        raise _refused(f"{name} ({', '.join(odd)})", where)
    wrong = [key for key, kinds in _TYPES.items() if config.get(key) is not None and not isinstance(config[key], kinds)]
    if wrong:
        raise _refused(f"{name} ({', '.join(wrong)})", where)
    if name == "LORA":
        _check_first_weights(config, where)
    if name == "OFT" and config.get("fan_in_fan_out"):
        raise _refused("OFT (fan_in_fan_out)", where)
    return kind


def part_of(name: str, kind: Kind) -> tuple[str, str]:
    """("model.layers.0.self_attn.q_proj", "lora_A.weight"); a whole tensor of the model has the part "".

    Raises:
        ValueError: the tensor is of an adapter, but not one that this kind has.
    """
    for part in kind.parts:
        if name.endswith("." + part):
            return name[: -len(part) - 1], part
    if any(mark in name for mark in _MARKS):
        raise ValueError(name)
    return name, ""


def refused_tensor(name: str, kind: Kind, where: str) -> UserError:
    """A tensor that no known arithmetic uses."""
    return _refused(f"{kind.name} ({name})", where)


def _check_first_weights(config: Mapping[str, Any], where: str) -> None:
    """Refuse a LoRA whose base was changed in a way that cannot be repeated."""
    first = str(config.get("init_lora_weights", "")).lower()
    reason = next((reason for name, reason in _BASE_CHANGED.items() if first.startswith(name)), None)
    if reason is None and first.startswith(("pissa", "olora")) and config.get("target_parameters"):
        reason = say("it starts from whole experts", "其初始化涉及整个专家")
    if reason is None and first.startswith(("pissa", "olora")) and config.get("use_dora"):
        reason = say("it is a DoRA beside", "它同时是 DoRA")
    if reason is None:
        return
    raise UserError(
        "adapter.base_changed",
        say(
            "This adapter belongs to a base model that was changed before training ({kind}): {reason}.",
            "该适配器属于训练前被修改过的基础模型（{kind}）：{reason}。",
            kind=config["init_lora_weights"],
            reason=reason,
        ),
        say(
            "Save it as a plain LoRA where it was trained (PEFT: path_initial_model_for_weight_conversion), or merge"
            " into the changed base with init_lora_weights set to true.",
            "请在训练处将其另存为普通 LoRA（PEFT：path_initial_model_for_weight_conversion），"
            "或将 init_lora_weights 设为 true 并合并到修改后的基础模型。",
        ),
        where=where,
    )


def _refused(kind: str, where: str) -> UserError:
    hint: Text = say(
        "Export the adapter itself instead: it works beside its base model. LoRA, DoRA, (IA)³, VeRA, AdaLoRA, LoHa,"
        " LoKr, OFT and trained tokens can be merged.",
        "请改为导出适配器本身：它可与基础模型一起使用。"
        "可以合并 LoRA、DoRA、(IA)³、VeRA、AdaLoRA、LoHa、LoKr、OFT 与训练的词元。",
    )
    return UserError(
        "adapter.kind",
        say("An adapter of the kind {kind} cannot be merged.", "无法合并 {kind} 类型的适配器。", kind=kind),
        hint,
        where=where,
    )
