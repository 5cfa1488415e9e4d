"""The cause of a silent end, from exit code and log."""

import pytest

from engine.host.diagnose import diagnose


@pytest.mark.parametrize(
    ("code", "log", "expected"),
    [
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "memory.gpu"),
        (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "memory.ram"),
        (1, "OSError: [Errno 28] No space left on device", "disk.full"),
        (1, "ModuleNotFoundError: No module named 'trl'", "install.incomplete"),
        (1, "CUDA error: an illegal memory access was encountered", "gpu.error"),
        (-9, "step 12", "process.killed"),
        (None, "", "process.killed"),
        (-11, "Fatal Python error: Segmentation fault", "process.crashed"),
        (3, "bye", "process.ended"),
    ],
)
def test_cause(code: int | None, log: str, expected: str) -> None:
    failure = diagnose(code, log)
    assert failure.code == expected
    assert failure.message.zh
    assert failure.hint.zh
    assert failure.details == log


@pytest.mark.parametrize(("code", "expected"), [(-9, "memory.killed"), (None, "memory.killed"), (3, "process.ended")])
def test_the_systems_own_count_is_proof(code: int | None, expected: str) -> None:
    failure = diagnose(code, "step 12", by_system=True)
    assert failure.code == expected
    assert failure.message.zh
    assert failure.hint.zh
