"""Records of a run that are one dataclass each, kept as JSON: written whole, read with their types checked."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

Record = TypeVar("Record")


def write_record(path: Path, record: object) -> None:
    """Keep a record. Raises `UserError` when the disk does not take it."""
    write_json(path, TypeAdapter(type(record)).dump_python(record, mode="json"))


def read_record(path: Path, kind: type[Record], *, again: Text) -> Record | None:
    """The record at ``path``, or None when there is none yet.

    Args:
        kind: the dataclass that it is.
        again: what to do when it cannot be read.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return None
    plain = read_json(path)
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        raise UserError(
            "file.damaged",
            say("{name} is damaged and cannot be read.", "{name} 已损坏，无法读取。", name=path.name),
            again,
            where=str(path),
            details=str(error),
        ) from error
