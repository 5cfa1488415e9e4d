"""Which shape the columns of a file have, which column means what, and how certain that is.

Names are asked first, then contents must agree. What names do not tell, contents may (turns, marks, labels); what
neither tells is guessed by who seems to speak and by order, and the guess says that it must be asked.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.data import names
from engine.data.columns import Column, asking, columns_of, sampled
from engine.data.declare import BadRow, Role, Shape
from engine.data.foreign import refuse_foreign
from engine.data.registry import SHAPES
from engine.data.shapes.turns import as_turns
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import NOTHING, Text, say

Certainty = Literal["sure", "likely", "ask"]

_SAMPLE = 200
_FEWEST = 5
# How a role came to its column: the user's word, a usual name, a name that tells, contents, nothing but its place.
_TOLD, _USUAL, _NAMED, _CONTENT, _PLACE = 3, 2, 1, 0, -1
_WEIGHT = {_TOLD: 1.0, _USUAL: 1.0, _NAMED: 0.8, _CONTENT: 0.5, _PLACE: 0.2}
# Where several shapes fit, the one that uses more of what the file holds.
_SPECIAL = {
    **{"preference": 0.3, "kto": 0.25, "messages": 0.2, "sharegpt": 0.2},
    **{"alpaca": 0.11, "prompt_completion": 0.1, "classification": 0.05},
}
_UNUSED = 0.3
# A mean difference in `asking` that tells question from answer, after 2.5 standard errors.
_TELLING = 0.3
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
    ("preference", "prompt"): (names.QUESTION, names.INPUT, names.TURNS),
    ("kto", "label"): (names.LIKED, names.LABEL),
    ("prompt_completion", "prompt"): (names.QUESTION, names.INPUT, names.TURNS, names.TEXT),
    ("kto", "prompt"): (names.QUESTION, names.INPUT, names.TURNS),
    ("classification", "text"): (names.TEXT, names.QUESTION),
}
"""(shape or any, role) → what the name of its column may mean."""
_OPEN_KINDS = ("text", "turns", "strings")
_TEXT_SHAPES = ("alpaca", "prompt_completion", "classification", "text")
# Columns of these names are as often notes about a text as what is to be answered.
_WEAK_LABELS = ("category", "target", "分类", "categories", "kind")
_RATINGS = frozenset("score rating quality reward vote votes upvotes status feedback".split())
# What is true or false of a row without rating its answer.
_FACTS = ("safe", "toxic", "redacted", "flag", "flagged", "english")
_SAME = ({"alpaca", "prompt_completion"}, {"messages", "sharegpt"})
_SPOKEN = ("### Human:", "### Instruction:", "<|im_start|>", "<|user|>", "[INST]", "\n\nHuman:", "### 指令", "USER:")


@dataclass(frozen=True, slots=True)
class Guess:
    """A shape with its columns.

    Attributes:
        shape: the shape.
        mapping: role → column.
        confidence: 0 to 1: share of sampled rows that fit, less where columns are not told by usual names.
        certainty: ``sure``: usual names, and the contents agree. ``likely``: told by contents or by unusual names.
            ``ask``: the best guess, never to be trained on without the user's word.
        why: one sentence: what it was told by, or what is doubtful.
        others: names of other shapes that would fit, the likeliest first.
    """

    shape: Shape
    mapping: dict[str, str]
    confidence: float
    certainty: Certainty = "sure"
    why: Text = NOTHING
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class _Try:
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
        roles = {role.name for role in self.shape.roles if role.required} | {"messages", "prompt", "completion"}
        return {name: level for name, level in self.levels.items() if name in roles}


@dataclass(frozen=True, slots=True)
class _View:
    """What all tries look at."""

    sample: Sequence[Mapping[str, Any]]
    columns: Sequence[Column]
    wished: Mapping[str, str]
    left_out: frozenset[str]


def detect(
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    where: str,
    *,
    shape: str = "auto",
    mapping: Mapping[str, str] | None = None,
) -> Guess:
    """The shape that fits best; ``shape`` and ``mapping`` of the user's are kept to.

    Args:
        records: usable records of the file.
        columns: all column names of the file.
        where: the file's name, for messages.
        shape: a key of `SHAPES`, or "auto".
        mapping: role → column, where the user corrects the detected one; "" for a role that no column has. A field of
            a nested object is named by its path ("data.prompt").

    Raises:
        UserError: nothing fits, the file holds no training data, or the user's shape or mapping names what is not
            there. A guess that must be asked is returned, not raised.
    """
    left_out = frozenset(role for role, column in (mapping or {}).items() if column == "")
    wished = {role: column for role, column in (mapping or {}).items() if column != ""}
    fitting = candidates(shape, wished)
    sample = sampled(records, _SAMPLE)
    view = _View(sample, columns_of(sample, columns), wished, left_out)
    _check_columns(wished, columns, view.columns)
    explicit = shape != "auto" or bool(wished)
    if not explicit:
        refuse_foreign(sample, columns, where)
    tries = [found for s in fitting if (found := _lay(s, view)) is not None]
    tries.sort(key=lambda found: -found.score)
    if not tries or (tries[0].fit < 0.3 and not explicit):
        raise _nothing_fits(columns, fitting, where) if not tries else _rows_are_bad(tries[0], sample, where)
    return _judged(tries, view, explicit_shape=shape != "auto")


def nested_columns(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[str, ...]:
    """The names that a mapping may use: ``columns``, with objects replaced by their fields ("data.prompt")."""
    return tuple(column.name for column in columns_of(sampled(records, _SAMPLE), columns))


def candidates(shape: str, wished: Mapping[str, str]) -> list[Shape]:
    """The shapes that the user's ``shape`` and mapping leave. Raises `UserError` for names that there are not."""
    if shape != "auto" and shape not in SHAPES:
        close = difflib.get_close_matches(shape, SHAPES, n=1)
        raise UserError(
            "data.shape",
            say('There is no data shape "{shape}".', "没有名为“{shape}”的数据格式。", shape=shape),
            say(
                'Did you mean "{name}"? Known: {all}.',
                "是否想写“{name}”？已有：{all}。",
                name=close[0],
                all=", ".join(SHAPES),
            )
            if close
            else say("Known: {all}, auto.", "已有：{all}、auto。", all=", ".join(SHAPES)),
            where="data.shape",
        )
    named = [SHAPES[shape]] if shape != "auto" else list(SHAPES.values())
    found = [s for s in named if all(s.role(role) is not None for role in wished)]
    if not found:
        roles = sorted({role.name for s in named for role in s.roles})
        wrong = next((role for role in wished if role not in roles), next(iter(wished)))
        close = difflib.get_close_matches(wrong, roles, n=1)
        raise UserError(
            "data.mapping",
            say('No shape has these roles together ("{role}").', "没有格式同时包含这些角色（“{role}”）。", role=wrong),
            say(
                "Did you mean {name}? Known roles: {all}.",
                "是否想写 {name}？已有角色：{all}。",
                name=close[0] if close else roles[0],
                all=", ".join(roles),
            ),
            where="data.mapping",
        )
    return found


def _check_columns(wished: Mapping[str, str], columns: Sequence[str], found: Sequence[Column]) -> None:
    known = {*columns, *(column.name for column in found)}
    problems = [
        Problem(
            "data.mapping",
            say('There is no column "{name}".', "没有名为“{name}”的列。", name=column),
            say("Columns: {all}.", "现有列：{all}。", all=_listed([c.name for c in found])),
            f"data.mapping.{role}",
        )
        for role, column in wished.items()
        if column not in known
    ]
    if problems:
        first = problems[0]
        raise UserError(first.code, first.message, first.hint, where=first.where, problems=tuple(problems))


# ------------------------------------------------------------------------------------------------------------- laying
def _lay(shape: Shape, view: _View) -> _Try | None:
    """The shape laid upon the columns, None where what it needs is not there."""
    found = _Try(shape, {}, {})
    by_name = {column.name: column for column in view.columns}
    for wish, name in view.wished.items():
        found.columns[wish] = by_name.get(name) or Column(name, ())
        found.levels[wish] = _TOLD
    roles = [role for role in shape.roles if role.name not in view.wished and role.name not in view.left_out]
    for level in (_USUAL, _NAMED):
        for role in roles:
            if role.name not in found.columns and _is_open(role, found):
                _by_name(role, level, found, view)
    _by_contents(roles, found, view)
    _by_place(roles, found, view)
    if any(role.required and role.name not in found.columns for role in shape.roles) or not _is_whole(found):
        return None
    _weigh(found, view)
    return found


def _is_open(role: Role, found: _Try) -> bool:
    """Whether a role is still to be filled: in KTO, turns stand in the place of question and answer."""
    turns = found.columns.get("messages")
    if found.shape.kind != "kto" or turns is None:
        return True
    return role.name not in ("prompt", "input") and (role.name != "completion" or turns.ends_open > 0.5)


def _is_whole(found: _Try) -> bool:
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


def _by_name(role: Role, level: int, found: _Try, view: _View) -> None:
    free = [column for column in view.columns if column not in found.columns.values()]
    if level == _USUAL:
        named = {names.plain(name): place for place, name in reversed(list(enumerate(role.columns)))}
        fitting = [column for column in free if names.plain(column.name) in named and "." not in column.name]
        fitting.sort(key=lambda column: named[names.plain(column.name)])
    else:
        meant = _MEANINGS.get((found.shape.name, role.name)) or _MEANINGS["*", role.name]
        fitting = [column for column in free if column.meaning in meant or names.plain(column.name) in role.columns]
        fitting.sort(key=lambda column: meant.index(column.meaning) if column.meaning in meant else len(meant))
    chosen = next((column for column in fitting if _suits(role, column, found)), None)
    if chosen is not None:
        found.columns[role.name], found.levels[role.name] = chosen, level


# Role → kinds of value that it can hold.
_HOLDS: dict[str, tuple[str, ...]] = {
    "messages": ("turns",),
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


def _suits(role: Role, column: Column, found: _Try) -> bool:
    """Whether a column holds what a role needs. One that holds nothing suits every role that its name tells."""
    if not column.present:
        return True
    if column.share(*_HOLDS.get(role.name, ("text", "number"))) < 0.5:
        return False
    match role.name:
        case "messages":
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
    return column.is_few or (short and (len(column.texts) < 4 * _FEWEST or column.distinct * 3 <= len(column.texts)))


def _by_contents(roles: Sequence[Role], found: _Try, view: _View) -> None:
    """Fill roles from columns whose names say nothing and whose contents tell."""
    free = [c for c in view.columns if c.meaning is None and c.present and c not in found.columns.values()]
    missing = [role.name for role in roles if role.name not in found.columns]

    def put(role: str, column: Column) -> None:
        found.columns[role], found.levels[role] = column, _CONTENT
        free.remove(column)

    if found.shape.kind == "preference":
        _pair_by_contents(missing, free, found, put)
    if "messages" in missing and not found.columns.keys() & {"prompt", "completion"}:
        flavour = {"sharegpt": "from", "messages": "role"}.get(found.shape.name)
        turns = [c for c in free if c.share("turns") >= 0.9 and flavour in (None, c.flavour) and not c.is_single]
        if turns:
            put("messages", turns[0])
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
    if found.shape.name in _TEXT_SHAPES:
        _texts_by_contents(missing, [c for c in free if _is_side(c)], found, put)


def _pair_by_contents(missing: list[str], free: list[Column], found: _Try, put: Any) -> None:
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


def _texts_by_contents(missing: list[str], free: list[Column], found: _Try, put: Any) -> None:
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
    seldom = [c for c in free if c.filled < 0.9]
    if about in missing and len(free) + known == 3 and (len(seldom) == 1 or known == 2):
        rest = seldom or [c for c in free if c.filled < 1]
        if rest:
            put(about, rest[0])
            free = [c for c in free if c is not rest[0]]
    texts = [c for c in free if c.kind != "strings" and not c.begins_open > 0.5]
    if asked in missing and answered in missing and len(free) >= 2 and texts:
        by_asking = sorted(texts, key=lambda c: -_mean_asking(c))
        by_asking += [c for c in free if c not in texts]
        tells = _difference(by_asking[0], by_asking[-1])[0] > _TELLING
        put(asked, by_asking[0] if tells else texts[0])
        put(answered, by_asking[-1] if tells else next(c for c in reversed(free) if c is not found.columns[asked]))
    elif asked in missing and texts:
        put(asked, max(texts, key=_mean_asking))
    elif answered in missing and free:
        put(answered, min(free, key=_mean_asking))
    rest = [c for c in free if c not in found.columns.values()]
    if about in missing and about not in found.columns and len(rest) == 1 and known == 0:
        put(about, rest[0])


def _by_place(roles: Sequence[Role], found: _Try, view: _View) -> None:
    """The last resort: what columns hold, though their names say otherwise; question and answer by their order."""
    missing = [role.name for role in roles if role.name not in found.columns]
    free = [c for c in view.columns if c.present and c not in found.columns.values()]
    free.sort(key=lambda c: c.meaning == names.ASIDE or c.is_code)

    def put(role: str, fitting: Sequence[Column]) -> None:
        column = next((c for c in fitting if c in free), None)
        if role in missing and column is not None:
            found.columns[role], found.levels[role] = column, _PLACE
            free.remove(column)

    shape = found.shape
    if shape.name in ("messages", "sharegpt") or (shape.kind == "kto" and "completion" not in found.columns):
        flavour = {"sharegpt": "from", "messages": "role"}.get(shape.name)
        named = (names.CHOSEN, names.REJECTED)
        turns = [c for c in free if c.share("turns") >= 0.9 and c.meaning not in named and not c.is_single]
        put("messages", [c for c in turns if flavour in (None, c.flavour)])
        put("tools", [c for c in free if c.share("tools") >= 0.9 and c.kind == "tools"])
    if shape.kind == "kto" and _is_whole(found):
        put("label", [c for c in free if c.varies and c.meaning != names.ASIDE])
    elif shape.name == "classification":
        put("label", [c for c in free if c.is_few and c.distinct > 1 and c.meaning != names.ASIDE])
    if shape.name in ("classification", "text"):
        put("text", sorted((c for c in free if c.kind == "text"), key=lambda c: (not c.is_rich, -c.mean_length)))
    if shape.name == "prompt_completion":
        short = {"prompt", "completion"} & set(missing) and not any(c.kind in _OPEN_KINDS for c in free)
        if short and found.levels.get("context", _TOLD) != _TOLD:
            free.append(found.columns.pop("context"))
            del found.levels["context"]
        put("prompt", [c for c in free if c.kind == "text" or (c.kind == "turns" and c.ends_open > 0.5)])
        put("completion", [c for c in free if c.kind in ("text", "strings") or c.begins_open > 0.5])


def _weigh(found: _Try, view: _View) -> None:
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


def _is_alpaca_in_disguise(found: _Try) -> bool:
    """Whether Alpaca was laid upon a question and an answer that nobody calls an instruction."""
    if found.shape.name != "alpaca" or found.levels["instruction"] == _TOLD:
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


def _matters(column: Column, found: _Try, view: _View) -> bool:
    """Whether a column that is not used holds what may have to be learned."""
    if not column.present or (column.meaning == names.ASIDE and column.kind != "turns"):
        return False
    if column.meaning in (names.LABEL, names.LIKED) and found.shape.kind in ("conversation", "text"):
        return found.shape.name != "classification" and (
            column.is_mark or _is_prose(column) or found.shape.name == "text"
        )
    if column.varies and found.shape.kind != "kto" and found.shape.name not in ("classification", "text"):
        return True
    if column.is_few and column.distinct > 1 and found.shape.name == "text":
        return True
    if column.meaning is None and column.kind == "text" and _is_prose(column):
        return not _is_explained(column, found, view)
    if column.kind not in _OPEN_KINDS or not (column.is_rich or column.kind != "text"):
        return False
    return not _is_explained(column, found, view)


def _is_prose(column: Column) -> bool:
    """Whether its values are of several words, be they ever the same."""
    words = sum(len(text.split()) for text in column.texts)
    return column.mean_length > 40 or (column.mean_length >= 12 and words >= 3 * len(column.texts))


def _is_explained(column: Column, found: _Try, view: _View) -> bool:
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


def _difference(one: Column, other: Column) -> tuple[float, float]:
    """(lower, upper) bound of how much more ``one`` asks than ``other`` does, row by row, 2.5 standard errors wide."""
    pairs = zip(one.values, other.values, strict=False)
    each = [asking(_last(a)) - asking(_last(b)) for a, b in pairs if a is not None and b is not None]
    if not each:
        return -2.0, 2.0
    mean = sum(each) / len(each)
    spread = max(0.5, (sum((x - mean) ** 2 for x in each) / len(each)) ** 0.5)
    error = 2.5 * spread / len(each) ** 0.5
    return mean - error, mean + error


def _last(value: Any) -> str:
    """A text, or what the last of some turns says."""
    listed = as_turns(value)
    if listed:
        return _flat([listed[-1]])
    return value if isinstance(value, str) else str(value)


# ------------------------------------------------------------------------------------------------------------ judging
def _judged(tries: Sequence[_Try], view: _View, *, explicit_shape: bool) -> Guess:
    best = tries[0]
    others = tuple(t.shape.name for t in tries[1:] if t.fit >= 0.5 and _differs(t, best))
    asks, doubts = _doubts(best, view)
    if explicit_shape or view.wished:
        # The user's word on the shape settles what only the shape left open.
        certain = all(level == _TOLD for level in best.core.values())
        asks, doubts = ([], []) if certain else (asks, doubts)
    elif best.clean >= 0.9:
        close = [t for t in tries[1:] if t.score > best.score - 0.1 and _differs(t, best) and not _worse(t, best)]
        doubts += [_may_be(t) for t in close]
    lowest = min(best.levels.values())
    share = best.fit * (1.0 if lowest >= _USUAL else 0.95 if lowest >= _NAMED else 0.9 if lowest >= _CONTENT else 0.5)
    if asks:
        return Guess(best.shape, best.mapping, round(share * 0.5, 3), "ask", asks[0], others)
    if doubts:
        return Guess(best.shape, best.mapping, round(share, 3), "likely", doubts[0], others)
    return Guess(best.shape, best.mapping, round(share, 3), "sure", _told_by(best, view), others)


def _differs(one: _Try, other: _Try) -> bool:
    """Whether two tries would teach different things; Alpaca and question and answer do not."""
    same = any({one.shape.name, other.shape.name} <= names for names in _SAME)
    return min(one.core.values(), default=_PLACE) > _PLACE and not (
        same and set(one.mapping.values()) <= set(other.mapping.values())
    )


def _worse(one: _Try, best: _Try) -> bool:
    return min(one.core.values()) < min(best.core.values()) or set(one.mapping.values()) < set(best.mapping.values())


def _doubts(best: _Try, view: _View) -> tuple[list[Text], list[Text]]:
    """(what must be asked, what is only less than sure) about the best try."""
    asks: list[Text] = []
    doubts: list[Text] = []
    if best.clean < 0.5:
        asks.append(
            say(
                "{n} of {all} sampled rows cannot be used in this way.",
                "抽样的 {all} 行中有 {n} 行无法这样使用。",
                n=round((1 - best.clean) * len(view.sample)),
                all=len(view.sample),
            )
        )
    elif best.clean < 0.9:
        doubts.append(say("Some of the sampled rows cannot be used.", "部分抽样行无法使用。"))
    _doubt_names(best, asks, doubts)
    _doubt_unused(best, view, asks, doubts)
    _doubt_sides(best, asks, doubts)
    _doubt_turns(best, asks, doubts)
    _doubt_texts(best, view, asks, doubts)
    if len(view.sample) < _FEWEST:
        doubts.append(say("There are too few rows to be sure.", "行数太少，无法确定。"))
    return asks, doubts


def _label(best: _Try, role: str) -> Text:
    found = best.shape.role(role)
    return found.label if found is not None else NOTHING


def _doubt_names(best: _Try, asks: list[Text], doubts: list[Text]) -> None:
    sides: list[str] = [
        r for r in ("instruction", "prompt", "input", "context", "output", "completion") if r in best.levels
    ]
    guessed = [r for r in sides if best.levels[r] == _CONTENT and best.columns[r].kind != "turns"]
    guessed += [r for r, level in best.levels.items() if level == _PLACE]
    pair = [r for r in ("chosen", "rejected") if best.levels.get(r) == _CONTENT]
    if guessed:
        asks.append(
            say(
                "No name says what {columns} holds; it was guessed from order and wording.",
                "列名无法说明 {columns} 的含义，只是按顺序和措辞猜测。",
                columns=", ".join(f'"{best.columns[r].name}"' for r in guessed),
            )
        )
    if len(pair) == 2:
        asks.append(
            say(
                'Nothing says which of "{a}" and "{b}" is the better answer.',
                "无法判断“{a}”与“{b}”中哪一个是较好的回答。",
                a=best.columns["chosen"].name,
                b=best.columns["rejected"].name,
            )
        )
    if best.shape.kind == "kto" and best.levels.get("label") == _CONTENT:
        asks.append(
            say(
                'Nothing but its values says that "{name}" marks answers as good or bad.',
                "仅凭取值推测“{name}”标记回答的好坏。",
                name=best.columns["label"].name,
            )
        )
    for role, level in best.levels.items():
        if level == _CONTENT:
            doubts.append(
                say(
                    '"{name}" is taken for “{role}” by what it holds.',
                    "“{name}”按其内容被视为“{role}”。",
                    name=best.columns[role].name,
                    role=_label(best, role),
                )
            )
        elif level == _NAMED:
            doubts.append(
                say(
                    '"{name}" is taken for “{role}” by its name.',
                    "“{name}”按其名称被视为“{role}”。",
                    name=best.columns[role].name,
                    role=_label(best, role),
                )
            )


def _doubt_unused(best: _Try, view: _View, asks: list[Text], doubts: list[Text]) -> None:
    for column in best.unused:
        words = say('"{name}" is not used.', "“{name}”未被使用。", name=column.name)
        # One sentence in all rows may be their system prompt; turns beside a text may be what is to be learned.
        serious = (
            column.varies
            or column.distinct == 1
            or column.kind == "turns"
            or column.meaning in (names.CHOSEN, names.REJECTED, names.LABEL)
        )
        serious = serious or (best.shape.name in _TEXT_SHAPES and column.is_rich)
        # A few cells that a row spilled to its right say little about the file.
        spilled = len(view.sample) >= 50 and column.filled < 0.05 and column.meaning is None
        (asks if serious and not spilled else doubts).append(words)
    for column in view.columns:
        if column in best.columns.values() or column in best.unused or _is_explained(column, best, view):
            continue
        if best.shape.kind == "conversation" and best.shape.name != "classification" and _may_rate(column):
            asks.append(
                say('"{name}" may mark answers as good or bad.', "“{name}”可能标记回答的好坏。", name=column.name)
            )
        elif column.kind == "text" and not column.is_code and _is_prose(column):
            words = say('"{name}" holds texts, unused.', "“{name}”含文本但未被使用。", name=column.name)
            misnamed = column.meaning == names.ASIDE and column.is_rich and not names.may_hold_text(column.name)
            (asks if misnamed and best.shape.name in _TEXT_SHAPES else doubts).append(words)


def _may_rate(column: Column) -> bool:
    """Whether a column that is named like a note may say which answers are good: it says yes and no, or rates."""
    words = names.plain(column.name.rpartition(".")[2]).split("_")
    if not column.varies or words[0] in ("is", "has") or words[-1] in _FACTS:
        return False
    return column.kind in ("bool", "text") or not _RATINGS.isdisjoint(words)


def _doubt_sides(best: _Try, asks: list[Text], doubts: list[Text]) -> None:
    """Whether question and answer may have changed places."""
    question = best.columns.get("instruction") or best.columns.get("prompt")
    answer = next((best.columns[r] for r in ("output", "completion", "chosen") if r in best.columns), None)
    if question is None or answer is None or not answer.present:
        return
    if not question.present:
        asks.append(say('"{name}" is empty in every row.', "“{name}”在每一行都为空。", name=question.name))
        return
    if answer.kind == "strings":
        asks.append(
            say(
                '"{name}" holds several answers a row; the first would be learned.',
                "“{name}”每行有多个回答，只会学习第一个。",
                name=answer.name,
            )
        )
    if question.kind == "turns" or answer.kind == "turns":
        if question.kind == "turns" and question.ends_open < 0.9:
            doubts.append(say("Some prompts end with an answer.", "部分提问以回答结尾。"))
        if answer.kind == "turns" and answer.ends_open > 0.1:
            doubts.append(say("Some answers do not end with an answer.", "部分回答一侧不以回答结尾。"))
        if question.kind == answer.kind == "turns":
            return
    low, high = _difference(question, answer)
    if low + high < 0:
        asks.append(
            say(
                '"{question}" reads like answers and "{answer}" like questions.',
                "“{question}”像是回答，而“{answer}”像是提问。",
                question=question.name,
                answer=answer.name,
            )
        )
    elif low < _TELLING:
        doubts.append(
            say(
                'Names alone say which of "{question}" and "{answer}" is the question.',
                "仅凭列名判断“{question}”与“{answer}”中哪一个是提问。",
                question=question.name,
                answer=answer.name,
            )
        )
    _doubt_filled(best, question, answer, asks, doubts)


def _doubt_filled(best: _Try, question: Column, answer: Column, asks: list[Text], doubts: list[Text]) -> None:
    """Whether context, system prompt and question may have changed places: a context may be empty, a question never."""
    context = best.columns.get("input") or best.columns.get("context")
    system = best.columns.get("system")
    for side in (question, answer):
        if context is not None and context.filled > side.filled + 0.05:
            asks.append(
                say(
                    '"{side}" is empty more often than "{context}".',
                    "“{side}”比“{context}”更常为空。",
                    side=side.name,
                    context=context.name,
                )
            )
    if len(answer.texts) >= _FEWEST and answer.distinct == 1:
        asks.append(say('"{name}" holds the same in every row.', "“{name}”每一行都相同。", name=answer.name))
    uncertain = say("Nothing but names tells the question from the rest.", "仅凭列名区分提问与其他列。")
    if question.filled < 0.98 or answer.filled < 0.98 or (context is not None and context.filled > 0.9):
        doubts.append(uncertain)
    if answer.is_few or answer.kind in ("number", "bool"):
        doubts.append(say('"{name}" looks like a label.', "“{name}”看起来像标签。", name=answer.name))
    if question.texts and question.distinct < 0.5 * len(question.texts):
        doubts.append(uncertain)
    if system is not None and system.filled < 0.9 and system.distinct > 0.5 * len(system.texts):
        asks.append(say('"{name}" differs from row to row.', "“{name}”逐行不同。", name=system.name))
    if system is not None and (system.filled < 0.5 or system.distinct > max(1, 0.1 * len(system.texts))):
        doubts.append(uncertain)
    if system is not None and system.distinct > max(1, min(question.distinct, answer.distinct)):
        asks.append(
            say(
                'The system prompts in "{system}" vary more than questions or answers do.',
                "“{system}”中的系统提示比提问或回答变化更多。",
                system=system.name,
            )
        )


def _doubt_turns(best: _Try, asks: list[Text], doubts: list[Text]) -> None:
    turns = best.columns.get("messages")
    if turns is None or not turns.turn_lists:
        return
    if turns.alternates < 0.5:
        asks.append(say("The turns do not begin with a question.", "对话不是以提问开始的。"))
    elif turns.alternates < 0.9:
        doubts.append(say("Not all turns alternate.", "部分对话的轮次没有交替。"))
    if turns.ends_open > 0.5 and "completion" not in best.columns:
        asks.append(say("Most conversations end with a question.", "多数对话以提问结尾。"))


def _doubt_texts(best: _Try, view: _View, asks: list[Text], doubts: list[Text]) -> None:
    """Plain text that is a written conversation would be learned with its questions."""
    if best.shape.kind != "text" and best.shape.name != "classification":
        return
    text = best.columns["text"]
    spoken = sum(any(mark in value[:4000] for mark in _SPOKEN) for value in text.texts)
    if best.shape.kind == "text" and spoken > 0.5 * max(1, len(text.texts)):
        asks.append(
            say(
                '"{name}" holds conversations written as text; all of it would be learned, questions too.',
                "“{name}”是写成文本的对话；将学习全部内容，包括提问。",
                name=text.name,
            )
        )
    few = [c for c in view.columns if c.meaning is None and c is not text and len(set(c.texts)) < len(c.texts)]
    if best.shape.kind == "text" and few and len(view.sample) < 4 * _FEWEST:
        asks.append(say('"{name}" may be a label.', "“{name}”可能是标签。", name=few[0].name))
    if best.shape.kind == "text" and text.mean_length < 40:
        doubts.append(say('"{name}" holds short texts only.', "“{name}”只有短文本。", name=text.name))
    if best.shape.name == "classification":
        label = best.columns["label"]
        if names.plain(label.name.rpartition(".")[2]) in _WEAK_LABELS and best.levels["label"] != _TOLD:
            asks.append(
                say(
                    '"{name}" may be what is to be answered, or only a note about the text.',
                    "“{name}”可能是要回答的标签，也可能只是文本的附注。",
                    name=label.name,
                )
            )
        if not label.is_few:
            doubts.append(say('"{name}" has many different labels.', "“{name}”的标签种类很多。", name=label.name))
        if label.distinct == 1:
            doubts.append(say('"{name}" holds one label only.', "“{name}”只有一种标签。", name=label.name))


def _may_be(other: _Try) -> Text:
    return say("It may also be “{shape}”.", "也可能是“{shape}”。", shape=other.shape.label)


def _told_by(best: _Try, view: _View) -> Text:
    if view.wished and all(level == _TOLD for level in best.core.values()):
        return say("The columns are the ones that you chose.", "各列由您指定。")
    return say(
        "Told by the names of its columns ({columns}); their contents agree.",
        "由列名（{columns}）识别，内容与之相符。",
        columns=", ".join(best.mapping.values()),
    )


# ------------------------------------------------------------------------------------------------------- nothing fits
def _rows_are_bad(best: _Try, sample: Sequence[Mapping[str, Any]], where: str) -> UserError:
    """The columns are those of a shape, and what stands in them is not: the first row says why."""
    reason = NOTHING
    for record in sample:
        try:
            best.shape.convert(record, best.mapping)
        except BadRow as bad:
            reason = bad.text
            break
    return UserError(
        "data.shape_unknown",
        say(
            "The rows of {where} look like “{shape}”, but cannot be used: {reason}",
            "{where} 的数据看似“{shape}”，但无法使用：{reason}",
            where=where,
            shape=best.shape.label,
            reason=reason,
        ),
        say(
            "Mend the rows, or say on the Data page or as data.mapping in the recipe which column is which.",
            "请修正这些行，或在“数据”页或配方的 data.mapping 中指定各列的含义。",
        ),
        where=f"{where}:1",
    )


def _nothing_fits(columns: Sequence[str], candidates: Sequence[Shape], where: str) -> UserError:
    if not columns:
        return UserError(
            "data.shape_unknown",
            say("{where} holds no rows with columns.", "{where} 中没有带列的行。", where=where),
            say("Choose a file with rows of text.", "请选择包含文本数据行的文件。"),
            where=f"{where}:1",
        )
    wanted = "; ".join(f"{s.name}: " + ", ".join(role.name for role in s.roles if role.required) for s in candidates)
    return UserError(
        "data.shape_unknown",
        say(
            "The columns of {where} fit no known shape: {columns}.",
            "{where} 的列不符合任何已知格式：{columns}。",
            where=where,
            columns=_listed(columns),
        ),
        say(
            "Say which column is which, on the Data page or as data.mapping in the recipe. {wanted}.",
            "请在“数据”页或配方的 data.mapping 中指定各列的含义。{wanted}。",
            wanted=wanted,
        ),
        where=f"{where}:1",
    )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:12]) + (" …" if len(columns) > 12 else "")
