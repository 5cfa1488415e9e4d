"""A worker that misbehaves as its job asks: started in the real one's place by `test_supervision`.

``job.json``'s arguments: ``steps`` to tell of, then ``end``, a key of `ENDS`; ``ignore``: rungs of the stop ladder it
does not listen to; ``plan``: it says before what it is about to train.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(folder: Path) -> int:
    asked = json.loads((folder / "job.json").read_text())["arguments"]
    ignore = asked.get("ignore", [])
    if "terminated" in ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(type="job_started", kind="train", pid=os.getpid())
    if asked.get("plan"):
        counts = ("steps", "epochs", "rows", "held_out", "trained_parameters", "all_parameters")
        tell(type="run_planned", device="cpu", **dict.fromkeys(counts, 10))
    for step in range(1, asked.get("steps", 3) + 1):
        tell(type="step", step=step, steps=10, epoch=0.1, loss=1.0, learning_rate=0.1)
    return ENDS[asked["end"]](folder, ignore)


def tell(**event: object) -> None:
    os.write(1, (json.dumps(event) + "\n").encode())


def well(folder: Path, ignore: list[str]) -> int:
    tell(type="finished", status="done")
    return 0


def linger(folder: Path, ignore: list[str]) -> int:
    well(folder, ignore)
    time.sleep(1.0)
    return 0


def crash(folder: Path, ignore: list[str]) -> int:
    raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")


def silent(folder: Path, ignore: list[str]) -> int:
    return 5


def killed(folder: Path, ignore: list[str]) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def half_line(folder: Path, ignore: list[str]) -> int:
    os.write(1, b'{"type": "step", "st')
    return 5


def hang(folder: Path, ignore: list[str]) -> int:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    (folder / "child.pid").write_text(str(child.pid))
    while True:
        if "asked" not in ignore and (folder / "commands.jsonl").exists():
            child.kill()
            child.wait()
            tell(type="finished", status="stopped")
            return 0
        time.sleep(0.02)


ENDS = {
    "well": well,
    "linger": linger,
    "crash": crash,
    "silent": silent,
    "killed": killed,
    "half-line": half_line,
    "hang": hang,
}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
