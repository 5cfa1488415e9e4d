"""The report: what it tells, in both languages; that it holds no script and no address, whatever its texts are."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from engine.project.effect import Effect, Part, write_effect
from engine.project.evaluation import Comparison, EvaluatedRow, Evaluation, Scores, SideOfRow, Verdict, write_evaluation
from engine.project.forgetting import Forgetting, SkillChange, TextDrift, write_forgetting
from engine.project.harness_record import HarnessFigure, HarnessResult, write_harness
from engine.project.judgement import JudgedRow, Judgement, write_judgement
from engine.project.measures import Estimate, Group, Label, Labels, Measure
from engine.project.remarks import Remarks, write_remarks
from engine.project.run_folder import RunFolder
from engine.protocol.codec import encode_event
from engine.protocol.errors import UserError
from engine.protocol.events import Finished, HeldOut, JobStarted, StepDone
from engine.protocol.text import Text
from engine.report.charts import curve
from engine.report.markup import Html, escaped, tag
from engine.report.write import write_report

HOSTILE = (
    "</p></style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'><a href='javascript:alert(1)'>x</a>"
    "<svg onload=alert(1)><link rel=stylesheet href=//evil.example/x.css><iframe src='https://evil.example'></iframe>"
    "url(https://evil.example/p.png) @import 'https://evil.example'; \u202egnp.exe\x00\x1b[31m <!-- --> ]]> &lt;"
)
CALM = "Put nine yellow bags in a parcel for Paul."


def made(folder: Path, text: str) -> RunFolder:
    """A run's folder in which every text is this one."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    side = SideOfRow(text, False, 0.1, 2.0, 0.3, cut=True)
    rows = [
        EvaluatedRow(f"{text}:1", text, text, side, replace(side, answer=text + "!", rouge_l=0.9)),
        EvaluatedRow("b.jsonl:2", text, text, side, replace(side, answer=text + "?", rouge_l=0.0)),
        EvaluatedRow("c.jsonl:3", text, text, replace(side, answer=None), replace(side, answer=None)),
    ]
    measure = Measure(
        "exact_match", Estimate(0.1, 0.05, 0.2), Estimate(0.8, 0.7, 0.9), Estimate(0.7, 0.6, 0.8), 0.0004, 40
    )
    odd = Measure(text, Estimate(None), Estimate(3.0), Estimate(None))
    group = Group(text, Text(text, text), 20, measure)
    both = (Label(text, 9, 0.2, 0.7), Label("other", 9, 0.1, 0.9))
    labels = Labels(both, measure, measure, ((1, 2, 0), (0, 1, 0)), ((2, 1, 0), (0, 1, 0)))
    scores = Scores(None, None, None, None, None)
    verdict = Verdict(Comparison(30, 2, 8, 1e-6), Comparison(30, 2, 8, 1e-6), 0.9)
    write_evaluation(
        run,
        Evaluation(
            scores,
            scores,
            verdict,
            tuple(rows),
            notes={"loss": Text(text, text)},
            held_out=40,
            created=1.7e9,
            measures=(measure, odd),
            headline="exact_match",
            groups=(group, group),
            grouped_by=text,
            labels=labels,
        ),
    )
    skill = SkillChange("code", "en", 40, 0.25, 0.8, 0.3, 0.625, 0.4, 0.8, 22, 2, 0.0001)
    unknown = SkillChange(text, text, 40, 0.25, 0.2, 0.3, None, None, None, 2, 6, 0.3, Text(text, text))
    write_forgetting(run, Forgetting((skill, unknown), skill, (TextDrift(text, 10, 700, 2.0, 2.9, 0.45, 0.4, 0.5),)))
    parts = (Part(text, 4, 1.0, 10.0),)
    write_effect(
        run, Effect(Part("all", 4, 1.0, 10.0), parts, parts, kl=0.2, variation=0.1, other_token=0.3, positions=9)
    )
    judged = JudgedRow(text, text, text, text, "tuned", "tuned", "tuned", text)
    write_judgement(run, Judgement(text, text, (judged,), 1, 0, 0, 0, 1.0, 0.03, 1.0, 1.0, 0.9, 0.01, 0))
    figure = HarnessFigure(text, text, 10, 0.6, 0.3, 0.1, 0.1, True, 0.5, 0.2, 0.7)
    write_harness(run, HarnessResult((figure,), (text,), text, 10, 1))
    sha = {"sha256": text, "bytes": 3}
    facts = {"id": text, "title": text, "model": text, "method": text, "objective": text, "model_files": {text: sha}}
    run.write_facts({**facts, "data": [{"path": f"/home/somebody/private/{text}", "sha256": text}]})
    here = {"lorimer": text, "commit": text, "platform": text, "cpu": text, "python": text, "versions": {text: text}}
    run.environment.write_text(json.dumps([{**here, "gpus": [{"name": text}], "ram_gib": 23.5}]), encoding="utf-8")
    run.recipe_as_run.write_text(
        f'version = 1\n[data]\nfiles = ["{Path.home()}/private/rows.jsonl"]\n# {text}', encoding="utf-8"
    )
    events = [JobStarted(kind="train", pid=1, time=1.0)]
    events += [
        StepDone(step=i, steps=30, epoch=1.0, loss=3 / i, learning_rate=1e-4, time=float(i)) for i in range(1, 31)
    ]
    events += [HeldOut(step=30, loss=0.2, token_accuracy=0.9, best=True, time=31.0), Finished(status="done", time=32.0)]
    run.events.write_text("".join(encode_event(event) + "\n" for event in events), encoding="utf-8")
    write_remarks(run, Remarks(title=text))
    return run


class Reader(HTMLParser):
    """Every element, attribute, text and declaration of a page."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name not in ("meta", "br", "hr"):
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


ELEMENTS = frozenset(
    "html head meta title style body main header section footer div span p h1 h2 h3 h4 b i small table thead tbody tr "
    "th td svg rect line text polyline circle details summary dl dt dd pre code".split()
)
ATTRIBUTES = frozenset(
    "lang charset http-equiv content name class scope dir role aria-label viewbox x y x1 x2 y1 y2 cx cy r rx width "
    "height points text-anchor".split()
)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts_stay_texts(tmp_path: Path, language: str) -> None:
    path = tmp_path / "report.html"
    write_report(made(tmp_path / "run", HOSTILE), path, language)
    content = path.read_text(encoding="utf-8")
    found = Reader(content)
    assert not found.open
    assert not found.comments
    assert {name for name, _ in found.tags} <= ELEMENTS
    assert {attribute for _, given in found.tags for attribute in given} <= ATTRIBUTES
    assert sum(name == "style" for name, _ in found.tags) == 1
    values = [value or "" for _, given in found.tags for key, value in given.items() if key != "aria-label"]
    assert not any("evil" in value or "javascript" in value for value in values)
    style = content[content.index("<style>") : content.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    # All of it is there to read, without what a page or a terminal obeys.
    told = "".join(found.texts)
    assert "<script>alert(1)</script>" in told
    assert not any(sign in content for sign in ("\x00", "\x1b", "\u202e"))


def test_a_page_of_ones_own_has_the_same_elements_as_a_hostile_one(tmp_path: Path) -> None:
    pages = []
    for name, text in (("calm", CALM), ("hostile", HOSTILE)):
        write_report(made(tmp_path / name, text), tmp_path / f"{name}.html")
        pages.append([tag for tag, _ in Reader((tmp_path / f"{name}.html").read_text(encoding="utf-8")).tags])
    assert pages[0] == pages[1]


def test_nothing_outside_is_named(tmp_path: Path) -> None:
    write_report(made(tmp_path / "run", CALM), tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http:" not in content.replace("http-equiv", "")
    assert "https:" not in content
    assert "src=" not in content
    assert "default-src 'none'" in Reader(content).tags[3][1].values() or "default-src &#x27;none&#x27;" in content


def test_what_it_tells(tmp_path: Path) -> None:
    run = made(tmp_path / "run", CALM)
    write_report(run, tmp_path / "en.html", "en")
    write_report(run, tmp_path / "zh.html", "zh")
    english, chinese = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("en", "zh"))
    told = " ".join(Reader(english).texts)
    for words in (
        "Better on 30 of 40 held-out rows, worse on 2",
        "worth keeping",
        "10.0% → 80.0%",
        "It forgot 62% of code (English) (between 40% and 80%): more than 30%.",
        "Mix general conversations in",
        "The adapter moves the weights by 10.00%",
        "It prefers a place",
        "Tuned won 100% of the decided rows",
        "The recipe as it was run",
        "training loss, smoothed",
        "not measurable",
        "Gained most (1)",
        "runs nothing",
    ):
        assert words in told, words
    assert 'lang="zh-CN"' in chinese
    for words in ("值得保留", "遗忘了什么", "适配器的作用", "评审模型的意见", "实际运行的配方"):
        assert words in chinese


def test_no_path_of_its_writer_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefgh12345678")
    run = made(tmp_path / "run", CALM)
    with run.recipe_as_run.open("a", encoding="utf-8") as file:
        file.write("\n# sk-abcdefgh12345678")
    write_report(run, tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "sk-abcdefgh12345678" not in content
    assert "/home/somebody" not in content
    assert f"{Path.home()}/private" not in content
    assert "~/private/rows.jsonl" in content


def test_what_was_not_measured_is_left_out_and_what_is_damaged_is_named(tmp_path: Path) -> None:
    run = made(tmp_path / "run", CALM)
    for path in (run.effect, run.judgement, run.harness):
        path.unlink()
    run.forgetting.write_text("{", encoding="utf-8")
    run.environment.write_text("nonsense", encoding="utf-8")
    write_report(run, tmp_path / "report.html")
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Damaged and left out: environment.json, forgetting.json." in content
    assert "What the adapter does" not in content
    assert "What a judge says" not in content


@pytest.mark.parametrize("number", [1e300, -1e300, math.nan, math.inf, 0.0])
def test_forged_numbers_break_nothing(tmp_path: Path, number: float) -> None:
    run = made(tmp_path / "run", CALM)
    for path in (run.evaluation, run.forgetting, run.effect, run.judgement, run.harness):
        plain = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(_with(plain, number)), encoding="utf-8")
    write_report(run, tmp_path / "report.html")
    assert not Reader((tmp_path / "report.html").read_text(encoding="utf-8")).open


def _with(plain: Any, number: float) -> Any:
    """The same with every fraction replaced."""
    if isinstance(plain, dict):
        return {key: _with(value, number) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_with(value, number) for value in plain]
    return number if isinstance(plain, float) else plain


def test_without_an_evaluation_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to report"):
        write_report(RunFolder(tmp_path), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_markup_is_made_by_tag_alone() -> None:
    assert escaped("<b>") == "&lt;b&gt;"
    assert tag("p", Html("<b>"), "<i>", cls="a'b") == '<p class="a&#x27;b"><b>&lt;i&gt;</p>'


def test_a_curve_of_numbers_that_are_none() -> None:
    assert curve([(1.0, math.nan)], [], "x", "step", "loss") == ""
    drawn = curve([(float(i), 2.0 if i != 5 else math.inf) for i in range(5000)], [(9.0, 1.0)], "x", "step", "loss")
    assert "inf" not in drawn
    assert "nan" not in drawn
    assert len(drawn) < 60_000
