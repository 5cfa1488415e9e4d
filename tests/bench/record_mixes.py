"""Records which type llama.cpp's own ``quantize`` gives every tensor, for the tests of `engine.export.gguf_types`.

    PYTHONPATH=FOLDER_OF_CYLLAMA python tests/bench/record_mixes.py [--library libllama.so ...]

For every model of `MODELS` a GGUF of zeros with the family's own names, numbers of layers and widths is written (few
rows a matrix: they decide nothing) and handed to ``llama_model_quantize`` of the wheel cyllama, which holds llama.cpp
prebuilt, for every type that Lorimer offers. With ``--library`` the same is asked of another llama.cpp, built from
source, and every difference is told; where one version refuses a model (b9190 does for rows that are no multiple of
32), the next that does not is recorded. The tables go to tests/unit/export/mixes.json, types run-length encoded over
the layers, with the versions of llama.cpp. Where two versions choose differently nothing is recorded.

The bytes are recorded as well: a small Llama of random weights is quantised to every type, and SHA-256 of each GGML
type that occurs go to tests/unit/export/quantised.json.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.export.gguf_types import TABLES, is_matrix, tensor_type  # noqa: E402
from engine.export.targets import QUANTISATIONS, quantisation  # noqa: E402
from tests.mixes import RANDOM_ROWS, WIDTHS, Model, weights  # noqa: E402

RECORDED = ROOT / "tests" / "unit" / "export" / "mixes.json"
BYTES = RECORDED.with_name("quantised.json")
ROWS = 2
TYPES = tuple(name for name in TABLES if name not in ("F32", "F16", "BF16"))

# The matrices of a layer → which width their rows have ("n": hidden, "q": heads times their size, "f": feed-forward).
ATTENTION = {"attn_q": "n", "attn_k": "n", "attn_v": "n", "attn_output": "q"}
DENSE = {"ffn_gate": "n", "ffn_up": "n", "ffn_down": "f"}
EXPERTS = {"ffn_gate_inp": "n", "ffn_gate_exps": "n", "ffn_up_exps": "n", "ffn_down_exps": "f"}
NORMS = ("attn_norm", "ffn_norm")
AROUND = ("post_attention_norm", "post_ffw_norm")


def model(name: str, architecture: str, layers: int, heads: str, **other: Any) -> Model:
    """A model with ``heads`` "32:8" (of queries, of keys and values), tiny widths and a dense network unless said."""
    of_queries, _, of_values = heads.partition(":")
    vectors = other.pop("vectors", ())
    norms = tuple(f"{part}.weight" for part in (*NORMS, *(part for part in vectors if "bias" not in part)))
    biases = tuple(part for part in vectors if "bias" in part)
    return Model(
        **{
            "name": name, "architecture": architecture, "layers": layers, "heads": int(of_queries),
            "kv_heads": int(of_values or of_queries), "tied": False, "hidden": 256, "inner": 512, "head_dim": 64,
            "matrices": ATTENTION | DENSE, "vectors": norms + biases,
            **other,
        }
    )  # fmt: skip


def mixture(name: str, architecture: str, layers: int, heads: str, experts: int, **other: Any) -> Model:
    """A model whose layers have experts."""
    return model(name, architecture, layers, heads, experts=experts, matrices=ATTENTION | EXPERTS, **other)


QWEN2 = ("attn_q.bias", "attn_k.bias", "attn_v.bias")
QWEN3 = ("attn_q_norm", "attn_k_norm")
FUSED = {"attn_qkv": "n", "attn_output": "q", "ffn_up": "n", "ffn_down": "f"}
MODELS = (
    *(model(f"Llama of {n} layers", "llama", n, "8") for n in (1, 2, 4, 7, 16, 32)),
    *(model(f"Llama of {n} layers, tied", "llama", n, "32:8", tied=True) for n in (2, 4, 16, 26, 30)),
    model("Llama like the 8B", "llama", 32, "32:8", inner=1024),
    model("Llama like the 70B", "llama", 80, "64:8"),
    model("Llama like the 65B", "llama", 80, "64"),
    model("Llama of rows of 288 and 768", "llama", 6, "6", hidden=288, inner=768, head_dim=48),
    model("Llama of rows of 576 and 1536, tied", "llama", 30, "9:3", tied=True, hidden=576, inner=1536),
    model("Llama of rows of 64 and 172, tied", "llama", 5, "8:4", tied=True, hidden=64, inner=172, head_dim=8),
    model("Llama of rows of 64 and 172", "llama", 5, "8:2", hidden=64, inner=172, head_dim=8),
    model("Llama of rows of 100", "llama", 4, "4:1", hidden=100, inner=300, head_dim=25),
    model("Mistral", "llama", 32, "32:8", inner=1792),
    model("Qwen2, tied", "qwen2", 24, "14:2", tied=True, hidden=896, inner=4864, vectors=QWEN2),
    model("Qwen2.5", "qwen2", 28, "28:4", vectors=QWEN2),
    model("Qwen2.5 like the 72B", "qwen2", 80, "64:8", vectors=QWEN2),
    model("Qwen2 of 80 layers, heads alone", "qwen2", 80, "8", vectors=QWEN2),
    model("Qwen3, tied", "qwen3", 28, "16:8", tied=True, head_dim=128, vectors=QWEN3),
    model("Qwen3", "qwen3", 36, "32:8", vectors=QWEN3),
    model("Qwen3 of 80 layers", "qwen3", 80, "64:8", vectors=QWEN3),
    model("Gemma 2", "gemma2", 26, "8:4", tied=True, head_dim=256, hidden=2304, inner=9216, vectors=AROUND),
    model("Gemma 3 270M", "gemma3", 18, "4:1", tied=True, hidden=640, inner=2048, head_dim=256, vectors=AROUND + QWEN3),
    model("Gemma 3", "gemma3", 26, "4:1", tied=True, hidden=1152, inner=6912, head_dim=256, vectors=AROUND + QWEN3),
    model("Phi-3", "phi3", 32, "32", matrices=FUSED),
    model("Phi-3 medium", "phi3", 40, "40:10", matrices=FUSED),
    mixture("Mixtral", "llama", 32, "32:8", 8),
    mixture("Mixtral of 2 layers", "llama", 2, "8:2", 8),
    mixture("Mixtral of 4 experts", "llama", 4, "8:2", 4),
    mixture("Mixtral of 80 layers, 16 experts", "llama", 80, "64:8", 16),
    mixture("Qwen3-MoE", "qwen3moe", 48, "32:4", 128, vectors=QWEN3),
    mixture("Qwen3-MoE of 94 layers", "qwen3moe", 94, "64:4", 4, vectors=QWEN3),
    mixture("Qwen3-MoE of 8 experts, tied", "qwen3moe", 4, "8:4", 8, tied=True, vectors=QWEN3),
)


def zeros(shape: tuple[int, ...]) -> NDArray[Any]:
    """A matrix of which only the shape counts."""
    return np.zeros(shape, np.float16)


def source(path: Path, wanted: Model, fill: Callable[[tuple[int, ...]], NDArray[Any]] = zeros) -> None:
    """Write the GGUF that ``wanted`` says, its matrices made by ``fill``."""
    writer = GGUFWriter(path, wanted.architecture)
    writer.add_vocab_size(ROWS)
    writer.add_context_length(64)
    writer.add_embedding_length(wanted.hidden)
    writer.add_block_count(wanted.layers)
    writer.add_feed_forward_length(wanted.inner)
    writer.add_head_count(wanted.heads)
    writer.add_head_count_kv(wanted.kv_heads)
    writer.add_key_length(wanted.head_dim)
    writer.add_value_length(wanted.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(wanted.head_dim)
    writer.add_sliding_window(32)
    if wanted.architecture == "phi3":
        writer.add_rope_scaling_orig_ctx_len(64)
    if wanted.experts:
        writer.add_expert_count(wanted.experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(wanted.inner)
    for name, shape in wanted.tensors(ROWS if fill is zeros else RANDOM_ROWS):
        writer.add_tensor(name, fill(shape) if is_matrix(name, shape) else np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


Quantise = Callable[[Path, Path, int], None]


def of_cyllama() -> tuple[str, Quantise]:
    """Version and ``quantize`` of the llama.cpp in the wheel cyllama."""
    import cyllama
    from cyllama.llama import llama_cpp

    def run(source: Path, target: Path, file_type: int) -> None:
        params = llama_cpp.LlamaModelQuantizeParams()
        params.ftype, params.nthread = file_type, 1
        llama_cpp.model_quantize(str(source), str(target), params)

    build = json.loads((Path(cyllama.__file__).parent / "build_config.json").read_text(encoding="utf-8"))
    return str(build["versions"]["llama_cpp_version"]), run


class Params(ctypes.Structure):
    """Head of ``llama_model_quantize_params``; what follows stays as the library sets it."""

    _fields_ = (("threads", ctypes.c_int32), ("file_type", ctypes.c_int32), ("rest", ctypes.c_byte * 120))


def of_library(path: Path) -> tuple[str, Quantise]:
    """Version and ``quantize`` of a built libllama."""
    library = ctypes.CDLL(str(path))
    library.llama_model_quantize_default_params.restype = Params
    library.llama_version.restype = ctypes.c_char_p
    library.llama_log_set(CALLBACK, None)

    def run(source: Path, target: Path, file_type: int) -> None:
        params = library.llama_model_quantize_default_params()
        params.threads, params.file_type = 1, file_type
        if library.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
            raise RuntimeError(f"llama_model_quantize failed: {target.name}")

    return f"llama.cpp {library.llama_version().decode()}", run


CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


Tables = dict[str, dict[str, str]]


def chosen(quantise: Quantise, wanted: Model, folder: Path) -> Tables:
    """Type of file → tensor → GGML type, as ``quantise`` chooses; without the types that it refuses."""
    given = folder / "source.gguf"
    source(given, wanted)
    tables: Tables = {}
    for name in TYPES:
        made = folder / "made.gguf"
        try:
            quantise(given, made, quantisation(name).file_type)
        except RuntimeError:
            continue
        tables[name] = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(made).tensors}
        made.unlink()
    return tables


def packed(kinds: dict[str, str]) -> dict[str, str]:
    """Types, layer by layer, and the tensors that have them: {"Q6_K*2 Q4_K": "blk.*.attn_v.weight …"}."""
    lines: dict[str, list[str]] = {}
    for name in sorted(kinds, key=_by_layer):
        head, _, rest = name.partition(".")
        lines.setdefault(f"blk.*.{rest.partition('.')[2]}" if head == "blk" else name, []).append(kinds[name])
    groups: dict[str, list[str]] = {}
    for line, found in lines.items():
        runs = [(kind, len(list(same))) for kind, same in groupby(found)]
        groups.setdefault(" ".join(f"{kind}*{count}" if count > 1 else kind for kind, count in runs), []).append(line)
    return {runs: " ".join(found) for runs, found in groups.items()}


def record_bytes(asked: dict[str, Quantise]) -> None:
    """SHA-256 of what each version makes of `weights`, for every GGML type that a file of some type holds."""
    hashes: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for width in WIDTHS:
            given, made = Path(folder) / "source.gguf", Path(folder) / "made.gguf"
            source(given, _small(width), weights)
            for (version, quantise), name in product(asked.items(), QUANTISATIONS):
                quantise(given, made, quantisation(name).file_type)
                for tensor in GGUFReader(made).tensors:
                    if tensor.name.startswith("blk") and len(tensor.shape) > 1:
                        found = hashlib.sha256(tensor.data.tobytes()).hexdigest()
                        hashes.setdefault(f"{tensor.tensor_type.name} {width}", {}).setdefault(found, version)
                made.unlink()
    unsure = [name for name, found in hashes.items() if len(found) > 1]
    print(f"{len(hashes)} quantised matrices recorded; versions differ in {unsure or 'none'}")
    content = {"llama.cpp": list(asked), "sha256": {name: next(iter(found)) for name, found in hashes.items()}}
    BYTES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _small(width: int) -> Model:
    return model("random", "llama", 4, "4", hidden=width, inner=width, head_dim=width // 4)


def _by_layer(name: str) -> tuple[int, str]:
    parts = name.split(".")
    return (int(parts[1]), name) if parts[0] == "blk" else (-1, name)


def main() -> None:
    """Ask, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, nargs="*", default=[], help="further libllama to compare with")
    options = parser.parse_args()
    asked = dict([of_cyllama(), *map(of_library, options.library)])
    recorded, differ, wrong = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for wanted in MODELS:
            answers = {version: chosen(quantise, wanted, Path(folder)) for version, quantise in asked.items()}
            known: Tables = {}
            for version, answer in answers.items():
                differ += told(f"{wanted.name}: {version}", answer, known)
                known = answer | known
            ours = {name: {t: tensor_type(t, s, name, wanted.mix) for t, s in wanted.tensors(ROWS)} for name in TYPES}
            wrong += told(f"{wanted.name}: Lorimer", ours, known)
            refused = {version: [name for name in TYPES if name not in answer] for version, answer in answers.items()}
            recorded.append(
                {
                    "model": asdict(wanted),
                    "refused": {version: names for version, names in refused.items() if names},
                    "types": {name: packed(kinds) for name, kinds in known.items()},
                }
            )
            print(f"{wanted.name}: {sum(map(len, known.values()))} types of tensors", file=sys.stderr)
    print(f"{len(MODELS)} models; versions differ in {differ} tensors, Lorimer in {wrong}; {', '.join(asked)}")
    if not differ:
        write(list(asked), recorded)
    record_bytes(asked)


def told(heading: str, theirs: Tables, known: Tables) -> int:
    """Print where an answer differs from what is known; in how many tensors."""
    wrong = [
        f"  {heading}, {name}: {tensor} is {theirs[name][tensor]}, not {kind}"
        for name in known
        for tensor, kind in known[name].items()
        if name in theirs and theirs[name][tensor] != kind
    ]
    print("\n".join(wrong[:4]), end="\n" if wrong else "")
    return len(wrong)


def write(versions: list[str], recorded: list[dict[str, Any]]) -> None:
    """The file of test data, one model a line."""
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in recorded)
    text = f'{{"llama.cpp": {json.dumps(versions)}, "rows": {ROWS}, "models": [\n{lines}\n]}}\n'
    RECORDED.write_text(text, encoding="utf-8")
    print(f"{RECORDED.relative_to(ROOT)}: {len(text) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
