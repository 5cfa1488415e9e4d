"""Which shape the columns of a file have, which column means what, and how certain that is.

Names are asked first, then contents must agree. What names do not tell, contents may (turns, marks, labels); what
neither tells is guessed by who seems to speak and by order, and the guess says that it must be asked. Read from the
top: `laying` puts a shape on the columns, `doubts` says what speaks against it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine.data import names
from engine.data.columns import Column, columns_of, sampled
from engine.data.declare import BadRow, Shape
from engine.data.dialect import DIALECT, dialect_of, in_usual_words, objects_of, propose
from engine.data.doubts import doubts_about
from engine.data.foreign import refuse_foreign
from engine.data.laying import CONTENT, NAMED, PLACE, TOLD, USUAL, Try, View, lay
from engine.data.registry import SHAPES
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import NOTHING, Text, say

Certainty = Literal["sure", "likely", "ask"]

_SAMPLE = 200
# Shapes that make the same conversation of the same columns.
_SAME = ({"alpaca", "prompt_completion"}, {"messages", "sharegpt"})


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
        offers: role that names no column → all keys or words that it may be.
    """

    shape: Shape
    mapping: dict[str, str]
    confidence: float
    certainty: Certainty = "sure"
    why: Text = NOTHING
    others: tuple[str, ...] = ()
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


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
            a nested object is named by its path ("data.prompt"). Of turns in words of their own, role → key or word
            (`engine.data.dialect.DIALECT_ROLES`).

    Raises:
        UserError: nothing fits, the file holds no training data, or the user's shape or mapping names what is not
            there. A guess that must be asked is returned, not raised.
    """
    left_out = frozenset(role for role, column in (mapping or {}).items() if column == "")
    wished = {role: column for role, column in (mapping or {}).items() if column != ""}
    fitting = candidates(shape, wished)
    sample = sampled(records, _SAMPLE)
    view = _viewed(sample, columns_of(sample, columns), wished, left_out)
    _check_columns(view.wished, columns, view.columns)
    explicit = shape != "auto" or bool(wished)
    if not explicit:
        refuse_foreign(sample, columns, where)
    tries = [found for s in fitting if (found := lay(s, view)) is not None]
    tries.sort(key=lambda found: -found.score)
    if not tries or (tries[0].fit < 0.3 and not explicit):
        raise _nothing_fits(columns, fitting, where) if not tries else _rows_are_bad(tries[0], sample, where)
    return replace(_judged(tries, view, explicit_shape=shape != "auto"), offers=view.offers)


def _viewed(
    sample: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    wished: Mapping[str, str],
    left_out: frozenset[str],
) -> View:
    """What there is to look at, with turns in words of their own translated: as the user says, else as proposed."""
    own = {role: column for role, column in wished.items() if role not in DIALECT}
    said = {role: (word, TOLD) for role, word in wished.items() if role in DIALECT}
    for place, column in enumerate(columns):
        if own.get("messages", column.name) != column.name or not _may_be_turns(column, wished):
            continue
        proposal = propose(column.values)
        if proposal is None and not said:
            continue
        words = dict(said)
        if proposal is not None:
            is_told = proposal.knows_speakers or {"user_is", "assistant_is"} <= said.keys()
            level = CONTENT if is_told else PLACE
            words = {r: (word, level) for r, word in proposal.mapping.items() if r not in left_out} | said
        dialect = dialect_of({role: word for role, (word, _) in words.items()})
        if dialect is not None:
            values = tuple(value and in_usual_words(value, dialect) for value in column.values)
            shown = [*columns[:place], Column(column.name, values), *columns[place + 1 :]]
            own |= {"messages": column.name} if said else {}
            return View(sample, shown, own, left_out, words, proposal.offers if proposal is not None else {})
    return View(sample, columns, own, left_out, said)


def _may_be_turns(column: Column, wished: Mapping[str, str]) -> bool:
    """Whether a column holds lists of objects in which somebody may speak in a way that is to be looked at."""
    if column.meaning in (names.TOOLS, names.CHOSEN, names.REJECTED) or not column.present:
        return False
    is_written = all(isinstance(value, str) and value.lstrip()[:1] == "[" for value in column.present)
    if not (column.kind in ("list", "turns", "tools") or is_written):
        return False
    who = wished.get("who")
    return who is None or any(who in item for item in objects_of(column.values))


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


def _judged(tries: Sequence[Try], view: View, *, explicit_shape: bool) -> Guess:
    best = tries[0]
    others = tuple(t.shape.name for t in tries[1:] if t.fit >= 0.5 and _differs(t, best))
    asks, doubts = doubts_about(best, view)
    if explicit_shape or view.wished or TOLD in [level for _, level in view.words.values()]:
        # The user's word on the shape settles what only the shape left open.
        certain = all(level == TOLD for level in best.core.values())
        asks, doubts = ([], []) if certain else (asks, doubts)
    elif best.clean >= 0.9:
        close = [t for t in tries[1:] if t.score > best.score - 0.1 and _differs(t, best) and not _worse(t, best)]
        doubts += [_may_be(t) for t in close]
    lowest = min(best.levels.values())
    share = best.fit * (1.0 if lowest >= USUAL else 0.95 if lowest >= NAMED else 0.9 if lowest >= CONTENT else 0.5)
    if asks:
        return Guess(best.shape, best.mapping, round(share * 0.5, 3), "ask", asks[0], others)
    if doubts:
        return Guess(best.shape, best.mapping, round(share, 3), "likely", doubts[0], others)
    return Guess(best.shape, best.mapping, round(share, 3), "sure", _told_by(best, view), others)


def _differs(one: Try, other: Try) -> bool:
    """Whether two tries would teach different things; Alpaca and question and answer do not."""
    same = any({one.shape.name, other.shape.name} <= names for names in _SAME)
    return min(one.core.values(), default=PLACE) > PLACE and not (
        same and set(one.mapping.values()) <= set(other.mapping.values())
    )


def _worse(one: Try, best: Try) -> bool:
    return min(one.core.values()) < min(best.core.values()) or set(one.mapping.values()) < set(best.mapping.values())


def _may_be(other: Try) -> Text:
    return say("It may also be “{shape}”.", "也可能是“{shape}”。", shape=other.shape.label)


def _told_by(best: Try, view: View) -> Text:
    if all(level == TOLD for level in best.core.values()):
        return say("The columns are the ones that you chose.", "各列由您指定。")
    return say(
        "Told by the names of its columns ({columns}); their contents agree.",
        "由列名（{columns}）识别，内容与之相符。",
        columns=", ".join(best.mapping.values()),
    )


# ------------------------------------------------------------------------------------------------------- nothing fits
def _rows_are_bad(best: Try, sample: Sequence[Mapping[str, Any]], where: str) -> UserError:
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
