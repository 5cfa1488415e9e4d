"""Quantising a GGUF of 1 GB in 16-bit floats: our routine against llama.cpp's ``llama_model_quantize``.

    python tests/bench/bench_gguf_quantise.py --cyllama FOLDER [--types Q8_0 Q4_K_M Q6_K] [--rounds 3]

Both read the same file and write a whole one of the same type, in processes of their own, in turn. llama.cpp comes from
the wheel cyllama in FOLDER (prebuilt, as many threads as cores). Told are the medians of wall time and of processor
time (which other work on the machine disturbs less), how far the rounds lie apart, and the peak of anonymous resident
memory: pages of the mapped source count for neither. The two results are compared byte by byte.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from engine.export.gguf_quantise import quantise
from engine.export.gguf_types import Mix, tensor_bytes, tensor_type
from engine.export.targets import quantisation

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, TOKENS = 2048, 5632, 10, 16, 8, 16000
MIX = Mix(LAYERS, False, HEADS, KV_HEADS)
MEBI = 1024**2


def shapes() -> dict[str, tuple[int, ...]]:
    """A Llama of half a billion weights."""
    width = HIDDEN // HEADS * KV_HEADS
    layer = {
        "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (width, HIDDEN),
        "attn_v": (width, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER),
    }  # fmt: skip
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (TOKENS, HIDDEN), "output.weight": (TOKENS, HIDDEN)}
    found["output_norm.weight"] = (HIDDEN,)
    return found | {f"blk.{number}.{part}.weight": shape for number in range(LAYERS) for part, shape in layer.items()}


def describe(writer: GGUFWriter) -> None:
    """What llama.cpp wants to know."""
    writer.add_vocab_size(TOKENS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)


def generate(path: Path) -> None:
    """Random weights in 16-bit floats."""
    numbers = np.random.default_rng(0)
    begin(path, {name: "F16" if len(shape) > 1 else "F32" for name, shape in shapes().items()}, lambda name: (
        numbers.standard_normal(shapes()[name], dtype=np.float32) * np.float32(0.02)
    ).astype(np.float16 if len(shapes()[name]) > 1 else np.float32))  # fmt: skip


def begin(path: Path, kinds: dict[str, str], values: Any) -> None:
    """Write a file, one tensor at a time in memory."""
    writer = GGUFWriter(path, "llama")
    describe(writer)
    for name, shape in shapes().items():
        size = tensor_bytes(shape, kinds[name])
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, GGMLQuantizationType[kinds[name]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name in shapes():
        writer.write_tensor_data(values(name))
    writer.close()


def ours(source: Path, target: Path, kind: str) -> None:
    """Read a mapped file, write the other."""
    stored = {tensor.name: tensor.data for tensor in GGUFReader(source).tensors}
    kinds = {name: tensor_type(name, shape, kind, MIX) for name, shape in shapes().items()}
    begin(target, kinds, lambda name: quantise(stored[name], kinds[name]))


def theirs(source: Path, target: Path, kind: str) -> None:
    """llama.cpp's own."""
    from cyllama.llama import llama_cpp

    params = llama_cpp.LlamaModelQuantizeParams()
    params.ftype, params.nthread = quantisation(kind).file_type, os.cpu_count() or 1
    llama_cpp.model_quantize(str(source), str(target), params)


def timed(who: str, source: Path, target: Path, kind: str, folder: Path) -> dict[str, float]:
    """Wall and processor seconds of the work alone, and the peak of anonymous memory over that at its beginning."""
    target.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--work", who, str(source), str(target), kind]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, anonymous(watched))
        time.sleep(0.01)
    assert process.stdout is not None
    said = process.stdout.read().split("RESULT")
    if process.returncode or len(said) != 2:
        raise RuntimeError(f"{who} {kind}: exit code {process.returncode}")
    wall, cpu, before = map(float, said[1].split())
    return {"wall": wall, "cpu": cpu, "memory": peak / MEBI, "over": (peak - before) / MEBI}


def anonymous(process: psutil.Process) -> int:
    """Bytes of resident memory that belong to no file."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def work(who: str, source: Path, target: Path, kind: str) -> None:
    """One side's work, in this process."""
    function = {"ours": ours, "theirs": theirs}[who]
    if who == "theirs":
        from cyllama.llama import llama_cpp  # noqa: F401  loading is not measured
    else:
        quantise(np.zeros((1, 256), np.float32), "Q4_K")
    before = anonymous(psutil.Process())
    began, used = time.monotonic(), time.process_time()
    function(source, target, kind)
    print("RESULT", time.monotonic() - began, time.process_time() - used, before)


def same(first: Path, second: Path) -> bool:
    """Whether two files hold the same tensors."""
    one, other = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (first, second))
    return set(one) == set(other) and all(
        one[name].tensor_type == other[name].tensor_type and np.array_equal(one[name].data, other[name].data)
        for name in one
    )


def main() -> None:
    """Measure and write."""
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cyllama", type=Path, required=True)
    parser.add_argument("--types", nargs="+", default=["Q8_0", "Q6_K", "Q4_K_M"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source, mine, other = (Path(folder) / name for name in ("source.gguf", "ours.gguf", "theirs.gguf"))
        generate(source)
        for kind in options.types:
            sides = (("theirs", other), ("ours", mine))
            found: dict[str, list[dict[str, float]]] = {who: [] for who, _ in sides}
            for round_ in range(options.rounds):
                for who, target in sides if round_ % 2 else reversed(sides):
                    found[who].append(timed(who, source, target, kind, options.cyllama))
            rows.append(row(kind, found, same(mine, other)))
        size = source.stat().st_size
    table(rows)
    write("gguf_quantise", {"hardware": hardware(), "source_bytes": size, "rounds": options.rounds, "rows": rows})


def row(kind: str, found: dict[str, list[dict[str, float]]], equal: bool) -> dict[str, Any]:
    """Medians of both sides and the median ratio."""
    median = {
        (who, what): statistics.median(item[what] for item in items)
        for who, items in found.items()
        for what in items[0]
    }
    pairs = list(zip(found["ours"], found["theirs"], strict=True))
    return {
        "type": kind,
        "ours_s": median["ours", "wall"],
        "llama.cpp_s": median["theirs", "wall"],
        "time_ratio": statistics.median(a["wall"] / b["wall"] for a, b in pairs),
        "spread": max(_spread([item["wall"] for item in items]) for items in found.values()),
        "cpu_ratio": statistics.median(a["cpu"] / b["cpu"] for a, b in pairs),
        "ours_MiB": median["ours", "memory"],
        "of_it_by_quantising_MiB": median["ours", "over"],
        "llama.cpp_MiB": median["theirs", "memory"],
        "same_bytes": equal,
    }


def _spread(values: list[float]) -> float:
    """How far the slowest round lies over the quickest, relatively."""
    return max(values) / min(values) - 1


if __name__ == "__main__":
    main()
