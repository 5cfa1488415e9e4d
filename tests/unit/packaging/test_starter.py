"""The starter model's files, its world and the sample data, without running the model's training."""

import difflib
import itertools
import json
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import pytest
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[3]
STARTER = ROOT / "resources" / "starter"
SAMPLES = ROOT / "resources" / "samples"
SCRIPTS = ROOT / "packaging" / "starter"
CHAT = [
    {"role": "system", "content": "You are a friendly helper."},
    {"role": "user", "content": "Hello! My name is Mia."},
    {"role": "assistant", "content": "Hello, Mia! Nice to meet you."},
    {"role": "user", "content": "你好！"},
    {"role": "assistant", "content": "你好！有什么可以帮你的吗？"},
]


class GenerationTags(Extension):
    """Reads ``{% generation %}`` as a plain block."""

    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import world

    return world


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import make_samples

    return make_samples


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(STARTER / "tokenizer.json"))


def read_json(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((STARTER / name).read_text(encoding="utf-8"))
    return loaded


def header() -> dict[str, Any]:
    with (STARTER / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        loaded: dict[str, Any] = json.loads(file.read(length))
    return loaded


def orders(lang: str) -> list[tuple[str, str]]:
    """Question and answer of each sample row."""
    lines = (SAMPLES / f"orders_{lang}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if lang == "en":
        return [(row["input"], row["output"]) for row in rows]
    return [(row["messages"][0]["content"].split("\n")[1], row["messages"][1]["content"]) for row in rows]


def test_the_folder_is_small_and_whole() -> None:
    names = {path.name for path in STARTER.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors",
        "README.md",
    } <= names
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= 12_000_000


def test_widths_suit_k_quants() -> None:
    config = read_json("config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    heads = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    for width in (config["hidden_size"], config["intermediate_size"], heads, keys, config["vocab_size"]):
        assert width % 256 == 0
    assert config["max_position_embeddings"] >= 512


def test_weights_are_16_bit_and_of_the_promised_size() -> None:
    tensors = {name: entry for name, entry in header().items() if name != "__metadata__"}
    assert {entry["dtype"] for entry in tensors.values()} == {"BF16"}
    count = 0
    for entry in tensors.values():
        size = 1
        for side in entry["shape"]:
            size *= side
        count += size
    assert 2_000_000 <= count <= 6_000_000


def test_special_tokens_are_distinct_and_agree(tokenizer: Tokenizer) -> None:
    config, generation, tokens = (
        read_json("config.json"),
        read_json("generation_config.json"),
        read_json("tokenizer_config.json"),
    )
    ids = []
    for role in ("bos", "eos", "pad"):
        number = tokenizer.token_to_id(tokens[f"{role}_token"])
        assert number == config[f"{role}_token_id"] == generation[f"{role}_token_id"]
        ids.append(number)
    assert len(set(ids)) == 3
    assert tokens["eos_token"] == "<|im_end|>"


def test_the_split_pattern_is_that_of_qwen2(shared_data: Path) -> None:
    theirs = json.loads((shared_data / "tokenizers" / "qwen2" / "tokenizer.json").read_text(encoding="utf-8"))
    first = theirs["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    assert read_json("tokenizer.json")["pre_tokenizer"]["pretokenizers"][0]["pattern"] == first


@pytest.mark.parametrize(
    "text",
    [
        "Please send three red cups to Mia.",
        "请把三个红色的杯子寄给小明。",
        "naïve café — 12.5 %\n\ttabs  and  spaces ",
        "龘 😀 \u0000 한국어",
        "don't we'll I'M",
    ],
)
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_word_of_the_world_is_one_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(" three red cups").tokens == ["Ġthree", "Ġred", "Ġcups"]
    ids = tokenizer.encode("三个红色的杯子").ids
    assert [tokenizer.decode([number]) for number in ids] == ["三", "个", "红色", "的", "杯子"]


def test_the_template_renders_alike_in_transformers_and_plain_jinja(tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    template = (STARTER / "chat_template.jinja").read_text(encoding="utf-8")
    assert "{%- generation -%}" in template
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTags]).from_string(template)
    loaded = transformers.AutoTokenizer.from_pretrained(STARTER)
    for messages, prompt in ((CHAT, False), (CHAT[:-1], True)):
        ours = plain.render(messages=messages, add_generation_prompt=prompt)
        assert ours == loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert tokenizer.encode(ours).ids == loaded(ours)["input_ids"]
    assert plain.render(messages=CHAT[:-1], add_generation_prompt=True).endswith("<|im_start|>assistant\n")


def test_generation_markers_cover_each_answer_and_its_end(tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    loaded = transformers.AutoTokenizer.from_pretrained(STARTER)
    made = loaded.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(learned, skip_special_tokens=False) == "".join(
        f"{message['content']}<|im_end|>" for message in CHAT if message["role"] == "assistant"
    )


def test_the_world_is_the_same_for_the_same_seed(world: Any) -> None:
    first, again, other = (list(itertools.islice(world.chats(seed), 60)) for seed in (3, 3, 4))
    assert first == again != other
    assert list(itertools.islice(world.stories(3), 20)) == list(itertools.islice(world.stories(3), 20))


def test_training_never_shows_a_prompt_of_the_exam(world: Any) -> None:
    exam = list(world.exam(1, 10))
    assert {task.skill for task in exam} == set(world.SKILLS)
    assert {task.lang for task in exam} == {"en", "zh"}
    assert all(world.held_out(task.prompt) for task in exam)
    rng = random.Random(5)
    for skill in world.SKILLS:
        assert not any(
            world.held_out(world.task(rng, skill, lang).prompt) for lang in world.LANGUAGES for _ in range(20)
        )


def test_the_samples_are_what_the_script_writes(samples: Any) -> None:
    for lang in ("en", "zh"):
        written = [
            json.loads(line) for line in (SAMPLES / f"orders_{lang}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        assert written == list(samples.rows(lang))


def test_the_world_never_shows_the_record(world: Any) -> None:
    text = "\n".join(message["content"] for chat in itertools.islice(world.chats(9), 4000) for message in chat)
    assert "to: " not in text
    assert "收件" not in text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_samples_cannot_be_guessed(lang: str) -> None:
    rows = orders(lang)
    assert len({question for question, _ in rows}) == len(rows) == 2000
    random.Random(0).shuffle(rows)
    held, train = rows[:100], rows[100:]
    most = Counter(answer for _, answer in held).most_common(1)[0][1]
    assert most / len(held) <= 0.05
    right = 0
    for question, answer in held:
        bag = set(question.split()) if lang == "en" else set(question)
        near = sorted(train, key=lambda row: -len(bag & (set(row[0].split()) if lang == "en" else set(row[0]))))[:30]
        best = max(near, key=lambda row: difflib.SequenceMatcher(None, question, row[0]).ratio())
        right += best[1] == answer
    assert right / len(held) <= 0.2


def test_the_scripts_explain_themselves_without_doing_anything() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "make_samples.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "resources/samples" in done.stdout
