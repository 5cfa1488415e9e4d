"""The bundle for a report: all that helps to understand a run, in one ZIP file, without the data.

What goes in is listed here, file by file; whatever else lies in a run's folder stays out. Texts lose what they share
with a row (`engine.project.withheld`) and every secret and name (`engine.project.secrets`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from engine.machine.detect import Machine, detect
from engine.machine.doctor import doctor
from engine.machine.versions import lorimer
from engine.project.atomic import writing
from engine.project.environment import differences, environment
from engine.project.run_folder import JobFolder, RunFolder
from engine.project.secrets import Scrubber
from engine.project.withheld import Withheld, plain_bytes
from engine.protocol.text import Text, say

LOG_BYTES = 256 * 2**10
FIRST_EVENTS, LAST_EVENTS = 2**19, 3 * 2**19
SMALL_BYTES = 2**20
"""A larger file of facts is none that Lorimer wrote; a larger file of any kind is listed without its hash."""
MOST_LISTED = 5000
LATER_JOBS = 5
_NO_MACHINE = Machine((), "", 0, 0.0, 0.0, None, "", None, "", "")
_UNKNOWN = "\0"
"""No file has this name: what was trained on is not known, and texts are cut to their shape."""
_FACTS = ("doctor.json", "environment.json", "environment-now.json")
"""What is made of the machine alone."""
_ROWS_TOLD = "held_out, set_aside, decisions, examples, scores, evaluation.json, judgement.json, votes"
_JOB_NAME = re.compile(r"[\w\-]{1,80}")
# Files that hold rows, or what was made of them: neither they nor their hashes go out.
_ROWS = (
    *("held_out.jsonl", "set_aside.jsonl", "decisions.jsonl", "examples.jsonl", "scores.npy"),
    *("evaluation.json", "judgement.json", "judge_answers.jsonl", "votes.jsonl"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a bundle: its name there, what it holds, and what it is."""

    name: str
    content: bytes
    about: Text


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is passed on.

    Attributes:
        entries: its files.
        left_out: (what, why) of what is not in it.
        by_shape: not all rows could be looked through, so texts are cut to where and what kind.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[tuple[Text, Text], ...]
    by_shape: bool


@dataclass(slots=True)
class _Raw:
    """What was read before anything is taken out: texts by name, and tables by name."""

    texts: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)


def make_bundle(run: RunFolder, *, machine: Machine | None = None, scrubber: Scrubber | None = None) -> Bundle:
    """The bundle of a run; nothing is written. Takes seconds: the rows are looked through.

    Args:
        machine: stands in for what would be detected.
        scrubber: stands in for one that asks the keyring.
    """
    here = machine or detect(run.path)
    clean = scrubber or Scrubber()
    raw = _read(run)
    raw.tables |= {"doctor.json": _doctor(here), "environment-now.json": _now(raw.tables, here)}
    withheld = Withheld(
        (*raw.texts.values(), *_strings(raw.tables)),
        kept=(run.path / name for name in _ROWS if name.endswith((".jsonl", ".json"))),
        data=_data_of(raw),
    )
    entries = [
        *(_text(name, withheld.lines(text), clean) for name, text in raw.texts.items()),
        *(
            _table(name, withheld.compared(plain) if name in _FACTS else withheld.plain(plain), clean)
            for name, plain in raw.tables.items()
        ),
        _table("files.json", list(_listed(run.path)), clean),
    ]
    left_out = tuple(_left_out(by_shape=withheld.by_shape))
    entries.append(_manifest(run, entries, left_out, withheld.by_shape, clean))
    return Bundle(tuple(sorted(entries, key=lambda entry: entry.name)), left_out, withheld.by_shape)


def write_bundle(bundle: Bundle, out: Path) -> None:
    """Write the ZIP file. Raises `UserError` when the disk does not take it."""
    with writing(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in bundle.entries:
            packed.writestr(zipfile.ZipInfo(entry.name, time.localtime()[:6]), entry.content, zipfile.ZIP_DEFLATED)


# --------------------------------------------------------------------------------------------------------- what goes in
def _read(run: RunFolder) -> _Raw:
    raw = _Raw()
    for path in (run.recipe, run.recipe_as_run):
        content = plain_bytes(path, SMALL_BYTES)
        if content is None:
            continue
        text = content.decode("utf-8", "replace")
        try:
            raw.tables[path.name] = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError):
            raw.texts[path.name] = text
    for name in ("run.json", "exports.json"):
        _add_table(raw, name, run.path / name)
    kept = _json(run.path / "environment.json", SMALL_BYTES)
    if kept is not None:
        raw.tables["environment.json"] = _environments(kept)
    figures = _json(run.evaluation, 64 * SMALL_BYTES)
    if isinstance(figures, dict):
        raw.tables["evaluation-figures.json"] = _figures(figures)
    _add_job(raw, "", run)
    for job in _later_jobs(run):
        _add_job(raw, f"jobs/{job.path.name}/", job)
    return raw


def _add_job(raw: _Raw, prefix: str, job: JobFolder) -> None:
    for name in ("job.json", "process.json", "stop.json"):
        _add_table(raw, prefix + name, job.path / name)
    for path in (job.events, job.commands):
        if (records := _records(path)) is not None:
            raw.tables[prefix + path.name] = records
    if (log := plain_bytes(job.log, LOG_BYTES, end=True)) is not None:
        raw.texts[prefix + job.log.name] = log.decode("utf-8", "replace")


def _later_jobs(run: RunFolder) -> list[JobFolder]:
    try:
        entries = [item for item in os.scandir(run.jobs) if item.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    names = sorted(item.name for item in entries if _JOB_NAME.fullmatch(item.name))
    return [JobFolder(run.jobs / name) for name in names[-LATER_JOBS:]]


def _add_table(raw: _Raw, name: str, path: Path) -> None:
    plain = _json(path, SMALL_BYTES)
    if plain is not None:
        raw.tables[name] = plain


def _json(path: Path, most: int) -> Any:
    """A JSON file's content; None for one that is absent, damaged or too large."""
    content = plain_bytes(path, most + 1)
    if content is None or len(content) > most:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _records(path: Path) -> list[Any] | None:
    """The records of a file of JSON lines; of a long one those at its beginning and at its end."""
    head = plain_bytes(path, FIRST_EVENTS + LAST_EVENTS + 1)
    if head is None:
        return None
    if len(head) <= FIRST_EVENTS + LAST_EVENTS:
        return [_record(line) for line in head.splitlines()]
    tail = plain_bytes(path, LAST_EVENTS, end=True) or b""
    first, last = head[:FIRST_EVENTS].rpartition(b"\n")[0], tail.partition(b"\n")[2]
    between = {"type": "left_out", "bytes": path.stat().st_size - len(first) - len(last)}
    return [*map(_record, first.splitlines()), between, *map(_record, last.splitlines())]


def _record(line: bytes) -> Any:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {"type": "damaged", "bytes": len(line)}
    return found if isinstance(found, dict) else {"type": "damaged", "bytes": len(line)}


def _figures(value: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an evaluation; its rows, answers and words stay out."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found[name] = _figures(item)
        elif item is None or isinstance(item, bool | int | float):
            found[name] = item
    return found


def _environments(kept: Any) -> list[dict[str, Any]]:
    """The environments that a run kept, as far as they are what `environment` writes."""
    known = set(environment(machine=_NO_MACHINE))
    found = [item for item in (kept if isinstance(kept, list) else [kept]) if isinstance(item, dict)]
    return [{name: _short(item[name]) for name in item if name in known} for item in found]


def _short(value: Any) -> Any:
    """A value whose texts are as long as a name or a version is."""
    if isinstance(value, str):
        return value[:120]
    if isinstance(value, dict):
        return {str(name)[:60]: _short(item) for name, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


def _doctor(machine: Machine) -> dict[str, Any]:
    """The doctor's report, without the names of other programs that use a GPU."""
    report = doctor(machine=machine)
    for gpu in (*report["machine"]["gpus"], *report["machine"]["other_gpus"]):
        gpu["users"] = len(gpu.get("users") or ())
    problems = [problem for problem in report["problems"] if problem["code"] != "doctor.memory_held"]
    return {**{name: value for name, value in report.items() if name != "texts"}, "problems": problems}


def _now(tables: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """What this machine would compute with now, and what of it is other than when the run last went on."""
    kept = tables.get("environment.json")
    before = kept[-1] if isinstance(kept, list) and kept else kept
    now = environment(machine=machine)
    other = differences(before, now) if isinstance(before, dict) else []
    return {**now, "other_than_in_the_run": [text.en for text in other]}


# ----------------------------------------------------------------------------------------------------------- the rows
def _data_of(raw: _Raw) -> list[Path]:
    """The data files that the run's recipes name."""
    names: dict[str, None] = {}
    for name in ("recipe.toml", "recipe.run.toml"):
        data = raw.tables.get(name, {}).get("data", {})
        try:
            for part in ("files", "general"):
                names |= dict.fromkeys(map(str, data.get(part, ())))
            names |= dict.fromkeys(str(data[part]) for part in ("held_out_file", "decisions") if data.get(part))
        except (AttributeError, TypeError):  # no recipe that Lorimer wrote
            names[_UNKNOWN] = None
        if name in raw.texts:
            names[_UNKNOWN] = None
    if not any(name in raw.tables for name in ("recipe.toml", "recipe.run.toml")):
        names[_UNKNOWN] = None
    return [Path(name) for name in names]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


# --------------------------------------------------------------------------------------------------- what is made of it
def _text(name: str, text: str, clean: Scrubber) -> Entry:
    return Entry(name, clean(text).encode("utf-8", "replace"), _about(name))


def _table(name: str, plain: Any, clean: Scrubber) -> Entry:
    told = clean.plain(plain)
    if name.endswith(".toml"):
        text = tomli_w.dumps(told)
    elif name.endswith(".jsonl"):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told)
    else:
        text = json.dumps(told, ensure_ascii=False, indent=2) + "\n"
    return Entry(name, text.encode("utf-8", "replace"), _about(name))


def _listed(folder: Path) -> Iterator[dict[str, Any]]:
    """Name, size and, of small files without rows, SHA-256 of what lies in the run's folder. Links are not followed."""
    places, count = [folder], 0
    for place in places:  # grows while it is gone through
        try:
            entries = sorted(os.scandir(place), key=lambda item: item.name)
        except OSError:
            continue
        for item in entries:
            count += 1
            if count > MOST_LISTED:
                yield {"name": "…", "kind": "more"}
                return
            if item.is_dir(follow_symlinks=False):
                places.append(Path(item.path))
            yield _facts(item, folder)


def _facts(item: os.DirEntry[str], folder: Path) -> dict[str, Any]:
    name = Path(item.path).relative_to(folder).as_posix()
    if not item.is_file(follow_symlinks=False):
        kind = "link" if item.is_symlink() else "folder" if item.is_dir(follow_symlinks=False) else "other"
        return {"name": name, "kind": kind}
    size = item.stat(follow_symlinks=False).st_size
    found: dict[str, Any] = {"name": name, "kind": "file", "bytes": size}
    if size <= SMALL_BYTES and item.name not in _ROWS:
        content = plain_bytes(Path(item.path), SMALL_BYTES)
        found["sha256"] = None if content is None else hashlib.sha256(content).hexdigest()
    return found


def _manifest(
    run: RunFolder, entries: list[Entry], left_out: tuple[tuple[Text, Text], ...], by_shape: bool, clean: Scrubber
) -> Entry:
    return _table(
        "manifest.json",
        {
            "about": "A run of Lorimer, for a report. It holds no data, no weights and no secrets.",
            "lorimer": lorimer(),
            "created": round(time.time()),
            "run": run.id,
            "texts": "by_shape" if by_shape else "compared_with_the_rows",
            "entries": [
                {"name": entry.name, "bytes": len(entry.content), "about": entry.about.en} for entry in entries
            ],
            "left_out": [{"what": what.en, "why": why.en} for what, why in left_out],
        },
        clean,
    )


def _left_out(*, by_shape: bool) -> Iterator[tuple[Text, Text]]:
    yield (
        Text(_ROWS_TOLD, _ROWS_TOLD),
        say("they hold rows of your data", "其中有你的数据"),
    )
    yield (
        say("checkpoints, adapter, exports", "检查点、适配器、导出"),
        say("weights and tokenizer; only listed", "权重与分词器；仅列出文件"),
    )
    yield Text("notes.json", "notes.json"), say("what you wrote about the run", "你对这次训练写下的内容")
    if by_shape:
        yield (
            say("texts of log and record", "日志与记录中的文本"),
            say(
                "not all rows could be looked through, and a text may quote one: only where and what kind is kept",
                "无法逐一核对全部数据，文本可能引用其中内容：只保留出错的位置与类型",
            ),
        )


_ABOUT: tuple[tuple[str, Text], ...] = (
    ("recipe.toml", say("the recipe as asked", "原始配方")),
    ("recipe.run.toml", say("the recipe as run", "实际使用的配方")),
    ("run.json", say("title, time, model, method", "标题、时间、模型、方法")),
    ("environment.json", say("what the run was computed with", "训练时的环境")),
    ("environment-now.json", say("what would be computed with now", "当前环境")),
    ("doctor.json", say("the machine, versions, and what is wrong with them", "本机、版本与存在的问题")),
    ("exports.json", say("what was exported", "导出记录")),
    ("evaluation-figures.json", say("the figures of the evaluation", "评估数值")),
    ("files.json", say("names and sizes of the run's files", "训练文件的名称与大小")),
    ("manifest.json", say("what is in the bundle and what is not", "诊断包的内容与略去的内容")),
    ("events.jsonl", say("what happened", "过程记录")),
    ("commands.jsonl", say("what the job was told", "收到的指令")),
    ("log.txt", say("the end of the log", "日志末尾")),
    ("job.json", say("what the job was to do", "任务内容")),
    ("process.json", say("which process worked on it", "执行的进程")),
    ("stop.json", say("how it was stopped", "停止方式")),
)


def _about(name: str) -> Text:
    return dict(_ABOUT)[name.rpartition("/")[2]]
