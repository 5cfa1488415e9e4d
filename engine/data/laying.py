"""A shape laid upon the columns of a file: which column takes which role, told by what, and how well it fits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.data import names
from engine.data.columns import Column, asking
from engine.data.declare import BadRow, Role, Shape
from engine.data.rows import ASSISTANT, USER
from engine.data.shapes.turns import as_turns

FEWEST = 5
"""Rows below which nothing is sure."""
# How a role came to its column: the user's word, a usual name, a name that tells, contents, nothing but its place.
TOLD, USUAL, NAMED, CONTENT, PLACE = 3, 2, 1, 0, -1
_WEIGHT = {TOLD: 1.0, USUAL: 1.0, NAMED: 0.8, CONTENT: 0.5, PLACE: 0.2}
# Where several shapes fit, the one that uses more of what the file holds.
_SPECIAL = {
    **{"preference": 0.3, "kto": 0.25, "messages": 0.2, "sharegpt": 0.2},
    **{"alpaca": 0.11, "prompt_completion": 0.1, "classification": 0.05},
}
_UNUSED = 0.3
# A mean difference in `asking` that tells question from answer, after 2.5 standard errors.
TELLING = 0.3
_MEANINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("*", "prompt"): (names.QUESTION, names.INPUT),
    ("*", "instruction"): (names.QUESTION, names.INPUT),
    ("*", "input"): (names.CONTEXT, names.INPUT),
    ("*", "context"): (names.CONTEXT, names.INPUT),
    ("*", "output"): (names.ANSWER,),
    ("*", "completion"): (names.ANSWER,),
    ("*", "messages"): (names.TURNS,),
    ("*", "chosen"): (names.CHOSEN,),
    ("*", "rejected"): (names.REJECTED,),
    ("*", "label"): (names.LABEL,),
    ("*", "second"): (names.SECOND,),
    ("*", "text"): (names.TEXT,),
    ("*", "system"): (names.SYSTEM,),
    ("*", "tools"): (names.TOOLS,),
    ("*", "history"): (names.HISTORY,),
    ("messages", "messages"): (names.TURNS, names.HISTORY),
    ("preference", "prompt"): (names.QUESTION, names.INPUT, names.TURNS),
    ("kto", "label"): (names.LIKED, names.LABEL),
    ("prompt_completion", "prompt"): (names.QUESTION, names.INPUT, names.TURNS, names.TEXT),
    ("kto", "prompt"): (names.QUESTION, names.INPUT, names.TURNS),
    ("classification", "text"): (names.TEXT, names.QUESTION),
}
"""(shape or any, role) → what the name of its column may mean."""
_OPEN_KINDS = ("text", "turns", "strings", "pairs")
TEXT_SHAPES = ("alpaca", "prompt_completion", "classification", "text")


@dataclass(slots=True)
class Try:
    """A shape laid upon the columns."""

    shape: Shape
    columns: dict[str, Column]
    levels: dict[str, int]
    fit: float = 0.0
    clean: float = 0.0
    score: float = 0.0
    unused: list[Column] = field(default_factory=list)

    @property
    def mapping(self) -> dict[str, str]:
        return {role.name: self.columns[role.name].name for role in self.shape.roles if role.name in self.columns}

    @property
    def core(self) -> dict[str, int]:
        """Levels of what is learned and of what it answers to."""
        roles = {role.name for role in self.shape.roles if role.required or role.holds != "column"}
        roles |= {"messages", "prompt", "completion"}
        return {name: level for name, level in self.levels.items() if name in roles}


@dataclass(frozen=True, slots=True)
class View:
    """What all tries look at."""

    sample: Sequence[Mapping[str, Any]]
    columns: Sequence[Column]
    wished: Mapping[str, str]
    left_out: frozenset[str]
    words: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Role that names no column (`engine.data.dialect`) → (key or word, how it was told)."""
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Such a role → all that it may be."""


def lay(shape: Shape, view: View) -> Try | None:
    """The shape laid upon the columns, None where what it needs is not there."""
    found = Try(shape, {}, {})
    by_name = {column.name: column for column in view.columns}
    for wish, name in view.wished.items():
        found.columns[wish] = by_name.get(name) or Column(name, ())
        found.levels[wish] = TOLD
    for role in shape.roles:
        if role.name in view.words:
            word, found.levels[role.name] = view.words[role.name]
            found.columns[role.name] = Column(word, ())
    open_roles = (role for role in shape.roles if role.holds == "column" and role.name not in view.left_out)
    roles = [role for role in open_roles if role.name not in view.wished]
    for level in (USUAL, NAMED):
        for role in roles:
            if role.name not in found.columns and _is_open(role, found):
                _by_name(role, level, found, view)
    _by_contents(roles, found, view)
    prompt = found.columns.get("prompt")
    if (
        shape.kind == "preference"
        and found.levels.get("input", TOLD) != TOLD
        and (prompt is None or prompt.kind == "turns")
    ):
        # An input is put to a question in text; turns bring all there is.
        del found.columns["input"], found.levels["input"]
    _by_place(roles, found, view)
    if any(role.required and role.name not in found.columns for role in shape.roles) or not _is_whole(found):
        return None
    _weigh(found, view)
    return found


def _is_open(role: Role, found: Try) -> bool:
    """Whether a role is still to be filled: in KTO, turns stand in the place of question and answer."""
    turns = found.columns.get("messages")
    if found.shape.kind != "kto" or turns is None:
        return True
    return role.name not in ("prompt", "input") and (role.name != "completion" or turns.ends_open > 0.5)


def _is_whole(found: Try) -> bool:
    """Whether the roles that are there suffice, where a shape can be filled in several ways."""
    has = found.columns
    if found.shape.kind == "kto":
        return "messages" in has or "completion" in has
    if found.shape.kind == "preference":
        return "prompt" in has or any(asking_first(has[name]) for name in ("chosen", "rejected"))
    return True


def asking_first(column: Column) -> bool:
    """Whether a column of answers brings the questions too: whole conversations, as lists or as HH-RLHF's text."""
    if column.kind == "turns":
        return any(len(listed) > 1 for listed in column.turn_lists)
    return any(text.startswith("\n\nHuman:") for text in column.texts) or not column.present or not column.values


def _by_name(role: Role, level: int, found: Try, view: View) -> None:
    free = [column for column in view.columns if column not in found.columns.values()]
    if level == USUAL:
        named = {names.plain(name): place for place, name in reversed(list(enumerate(role.columns)))}
        fitting = [column for column in free if names.plain(column.name) in named and "." not in column.name]
        fitting.sort(key=lambda column: named[names.plain(column.name)])
    else:
        meant = _MEANINGS.get((found.shape.name, role.name)) or _MEANINGS["*", role.name]
        fitting = [column for column in free if column.meaning in meant or names.plain(column.name) in role.columns]
        # What was said before is the whole of it only where it holds something.
        fitting = [c for c in fitting if role.name != "messages" or c.meaning != names.HISTORY or c.present]
        fitting.sort(key=lambda column: meant.index(column.meaning) if column.meaning in meant else len(meant))
    chosen = next((column for column in fitting if _suits(role, column, found)), None)
    if chosen is not None:
        found.columns[role.name], found.levels[role.name] = chosen, level


# Role → kinds of value that it can hold.
_HOLDS: dict[str, tuple[str, ...]] = {
    "messages": ("turns", "strings", "pairs"),
    "tools": ("tools", "strings", "list", "object"),
    "history": ("pairs", "turns", "list"),
    "chosen": ("text", "turns", "number"),
    "rejected": ("text", "turns", "number"),
    "prompt": ("text", "turns"),
    "completion": ("text", "strings", "number", "bool", "turns"),
    "output": ("text", "strings", "number", "bool"),
    "system": ("text",),
    "label": ("text", "number", "bool"),
}


def _suits(role: Role, column: Column, found: Try) -> bool:
    """Whether a column holds what a role needs. One that holds nothing suits every role that its name tells."""
    if not column.present:
        return True
    if column.share(*_HOLDS.get(role.name, ("text", "number"))) < 0.5:
        return False
    match role.name:
        case "messages":
            if column.kind != "turns":
                return found.shape.name == "messages" and column.is_spoken
            return column.flavour == {"sharegpt": "from", "messages": "role"}.get(found.shape.name, column.flavour)
        case "label":
            return column.is_mark if found.shape.kind == "kto" else _is_label(column)
        case "completion":
            return column.kind != "turns" or column.begins_open >= 0.5
        case "prompt":
            whole = column.meaning == names.TURNS and column.ends_open < 0.5
            return found.shape.kind == "preference" or not whole
        case "system":
            return not column.is_mark
        case "text":
            return not (column.is_few and column.distinct * 4 <= len(column.texts) and column.mean_length < 20)
    return True


def _is_label(column: Column) -> bool:
    if column.share("text", "number", "bool") < 0.9:
        return False
    short = max(map(len, column.texts)) <= 60 and max(len(text.split()) for text in column.texts) <= 5
    return column.is_few or (short and (len(column.texts) < 4 * FEWEST or column.distinct * 3 <= len(column.texts)))


def _by_contents(roles: Sequence[Role], found: Try, view: View) -> None:
    """Fill roles from columns whose names say nothing and whose contents tell."""
    free = [c for c in view.columns if c.meaning is None and c.present and c not in found.columns.values()]
    missing = [role.name for role in roles if role.name not in found.columns]

    def put(role: str, column: Column) -> None:
        found.columns[role], found.levels[role] = column, CONTENT
        free.remove(column)

    if found.shape.kind == "preference":
        _pair_by_contents(missing, free, found, put)
    if "messages" in missing and not found.columns.keys() & {"prompt", "completion"}:
        for column in _told_turns(found.shape, free)[:1]:
            put("messages", column)
    if "tools" in missing and "messages" in found.columns:
        listed = next((c for c in free if c.share("tools") >= 0.9), None)
        if listed is not None:
            put("tools", listed)
    if "label" in missing and found.shape.kind == "kto":
        marks = [c for c in free if c.varies]
        if marks and _is_whole(found):
            put("label", marks[0])
    elif "label" in missing and found.shape.name == "classification":
        few = [c for c in free if c.is_few and c.distinct > 1]
        if few:
            put("label", few[0])
    if found.shape.name in TEXT_SHAPES:
        _texts_by_contents(missing, [c for c in free if _is_side(c)], found, put)


def _told_turns(shape: Shape, free: Sequence[Column]) -> list[Column]:
    """Columns that hold whole conversations in the shape's dialect."""
    flavour = {"sharegpt": "from", "messages": "role"}.get(shape.name)
    turns = [c for c in free if c.share("turns") >= 0.9 and flavour in (None, c.flavour) and not c.is_single]
    return turns + [c for c in free if shape.name == "messages" and c.is_spoken and c.says_sentences]


def _pair_by_contents(missing: list[str], free: list[Column], found: Try, put: Any) -> None:
    """Two columns of turns that begin alike and end differently are a pair; which is better, contents cannot say."""
    known = [name for name in ("chosen", "rejected") if name in found.columns]
    if len(known) == 1 and len(missing) and set(missing) & {"chosen", "rejected"}:
        one = found.columns[known[0]]
        alike = [
            c for c in free if c.kind == one.kind and (c.is_rich or (one.is_single, 0.0) == (c.is_single, c.ends_open))
        ]
        if len(alike) == 1:
            put("rejected" if known == ["chosen"] else "chosen", alike[0])
    elif not known:
        turns = [c for c in free if c.kind == "turns" and c.turn_lists and c.ends_open < 0.1]
        if len(turns) == 2 and _begin_alike(*turns):
            put("chosen", turns[0])
            put("rejected", turns[1])
    if "prompt" in missing and {"chosen", "rejected"} <= found.columns.keys():
        asked = [c for c in free if c.kind == "turns" or c.is_rich]
        if len(asked) == 1 and not all(asking_first(found.columns[name]) for name in ("chosen", "rejected")):
            put("prompt", asked[0])


def _begin_alike(one: Column, other: Column) -> bool:
    if len(one.values) != len(other.values):
        return False
    pairs = [(as_turns(a), as_turns(b)) for a, b in zip(one.values, other.values, strict=True)]
    alike = sum(a is not None and b is not None and (len(a) == len(b) == 1 or a[0] == b[0]) for a, b in pairs)
    return bool(alike > 0.8 * len(pairs))


def _is_side(column: Column) -> bool:
    """Whether a column may be one side of an exchange: texts, or turns that are not whole conversations."""
    if column.kind == "turns":
        return column.begins_open > 0.9 or column.ends_open > 0.5
    return column.is_rich or column.kind == "strings"


def _texts_by_contents(missing: list[str], free: list[Column], found: Try, put: Any) -> None:
    """Question, answer and context among columns whose names say nothing: by who asks, by what is seldom filled."""
    if found.shape.name in ("classification", "text"):
        texts = sorted((c for c in free if c.kind == "text"), key=lambda c: -c.mean_length)
        if "text" in missing and texts:
            put("text", texts[0])
        return
    asked, about, answered = (
        ("instruction", "input", "output") if found.shape.name == "alpaca" else ("prompt", "context", "completion")
    )
    known = sum(role in found.columns for role in (asked, answered))
    if found.shape.name == "alpaca" and known < 2 and not (about in found.columns and answered in found.columns):
        return
    seldom = [c for c in free if c.filled < 0.9 and c.kind == "text"]
    if about in missing and len(free) + known == 3 and (len(seldom) == 1 or known == 2):
        rest = seldom or [c for c in free if c.filled < 1 and c.kind == "text"]
        if rest:
            put(about, rest[0])
            free = [c for c in free if c is not rest[0]]
    texts = [c for c in free if c.kind != "strings" and not c.begins_open > 0.5]
    if asked in missing and answered in missing and len(free) >= 2 and texts:
        by_asking = sorted(texts, key=lambda c: -_mean_asking(c))
        by_asking += [c for c in free if c not in texts]
        tells = difference(by_asking[0], by_asking[-1])[0] > TELLING
        put(asked, by_asking[0] if tells else texts[0])
        put(answered, by_asking[-1] if tells else next(c for c in reversed(free) if c is not found.columns[asked]))
    elif asked in missing and texts:
        put(asked, max(texts, key=_mean_asking))
    elif answered in missing and free:
        put(answered, min(free, key=_mean_asking))
    rest = [c for c in free if c not in found.columns.values() and c.kind == "text"]
    if about in missing and about not in found.columns and len(rest) == 1 and known == 0:
        put(about, rest[0])


def _by_place(roles: Sequence[Role], found: Try, view: View) -> None:
    """The last resort: what columns hold, though their names say otherwise; question and answer by their order."""
    missing = [role.name for role in roles if role.name not in found.columns]
    free = [c for c in view.columns if c.present and c not in found.columns.values()]
    free.sort(key=lambda c: c.meaning == names.ASIDE or c.is_code)

    def put(role: str, fitting: Sequence[Column]) -> None:
        column = next((c for c in fitting if c in free), None)
        if role in missing and column is not None:
            found.columns[role], found.levels[role] = column, PLACE
            free.remove(column)

    shape = found.shape
    if shape.name in ("messages", "sharegpt") or (shape.kind == "kto" and "completion" not in found.columns):
        named = (names.CHOSEN, names.REJECTED)
        put("messages", [c for c in _told_turns(shape, free) if c.meaning not in named])
        put("tools", [c for c in free if c.share("tools") >= 0.9 and c.kind == "tools"])
    if shape.kind == "kto" and _is_whole(found):
        put("label", [c for c in free if c.varies and c.meaning != names.ASIDE])
    elif shape.name == "classification":
        put("label", [c for c in free if c.is_few and c.distinct > 1 and c.meaning != names.ASIDE])
    if shape.name in ("classification", "text"):
        put("text", sorted((c for c in free if c.kind == "text"), key=lambda c: (not c.is_rich, -c.mean_length)))
    if shape.name == "prompt_completion":
        short = {"prompt", "completion"} & set(missing) and not any(c.kind in _OPEN_KINDS for c in free)
        if short and found.levels.get("context", TOLD) != TOLD:
            free.append(found.columns.pop("context"))
            del found.levels["context"]
        put("prompt", [c for c in free if c.kind == "text" or (c.kind == "turns" and c.ends_open > 0.5)])
        put("completion", [c for c in free if c.kind in ("text", "strings") or c.begins_open > 0.5])


def _weigh(found: Try, view: View) -> None:
    """Convert the sample, and say how much of what the file holds is used."""
    reasons = [_outcome(found.shape, record, found.mapping) for record in view.sample]
    count = max(1, len(reasons))
    found.fit = sum(reason != "bad_row" for reason in reasons) / count
    # Pictures and equal pairs say nothing against the shape; empty and missing answers do.
    found.clean = sum(reason in ("", "multimodal", "same_answers", "compares_calls") for reason in reasons) / count
    found.unused = [c for c in view.columns if c not in found.columns.values() and _matters(c, found, view)]
    core = found.core
    named = sum(_WEIGHT[level] for level in core.values()) / max(1, len(core))
    turns = found.columns.get("messages")
    open_ended = turns is not None and "completion" not in found.columns and turns.ends_open > 0.5
    found.score = (
        named * (found.fit + found.clean) / 2
        + (
            _SPECIAL["prompt_completion"] - 0.01
            if _is_alpaca_in_disguise(found)
            else _SPECIAL.get(found.shape.name, 0.0)
        )
        - _UNUSED * sum(column.filled for column in found.unused)
        - (0.5 if open_ended else 0.0)
    )


def _is_alpaca_in_disguise(found: Try) -> bool:
    """Whether Alpaca was laid upon a question and an answer that nobody calls an instruction."""
    if found.shape.name != "alpaca" or found.levels["instruction"] == TOLD:
        return False
    name = names.plain(found.columns["instruction"].name)
    return "instruction" not in name and "指令" not in name


def _outcome(shape: Shape, record: Mapping[str, Any], mapping: Mapping[str, str]) -> str:
    """ "" for a row that can be used, else the reason why it cannot."""
    try:
        shape.convert(record, mapping)
    except BadRow as bad:
        return bad.reason
    return ""


def _matters(column: Column, found: Try, view: View) -> bool:
    """Whether a column that is not used holds what may have to be learned."""
    if not column.present or (column.meaning == names.ASIDE and column.kind != "turns"):
        return False
    is_mark = column.meaning in (names.LABEL, names.LIKED) and column.kind != "turns"
    if is_mark and found.shape.kind in ("conversation", "text"):
        return found.shape.name != "classification" and (
            column.is_mark or column.is_prose or found.shape.name == "text"
        )
    if column.varies and found.shape.kind != "kto" and found.shape.name not in ("classification", "text"):
        return True
    if column.is_few and column.distinct > 1 and found.shape.name == "text":
        return True
    if column.meaning is None and column.kind == "text" and column.is_prose:
        return not is_explained(column, found, view)
    if column.kind not in _OPEN_KINDS or not (column.is_rich or column.kind != "text"):
        return False
    return not is_explained(column, found, view)


def is_explained(column: Column, found: Try, view: View) -> bool:
    """Whether an unused column only repeats what the used ones hold: the turns' words, or all of them rendered."""
    used = list(found.columns.values())
    listed = any(c.kind == "turns" for c in used)
    repeated = looked = 0
    for place, value in itertools.islice(enumerate(column.values), 50):
        if value is None:
            continue
        looked += 1
        told = _flat(value)
        others = [_flat(c.values[place]) for c in used if place < len(c.values) and c.values[place] is not None]
        if listed:
            repeated += any(told in other or (len(other) > 20 and other in told) for other in others)
        else:
            repeated += bool(others) and all(other in told for other in others)
    return looked >= 3 and repeated > 0.8 * looked


def _flat(value: Any) -> str:
    listed = as_turns(value)
    if listed is None:
        return value.strip() if isinstance(value, str) else str(value)
    said = (item.get("content", item.get("value", "")) if isinstance(item, Mapping) else "" for item in listed)
    return "\n".join(text.strip() if isinstance(text, str) else str(text) for text in said)


def _mean_asking(column: Column) -> float:
    texts = [text for text in column.texts if text]
    return sum(map(asking, texts)) / max(1, len(texts))


def difference(one: Column, other: Column) -> tuple[float, float]:
    """(lower, upper) bound of how much more ``one`` asks than ``other`` does, row by row, 2.5 standard errors wide."""
    pairs = zip(one.values, other.values, strict=False)
    each = [asking(_last(a)) - asking(_last(b)) for a, b in pairs if a is not None and b is not None]
    if not each:
        return -2.0, 2.0
    mean = sum(each) / len(each)
    spread = max(0.5, (sum((x - mean) ** 2 for x in each) / len(each)) ** 0.5)
    error = 2.5 * spread / len(each) ** 0.5
    return mean - error, mean + error


def taking_turns(column: Column) -> tuple[float, float]:
    """`difference` of what the user says to the answers, in lists of texts or pairs that name no speakers."""
    asked, answered = (
        tuple(next((m.content for m in listed if m.role == role), None) for listed in column.spoken_lists)
        for role in (USER, ASSISTANT)
    )
    return difference(Column("", asked), Column("", answered))


def _last(value: Any) -> str:
    """A text, or what the last of some turns says."""
    listed = as_turns(value)
    if listed:
        return _flat([listed[-1]])
    return value if isinstance(value, str) else str(value)
