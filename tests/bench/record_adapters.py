"""Records what llama.cpp's own ``convert_lora_to_gguf.py`` makes of small adapters, for the tests of our export.

    python tests/bench/record_adapters.py LLAMA_CPP_CHECKOUT

The script runs in a process of its own with its own ``gguf``. SHA-256 of every tensor, and the metadata that is not
``general.*``, go to tests/unit/export/adapters.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gguf import GGUFReader

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.made_adapters import CASES, made_adapter  # noqa: E402

RECORDED = ROOT / "tests" / "unit" / "export" / "adapters.json"


def main() -> int:
    """Convert every case and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    script = parser.parse_args().checkout / "convert_lora_to_gguf.py"
    recorded: dict[str, Any] = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            base, adapter = made_adapter(case, Path(folder))
            out = Path(folder) / "theirs.gguf"
            subprocess.run(
                [sys.executable, str(script), "--base", str(base), "--outfile", str(out), str(adapter)],
                env={**os.environ, "PYTHONPATH": str(script.parent / "gguf-py")},
                check=True,
                capture_output=True,
            )
            recorded[name] = described(out)
        print(f"{name}: {len(recorded[name]['tensors'])} tensors")
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    return 0


def described(path: Path) -> dict[str, Any]:
    """Metadata, and shape, type and hash of every tensor."""
    reader = GGUFReader(path)
    keys = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith(("GGUF.", "general.")) or name in ("general.architecture", "general.type")
    }
    tensors = {
        tensor.name: " ".join(
            [
                "x".join(str(size) for size in tensor.shape),
                tensor.tensor_type.name,
                hashlib.sha256(tensor.data.tobytes()).hexdigest()[:32],
            ]
        )
        for tensor in reader.tensors
    }
    return {"keys": keys, "tensors": dict(sorted(tensors.items()))}


if __name__ == "__main__":
    sys.exit(main())
