"""Pictures of every page: ``python tests/bench/shoot.py OUT [--pages data plan] [--run RUN] [--data FILE]``.

Opens the real window offscreen on a fresh project with the real sessions, walks through the pages, and saves each in
light and dark, English and Chinese, at two sizes. Nothing is drawn by hand: what a person sees is what is saved.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

SIZES = {"1280": (1280, 800), "1100": (1100, 700)}
PATIENCE = 120.0


def wait_for(done: Callable[[], bool], what: str) -> None:
    """Run the event loop until ``done``; give up with a word."""
    from PySide6.QtWidgets import QApplication

    end = time.monotonic() + PATIENCE
    while not done():
        QApplication.processEvents()
        time.sleep(0.005)
        if time.monotonic() > end:
            raise SystemExit(f"waited too long for {what}")


def settle(seconds: float = 0.8) -> None:
    """Let timers and late answers arrive."""
    from PySide6.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", nargs="*", default=[])
    parser.add_argument("--data", type=Path, default=ROOT / "resources" / "samples" / "orders_en.jsonl")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--run", type=Path, help="a finished run to look at")
    parser.add_argument("--project", type=Path, help="an existing project; a fresh one otherwise")
    parser.add_argument("--themes", nargs="*", default=["light", "dark"])
    parser.add_argument("--languages", nargs="*", default=["en", "zh"])
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--empty", action="store_true", help="the pages before anything is imported")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORIMER_HOME"] = home
        shoot(chosen, Path(home))


def shoot(chosen: argparse.Namespace, home: Path) -> None:
    """Open the window, bring it to where the pages have something to show, and save them."""
    from PySide6.QtWidgets import QApplication

    from engine.project.run_folder import RunFolder
    from gui.context import AppContext
    from gui.main_window import MainWindow
    from gui.operations.data import import_files
    from gui.operations.models import choose_model
    from gui.operations.start import begin
    from gui.pages.registry import PAGES
    from gui.state.phase import Phase
    from gui.state.settings import AppSettings

    app = QApplication(sys.argv[:1])
    context = AppContext(AppSettings(language="en", theme="light"), chosen.project or home / "orders")
    window = MainWindow(context)
    window.show()
    begin(context)
    wait_for(lambda: context.project.project is not None, "the project")
    wait_for(lambda: bool(context.models.models), "the models")
    if not chosen.empty:
        if chosen.model != "starter":
            choose_model(context, chosen.model)
        if not context.draft.recipe.data.files:
            import_files(context, [chosen.data.resolve()])
        wait_for(lambda: context.data.status.phase in (Phase.READY, Phase.WRONG), "the data")
        wait_for(lambda: context.plan.forecast is not None or context.plan.failure is not None, "the plan")
        settle(1.0)
        wait_for(lambda: context.data.status.phase in (Phase.READY, Phase.WRONG), "the data again")
    if chosen.run is not None:
        context.runs.select(RunFolder(chosen.run.resolve()))
        wait_for(lambda: context.runs.train.state.is_over, "the run's events")
    names = [entry.name for entry in PAGES if not chosen.pages or entry.name in chosen.pages]
    for language in chosen.languages:
        for theme in chosen.themes:
            context.settings.set_language(language)
            context.settings.set_theme(theme)
            for size in chosen.sizes:
                window.resize(*SIZES[size])
                for name in names:
                    context.wizard.go(name)
                    settle()
                    path = chosen.out / f"{name}_{language}_{theme}_{size}.png"
                    window.grab().save(str(path))
                    print(path)
    window.close()
    app.processEvents()


if __name__ == "__main__":
    main()
