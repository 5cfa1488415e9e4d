"""Architectures that Lorimer writes no GGUF of: by llama.cpp's converter in a folder that the user names, checked as
any other; and each way in which that program can fail."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, StableLmConfig

from engine.export import export_work
from engine.export.export_work import export
from engine.export.gguf_raw import opened
from engine.export.gguf_work import export_gguf
from engine.export.ledger import listed
from engine.export.other_architectures import CONVERTER, checked_checkout
from engine.export.targets import gguf_refusal
from engine.project.atomic import write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Recorder
from engine.protocol.errors import Stopped, UserError
from engine.protocol.events import STOP, Command, Note, Progress, Stage
from engine.protocol.text import say
from tests.unit.export.moved import moved
from tests.unit.merge.made import ATTENTION, CHATML, hold_out, lora, trained_run

COPIES = """
import shutil, sys
print("INFO:hf-to-gguf:Loading model: merged")
print("\\rWriting:  50%|#####     | 1/2\\rWriting: 100%|##########| 2/2", file=sys.stderr)
shutil.copyfile(__file__ + ".gguf", sys.argv[sys.argv.index("--outfile") + 1])
json_told = __import__("json").dumps(sys.argv[1:])
open(__file__ + ".told", "w").write(json_told)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like llama.cpp's sources; its converter is written by the test."""
    folder = tmp_path / "llama.cpp"
    (folder / "gguf-py" / "gguf").mkdir(parents=True)
    (folder / CONVERTER).write_text("raise SystemExit('no test wrote me')", encoding="utf-8")
    return folder


@pytest.fixture
def odd(starter_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose architecture counts as one that Lorimer does not write."""
    refusal = UserError("export.architecture", say("Another one.", "另一种。"))
    monkeypatch.setattr(export_work, "gguf_refusal", lambda config: refusal)
    return moved(starter_run, tmp_path / "run")


def convert(run: RunFolder, checkout: Path, kind: str = "Q4_K_M", channel: Recorder | None = None) -> dict[str, Any]:
    out = run.path.parent / "out.gguf"
    wished = {"to": "gguf", "quantize": kind, "out": str(out), "llama_cpp": str(checkout)}
    return export(run, wished, channel or Recorder())


def code(run: RunFolder, checkout: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        convert(run, checkout)
    left = [path.name for path in run.path.parent.iterdir() if path.name.startswith((".out", "out"))]
    assert left == []
    return caught.value


@pytest.mark.parametrize("kind", ["Q4_K_M", "BF16"])
def test_what_it_writes_is_quantised_marked_and_checked(odd: RunFolder, checkout: Path, kind: str) -> None:
    program = checkout / CONVERTER
    program.write_text(COPIES, encoding="utf-8")
    source = Path(f"{program}.gguf")
    export_gguf(odd, source, "bf16", Recorder())
    channel = Recorder()
    result = convert(odd, checkout, kind, channel)
    assert result["parity"]["passed"] is True
    assert result["converter"] == str(program)
    told = json.loads(Path(f"{program}.told").read_text())
    assert told[1:2] == ["--outfile"]
    assert told[-2:] == ["--outtype", "auto" if kind == "Q4_K_M" else "bf16"]
    assert not Path(told[0]).exists()  # the merged weights are gone again
    with opened(Path(result["file"])) as written, opened(source) as given:
        assert written.plain("lorimer.run") == odd.id
        assert written.plain("general.file_type") == {"Q4_K_M": 15, "BF16": 32}[kind]
        assert [tensor.name for tensor in written.tensors] == [tensor.name for tensor in given.tensors]
        kinds = {tensor.kind for tensor in written.tensors}
        assert kinds == ({"F32", "BF16"} if kind == "BF16" else {"F32", "Q4_K", "Q6_K"})
        if kind == "BF16":
            assert bytes(written.data[written.tensors[0].start :]) == bytes(given.data[given.tensors[0].start :])
    assert [event.name for event in channel.events if isinstance(event, Stage)] == ["merge", "convert", "gguf", "check"]
    assert [event.code for event in channel.events if isinstance(event, Note)] == ["export.converter"]
    assert [event.done for event in channel.events if isinstance(event, Progress) and event.unit == "%"] == [50, 100]
    assert [(known.type, known.passed) for known in listed(odd) if known.file == result["file"]] == [(kind, True)]
    if kind == "BF16":
        convert(odd, checkout, kind)  # its own file is replaced


@pytest.mark.parametrize(
    ("says", "hint"),
    [
        ("print('ERROR:hf-to-gguf:Model FooForCausalLM is not supported'); raise SystemExit(1)", "architecture"),
        (
            "raise NotImplementedError('BPE pre-tokenizer was not recognized - update get_vocab_base_pre()')",
            "tokenizer",
        ),
        ("import a_package_that_is_nowhere", "package"),
        ("print('done')", "details"),  # and wrote nothing
    ],
)
def test_what_it_says_when_it_fails(odd: RunFolder, checkout: Path, says: str, hint: str) -> None:
    (checkout / CONVERTER).write_text(says, encoding="utf-8")
    error = code(odd, checkout)
    assert error.problem.code == "export.converter"
    assert hint in error.problem.hint.en
    assert error.details


def test_it_is_ended_when_the_user_stops(odd: RunFolder, checkout: Path) -> None:
    pid = checkout / "pid"
    (checkout / CONVERTER).write_text(
        f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
        "print('Writing:   1%|', flush=True)\ntime.sleep(600)\n",
        encoding="utf-8",
    )
    channel = Recorder()

    def stop() -> None:
        while not any(isinstance(event, Progress) and event.unit == "%" for event in channel.events):
            time.sleep(0.01)
        channel.pending.append(Command(name=STOP))

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Stopped):
        convert(odd, checkout, channel=channel)
    thread.join()
    assert not psutil.pid_exists(int(pid.read_text()))
    assert not [path for path in odd.path.parent.iterdir() if path.name.startswith((".out", "out"))]


def test_a_folder_that_is_none_is_told(odd: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        checked_checkout(tmp_path)
    assert caught.value.problem.code == "export.no_checkout"
    assert code(odd, tmp_path).problem.code == "export.no_checkout"


def test_without_one_the_sentence_names_the_way(odd: RunFolder, stable_config: dict[str, Any]) -> None:
    refusal = gguf_refusal(stable_config)
    assert refusal is not None
    assert "--llama-cpp" in refusal.problem.hint.en


@pytest.fixture
def stable_config() -> dict[str, Any]:
    """Of an architecture that Lorimer does not write."""
    return {"architectures": ["StableLmForCausalLM"], "model_type": "stablelm"}


@pytest.mark.slow
def test_llama_cpp_s_own_converter(repository: Path, shared_data: Path, tmp_path: Path) -> None:
    real = repository.parent / "ref" / "llama-cpp-python" / "vendor" / "llama.cpp"
    if not (real / CONVERTER).is_file():
        pytest.skip(f"there is no checkout of llama.cpp ({real})")
    torch.manual_seed(3)
    base = tmp_path / "base"
    config = StableLmConfig(
        vocab_size=128256, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, tie_word_embeddings=False,
        bos_token_id=128000, eos_token_id=128001, use_qkv_bias=False,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(base)
    shutil.copyfile(shared_data / "tokenizers" / "llama3" / "tokenizer.json", base / "tokenizer.json")
    kind = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
    }
    write_json(base / "tokenizer_config.json", kind)
    run = trained_run(tmp_path / "run", base, lora(target_modules=ATTENTION), template=CHATML, stops=(128001,))
    hold_out(run, (("Hello there", "Good day."), ("你好", "今天")))
    channel = Recorder()
    result = convert(run, real, "F32", channel)
    with opened(Path(result["file"])) as written:
        assert written.plain("general.architecture") == "stablelm"
        assert written.plain("tokenizer.ggml.pre") == "smaug-bpe"  # a rebuilt vocabulary
        assert written.plain("lorimer.run") == run.id
    parity = result["parity"]
    assert parity["tokenizer_equal"]
    assert parity["template_equal"]
    assert parity["agreement"] == 1.0
