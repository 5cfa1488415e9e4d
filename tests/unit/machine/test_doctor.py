"""What the doctor finds wrong, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.machine.detect import Gpu, Machine
from engine.machine.doctor import doctor, lines
from engine.machine.versions import PACKAGES, TorchBuild, installed, torch_build, versions
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
