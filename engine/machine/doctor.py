"""``lorimer doctor``: what this machine has, which versions are installed, and what is wrong, with the command that
mends it.

Nothing heavy is imported: versions come from package metadata, hardware from NVML and psutil.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.machine.detect import Gpu, Machine, detect
from engine.machine.versions import PACKAGES, TorchBuild, torch_build, versions
from engine.protocol.errors import Problem
from engine.protocol.text import Text, say

# Oldest Linux driver that runs a CUDA version's programs (NVIDIA, CUDA toolkit release notes, table 3: minor version
# compatibility). Windows drivers bear other numbers, and there NVML's own CUDA version is compared alone.
OLDEST_DRIVER = {"11": 450, "12": 525, "13": 580}
TORCH = "torch==2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cu130"
# Below this a first run with a small model fills the disk.
LEAST_DISK_GIB = 2.0
# NVIDIA GPUs older than this are unknown to torch's and bitsandbytes' builds (torch 2.13: from Turing on).
OLDEST_CAPABILITY = (7, 5)


def doctor(
    path: Path | None = None,
    *,
    machine: Machine | None = None,
    build: TorchBuild | None = None,
    installed: dict[str, str | None] | None = None,
) -> dict[str, Any]:
    """The document of ``lorimer doctor``: ``{"machine", "versions", "torch", "problems"}``.

    Each problem has ``code``, ``message``, ``hint`` (the command that mends it) and ``where``; an empty list is good
    news. What is given stands in for what would be looked up."""
    here = machine or detect(path)
    found = installed if installed is not None else versions()
    torch = build or (torch_build() if installed is None else None)
    problems = tuple(_problems(here, torch, found))
    return {
        "machine": _machine(here),
        "versions": found,
        "torch": None if torch is None else {"version": torch.version, "cuda": torch.cuda},
        "problems": [{"code": p.code, "message": p.message.en, "hint": p.hint.en, "where": p.where} for p in problems],
        "texts": [{"message": _both(p.message), "hint": _both(p.hint)} for p in problems],
    }


def lines(report: dict[str, Any]) -> list[Text]:
    """The report for people, one line each."""
    machine = report["machine"]
    found = [
        say("{cpu}, {cores} cores", "{cpu}，{cores} 核", cpu=machine["cpu"] or "CPU", cores=machine["cores"]),
        say(
            "Memory: {free:.1f} GiB free of {total:.1f}",
            "内存：{total:.1f} GiB，可用 {free:.1f}",
            free=machine["ram_free_gib"],
            total=machine["ram_total_gib"],
        ),
        _disk_line(machine),
        *(_gpu_line(gpu) for gpu in machine["gpus"]),
    ]
    if not machine["gpus"]:
        found.append(say("No NVIDIA GPU answers: training runs on the CPU.", "没有检测到 NVIDIA GPU：将用 CPU 训练。"))
    named = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    found.append(say("Installed: {named}", "已安装：{named}", named=named))
    for problem in report["texts"]:
        found.append(
            say(
                "Problem: {message} {hint}",
                "问题：{message} {hint}",
                message=Text(**problem["message"]),
                hint=Text(**problem["hint"]),
            )
        )
    if not report["problems"]:
        found.append(say("Nothing is wrong.", "一切正常。"))
    return found


def _problems(machine: Machine, torch: TorchBuild | None, found: dict[str, str | None]) -> list[Problem]:
    """All mismatches between hardware, driver and what is installed."""
    problems = [_missing(package) for package in PACKAGES if found.get(package) is None]
    gpu = machine.gpu
    if gpu is not None and torch is not None:
        problems += _gpu_problems(gpu, torch, found)
    if machine.disk_free_gib is not None and machine.disk_free_gib < LEAST_DISK_GIB:
        message = say(
            "Only {free:.1f} GiB are free where {path} lies.",
            "{path} 所在磁盘只剩 {free:.1f} GiB。",
            free=machine.disk_free_gib,
            path=machine.disk_path,
        )
        hint = say("Free some space, or choose another folder.", "请腾出空间，或选择其他文件夹。")
        problems.append(Problem("doctor.disk", message, hint, machine.disk_path))
    return problems


def _gpu_problems(gpu: Gpu, torch: TorchBuild, found: dict[str, str | None]) -> list[Problem]:
    problems = []
    if torch.cuda is None:
        problems.append(
            Problem(
                "doctor.torch_cpu",
                say(
                    "{name} answers, but the installed torch {version} is built for the CPU only.",
                    "检测到 {name}，但已安装的 torch {version} 只支持 CPU。",
                    name=gpu.name,
                    version=torch.version,
                ),
                _run(f"{_pip()} install --force-reinstall {TORCH} --index-url {TORCH_INDEX}"),
                "torch",
            )
        )
    elif _driver_too_old(gpu, torch.cuda):
        problems.append(
            Problem(
                "doctor.driver",
                say(
                    "The NVIDIA driver {driver} (CUDA {has}) is too old for torch's CUDA {needs}.",
                    "NVIDIA 驱动 {driver}（CUDA {has}）过旧，不满足 torch 所需的 CUDA {needs}。",
                    driver=gpu.driver or "?",
                    has=gpu.cuda or "?",
                    needs=torch.cuda,
                ),
                say(
                    "Install driver {driver} or newer from https://www.nvidia.com/drivers and restart.",
                    "请从 https://www.nvidia.com/drivers 安装 {driver} 或更新的驱动，然后重启。",
                    driver=OLDEST_DRIVER.get(torch.cuda.split(".")[0], 580),
                ),
                "driver",
            )
        )
    if gpu.capability is not None and gpu.capability < OLDEST_CAPABILITY:
        major, minor = gpu.capability
        message = say(
            "{name} (compute capability {version}) is older than what torch supports.",
            "{name}（计算能力 {version}）早于 torch 支持的范围。",
            name=gpu.name,
            version=f"{major}.{minor}",
        )
        hint = say("Plan for the CPU: lorimer plan --gpu-memory 0", "请按 CPU 规划：lorimer plan --gpu-memory 0")
        problems.append(Problem("doctor.capability", message, hint, gpu.name))
    return problems


def _driver_too_old(gpu: Gpu, cuda: str) -> bool:
    """Whether the driver's CUDA major version is below torch's (minor versions are compatible, NVIDIA's release
    notes)."""
    if gpu.cuda is None:
        return False
    return int(gpu.cuda.split(".")[0]) < int(cuda.split(".")[0])


def _missing(package: str) -> Problem:
    message = say("{package} is not installed.", "未安装 {package}。", package=package)
    return Problem("doctor.missing", message, _run(f"{_pip()} install {package}"), package)


def _pip() -> str:
    return f"{sys.executable} -m pip"


def _run(command: str) -> Text:
    return say("Run: {command}", "请运行：{command}", command=command)


def _both(text: Text) -> dict[str, str]:
    return {"en": text.en, "zh": text.zh}


def _machine(machine: Machine) -> dict[str, Any]:
    plain = asdict(machine)
    for gpu, source in zip(plain["gpus"], machine.gpus, strict=True):
        gpu["capability"] = None if source.capability is None else ".".join(map(str, source.capability))
        gpu["bf16"] = source.bf16
    plain["gpus"] = list(plain["gpus"])
    return plain


def _disk_line(machine: dict[str, Any]) -> Text:
    free = machine["disk_free_gib"]
    if free is None:
        return say("Disk: free space not known", "磁盘：可用空间未知")
    return say("Disk: {free:.1f} GiB free", "磁盘：可用 {free:.1f} GiB", free=free)


def _gpu_line(gpu: dict[str, Any]) -> Text:
    unknown = say("not known", "未知")
    total, free = gpu["total_gib"], gpu["free_gib"]
    memory = (
        unknown
        if total is None or free is None
        else say("{free:.1f} of {total:.1f} GiB free", "{total:.1f} GiB，可用 {free:.1f}", free=free, total=total)
    )
    return say(
        "{name}: {memory}, compute capability {capability}, driver {driver}, CUDA {cuda}",
        "{name}：{memory}，计算能力 {capability}，驱动 {driver}，CUDA {cuda}",
        name=gpu["name"],
        memory=memory,
        capability=gpu["capability"] or unknown,
        driver=gpu["driver"] or unknown,
        cuda=gpu["cuda"] or unknown,
    )
