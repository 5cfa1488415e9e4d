"""Added tokens, a renamed end and a changed template arrive in llama.cpp: it writes, renders and stops as trained.

The model of these tests is a chain: each token has one that follows it, whatever came before. So the answer is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from engine.data.rows import USER, Message
from engine.export.gguf_work import export_gguf
from engine.export.gguf_write import ends, special_ids
from engine.export.llama_cpp import loaded
from engine.merge.prompts import Trained
from engine.project.atomic import read_json, write_json, write_text
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from tests.unit.export.tiny import bpe, contents, numbers, spm

TURNS = (
    "{% for m in messages %}<|im_end|>{{ m['role'] + ': ' + m['content'] }}"
    "{% if m['role'] != 'user' %}END{% endif %}{% endfor %}"
)
ASKING = "{% if add_generation_prompt %}<|im_end|>assistant:{% endif %}"


@dataclass(frozen=True, slots=True)
class Change:
    """What training made of the tokenizer.

    Attributes:
        end: text that ends an answer.
        added: tokens that are new (text → special).
        renamed: texts that old tokens have now.
    """

    end: str
    added: Mapping[str, bool]
    renamed: Mapping[str, str]


CHANGES = {
    "as it was": Change("</s>", {}, {}),
    "another end": Change("<|im_end|>", {}, {}),
    "renamed": Change("<|fin|>", {}, {"</s>": "<|fin|>"}),
    "added": Change("<|done|>", {"<|done|>": True, "<note>": False}, {}),
    "added in plain words": Change("[over]", {"[over]": True}, {}),
}


def base_model(folder: Path, kind: str) -> int:
    """A Llama whose layer adds nothing; the number of its rows."""
    folder.mkdir()
    (spm if kind == "spm" else bpe)(folder)
    if kind == "spm":
        _with_tokens(folder, {"<|im_end|>": True})
    rows = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    config = LlamaConfig(
        vocab_size=rows, hidden_size=64, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(numbers(name, tuple(weight.shape)) if "norm" not in name else torch.ones_like(weight))
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
    model.save_pretrained(folder)
    return rows


def _with_tokens(folder: Path, added: Mapping[str, bool]) -> None:
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.add_tokens([AddedToken(text, special=special, normalized=False) for text, special in added.items()])
    write_text(folder / "tokenizer.json", made.to_str())
    write_json(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def chain(tokenizer: Tokenizer, rows: int, answer: list[int], opening: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding and output matrix of a model that says ``answer`` after ``opening``, and goes on with anything."""
    follows = {token: (token + 1) % rows for token in range(rows)}
    follows |= dict(zip([opening, *answer], [*answer, 5], strict=True))
    embedding = numbers("chain", (rows, 64))
    output = torch.zeros(rows, 64)
    for token, following in follows.items():
        output[following] += embedding[token]
    return embedding, output


def tuned(folder: Path, base: Path, rows: int, change: Change) -> tuple[RunFolder, list[int]]:
    """A run whose adapter learned the chain, with tokenizer and template as ``change`` left them; and its answer."""
    run = RunFolder(folder)
    run.adapter.mkdir(parents=True)
    plain = (base / "tokenizer.json").read_text(encoding="utf-8")
    for old, new in change.renamed.items():
        plain = plain.replace(json.dumps(old), json.dumps(new))
    write_text(run.adapter / "tokenizer.json", plain)
    _with_tokens(run.adapter, change.added)
    config = read_json(run.adapter / "tokenizer_config.json")
    write_json(run.adapter / "tokenizer_config.json", {**config, "eos_token": change.end})
    write_text(run.adapter / "chat_template.jinja", TURNS.replace("END", change.end) + ASKING)
    tokenizer = Tokenizer.from_file(str(run.adapter / "tokenizer.json"))
    said = " the cat" + "".join(text for text, special in change.added.items() if not special)
    answer = [*tokenizer.encode(said, add_special_tokens=False).ids, tokenizer.token_to_id(change.end)]
    opening = tokenizer.encode("<|im_end|>assistant:", add_special_tokens=False).ids[-1]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    size = max(rows, tokenizer.get_vocab_size())
    model.resize_token_embeddings(size, mean_resizing=False)
    # A copy of both matrices is trained and saved whole.
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    )
    embedding, output = chain(tokenizer, size, answer, opening)
    with torch.no_grad():
        adapted.get_input_embeddings().weight.copy_(embedding)
        adapted.get_output_embeddings().weight.copy_(output)
    adapted.save_pretrained(run.adapter, save_embedding_layers=bool(change.added))
    ends_with = [tokenizer.token_to_id(change.end)]
    write_json(run.adapter / "generation_config.json", {"eos_token_id": ends_with})
    run.write_facts({"id": run.id, "title": "made", "model": "made", "model_folder": str(base), "method": "lora"})
    return run, answer


@pytest.mark.parametrize(("kind", "name"), [*(("bpe", name) for name in CHANGES), ("spm", "renamed"), ("spm", "added")])
def test_llama_cpp_answers_and_stops_as_trained(tmp_path: Path, kind: str, name: str) -> None:
    change = CHANGES[name]
    rows = base_model(tmp_path / "base", kind)
    run, answer = tuned(tmp_path / "run", tmp_path / "base", rows, change)
    path = tmp_path / "model.gguf"
    parity = export_gguf(run, path, "F16", Recorder())["parity"]
    assert parity["passed"] is True, json.dumps(parity, ensure_ascii=False)
    trained = Trained.load(run.adapter)
    asked = trained.asked((Message(USER, "the cat"),))
    with loaded(path, 64) as model:
        said, ended = model.greedy(asked.prompt, 12)
        assert [choice.token for choice in said] == answer
        assert ended
        assert model.render([{"role": "user", "content": "the cat"}]) == asked.text
        assert model.tokenize(asked.text) == asked.prompt
    keys: dict[str, Any] = dict(contents(path).keys)
    assert (
        len(keys["tokenizer.ggml.tokens"]) == keys["llama.vocab_size"] == max(rows, len(keys["tokenizer.ggml.tokens"]))
    )
    assert keys["tokenizer.ggml.tokens"][answer[-1]] == change.end


def test_ends_that_llama_cpp_knows_by_their_text_come_last(tmp_path: Path) -> None:
    bpe(tmp_path)
    _with_tokens(tmp_path, {"<|eot_id|>": True, "<|mine|>": True, "<|yours|>": True})
    write_text(tmp_path / "chat_template.jinja", TURNS.replace("END", "<|eot_id|>") + ASKING)
    trained = Trained.load(tmp_path)
    numbers_of = {text: trained.tokenizer.id_of(text) for text in ("<|eot_id|>", "</s>", "<|mine|>", "<|yours|>")}
    object.__setattr__(trained, "__dict__", {**trained.__dict__, "stops": tuple(numbers_of.values())})
    assert ends(trained) == (numbers_of["<|eot_id|>"], numbers_of["<|mine|>"], numbers_of["<|yours|>"])
    object.__setattr__(trained, "__dict__", {**trained.__dict__, "stops": (7,)})
    assert ends(trained) == (7, 7)


def test_special_tokens_come_from_the_tokenizer_then_from_the_configuration(tmp_path: Path) -> None:
    bpe(tmp_path)
    tokenizer = Trained.load(tmp_path).tokenizer
    config = {"bos_token_id": 9, "pad_token_id": 8, "sep_token_id": -1, "cls_token_id": [4], "mask_token_id": None}
    found = special_ids(tokenizer, config)
    assert found == {"bos": tokenizer.id_of("<s>"), "unknown": tokenizer.id_of("<unk>"), "padding": 8}
