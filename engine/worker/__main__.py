"""The child: ``python -m engine.worker FOLDER`` for a job, ``python -m engine.worker --session KIND`` for a session.

Started by name from `engine.host`; nothing imports it. Its standard output is the private event channel: it is moved to
another descriptor first, and descriptor 1 then points at the log, so that a library's print can corrupt nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO


def main(arguments: list[str]) -> int:
    """Do what the command line names; gives the exit code."""
    private = os.dup(1)
    os.dup2(2, 1)
    faulthandler.enable(2)
    sys.stdout, sys.stderr = _tolerant(1), _tolerant(2)
    _set_environment()
    from engine.project.hub_access import apply_mirror
    from engine.project.secrets import guard_output

    apply_mirror()
    guard_output()
    if arguments[:1] == ["--session"] and len(arguments) == 2:
        from engine.worker.session import serve

        return serve(arguments[1], private)
    if len(arguments) == 1:
        from engine.worker.job import work

        return work(Path(arguments[0]), private)
    sys.stderr.write("usage: python -m engine.worker FOLDER | --session KIND\n")
    return 2


class _Log(io.RawIOBase):
    """A descriptor that never refuses: a library's print on a full disk must not end the training."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        with contextlib.suppress(OSError):
            return os.write(self._descriptor, content)
        return len(content)


def _tolerant(descriptor: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Log(descriptor)), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _set_environment() -> None:
    """What the libraries must know before they are imported. What the user has set stays."""
    for name, value in {
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        # Idle threads sleep: with the default they spin, and a busy machine then loses most of its time to waiting.
        # Before they sleep they look for a moment whether there is more, which small models need: a step of the starter
        # takes 0.20 s on two cores, without that moment 0.38 s (libgomp; other OpenMP libraries do not read the name).
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "20000",
    }.items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # All is told and written. Taking the libraries apart takes seconds, and who resumes would have to wait for them.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
