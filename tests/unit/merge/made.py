"""Small models, adapters and run folders for the tests of merging and exporting."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from engine.project.atomic import write_json, write_text
from engine.project.run_folder import RunFolder

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'Q: ' + message['content'] + '\\nA:' }}"
    "{% else %}{{ ' ' + message['content'] + '</s>' }}{% endif %}{% endfor %}"
)
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL_LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


def lora(**changes: Any) -> LoraConfig:
    """LoRA of rank 4 on every linear layer, rank-stabilised."""
    values: dict[str, Any] = {
        "r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ALL_LINEAR, "task_type": "CAUSAL_LM"
    }  # fmt: skip
    return LoraConfig(**{**values, **changes})


def ia3() -> IA3Config:
    """(IA)³ on keys, values and the feed-forward's last layer."""
    return IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    )


def random_llama(folder: Path, tokenizer: Path, *, dtype: str = "bfloat16", **changes: Any) -> Path:
    """A Llama with random weights and the tokenizer files of another folder."""
    torch.manual_seed(3)
    shards = changes.pop("shards", None)
    vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size()
    values: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.1,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**{**values, **changes})).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, bias in model.named_parameters():
            if name.endswith("bias"):
                bias.copy_(torch.randn_like(bias))
    model.save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    return folder


def trained_run(
    folder: Path, base: Path, config: Any, *, template: str = "", stops: Sequence[int] = (2,), size: float = 0.3
) -> RunFolder:
    """A finished run on ``base`` whose adapter holds random weights of noticeable ``size``."""
    torch.manual_seed(7)
    # A copy: peft writes the base's name into the configuration it is given.
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), copy.deepcopy(config))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * size)
            elif "ia3_l" in name:
                weight.copy_(1 + torch.randn_like(weight) * size)
    run = RunFolder(folder)
    model.save_pretrained(run.adapter)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (base / name).is_file():
            shutil.copyfile(base / name, run.adapter / name)
    if template:
        write_text(run.adapter / "chat_template.jinja", template)
    write_json(run.adapter / "generation_config.json", {"eos_token_id": list(stops)})
    run.write_facts(
        {"id": run.id, "title": "made", "model": "made", "model_folder": str(base), "method": config.peft_type}
    )
    return run


def hold_out(run: RunFolder, pairs: Sequence[tuple[str, str]]) -> None:
    """Write question and answer pairs as the run's held-out rows."""
    rows = [
        {
            "where": f"made:{at}",
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "chosen": None,
            "rejected": None,
        }
        for at, (question, answer) in enumerate(pairs)
    ]
    write_text(run.held_out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
