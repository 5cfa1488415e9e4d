"""GPUs of AMD, Apple and Intel, by recorded output of their makers' tools."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from engine.machine import others
from engine.machine.others import Run, amd, apple, intel, other_gpus, printed

# rocm-smi of ROCm 6, one Radeon RX 7900 XT (marimo-team/marimo issue 9237); the warning before it, temperature and
# power are as in other recordings of the same tool.
ROCM_SMI = """WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card0": {"GPU use (%)": "37", "Temperature (Sensor edge) (C)": "44.0", "Average Graphics Package Power (W)": "22.0",
"VRAM Total Memory (B)": "21458059264", "VRAM Total Used Memory (B)": "27856896", "Card Series": "Radeon RX 7900 XT",
"Card Model": "0x744c", "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]", "Card SKU": "D70401XT",
"Subsystem ID": "0x471e", "Device Rev": "0xcc", "Node ID": "1", "GUID": "26967", "GFX Version": "gfx1100"}}
"""
ROCM_DRIVER = '{"system": {"Driver version": "6.7.0"}}'
# Older: other capitals, power under its later name, one value "N/A".
ROCM_SMI_OLD = """{"card0": {"Card series": "Instinct MI210", "VRAM Total Memory (B)": "68702699520",
"VRAM Total Used Memory (B)": "10747904", "GPU use (%)": "7", "Current Socket Graphics Package Power (W)": "41.0",
"Temperature (Sensor edge) (C)": "N/A"}}"""
AMD_STATIC = """{"gpu_data": [{"gpu": 0, "asic": {"market_name": "AMD Instinct MI350X", "vendor_id": "0x1002",
"device_id": "0x75a0", "num_compute_units": 128, "target_graphics_version": "gfx950"},
"driver": {"name": "amdgpu", "version": "6.18.3"}}]}"""
AMD_METRIC = """{"gpu_data": [{"gpu": 0, "usage": {"gfx_activity": {"value": 42, "unit": "%"}},
"power": {"socket_power": {"value": 225, "unit": "W"}}, "temperature": {"edge": "N/A", "hotspot": {"value": 44,
"unit": "C"}}, "mem_usage": {"total_vram": {"value": 294896, "unit": "MB"}, "used_vram": {"value": 284, "unit": "MB"}}},
{"gpu": 1, "usage": "N/A", "mem_usage": "N/A"}]}"""
# macOS 15 on a MacBook with a display (its entry is no GPU), and an Intel Mac with two cards.
MAC = """{"SPDisplaysDataType" : [{"_name" : "Apple M2 Max", "spdisplays_mtlgpufamilysupport" : "spdisplays_metal4",
"spdisplays_ndrvs" : [{"_name" : "Color LCD", "spdisplays_online" : "spdisplays_yes"}],
"spdisplays_vendor" : "sppci_vendor_Apple", "sppci_bus" : "spdisplays_builtin", "sppci_cores" : "30",
"sppci_device_type" : "spdisplays_gpu", "sppci_model" : "Apple M2 Max"}]}"""
INTEL_MAC = """{"SPDisplaysDataType":[{"_name":"Intel Iris Pro","sppci_model":"Intel Iris Pro"},
{"_name":"kHW_NVidiaGeForceGT750MItem","sppci_model":"NVIDIA GeForce GT 750M","spdisplays_vram":"2 GB"}]}"""
# XPU Manager 1.2 on a Data Center GPU Max 1100.
XPU_LIST = '{"device_list": [{"device_id": 0, "device_name": "Intel(R) Data Center GPU Max 1100"}]}'
XPU_ONE = """{"device_id": 0, "device_name": "Intel(R) Data Center GPU Max 1100",
"driver_version": "I915_23.10.72_PSB_231129.76", "gfx_firmware_version": "unknown", "memory_bus_width": "128",
"memory_free_size_byte": "51493543936", "memory_physical_size_byte": "51522830336", "number_of_tiles": "1",
"vendor_name": "Intel(R) Corporation"}"""


def says(**tools: str) -> Run:
    """A machine whose tools print this; "amd-smi metric" is written amd_smi_metric."""

    def run(command: tuple[str, ...]) -> str | None:
        words = [word.replace("-", "_") for word in command]
        names = ("_".join(words[:count]) for count in range(len(words), 0, -1))
        return next((tools[name] for name in names if name in tools), None)

    return run


def test_no_tool_means_nothing_is_known() -> None:
    assert other_gpus(says()) == ()


def test_an_amd_card_by_rocm_smi() -> None:
    (gpu,) = amd(says(rocm_smi=ROCM_SMI, rocm_smi___showdriverversion=ROCM_DRIVER))
    assert (gpu.vendor, gpu.name, gpu.architecture) == ("amd", "Radeon RX 7900 XT", "gfx1100")
    assert gpu.total_gib == pytest.approx(19.98, abs=0.01)
    assert gpu.free_gib == pytest.approx(19.96, abs=0.01)
    assert (gpu.temperature_c, gpu.power_w, gpu.busy, gpu.driver) == (44.0, 22.0, 0.37, "6.7.0")
    assert gpu.capability is None
    assert gpu.bf16 is None


def test_an_older_rocm_smi_and_a_value_that_is_not_there() -> None:
    (gpu,) = amd(says(rocm_smi=ROCM_SMI_OLD))
    assert (gpu.name, gpu.power_w, gpu.temperature_c) == ("Instinct MI210", 41.0, None)
    assert (gpu.architecture, gpu.busy) == (None, 0.07)


def test_an_amd_card_by_amd_smi_where_rocm_smi_is_gone() -> None:
    first, second = amd(says(amd_smi_static=AMD_STATIC, amd_smi_metric=AMD_METRIC))
    assert (first.name, first.architecture, first.driver) == ("AMD Instinct MI350X", "gfx950", "6.18.3")
    assert first.total_gib == pytest.approx(287.98, abs=0.01)
    assert (first.temperature_c, first.power_w, first.busy) == (44.0, 225.0, 0.42)
    assert (second.name, second.total_gib, second.busy) == ("AMD GPU 1", None, None)


def test_amd_smi_of_rocm_six_prints_a_bare_list() -> None:
    (gpu,) = amd(says(amd_smi_metric='[{"gpu": 0, "mem_usage": {"total_vram": {"value": 16368, "unit": "MB"}}}]'))
    assert (gpu.total_gib, gpu.free_gib) == (pytest.approx(15.98, abs=0.01), None)


def test_a_mac_with_its_own_chip() -> None:
    (gpu,) = apple(says(system_profiler=MAC))
    assert (gpu.vendor, gpu.name, gpu.architecture, gpu.total_gib) == ("apple", "Apple M2 Max", "metal4", None)


def test_an_intel_mac_has_no_gpu_of_apples() -> None:
    assert apple(says(system_profiler=INTEL_MAC)) == ()


def test_an_intel_card() -> None:
    (gpu,) = intel(says(xpu_smi_discovery__j=XPU_LIST, xpu_smi_discovery__d_0__j=XPU_ONE))
    assert (gpu.vendor, gpu.name) == ("intel", "Intel(R) Data Center GPU Max 1100")
    assert gpu.total_gib == pytest.approx(47.98, abs=0.01)
    assert gpu.free_gib == pytest.approx(47.96, abs=0.01)
    assert gpu.driver == "I915_23.10.72_PSB_231129.76"


@pytest.mark.parametrize("text", ["", "not found", "{", "[1, 2]", '{"card0": ', '"text"'])
def test_what_is_no_answer_is_none(text: str) -> None:
    assert other_gpus(says(rocm_smi=text, amd_smi=text, system_profiler=text, xpu_smi=text)) == ()


def test_a_tool_that_is_absent_or_fails_prints_nothing() -> None:
    assert printed(("no-such-tool-anywhere", "--json")) is None
    assert printed((sys.executable, "-c", "print('{}')")) == "{}\n"
    assert printed((sys.executable, "-c", "raise SystemExit(3)")) is None


def test_a_tool_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(others, "SECONDS", 0.2)
    assert printed((sys.executable, "-c", "import time; time.sleep(30)")) is None
