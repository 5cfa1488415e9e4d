"""``lorimer``: the engine without a window. Whatever a page does, a command does too, by the same functions.

Exit codes: 0 done, 1 failed, 2 the input is wrong, 130 interrupted. With ``--json`` exactly one JSON document goes to
standard output; its shapes are described in ``docs/command-line.md``.

Only the entry stands here. It imports what it needs when it runs, so that Ctrl+C is answered from the start.
"""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from engine.commands import run

        return run(given)
    except KeyboardInterrupt:
        from engine.commands import interrupted

        return interrupted(given)


if __name__ == "__main__":
    sys.exit(main())
