"""What a run is computed with: Lorimer, Python, libraries, processor, GPUs. Kept beside each run, so that it can be
told later what is other now.

Nothing heavy is imported: versions come from package metadata, hardware from NVML and psutil.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.machine.detect import Machine, detect, usable_cores
from engine.machine.gpu import Gpu
from engine.machine.versions import installed, lorimer, torch_build
from engine.protocol.text import Text, say

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = 1
PACKAGES = (
    *("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "numpy"),
    *("datasets", "tokenizers", "safetensors"),
)
NUMERIC = (
    *("ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "MKL_CBWR"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""Variables that may change figures; those that set the number of threads do so by `threads`."""
SHOWN = (
    *NUMERIC,
    *("BNB_CUDA_VERSION", "CUDA_LAUNCH_BLOCKING", "HF_HUB_OFFLINE", "LANG", "LC_ALL", "LORIMER_LANG"),
    *("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "QT_QPA_PLATFORM", "QT_SCALE_FACTOR", "TOKENIZERS_PARALLELISM"),
    *("TRANSFORMERS_OFFLINE", "XDG_SESSION_TYPE"),
)
"""Variables that are written down. No other one is ever looked at: the rest may hold passwords."""


def environment(device: str = "", *, machine: Machine | None = None) -> dict[str, Any]:
    """What this process computes with, as plain JSON.

    Args:
        device: where the run computes: "cpu" or "cuda"; empty when it is not decided.
        machine: stands in for what would be detected.
    """
    here = machine or detect()
    build = torch_build()
    return {
        "layout": LAYOUT,
        "lorimer": lorimer(),
        "commit": commit(ROOT),
        "python": here.python,
        "platform": here.platform,
        "system": platform.system(),
        "versions": {**{name: installed(name) for name in PACKAGES}, **({"torch": build.version} if build else {})},
        "torch_cuda": build.cuda if build else None,
        "torch_hip": build.hip if build else None,
        "device": device,
        "cpu": here.cpu,
        "cores": here.cores,
        "threads": threads(),
        "ram_gib": round(here.ram_total_gib, 2),
        "gpus": [_gpu(gpu) for gpu in (*here.gpus, *here.other_gpus)],
        "variables": {name: os.environ[name] for name in SHOWN if name in os.environ},
    }


def threads() -> int:
    """Threads that torch computes with; where it is not loaded, those that it would be told to take."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(told) if told.isdecimal() and int(told) > 0 else usable_cores()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[Text]:
    """What is other in a way that may change figures in their last bits, each as a short phrase.

    What either side does not know is passed over: ``before`` may be of an older version, or damaged.

    Args:
        before: `environment` as it was kept; now: as it is.
    """
    return [_instead(name, new, old) for name, old, new in _pairs(before, now) if _differ(old, new)]


def _pairs(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[Text, Any, Any]]:
    """(what, before, now) of all that figures depend on."""
    old, new = _table(before, "versions"), _table(now, "versions")
    for name in PACKAGES:
        yield Text(name, name), old.get(name), new.get(name)
    plain = (
        ("python", Text("Python", "Python")),
        ("system", say("system", "操作系统")),
        ("device", say("device", "计算设备")),
    )
    for key, label in plain:
        yield label, before.get(key), now.get(key)
    on_cpu = before.get("device") == now.get("device") == "cpu"
    if on_cpu or not (_cards(before) and _cards(now)):
        yield say("processor", "处理器"), before.get("cpu"), now.get("cpu")
        yield say("threads", "线程数"), before.get("threads"), now.get("threads")
    if not on_cpu:
        yield say("GPU", "GPU"), _cards(before), _cards(now)
        yield say("driver", "驱动"), _drivers(before), _drivers(now)
        yield say("CUDA of torch", "torch 的 CUDA"), before.get("torch_cuda"), now.get("torch_cuda")
    old, new = _table(before, "variables"), _table(now, "variables")
    if "variables" in before:
        for name in NUMERIC:
            yield Text(name, name), old.get(name, "–"), new.get(name, "–")


def _differ(old: Any, new: Any) -> bool:
    """Whether both are known, plain, and not the same."""
    plain = (str, int, float)
    known = isinstance(old, plain) and isinstance(new, plain) and old != "" and new != ""
    return known and old != new


def _instead(name: Text, new: Any, old: Any) -> Text:
    new, old = (str(value)[:80] for value in (new, old))
    return say("{name} {new} instead of {old}", "{name} 为 {new}（原为 {old}）", name=name, new=new, old=old)


def _table(kept: dict[str, Any], name: str) -> dict[str, Any]:
    found = kept.get(name)
    return found if isinstance(found, dict) else {}


def _cards(kept: dict[str, Any]) -> str:
    return _of_cards(kept, "name")


def _drivers(kept: dict[str, Any]) -> str:
    return _of_cards(kept, "driver")


def _of_cards(kept: dict[str, Any], key: str) -> str:
    cards = kept.get("gpus")
    found = [card.get(key) for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
    return ", ".join(dict.fromkeys(str(value) for value in found if value))


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "vendor": gpu.vendor,
        "total_gib": None if gpu.total_gib is None else round(gpu.total_gib, 2),
        "capability": None if gpu.capability is None else list(gpu.capability),
        "architecture": gpu.architecture,
        "driver": gpu.driver,
        "cuda": gpu.cuda,
    }


def commit(root: Path) -> str | None:
    """The commit that a checkout stands at, None where Lorimer is no checkout. Git itself is not run."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head or None
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text(encoding="utf-8").strip() or None
        lines = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return next((line.split(" ", 1)[0] for line in lines if line.endswith(f" {name}")), None)
