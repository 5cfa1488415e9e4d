"""What the doctor finds wrong, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.machine.detect import Machine
from engine.machine.doctor import doctor, lines
from engine.machine.gpu import Gpu, GpuUser
from engine.machine.versions import (
    PACKAGES,
    TorchBuild,
    bitsandbytes_cuda,
    installed,
    lorimer,
    torch_build,
    versions,
)
from engine.protocol.codec import to_plain

ALL = dict.fromkeys(PACKAGES, "1.0")
CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CUDA_BUILD = TorchBuild("2.13.0+cu130", "13.0")


def codes(report: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in report["problems"]]


def with_driver(cuda: str | None, capability: tuple[int, int] = (8, 6)) -> Machine:
    gpu = Gpu(0, "NVIDIA RTX A4000", 16.0, 15.0, capability, "525.1", cuda)
    return Machine((gpu,), "CPU", 4, 32.0, 30.0, None, "/", 50.0, "Linux", "3.11")


def test_a_sound_machine(with_gpu: Callable[[float], Machine]) -> None:
    report = doctor(machine=with_gpu(24.0), build=CUDA_BUILD, installed=ALL)
    assert report["problems"] == []
    assert str(lines(report)[-1]) == "Nothing is wrong."


def test_a_cpu_build_beside_a_gpu_is_told_with_the_command(with_gpu: Callable[[float], Machine]) -> None:
    report = doctor(machine=with_gpu(24.0), build=CPU_BUILD, installed=ALL)
    assert codes(report) == ["doctor.torch_cpu"]
    assert "pip install" in report["problems"][0]["hint"]
    assert "2.13.0+cpu" in report["problems"][0]["message"]


def test_a_cpu_build_without_a_gpu_is_right(without_gpu: Machine) -> None:
    assert codes(doctor(machine=without_gpu, build=CPU_BUILD, installed=ALL)) == []


def test_a_driver_too_old_for_torch() -> None:
    report = doctor(machine=with_driver("12.0"), build=CUDA_BUILD, installed=ALL)
    assert codes(report) == ["doctor.driver"]
    assert "580" in report["problems"][0]["hint"]


@pytest.mark.parametrize("cuda", ["13.0", "13.2", "14.0", None])
def test_a_driver_that_is_new_enough_or_silent(cuda: str | None) -> None:
    assert codes(doctor(machine=with_driver(cuda), build=CUDA_BUILD, installed=ALL)) == []


def test_a_gpu_too_old_for_torch() -> None:
    report = doctor(machine=with_driver("13.0", (6, 1)), build=CUDA_BUILD, installed=ALL)
    assert codes(report) == ["doctor.capability"]


def test_missing_packages_are_all_told(without_gpu: Machine) -> None:
    report = doctor(machine=without_gpu, build=CPU_BUILD, installed={**ALL, "bitsandbytes": None, "peft": None})
    assert codes(report) == ["doctor.missing", "doctor.missing"]
    assert (
        "pip install bitsandbytes"
        in {problem["where"]: problem["hint"] for problem in report["problems"]}["bitsandbytes"]
    )


def test_a_driver_that_does_not_answer(without_gpu: Machine) -> None:
    broken = replace(without_gpu, nvidia_error="Driver/library version mismatch")
    report = doctor(machine=broken, build=CPU_BUILD, installed=ALL)
    assert codes(report) == ["doctor.nvml"]
    assert "Restart" in report["problems"][0]["hint"]


def test_bitsandbytes_without_a_library_for_torch(with_gpu: Callable[[float], Machine]) -> None:
    old = doctor(machine=with_gpu(24.0), build=CUDA_BUILD, installed=ALL, libraries=("11.8", "12.8"))
    assert codes(old) == ["doctor.bitsandbytes"]
    assert "pip install --upgrade bitsandbytes" in old["problems"][0]["hint"]
    near = doctor(machine=with_gpu(24.0), build=CUDA_BUILD, installed=ALL, libraries=("12.8", "13.2"))
    assert codes(near) == []


def test_memory_that_others_hold_is_told_with_the_program(with_gpu: Callable[[float], Machine]) -> None:
    def held(*users: GpuUser) -> dict[str, Any]:
        machine = with_gpu(24.0)
        used = replace(machine, gpus=(replace(machine.gpus[0], users=users),))
        return doctor(machine=used, build=CUDA_BUILD, installed=ALL)

    assert codes(held(GpuUser(7, "Xorg", 0.5), GpuUser(8, "browser", None))) == []
    report = held(GpuUser(9, "game", 9.0), GpuUser(7, "Xorg", 0.5))
    assert codes(report) == ["doctor.memory_held"]
    assert "game (process 9)" in report["problems"][0]["message"]
    assert any("used by Xorg (process 7): 0.5 GiB" in str(line) for line in lines(report))


def test_what_slows_a_gpu_down_is_told(with_gpu: Callable[[float], Machine]) -> None:
    machine = with_gpu(24.0)
    slow = replace(machine.gpus[0], throttled=("power", "heat"), temperature_c=91.0, power_limit_w=None)
    report = doctor(machine=replace(machine, gpus=(slow,)), build=CUDA_BUILD, installed=ALL)
    assert codes(report) == ["doctor.power", "doctor.heat"]
    assert "not known" in report["problems"][0]["message"]
    assert "91 °C" in report["texts"][1]["message"]["zh"]
    assert all("{" not in each["message"][language] for each in report["texts"] for language in ("en", "zh"))


def test_an_amd_card_beside_a_torch_without_rocm(without_gpu: Machine) -> None:
    card = Gpu(0, "Radeon RX 7900 XT", 20.0, 19.0, vendor="amd", architecture="gfx1100")
    machine = replace(without_gpu, other_gpus=(card,))
    assert codes(doctor(machine=machine, build=CPU_BUILD, installed=ALL)) == ["doctor.torch_amd"]
    assert codes(doctor(machine=machine, build=TorchBuild("2.13.0+rocm7.0", None, "7.0"), installed=ALL)) == []


def test_gpus_of_other_makers_are_listed(without_gpu: Machine) -> None:
    cards = (
        Gpu(0, "Apple M2 Max", vendor="apple", architecture="metal4"),
        Gpu(0, "Arc B580", 12.0, vendor="intel", driver="1.2"),
    )
    report = doctor(machine=replace(without_gpu, other_gpus=cards), build=CPU_BUILD, installed=ALL)
    text = "\n".join(str(line) for line in lines(report))
    assert "Apple M2 Max: shares the machine's memory, architecture metal4, driver not known" in text
    assert "Arc B580: 12.0 GiB, architecture not known, driver 1.2" in text
    assert report["problems"] == []


def test_a_bug_report_begins_with_versions_and_says_what_is_built_for_what(without_gpu: Machine) -> None:
    def told(build: TorchBuild, *libraries: str) -> list[str]:
        return [
            str(line)
            for line in lines(doctor(machine=without_gpu, build=build, installed=ALL, libraries=tuple(libraries)))
        ]

    first, *others = told(CUDA_BUILD, "12.8", "13.0")
    assert first == f"Lorimer {lorimer()}, Python 3.11, Linux"
    assert "torch is built for CUDA 13.0; bitsandbytes for the CPU and CUDA 12.8, 13.0" in others
    assert any("built for the CPU; bitsandbytes for the CPU and CUDA –" in line for line in told(CPU_BUILD))
    assert any("built for ROCm 7.0" in line for line in told(TorchBuild("2.13.0+rocm7.0", None, "7.0")))


def test_a_containers_limit_is_told(without_gpu: Machine) -> None:
    report = doctor(machine=replace(without_gpu, container_limit_gib=4.0), build=CPU_BUILD, installed=ALL)
    assert any("container may use 4.0 GiB" in str(line) for line in lines(report))


def test_libraries_of_bitsandbytes_are_read_without_importing_it() -> None:
    found = bitsandbytes_cuda()
    assert all(len(version.split(".")) == 2 for version in found)
    assert installed("bitsandbytes") is None or found


def test_a_full_disk(without_gpu: Machine) -> None:
    report = doctor(machine=replace(without_gpu, disk_free_gib=0.5), build=CPU_BUILD, installed=ALL)
    assert codes(report) == ["doctor.disk"]


def test_a_disk_or_gpu_that_does_not_tell_is_called_unknown(without_gpu: Machine) -> None:
    silent = replace(without_gpu, disk_free_gib=None, gpus=(Gpu(0, "GPU 0"),))
    text = "\n".join(str(line) for line in lines(doctor(machine=silent, build=CUDA_BUILD, installed=ALL)))
    assert text.count("not known") >= 3
    assert "None" not in text


def test_this_machine_is_told_in_json_and_in_both_languages() -> None:
    report = doctor()
    assert to_plain(report) == report
    assert report["versions"]["torch"] == installed("torch")
    assert all(line.en and line.zh for line in lines(report))


def test_versions_name_what_is_missing() -> None:
    assert installed("no-such-package-anywhere") is None
    assert set(versions()) == set(PACKAGES)


def test_torch_is_read_without_being_imported() -> None:
    build = torch_build()
    assert build is not None
    assert build.version.split("+")[0] == str(installed("torch")).split("+")[0]
    if build.version.endswith("+cpu"):
        assert build.cuda is None
