"""What is detected: by a pretended NVML, by the real psutil, and in pretended containers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from engine.machine import detect as module
from engine.machine.detect import GIB, container_memory, detect, gauge, gpus, nvidia_error, tree_memory_gib
from engine.machine.gpu import GpuUser

from .conftest import FakeNvml, Holder, NVMLError


def test_a_gpu_that_tells_everything(one_gpu: FakeNvml) -> None:
    (gpu,) = gpus(nvml=one_gpu)
    assert (gpu.name, gpu.total_gib, gpu.free_gib) == ("NVIDIA GeForce RTX 4090", 24.0, 20.0)
    assert (gpu.capability, gpu.bf16, gpu.driver, gpu.cuda) == ((8, 9), True, "580.65.06", "13.0")
    assert (gpu.temperature_c, gpu.power_w, gpu.busy, gpu.processes) == (61, 215.5, 0.37, 2)
    assert one_gpu.open == 0


def test_what_a_gpu_does_not_tell_is_not_guessed() -> None:
    (gpu,) = gpus(nvml=FakeNvml([{}]))
    assert gpu.name == "GPU 0"
    assert (gpu.total_gib, gpu.capability, gpu.bf16, gpu.power_w, gpu.busy) == (None, None, None, None, None)


def test_who_uses_it_is_named_once(one_gpu: FakeNvml) -> None:
    """The first computes and draws; the driver does not say what the second holds."""
    (gpu,) = gpus(nvml=one_gpu)
    assert gpu.users == (GpuUser(4_000_001, "", 3.0), GpuUser(4_000_002, "", None))


def test_a_program_is_told_by_its_name() -> None:
    own = FakeNvml([{"nvmlDeviceGetComputeRunningProcesses": [Holder(os.getpid(), GIB)]}])
    (gpu,) = gpus(nvml=own)
    assert gpu.users == (GpuUser(os.getpid(), psutil.Process().name(), 1.0),)


@pytest.mark.parametrize(
    ("bits", "why"),
    [
        (0x0, ()),
        (0x1 | 0x2 | 0x10 | 0x100, ()),  # idle, settings, a synchronised group, the display's clock
        (0x4, ("power",)),
        (0x80, ("power",)),
        (0x20, ("heat",)),
        (0x48, ("heat", "hardware")),
        (0x4 | 0x40, ("power", "heat")),
    ],
)
def test_why_clocks_are_held_down(bits: int, why: tuple[str, ...]) -> None:
    (gpu,) = gpus(nvml=FakeNvml([{"nvmlDeviceGetCurrentClocksThrottleReasons": bits}]))
    assert gpu.throttled == why


def test_the_power_limit_is_read(one_gpu: FakeNvml) -> None:
    assert gpus(nvml=one_gpu)[0].power_limit_w == 450.0


def test_no_driver_means_no_gpu() -> None:
    assert gpus(nvml=FakeNvml(starts=False)) == ()
    assert nvidia_error(nvml=FakeNvml(starts=False)) == ""


def test_a_driver_that_does_not_answer_is_told() -> None:
    after_update = FakeNvml(starts=False, failure=NVMLError("Driver/library version mismatch", 18))
    found = detect(nvml=after_update)
    assert (found.gpus, found.nvidia_error) == ((), "Driver/library version mismatch")


def test_a_driver_that_answers_is_left_closed(one_gpu: FakeNvml) -> None:
    assert nvidia_error(nvml=one_gpu) == ""
    assert one_gpu.open == 0


def test_gpus_of_other_makers_stand_apart() -> None:
    card = '{"card0": {"Card Series": "Radeon", "VRAM Total Memory (B)": "8589934592"}}'
    found = detect(nvml=FakeNvml(starts=False), tools=lambda command: card if command[0] == "rocm-smi" else None)
    assert [(gpu.vendor, gpu.total_gib) for gpu in found.other_gpus] == [("amd", 8.0)]
    assert found.gpu is None


def test_a_gpu_older_than_ampere_has_no_bf16() -> None:
    (gpu,) = gpus(nvml=FakeNvml([{"nvmlDeviceGetCudaComputeCapability": (7, 5)}]))
    assert gpu.bf16 is False


def test_the_gpu_with_most_free_memory_is_taken() -> None:
    nvml = FakeNvml(
        [
            {"nvmlDeviceGetMemoryInfo": _memory(24, 2)},
            {"nvmlDeviceGetMemoryInfo": _memory(12, 11)},
            {},
        ]
    )
    chosen = detect(nvml=nvml).gpu
    assert chosen is not None
    assert chosen.index == 1


def _memory(total: int, free: int) -> object:
    from .conftest import Amounts

    return Amounts(total=total * GIB, free=free * GIB)


def test_this_machine() -> None:
    found = detect(nvml=FakeNvml(starts=False))
    assert found.gpu is None
    assert 0 < found.ram_free_gib <= found.ram_total_gib
    assert found.ram_total_gib <= psutil.virtual_memory().total / GIB
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.disk_free_gib is not None
    assert found.disk_free_gib > 0


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = detect(tmp_path / "a" / "b", nvml=FakeNvml(starts=False))
    assert found.disk_path == str(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    inactive = "total_inactive_file" if version == 1 else "inactive_file"
    files = _cgroup(tmp_path, str(4 * GIB), str(3 * GIB), f"anon 5\n{inactive} {GIB}\n")
    monkeypatch.setattr(module, "CGROUP_LIMITS", (("/nowhere", "/nowhere", "/nowhere"), files))
    assert container_memory() == (4.0, 2.0)
    found = detect(nvml=FakeNvml(starts=False))
    assert found.container_limit_gib == 4.0
    assert found.ram_total_gib == 4.0
    assert found.ram_free_gib <= 2.0


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "nonsense"])
def test_no_limit_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(module, "CGROUP_LIMITS", (_cgroup(tmp_path, limit, "0", ""),))
    assert container_memory() == (None, 0.0)
    assert detect(nvml=FakeNvml(starts=False)).container_limit_gib is None


def _cgroup(folder: Path, limit: str, used: str, stat: str) -> tuple[str, str, str]:
    for name, content in (("limit", limit), ("used", used), ("stat", stat)):
        (folder / name).write_text(content + "\n")
    return str(folder / "limit"), str(folder / "used"), str(folder / "stat")


def test_the_gauge_of_a_gpu(one_gpu: FakeNvml) -> None:
    reading = gauge(nvml=one_gpu)
    assert (reading.memory_gib, reading.memory_total_gib, reading.busy) == (4.0, 24.0, 0.37)
    assert (reading.temperature_c, reading.power_w) == (61, 215.5)


def test_the_gauge_of_a_cpu() -> None:
    reading = gauge(nvml=FakeNvml(starts=False))
    assert reading.memory_gib is not None
    assert reading.memory_total_gib is not None
    assert 0 < reading.memory_gib < reading.memory_total_gib
    assert reading.temperature_c is None


def test_the_gauge_of_a_process() -> None:
    reading = gauge(os.getpid(), nvml=FakeNvml(starts=False))
    assert reading.memory_gib is not None
    assert reading.memory_gib >= psutil.Process().memory_info().rss / GIB * 0.9


def test_a_process_that_has_ended_has_no_memory() -> None:
    ended = psutil.Popen(["true"])
    ended.wait()
    assert tree_memory_gib(ended.pid) is None


def test_the_gauge_is_cheap() -> None:
    driver = FakeNvml(starts=False)
    gauge(nvml=driver)
    started = time.process_time()
    for _ in range(20):
        gauge(nvml=driver)
    assert (time.process_time() - started) / 20 < 0.005
