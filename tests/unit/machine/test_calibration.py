"""The correction by what was measured: that it covers the cases, and that it is kept and read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.host.platform import config_folder
from engine.machine.calibration import KEPT, UNCALIBRATED, Calibration, Measured, calibrate, known, record
from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.forecast import WRITE_BYTES_PER_SECOND, DataFacts, forecast, measured, room
from engine.machine.memory import CPU_PROCESS_GIB, predict
from engine.machine.time import saves, step_seconds
from engine.methods.lora import LoraSettings
from engine.objectives.sft import SftSettings
from engine.recipe.recipe import Recipe

HERE = ("cpu", "Example CPU", 32.0)
PLAN = Recipe(method=LoraSettings(), objective=SftSettings())


def held(counted: float, passing: float, share: float, fixed: float = 0.5) -> Measured:
    return Measured(counted, passing, counted + fixed + share * passing)


def told(calibration: Calibration, case: Measured) -> float:
    assert calibration.fixed_gib is not None
    assert calibration.share is not None
    return case.counted_gib + calibration.fixed_gib + calibration.share * case.passing_gib


# ------------------------------------------------------------------------------------------------------- the correction
def test_without_measurements_nothing_is_corrected() -> None:
    assert calibrate((), 0.55, 0.2) == UNCALIBRATED


def test_one_measurement_is_met() -> None:
    case = held(2.0, 1.0, 0.4)
    assert told(calibrate([case], 0.5, 0.2), case) == pytest.approx(case.held_gib)


@pytest.mark.parametrize("count", [3, 20])
def test_few_cases_are_all_covered(count: int) -> None:
    cases = [held(1.0 + n, 0.5 + n / 4, 0.2 + 0.01 * (n % 7)) for n in range(count)]
    found = calibrate(cases, 0.5, 0.2)
    assert found.cases == count
    assert all(told(found, case) >= case.held_gib - 1e-9 for case in cases)


def test_one_odd_case_of_many_counts_for_nothing() -> None:
    cases = [held(1.0 + n, 0.5 + n / 4, 0.2 + 0.001 * n) for n in range(39)]
    found = calibrate([*cases, held(3.0, 1.0, 30.0)], 0.5, 0.2)
    assert all(case.held_gib - 1e-9 <= told(found, case) < 1.1 * case.held_gib for case in cases)


def test_what_is_assumed_is_scaled_to_what_was_held() -> None:
    found = calibrate([held(1.0, 0.1, 0.1, fixed=0.25), held(2.0, 1.0, 0.1, fixed=0.25)], 0.5, 0.2)
    assert (found.fixed_gib, found.share) == (pytest.approx(0.25), pytest.approx(0.1))


def test_it_never_tells_less_than_the_formulas_count() -> None:
    below = Measured(counted_gib=4.0, passing_gib=1.0, held_gib=3.0)
    found = calibrate([below], 0.55, 0.2)
    assert (found.fixed_gib, found.share) == (0.0, 0.0)


def test_time_is_the_middle_of_what_was_measured() -> None:
    base = held(1.0, 1.0, 0.1)
    cases = [replace(base, told_seconds=2.0, seconds=seconds) for seconds in (3.0, 4.0, 5.0)]
    asleep = replace(base, told_seconds=1.0, seconds=5_000.0)
    assert calibrate([*cases, base, asleep], 0.5, 0.2).time == 2.0


def test_a_method_s_speed_is_its_own() -> None:
    base = held(1.0, 1.0, 0.1)
    cases = [
        replace(base, method=method, told_seconds=1.0, seconds=seconds)
        for method, seconds in (("lora", 2.0), ("qlora", 8.0), ("lora", 4.0))
    ]
    found = calibrate(cases, 0.5, 0.2)
    assert (found.time_of("lora"), found.time_of("qlora")) == (3.0, 8.0)
    assert found.time_of("ia3") == found.time == 4.0


def test_what_another_torch_did_counts_no_more() -> None:
    old, new = held(1.0, 1.0, 5.0), replace(held(1.0, 1.0, 0.2), torch="2.13")
    assert calibrate([old, new], 0.5, 0.2) == calibrate([new], 0.5, 0.2)


def test_the_disk_is_the_middle_of_what_was_measured() -> None:
    base = held(1.0, 1.0, 0.1)
    cases = [
        replace(base, told_checkpoint_bytes=100, checkpoint_bytes=110, write_bytes_per_second=speed)
        for speed in (1e6, 3e6, 9e6)
    ]
    found = calibrate([*cases, base], 0.5, 0.2)
    assert (found.checkpoint, found.write_bytes_per_second) == (1.1, 3e6)
    assert calibrate([base], 0.5, 0.2).write_bytes_per_second is None


# ------------------------------------------------------------------------------------------------------------ the file
def test_measurements_are_kept_per_device_the_newest_last() -> None:
    for number in range(KEPT + 5):
        record(*HERE, Measured(1.0, 0.5, 2.0 + number))
    record("cpu", "Example CPU", 64.0, Measured(9.0, 9.0, 9.0))
    kept = known(*HERE)
    assert len(kept) == KEPT
    assert kept[-1].held_gib == 2.0 + KEPT + 4
    assert known("cpu", "Example CPU", 64.0)[0].held_gib == 9.0
    assert known("cuda", "Example CPU", 32.0) == ()


def file_of_here() -> Path:
    record(*HERE, Measured(1.0, 0.5, 2.0))
    (file,) = (config_folder() / "measured").iterdir()
    return file


def test_a_field_of_a_later_version_is_passed_over() -> None:
    file = file_of_here()
    content = json.loads(file.read_text())
    content["measured"][0]["colour"] = "blue"
    file.write_text(json.dumps(content))
    assert known(*HERE) == (Measured(1.0, 0.5, 2.0),)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"measured": 3}', '{"measured": [{}]}', '{"measured": [[1, 2]]}', '{"measured": [null]}']
)
def test_a_damaged_file_is_as_none(text: str) -> None:
    file_of_here().write_text(text)
    assert known(*HERE) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("held_gib", "x"), ("held_gib", -1.0), ("seconds", None), ("checkpoint_bytes", True), ("method", 3)],
)
def test_what_is_no_amount_is_not_believed(field: str, value: object) -> None:
    file = file_of_here()
    content = json.loads(file.read_text())
    content["measured"][0][field] = value
    file.write_text(json.dumps(content))
    assert known(*HERE) == ()


# --------------------------------------------------------------------------------------------------------- in forecasts
def test_the_forecast_follows_what_was_measured(without_gpu: Machine, small_dims: ModelDims, rows: DataFacts) -> None:
    before = forecast(PLAN, small_dims, rows, room(without_gpu))
    memory = before.memory
    line = Measured(
        memory.counted_gib, memory.passing_gib, held_gib=memory.counted_gib + 3.0, told_seconds=1.0, seconds=2.0
    )
    record("cpu", without_gpu.cpu, without_gpu.ram_total_gib, line)
    after = forecast(PLAN, small_dims, rows, room(without_gpu))
    assert after.memory.total == pytest.approx(memory.counted_gib + 3.0)
    assert after.step_seconds == pytest.approx(2 * before.step_seconds)
    assert after.memory.parts["weights"] == memory.parts["weights"]


def test_a_rehearsal_s_measurement_corrects_the_next_forecast(
    without_gpu: Machine, small_dims: ModelDims, rows: DataFacts
) -> None:
    where = room(without_gpu)
    plan = PLAN.model_copy(update={"train": PLAN.train.model_copy(update={"save_minutes": 0.0})})
    before = forecast(plan, small_dims, rows, where)
    step = step_seconds(small_dims, plan, where.speed, length=900)
    told_size = before.checkpoint_bytes
    found = measured(
        plan, small_dims, where, length=900, held_gib=2.0, seconds=3 * step, checkpoint=(2 * told_size, 0.5)
    )
    assert (found.method, found.told_seconds) == ("lora", pytest.approx(step))
    assert found.write_bytes_per_second == 4 * told_size
    record(where.device, where.name, where.whole_gib, found)
    after = forecast(plan, small_dims, rows, room(without_gpu))
    assert after.step_seconds == pytest.approx(3 * before.step_seconds)
    assert after.checkpoint_bytes == 2 * told_size
    written = saves(plan, before.steps, 200)
    expected = 3 * (before.seconds - written * told_size / WRITE_BYTES_PER_SECOND) + written * 0.5
    assert after.seconds == pytest.approx(expected)


def test_an_imagined_gpu_is_not_corrected(without_gpu: Machine) -> None:
    record("cuda", "GPU (24 GiB)", 24.0, Measured(1.0, 1.0, 20.0))
    assert room(without_gpu, gpu_memory_gib=24.0).calibration == UNCALIBRATED


def test_the_parts_add_up_to_what_is_counted_and_the_reserve(small_dims: ModelDims) -> None:
    memory = predict(small_dims, PLAN, longest=256, device="cpu", calibration=Calibration(share=0.0, cases=1))
    assert memory.parts["reserve"] == pytest.approx(CPU_PROCESS_GIB)
    assert memory.counted_gib + CPU_PROCESS_GIB == pytest.approx(memory.total)
    assert 0 < memory.passing_gib < memory.counted_gib
