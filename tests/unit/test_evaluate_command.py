"""`lorimer evaluate --kept` with a judge and a report, through a real worker; keys of judges; wrong options."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.cli import main
from engine.project.project import Project
from engine.project.run_folder import RunFolder
from engine.recipe.file import loads, save
from tests.unit.judge_stand import Serve, by_quality, evaluated, row, serving

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def serve() -> Iterator[Serve]:
    with serving() as start:
        yield start


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with an evaluation, and nothing else that a judge would need."""
    recipe = loads("", CATALOGUE)
    made = Project.open_or_create(tmp_path / "p").new_run(recipe)
    save(recipe, made.recipe_as_run)
    return evaluated(made.path, [row(i) for i in range(6)])


def test_a_judge_and_a_report_from_what_was_kept(
    run: RunFolder, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand, settings = serve(by_quality, key=KEY)
    monkeypatch.setenv("LORIMER_JUDGE_API_KEY", KEY)
    monkeypatch.setenv("LORIMER_JUDGE_ADDRESS", settings.address)
    options = ["--kept", "--judge", settings.address, "--judge-model", "judge-1", "--judge-rows", "4"]
    report = tmp_path / "report.html"
    assert main(["evaluate", str(run.path), *options, "--report", str(report), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["judge"]["wins"] == 4
    assert document["judge"]["rows"] == 4
    assert document["report"] == str(report)
    assert "judge-1 is undecided: 4 wins, 0 losses, 0 ties" in report.read_text(encoding="utf-8")
    assert len(stand.seen) == 8
    # The key is in no file of the project: not in the job's arguments, record or log.
    files = [path for path in run.path.parent.rglob("*") if path.is_file()]
    assert any(path.name == "job.json" and "judge" in str(path) for path in files)
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_an_address_of_the_recipe_alone_is_not_asked(run: RunFolder, serve: Serve) -> None:
    stand, settings = serve(by_quality)
    recipe = loads(f'[evaluate.judge]\naddress = "{settings.address}"\nmodel = "m"', CATALOGUE)
    save(recipe, run.recipe_as_run)
    assert main(["evaluate", str(run.path), "--kept"]) == 0
    assert not stand.seen


def test_an_open_address_is_refused_before_anything_starts(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run.path), "--judge", "http://api.example.com/v1", "--lang", "zh"]) == 2
    assert "未加密" in capsys.readouterr().err
    assert not run.jobs.exists()


def test_a_report_without_an_evaluation(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.evaluation.unlink()
    assert main(["evaluate", str(run.path), "--kept", "--report", str(tmp_path / "r.html")]) == 2
    assert "Evaluate the run first" in capsys.readouterr().err


def test_keys_are_read_unseen_and_forgotten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import keyring

    kept: dict[tuple[str, str], str] = {}
    monkeypatch.setattr(keyring, "get_password", lambda *name: kept.get(name))
    monkeypatch.setattr(keyring, "set_password", lambda service, name, value: kept.update({(service, name): value}))
    monkeypatch.setattr(keyring, "delete_password", lambda *name: kept.pop(name))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    assert main(["judge-key", "https://api.example.com/v1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kept": True, "for": "https://api.example.com:443"}
    assert kept == {("lorimer", "judge https://api.example.com:443"): KEY}
    assert main(["judge-key", "https://api.example.com/v1", "--forget"]) == 0
    assert not kept
    told = capsys.readouterr()
    assert KEY not in told.out + told.err


def test_without_a_keyring_a_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import keyring
    from keyring.errors import NoKeyringError

    def refuse(*name: str) -> None:
        raise NoKeyringError

    monkeypatch.setattr(keyring, "set_password", refuse)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    assert main(["judge-key", "https://api.example.com/v1"]) == 1
    assert "LORIMER_JUDGE_API_KEY" in capsys.readouterr().err
