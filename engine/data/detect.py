"""Which shape the columns of a file have, how sure that is, and polite words for shapes that are not taught yet."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.declare import BadRow, Shape
from engine.data.registry import SHAPES
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import NOTHING, Text, say

_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Guess:
    """A shape with its columns.

    Attributes:
        shape: the shape.
        mapping: role → column.
        confidence: 0 to 1: share of sampled rows that fit, a little less where column names are not the usual ones.
    """

    shape: Shape
    mapping: dict[str, str]
    confidence: float


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
        mapping: role → column, where the user corrects the detected one.

    Raises:
        UserError: nothing fits, the shape is known but not taught, or the user's shape or mapping names what is not
            there.
    """
    wished = dict(mapping or {})
    fitting = candidates(shape, wished)
    _check_columns(wished, columns)
    sample = records[:_SAMPLE]
    if shape == "auto" and not wished:
        _refuse_kto(sample, where)
    guesses = [guess for s in fitting if (guess := _fit(s, sample, columns, wished)) is not None]
    best = max(guesses, key=lambda guess: guess.confidence, default=None)
    explicit = shape != "auto" or bool(wished)
    if best is None or (best.confidence < 0.3 and not explicit):
        raise _nothing_fits(sample, columns, fitting, where, explicit=explicit)
    return best


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


def _check_columns(wished: Mapping[str, str], columns: Sequence[str]) -> None:
    problems = [
        Problem(
            "data.mapping",
            say('There is no column "{name}".', "没有名为“{name}”的列。", name=column),
            say("Columns: {all}.", "现有列：{all}。", all=_listed(columns)),
            f"data.mapping.{role}",
        )
        for role, column in wished.items()
        if column not in columns
    ]
    if problems:
        first = problems[0]
        raise UserError(first.code, first.message, first.hint, where=first.where, problems=tuple(problems))


def _fit(
    shape: Shape, sample: Sequence[Mapping[str, Any]], columns: Sequence[str], wished: Mapping[str, str]
) -> Guess | None:
    """How well a shape fits, None when a required role has no column."""
    by_lower = {column.strip().lower(): column for column in reversed(columns)}
    mapping: dict[str, str] = {}
    usual = True
    for role in shape.roles:
        if role.name in wished:
            mapping[role.name] = wished[role.name]
            continue
        taken = {*mapping.values(), *wished.values()}
        found = next((name for name in role.columns if name in by_lower and by_lower[name] not in taken), None)
        if found is not None:
            mapping[role.name] = by_lower[found]
            usual = usual and not (role.required and found != role.columns[0])
        elif role.required:
            return None
    share = sum(_converts(shape, record, mapping) for record in sample) / max(1, len(sample))
    return Guess(shape, mapping, round(share * (1.0 if usual else 0.95), 3))


def _converts(shape: Shape, record: Mapping[str, Any], mapping: Mapping[str, str]) -> bool:
    try:
        shape.convert(record, mapping)
    except BadRow as bad:
        # An empty answer is a poor row of the right shape.
        return bad.reason != "bad_row"
    return True


# -------------------------------------------------------------------------------------------- not taught, said politely
_LABEL_COLUMNS = ("label", "kto_tag", "thumbs_up", "labels", "class", "category", "target", "sentiment", "标签", "类别")
_TEXT_COLUMNS = ("text", "content", "document", "sentence", "文本", "内容")


def _refuse_kto(sample: Sequence[Mapping[str, Any]], where: str) -> None:
    first = sample[0] if sample else {}
    flag = next((c for c in first if c.lower() in _LABEL_COLUMNS[:3] and isinstance(first[c], bool)), None)
    if flag is None or not any(c in first for c in ("messages", "completion", "conversations", "prompt")):
        return
    raise _unsupported(
        where,
        say("answers marked good or bad (KTO)", "标记好坏的回答（KTO）"),
        say(
            'To learn all answers regardless of "{flag}", choose the shape "messages" or "prompt_completion" by hand.',
            "若要忽略“{flag}”学习全部回答，请手动选择 messages 或 prompt_completion 格式。",
            flag=flag,
        ),
    )


def _unsupported(where: str, kind: Text, hint: Text) -> UserError:
    return UserError(
        "data.unsupported_shape",
        say(
            "{where} holds {kind}; Lorimer cannot train on that yet.",
            "{where} 中是{kind}；Lorimer 目前还不能用它训练。",
            where=where,
            kind=kind,
        ),
        hint,
        where=f"{where}:1",
    )


def _nothing_fits(
    sample: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    candidates: Sequence[Shape],
    where: str,
    *,
    explicit: bool,
) -> UserError:
    label = _label_column(sample, columns)
    if not explicit and label is not None:
        text = next(column for column in columns if column != label)
        return _unsupported(
            where,
            say("texts with a label (classification)", "带标签的文本（分类）"),
            say(
                'To learn to answer with the label, map prompt to "{text}" and completion to "{label}".',
                "若要学习用标签作答，请将 prompt 对应到“{text}”，completion 对应到“{label}”。",
                text=text,
                label=label,
            ),
        )
    if not explicit and any(column.lower() in _TEXT_COLUMNS for column in columns):
        return _unsupported(
            where,
            say("plain text", "纯文本"),
            say("Lorimer needs questions and answers in columns of their own.", "Lorimer 需要分列存放的提问与回答。"),
        )
    wanted = "; ".join(f"{s.name}: " + ", ".join(role.name for role in s.roles if role.required) for s in candidates)
    return (
        UserError(
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
        if columns
        else UserError(
            "data.shape_unknown",
            say("{where} holds no rows with columns.", "{where} 中没有带列的行。", where=where),
            NOTHING,
            where=f"{where}:1",
        )
    )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:12]) + (" …" if len(columns) > 12 else "")


def _label_column(sample: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str | None:
    """The column of few short values beside one of longer texts, None when there is no such pair."""
    if not 2 <= len(columns) <= 6:
        return None
    for column in columns:
        values = {str(record.get(column, "")) for record in sample}
        few = len(values) <= max(2, min(20, len(sample) // 3)) and max(map(len, values), default=0) <= 40
        if few and (column.lower() in _LABEL_COLUMNS or len(columns) == 2):
            return column
    return None
