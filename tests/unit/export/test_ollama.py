"""Ollama is given the template that was trained, the ends and the context; and it makes a model of it.

``ollama_rendered.json`` holds what Go's own text/template writes (`ollama_render.go`); written anew by
``python tests/unit/export/test_ollama.py --record`` where Go is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.data.rows import Message
from engine.data.template import ChatTemplate
from engine.data.templates import TEMPLATES
from engine.export.card import MARK
from engine.export.export_work import export
from engine.export.ledger import Export, listed, remember
from engine.export.ollama import WRITTEN, checked_name, modelfile, proposed_name
from engine.export.ollama_template import Render, Turn, go_template, measured, written
from engine.export.ollama_work import common_system, create, write_modelfile
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Progress, Stage
from engine.protocol.text import NOTHING
from tests.unit.export.moved import moved
from tests.unit.merge.made import hold_out

HERE = Path(__file__).parent
RENDERED = HERE / "ollama_rendered.json"
TALKS: tuple[tuple[Turn, ...], ...] = (
    (("user", "Hi"),),
    (("system", "Be brief."), ("user", 'Hi "there"\n`x` {{ .System }} \\n')),
    (("user", "Hi"), ("assistant", "Hello"), ("user", "2 + 2?")),
    (
        ("system", 'Be "brief".'),
        ("user", "你好 🙂"),
        ("assistant", "你好！"),
        ("user", "<|im_end|>"),
        ("assistant", "ok"),
        ("user", "再见"),
    ),
)


def rendering(source: str) -> Render:
    """What the engine writes with a Jinja template, without the first-of-text token."""
    template = ChatTemplate("made", source, NOTHING, variables={"bos_token": "<s>", "eos_token": "</s>"})

    def render(turns: Sequence[Turn]) -> str:
        try:
            asked = [Message(*turn) for turn in turns]
            return template.render(asked, generation_prompt=True).text.removeprefix("<s>")
        except UserError as error:
            raise ValueError(str(error)) from error

    return render


def with_the_last(turns: Sequence[Turn]) -> str:
    """As some templates of Mistral's have it: the system prompt stands before the last question."""
    system = "".join(f"{content}\n\n" for role, content in turns if role == "system")
    spoken = [turn for turn in turns if turn[0] != "system"]
    text = ""
    for number, (role, content) in enumerate(spoken):
        last = number == len(spoken) - 1
        text += f"[Q]{system if last else ''}{content}[/Q]" if role == "user" else f" {content}</s>"
    return text


def by_go(all_of_it: dict[str, Any]) -> dict[str, Any]:
    """Have Go render every case."""
    command = ["go", "run", str(HERE / "ollama_render.go")]
    done = subprocess.run(command, input=json.dumps(all_of_it).encode(), capture_output=True, check=True, timeout=200)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def asked_of_go() -> dict[str, Any]:
    """Every template that Lorimer brings, as Go's, with the conversations above."""
    found = {}
    renders = {name: rendering(template.source) for name, template in TEMPLATES.items()}
    for name, render in (*renders.items(), ("system with the last question", with_the_last)):
        pieces = measured(render)
        assert pieces is not None, name
        found[name] = {"go": go_template(pieces), "cases": [{"messages": list(talk)} for talk in TALKS]}
    return found


# --------------------------------------------------------------------------------------------------------- templates
@pytest.mark.parametrize("name", list(TEMPLATES))
def test_ollama_writes_what_training_wrote(name: str) -> None:
    render = rendering(TEMPLATES[name].source)
    known = json.loads(RENDERED.read_text(encoding="utf-8"))[name]
    pieces = measured(render)
    assert pieces is not None
    assert go_template(pieces) == known["go"], "the template is another: record anew what Go makes of it"
    for case in known["cases"]:
        turns = [tuple(turn) for turn in case["messages"]]
        assert case["text"] == render(turns) == written(pieces, turns)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not on this machine")
def test_what_is_recorded_is_what_go_writes() -> None:
    assert by_go(asked_of_go()) == json.loads(RENDERED.read_text(encoding="utf-8"))


def test_templates_of_real_models_are_measured(shared_data: Path) -> None:
    files = sorted((shared_data / "templates").glob("*.jinja"))
    assert len(files) >= 12
    for file in files:
        render = rendering(file.read_text(encoding="utf-8"))
        pieces = measured(render)
        assert pieces is not None, file.name
        for talk in TALKS:
            assert written(pieces, talk) == render(talk), file.name


def test_a_system_prompt_before_the_last_question() -> None:
    known = json.loads(RENDERED.read_text(encoding="utf-8"))["system with the last question"]
    pieces = measured(with_the_last)
    assert pieces is not None
    assert pieces.with_last
    assert go_template(pieces) == known["go"]
    for case in known["cases"]:
        assert case["text"] == with_the_last([tuple(turn) for turn in case["messages"]])


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ loop.index }}. {{ m.content }}\n{% endfor %}",  # turns are numbered
        "{% for m in messages %}{{ m.content | upper }}|{% endfor %}",  # texts are changed
        "{{ messages[-1].content }}",  # only the last question is asked
        "{% for m in messages %}{{ m.content }}{% if m.content | length > 20 %}!{% endif %}|{% endfor %}",
    ],
)
def test_what_is_more_than_pieces_is_not_translated(source: str) -> None:
    assert measured(rendering(source)) is None


# --------------------------------------------------------------------------------------------------------- modelfile
def test_the_modelfile_of_a_run(starter_run: RunFolder, tmp_path: Path) -> None:
    run = moved(starter_run, tmp_path / "run")
    gguf = run.exports / "orders.gguf"
    path, channel = run.exports / "orders.Modelfile", Recorder()
    result = write_modelfile(run, gguf, path, channel)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(WRITTEN)
    assert "\nFROM ./orders.gguf\n" in text
    assert '\nPARAMETER stop """<|im_end|>"""\n' in text
    assert "\nPARAMETER num_ctx 1024\n" in text  # what the starter knows
    assert '\nLICENSE """apache-2.0"""\n' in text
    known = json.loads(RENDERED.read_text(encoding="utf-8"))["chatml"]["go"]
    assert f'\nTEMPLATE """{known}"""\n' in text
    assert "SYSTEM" not in text
    assert str(tmp_path) not in text
    assert result["template"] == "translated"
    assert result["stops"][0] == "<|im_end|>"
    assert not [event for event in channel.events if isinstance(event, Note)]
    assert f"num_ctx {512}" in str(write_modelfile(run, gguf, path, channel, context=512)) + path.read_text()
    path.write_text("FROM llama3\n")
    with pytest.raises(UserError) as caught:
        write_modelfile(run, gguf, path, channel)
    assert caught.value.problem.code == "export.occupied"
    assert path.read_text() == "FROM llama3\n"


def test_the_system_prompt_of_all_rows_comes_along(starter_run: RunFolder, tmp_path: Path) -> None:
    run = moved(starter_run, tmp_path / "run")
    rows = [json.loads(line) for line in run.held_out.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["messages"].insert(0, {"role": "system", "content": "Answer as a clerk."})
    run.held_out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert common_system(run) == "Answer as a clerk."
    write_modelfile(run, run.exports / "orders.gguf", run.exports / "m", Recorder())
    assert '\nSYSTEM """Answer as a clerk."""\n' in (run.exports / "m").read_text(encoding="utf-8")
    hold_out(run, (("Hi", "Hello"),))
    assert common_system(run) == ""


def test_a_template_that_cannot_be_told_is_left_out_and_said(starter_run: RunFolder, tmp_path: Path) -> None:
    run = moved(starter_run, tmp_path / "run")
    odd = "{% for m in messages %}{{ loop.index }}. {{ m.content }}<|im_end|>{% endfor %}"
    (run.adapter / "chat_template.jinja").write_text(odd, encoding="utf-8")
    channel = Recorder()
    result = write_modelfile(run, run.exports / "orders.gguf", run.exports / "m", channel)
    assert result["template"] == "left_to_ollama"
    assert "TEMPLATE" not in (run.exports / "m").read_text(encoding="utf-8").replace("No TEMPLATE", "")
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["ollama.template"]


def test_quotes_and_blanks_survive_the_parser() -> None:
    text = modelfile("a b.gguf", system='He said """stop"""\r\nnow\u3000then', stops=['"'])
    assert '"""stop"""' not in text
    assert "\u3000" not in text
    assert "\r" not in text
    assert text.count('"""') == 4


@pytest.mark.parametrize("name", ["orders", "orders:q4_k_m", "ada/orders:v1.2", "a"])
def test_names_that_ollama_takes(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "my model", "-x", "a/b/c/d", "x:", "../x", "a;rm", "--help", "名字"])
def test_names_that_ollama_refuses(name: str) -> None:
    with pytest.raises(UserError) as caught:
        checked_name(name)
    assert caught.value.problem.code == "ollama.name"


def test_a_name_is_made_of_any_title() -> None:
    assert proposed_name("Clinic replies (v2)!") == "clinic-replies-v2"
    assert proposed_name("诊所") == "lorimer-model"
    assert all(checked_name(proposed_name(title)) for title in ("-", "a" * 200, "..", "x/y"))


# ------------------------------------------------------------------------------------------------------------ create
@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program of that name on PATH; gives where it writes what it was asked."""
    if os.name == "nt":
        pytest.skip("the played program is a script with a first line that Windows does not know")
    folder, told = tmp_path / "bin", tmp_path / "told.json"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])

    def make(body: str) -> Path:
        head = f"#!{sys.executable}\nimport json, os, sys, time\n"
        head += f"json.dump([sys.argv[1:], os.getcwd(), os.getpid()], open({str(told)!r}, 'w'))\n"
        program = folder / "ollama"
        program.write_text(head + body, encoding="utf-8")
        program.chmod(0o755)
        return told

    return make


WORKS = r"""
print("gathering model components", flush=True)
for share in (0, 40, 100):
    sys.stdout.write(f"\x1b[?25l\rcopying file sha256:1234 {share}%")
    sys.stdout.flush()
assert open(sys.argv[4]).read().startswith("# Written by Lorimer.")
print("\nsuccess")
"""
FAILS = """
print("gathering model components")
sys.stderr.write("Error: could not connect to ollama server, run 'ollama serve' to start it\\n")
sys.exit(1)
"""
HANGS = """
print("copying file 1%", flush=True)
time.sleep(600)
"""


def test_ollama_makes_a_model_and_its_progress_is_told(
    starter_run: RunFolder, tmp_path: Path, ollama: Callable[[str], Path]
) -> None:
    told, channel = ollama(WORKS), Recorder()
    run = moved(starter_run, tmp_path / "run")
    wished = {"to": "ollama", "file": str(run.exports / "orders.gguf"), "name": "orders:v1", "create": True}
    result = export(run, wished, channel)
    asked, folder, _ = json.loads(told.read_text())
    assert asked == ["create", "orders:v1", "-f", "orders.Modelfile"]
    assert Path(folder) == run.exports
    assert result["created"]
    assert result["name"] == "orders:v1"
    shares = [event.done for event in channel.events if isinstance(event, Progress) and event.unit == "%"]
    assert shares == [0, 40, 100]
    texts = [event.text.en for event in channel.events if isinstance(event, Stage)]
    assert "Ollama: success" in texts
    assert listed(run)[0].kind == "ollama"
    assert listed(run)[0].passed is True


def test_what_ollama_says_when_it_fails(starter_run: RunFolder, tmp_path: Path, ollama: Callable[[str], Path]) -> None:
    ollama(FAILS)
    (tmp_path / "Modelfile").write_text("# Written by Lorimer.\n")
    with pytest.raises(UserError) as caught:
        create(tmp_path / "Modelfile", "orders", Recorder())
    assert caught.value.problem.code == "ollama.failed"
    assert "could not connect" in caught.value.problem.message.en
    assert "ollama serve" in caught.value.problem.hint.en
    assert "gathering" in caught.value.details


def test_ollama_is_ended_when_the_user_stops(tmp_path: Path, ollama: Callable[[str], Path]) -> None:
    told, channel = ollama(HANGS), Recorder()

    def stop() -> None:
        while not any(isinstance(event, Progress) for event in channel.events):
            time.sleep(0.01)
        channel.pending.append(Command(name=STOP))

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped):
        create(tmp_path / "Modelfile", "orders", channel)
    thread.join()
    assert not psutil.pid_exists(json.loads(told.read_text())[2])


def test_without_ollama_nothing_is_begun(
    starter_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = moved(starter_run, tmp_path / "run")
    wished = {"to": "ollama", "out": str(tmp_path / "out"), "quantize": "Q8_0", "create": True}
    with pytest.raises(UserError) as caught:
        export(run, wished, Recorder())
    assert caught.value.problem.code == "ollama.missing"
    assert not (tmp_path / "out").exists()


def test_a_folder_for_ollama_is_whole(starter_run: RunFolder, tmp_path: Path) -> None:
    run, out = moved(starter_run, tmp_path / "run"), tmp_path / "out"
    result = export(run, {"to": "ollama", "out": str(out), "quantize": "F16"}, Recorder())
    assert {path.name for path in out.iterdir()} == {"made.gguf", "made.md", "Modelfile"}
    assert result["parity"]["passed"] is True
    assert "FROM ./made.gguf" in (out / "Modelfile").read_text()
    assert MARK in (out / "made.md").read_text(encoding="utf-8")
    assert not result["created"]
    export(run, {"to": "ollama", "out": str(out), "quantize": "F16"}, Recorder())  # its own files are replaced


def test_what_failed_its_check_is_not_handed_on(starter_run: RunFolder, tmp_path: Path) -> None:
    run = moved(starter_run, tmp_path / "run")
    file = str(run.exports / "orders.gguf")
    remember(run, Export("gguf", "F16", file, 1, 9.0, {"passed": False}))
    with pytest.raises(UserError) as caught:
        export(run, {"to": "ollama", "file": file}, Recorder())
    assert caught.value.problem.code == "export.differs"
    assert export(run, {"to": "ollama", "file": file, "force": True}, Recorder())["modelfile"]


if __name__ == "__main__" and "--record" in sys.argv:
    content = json.dumps(by_go(asked_of_go()), ensure_ascii=False, indent=1)
    RENDERED.write_text(content + "\n", encoding="utf-8")
