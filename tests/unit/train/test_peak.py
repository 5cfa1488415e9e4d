"""The most memory that was held, part by part: kept by the system, looked at, or asked of a GPU."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.host import platform
from engine.train import peak
from engine.train.peak import Peak

GIB = 2**30


@pytest.mark.parametrize("keeps", [True, False])
def test_each_part_has_a_peak_of_its_own(monkeypatch: pytest.MonkeyPatch, keeps: bool) -> None:
    if not keeps:  # as on Windows and macOS
        monkeypatch.setattr(peak, "peak_memory", lambda **_: None)
    elif platform.current() != platform.LINUX:
        pytest.skip("only Linux keeps it")
    monkeypatch.setattr(peak, "SAMPLE_SECONDS", 0.002)
    with Peak("cpu") as watch:
        watch.begin()
        before = watch.gib
        held = torch.ones(GIB // 16)  # 0.25 GiB
        for _ in range(20):
            held += 1
        most = watch.gib
        assert most - before == pytest.approx(0.25, abs=0.1)
        del held
        watch.begin()
        assert watch.gib < most - 0.1


def test_on_a_gpu_the_context_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of 24 GiB of which others hold 2 before; torch reserved 8 at most and 6 now, the context has 0.5."""
    told: list[str] = []
    fake = SimpleNamespace(
        empty_cache=lambda: told.append("emptied"),
        reset_peak_memory_stats=lambda: told.append("reset"),
        max_memory_reserved=lambda: 8 * GIB,
        memory_reserved=lambda: 6 * GIB,
        mem_get_info=lambda: (int(15.5 * GIB), 24 * GIB),
    )
    monkeypatch.setattr(torch, "cuda", fake)
    gpu: Any = SimpleNamespace(total_gib=24.0, free_gib=22.0)
    monkeypatch.setattr(peak, "gpus", lambda: (gpu,))
    with Peak("cuda") as watch:
        watch.begin()
        assert told == ["emptied", "reset"]
        assert watch.gib == pytest.approx(8.5)
    # Of several GPUs it is not known which one torch takes: the usual size of a context is taken.
    monkeypatch.setattr(peak, "gpus", lambda: (gpu, gpu))
    assert Peak("cuda").gib == pytest.approx(8 + peak.CUDA_CONTEXT_GIB)
