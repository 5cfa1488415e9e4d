"""``python -m gui``: the window. A missing part is told in a sentence, not in a traceback."""

from __future__ import annotations

import os
import sys

APT = (
    "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0"
)


def main(arguments: list[str] | None = None) -> int:
    """Open the window; gives the exit code."""
    try:
        from PySide6 import QtWidgets  # noqa: F401  asked first: it says which system library is missing
    except ImportError as error:
        sys.stderr.write(
            f"The window cannot be opened, because a part of Qt is missing: {error}.\n"
            f"On Debian or Ubuntu: sudo apt-get install -y {APT}\n"
            "Elsewhere: python3 packaging/run.py --set-up-only\n"
        )
        return 1
    if not _has_display():
        sys.stderr.write(
            "The window cannot be opened, because there is no display here.\n"
            "Without a window: lorimer demo, or python3 packaging/run.py --headless\n"
        )
        return 1
    from gui.app import run

    return run(arguments)


def _has_display() -> bool:
    """Whether Qt will find a screen: Qt itself aborts the process when it finds none."""
    from engine.host.platform import LINUX, current

    given = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return current() != LINUX or any(os.environ.get(name) for name in given)


if __name__ == "__main__":
    sys.exit(main())
