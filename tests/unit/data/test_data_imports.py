"""What importing the data room costs: never torch, and its declarations next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "datasets", "pandas", "PySide6")


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (("engine.data.preview", "engine.data.check", "engine.data.prepare"), (*HEAVY, "pyarrow")),
        (
            ("engine.data.registry", "engine.data.templates", "engine.data.rows"),
            (*HEAVY, "pyarrow", "tokenizers", "jinja2", "charset_normalizer"),
        ),
    ],
)
def test_what_is_imported(repository: Path, modules: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {', '.join(modules)}; print(*sorted(set({forbidden!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
