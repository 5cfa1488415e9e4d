"""GGUF files of Lorimer against those of llama.cpp's own converter: bit for bit, and in time.

    python tests/bench/bench_gguf_converter.py [--llama-cpp CHECKOUT] [--no-speed | --record] [--gigabytes 1]
        [--rounds 3]

Models of each architecture, tiny and random (`tests/unit/export/tiny.py`), are written as F32, F16, BF16 and Q8_0 by
both. Equal must be every tensor's name, type, shape and bytes, and every key but those in `OURS`: names and sizes under
``general``, the template, and the tokens that end or begin a text, which Lorimer decides by what was trained.

Speed and memory: a generated Llama, both interleaved, F16 and Q8_0. Without a checkout, the source package of
llama-cpp-python is fetched by pip into a temporary folder; nothing of it is built or kept.

``--record`` writes what the converter makes of the tiny models as test data (`tests/unit/export/gguf_families.json`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from converter_tokenizers import LLAMA3, QWEN2, Made, gemma, gpt2, llama2, mistral, phi3, smollm, tekken
from results import ROOT, hardware, table, write

sys.path.insert(0, str(ROOT))

from tests.unit.export.tiny import SAME, TINY, contents, make, ours, recorded

TYPES = ("F32", "F16", "BF16", "Q8_0")
RECORD = ROOT / "tests" / "unit" / "export" / "gguf_families.json"
TOKENIZERS: dict[str, Callable[[Path], Made]] = {
    "llama-2": llama2, "llama-3": LLAMA3, "llama-3.2": LLAMA3, "llama-3.1 older": LLAMA3, "llama biases": gpt2,
    "smollm": smollm, "mistral": mistral, "mistral-nemo": tekken, "qwen2": QWEN2, "qwen2.5 yarn": QWEN2,
    "qwen3": QWEN2, "gemma-2": gemma, "gemma-3": gemma, "gemma-3 older": gemma, "phi-3": phi3, "phi-3 long": phi3,
    "qwen3-moe": QWEN2, "qwen3-moe fused": QWEN2, "mixtral": mistral, "mixtral fused": mistral,
}  # fmt: skip


class Converter:
    """llama.cpp's converter in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        program = [sys.executable, str(Path(__file__).with_name("llama_cpp_converter.py")), str(checkout)]
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def convert(self, model: Path, out: Path, kind: str, pre: str = "") -> dict[str, Any]:
        """``{"seconds", "recognised"}`` or ``{"error"}``."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"model": str(model), "out": str(out), "type": kind.lower(), "pre": pre}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return answer
        return {"error": "it ended"}

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def fetched(folder: Path) -> Path:
    """llama.cpp's sources out of the source package of llama-cpp-python."""
    print("fetching the source package of llama-cpp-python …")
    command = ["-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    # pip asks the package for its metadata, which may fail here: the archive lies there all the same.
    subprocess.run([sys.executable, *command, "llama-cpp-python"], check=False, capture_output=True)
    archive = next(folder.glob("llama_cpp_python-*.tar.gz"), None)
    if archive is None:
        raise SystemExit("it cannot be fetched: name a checkout with --llama-cpp")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))


def equality(converter: Converter, folder: Path) -> list[dict[str, Any]]:
    """Two rows for each tiny model: with its made tokenizer in all types, and with one of its kind as F16."""
    rows = []
    for name, tiny in TINY.items():
        model = make(folder / "made" / name, tiny)
        made = Made(model, f"{tiny.tokenizer}, made", False, "qwen2")
        rows.append(compared(converter, folder / "made", name, made, TYPES))
        made = TOKENIZERS[name](folder / "tokenizers" / name)
        make(folder / "kinds" / name, tiny, tokenizer=made.folder)
        rows.append(compared(converter, folder / "kinds", name, made, ("F16",)))
    return rows


def compared(converter: Converter, folder: Path, name: str, made: Made, types: tuple[str, ...]) -> dict[str, Any]:
    """One row: what is equal in the files of both."""
    row: dict[str, Any] = {"model": name, "tokenizer": made.name, "published": made.real, "types": " ".join(types)}
    equal = count = 0
    keys: set[str] = set()
    known = "by pattern"
    for kind in types:
        mine = contents(ours(folder / name, kind, folder / "ours.gguf"))
        # The converter cannot read Mixtral's experts in one tensor: the same model in single ones is its side.
        answer = converter.convert(folder / SAME.get(name, name), folder / "theirs.gguf", kind, made.pre)
        if "error" in answer:
            keys.add(answer["error"])
            continue
        theirs = contents(folder / "theirs.gguf")
        same = [tensor for tensor, value in theirs.tensors.items() if mine.tensors.get(tensor) == value]
        equal, count = equal + len(same), count + len(theirs.tensors.keys() | mine.tensors.keys())
        keys |= {key for key in theirs.keys.keys() | mine.keys.keys() if theirs.keys.get(key) != mine.keys.get(key)}
        known = "by fingerprint" if answer["recognised"] else "told"
    row |= {"converter knows it": known, "tensors equal": f"{equal}/{count}"}
    row |= {"keys different": ", ".join(sorted(keys)) or "none", "equal": equal == count > 0 and not keys}
    print(f"{name}, {made.name}: {row['tensors equal']}, keys different: {row['keys different']}", flush=True)
    return row


def record(converter: Converter, folder: Path) -> None:
    """Write the test data: what the converter makes of the tiny models with their own tokenizers."""
    found = {}
    for name, tiny in TINY.items():
        if name in SAME:
            continue
        model = make(folder / name, tiny)
        files = {}
        for kind in TYPES:
            files[kind] = folder / f"{name}-{kind}.gguf"
            answer = converter.convert(model, files[kind], kind, "qwen2")
            if "error" in answer:
                raise SystemExit(f"{name}: {answer['error']}")
        found[name] = recorded(files)
    RECORD.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {RECORD}")


# ---------------------------------------------------------------------------------------------------------- speed
def large_model(folder: Path, gigabytes: float) -> Path:
    """A Llama of so many GB in bfloat16, in shards, with the tiny tokenizer's vocabulary made large."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = TINY["llama-3"]
    make(folder, tiny)
    (folder / "model.safetensors").unlink()
    layers = max(2, round(gigabytes * 1e9 / 2 / 50.4e6) - 1)
    config = LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=16000, max_position_embeddings=2048, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(1)
    with torch.device("cpu"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="400MB")
    return folder


class Peak:
    """Largest anonymous memory of a process, in MB, while the block runs; sampled every 20 ms."""

    def __init__(self, process: int) -> None:
        self._process, self._stop, self.value = psutil.Process(process), threading.Event(), 0.0

    def __enter__(self) -> Peak:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            full = self._process.memory_full_info() if sys.platform != "linux" else None
            anonymous = full.uss if full else _anonymous(self._process.pid)
            self.value = max(self.value, anonymous / 1e6)


def _anonymous(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def speed(checkout: Path, folder: Path, gigabytes: float, rounds: int) -> list[dict[str, Any]]:
    """Seconds and memory of both, round by round."""
    model = large_model(folder / "large", gigabytes)
    size = sum(path.stat().st_size for path in model.glob("*.safetensors")) / 1e9
    theirs = Converter(checkout)
    mine = subprocess.Popen(
        [sys.executable, __file__, "--write", str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert mine.stdin is not None
    assert mine.stdout is not None
    rows: list[dict[str, Any]] = []
    for number in range(rounds + 1):  # the first warms up
        for kind in ("F16", "Q8_0"):
            out = folder / "large.gguf"
            with Peak(theirs.process.pid) as peak:
                answer = theirs.convert(model, out, kind, "qwen2")
            memory, other = peak.value, answer["seconds"]
            out.unlink()
            with Peak(mine.pid) as peak:
                mine.stdin.write(f"{kind} {out}\n")
                mine.stdin.flush()
                own, busy = (float(word) for word in mine.stdout.readline().split())
            out.unlink()
            if number:
                rows.append(
                    {
                        "type": kind, "GB": size, "round": number, "converter_s": other, "lorimer_s": own,
                        "ratio": own / other, "converter_cpu_s": answer["processor"], "lorimer_cpu_s": busy,
                        "cpu_ratio": busy / answer["processor"], "converter_anonymous_MB": memory,
                        "lorimer_anonymous_MB": peak.value,
                    }
                )  # fmt: skip
    theirs.close()
    mine.stdin.close()
    mine.wait(60)
    return rows


def write_when_asked(model: Path) -> int:
    """The other side of `speed`: write a file for each line read, and answer its seconds."""
    for line in sys.stdin:
        kind, out = line.split()
        began, busy = time.monotonic(), time.process_time()
        ours(model, kind, Path(out))
        print(time.monotonic() - began, time.process_time() - busy, flush=True)
    return 0


def main() -> int:
    """Measure, print, write; 1 where a file differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        return write_when_asked(arguments.write)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkout = arguments.llama_cpp or fetched(folder)
        converter = Converter(checkout)
        if arguments.record:
            record(converter, folder)
            return 0
        rows = equality(converter, folder)
        converter.close()
        shutil.rmtree(folder / "kinds")
        times = [] if arguments.no_speed else speed(checkout, folder, arguments.gigabytes, arguments.rounds)
    table([{key: value for key, value in row.items() if key != "equal"} for row in rows])
    table(times)
    summary = {
        kind: {
            "ratio_median": statistics.median(row["ratio"] for row in times if row["type"] == kind),
            "ratio_largest": max(row["ratio"] for row in times if row["type"] == kind),
            "cpu_ratio_median": statistics.median(row["cpu_ratio"] for row in times if row["type"] == kind),
        }
        for kind in sorted({row["type"] for row in times})
    }
    different = [row["model"] for row in rows if not row["equal"]]
    write(
        "gguf_converter",
        {"hardware": hardware(), "equality": rows, "different": different, "speed": times, "summary": summary},
    )
    print("all equal" if not different else f"different: {different}", summary)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
