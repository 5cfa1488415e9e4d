"""One HTML file about a run that one can send: `write_report`. Light: the window writes it in the background."""

from __future__ import annotations

from pathlib import Path

from engine.project.atomic import write_text
from engine.project.run_folder import RunFolder
from engine.report.facts import facts_of
from engine.report.page import page


def write_report(run: RunFolder, path: Path, language: str = "en") -> None:
    """Write the report of a run's last evaluation.

    Args:
        path: the file to write; one that is there is replaced.
        language: "en" or "zh".

    Raises:
        UserError: the run was not evaluated yet, or the disk does not take the file.
    """
    write_text(path, page(facts_of(run), language))
