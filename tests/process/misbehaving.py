"""A worker that misbehaves as its job asks: started in the real one's place by the tests of this folder.

``job.json``'s arguments: ``steps`` to tell of, then ``end``, a key of `ENDS`; ``ignore``: rungs of the stop ladder it
does not listen to; ``plan``: it says before what it is about to train; ``rubbish``: names of `RUBBISH` that it writes
between; ``cut``: of its whole course (`course`), the number of events after which it ends without a word, and with
``half`` amid the next one; ``pause``: seconds between two steps; ``code``, ``signal``: by which it ends.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STEP = {"type": "step", "step": 1, "steps": 10, "epoch": 0.1, "loss": 1.0, "learning_rate": 0.1}
TEXT = {"en": "a", "zh": "甲"}


def _line(**changed: object) -> bytes:
    return json.dumps({**STEP, **changed}).encode() + b"\n"


RUBBISH = {
    "binary": bytes(range(256)) * 40 + b"\n",
    "not utf-8": b'{"type": "note", "text": "\xff\xfe\x80"}\n',
    "zeros": b"\0" * 5000 + b"\n",
    "a string": b'"step"\n',
    "a number": b"5\n",
    "a list": b"[1, 2]\n",
    "nothing": b"null\n",
    "empty lines": b"\n\r\n \n",
    "deep": b"[" * 100_000 + b"\n",
    "deep object": b'{"type": "note", "text": ' + b'{"en": ' * 50_000 + b"\n",
    "unknown event": b'{"type": "hologram", "depth": 3}\n',
    "unknown field": _line(step=3, colour="blue"),
    "number as string": _line(step="3", loss="0.5"),
    "object as number": _line(loss={"a": 1}),
    "list as number": b'{"type": "step", "step": [1], "steps": 1, "epoch": 0, "loss": 1, "learning_rate": 0}\n',
    "huge number": b'{"type": "step", "step": ' + b"9" * 400 + b', "steps": 1, "epoch": 0, "loss": 1}\n',
    "very huge number": b'{"type": "step", "step": ' + b"9" * 6000 + b', "steps": 1, "epoch": 0, "loss": 1}\n',
    "huge power": b'{"type": "gauge", "memory_gib": 1e999, "busy": -1e999}\n',
    "no number": b'{"type": "gauge", "memory_gib": NaN, "busy": Infinity}\n',
    "time of no world": b'{"type": "note", "time": 1e18, "text": "a"}\n',
    "field missing": b'{"type": "step", "step": 3}\n',
    "status as list": b'{"type": "finished", "status": ["done"]}\n',
    "failure as string": b'{"type": "finished", "status": "failed", "failure": "no"}\n',
    "result as list": b'{"type": "result", "value": [1, 2]}\n',
    "half a pair": b'{"type": "note", "text": "\\ud800 \\udfff"}\n',
    "control characters": b'{"type": "note", "text": "\\u0000\\u0007\\u001b[31m\\u202e"}\n',
    "long text": json.dumps({"type": "note", "text": "word " * 400_000}).encode() + b"\n",
    "type of a list": b'{"type": ["step"]}\n',
    "two in a line": _line(step=1)[:-1] + _line(step=1),
    "half a line": _line(step=1)[:30] + b"\n",
}


def course() -> list[dict[str, object]]:
    """Everything that a good worker tells, from its first word to its last."""
    counts = ("steps", "epochs", "rows", "held_out", "trained_parameters", "all_parameters")
    return [
        {"type": "job_started", "kind": "train", "pid": os.getpid()},
        {"type": "stage", "name": "load", "text": TEXT},
        {"type": "progress", "done": 1, "total": 2},
        {"type": "run_planned", "device": "cpu", **dict.fromkeys(counts, 10)},
        {**STEP, "step": 1},
        {"type": "gauge", "memory_gib": 1.0},
        {"type": "held_out", "step": 1, "loss": 1.0, "best": True},
        {"type": "checkpoint", "step": 1, "path": "checkpoints/step-000001"},
        {"type": "waiting", "step": 1},
        {"type": "continued", "step": 1},
        {**STEP, "step": 2},
        {"type": "result", "value": {"steps": 2}},
        {"type": "finished", "status": "done"},
    ]


def main(folder: Path) -> int:
    asked = json.loads((folder / "job.json").read_text())["arguments"]
    ignore = asked.get("ignore", [])
    if "terminated" in ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "cut" in asked:
        return cut(asked["cut"], half=asked.get("half", False))
    tell(type="job_started", kind="train", pid=os.getpid())
    if asked.get("plan"):
        tell(**course()[3])
    for step in range(1, asked.get("steps", 3) + 1):
        tell(**{**STEP, "step": step})
        time.sleep(asked.get("pause", 0.0))
    for name in asked.get("rubbish", []):
        os.write(1, RUBBISH[name])
    if "code" in asked:
        return int(asked["code"])
    if "signal" in asked:
        os.kill(os.getpid(), asked["signal"])
    return ENDS[asked["end"]](folder, ignore)


def cut(number: int, *, half: bool) -> int:
    for event in course()[:number]:
        tell(**event)
    if half:
        os.write(1, json.dumps(course()[number]).encode()[:-5])
    return 5


def tell(**event: object) -> None:
    os.write(1, (json.dumps(event) + "\n").encode())


def well(folder: Path, ignore: list[str]) -> int:
    tell(type="finished", status="done")
    return 0


def linger(folder: Path, ignore: list[str]) -> int:
    well(folder, ignore)
    time.sleep(1.0)
    return 0


def lose_itself(folder: Path, ignore: list[str]) -> int:
    """Dies while it takes its leave."""
    well(folder, ignore)
    os.kill(os.getpid(), signal.SIGKILL)
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


def strange_status(folder: Path, ignore: list[str]) -> int:
    tell(type="finished", status="exploded")
    return 0


def hang(folder: Path, ignore: list[str]) -> int:
    child = _child(folder)
    while True:
        if "asked" not in ignore and (folder / "commands.jsonl").exists():
            child.kill()
            child.wait()
            tell(type="finished", status="stopped")
            return 0
        time.sleep(0.02)


def _child(folder: Path) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    (folder / "child.pid").write_text(str(child.pid))
    return child


def orphan(folder: Path, ignore: list[str]) -> int:
    """Leaves a child behind, which holds the record open."""
    _child(folder)
    return well(folder, ignore)


def killed_with_child(folder: Path, ignore: list[str]) -> int:
    _child(folder)
    return killed(folder, ignore)


def close_output(folder: Path, ignore: list[str]) -> int:
    os.close(1)
    time.sleep(0.1)
    return 0


def mute(folder: Path, ignore: list[str]) -> int:
    while True:
        time.sleep(60)


def stop_itself(folder: Path, ignore: list[str]) -> int:
    os.kill(os.getpid(), signal.SIGSTOP)
    return mute(folder, ignore)


def long_line(folder: Path, ignore: list[str]) -> int:
    part = b"x" * 1_000_000
    for _ in range(100):
        os.write(1, part)
    os.write(1, b"\n")
    return well(folder, ignore)


def much_log(folder: Path, ignore: list[str]) -> int:
    """A gigabyte, of which the disk holds little."""
    os.ftruncate(2, 2**30)
    os.write(2, b"\nthe end of the log\n")
    return silent(folder, ignore)


def flood(folder: Path, ignore: list[str]) -> int:
    for start in range(4, 60_004, 500):
        os.write(1, b"".join(_line(step=step, steps=60_003) for step in range(start, start + 500)))
    return well(folder, ignore)


ENDS = {
    "well": well,
    "linger": linger,
    "lose-itself": lose_itself,
    "crash": crash,
    "silent": silent,
    "killed": killed,
    "half-line": half_line,
    "strange-status": strange_status,
    "hang": hang,
    "orphan": orphan,
    "killed-with-child": killed_with_child,
    "close-output": close_output,
    "mute": mute,
    "stop-itself": stop_itself,
    "long-line": long_line,
    "much-log": much_log,
    "flood": flood,
}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
