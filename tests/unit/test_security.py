"""Hostile files, one case each: nothing of them runs, none reads or writes outside, all are explained."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.catalogue import CATALOGUE
from engine.cli import main
from engine.data.choice import read_kept
from engine.data.sandbox import TEMPLATE_ERRORS, run_template
from engine.data.template import choose_template
from engine.merge.adapter import copy_companions, is_own
from engine.merge.weights import BaseWeights
from engine.model.convert import convert
from engine.model.inspect import INDEX, inspect
from engine.model.listing import described
from engine.model.load import load_base, load_tokenizer
from engine.model.tuned import load_tuned
from engine.model.weights_header import Damaged, read_header
from engine.precheck import check_recipe
from engine.project.atomic import read_json
from engine.project.run_folder import RunFolder
from engine.project.showing import folder_to_show
from engine.protocol.channel import Recorder
from engine.protocol.errors import UserError
from engine.protocol.events import SAVE, STOP, Command, Event, Note, StepDone
from engine.protocol.text import say
from engine.recipe.file import from_plain, load, save
from engine.terminal import Terminal, shown
from engine.train.checkpoints import latest
from engine.train.run import train
from tests.tiny_model import make_model, write_rows

SECONDS = 5.0
"""None of these may take as long."""
CODE = "open({marker!r}, 'w').write('ran')\n"


class Payload:
    """A pickle that writes a file when it is opened as Python's pickle would open it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (CODE.format(marker=str(self.marker)),))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    """A sound model to be spoilt."""
    return shutil.copytree(sound, tmp_path / "model")


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """What a payload writes; it never does."""
    made = tmp_path / "ran"
    yield made
    assert not made.exists(), "a payload was run"


# ------------------------------------------------------------------------------------------------------ model folders
def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    plain = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**plain, **values}), "utf-8")


def put(name: str, content: bytes | str) -> Callable[[Path, Path], None]:
    def do(folder: Path, marker: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return do


def instead_of(name: str, make: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    def do(folder: Path, marker: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return do


def config(**values: Any) -> Callable[[Path, Path], None]:
    return lambda folder, marker: change(folder, "config.json", **values)


def index(*names: str) -> Callable[[Path, Path], None]:
    def do(folder: Path, marker: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        (folder / "evil.bin").write_bytes(pickle.dumps(Payload(marker)))
        plain = {"metadata": {}, "weight_map": {f"tensor.{number}": name for number, name in enumerate(names)}}
        (folder / INDEX).write_text(json.dumps(plain), "utf-8")

    return do


def pickled(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))


def header(plain: Any, *, length: int | None = None) -> bytes:
    raw = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def gguf(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**62, 2**62))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**33)


DEEP = "[" * 200_000
HOSTILE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "pickled weights": (pickled, "model.pickled"),
    "index names a pickle": (index("evil.bin"), "model.odd_index"),
    "index leads out of the folder": (index("../outside.safetensors"), "model.odd_index"),
    "index names an absolute path": (index("/etc/passwd.safetensors"), "model.odd_index"),
    "index leads out as Windows writes it": (index("..\\outside.safetensors"), "model.odd_index"),
    "index names no text": (put(INDEX, '{"weight_map": {"a": 3}}'), "model.odd_index"),
    "index nested deeply": (put(INDEX, DEEP), "model.damaged"),
    "config is a pipe": (instead_of("config.json", os.mkfifo), "model.odd_file"),
    "config is a device": (instead_of("config.json", lambda path: path.symlink_to("/dev/zero")), "model.odd_file"),
    "tokenizer is a pipe": (instead_of("tokenizer.json", os.mkfifo), "model.odd_file"),
    "template is a pipe": (instead_of("chat_template.jinja", os.mkfifo), "model.odd_file"),
    "weights are a pipe": (instead_of("model.safetensors", os.mkfifo), "model.odd_file"),
    "card of 8 GiB": (instead_of("README.md", huge), "model.odd_file"),
    "config of 8 GiB": (instead_of("config.json", huge), "model.odd_file"),
    "config nested deeply": (put("config.json", DEEP), "model.config"),
    "config is no object": (put("config.json", "[1]"), "model.config"),
    "config with a number of a million digits": (
        put("config.json", '{"hidden_size": ' + "9" * 1_000_000 + "}"),
        "model.config",
    ),
    "config of a billion layers": (config(num_hidden_layers=10**9), "model.mismatch"),
    "config with widths below zero": (config(hidden_size=-1), ""),
    "config with widths of infinity": (config(vocab_size=float("inf")), ""),
    "tokenizer nested deeply": (put("tokenizer.json", DEEP), ""),
    "tokenizer_config nested deeply": (put("tokenizer_config.json", DEEP), ""),
    "header of 2^63 bytes": (put("model.safetensors", header({}, length=2**63)), "model.damaged"),
    "header longer than the file": (put("model.safetensors", header({}, length=10**6)), "model.damaged"),
    "header nested deeply": (put("model.safetensors", header(b'{"a":' + b"[" * 200_000)), "model.damaged"),
    "header with infinite widths": (
        put("model.safetensors", header(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,0]}}')),
        "model.damaged",
    ),
    "header with offsets of infinity": (
        put("model.safetensors", header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}')),
        "model.damaged",
    ),
    "header without shapes": (put("model.safetensors", header({"a": {"dtype": "F32"}})), "model.damaged"),
    "header is a list": (put("model.safetensors", header([1, 2])), "model.damaged"),
    "no header at all": (put("model.safetensors", b"PK"), "model.damaged"),
    "a GGUF with a huge header": (gguf, "model.gguf"),
    "code in place of an architecture": (
        config(model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}),
        "",
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_model_is_refused_with_a_reason(case: str, model: Path, marker: Path) -> None:
    spoil, code = HOSTILE[case]
    (model / "evil.py").write_text(CODE.format(marker=str(marker)), "utf-8")
    spoil(model, marker)
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        inspect(model)
    assert time.process_time() - began < SECONDS
    assert caught.value.problems
    if code:
        assert code in [problem.code for problem in caught.value.problems]
    assert all(problem.message.zh and problem.hint.zh for problem in caught.value.problems)
    assert described(str(model), "folder")["problem"]  # and the list of models is shown all the same


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/x.safetensors", "evil.bin", "a\\b.safetensors", "C:x.safetensors"]
)
def test_weights_elsewhere_are_not_opened_for_any_work(name: str, model: Path, marker: Path) -> None:
    index(name)(model, marker)
    for work in (lambda: load_base(model, quantised=False, device="cpu"), lambda: BaseWeights.open(model)):
        with pytest.raises(UserError):
            work()


@pytest.mark.parametrize(
    "raw",
    [b'{"a":' + b"[" * 200_000, b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}', b'{"a": 1}'],
)
def test_headers_are_refused_by_every_reader(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(raw))
    (tmp_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(Damaged):
        read_header(path)
    with pytest.raises(UserError):
        BaseWeights.open(tmp_path)


def test_code_beside_a_known_model_is_never_imported(model: Path, marker: Path) -> None:
    (model / "evil.py").write_text(CODE.format(marker=str(marker)) + "class Model: ...\nclass Tok: ...\n", "utf-8")
    change(model, "config.json", auto_map={"AutoConfig": "evil.Model", "AutoModelForCausalLM": "evil.Model"})
    change(model, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tok", "evil.Tok"]})
    assert inspect(model).family == "llama"
    load_tokenizer(model)
    load_base(model, quantised=False, device="cpu")


# ---------------------------------------------------------------------------------------------------- pickled weights
def as_pickles(folder: Path, parts: int) -> dict[str, torch.Tensor]:
    """The folder's weights in pickles instead."""
    tensors: dict[str, torch.Tensor] = dict(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    if parts == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return tensors
    names = sorted(tensors)
    places = {name: f"pytorch_model-{number % parts + 1:05d}.bin" for number, name in enumerate(names)}
    for file in set(places.values()):
        torch.save({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}), "utf-8")
    return tensors


@pytest.mark.parametrize("parts", [1, 2])
def test_pickled_weights_become_safetensors_once_allowed(
    parts: int, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = as_pickles(model, parts)
    assert main(["models", "convert", str(model), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["code"] == "model.pickled"
    assert str(model) in told["message"]
    assert not list(model.glob("*.safetensors"))
    assert main(["models", "convert", str(model), "--yes", "--json"]) == 0
    printed = capsys.readouterr()
    assert "could use one to read your files" in printed.err
    assert len([name for name in json.loads(printed.out)["files"] if name.endswith(".safetensors")]) == parts
    assert inspect(model).parameters == sum(tensor.numel() for tensor in tensors.values())
    found = load_base(model, quantised=False, precision="fp32", device="cpu").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    with pytest.raises(UserError, match="already"):
        convert(model, lambda done, total: None)


@pytest.mark.parametrize("kind", ["torch", "plain", "list", "index leads out", "text"])
def test_a_pickle_that_holds_more_is_refused_even_when_allowed(
    kind: str, model: Path, tmp_path: Path, marker: Path
) -> None:
    as_pickles(model, 1)
    place = model / "pytorch_model.bin"
    match kind:
        case "torch":
            torch.save({"a": Payload(marker)}, place)
        case "plain":
            place.write_bytes(pickle.dumps({"a": Payload(marker)}, protocol=2))
        case "list":
            torch.save([torch.ones(2)], place)
        case "index leads out":
            place.rename(tmp_path / "pytorch_model.bin")
            (model / "pytorch_model.bin.index.json").write_text(
                '{"weight_map": {"a": "../pytorch_model.bin"}}', "utf-8"
            )
        case "text":
            place.write_text("weights", "utf-8")
    before = sorted(model.iterdir())
    with pytest.raises(UserError) as caught:
        convert(model, lambda done, total: None)
    assert caught.value.problem.code in ("model.pickle_refused", "model.no_weights")
    assert sorted(model.iterdir()) == before


# ---------------------------------------------------------------------------------------------------------- templates
@pytest.mark.parametrize(
    "source",
    [
        "{{ '%(a)1000000000s' % {'a': 1} }}",
        "{{ ('%(a)9999d' * 400000) % {'a': 1} }}",
        "{{ ('%(a)s' * 4000) % {'a': 'x' * 1000000} }}",
        "{{ ('%(a)s' * 4000) | format(a='x' * 1000000) }}",
        "{{ ('{0}' * 4000).format('x' * 1000000) }}",
        "{{ ('{a}' * 4000).format(a='x' * 1000000) }}",
        "{{ ('{a}' * 4000).format_map({'a': 'x' * 1000000}) }}",
        "{{ ('{0:>9999}' * 400000).format(1) }}",
        "{{ ('%9999d' * 99999) % ((1,) * 99999) }}",
        "{% set f = ('{0}' * 4000).format %}{{ f('x' * 1000000) }}",
    ],
)
def test_formats_that_write_one_value_many_times_are_refused(source: str) -> None:
    began = time.process_time()
    with pytest.raises(TEMPLATE_ERRORS):
        run_template(source, {"messages": []}, 0)
    assert time.process_time() - began < SECONDS


def test_formats_that_templates_use_are_not() -> None:
    source = "{{ '%s-%02d' % ('a', 7) }}{{ '%(a)s' % {'a': 'b'} }}{{ '%s' | format('c') }}{{ '{:>3}'.format(1) }}"
    assert run_template(source + "{{ '{a}%'.format(a='d') }}", {"messages": []}, 0)[0] == "a-07bc  1d%"


def test_what_a_template_says_of_its_refusal_is_cut() -> None:
    with pytest.raises(TEMPLATE_ERRORS) as caught:
        run_template("{{ raise_exception('x' * 3000000) }}", {"messages": []}, 0)
    assert len(str(caught.value)) <= 1000


def test_a_template_in_an_adapter_folder_runs_in_the_sandbox(model: Path, marker: Path) -> None:
    way_out = "{{ raise_exception.__globals__['__builtins__']['open'](" + json.dumps(str(marker)) + ", 'w') }}"
    (model / "chat_template.jinja").write_text(way_out, "utf-8")
    template = choose_template(model)
    with pytest.raises(UserError):
        template.render(())


# ------------------------------------------------------------------------------------------------------------- pickles
def new_run(model: Path, rows: Path, folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.path.mkdir()
    plain = {
        "model": {"source": str(model)},
        "data": {"files": [str(rows)], "held_out": 0.1},
        "method": {"name": "lora", "rank": 2, "alpha": 2.0},
        "train": {"max_steps": 4, "batch_size": 4, "accumulation": 1, "evaluate_every": 2, "learning_rate": 0.01},
    }
    save(from_plain(plain, CATALOGUE), run.recipe)
    return run


class Stopping(Recorder):
    """Saves after the second step, and stops."""

    def emit(self, event: Event) -> None:
        super().emit(event)
        if isinstance(event, StepDone) and event.step == 2:
            self.pending += [Command(name=SAVE), Command(name=STOP)]


def forge(checkpoint: Path, name: str, content: bytes) -> None:
    """Put a file into a checkpoint, and let its manifest vouch for it."""
    (checkpoint / name).write_bytes(content)
    manifest = read_json(checkpoint / "manifest.json")
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def torch_pickle(payload: Payload, path: Path) -> bytes:
    torch.save({"state": payload}, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def stopped(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was stopped half-way."""
    folder = tmp_path_factory.mktemp("runs")
    run = new_run(sound, write_rows(folder / "rows.jsonl"), folder / "run")
    train(run, Stopping())
    assert next(run.checkpoints.glob("step-*"), None) is not None
    return run


@pytest.mark.parametrize(
    ("name", "kind"),
    [("optimizer.pt", "torch"), ("scheduler.pt", "torch"), ("rng_state.pth", "torch"), ("optimizer.pt", "plain")],
)
def test_a_pickle_in_a_checkpoint_that_is_vouched_for_runs_nothing(
    stopped: RunFolder, tmp_path: Path, marker: Path, name: str, kind: str
) -> None:
    run = RunFolder(shutil.copytree(stopped.path, tmp_path / "run"))
    payload = Payload(marker)
    content = torch_pickle(payload, tmp_path / "p") if kind == "torch" else pickle.dumps(payload, protocol=2)
    for checkpoint in run.checkpoints.glob("step-*"):
        assert (checkpoint / name).exists()
        forge(checkpoint, name, content)
    with pytest.raises((UserError, pickle.UnpicklingError, RuntimeError, ValueError)):
        train(run, Recorder(), resume=True)


def test_pickled_weights_in_the_place_of_an_adapter_are_not_opened(
    stopped: RunFolder, tmp_path: Path, marker: Path
) -> None:
    run = RunFolder(shutil.copytree(stopped.path, tmp_path / "run"))
    if not run.adapter.exists():
        shutil.copytree(next(run.checkpoints.glob("step-*")), run.adapter)
    (run.adapter / "adapter_model.safetensors").unlink()
    (run.adapter / "adapter_model.bin").write_bytes(torch_pickle(Payload(marker), tmp_path / "p"))
    with pytest.raises(UserError) as caught:
        load_tuned(run)
    assert caught.value.problem.code == "run.adapter_damaged"


def test_scores_that_are_a_pickle_are_not_opened(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "scores.npy"
    np.save(path, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    assert len(read_kept(path)) == 0


def test_a_kept_recipe_repeats_the_run_bit_for_bit(stopped: RunFolder, sound: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    first, again = new_run(sound, rows, tmp_path / "first"), RunFolder(tmp_path / "again")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(first, Recorder())
        again.path.mkdir()
        check_recipe(load(first.recipe_as_run, CATALOGUE), where=str(first.recipe_as_run))  # as `lorimer run` does
        shutil.copyfile(first.recipe_as_run, again.recipe)
        told = Recorder()
        train(again, told)
    finally:
        torch.set_num_threads(threads)
    kept = first.read_facts()["data"][0]
    assert kept == {"path": str(rows), "sha256": hashlib.sha256(rows.read_bytes()).hexdigest()}
    assert read_json(first.environment)[-1]["versions"]["torch"]
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (first, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again.recipe_as_run.read_text("utf-8") == first.recipe_as_run.read_text("utf-8")
    assert not [event for event in told.events if isinstance(event, Note) and event.level == "warning"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["/dev/zero", "../../outside", "pipe", "link", "..\\outside", ""])
def test_no_manifest_leads_out_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    place = run.checkpoints / "step-000001"
    place.mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"x")
    (place / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(place / "pipe")
    facts = {"bytes": 0 if name == "pipe" else 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    (place / "manifest.json").write_text(json.dumps({"files": {name: facts}}), "utf-8")
    assert latest(run) is None
    (place / "manifest.json").write_text("[" * 100_000, "utf-8")
    assert latest(run) is None


# -------------------------------------------------------------------------------------------------- what is given away
def test_links_out_of_an_adapter_are_not_copied_into_what_is_given_away(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("private", "utf-8")
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    shutil.copytree(model, adapter)
    out.mkdir()
    (adapter / "vocab.json").symlink_to(secret)
    (adapter / "additional_chat_templates").mkdir()
    (adapter / "additional_chat_templates" / "tool_use.jinja").symlink_to(secret)
    (model / "merges.txt").symlink_to(secret)
    copy_companions(model, adapter, out)
    assert (out / "tokenizer.json").exists()
    assert not any("private" in path.read_text("utf-8", "replace") for path in out.rglob("*") if path.is_file())


def test_links_of_the_hubs_cache_are_its_own(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    blob, snapshot = repository / "blobs" / "abc", repository / "snapshots" / "main"
    for folder in (blob.parent, snapshot):
        folder.mkdir(parents=True)
    blob.write_text("{}", "utf-8")
    (snapshot / "vocab.json").symlink_to(blob)
    (snapshot / "other.json").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("private", "utf-8")
    assert is_own(snapshot / "vocab.json")
    assert not is_own(snapshot / "other.json")


# -------------------------------------------------------------------------------------------------------- what is shown
@pytest.mark.parametrize(
    "name",
    ["\x1b]0;owned\x07", "\x1b[2J\x1b[H", "\x9b31m", "a\rb", "\x08\x08", "\u202egpj.exe", "\x1b]52;c;ZXZpbA==\x07"],
)
def test_a_terminal_is_told_no_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        terminal = Terminal(as_json=as_json, language="en")
        terminal.result({"title": name}, say("{name}", "{name}", name=name))
        terminal.show(f"Run {name}")
    told = "".join(capsys.readouterr())
    assert not set(told) & {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\u202e"} - {"\n", "\t"}
    assert json.loads(told[told.index("{") : told.rindex("}") + 1])["title"] == name


def test_ordinary_names_are_shown_as_they_are() -> None:
    for name in ("数据 1.json", "naïve — “run”", "👩‍🔬", "a\tb\nc", "שלום"):
        assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "shown_folder"),
    [
        ("run/evil.app", "run"),
        ("run/evil.APP/readme.txt", "run"),
        ("run/a.app/b.workflow", "run"),
        ("run/plain.v1", None),
    ],
)
def test_a_folder_that_is_a_program_is_not_opened(name: str, shown_folder: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    (path.parent if path.suffix == ".txt" else path).mkdir(parents=True)
    assert folder_to_show(path) == tmp_path / (shown_folder or name)


# ----------------------------------------------------------------------------------------------------------- documents
@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 10_000, "\x00", '{"a": ', b"\xff\xfe".decode("latin1")])
def test_a_document_that_is_none_is_told(content: str, tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert caught.value.problem.code == "file.damaged"


@pytest.mark.parametrize("setting", ["trust_remote_code", "allow_pickle", "allow"])
def test_no_recipe_can_allow_code(setting: str) -> None:
    for part in ("model", "data", "train"):
        with pytest.raises(UserError) as caught:
            from_plain({part: {setting: True}}, CATALOGUE)
        assert caught.value.problems[0].code == "recipe.unknown_field"
