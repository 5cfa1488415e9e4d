"""GPUs of AMD, Apple and Intel, by what their makers' tools print. A tool that is absent, or that does not say, leaves
"not known": nothing is guessed.

Formats: ``rocm-smi --json`` and ``amd-smi --json`` (ROCm 6 and 7), ``system_profiler SPDisplaysDataType -json``
(macOS), ``xpu-smi discovery -j`` (XPU Manager 1.2).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from engine.machine.gpu import GIB, Gpu

Run = Callable[[tuple[str, ...]], str | None]
SECONDS = 10.0

ROCM = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showuse", "--showtemp", "--showpower", "--json")
ROCM_DRIVER = ("rocm-smi", "--showdriverversion", "--json")
AMD_STATIC = ("amd-smi", "static", "--asic", "--driver", "--json")
AMD_METRIC = ("amd-smi", "metric", "--usage", "--mem-usage", "--temperature", "--power", "--json")
APPLE = ("system_profiler", "SPDisplaysDataType", "-json")
INTEL = ("xpu-smi", "discovery", "-j")


def printed(command: tuple[str, ...]) -> str | None:
    """What a tool prints, None when it is absent, fails or takes too long."""
    found = shutil.which(command[0])
    if found is None:
        return None
    try:
        done = subprocess.run(
            (found, *command[1:]), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def other_gpus(run: Run = printed) -> tuple[Gpu, ...]:
    """GPUs that are not NVIDIA's, none where no tool answers."""
    return (*amd(run), *apple(run), *intel(run))


def amd(run: Run) -> tuple[Gpu, ...]:
    """AMD's GPUs, by rocm-smi or, where only that is there, its successor amd-smi."""
    return tuple(_rocm_smi(run)) or tuple(_amd_smi(run))


def _rocm_smi(run: Run) -> Iterator[Gpu]:
    cards = _read(run(ROCM), dict)
    driver = _read(run(ROCM_DRIVER), dict).get("system", {}).get("Driver version") if cards else None
    for index, (_, card) in enumerate(sorted((k, v) for k, v in cards.items() if k.startswith("card"))):
        facts = {name.lower(): value for name, value in card.items()}  # older versions write "Card series"
        total, used = _number(facts.get("vram total memory (b)")), _number(facts.get("vram total used memory (b)"))
        busy = _number(facts.get("gpu use (%)"))
        power = facts.get("average graphics package power (w)", facts.get("current socket graphics package power (w)"))
        yield Gpu(
            index,
            str(facts.get("card series") or facts.get("device name") or f"AMD GPU {index}"),
            vendor="amd",
            total_gib=_gib(total),
            free_gib=None if total is None or used is None else (total - used) / GIB,
            architecture=_said(facts.get("gfx version")),
            driver=_said(driver),
            temperature_c=_number(facts.get("temperature (sensor edge) (c)")),
            power_w=_number(power),
            busy=None if busy is None else busy / 100,
        )


def _amd_smi(run: Run) -> Iterator[Gpu]:
    metrics = _rows(run(AMD_METRIC))
    static = {row.get("gpu"): row for row in _rows(run(AMD_STATIC))}
    for index, row in enumerate(metrics):
        chip = _part(static.get(row.get("gpu"), {}), "asic")
        memory, heat = _part(row, "mem_usage"), _part(row, "temperature")
        total, used = _amount(memory.get("total_vram")), _amount(memory.get("used_vram"))  # in MB, which are MiB
        busy = _amount(_part(row, "usage").get("gfx_activity"))
        yield Gpu(
            index,
            str(chip.get("market_name") or f"AMD GPU {index}"),
            vendor="amd",
            total_gib=None if total is None else total / 1024,
            free_gib=None if total is None or used is None else (total - used) / 1024,
            architecture=_said(chip.get("target_graphics_version")),
            driver=_said(_part(static.get(row.get("gpu"), {}), "driver").get("version")),
            temperature_c=_amount(heat.get("edge")) or _amount(heat.get("hotspot")),
            power_w=_amount(_part(row, "power").get("socket_power")),
            busy=None if busy is None else busy / 100,
        )


def apple(run: Run) -> tuple[Gpu, ...]:
    """Apple's own GPUs. Their memory is the machine's, so none of their own is known."""
    found = _read(run(APPLE), dict).get("SPDisplaysDataType", [])
    ours = [each for each in found if str(each.get("spdisplays_vendor", "")).endswith("Apple")]
    return tuple(
        Gpu(
            index,
            str(each.get("sppci_model") or each.get("_name")),
            vendor="apple",
            architecture=_said(str(each.get("spdisplays_mtlgpufamilysupport", "")).removeprefix("spdisplays_")),
        )
        for index, each in enumerate(ours)
    )


def intel(run: Run) -> tuple[Gpu, ...]:
    """Intel's GPUs: the list, then each one's memory."""
    listed = _read(run(INTEL), dict).get("device_list", [])
    found = []
    for index, each in enumerate(listed):
        facts = {**each, **_read(run(("xpu-smi", "discovery", "-d", str(each.get("device_id", index)), "-j")), dict)}
        found.append(
            Gpu(
                index,
                str(facts.get("device_name") or f"Intel GPU {index}"),
                vendor="intel",
                total_gib=_gib(_number(facts.get("memory_physical_size_byte"))),
                free_gib=_gib(_number(facts.get("memory_free_size_byte"))),
                driver=_said(facts.get("driver_version")),
            )
        )
    return tuple(found)


def _read(text: str | None, kind: type[dict[str, Any]]) -> dict[str, Any]:
    """A JSON object that a tool printed, after whatever warnings; empty when it printed none."""
    return next((each for each in _parsed(text, "{") if isinstance(each, kind)), {})


def _rows(text: str | None) -> list[dict[str, Any]]:
    """amd-smi's list of GPUs: bare in ROCm 6, under "gpu_data" in ROCm 7."""
    rows: Any = next(_parsed(text, "[{"), [])
    if isinstance(rows, dict):
        rows = rows.get("gpu_data", [])
    return [row for row in rows if isinstance(row, dict)]


def _parsed(text: str | None, opening: str) -> Iterator[Any]:
    """What JSON stands in a text from one of the ``opening`` characters on."""
    starts = [place for place in (text.find(mark) for mark in opening) if place >= 0] if text else []
    if text is None or not starts:
        return
    try:
        yield json.JSONDecoder().raw_decode(text, min(starts))[0]
    except ValueError:
        return


def _part(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of amd-smi's output; it writes "N/A" for one that the GPU does not have."""
    section = row.get(name)
    return section if isinstance(section, dict) else {}


def _amount(value: Any) -> float | None:
    """amd-smi writes ``{"value": 42, "unit": "W"}``, or "N/A"."""
    return _number(value.get("value") if isinstance(value, dict) else value)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _gib(count: float | None) -> float | None:
    return None if count is None else count / GIB


def _said(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return None if text in ("", "N/A", "unknown") else text
