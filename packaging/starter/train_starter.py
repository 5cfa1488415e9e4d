"""Makes the starter model: tokenizer, configuration and weights, from the text of the small world alone.

    python packaging/starter/train_starter.py [--out resources/starter] [--steps N] [--tokenizer-only]

The same seed on the same machine gives the same bytes; on another machine the same skill figures.
"""

import argparse
import hashlib
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from lexicon import ANIMALS, COLOURS, COMMON_ZH, NAMES_ZH, NUMBERS_EN, NUMBERS_ZH, OPPOSITES, PLACES, THINGS
from world import Message, chats, stories

SEED = 2025
VOCABULARY = 2816
PAD, BEGIN, TURN, END = "<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (PAD, BEGIN, TURN, END)
# The split pattern of Qwen2's tokenizer, letter for letter: llama.cpp knows it as the pre-tokenizer "qwen2".
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = """{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}
{{- message['content'] + '<|im_end|>' -}}
{%- endgeneration -%}
{{- '\\n' -}}
{%- else -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
LABEL_NONE = -100
TOKENS_PER_STEP = 1024
PEAK_RATE = 8e-4
WARM_UP = 200
THREADS = 2
EMBEDDING_SCALE = 3.0  # large against a step of the optimizer, so that the prepared heads outlive the first steps


def _splitter(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


def chinese_words() -> str:
    """A pattern of all Chinese words of the lexicon, the longest first, and of single characters."""
    words = {thing.zh for thing in THINGS + ANIMALS} | {place.zh for place in PLACES} | set(NAMES_ZH) | set(COMMON_ZH)
    words |= {f"{colour.zh}色" for colour in COLOURS} | {word for row in OPPOSITES for word in row[2:]}
    return "|".join(
        [*sorted((word for word in words if len(word) > 1), key=lambda word: (-len(word), word)), r"\p{Han}"]
    )


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE. Chinese is learned word by word from the lexicon: merges across words would hide the words."""
    tokenizer = Tokenizer(models.BPE())
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_splitter(QWEN2_SPLIT), _splitter(chinese_words()), bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    chat_text = ("\n".join(m["content"] for m in messages) for messages in itertools.islice(chats(SEED), 30000))
    tokenizer.train_from_iterator(itertools.chain(chat_text, itertools.islice(stories(SEED), 2000)), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_splitter(QWEN2_SPLIT), bytes_only])
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Writes the tokenizer with its special tokens and its chat template."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": [TURN],
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write_json(out / "tokenizer_config.json", config)
    _write_json(out / "special_tokens_map.json", {**special, "additional_special_tokens": [TURN]})
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8", newline="\n")


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def configuration(tokenizer: Tokenizer) -> LlamaConfig:
    """All widths are multiples of 256, the block of llama.cpp's K-quants."""
    begin, end, pad = (tokenizer.token_to_id(token) for token in (BEGIN, END, PAD))
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=pad,
    )


def encode_chat(tokenizer: Tokenizer, messages: list[Message]) -> tuple[list[int], list[int]]:
    """Token ids and labels of a chat, as the chat template writes it; labels stand on the answers alone."""
    ids: list[int] = []
    labels: list[int] = []

    def add(text: str, learned: bool) -> None:
        piece = tokenizer.encode(text).ids
        ids.extend(piece)
        labels.extend(piece if learned else [LABEL_NONE] * len(piece))

    for message in messages:
        learned = message["role"] == "assistant"
        add(f"{TURN}{message['role']}\n", False)
        add(message["content"] + END, learned)
        add("\n", False)
    return ids, labels


def encoded_rows(tokenizer: Tokenizer) -> Iterator[tuple[list[int], list[int]]]:
    """Endless training rows: chats, and one plain story after every ninety-nine of them."""
    plain = stories(SEED + 2)
    for place, messages in enumerate(chats(SEED + 1)):
        yield encode_chat(tokenizer, messages)
        if place % 99 == 98:
            ids = tokenizer.encode(BEGIN + next(plain) + END).ids
            yield ids, [LABEL_NONE, *ids[1:]]


def batches(tokenizer: Tokenizer, pad: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of about ``TOKENS_PER_STEP`` tokens: rows of like length together, padded on the right."""
    rng = random.Random(SEED)
    rows = encoded_rows(tokenizer)
    while True:
        pool = sorted(itertools.islice(rows, 1024), key=lambda row: len(row[0]))
        cut: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in pool:
            if len(row[0]) * (len(cut[-1]) + 1) > TOKENS_PER_STEP and cut[-1]:
                cut.append([])
            cut[-1].append(row)
        rng.shuffle(cut)
        for batch in cut:
            width = max(len(ids) for ids, _ in batch)
            ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in batch])
            labels = torch.tensor([row + [LABEL_NONE] * (width - len(row)) for _, row in batch])
            yield ids, labels


def rate(step: int, steps: int) -> float:
    """Learning rate: linear warm-up, then linear to zero."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP, (steps - step) / max(1, steps - WARM_UP))


def _directions(count: int, width: int) -> torch.Tensor:
    """``count`` random orthonormal rows of length ``width``."""
    rows: torch.Tensor = torch.linalg.qr(torch.randn(width, count)).Q.T.contiguous()
    return rows


def word_roots() -> dict[str, tuple[str, str]]:
    """What a word of the world is a form of, and which: the plural of a thing, the written form of a digit."""
    roots = {thing.many: (thing.one, "many") for thing in THINGS + ANIMALS} | {"两": ("2", "measured")}
    for digit in range(10):
        roots |= {NUMBERS_EN[digit]: (str(digit), "word"), NUMBERS_ZH[digit]: (str(digit), "character")}
    return roots


def prepare_embeddings(model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Lets "cup", " cup", "Cup" and "cups" start as one word and a direction for the space, the capital, the plural.

    What is copied often changes its form; with common directions the change is learned once and not for every word.
    """
    roots = word_roots()
    embedding = model.model.embed_tokens.weight
    own = embedding.detach().clone()
    forms = {
        form: torch.randn(own.shape[1]) * own.std()
        for form in ("space", "capital", "many", "word", "character", "measured")
    }
    bases: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for number in range(tokenizer.get_vocab_size()):
            text = tokenizer.decode([number])
            word = text.strip().lower()
            if not word or "\ufffd" in word:  # parts of characters are no words
                continue
            root, form = roots.get(word, (word, ""))
            base = bases.setdefault(root, own[number])
            marks = [forms[form]] if form else []
            marks += [forms["space"]] if text[0] == " " else []
            marks += [forms["capital"]] if text.strip()[0].isupper() else []
            mixed = base + 0.6 * own[number] + 0.5 * sum(marks, torch.zeros_like(base))
            embedding[number] = mixed * own[number].norm() / mixed.norm()  # of one length, or the long ones win


def prepare_attention(model: LlamaForCausalLM) -> None:
    """Starts the model with heads that copy, which would otherwise cost it most of its training to find.

    In the first layer one head looks at the token before and one at the token two before, and each writes what it saw
    into directions of its own. In the second and third layer one head looks for a place whose token before is the
    present token, one for a place whose token two before is the token before this one, and both propose the token found
    there (induction heads, Olsson et al. 2022, arXiv:2209.11895). Rotary positions make both possible: fast pairs tell
    neighbours apart, and slow pairs leave a match by content nearly untouched by distance.
    """
    config: Any = model.config  # transformers types its widths as optional
    width, size = config.hidden_size, config.head_dim
    half = size // 2
    apart = _directions(1 + 3 * half + 2 * size, width)  # at right angles, so that no head disturbs what another reads
    always, before, seen, copied = apart.split([1, 2 * half, half, 2 * size])
    embedding = model.model.embed_tokens.weight
    with torch.no_grad():
        kept_free = torch.cat([always, before])
        embedding -= embedding @ kept_free.T @ kept_free
        embedding += 4 * config.initializer_range * always
        embedding *= EMBEDDING_SCALE
        for layer in model.model.layers:  # what is not prepared starts quietly
            layer.self_attn.o_proj.weight *= 0.25
            layer.mlp.down_proj.weight *= 0.25
        first = model.model.layers[0].self_attn
        for head, distance in enumerate((1, 2)):
            rows = slice(head * size, (head + 1) * size)
            query, key = torch.zeros(size, width), torch.zeros(size, width)
            for pair in range(4):
                angle = torch.tensor(distance * config.rope_parameters["rope_theta"] ** (-pair / half))
                query[pair] = 1.8 * always[0]
                key[pair], key[pair + half] = 1.8 * torch.cos(angle) * always[0], 1.8 * torch.sin(angle) * always[0]
            first.q_proj.weight[rows], first.k_proj.weight[rows] = query, key
            first.v_proj.weight[rows.start : rows.start + half] = seen
            first.o_proj.weight[:, rows.start : rows.start + half] = 0.06 * before[head * half : (head + 1) * half].T
        # Two heads look up the token before this one and propose what stood one or two tokens before it there.
        second = model.model.layers[1].self_attn
        slow = [pair + side for side in (0, half) for pair in range(half // 2, half)]
        for head in range(2):
            start = (2 + head) * size
            places = [start + place for place in slow]
            second.q_proj.weight[places], second.k_proj.weight[places] = 2.5 * before[:half], 2.5 * seen
            second.v_proj.weight[start : start + half] = before[head * half : (head + 1) * half]
            second.o_proj.weight[:, start : start + half] = 0.03 * seen.T
        for layer in model.model.layers[1:3]:
            attention = layer.self_attn
            for head, (query, key) in enumerate(((seen, before[:half]), (before[:half], before[half:]))):
                start = head * size
                places = [start + place for place in slow]
                attention.q_proj.weight[places], attention.k_proj.weight[places] = 2.5 * query, 2.5 * key
                own = copied[start : start + size]
                attention.v_proj.weight[start : start + size] = own
                attention.o_proj.weight[:, start : start + size] = 0.12 * own.T


def train(tokenizer: Tokenizer, steps: int, out: Path, save_every: int = 0) -> LlamaForCausalLM:
    """Trains the model from scratch on the CPU in 32-bit floats; ``save_every`` steps it writes the weights so far."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(THREADS)  # sums depend on their number, and so do the bytes
    config = configuration(tokenizer)
    model = LlamaForCausalLM(config)
    prepare_embeddings(model, tokenizer)
    prepare_attention(model)
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    gains = [weight for weight in model.parameters() if weight.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": gains, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    started = time.monotonic()
    seen, losses = 0, 0.0
    for step, (ids, labels) in enumerate(
        itertools.islice(batches(tokenizer, int(tokenizer.token_to_id(PAD) or 0)), steps)
    ):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        learned = wanted != LABEL_NONE  # the vocabulary is scored only where something is learned
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), wanted[learned])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += ids.numel()
        losses += loss.item()
        if save_every and step % save_every == save_every - 1:
            write_model(model, out)
        if step % 100 == 99 or step == steps - 1:
            spent = time.monotonic() - started
            print(f"step {step + 1} loss {losses / (step % 100 + 1):.4f} tokens {seen} seconds {spent:.0f}", flush=True)
            losses = 0.0
    return model


def write_model(model: LlamaForCausalLM, out: Path) -> str:
    """Writes configuration and weights in bfloat16; returns the SHA-256 of the weights file."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }  # tied to the embeddings
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def write_configuration(config: LlamaConfig, out: Path) -> None:
    """Writes config.json and generation_config.json."""
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = "bfloat16"
    config.save_pretrained(out)
    _write_json(
        out / "generation_config.json",
        {
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_id,
            "pad_token_id": config.pad_token_id,
            "do_sample": False,
            "max_new_tokens": 128,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "resources" / "starter")
    parser.add_argument("--steps", type=int, default=11000)
    parser.add_argument("--save-every", type=int, default=0, help="write the weights so far every so many steps")
    parser.add_argument("--tokenizer-only", action="store_true")
    options = parser.parse_args()
    tokenizer = train_tokenizer()
    write_tokenizer(tokenizer, options.out)
    write_configuration(configuration(tokenizer), options.out)
    print(f"vocabulary {tokenizer.get_vocab_size()}", flush=True)
    if not options.tokenizer_only:
        print(write_model(train(tokenizer, options.steps, options.out, options.save_every), options.out))


if __name__ == "__main__":
    main()
