"""A very small Llama with a byte-level tokenizer, made from a seed: the same weights and tokens on every machine."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("red", "green", "blue", "apple", "boat", "cat", "sun", "tree", "one", "two", "three", "four", "five", "six")
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path, *, seed: int = 0) -> Path:
    """Write the model, its tokenizer and its template to ``folder``: two layers, width 64, 360 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "chat_template": TEMPLATE,
        "model_max_length": 128,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=360,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=2,
        )
    )
    model.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: int = 40) -> Path:
    """Alpaca rows of several lengths: repeat the words, backwards."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            words = [WORDS[(n * 5 + i * 3) % len(WORDS)] for i in range(1 + n % 7)]
            row = {"instruction": f"Turn round {n}", "input": " ".join(words), "output": " ".join(reversed(words))}
            file.write(json.dumps(row) + "\n")
    return path


def write_preferences(path: Path, rows: int = 24) -> Path:
    """Rows with a better and a worse answer."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            words = [WORDS[(n * 5 + i * 3) % len(WORDS)] for i in range(2 + n % 5)]
            question, answer = f"Turn round {n}: {' '.join(words)}", " ".join(reversed(words))
            row = {"prompt": question, "chosen": answer, "rejected": words[0]}
            file.write(json.dumps(row) + "\n")
    return path
