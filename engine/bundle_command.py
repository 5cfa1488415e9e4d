"""``lorimer bundle``: what a report needs of a run, in one ZIP file, shown before it is passed on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.jobs import english
from engine.project.bundle import Bundle, make_bundle, write_bundle
from engine.project.project import open_run
from engine.protocol.text import Text, say
from engine.runs_command import size
from engine.terminal import Terminal

NOTHING_WRITTEN = say("Nothing is written: --out says where to.", "未写入文件：请用 --out 指定位置。")


def bundle(options: argparse.Namespace, terminal: Terminal) -> int:
    """Show what the bundle of a run holds, and write it where ``--out`` says."""
    found = make_bundle(open_run(options.run))
    out = options.out.expanduser().resolve() if options.out is not None else None
    if out is not None:
        write_bundle(found, out)
    terminal.result(english(_document(found, out)), *_lines(found, out))
    return 0


def _document(found: Bundle, out: Path | None) -> dict[str, Any]:
    return {
        "file": str(out) if out is not None else None,
        "bytes": out.stat().st_size if out is not None else None,
        "entries": [{"name": item.name, "bytes": len(item.content), "about": item.about} for item in found.entries],
        "left_out": [{"what": what, "why": why} for what, why in found.left_out],
        "texts": "by_shape" if found.by_shape else "compared_with_the_rows",
    }


def _lines(found: Bundle, out: Path | None) -> list[Text]:
    lines = [
        say(
            "{name}  {size}  {about}",
            "{name}  {size}  {about}",
            name=f"{item.name:<36}",
            size=f"{size(len(item.content)):>10}",
            about=item.about,
        )
        for item in found.entries
    ]
    for what, why in found.left_out:
        lines.append(say("left out: {what} ({why})", "略去：{what}（{why}）", what=what, why=why))
    lines.append(say("Written: {path}", "已写入：{path}", path=out) if out is not None else NOTHING_WRITTEN)
    return lines
