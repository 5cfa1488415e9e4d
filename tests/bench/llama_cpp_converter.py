"""Run llama.cpp's own converter on model folders, in a process of its own (it brings its own ``gguf``).

    python llama_cpp_converter.py CHECKOUT < jobs.jsonl

A job is ``{"model": folder, "out": file, "type": "f16", "pre": name, "threads": n}``; the answer to each, on standard
output, ``{"seconds", "processor", "recognised"}`` or ``{"error"}``. The converter knows byte-level tokenizers by a
fingerprint; one that it does not know is told by "pre", and "recognised" is false.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    """Answer jobs until the input ends."""
    checkout = Path(sys.argv[1])
    sys.path[:0] = [str(checkout / "gguf-py"), str(checkout)]
    import torch

    converter: Any = __import__("convert_hf_to_gguf")
    base: Any = __import__("conversion.base", fromlist=["TextModel"])
    logging.disable(logging.CRITICAL)
    known = base.TextModel.get_vocab_base_pre
    for line in sys.stdin:
        job = json.loads(line)
        told: list[bool] = []

        def pre(self: Any, tokenizer: Any, told: list[bool] = told, name: str = job.get("pre", "")) -> str:
            try:
                return str(known(self, tokenizer))
            except NotImplementedError:
                told.append(True)
                return name

        base.TextModel.get_vocab_base_pre = pre
        torch.set_num_threads(int(job.get("threads") or torch.get_num_threads()))
        began, busy = time.monotonic(), time.process_time()
        sys.argv = ["convert", job["model"], "--outfile", job["out"], "--outtype", job["type"]]
        try:
            converter.main()
        except (SystemExit, Exception) as error:  # noqa: BLE001 - whatever ends it is the answer
            answer: dict[str, Any] = {"error": repr(error)}
        else:
            seconds, processor = time.monotonic() - began, time.process_time() - busy
            answer = {"seconds": seconds, "processor": processor, "recognised": not told}
        sys.stdout.write("ANSWER " + json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
