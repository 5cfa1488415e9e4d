"""Fixtures for every test, and the house rule that a test leaves nothing behind.

Python warnings, Qt warnings (both set in pyproject.toml), leaked threads, running timers and open windows fail the test
that caused them. Each failure says how to repair it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Set before anything imports Qt: tests draw into memory, never on the developer's screen.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Nor do they look into the developer's keyring: this one is empty, and keeps nothing.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

# tqdm keeps one monitor thread for the whole process, by design, from its first bar on.
_LIBRARY_THREADS = ("TMonitor", "tqdm_monitor")
_SECONDS_TO_END = 3.0


# ------------------------------------------------------------------------------------------------------ places
@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real models, datasets and broken files; the test is skipped where the machine has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the shared test data is not on this machine ({folder})")
    return folder


@pytest.fixture(scope="session")
def starter() -> Path:
    """Folder of the starter model that ships with Lorimer."""
    folder = ROOT / "resources" / "starter"
    assert (folder / "model.safetensors").is_file(), f"the starter model is not in {folder}: restore it from git"
    return folder


@pytest.fixture
def tmp_project(tmp_path: Path) -> Path:
    """An empty folder for a project."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


# --------------------------------------------------------------------------------------------------- isolation
@pytest.fixture(autouse=True)
def lorimer_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own settings and project list out of the test: they live in an empty folder instead."""
    folder = tmp_path_factory.mktemp("lorimer-home")
    monkeypatch.setenv("LORIMER_HOME", str(folder))
    return folder


# -------------------------------------------------------------------------------------------------- left behind
def _wait_until(done: Callable[[], bool]) -> None:
    """Give what is already ending a moment to end."""
    deadline = time.monotonic() + _SECONDS_TO_END
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a Python thread running."""
    before = set(threading.enumerate())
    yield

    def leaked() -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            if thread not in before
            and thread.is_alive()
            and type(thread).__name__ not in _LIBRARY_THREADS
            # A QThread that ran Python code shows as a dummy thread; Qt's own check below looks after it.
            and not isinstance(thread, threading._DummyThread)
        ]

    _wait_until(lambda: not leaked())
    names = ", ".join(thread.name for thread in leaked())
    assert not names, f"the test left threads running: {names}. Stop them and join() them before it ends."


@pytest.fixture(autouse=True)
def no_leaked_windows() -> Iterator[None]:
    """Fail a test that leaves a window open; tests without Qt pay nothing.

    pytest-qt closes what was registered with `qtbot.addWidget` before fixtures end: only forgotten ones are seen here.
    """
    yield
    if "PySide6.QtWidgets" in sys.modules:
        _assert_no_window_left()


def _assert_no_window_left() -> None:
    from PySide6.QtCore import QCoreApplication, QEvent
    from PySide6.QtWidgets import QApplication

    if not isinstance(QApplication.instance(), QApplication):
        return
    # deleteLater() is honoured by an event loop only, and the test's own has ended.
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    open_windows = [widget for widget in QApplication.topLevelWidgets() if widget.isVisible()]
    described = ", ".join(f"{type(widget).__name__} {widget.objectName()!r}" for widget in open_windows)
    for widget in open_windows:
        # One careless test must not fail all that follow it.
        widget.close()
        widget.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert not described, (
        f"the test left windows open: {described}. "
        "Register them with qtbot.addWidget(widget), or close them and call deleteLater()."
    )
