"""A stranger's project, opened for real in a process that is watched: nothing runs, nothing outside is touched."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.host.follow import replay
from engine.host.launch import is_alive, start_job
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# What a window does with a project that is opened, and with each run that is looked at; each deed is written down.
OPEN = """
import json, os, sys
deeds = []
def seen(event, given):
    if event == "open":
        path, mode, flags = given
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
        deeds.append(["write" if writes else "read", str(path)])
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill", "os.killpg",
                   "socket.connect", "socket.getaddrinfo", "pickle.find_class", "shutil.rmtree", "os.remove",
                   "os.rename", "os.rmdir", "os.symlink", "os.link", "ctypes.dlopen"):
        deeds.append([event, str(given[:2])])
    elif event == "import" and given[1]:
        deeds.append(["read", str(given[1])])
from pathlib import Path
from engine.catalogue import CATALOGUE
from engine.host.follow import last_status, replay
from engine.host.launch import is_alive
from engine.project import bundle, environment, recent, settings
from engine.project.project import Project, is_busy
from engine.project.remarks import read_remarks
from engine.project.runs import Listing, sizes
from engine.project.secrets import Scrubber
from engine.recipe.file import load
import engine.machine.detect, encodings.idna
place = Path(sys.argv[1])
machine = engine.machine.detect.detect(place)
sys.addaudithook(seen)
project = Project.open_or_create(place)
project.name
recent.remember(project.path)
for run in project.runs():
    folder = run.folder
    replay(folder); last_status(folder); is_alive(folder); is_busy(folder); read_remarks(folder)
rows = Listing(place).read()
for row in rows:
    sizes(row.folder)
try:
    load(project.draft, CATALOGUE)
except Exception as error:
    assert type(error).__name__ == "UserError", error
for run in project.runs():
    bundle.make_bundle(run.folder, machine=machine, scrubber=Scrubber(()))
print(json.dumps(deeds[:100000]))
"""


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A project in which all that is read when it is opened is hostile."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("private.txt", "bashrc"):
        (outside / name).write_text('{"type": "launched", "kind": "train", "time": 1.0}\n', encoding="utf-8")
    marker = f"open({str(tmp_path / 'ran')!r}, 'w')"
    place = tmp_path / "project"
    runs = place / "runs"
    runs.mkdir(parents=True)
    (place / "project.json").write_text(json.dumps({"version": 1, "name": "\x1b]0;x\x07<b>", "created": 1}), "utf-8")
    (place / "draft.toml").write_text(f'[model]\nsource = "{place}/evil"\n[data]\nfiles = ["/dev/zero"]\n', "utf-8")
    (place / "sitecustomize.py").write_text(marker, encoding="utf-8")
    (place / "evil").mkdir()
    (place / "evil" / "modeling_evil.py").write_text(marker, encoding="utf-8")
    for number, name in enumerate(("linked", "piped", "forged", "deep", "plain"), 1):
        run = RunFolder(runs / f"{number:04d}-{name}")
        run.path.mkdir()
        run.write_facts({"id": run.id, "title": "<img src=x>", "created": 1.0, "model_folder": str(place / "evil")})
        run.events.write_text('{"type": "launched", "kind": "train", "time": 1.0}\n', encoding="utf-8")
        run.job.write_text(json.dumps({"kind": "train", "arguments": {"run": str(run.path)}}), encoding="utf-8")
        run.log.write_text(f"$(touch {tmp_path / 'ran'})\n", encoding="utf-8")
        run.recipe.write_text('[data]\nfiles = ["/dev/zero", "/dev/stdin"]\n', encoding="utf-8")
        run.adapter.mkdir()
        (run.adapter / "adapter_model.bin").write_bytes(pickle.dumps(print))
        (run.adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    linked, piped, forged, deep = (RunFolder(path) for path in sorted(runs.iterdir())[:4])
    for path in (linked.log, linked.set_aside, linked.held_out, linked.path / "notes.json", linked.evaluation):
        path.unlink(missing_ok=True)
        path.symlink_to(outside / "private.txt")
    (linked.path / "checkpoints").symlink_to(outside)
    (linked.path / "jobs").symlink_to(outside)
    for path in (piped.log, piped.evaluation, piped.path / "notes.json", piped.path / "environment.json"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    known = {"pid": os.getppid(), "mark": "x", "memory_kills": {"file": str(outside / "private.txt"), "count": 0}}
    (forged.path / "process.json").write_text(json.dumps(known), encoding="utf-8")
    (forged.path / "stop.json").write_text('{"rung": "killed"}', encoding="utf-8")
    for name in ("notes.json", "evaluation.json", "exports.json", "environment.json", "recipe.run.toml"):
        (deep.path / name).write_text("a = " * name.endswith("toml") + "[" * 100_000, encoding="utf-8")
    return place


def test_opening_a_strangers_project_runs_nothing_and_reads_nothing_outside(
    stranger: Path, tmp_path: Path, lorimer_home: Path
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "outside").iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(stranger)],
        cwd=ROOT,
        env={**os.environ, "LORIMER_HOME": str(lorimer_home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deeds: list[tuple[str, str]] = [(kind, what) for kind, what in json.loads(done.stdout)]
    assert len(deeds) > 50, "the process was not watched"
    ours = (str(stranger), str(lorimer_home), "/dev/null")
    system = (str(ROOT), sys.prefix, sys.base_prefix, "/proc/", "/sys/", "/etc/localtime", "/usr/", "/etc/passwd")
    acts = ("read", "write", "os.rename", "os.remove")
    assert [deed for deed in deeds if deed[0] not in acts] == []
    assert [what for kind, what in deeds if kind == "write" and not what.startswith(ours) and not what.isdigit()] == []
    read = {what for kind, what in deeds if kind == "read" and not what.isdigit()}
    assert sorted(what for what in read if not what.startswith((*ours, *system))) == []
    assert not (tmp_path / "ran").exists()
    assert {path: path.read_bytes() for path in before} == before


def test_a_model_with_code_and_pickles_ends_a_run_with_a_sentence(stranger: Path, tmp_path: Path) -> None:
    """The real worker, told by a stranger's recipe to train such a model."""
    run = RunFolder(sorted((stranger / "runs").iterdir())[4])
    evil = stranger / "evil"
    auto = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    (evil / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}), encoding="utf-8")
    (evil / "pytorch_model.bin").write_bytes(pickle.dumps(print))
    rows = stranger / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    run.recipe.write_text(f'[model]\nsource = "{evil}"\n[data]\nfiles = ["{rows}"]\n', encoding="utf-8")
    start_job(run, "train", {"run": str(run.path)})
    deadline = time.monotonic() + 60
    while is_alive(run):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    state = replay(run)
    assert state.status == "failed"
    assert state.failure is not None
    assert {"model.pickled", "model.unsupported"} & {problem.code for problem in state.failure.problems}
    assert not (tmp_path / "ran").exists()


def test_a_recipe_of_a_stranger_names_no_data_that_is_waited_for(tmp_path: Path) -> None:
    from engine.data.files import Bytes

    os.mkfifo(tmp_path / "rows.jsonl")
    for path in (tmp_path / "rows.jsonl", Path("/dev/zero")):
        with pytest.raises(UserError) as caught:
            Bytes(path)
        assert caught.value.problem.code == "data.no_file"
