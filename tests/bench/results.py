"""What every bench script shares: the hardware's name, a table, and the JSON file of results."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"


def hardware() -> str:
    """Processor, cores and memory, and the GPU where one answers."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    text = f"{name}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1024**3:.0f} GiB"
    return " + ".join([text, *_gpus()])


def _gpus() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
        return [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError:
        return []


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows under their common heads."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [heads, *[[_cell(row.get(head, "")) for head in heads] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    for line in cells:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(name: str, content: dict[str, Any]) -> None:
    """Write ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    stamped = {"date": time.strftime("%Y-%m-%d"), **content}
    (RESULTS / f"{name}.json").write_text(json.dumps(stamped, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
