"""A machine and data to advise for, and an NVML that never saw a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.machine.detect import Machine
from engine.machine.dims import ModelDims
from engine.machine.forecast import DataFacts, Lengths
from engine.machine.gpu import Gpu

GIB = 2**30


@pytest.fixture
def config_dims(shared_data: Path) -> Callable[[str], ModelDims]:
    """Name of a published config → its widths."""

    def read(name: str) -> ModelDims:
        return ModelDims.from_config(json.loads((shared_data / "configs" / f"{name}.json").read_text()))

    return read


@pytest.fixture
def small_dims() -> ModelDims:
    """A small grouped-query model with tied embeddings."""
    return ModelDims.from_config(
        {
            "model_type": "llama",
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "vocab_size": 2048,
            "tie_word_embeddings": True,
            "max_position_embeddings": 1024,
        }
    )


@pytest.fixture
def rows() -> DataFacts:
    """2,000 rows of dialogue with a few long ones."""
    return DataFacts(2000, Lengths(250.0, 220, 420, 500, 700, 900), files=("rows.json",))


def machine(*gpus: Gpu, ram: float = 32.0) -> Machine:
    """A machine with these GPUs."""
    return Machine(
        gpus=gpus,
        cpu="Example CPU",
        cores=8,
        ram_total_gib=ram,
        ram_free_gib=ram * 0.9,
        container_limit_gib=None,
        disk_path="/",
        disk_free_gib=100.0,
        platform="Linux",
        python="3.11",
    )


@pytest.fixture
def without_gpu() -> Machine:
    """32 GiB of memory and no GPU."""
    return machine()


@pytest.fixture
def with_gpu() -> Callable[[float], Machine]:
    """GiB → a machine with one GPU of that size, all free."""

    def make(gib: float) -> Machine:
        return machine(Gpu(0, "NVIDIA GeForce RTX 3090", gib, gib, (8, 6), "580.65", "13.0"))

    return make


class NVMLError(Exception):
    """As pynvml's."""

    def __init__(self, text: str, value: int = 9) -> None:
        super().__init__(text)
        self.value = value


@dataclass
class FakeNvml:
    """Answers like pynvml for the GPUs it is given; a missing answer raises as a driver without support does.

    Attributes:
        gpus: answers by name, per GPU.
        starts: whether a driver answers at all.
        failure: what it raises when it does not.
        open: initialisations without a shutdown.
    """

    gpus: list[dict[str, Any]] = field(default_factory=list)
    starts: bool = True
    failure: NVMLError | None = None
    open: int = 0
    NVMLError: type[Exception] = NVMLError
    NVML_TEMPERATURE_GPU: int = 0

    def nvmlInit(self) -> None:
        if not self.starts:
            raise self.failure or NVMLError("no driver")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.gpus[index]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(handle: dict[str, Any], *_: Any) -> Any:
            if name not in handle:
                raise NVMLError("not supported")
            return handle[name]

        if not name.startswith("nvmlDevice"):
            raise AttributeError(name)
        return answer


@dataclass
class Amounts:
    """NVML's memory or use, by name."""

    total: int = 0
    free: int = 0
    gpu: int = 0


@dataclass
class Holder:
    """A process that holds GPU memory, as NVML tells it."""

    pid: int
    usedGpuMemory: int | None


@pytest.fixture
def one_gpu() -> FakeNvml:
    """A driver with one GPU that tells everything."""
    return FakeNvml(
        [
            {
                "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
                "nvmlDeviceGetMemoryInfo": Amounts(total=24 * GIB, free=20 * GIB),
                "nvmlDeviceGetUtilizationRates": Amounts(gpu=37),
                "nvmlDeviceGetPowerUsage": 215_500,
                "nvmlDeviceGetComputeRunningProcesses": [Holder(4_000_001, 3 * GIB), Holder(4_000_002, None)],
                "nvmlDeviceGetGraphicsRunningProcesses": [Holder(4_000_001, GIB)],
                "nvmlDeviceGetEnforcedPowerLimit": 450_000,
                "nvmlDeviceGetCurrentClocksThrottleReasons": 0x1,
                "nvmlDeviceGetCudaComputeCapability": (8, 9),
                "nvmlDeviceGetTemperature": 61,
            }
        ]
    )
