"""What is learned of a conversation, found by another way than the engine's; and conversations to try it on.

Each letter of what the model says is replaced by a letter of its own from Unicode's private planes. transformers
renders that, and each letter of the result tells where it came from. White space, quotes and ``<think>`` stay as they
are: a template looks at these. What ends a turn is not guessed but written down here, for each family.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

from engine.data.rows import Message, Row, ToolCall
from engine.data.template import ChatTemplate, Rendered, choose_template
from engine.data.tokenizer import TextTokenizer

R1 = (
    "｜User｜",
    "｜Assistant｜",
    "｜tool▁calls▁begin｜",
    "｜tool▁calls▁end｜",
    "｜tool▁call▁begin｜",
    "｜tool▁call▁end｜",
)
R1 = tuple(f"<{name}>" for name in (*R1, "｜tool▁sep｜", "｜tool▁outputs▁begin｜", "｜tool▁outputs▁end｜"))
R1_ENDS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
COHERE = ("START_OF_TURN_TOKEN", "USER_TOKEN", "CHATBOT_TOKEN", "SYSTEM_TOKEN", "END_OF_TURN_TOKEN")
COHERE = tuple(f"<|{name}|>" for name in (*COHERE, "START_RESPONSE", "END_RESPONSE", "START_ACTION", "END_ACTION"))


@dataclass(frozen=True)
class Family:
    """A template's own special tokens, written down by hand.

    Attributes:
        vocabulary: folder in ``tokenizers``.
        end: token that ends a turn.
        eos, bos: as the model's configuration declares them.
        special: tokens that this family adds to the vocabulary.
        nearest: the vocabulary is another family's: its own is not in the folder.
        head: token with which the next turn begins, where a turn may go without an end.
        lead: what the template writes before a call, where the prompt does not end just before it.
    """

    vocabulary: str
    end: str
    eos: str
    bos: str
    special: tuple[str, ...] = ()
    nearest: bool = False
    head: str = ""
    lead: str = ""


HERMES = Family("llama3", "<|im_end|>", "<|im_end|>", "<|begin_of_text|>", ("<|im_start|>", "<|im_end|>"))
LLAMA = Family("llama3", "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>")
COMMAND = Family(
    "llama3",
    "<|END_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<BOS_TOKEN>",
    ("<BOS_TOKEN>", *COHERE),
    nearest=True,
    head="<|START_OF_TURN_TOKEN|>",
)
R1_LLAMA = Family("llama3", R1_ENDS[1], R1_ENDS[1], R1_ENDS[0], (*R1_ENDS, *R1))
FAMILIES = {
    "CohereForAI-c4ai-command-r-plus-tool_use": replace(
        COMMAND, lead='\nAction:\n```json\n[\n    {\n        "tool_name": "'
    ),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": COMMAND,
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": HERMES,
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": HERMES,
    "Qwen-Qwen2.5-7B-Instruct": Family("qwen2", "<|im_end|>", "<|im_end|>", ""),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": R1_LLAMA,
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": replace(R1_LLAMA, vocabulary="qwen2"),
    "google-gemma-2-2b-it": Family(
        "phi-3-mini", "<end_of_turn>", "<eos>", "<bos>", ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), True
    ),
    "llama-cpp-deepseek-r1": R1_LLAMA,
    "meta-llama-Llama-3.1-8B-Instruct": LLAMA,
    "meta-llama-Llama-3.2-3B-Instruct": LLAMA,
    "meta-llama-Llama-3.3-70B-Instruct": LLAMA,
    "microsoft-Phi-3.5-mini-instruct": Family("phi-3-mini", "<|end|>", "<|endoftext|>", "<s>"),
    "mistralai-Mistral-Nemo-Instruct-2407": Family(
        "phi-3-mini",
        "</s>",
        "</s>",
        "<s>",
        ("[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]"),
        nearest=True,
        lead='[TOOL_CALLS][{"name": "',
    ),
}


def family_folder(shared: Path, name: str, folder: Path) -> Path:
    """A model's folder with the tokenizer of a template's family."""
    family = FAMILIES[name]
    tokenizer = Tokenizer.from_file(str(shared / "tokenizers" / family.vocabulary / "tokenizer.json"))
    # DeepSeek's own files call only the ends of a sentence special.
    tokenizer.add_tokens([AddedToken(t, special=t not in R1, normalized=False) for t in family.special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": family.eos}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config | ({"bos_token": family.bos} if family.bos else {}))
    )
    return folder


# -------------------------------------------------------------------------------------------------------- the truth
@dataclass(frozen=True)
class Truth:
    """A rendered text, and whether each of its characters is learned."""

    text: str
    learned: list[bool]


PRIVATE = re.compile("[\U000f0000-\U000ffffd\U00100000-\U0010fffd]")


class Letters:
    """Letters of the private planes, each for one letter of what the model says."""

    def __init__(self) -> None:
        self.codes = chain(range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
        self.origin: dict[str, tuple[int, str, str, int]] = {}
        self.done: dict[tuple[int, str], str] = {}

    def disguise(self, turn: int, value: Any) -> Any:
        """The value with each letter of its texts replaced, keys left as they are."""
        if isinstance(value, dict):
            return {key: self.disguise(turn, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.disguise(turn, item) for item in value]
        if not isinstance(value, str):
            return value
        if (turn, value) not in self.done:
            kept = {i for tag in ("<think>", "</think>") for at in _all(value, tag) for i in range(at, at + len(tag))}
            self.done[turn, value] = "".join(
                c if i in kept or _undisguised(c) else self._letter(turn, c, value, i) for i, c in enumerate(value)
            )
        return self.done[turn, value]

    def _letter(self, turn: int, letter: str, whole: str, place: int) -> str:
        own = chr(next(self.codes))
        self.origin[own] = (turn, letter, whole, place)
        return own


def _undisguised(letter: str) -> bool:
    """Whether a template, or JSON, looks at this letter."""
    return letter.isspace() or letter in '"\\' or ord(letter) < 32


def _all(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def truth(theirs: Any, template: ChatTemplate, family: Family, row: Row) -> Truth:
    """What transformers makes of the conversation as it is handed over, and what of it is learned."""
    messages, tools = template.handed(row.messages, tools=row.tools)
    learned = [m.learned for m in template._first_that_fits(row.messages, row.tools, False)[0].turns]
    letters = Letters()
    secret = [
        {
            key: value if key in ("role", "tool_call_id") else letters.disguise(i, _said(key, value))
            for key, value in m.items()
        }
        if m["role"] == "assistant"
        else m
        for i, m in enumerate(messages)
    ]
    for turn in secret:
        for call in turn.get("tool_calls", ()):
            call |= {"type": "function", "id": _plain(letters, call["id"])}

    def rendered(turns: list[dict[str, Any]], **options: Any) -> str:
        text = theirs.apply_chat_template(turns, tools=tools, chat_template=template.source, tokenize=False, **options)
        assert isinstance(text, str)
        return text

    text, seen = rendered(messages), rendered(secret)
    assert len(text) == len(seen)
    turns: dict[int, list[int]] = {}
    pieces: list[str] = []
    cursor = 0
    for found in PRIVATE.finditer(seen):
        turn, letter, _, _ = letters.origin[found.group()]
        turns.setdefault(turn, []).append(found.start())
        pieces += (seen[cursor : found.start()], letter)
        cursor = found.end()
    # What was disguised is as it was, and what was not was left alone.
    assert "".join((*pieces, seen[cursor:])) == text
    mask = [False] * len(text)
    for turn, places in turns.items():
        first, last = min(places), max(places) + 1
        start = _start(rendered, secret, turn, seen, first, letters, family)
        later = min((min(p) for t, p in turns.items() if t > turn), default=len(text))
        end, ended = _end(text, last, later, family)
        if turn == len(messages) - 1 and not ended:
            text, mask, end = text[:end] + family.eos, mask[:end] + [False] * len(family.eos), end + len(family.eos)
        if learned[turn]:
            mask[start:end] = [True] * (end - start)
    return Truth(text, mask)


def _said(key: str, value: Any) -> Any:
    return value if key != "tool_calls" else [{**call, "function": dict(call["function"])} for call in value]


def _plain(letters: Letters, text: str) -> str:
    return "".join(letters.origin[c][1] if c in letters.origin else c for c in text)


def _start(
    rendered: Any, secret: list[dict[str, Any]], turn: int, seen: str, first: int, letters: Letters, family: Family
) -> int:
    """Where an answer begins: after its prompt, or with what it says itself."""
    import jinja2

    try:
        prompt = rendered(secret[:turn], add_generation_prompt=True) if turn else ""
    except (jinja2.TemplateError, TypeError):
        prompt = ""
    if prompt and len(prompt) <= first and seen.startswith(prompt):
        return len(prompt)
    if "tool_calls" in secret[turn] and seen[:first].endswith(family.lead):
        return first - len(family.lead)
    _, _, whole, place = letters.origin[seen[first]]
    while place > 0 and _undisguised(whole[place - 1]) and seen[first - 1] == whole[place - 1]:
        first, place = first - 1, place - 1
    tag = "<think>"
    return first - len(tag) if whole[:place].endswith(tag) and seen[:first].endswith(tag) else first


def _end(text: str, last: int, later: int, family: Family) -> tuple[int, bool]:
    """(where an answer ends, whether its token ends it)."""
    at = text.find(family.end, last, later)
    head = text.find(family.head, last, later) if family.head else -1
    if at >= 0 and not 0 <= head < at:
        return at + len(family.end), True
    return len(text[: head if head >= 0 else later].rstrip()), False


def tokens(found: Truth, encoding: Encoding) -> list[bool]:
    """Whether each token of the text is learned: a token is where any of its characters is."""
    return [any(found.learned[a:b]) for a, b in encoding.offsets]


def shown(row: Row, rendered: Rendered) -> bool:
    """Whether each turn's words stand in the text as the row has them."""
    return all(m.content in rendered.text and m.reasoning in rendered.text for m in row.messages)


# ------------------------------------------------------------------------------------------------------- conversations
def real_rows(shared: Path) -> dict[str, list[Row]]:
    """All conversations of the real data sets, by file, read here and not by the engine."""
    folder = shared / "datasets"
    found: dict[str, list[Row]] = {}
    for path in sorted([*folder.rglob("*.json"), *folder.rglob("*.jsonl")]):
        if path.name in ("dataset_info.json", "v1_multimodal_demo.jsonl", "c4_demo.jsonl"):
            continue
        rows = [row for plain in _plain_rows(path) for row in _conversations(plain)]
        found[f"{path.parent.name}/{path.name}"] = [row for row in rows if _usable(row)]
    return found


def _usable(row: Row) -> bool:
    """Rows that the check sets aside before any template sees them."""
    return all(not m.is_empty for m in row.messages) and any(m.role == "assistant" for m in row.messages)


def _plain_rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    found = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    assert isinstance(found, list)
    return found


def _conversations(plain: dict[str, Any]) -> Iterator[Row]:
    if "instruction" in plain or "output" in plain:
        parts = (plain.get("instruction"), plain.get("input") or plain.get("context"))
        question = "\n".join(part for part in parts if part)
        yield _row(("user", question), ("assistant", plain.get("output") or plain.get("response") or ""))
    elif "question" in plain:
        yield _row(("user", plain["question"]), ("assistant", plain["answer"]))
    elif "chosen" in plain:
        for answer in (plain["chosen"], plain["rejected"]):
            yield _spoken([*plain["conversations"], answer], "")
    elif "conversations" in plain:
        yield _spoken(plain["conversations"], plain.get("tools", ""))
    else:
        for key in ("messages", "chosen_messages", "rejected_messages"):
            if key in plain:
                turns = [(m["role"], m["content"], m.get("loss_weight", 1.0) != 0) for m in plain[key]]
                yield Row(0, "", tuple(Message(role, _joined(content), on) for role, content, on in turns))


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["value"] for part in content)


def _row(*turns: tuple[str, str]) -> Row:
    return Row(0, "", tuple(Message(role, content) for role, content in turns))


ROLES = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool"}


def _spoken(turns: list[dict[str, str]], tools: str) -> Row:
    found: list[Message] = []
    for turn in turns:
        if turn["from"] == "function_call":
            call = json.loads(turn["value"])
            made = ToolCall(call["name"], json.dumps(call["arguments"], ensure_ascii=False))
            found.append(Message("assistant", "", calls=(made,)))
        else:
            found.append(Message(ROLES[turn["from"]], turn["value"]))
    return Row(0, "", tuple(found), tools=tools)


# ---------------------------------------------------------------------------------------------- conversations made up
WORDS = (
    "The sum is 12.",
    "你好！请问有什么可以帮您？",
    "Ça coûte 5 €, naïve café.",
    "🙂👩‍👩‍👧 fine 🇫🇷",
    "```py\nx = {'a': 1}\n```",
    "line one\n\nline two\n",
    "no\u00a0break and\ttab",
    'He said "yes" \\ no',
    "答案：四十二。\n因为六乘七。",
    "1. one\n2. two\n3. three",
    "e\u0301 combined",
    "{{ name }} {% raw %}",
)
EDGES = ("", "", "", " ", "\n", "\n\n", "  ", "\t")
TOOLS = [
    {
        "name": "get_weather",
        "description": "天气 / weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Where"}},
            "required": ["city"],
        },
    },
    {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number", "description": "A"}, "b": {"type": "number", "description": "B"}},
            "required": ["a", "b"],
        },
    },
]


def made_rows(count: int, seed: int = 3) -> list[Row]:
    """Conversations of every kind, always the same: system prompts, tools, reasoning, white space at the ends…"""
    rng = random.Random(seed)
    return [_made(rng) for _ in range(count)]


def _made(rng: random.Random) -> Row:
    turns: list[Message] = []
    if rng.random() < 0.3:
        turns.append(Message("system", _words(rng)))
    tools = rng.random() < 0.25
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        turns.append(Message("user", _words(rng)))
        if tools and rng.random() < 0.7:
            turns += _called(rng)
        turns.append(_answer(rng))
    if rng.random() < 0.03:
        turns.insert(rng.randrange(1, len(turns)), Message("system", _words(rng)))
    if rng.random() < 0.03:
        turns.insert(rng.randrange(len(turns)), Message("user", _words(rng)))
    return Row(0, "", tuple(turns), tools=json.dumps(TOOLS, ensure_ascii=False) if tools else "")


def _words(rng: random.Random) -> str:
    middle = " ".join(rng.choice(WORDS) for _ in range(rng.choice((1, 1, 2, 4))))
    return f"{rng.choice(EDGES)}{middle}{rng.choice(EDGES)}"


def _answer(rng: random.Random) -> Message:
    learned = rng.random() > 0.1
    kind = rng.random()
    if kind < 0.08:
        return Message("assistant", _words(rng), learned, reasoning=_words(rng))
    if kind < 0.16:
        return Message("assistant", f"<think>\n{_words(rng)}\n</think>\n\n{_words(rng)}", learned)
    return Message("assistant", _words(rng), learned)


def _called(rng: random.Random) -> list[Message]:
    names = [rng.choice(("get_weather", "add")) for _ in range(rng.choice((1, 1, 1, 2)))]
    calls = tuple(ToolCall(name, json.dumps(_arguments(rng, name), ensure_ascii=False)) for name in names)
    words = _words(rng) if rng.random() < 0.2 else ""
    results = [Message("tool", json.dumps({"result": rng.randrange(9)}), name=name) for name in names]
    return [Message("assistant", words, calls=calls), *results]


def _arguments(rng: random.Random, name: str) -> dict[str, Any]:
    return {"city": rng.choice(("Paris", "北京", 'a "b" \n c'))} if name == "get_weather" else {"a": 1, "b": 2.5}


# ---------------------------------------------------------------------------------------------------------- together
@dataclass(frozen=True)
class Model:
    """A template with a tokenizer of its family, ours and transformers'."""

    family: Family
    template: ChatTemplate
    ours: TextTokenizer
    theirs: Any


def load_model(shared: Path, name: str, folder: Path) -> Model:
    """A template and its family's tokenizer, in a folder of its own."""
    from transformers import PreTrainedTokenizerFast

    family_folder(shared, name, folder)
    ours = TextTokenizer.load(folder)
    template = choose_template(folder, str(shared / "templates" / f"{name}.jinja"), tokenizer=ours)
    return Model(FAMILIES[name], template, ours, PreTrainedTokenizerFast.from_pretrained(folder))
