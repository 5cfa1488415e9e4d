"""Which folder may be handed to the system to be shown."""

from __future__ import annotations

from pathlib import Path

PROGRAMS = frozenset(
    ".action .app .appex .bundle .framework .kext .mpkg .pkg .plugin .prefpane .qlgenerator .saver .scptd .service "
    ".wdgt .workflow .xpc".split()
)
"""Endings by which macOS takes a folder for a program or package: to open it is to start it."""


def folder_to_show(path: Path) -> Path:
    """The folder of a path, or the path itself where it is one; where opening it would start it, the one around it.
    Names in a project may be a stranger's."""
    folder = path if path.is_dir() else path.parent
    while folder.suffix.lower() in PROGRAMS and folder != folder.parent:
        folder = folder.parent
    return folder
