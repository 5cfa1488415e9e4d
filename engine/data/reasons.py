"""What people read of each reason for which a row is set aside, those of its quality included. Light."""

from __future__ import annotations

from engine.data.quality.checks import BY_NAME
from engine.data.rows import HINTS, REASONS
from engine.protocol.text import Text


def reason_label(reason: str) -> Text:
    """A few words for a table or a chip. Raises `KeyError` for an unknown reason."""
    return REASONS[reason] if reason in REASONS else BY_NAME[reason].label


def reason_hint(reason: str) -> Text:
    """What can be done. Raises `KeyError` for an unknown reason."""
    return HINTS[reason] if reason in HINTS else BY_NAME[reason].hint
