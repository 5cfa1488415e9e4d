"""``lorimer doctor``: what this machine has, which versions are installed, and what is wrong, with the command that
mends it.

Nothing heavy is imported: versions come from package metadata, hardware from NVML and psutil.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.machine.detect import Machine, detect
from engine.machine.gpu import Gpu, Throttle
from engine.machine.versions import PACKAGES, TorchBuild, bitsandbytes_cuda, lorimer, torch_build, versions
from engine.protocol.errors import Problem
from engine.protocol.text import Text, say

# Oldest Linux driver that runs a CUDA version's programs (NVIDIA, CUDA toolkit release notes, table 3: minor version
# compatibility). Windows drivers bear other numbers, and there NVML's own CUDA version is compared alone.
OLDEST_DRIVER = {"11": 450, "12": 525, "13": 580}
TORCH = "torch==2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cu130"
# Below this a first run with a small model fills the disk.
LEAST_DISK_GIB = 2.0
# A share of the GPU's memory that others may hold without being named as trouble: a desktop needs some.
OTHERS_MAY_HOLD = 0.2
GET_TORCH = "https://pytorch.org/get-started/locally/"
# NVIDIA GPUs older than this are unknown to torch's and bitsandbytes' builds (torch 2.13: from Turing on).
OLDEST_CAPABILITY = (7, 5)


def doctor(
    path: Path | None = None,
    *,
    machine: Machine | None = None,
    build: TorchBuild | None = None,
    installed: dict[str, str | None] | None = None,
    libraries: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """The document of ``lorimer doctor``: ``{"lorimer", "machine", "versions", "torch", "bitsandbytes", "problems"}``.

    ``torch`` says what it was built for, ``bitsandbytes`` for which CUDA versions it brings a library. Each problem
    has ``code``, ``message``, ``hint`` (the command that mends it) and ``where``; an empty list is good news. What is
    given stands in for what would be looked up.
    """
    here = machine or detect(path)
    found = installed if installed is not None else versions()
    torch = build or (torch_build() if installed is None else None)
    cuda = libraries if libraries is not None else bitsandbytes_cuda()
    problems = tuple(_problems(here, torch, found, cuda))
    return {
        "lorimer": lorimer(),
        "machine": _machine(here),
        "versions": found,
        "torch": None if torch is None else {"version": torch.version, "cuda": torch.cuda, "hip": torch.hip},
        "bitsandbytes": {"cuda": list(cuda)},
        "problems": [{"code": p.code, "message": p.message.en, "hint": p.hint.en, "where": p.where} for p in problems],
        "texts": [{"message": _both(p.message), "hint": _both(p.hint)} for p in problems],
    }


def lines(report: dict[str, Any]) -> list[Text]:
    """The report for people, one line each."""
    machine = report["machine"]
    found = [
        _about(report),
        say("{cpu}, {cores} cores", "{cpu}，{cores} 核", cpu=machine["cpu"] or "CPU", cores=machine["cores"]),
        say(
            "Memory: {free:.1f} GiB free of {total:.1f}",
            "内存：{total:.1f} GiB，可用 {free:.1f}",
            free=machine["ram_free_gib"],
            total=machine["ram_total_gib"],
        ),
        *_container_line(machine),
        _disk_line(machine),
        *(line for gpu in machine["gpus"] for line in _gpu_lines(gpu)),
        *(_other_line(gpu) for gpu in machine["other_gpus"]),
    ]
    if not machine["gpus"]:
        found.append(say("No NVIDIA GPU answers: training runs on the CPU.", "没有检测到 NVIDIA GPU：将用 CPU 训练。"))
    named = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    found.append(say("Installed: {named}", "已安装：{named}", named=named))
    found.append(_built_for(report))
    for problem in report["texts"]:
        found.append(
            say(
                "Problem: {message} {hint}",
                "问题：{message}{hint}",
                message=Text(**problem["message"]),
                hint=Text(**problem["hint"]),
            )
        )
    if not report["problems"]:
        found.append(say("Nothing is wrong.", "一切正常。"))
    return found


def _problems(
    machine: Machine, torch: TorchBuild | None, found: dict[str, str | None], libraries: tuple[str, ...]
) -> list[Problem]:
    """All mismatches between hardware, driver and what is installed."""
    problems = [_missing(package) for package in PACKAGES if found.get(package) is None]
    gpu = machine.gpu
    if machine.nvidia_error:
        problems.append(_silent_driver(machine.nvidia_error))
    if gpu is not None and torch is not None:
        problems += _gpu_problems(gpu, torch)
        if found.get("bitsandbytes") is not None:
            problems += _library_problems(torch, libraries)
    for each in machine.gpus:
        problems += _state_problems(each)
    if torch is not None and torch.hip is None and torch.cuda is None:
        problems += [_amd_without_torch(each, torch) for each in machine.other_gpus if each.vendor == "amd"]
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


def _silent_driver(words: str) -> Problem:
    return Problem(
        "doctor.nvml",
        say("The NVIDIA driver does not answer: {words}.", "NVIDIA 驱动没有响应：{words}。", words=words.rstrip(".")),
        say(
            "Restart the machine, as after an update of the driver. In a container: start it with --gpus all.",
            "请重启电脑，驱动更新后需要重启。若在容器中，请用 --gpus all 启动。",
        ),
        "driver",
    )


def _library_problems(torch: TorchBuild, libraries: tuple[str, ...]) -> list[Problem]:
    """bitsandbytes takes the nearest library of torch's major CUDA version (its cextension.py)."""
    if torch.cuda is None or not libraries:
        return []
    major = torch.cuda.split(".")[0]
    if any(library.split(".")[0] == major for library in libraries):
        return []
    message = say(
        "bitsandbytes brings no library for torch's CUDA {needs}, only for {has}: 4-bit and 8-bit will not work.",
        "bitsandbytes 没有适用于 torch 的 CUDA {needs} 的库，只有 {has}：4 位与 8 位不可用。",
        needs=torch.cuda,
        has=", ".join(libraries),
    )
    return [Problem("doctor.bitsandbytes", message, _run(f"{_pip()} install --upgrade bitsandbytes"), "bitsandbytes")]


_THROTTLE: dict[Throttle, tuple[Text, Text]] = {
    "heat": (
        Text("{name} is too hot ({temperature}) and has slowed down.", "{name} 过热（{temperature}），已降频。"),
        say("Clear its air inlets, or train with fewer programs beside.", "请清理进风口，或减少同时运行的程序。"),
    ),
    "power": (
        Text("{name} is at its power limit ({watts}) and has slowed down.", "{name} 达到功率上限（{watts}），已降频。"),
        say(
            "On a laptop: plug it in. Else see: nvidia-smi -q -d POWER",
            "笔记本电脑请接通电源；其他请看：nvidia-smi -q -d POWER",
        ),
    ),
    "hardware": (
        Text("{name} slows itself down by its hardware.", "{name} 因硬件原因自行降频。"),
        say("See why: nvidia-smi -q -d PERFORMANCE", "查看原因：nvidia-smi -q -d PERFORMANCE"),
    ),
}


def _state_problems(gpu: Gpu) -> list[Problem]:
    """What holds a GPU back now: others' memory, heat, power."""
    problems = []
    users = gpu.users or ()
    held = sum(user.memory_gib or 0.0 for user in users)
    if gpu.total_gib and held > OTHERS_MAY_HOLD * gpu.total_gib:
        most = users[0]
        message = say(
            "Other programs hold {held:.1f} of the {total:.1f} GiB of {name}, most of it {program} (process {pid}).",
            "其他程序占用了 {name} 的 {held:.1f} GiB（共 {total:.1f} GiB），占用最多的是 {program}（进程 {pid}）。",
            held=held,
            total=gpu.total_gib,
            name=gpu.name,
            program=most.name or say("one without a name", "无名程序"),
            pid=most.pid,
        )
        hint = say("Close it before training, or stop what it does.", "训练前请关闭该程序，或停止其任务。")
        problems.append(Problem("doctor.memory_held", message, hint, gpu.name))
    for why in gpu.throttled or ():
        unknown = say("not known", "未知")
        heat, watts = gpu.temperature_c, gpu.power_limit_w
        message, hint = _THROTTLE[why]
        told = {
            "name": gpu.name,
            "temperature": unknown if heat is None else f"{heat:.0f} °C",
            "watts": unknown if watts is None else f"{watts:.0f} W",
        }
        problems.append(Problem(f"doctor.{why}", say(message.en, message.zh, **told), hint, gpu.name))
    return problems


def _amd_without_torch(gpu: Gpu, torch: TorchBuild) -> Problem:
    return Problem(
        "doctor.torch_amd",
        say(
            "{name} answers, but the installed torch {version} is not built for AMD's ROCm.",
            "检测到 {name}，但已安装的 torch {version} 不支持 AMD ROCm。",
            name=gpu.name,
            version=torch.version,
        ),
        say(
            "On Linux choose ROCm at {address} and run the command shown there.",
            "在 Linux 上，请在 {address} 选择 ROCm，并运行该页给出的命令。",
            address=GET_TORCH,
        ),
        "torch",
    )


def _gpu_problems(gpu: Gpu, torch: TorchBuild) -> list[Problem]:
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
        gpu["processes"] = source.processes
    for gpu in (*plain["gpus"], *plain["other_gpus"]):
        for name in ("users", "throttled"):
            gpu[name] = None if gpu[name] is None else list(gpu[name])
    plain["gpus"], plain["other_gpus"] = list(plain["gpus"]), list(plain["other_gpus"])
    return plain


def _about(report: dict[str, Any]) -> Text:
    """What a bug report begins with."""
    machine = report["machine"]
    version = report["lorimer"] or say("(version not known)", "（版本未知）")
    system, python = machine["platform"], machine["python"]
    words = "Lorimer {version}, Python {python}, {system}"
    return say(words, words.replace(", ", "，"), version=version, python=python, system=system)


def _built_for(report: dict[str, Any]) -> Text:
    """What the installed torch and bitsandbytes can compute on."""
    torch, libraries = report["torch"] or {}, report["bitsandbytes"]["cuda"]
    if torch.get("cuda"):
        device = say("CUDA {version}", "CUDA {version}", version=torch["cuda"])
    elif torch.get("hip"):
        device = say("ROCm {version}", "ROCm {version}", version=torch["hip"])
    else:
        device = say("the CPU", "CPU") if torch else say("nothing", "无")
    return say(
        "torch is built for {device}; bitsandbytes for the CPU and CUDA {libraries}",
        "torch 支持 {device}；bitsandbytes 支持 CPU 与 CUDA {libraries}",
        device=device,
        libraries=", ".join(libraries) or "–",
    )


def _container_line(machine: dict[str, Any]) -> list[Text]:
    limit = machine["container_limit_gib"]
    if limit is None:
        return []
    return [say("This container may use {limit:.1f} GiB.", "本容器最多可用 {limit:.1f} GiB。", limit=limit)]


def _disk_line(machine: dict[str, Any]) -> Text:
    free = machine["disk_free_gib"]
    if free is None:
        return say("Disk: free space not known", "磁盘：可用空间未知")
    return say("Disk: {free:.1f} GiB free", "磁盘：可用 {free:.1f} GiB", free=free)


def _other_line(gpu: dict[str, Any]) -> Text:
    """A GPU of another maker. Its name alone says whose it is."""
    unknown = say("not known", "未知")
    total = gpu["total_gib"]
    shared = say("shares the machine's memory", "与内存共用")
    memory = say("{total:.1f} GiB", "{total:.1f} GiB", total=total) if total is not None else unknown
    return say(
        "{name}: {memory}, architecture {architecture}, driver {driver}",
        "{name}：{memory}，架构 {architecture}，驱动 {driver}",
        name=gpu["name"],
        memory=shared if gpu["vendor"] == "apple" else memory,
        architecture=gpu["architecture"] or unknown,
        driver=gpu["driver"] or unknown,
    )


def _gpu_lines(gpu: dict[str, Any]) -> list[Text]:
    """What it is, how it is doing, and who uses it."""
    unknown = say("not known", "未知")
    heat, watts, limit, busy = gpu["temperature_c"], gpu["power_w"], gpu["power_limit_w"], gpu["busy"]
    now = say(
        "  now: {heat}, {watts} of {limit}, busy {busy}",
        "  当前：{heat}，功率 {watts}（上限 {limit}），占用率 {busy}",
        heat=unknown if heat is None else f"{heat:.0f} °C",
        watts=unknown if watts is None else f"{watts:.0f} W",
        limit=unknown if limit is None else f"{limit:.0f} W",
        busy=unknown if busy is None else f"{busy:.0%}",
    )
    return [_gpu_line(gpu), now, *(_user_line(user) for user in gpu["users"] or ())]


def _user_line(user: dict[str, Any]) -> Text:
    held = user["memory_gib"]
    return say(
        "  used by {name} (process {pid}): {held}",
        "  使用者：{name}（进程 {pid}）：{held}",
        name=user["name"] or "?",
        pid=user["pid"],
        held=say("not known", "未知") if held is None else f"{held:.1f} GiB",
    )


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
