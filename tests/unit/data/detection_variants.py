"""Real data sets with their columns renamed, shuffled, swapped, recast and joined by others, with the truth of each.

What a column holds is the truth, whatever it is called: where two names are exchanged, it goes with the contents.
Only the words chosen and rejected, good and bad are taken at their name, for nothing else says which is which.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.data.detect import Guess

Rows = list[dict[str, Any]]

# The same thing under the names of several shapes.
_SAME_ROLE = {
    "instruction": "question",
    "prompt": "question",
    "text": "question",
    "input": "context",
    "second": "context",
    "context": "context",
    "output": "answer",
    "completion": "answer",
    "messages": "turns",
}

REAL: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "llama-factory/alpaca_en_demo.json",
        "alpaca",
        {"instruction": "instruction", "input": "input", "output": "output"},
    ),
    (
        "llama-factory/alpaca_zh_demo.json",
        "alpaca",
        {"instruction": "instruction", "input": "input", "output": "output"},
    ),
    ("llama-factory/identity.json", "alpaca", {"instruction": "instruction", "input": "input", "output": "output"}),
    (
        "llama-factory/dpo_en_demo.json",
        "preference",
        {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"},
    ),
    ("llama-factory/kto_en_demo.json", "kto", {"messages": "messages", "label": "label"}),
    ("llama-factory/glaive_toolcall_en_demo.json", "sharegpt", {"messages": "conversations", "tools": "tools"}),
    ("llama-factory/v1_sft_demo.jsonl", "messages", {"messages": "messages"}),
    ("llama-factory/v1_dpo_demo.jsonl", "preference", {"chosen": "chosen_messages", "rejected": "rejected_messages"}),
    ("llama-factory/v1_multimodal_demo.jsonl", "messages", {"messages": "messages"}),
    ("llama-factory/c4_demo.jsonl", "text", {"text": "text"}),
    ("llama-factory/wiki_demo.txt", "text", {"text": "text"}),
    ("gsm8k/train.jsonl", "prompt_completion", {"prompt": "question", "completion": "answer"}),
    ("gsm8k/test.jsonl", "prompt_completion", {"prompt": "question", "completion": "answer"}),
    ("sms-spam/spam.csv", "classification", {"text": "masseges", "label": "label"}),
    ("litgpt/alpaca.json", "alpaca", {"instruction": "instruction", "input": "input", "output": "output"}),
    (
        "litgpt/dolly.json",
        "prompt_completion",
        {"prompt": "instruction", "context": "context", "completion": "response"},
    ),
    ("litgpt/longform_train.json", "prompt_completion", {"prompt": "input", "completion": "output"}),
    ("litgpt/longform_val.json", "prompt_completion", {"prompt": "input", "completion": "output"}),
    ("tiny_shakespeare.txt", "text", {"text": "text"}),
)
"""(file, its shape, role → column) of every data set in the folder."""


@dataclass(frozen=True)
class Variant:
    """A data set changed, and what is true of it.

    Attributes:
        source: the file it was made of.
        done: what was done to it, in order.
        rows: its records.
        columns: its columns, in order.
        shape: its true shape.
        mapping: its true mapping.
        blank: columns that hold nothing: mapped or not, they change nothing.
    """

    source: str
    done: tuple[str, ...]
    rows: Rows
    columns: tuple[str, ...]
    shape: str
    mapping: dict[str, str]
    blank: frozenset[str] = field(default=frozenset())

    def is_right(self, guess: Guess) -> bool:
        """Whether a guess makes the same rows: the same kind of shape, and each column in its role."""
        kind = _kind(self.shape)
        return _kind(guess.shape.name) == kind and self._roles(guess.mapping, kind) == self._roles(self.mapping, kind)

    def _roles(self, mapping: dict[str, str], kind: str) -> set[tuple[str, str]]:
        pairs = {(role, column) for role, column in mapping.items() if column not in self.blank}
        if kind != "conversation":
            return pairs
        return {("answer" if role == "label" else _SAME_ROLE.get(role, role), column) for role, column in pairs}


def _kind(shape: str) -> str:
    return "conversation" if shape in ("alpaca", "prompt_completion", "classification") else shape


def load(path: Path) -> Rows:
    """The records of one of the real files."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            return [{k: v for k, v in row.items() if k} for row in csv.DictReader(file)]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        return [{"text": line} for line in text.split("\n") if line.strip()]
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def unchanged(folder: Path) -> Iterator[Variant]:
    """Every real file as it is."""
    for name, shape, mapping in REAL:
        rows = load(folder / name)
        columns = tuple(dict.fromkeys(key for row in rows for key in row))
        yield _with_blanks(Variant(name, (), rows, columns, shape, mapping))


def variants(folder: Path, count: int, seed: int) -> Iterator[Variant]:
    """``count`` changed data sets, the same for the same seed; each real file has its turn."""
    chance = random.Random(seed)
    real = list(unchanged(folder))
    for number in range(count):
        base = real[number % len(real)]
        size = min(len(base.rows), chance.choice((8, 12, 30, 80, 200)))
        made = replace(base, rows=[dict(row) for row in chance.sample(base.rows, size)])
        changes = [chance.choice(_RECASTS)] if chance.random() < 0.5 else []
        changes += [_add_columns] if chance.random() < 0.4 else []
        changes += [chance.choice(_RENAMES)]
        changes += [_nest] if chance.random() < 0.1 else []
        for change in changes:
            made = change(made, chance)
        order = list(made.columns)
        chance.shuffle(order)
        rows = [{key: row[key] for key in order if key in row} for row in made.rows]
        yield _with_blanks(replace(made, rows=rows, columns=tuple(order)))


def _with_blanks(variant: Variant) -> Variant:
    def holds(path: str) -> bool:
        head, _, rest = path.partition(".")
        cells = (row.get(head) for row in variant.rows)
        if rest and path not in variant.columns:
            cells = (cell.get(rest) if isinstance(cell, dict) else None for cell in cells)
        return any(cell is not None and (not isinstance(cell, str) or cell.strip()) and cell != [] for cell in cells)

    names = {*variant.columns, *variant.mapping.values()}
    return replace(variant, blank=frozenset(name for name in names if not holds(name)))


# ------------------------------------------------------------------------------------------------------------ renaming
_USUAL: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "指令", "prompt", "question", "query", "问题"),
    "prompt": ("prompt", "question", "instruction", "query", "input", "问题", "提问"),
    "input": ("input", "context", "输入", "passage"),
    "context": ("context", "passage", "input", "上下文", "背景"),
    "output": ("output", "response", "answer", "输出", "回答", "completion"),
    "completion": ("completion", "answer", "response", "output", "回答", "答案", "reply"),
    "messages": ("messages", "conversations", "conversation", "chat", "dialogue", "对话"),
    "tools": ("tools", "functions", "工具"),
    "chosen": ("chosen", "chosen_response", "preferred", "response_chosen", "优选回答"),
    "rejected": ("rejected", "rejected_response", "dispreferred", "response_rejected", "劣选回答"),
    "label": ("label", "标签", "labels"),
    "text": ("text", "content", "文本", "document", "sentence", "内容"),
    "system": ("system", "system_prompt", "系统提示"),
}
_MARKED: tuple[str, ...] = ("kto_tag", "thumbs_up", "liked", "label", "is_good", "标签")
_FOREIGN = {
    "question": ("frage", "pregunta", "domanda", "質問"),
    "answer": ("antwort", "respuesta", "risposta", "답변"),
    "context": ("kontext", "contexto"),
}
_NONSENSE = ("col_a", "c1", "xq", "field7", "Spalte1", "F2", "blob", "列1", "字段二", "v", "zz9", "one", "two", "data3")
_DECORATIONS: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.title,
    lambda name: f" {name} ",
    lambda name: f"{name}_text",
    lambda name: f"my_{name}",
    lambda name: f"the-{name}",
    lambda name: f"{name} 1",
    lambda name: f"model{name[:1].upper()}{name[1:]}",
    lambda name: f"user.{name}",
    lambda name: f"{name}_zh",
    lambda name: f"原始{name}",
)


def _rename(variant: Variant, names: dict[str, str], told: str) -> Variant:
    """Old name → new name; names that would meet another column are left."""
    taken = set(variant.columns) - set(names)
    kept = {}
    for old, new in names.items():
        if new not in taken:
            kept[old] = new
            taken.add(new)
        else:
            taken.add(old)
    final = {name: kept.get(name, name) for name in variant.columns}
    if len(set(final.values())) < len(final):
        return variant
    return replace(
        variant,
        done=(*variant.done, told),
        rows=[{final[key]: value for key, value in row.items()} for row in variant.rows],
        columns=tuple(final[name] for name in variant.columns),
        mapping={role: final.get(column, column) for role, column in variant.mapping.items()},
    )


def _keep(variant: Variant, chance: random.Random) -> Variant:
    return variant


def _to_usual(variant: Variant, chance: random.Random) -> Variant:
    names = {}
    for role, column in variant.mapping.items():
        usual = _MARKED if role == "label" and variant.shape == "kto" else _USUAL[role]
        if role == "prompt" and variant.shape == "preference" and _is_list(variant, column):
            usual = _USUAL["messages"]
        names[column] = chance.choice(usual)
    return _rename(variant, names, "other usual names")


def _is_list(variant: Variant, column: str) -> bool:
    return any(isinstance(row.get(column), list) for row in variant.rows)


def _to_foreign(variant: Variant, chance: random.Random) -> Variant:
    names = {
        column: chance.choice(_FOREIGN[kind])
        for role, column in variant.mapping.items()
        if (kind := _SAME_ROLE.get(role, "")) in _FOREIGN and variant.shape != "text"
    }
    return _rename(variant, names, "another tongue")


def _to_nonsense(variant: Variant, chance: random.Random) -> Variant:
    columns = list(variant.mapping.values())
    some = columns if chance.random() < 0.5 else chance.sample(columns, chance.randint(1, len(columns)))
    names = dict(zip(some, chance.sample(_NONSENSE, len(some)), strict=True))
    return _rename(variant, names, "names that say nothing")


def _decorate(variant: Variant, chance: random.Random) -> Variant:
    how = chance.choice(_DECORATIONS)
    some = list(variant.mapping.values())
    if chance.random() < 0.4:
        some = chance.sample(some, chance.randint(1, len(some)))
    return _rename(variant, {name: how(name) for name in some}, "prefixes, suffixes, upper case")


def _swap(variant: Variant, chance: random.Random) -> Variant:
    """Two names change places; chosen and rejected never do, for nothing but their names tells them apart."""
    roles = [role for role in variant.mapping if role != "rejected"]
    if len(roles) < 2:
        return _to_nonsense(variant, chance)
    one, other = chance.sample(roles, 2)
    a, b = variant.mapping[one], variant.mapping[other]
    return _rename(variant, {a: b, b: a}, "two names swapped")


def _swap_usual(variant: Variant, chance: random.Random) -> Variant:
    return _swap(_to_usual(variant, chance), chance)


_MISLEADING = (
    *("id", "title", "source", "score", "rating", "label", "text", "system", "history", "tools", "context", "input"),
    *("question", "answer", "prompt", "messages", "conversations", "category", "type", "name", "quality", "output"),
)


def _mislead(variant: Variant, chance: random.Random) -> Variant:
    """One or two columns under names that mean something else."""
    columns = list(variant.mapping.values())
    if variant.shape == "preference":
        # Nothing but their names tells the better from the worse.
        columns = [c for role, c in variant.mapping.items() if role not in ("chosen", "rejected")] or columns[:1]
    some = chance.sample(columns, min(len(columns), chance.randint(1, 2)))
    return _rename(variant, dict(zip(some, chance.sample(_MISLEADING, len(some)), strict=True)), "misleading names")


_RENAMES = (
    _mislead,
    _keep,
    _to_usual,
    _to_usual,
    _to_foreign,
    _to_nonsense,
    _to_nonsense,
    _decorate,
    _swap,
    _swap_usual,
)


# ------------------------------------------------------------------------------------------------------ more columns
_WORDS = (
    "river stone cloud green winter table music silver garden window letter summer bread yellow train north".split()
)


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=chance.randint(5, 20))).capitalize() + "."


_EXTRA: tuple[tuple[str, Callable[[random.Random, int], Any]], ...] = (
    ("id", lambda chance, i: f"row-{i:05d}"),
    ("uuid", lambda chance, i: f"{chance.getrandbits(64):016x}"),
    ("url", lambda chance, i: f"https://example.org/{i}"),
    ("score", lambda chance, i: round(chance.random(), 3)),
    ("lang", lambda chance, i: chance.choice(("en", "zh"))),
    ("category", lambda chance, i: chance.choice(("open_qa", "closed_qa", "summarization", "creative_writing"))),
    ("date", lambda chance, i: f"2024-0{chance.randint(1, 9)}-1{chance.randint(0, 9)}"),
    ("source", lambda chance, i: chance.choice(("web", "book", "forum"))),
    ("title", lambda chance, i: _sentence(chance)),
    ("prompt_id", lambda chance, i: f"{chance.getrandbits(40):010x}"),
    ("num_tokens", lambda chance, i: chance.randint(3, 900)),
    ("xx_17", lambda chance, i: chance.randint(0, 10**6)),
    ("mystery", lambda chance, i: _sentence(chance)),
    ("b2", lambda chance, i: chance.random() < 0.5),
    ("system", lambda chance, i: "You are a helpful assistant."),
    ("bucket", lambda chance, i: chance.choice(("A", "B", "C"))),
    ("empty", lambda chance, i: ""),
)


def _add_columns(variant: Variant, chance: random.Random) -> Variant:
    extra = [item for item in chance.sample(_EXTRA, chance.randint(1, 3)) if item[0] not in variant.columns]
    if variant.shape in ("text", "classification"):
        # A second text or label of an unknown kind would leave no truth to find.
        extra = [item for item in extra if item[0] not in ("system", "mystery", "b2", "bucket", "title")]
    mapping = dict(variant.mapping)
    rows = [dict(row) for row in variant.rows]
    for name, make in extra:
        for place, row in enumerate(rows):
            row[name] = make(chance, place)
        if name == "system":
            mapping["system"] = "system"
    names = tuple(name for name, _ in extra)
    told = f"with {', '.join(names) or 'nothing'}"
    return replace(variant, done=(*variant.done, told), rows=rows, columns=(*variant.columns, *names), mapping=mapping)


# ------------------------------------------------------------------------------------------------------------- recasts
def _as_csv(variant: Variant, chance: random.Random) -> Variant:
    """Every cell as text, as a CSV file would hold it: lists as JSON or as Python prints them."""
    write = chance.choice((lambda value: json.dumps(value, ensure_ascii=False), str))

    def cell(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        return write(value) if isinstance(value, list | dict) else str(value)

    rows = [{key: cell(value) for key, value in row.items()} for row in variant.rows]
    return replace(variant, done=(*variant.done, "every cell as text"), rows=rows)


def _nulls(variant: Variant, chance: random.Random) -> Variant:
    """Empty texts as null, or the column left out where it is empty."""
    gone = chance.random() < 0.5
    rows = [
        {key: (None if value == "" else value) for key, value in row.items() if value != "" or not gone}
        for row in variant.rows
    ]
    return replace(variant, done=(*variant.done, "nulls"), rows=rows)


def _marks(variant: Variant, chance: random.Random) -> Variant:
    """Marks as numbers or words; labels as numbers."""
    if "label" not in variant.mapping:
        return _nulls(variant, chance)
    column = variant.mapping["label"]
    if variant.shape == "kto":
        good, bad = chance.choice(((1, 0), ("true", "false"), ("yes", "no"), (1.0, 0.0), ("good", "bad"), ("1", "0")))
        table: dict[Any, Any] = {True: good, False: bad}
    else:
        table = {"ham": 0, "spam": 1}
    rows = [{**row, column: table.get(row[column], row[column])} for row in variant.rows]
    return replace(variant, done=(*variant.done, "marks recast"), rows=rows)


def _dialect(variant: Variant, chance: random.Random) -> Variant:
    """Turns in the other dialect: role and content for from and value, and the other way round."""
    if variant.shape not in ("messages", "sharegpt"):
        return _as_turns(variant, chance)
    column = variant.mapping["messages"]
    to_role = variant.shape == "sharegpt"
    who = {"human": "user", "gpt": "assistant", "user": "human", "assistant": "gpt", "observation": "tool"}

    def item(turn: dict[str, Any]) -> dict[str, Any]:
        if to_role:
            return {"role": who.get(turn["from"], turn["from"]), "content": turn["value"]}
        return {"from": who.get(turn["role"], turn["role"]), "value": turn["content"]}

    rows = [{**row, column: [item(turn) for turn in row[column]]} for row in variant.rows]
    shape = "messages" if to_role else "sharegpt"
    return replace(variant, done=(*variant.done, "other dialect"), rows=rows, shape=shape)


def _as_turns(variant: Variant, chance: random.Random) -> Variant:
    """Questions and answers as lists of turns: whole conversations, or a list on each side."""
    if variant.shape not in ("alpaca", "prompt_completion"):
        return _as_csv(variant, chance)
    roles = {_SAME_ROLE[role]: column for role, column in variant.mapping.items()}

    def said(row: dict[str, Any], kind: str, speaker: str) -> dict[str, str]:
        return {"role": speaker, "content": str(row.get(roles.get(kind, ""), "") or "")}

    whole = chance.random() < 0.6
    rows: Rows = []
    for row in variant.rows:
        asked, answered = said(row, "question", "user"), said(row, "answer", "assistant")
        rows.append({"messages": [asked, answered]} if whole else {"prompt": [asked], "completion": [answered]})
    if whole:
        return replace(
            variant,
            done=(*variant.done, "as conversations"),
            rows=rows,
            columns=("messages",),
            shape="messages",
            mapping={"messages": "messages"},
        )
    return replace(
        variant,
        done=(*variant.done, "a list on each side"),
        rows=rows,
        columns=("prompt", "completion"),
        shape="prompt_completion",
        mapping={"prompt": "prompt", "completion": "completion"},
    )


def _as_text_sides(variant: Variant, chance: random.Random) -> Variant:
    """Conversations of one exchange as prompt and completion; preferences as three texts; marks kept."""
    if variant.shape == "preference" and "prompt" in variant.mapping:
        rows = [
            {"prompt": row["conversations"][-1]["value"], **{k: row[k]["value"] for k in ("chosen", "rejected")}}
            for row in variant.rows
        ]
        mapping = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
        return replace(
            variant, done=(*variant.done, "as three texts"), rows=rows, columns=tuple(mapping), mapping=mapping
        )
    if variant.shape in ("kto", "messages") and variant.source != "llama-factory/v1_multimodal_demo.jsonl":
        rows = [_exchange(row) for row in variant.rows]
        mapping = {"prompt": "prompt", "completion": "completion"}
        if variant.shape == "kto":
            mapping["label"] = "label"
        shape = "kto" if variant.shape == "kto" else "prompt_completion"
        return replace(
            variant,
            done=(*variant.done, "as prompt and completion"),
            rows=rows,
            columns=tuple(mapping),
            shape=shape,
            mapping=mapping,
        )
    return _nulls(variant, chance)


def _exchange(row: dict[str, Any]) -> dict[str, Any]:
    asked, answered = row["messages"][-2:]
    made = {"prompt": _said(asked["content"]), "completion": _said(answered["content"])}
    return made | ({"label": row["label"]} if "label" in row else {})


def _said(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["value"] for part in content)


def _several_answers(variant: Variant, chance: random.Random) -> Variant:
    if variant.shape != "prompt_completion":
        return _nulls(variant, chance)
    column = variant.mapping["completion"]
    rows = [{**row, column: [row[column], chance.choice(variant.rows)[column]]} for row in variant.rows]
    return replace(variant, done=(*variant.done, "several answers"), rows=rows)


def _without_input(variant: Variant, chance: random.Random) -> Variant:
    about = next((role for role in ("input", "context") if role in variant.mapping), None)
    if about is None:
        return _as_csv(variant, chance)
    gone = variant.mapping[about]
    return replace(
        variant,
        done=(*variant.done, "without context"),
        rows=[{key: value for key, value in row.items() if key != gone} for row in variant.rows],
        columns=tuple(name for name in variant.columns if name != gone),
        mapping={role: column for role, column in variant.mapping.items() if role != about},
    )


def _context_always(variant: Variant, chance: random.Random) -> Variant:
    """Only rows that have a context: nothing but names and wording tells it from the question then."""
    about = next((role for role in ("input", "context") if role in variant.mapping), None)
    rows = [row for row in variant.rows if about is not None and row.get(variant.mapping[about])]
    if len(rows) < 5:
        return _as_csv(variant, chance)
    return replace(variant, done=(*variant.done, "context in every row"), rows=rows)


_RECASTS = (
    _as_csv,
    _nulls,
    _marks,
    _marks,
    _dialect,
    _as_turns,
    _as_text_sides,
    _as_text_sides,
    _several_answers,
    _without_input,
    _context_always,
)


def _nest(variant: Variant, chance: random.Random) -> Variant:
    """Everything in an object of one column."""
    head = chance.choice(("data", "row", "json", "example"))
    rows = [{head: row} for row in variant.rows]
    mapping = {role: f"{head}.{column}" for role, column in variant.mapping.items()}
    return replace(variant, done=(*variant.done, "nested"), rows=rows, columns=(head,), mapping=mapping)
