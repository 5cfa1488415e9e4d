"""What the machine has: NVIDIA's GPUs by NVML, others by their makers' tools, processor and memory by psutil. No torch,
and nothing is guessed: what cannot be read is None.

NVML is imported where it is asked, so that tests and machines without an NVIDIA driver need none.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.machine.gpu import GIB, Gpu, GpuUser, Throttle
from engine.machine.others import Run, other_gpus
from engine.protocol.events import Gauge

# Where a container's memory limit stands: cgroup v2, then v1. Absent elsewhere, and then there is no limit to read.
CGROUP_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


# Why clocks are held down (nvml.h, nvmlClocksEventReason…); idling and settings of one's own are no trouble.
THROTTLES: tuple[tuple[int, Throttle], ...] = (
    (0x04 | 0x80, "power"),  # software power cap, external power brake
    (0x20 | 0x40, "heat"),  # software and hardware thermal slowdown
    (0x08, "hardware"),  # hardware slowdown, of whatever cause
)
# NVML's answers where there is simply no NVIDIA driver: not loaded, and library not found (nvml.h, nvmlReturn_t).
NO_DRIVER = (9, 12)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run can use.

    Attributes:
        gpus: NVIDIA GPUs, in NVML's order.
        cpu: the processor's name, empty when unknown.
        cores: cores that this process may use.
        ram_total_gib, ram_free_gib: memory of the machine or, where it is smaller, of the container.
        container_limit_gib: the container's memory limit, None without one.
        disk_free_gib: free space where ``disk_path`` lies.
        platform: such as "Linux-6.1-x86_64".
        other_gpus: GPUs of other makers; `gpu` and the forecasts leave them out.
        nvidia_error: NVML's words when there is a driver and it does not answer.
    """

    gpus: tuple[Gpu, ...]
    cpu: str
    cores: int
    ram_total_gib: float
    ram_free_gib: float
    container_limit_gib: float | None
    disk_path: str
    disk_free_gib: float | None
    platform: str
    python: str
    other_gpus: tuple[Gpu, ...] = ()
    nvidia_error: str = ""

    @property
    def gpu(self) -> Gpu | None:
        """The GPU with the most free memory, None without one whose memory is known."""
        known = [gpu for gpu in self.gpus if gpu.total_gib is not None]
        return max(known, key=lambda gpu: gpu.free_gib or 0.0, default=None)


def detect(path: Path | None = None, *, nvml: Any = None, tools: Run | None = None) -> Machine:
    """What this machine has.

    Args:
        path: where runs will be written, for the free disk; the current folder when absent.
        nvml: stands in for the pynvml module.
        tools: stands in for running the tools of AMD, Apple and Intel.
    """
    where = _existing(path or Path.cwd())
    memory = psutil.virtual_memory()
    limit, used = container_memory()
    total, free = memory.total / GIB, memory.available / GIB
    if limit is not None and limit < total:
        total, free = limit, min(free, max(0.0, limit - used))
    return Machine(
        gpus=gpus(nvml=nvml),
        cpu=processor_name(),
        cores=usable_cores(),
        ram_total_gib=total,
        ram_free_gib=free,
        container_limit_gib=limit,
        disk_path=str(where),
        disk_free_gib=disk_free_gib(where),
        platform=platform.platform(terse=True) + "-" + platform.machine(),
        python=platform.python_version(),
        other_gpus=other_gpus() if tools is None else other_gpus(tools),
        nvidia_error=nvidia_error(nvml=nvml),
    )


def gpus(*, nvml: Any = None) -> tuple[Gpu, ...]:
    """The NVIDIA GPUs; none where no driver answers."""
    module = nvml or _pynvml()
    if module is None:
        return ()
    try:
        module.nvmlInit()
    except module.NVMLError:
        return ()
    try:
        driver = _text(_ask(module, module.nvmlSystemGetDriverVersion))
        cuda = _cuda_version(_ask(module, module.nvmlSystemGetCudaDriverVersion_v2))
        count = _ask(module, module.nvmlDeviceGetCount) or 0
        return tuple(_gpu(module, index, driver, cuda) for index in range(count))
    finally:
        module.nvmlShutdown()


def nvidia_error(*, nvml: Any = None) -> str:
    """What NVML says when a driver is there and does not answer ("Driver/library version mismatch", after an update);
    empty when it answers or when there is none."""
    module = nvml or _pynvml()
    if module is None:
        return ""
    try:
        module.nvmlInit()
    except module.NVMLError as error:
        return "" if getattr(error, "value", None) in NO_DRIVER else str(error)
    module.nvmlShutdown()
    return ""


def _gpu(module: Any, index: int, driver: str | None, cuda: str | None) -> Gpu:
    handle = _ask(module, module.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return Gpu(index, f"GPU {index}", driver=driver, cuda=cuda)
    memory = _ask(module, module.nvmlDeviceGetMemoryInfo, handle)
    rates = _ask(module, module.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = _ask(module, module.nvmlDeviceGetPowerUsage, handle)
    limit = _ask(module, module.nvmlDeviceGetEnforcedPowerLimit, handle)
    capability = _ask(module, module.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        index=index,
        name=_text(_ask(module, module.nvmlDeviceGetName, handle)) or f"GPU {index}",
        total_gib=None if memory is None else memory.total / GIB,
        free_gib=None if memory is None else memory.free / GIB,
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
        driver=driver,
        cuda=cuda,
        temperature_c=_ask(module, module.nvmlDeviceGetTemperature, handle, module.NVML_TEMPERATURE_GPU),
        power_w=None if milliwatts is None else milliwatts / 1000,
        busy=None if rates is None else rates.gpu / 100,
        users=_users(module, handle),
        throttled=_throttled(_ask(module, module.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
        power_limit_w=None if limit is None else limit / 1000,
    )


def _users(module: Any, handle: Any) -> tuple[GpuUser, ...] | None:
    """Who holds memory, most first; a process that computes and draws is named once."""
    computing = _ask(module, module.nvmlDeviceGetComputeRunningProcesses, handle)
    drawing = _ask(module, module.nvmlDeviceGetGraphicsRunningProcesses, handle)
    if computing is None and drawing is None:
        return None
    held = {each.pid: each.usedGpuMemory for each in (*(drawing or ()), *(computing or ()))}
    users = [GpuUser(pid, _name(pid), None if used is None else used / GIB) for pid, used in held.items()]
    return tuple(sorted(users, key=lambda user: -(user.memory_gib or 0.0)))


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def _throttled(reasons: int | None) -> tuple[Throttle, ...] | None:
    return None if reasons is None else tuple(name for bits, name in THROTTLES if reasons & bits)


def gauge(pid: int | None = None, *, nvml: Any = None) -> Gauge:
    """Memory, temperature, power and use now, for live display; about a millisecond without a GPU.

    Args:
        pid: on the CPU, memory of this process and its children is given instead of the whole machine's.
        nvml: stands in for the pynvml module.
    """
    found = gpus(nvml=nvml)
    if found:
        gpu = max(found, key=lambda each: (each.total_gib or 0.0) - (each.free_gib or 0.0))
        used = None if gpu.total_gib is None or gpu.free_gib is None else gpu.total_gib - gpu.free_gib
        return Gauge(
            memory_gib=used,
            memory_total_gib=gpu.total_gib,
            busy=gpu.busy,
            temperature_c=gpu.temperature_c,
            power_w=gpu.power_w,
        )
    memory = psutil.virtual_memory()
    limit, used_by_container = container_memory()
    limited = limit is not None and limit < memory.total / GIB
    total = limit if limited else memory.total / GIB
    whole = used_by_container if limited else (memory.total - memory.available) / GIB
    return Gauge(
        memory_gib=whole if pid is None else tree_memory_gib(pid),
        memory_total_gib=total,
        busy=psutil.cpu_percent(interval=None) / 100,
    )


def tree_memory_gib(pid: int) -> float | None:
    """Resident memory of a process and its children, None when it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / GIB


def container_memory() -> tuple[float | None, float]:
    """The container's memory limit in GiB (None without one) and what it uses, file cache left out."""
    for limit_file, used_file, stat_file in CGROUP_LIMITS:
        limit = _number(limit_file)
        # cgroup v1 writes "no limit" as a number near 2^63.
        if limit is None or limit >= 2**60:
            continue
        used = (_number(used_file) or 0) - _inactive_file(stat_file)
        return limit / GIB, max(0.0, used / GIB)
    return None, 0.0


def disk_free_gib(path: Path) -> float | None:
    """Free space in GiB for this user where ``path`` is or will be, None when it cannot be read."""
    try:
        return psutil.disk_usage(str(_existing(path))).free / GIB
    except OSError:
        return None


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name, empty when the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _pynvml() -> Any:
    """The NVML module, None where its package is missing."""
    if "pynvml" in sys.modules:
        return sys.modules["pynvml"]
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _ask(module: Any, question: Any, *arguments: Any) -> Any:
    """One NVML answer, None where this driver or GPU does not give it."""
    try:
        return question(*arguments)
    except module.NVMLError:
        return None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _cuda_version(value: Any) -> str | None:
    """NVML gives 1000 · major + 10 · minor."""
    return None if value is None else f"{int(value) // 1000}.{int(value) % 1000 // 10}"


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _inactive_file(path: str) -> int:
    """File cache that the kernel can drop at once, in bytes."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(fields.get("inactive_file", fields.get("total_inactive_file", "0")))


def _existing(path: Path) -> Path:
    """``path`` or its closest parent that exists."""
    path = path.absolute()
    return next((each for each in (path, *path.parents) if each.exists()), path)
