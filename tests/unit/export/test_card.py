"""The card of an export: what the hub reads of it, what people read, and what of this machine is not in it."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.export.card import MARK, base_licence, base_name, card, write_card
from engine.export.ledger import Export, remember
from engine.project.evaluation import Comparison, EvaluatedRow, Evaluation, Scores, SideOfRow, Verdict, write_evaluation
from engine.project.measures import MEASURES, Estimate, Measure
from engine.project.run_folder import RunFolder

PASSED = {
    "passed": True,
    "type": "Q4_K_M",
    "tokens": 148,
    "agreement": 0.971,
    "greedy_prompts": 12,
    "greedy_equal": 1.0,
    "perplexity": 3.12,
    "perplexity_found": 3.2,
    "limits": {"next_token": 0.85, "greedy": 0.0, "perplexity": 0.06},
    "tokenizer_equal": True,
    "template_equal": True,
    "stops_equal": True,
    "runtime": "llama.cpp 2026.10",
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """What a finished run leaves that a card is made of."""
    folder = RunFolder(tmp_path / "runs" / "0001-orders")
    folder.path.mkdir(parents=True)
    base = tmp_path / "models" / "tiny"
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\n---\n# Tiny\n")
    folder.write_facts(
        {
            "id": folder.id,
            "title": "Orders | of <b>the</b> clinic\n# no head",
            "model": "ada/tiny",
            "model_folder": str(base),
            "method": "qlora",
            "objective": "sft",
            "data": [{"path": str(tmp_path / "secret place" / "orders.jsonl"), "sha256": "ab" * 32}],
        }
    )
    folder.recipe_as_run.write_text(
        f'[data]\nfiles = ["{(tmp_path / "orders.jsonl").as_posix()}", "hub:ada/rows?split=test"]\nmax_length = 256\n'
        '[method]\nname = "qlora"\nrank = 16\n[train]\nlearning_rate = 2e-4\nbatch_size = 4\naccumulation = 2\n'
    )
    rows = [{"messages": [{"role": "user", "content": "Where is the ball? 球在哪里？"}]}]
    folder.held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def head_of(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def test_the_hub_reads_its_head(run: RunFolder) -> None:
    head = head_of(card(run, "adapter", parity=PASSED))
    assert head["base_model"] == "ada/tiny"
    assert head["base_model_relation"] == "adapter"
    assert head["library_name"] == "peft"
    assert head["license"] == "mit"
    assert head["datasets"] == ["ada/rows"]
    assert head["language"] == ["zh", "en"]
    assert head["tags"] == ["lorimer", "sft", "qlora"]
    assert head["pipeline_tag"] == "text-generation"
    relations = {kind: head_of(card(run, kind))["base_model_relation"] for kind in ("merged", "gguf", "gguf-adapter")}
    assert relations == {"merged": "finetune", "gguf": "quantized", "gguf-adapter": "adapter"}


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf", "gguf-adapter"])
def test_nothing_of_this_machine_is_in_it(run: RunFolder, tmp_path: Path, kind: str) -> None:
    run.write_facts({**run.read_facts(), "model": str(tmp_path / "models" / "tiny")})
    text = card(run, kind, type="Q4_K_M", file="orders.gguf", parity=PASSED)
    assert str(tmp_path) not in text
    assert "secret place" not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    user = getpass.getuser()
    assert user in ("root", "user") or user not in text
    head = head_of(text)
    assert "base_model" not in head  # the hub could not look it up
    assert "`tiny`" in text
    assert "`orders.jsonl`, SHA-256 `abababababababab`" in text


def test_people_read_what_it_is_how_it_was_made_and_how_it_does(run: RunFolder) -> None:
    base, tuned = Scores(2.0, 7.4, 0.4, 0.1, None), Scores(0.5, 1.6, 0.9, 0.9, None)
    row = EvaluatedRow(
        "rows.jsonl:1", "Where?", "There", SideOfRow(None, None, None, 2.0, 0.4), SideOfRow(None, None, None, 0.5, 0.9)
    )
    none = Comparison(0, 0, 0, None)
    loss = Measure("loss", Estimate(2.0, 1.8, 2.2), Estimate(0.5, 0.45, 0.55), Estimate(-1.5, -1.7, -1.3))
    write_evaluation(run, Evaluation(base, tuned, Verdict(none, none, None), (row,) * 12, measures=(loss,)))
    text = card(run, "gguf", type="Q4_K_M", file="orders.gguf", parity=PASSED)
    assert MARK in text
    assert "one Q4_K_M file" in text
    assert "| Rank | 16 |" in text
    assert "| Rows at once × batches a step | 4 × 2 |" in text
    assert "12 rows that were not trained on" in text
    assert "95% confidence intervals" in text
    assert f"| {MEASURES['loss'].label.en} | 2 [1.8, 2.2] | 0.5 [0.45, 0.55] |" in text
    assert "ROUGE-L" not in text
    assert "97.10% of 148 next tokens" in text
    assert "(+2.56%)" in text
    assert "llama-server -m orders.gguf" in text
    assert "ollama create orders-of-b-the-b-clinic" in text
    assert "rounded to Q4_K_M" in text
    assert "(mit)" in text
    lines = text.splitlines()
    assert "# Orders of b the /b clinic # no head" in lines or any(line.startswith("# Orders") for line in lines)
    assert sum(line.startswith("# ") for line in lines) == 1


def test_what_differs_is_said_and_what_was_not_checked(run: RunFolder) -> None:
    wrong = {**PASSED, "passed": False, "differs": [{"kind": "stop", "text": {"en": "It does not end.", "zh": "不止"}}]}
    assert "**Do not use it: It does not end.**" in card(run, "gguf", parity=wrong)
    unchecked = card(run, "merged", parity={"passed": None, "reason": {"en": "no memory", "zh": "内存不足"}})
    assert "Not checked: no memory." in unchecked
    assert "## Checked" not in card(run, "merged")


def test_a_run_that_lost_its_records_has_a_card_all_the_same(tmp_path: Path) -> None:
    text = card(RunFolder(tmp_path), "adapter")
    assert head_of(text)["library_name"] == "peft"
    (tmp_path / "evaluation.json").write_text("[")
    (tmp_path / "run.json").write_text('{"title": 7, "data": [{}], "model": null}')
    assert "# 7" in card(RunFolder(tmp_path), "merged")


def test_it_stands_beside_a_file_but_not_over_another(run: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "orders.gguf"
    file.write_bytes(b"GGUF")
    assert write_card(run, file) is None  # no run knows of it
    remember(run, Export("gguf", "F16", str(file), 4, 1.0, {"passed": True}))
    path = write_card(run, file)
    assert path == tmp_path / "orders.md"
    assert write_card(run, file) == path
    path.write_text("my own notes")
    assert write_card(run, file) is None
    assert path.read_text() == "my own notes"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("starter", "starter"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("/home/ada/models/tiny/", "tiny"),
        ("C:\\Users\\ada\\tiny", "tiny"),
        ("", "base model"),
    ],
)
def test_bases_are_named_as_elsewhere(model: str, name: str) -> None:
    assert base_name({"model": model}) == name


def test_the_catalogue_knows_licences() -> None:
    assert base_licence({"model": "Qwen/Qwen3-0.6B"}) == "apache-2.0"
    assert base_licence({"model": "nobody/knows"}) == ""
