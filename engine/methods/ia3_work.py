"""(IA)³ beside a loaded model: one learned scale per key, value and inner feed-forward activation."""

from __future__ import annotations

from peft import IA3Config, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from engine.methods.ia3 import INPUT_SCALED, OUTPUT_SCALED, Ia3Settings
from engine.protocol.errors import UserError
from engine.protocol.text import say


def build(model: PreTrainedModel, settings: Ia3Settings) -> PeftModel:
    """The model with all scales at 1, in fp32. Source: Liu et al. 2022, section 3.3.

    Raises:
        UserError: neither the usual layer names nor peft's table know this architecture.
    """
    inputs = list(INPUT_SCALED) if settings.feed_forward else []
    known = _names(model).issuperset((*OUTPUT_SCALED, *inputs))
    try:
        adapter = get_peft_model(
            model,
            IA3Config(
                task_type=TaskType.CAUSAL_LM,
                # None: peft looks the architecture up in its own table.
                target_modules=[*OUTPUT_SCALED, *inputs] if known else None,
                # Of these the input is scaled, of the others the output.
                feedforward_modules=inputs if known else None,
            ),
        )
    except ValueError as error:
        raise UserError(
            "method.architecture",
            say("(IA)³ does not know the layers of this model.", "(IA)³ 不支持该模型的结构。"),
            say("Choose LoRA or QLoRA.", "请选择 LoRA 或 QLoRA。"),
            where="method.name",
            details=str(error),
        ) from error
    assert isinstance(adapter, PeftModel)
    return adapter


def _names(model: nn.Module) -> set[str]:
    return {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
