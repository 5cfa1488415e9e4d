"""The list of runs: figures from the record, remarks, sizes, words to find one by, and what recipes differ in."""

import os
import time
from pathlib import Path

import pytest

from engine.catalogue import CATALOGUE
from engine.project import runs as listing
from engine.project.kept import kept, spare
from engine.project.project import Project
from engine.project.remarks import LONGEST_NOTE, MOST_TAGS, Remarks, read_remarks, remarks_file, write_remarks
from engine.project.runs import Listing, differing, found, in_order, query_of, sizes
from engine.protocol.events import Continued, Finished, JobStarted, Launched, Waiting
from engine.recipe.file import from_plain
from tests.unit.project.made_run import STEPS, evaluate, leave, make_checkpoint, make_run, step, work_on, write


# ------------------------------------------------------------------------------------------------------------ figures
def test_a_row_tells_what_the_record_comes_to(tmp_path: Path) -> None:
    run = make_run(tmp_path, "clinic replies")
    evaluate(run, 0.2, 0.58)
    (row,) = Listing(tmp_path).read()
    assert (row.title, row.model, row.method, row.files) == (
        "clinic replies",
        "Qwen2.5-0.5B",
        "qlora",
        ("clinic.jsonl",),
    )
    figures = row.figures
    assert (figures.status, figures.steps, figures.total, figures.seconds) == ("done", STEPS, STEPS, 42.0)
    assert (figures.loss, figures.best_loss, figures.best_step) == (1.6, 1.5, 20)
    assert row.measured is not None
    assert row.measured.gain == pytest.approx(0.38)
    assert (row.measured.better, row.measured.worse) == (5, 1)


def test_time_that_nobody_worked_is_not_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, "paused", status="", steps=10, saved=())
    write(run, Waiting(step=10, time=1010.0), Continued(time=2000.0), step(11, 2005.0))
    write(run, Finished(status="failed", derived=True, time=9000.0))  # somebody looked much later
    write(run, Launched(kind="resume", time=9100.0), JobStarted(kind="resume", pid=2, time=9100.0, resumed_from=10))
    write(run, step(11, 9101.0), Finished(status="done", time=9103.0))
    (row,) = Listing(tmp_path).read()
    assert row.figures.seconds == pytest.approx(10 + 5 + 3)
    assert row.figures.status == "done"


def test_a_record_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        make_run(tmp_path, f"run {number}")
    before = Listing(tmp_path).read()
    monkeypatch.setattr(listing, "_Followed", lambda run: pytest.fail("it was read again"))
    monkeypatch.setattr(listing, "_of_recipe", lambda path: pytest.fail("it was read again"))
    assert Listing(tmp_path).read() == before


def test_a_record_that_grows_is_followed(tmp_path: Path) -> None:
    run = make_run(tmp_path, "under way", status="", steps=5, saved=())
    work_on(run)
    known = Listing(tmp_path)
    assert known.read()[0].is_under_way
    write(run, step(6), Finished(status="stopped", time=1009.0))
    leave(run)
    (row,) = known.read()
    assert (row.figures.status, row.figures.steps) == ("stopped", 6)


def test_a_very_long_line_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, "long", saved=())
    before = run.events.read_bytes()
    run.events.write_bytes(b'{"type": "note", "text": "' + b"x" * 9_000_000 + b'"}\n' + before)
    figures = Listing(tmp_path).read()[0].figures
    assert (figures.status, figures.steps, figures.best_step) == ("done", STEPS, 20)


def test_a_run_that_died_unheard_is_noticed(tmp_path: Path) -> None:
    run = make_run(tmp_path, "died", status="", steps=5, saved=())
    known = Listing(tmp_path)
    assert known.read()[0].figures.status == "working", "it may have begun this moment"
    old = time.time() - 2 * listing.FRESH_SECONDS
    os.utime(run.events, (old, old))
    (row,) = known.read()
    assert row.figures.status == "failed"
    assert row.figures.failure


def test_hundreds_of_runs_are_listed_at_once(tmp_path: Path) -> None:
    project = Project.open_or_create(tmp_path)
    recipe = from_plain({}, CATALOGUE)
    for number in range(200):
        write(project.new_run(recipe, title=f"n {number}"), Launched(kind="train"), Finished(status="done"))
    Listing(tmp_path).read()
    begun = time.process_time()
    assert len(Listing(tmp_path).read()) == 200
    assert time.process_time() - begun < 2.0


@pytest.mark.parametrize("damage", ["run.json", "recipe.toml", "events.jsonl", "evaluation.json", "notes.json"])
def test_what_is_damaged_hides_nothing_else(tmp_path: Path, damage: str) -> None:
    good, bad = make_run(tmp_path, "good"), make_run(tmp_path, "bad")
    (bad.path / damage).write_bytes(b'\xff\x00{"title": [' * 3)
    titles = [row.title for row in Listing(tmp_path).read()]
    assert titles == ["bad", "good"]
    assert good.path.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    run = make_run(tmp_path, "strange", saved=(20,))
    for path in (run.recipe, remarks_file(run), run.evaluation, run.checkpoints / "step-000020" / "manifest.json"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    (row,) = Listing(tmp_path).read()
    assert (row.title, row.files, row.measured) == ("strange", (), None)
    assert (kept(run)[0].bytes, sizes(run).exports) == (0, 0)


# ------------------------------------------------------------------------------------------------------------ remarks
def test_remarks_are_kept_and_cleaned(tmp_path: Path) -> None:
    run = make_run(tmp_path, "given")
    kept_ = write_remarks(run, Remarks("  my\nrun ", ("#Best", "best", "a,b", ""), "line one\nline two\x00  \n"))
    assert kept_ == Remarks("my run", ("Best", "a b"), "line one\nline two")
    assert read_remarks(run) == kept_
    (row,) = Listing(tmp_path).read()
    assert (row.title, row.tags, row.note) == ("my run", ("Best", "a b"), "line one\nline two")
    assert Project(tmp_path).runs()[0].title == "my run"
    write_remarks(run, Remarks(tags=kept_.tags))
    assert Listing(tmp_path).read()[0].title == "given"


def test_remarks_of_a_stranger_are_cut_to_size(tmp_path: Path) -> None:
    run = make_run(tmp_path, "given")
    write_remarks(run, Remarks("t" * 999, tuple(f"{i}" + "x" * 99 for i in range(50)), "n" * 99999))
    found_ = read_remarks(run)
    assert (len(found_.title), len(found_.tags), len(found_.note)) == (200, MOST_TAGS, LONGEST_NOTE)
    remarks_file(run).write_text('{"title": 3, "tags": "x", "note": null}')
    assert read_remarks(run) == Remarks()
    remarks_file(run).write_text(" " * 2**21)
    assert read_remarks(run) == Remarks()


# ------------------------------------------------------------------------------------------------------------ finding
def test_words_status_and_tags_find_runs(tmp_path: Path) -> None:
    one, two = make_run(tmp_path, "clinic replies"), make_run(tmp_path, "orders", status="failed")
    write_remarks(one, Remarks(tags=("best",), note="Ask Maria"))
    make_run(tmp_path, "third", data={"files": ["/data/orders_zh.csv"]})
    rows = Listing(tmp_path).read()

    def titles(text: str, **more: str) -> list[str]:
        return [row.title for row in rows if found(row, query_of(text, **more))]

    assert titles("") == ["third", "orders", "clinic replies"]
    assert titles("MARIA clinic") == ["clinic replies"]
    assert titles("orders") == ["third", "orders"]
    assert titles("#BEST") == titles("tag:best") == titles("", tag="best") == ["clinic replies"]
    assert titles("status:failed") == titles("", status="failed") == ["orders"]
    assert titles("nothing like it") == []
    assert two.path.exists()


def test_runs_are_sorted(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "b", best=40), make_run(tmp_path, "A", saved=())
    evaluate(second, 0.1, 0.9)
    make_run(tmp_path, "c", status="failed", steps=3, saved=())
    rows = Listing(tmp_path).read()
    taken = {row.folder.path: sizes(row.folder) for row in rows}

    def titles(order: str) -> list[str]:
        return [row.title for row in in_order(rows, order, taken)]

    assert titles("newest") == ["c", "A", "b"]
    assert titles("oldest") == ["b", "A", "c"]
    assert titles("title") == ["A", "b", "c"]
    assert titles("loss")[-1] == "c"
    assert titles("gain")[0] == "A"
    assert titles("size")[0] == "b"
    assert first.path.exists()


# -------------------------------------------------------------------------------------------------------------- sizes
def test_sizes_by_part_without_what_links_lead_to(tmp_path: Path) -> None:
    run = make_run(tmp_path / "p", "one")
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"a" * 700)
    (tmp_path / "huge").write_bytes(b"h" * 100_000)
    (run.adapter / "link").symlink_to(tmp_path / "huge")
    found_ = sizes(run)
    assert found_.adapter == 700
    assert found_.checkpoints == sum(p.stat().st_size for p in run.checkpoints.rglob("*") if p.is_file())
    assert found_.exports == 0
    assert 0 < found_.rest < 50_000
    assert found_.total == found_.adapter + found_.checkpoints + found_.rest


def test_newest_and_best_checkpoints_are_not_spare(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one", saved=(10, 20, 30, 40), best=20)
    assert [item.step for item in kept(run)] == [10, 20, 30, 40]
    assert [item.step for item in spare(run)] == [10, 30]
    assert all(item.bytes > 3000 for item in kept(run))


def test_a_manifest_that_leads_out_is_damaged(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one", saved=())
    folder = make_checkpoint(run, 7)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("adapter_model.safetensors", "../../../run.json"))
    assert kept(run)[0].bytes == 0


# ---------------------------------------------------------------------------------------------------------- comparing
def test_only_settings_that_differ_are_told() -> None:
    recipes = [
        from_plain({"train": {"epochs": 2}, "data": {"decisions": "/a"}}, CATALOGUE),
        from_plain({"train": {"epochs": 2}, "data": {"decisions": "/b"}, "method": {"name": "ia3"}}, CATALOGUE),
        from_plain({"train": {"epochs": 3}}, CATALOGUE),
    ]
    told = {item.name: item.values for item in differing(recipes)}
    assert told["train.epochs"] == (2.0, 2.0, 3.0)
    assert told["method.name"] == ("qlora", "ia3", "qlora")
    assert told["method.rank"][1] is None
    assert "data.decisions" not in told
    assert differing([recipes[0], recipes[0]]) == []


def test_a_tag_of_several_words_is_found_in_quotation_marks() -> None:
    for typed in ('#"good one" clinic', "tag:“good one” clinic", 'clinic tag:"good one"'):
        assert query_of(typed) == query_of("clinic", tag="good one")
    assert query_of('#good # say"so').words == ("#", 'say"so')


def test_what_comes_while_a_record_is_read_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, "one", status="", steps=5, saved=())
    os.utime(run.events, (5000, 5000))
    listed, figures = Listing(tmp_path), listing._Followed.figures

    def and_more(followed: listing._Followed) -> listing.Figures:
        found = figures(followed)
        write(run, Launched(kind="resume"), step(6), Finished(status="stopped"))
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(listing._Followed, "figures", and_more)
        assert listed.read()[0].figures.status == "failed"  # it died unheard, and was begun again the next moment
    assert listed.read()[0].figures.status == "stopped"
