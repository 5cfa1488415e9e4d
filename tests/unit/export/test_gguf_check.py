"""What differs from the training is noticed in an exported file, and named rightly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.export.gguf_check import verify_gguf
from engine.export.gguf_work import export_gguf
from engine.export.parity import Parity
from engine.merge.verify import Expected, Place, Subject, expect
from engine.project.atomic import write_text
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped
from tests.unit.export.broken import change_tensor, copy, set_number, set_text, text_of
from tests.unit.merge.made import hold_out, lora, trained_run

ROWS = (
    ("Hello!", "Hi!"),
    ("Where is the ball?", "It is in the park."),
    ("Tell me of your day, please.", "I was at school and then at home."),
    ("Order 2 blue chairs.", "Two blue chairs are ordered."),
)


def quietly(done: int, total: int) -> None:
    """No one watches."""


class Checked:
    """A run with its GGUF in F16, and what base and adapter say, asked once."""

    def __init__(self, run: RunFolder, folder: Path) -> None:
        self.path = Path(export_gguf(run, folder / "model.gguf", "F16", Recorder())["file"])
        self.subject = Subject.of(run)
        self.expected: list[Expected] = expect(self.subject, Place("fp32"), quietly)

    def check(self, path: Path, kind: str = "F16") -> Parity:
        return verify_gguf(self.subject, path, kind, quietly, expected=self.expected)


@pytest.fixture(scope="module")
def tales(stories_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Tokens in SentencePiece's way, a first-of-text token."""
    folder = tmp_path_factory.mktemp("stories_file")
    return Checked(RunFolder(Path(shutil.copytree(stories_run.path, folder / "run"))), folder)


@pytest.fixture(scope="module")
def orders(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Tokens of bytes, ChatML."""
    folder = tmp_path_factory.mktemp("starter_file")
    run = trained_run(folder / "run", starter, lora(), stops=(3,), size=0.02)
    hold_out(run, ROWS)
    return Checked(run, folder)


@pytest.fixture(scope="module")
def fertig(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """The same with an end that no runtime knows by its text."""
    folder = tmp_path_factory.mktemp("fertig")
    base = Path(shutil.copytree(starter, folder / "base"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        text = (base / name).read_text(encoding="utf-8")
        write_text(base / name, text.replace("<|im_end|>", "<|fertig|>"))
    run = trained_run(folder / "run", base, lora(), stops=(3,), size=0.02)
    hold_out(run, ROWS)
    return Checked(run, folder)


def test_an_untouched_file_is_what_was_trained(tales: Checked, orders: Checked) -> None:
    for checked in (tales, orders):
        parity = checked.check(checked.path)
        assert parity.passed is True, parity
        assert parity.differs == ()
        assert parity.tokenizer_equal
        assert parity.template_equal
        assert parity.stops_equal
        assert parity.prompts == parity.greedy_prompts == 4
        assert parity.perplexity_change == pytest.approx(0.0, abs=0.002)
        assert parity.runtime.startswith("llama.cpp (xllamacpp 20")
        assert parity.reference == "fp32"
        assert parity.limits is not None
        assert Parity.of(parity.to_plain()) == parity


def test_another_template(tales: Checked, orders: Checked, tmp_path: Path) -> None:
    for checked in (tales, orders):
        path = copy(checked.path, tmp_path)
        template = text_of(path, "tokenizer.chat_template")
        set_text(path, "tokenizer.chat_template", template.replace("assistant", "assistent"))
        parity = checked.check(path)
        assert (parity.passed, parity.kinds) == (False, ("template",))
        assert parity.template_equal is False
        assert parity.agreement == 1.0


def test_an_end_that_is_not_declared(fertig: Checked, tmp_path: Path) -> None:
    assert fertig.check(fertig.path).passed is True
    path = copy(fertig.path, tmp_path)
    for name in ("eos", "eot"):
        set_number(path, f"tokenizer.ggml.{name}_token_id", 0)
    parity = fertig.check(path)
    assert (parity.passed, parity.kinds) == (False, ("stop",))
    assert parity.stops_equal is False
    assert "<|fertig|>" in parity.differs[0].text.en
    assert parity.agreement == 1.0


def test_an_end_too_early(orders: Checked, tmp_path: Path) -> None:
    path = copy(orders.path, tmp_path)
    said = next(item.greedy[1].token for item in orders.expected if len(item.greedy) > 3)
    # "<|im_end|>" is known as an end by its text alone.
    for name in ("eos", "eot"):
        set_number(path, f"tokenizer.ggml.{name}_token_id", said)
    parity = orders.check(path)
    assert (parity.passed, parity.kinds) == (False, ("stop",))
    assert "too early" in parity.differs[0].text.en


def test_an_added_token_that_is_lost(orders: Checked, tmp_path: Path) -> None:
    path = copy(orders.path, tmp_path)
    start = orders.subject.trained.tokenizer.id_of("<|im_start|>")
    assert start is not None
    set_text(path, "tokenizer.ggml.tokens", "[UNUSED_00]", start)
    parity = orders.check(path)
    assert (parity.passed, parity.kinds[0]) == (False, "tokenizer")
    assert "<|im_start|>" in parity.differs[0].text.en
    assert "<|im_start|>" in parity.differs[0].text.zh


def test_a_layer_with_other_weights(tales: Checked, tmp_path: Path) -> None:
    path = copy(tales.path, tmp_path)
    change_tensor(path, "blk.2.ffn_down.weight", lambda values: values * 1.25)
    parity = tales.check(path)
    assert (parity.passed, parity.kinds) == (False, ("weights",))
    assert parity.tokenizer_equal
    assert parity.template_equal
    assert parity.stops_equal


def test_rows_of_queries_that_were_not_put_in_order(tales: Checked, tmp_path: Path) -> None:
    path = copy(tales.path, tmp_path)
    heads = 8

    def back(values):  # type: ignore[no-untyped-def]
        rows, columns = values.shape
        return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)

    change_tensor(path, "blk.0.attn_q.weight", back)
    parity = tales.check(path)
    assert (parity.passed, parity.kinds) == (False, ("weights",))


def test_another_rope(tales: Checked, tmp_path: Path) -> None:
    path = copy(tales.path, tmp_path)
    set_number(path, "llama.rope.freq_base", 500.0)
    parity = tales.check(path)
    assert (parity.passed, parity.kinds) == (False, ("weights",))


def test_a_first_token_that_training_did_not_have(orders: Checked, tmp_path: Path) -> None:
    path = copy(orders.path, tmp_path)
    set_number(path, "tokenizer.ggml.add_bos_token", True)
    parity = orders.check(path)
    assert (parity.passed, parity.kinds) == (False, ("template",))
    assert "first-of-text" in parity.differs[0].text.en


def test_a_first_token_twice(tales: Checked, tmp_path: Path) -> None:
    path = copy(tales.path, tmp_path)
    template = text_of(path, "tokenizer.chat_template")
    assert template.startswith("{{- bos_token -}}\n")
    twice = template.replace("{{- bos_token -}}\n", "{{bos_token*2}}", 1).replace("{%- else -%}\n", "{%else-%}\n")
    set_text(path, "tokenizer.chat_template", twice)
    parity = tales.check(path)
    assert (parity.passed, parity.kinds) == (False, ("template",))
    assert "begins with" in parity.differs[0].text.en


def test_plain_text_is_compared_along_itself(stories_run: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(stories_run.path, tmp_path / "run")))
    text = "Once upon a time there was a big dog. It was happy in the park with a ball. The end."
    write_text(run.held_out, json.dumps({"where": "a:1", "messages": [], "text": text}) + "\n")
    checked = Checked(run, tmp_path)
    parity = checked.check(checked.path)
    assert parity.passed is True
    assert parity.held_out
    assert (parity.prompts, parity.perplexity_found) == (1, pytest.approx(parity.perplexity, rel=0.005))
    assert parity.tokens > 20


def test_a_stop_ends_the_check(tales: Checked) -> None:
    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        verify_gguf(tales.subject, tales.path, "F16", stop, expected=tales.expected)


def test_without_the_c_interface_the_server_tells_the_same(tales: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = tales.check(tales.path)
    monkeypatch.setattr("engine.export.gguf_check.available", lambda: False)
    slow = tales.check(tales.path)
    assert (slow.tokens, slow.agreement, slow.near_ties) == (quick.tokens, quick.agreement, quick.near_ties)
    assert slow.perplexity_found == pytest.approx(quick.perplexity_found, rel=1e-4)
