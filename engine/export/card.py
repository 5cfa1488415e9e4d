"""The README of what was taken away: what it is, how it was trained, how it did, and how to use it. Light.

A card goes to strangers with the files. It holds no path and no name of this machine: files of data are named by their
last part, and texts that people wrote are scrubbed as a bundle's are.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.export.ledger import listed
from engine.export.parity import Parity, sentence
from engine.project.atomic import read_json, write_text
from engine.project.evaluation import read_evaluation
from engine.project.forgetting import SkillChange, read_forgetting
from engine.project.measures import Estimate
from engine.project.run_folder import RunFolder
from engine.project.secrets import Scrubber, known_secrets
from engine.protocol.errors import UserError
from engine.recipe.recipe import HUB_DATA

CARD = "README.md"
MARK = "<!-- Written by Lorimer. -->"
"""Stands in every card, so that a later export may replace it, and nothing else of that name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_KINDS = {
    "adapter": ("peft", "An adapter: it holds only what was learned, and needs the base model beside it."),
    "merged": ("transformers", "A complete model in 16 bit: the adapter is merged into the base model's weights."),
    "gguf": (
        "gguf",
        "A complete model in one file for llama.cpp, Ollama and LM Studio; template and stop tokens inside.",
    ),
    "gguf-adapter": ("gguf", "The adapter alone as a GGUF for llama.cpp; it needs the base model's GGUF beside it."),
}
_SETTINGS = (
    ("Method", "method", "name"),
    ("Rank", "method", "rank"),
    ("Alpha", "method", "alpha"),
    ("Objective", "objective", "name"),
    ("Passes over the data", "train", "epochs"),
    ("Learning rate", "train", "learning_rate"),
    ("Schedule", "train", "scheduler"),
    ("Rows at once × batches a step", "train", "batch_size"),
    ("Optimizer", "train", "optimizer"),
    ("Precision", "train", "precision"),
    ("Longest row, tokens", "data", "max_length"),
    ("Seed", "train", "seed"),
)


def card(run: RunFolder, kind: str, *, type: str = "", file: str = "", parity: Mapping[str, Any] | None = None) -> str:
    """Markdown for what was exported of ``run``.

    Args:
        kind: "adapter", "merged", "gguf" or "gguf-adapter".
        type: of a GGUF ("Q4_K_M").
        file: its name, where it is one file.
        parity: what its check found.
    """
    facts, recipe = _plain(run.facts), _toml(run.recipe_as_run)
    clean = Scrubber(known_secrets(keyring=False))
    base, title = base_name(facts), clean(str(facts.get("title") or facts.get("id") or "Model"))
    about = _KINDS[kind][1].replace("one file", f"one {type} file") if type else _KINDS[kind][1]
    parts = [
        front_matter(facts, recipe, kind, _languages(run)),
        MARK,
        f"# {_line(title)}",
        f"{about} Trained with Lorimer from {_code(base)}.",
        _section("How it was trained", _trained(facts, recipe, clean)),
        _section("How it does on held-out rows", _figures(run)),
        _section("What it may have forgotten", _forgetting(run)),
        _section("Checked against the model that was trained", _parity(parity or {}, kind, type)),
        _section("How to use it", _use(kind, base, file or "MODEL.gguf", str(facts.get("title") or "model"))),
        _section("Limits", _limits(facts, kind, type)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_card(run: RunFolder, file: Path) -> Path | None:
    """Write the card of an export of one file beside it, by its name; gives its path, None where another file of that
    name is in the way. Raises `UserError` when the disk does not take it."""
    path = file.with_suffix(".md")
    export = next((known for known in listed(run) if Path(known.file) == file.absolute()), None)
    if export is None or not _may_go(path):
        return None
    write_text(path, card(run, export.kind, type=export.type, file=file.name, parity=export.parity))
    return path


def _may_go(path: Path) -> bool:
    """Whether a card may be written there: nothing is there, or an earlier card."""
    if not path.exists() and not path.is_symlink():
        return True
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(4096)


def front_matter(facts: Mapping[str, Any], recipe: Mapping[str, Any], kind: str, languages: list[str]) -> str:
    """What the hub reads of a card. Names that the hub could not look up (a folder, the starter) are left out."""
    base = base_name(facts)
    licence = base_licence(facts)
    head: dict[str, Any] = {"library_name": _KINDS[kind][0], "pipeline_tag": "text-generation"}
    if _HUB_ID.fullmatch(base):
        head["base_model"] = base
        head["base_model_relation"] = {"adapter": "adapter", "gguf-adapter": "adapter", "merged": "finetune"}.get(
            kind, "quantized"
        )
    if licence:
        head["license"] = licence
    if languages:
        head["language"] = languages
    asked = [str(name) for name in recipe.get("data", {}).get("files", []) if str(name).startswith(HUB_DATA)]
    ids = [name for each in asked if _HUB_ID.fullmatch(name := each.removeprefix(HUB_DATA).partition("?")[0])]
    if ids:
        head["datasets"] = ids
    method = str(facts.get("method") or "")
    head["tags"] = list(dict.fromkeys(filter(None, ("lorimer", str(facts.get("objective") or ""), method))))
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()]
    return "\n".join(("---", *lines, "---"))


def base_name(facts: Mapping[str, Any]) -> str:
    """The base model as it may be named elsewhere: a hub id, or the last part of a path."""
    name = str(facts.get("model") or "")
    if _HUB_ID.fullmatch(name) and not Path(name).exists():
        return name
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] or "base model"


def base_licence(facts: Mapping[str, Any]) -> str:
    """The licence of the base model as its own card or the catalogue says; empty where neither does."""
    from engine.machine.known_models import known_models

    try:
        text = (Path(str(facts.get("model_folder") or "")) / CARD).read_text(encoding="utf-8", errors="replace")[
            :20_000
        ]
    except OSError:
        text = ""
    front = re.match(r"\s*---\n(.*?)\n---", text, re.DOTALL)
    named = re.search(r"^license:[ \t]*(\S.*?)[ \t]*$", front.group(1), re.MULTILINE) if front else None
    if named:
        return named.group(1).strip("\"'")
    known = known_models().find(str(facts.get("model") or ""))
    return known.licence if known is not None else ""


# ------------------------------------------------------------------------------------------------------------ sections
def _trained(facts: Mapping[str, Any], recipe: Mapping[str, Any], clean: Scrubber) -> str:
    """The recipe's settings that make the result, and what it was trained on: names and hashes, no paths."""
    rows = []
    for label, section, name in _SETTINGS:
        value = recipe.get(section, {}).get(name)
        if name == "batch_size" and value is not None:
            value = f"{value} × {recipe.get('train', {}).get('accumulation', 1)}"
        if value is not None:
            rows.append(f"| {label} | {value} |")
    for entry in facts.get("data") or ():
        name = clean(re.split(r"[\\/]", str(entry.get("path", "")))[-1])
        rows.append(f"| Data | {_code(name)}, SHA-256 {_code(str(entry.get('sha256', ''))[:16])}… |")
    return "\n".join(("| | |", "|---|---|", *rows)) if rows else ""


def _figures(run: RunFolder) -> str:
    """Base against tuned, with intervals where they were computed; empty when nothing was evaluated."""
    try:
        found = read_evaluation(run)
    except UserError:
        return ""
    measures = [measure for measure in found.measures if measure.tuned.value is not None] if found else []
    if found is None or not measures:
        return ""
    rows = [f"| {measure.kind.label.en} | {_told(measure.base)} | {_told(measure.tuned)} |" for measure in measures]
    head = f"{len(found.rows)} rows that were not trained on."
    if any("[" in row for row in rows):
        head += " In brackets: 95% confidence intervals."
    return "\n".join((head, "", "| | base | tuned |", "|---|---|---|", *rows))


def _told(estimate: Estimate) -> str:
    if estimate.value is None:
        return ""
    between = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:.4g}, {estimate.high:.4g}]"
    return f"{estimate.value:.4g}{between}"


def _forgetting(run: RunFolder) -> str:
    """What general probes said before and after; empty when none was asked."""
    try:
        found = read_forgetting(run)
    except UserError:
        return ""
    if found is None:
        return ""
    rows = [
        f"| {skill.name.en} | {skill.before:.0%} | {skill.after:.0%} | {_rate(skill)} |"
        for skill in (*found.skills, *filter(None, (found.overall,)))
    ]
    head = ("General questions, right answers.", "", "| | before | after | forgotten |", "|---|---|---|---|")
    return "\n".join((found.sentence.en, "", *head, *rows) if rows else (found.sentence.en,))


def _rate(skill: SkillChange) -> str:
    if skill.rate is None:
        return "not measurable"
    between = "" if skill.low is None or skill.high is None else f" [{skill.low:.0%}, {skill.high:.0%}]"
    return f"{skill.rate:.0%}{between}"


def _parity(plain: Mapping[str, Any], kind: str, type: str) -> str:
    """The stamp of the check, in words and figures; empty where nothing was written down."""
    if not plain:
        return ""
    parity = Parity.of(plain)
    if kind == "adapter" and parity.passed and parity.agreement is None:
        return "Every weight was read back and fits the base model; tokenizer and template load."
    lines = [sentence(parity).en if parity.passed is not False else f"**{sentence(parity).en}**"]
    lines += [f"- {item.text.en}" for item in parity.differs[1:]]
    limits = parity.limits
    if parity.agreement is not None:
        asked = f" (at least {limits.next_token:.1%} is asked of {type or 'it'})" if limits else ""
        places = f" of {parity.tokens:,}" if parity.tokens else ""
        lines.append(f"- {parity.agreement:.2%}{places} next tokens along the reference answers are equal{asked}.")
    if parity.greedy_equal is not None:
        count = f" of {parity.greedy_prompts}" if parity.greedy_prompts else ""
        lines.append(f"- {parity.greedy_equal:.0%}{count} free answers begin with the same tokens.")
    if parity.perplexity_change is not None:
        found = f"{parity.perplexity_found:.3g} against {parity.perplexity:.3g}"
        lines.append(f"- Perplexity on these answers: {found} ({parity.perplexity_change:+.2%}).")
    known = {"tokenizer": parity.tokenizer_equal, "template": parity.template_equal, "end": parity.stops_equal}
    if equal := [name for name, value in known.items() if value]:
        lines.append(f"- As in training: {', '.join(equal)}.")
    if parity.runtime:
        lines.append(f"- Asked through {parity.runtime}.")
    return "\n".join(lines)


_TRANSFORMERS = """\
```python
from {module} import {model}
from transformers import AutoTokenizer

model = {model}.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
prompt = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "Hello"}}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=100)[0]))
```"""
_GGUF = """\
llama.cpp: `llama-server -m {file} --jinja`, or `llama-cli -m {file}` to talk to it in a terminal.

Ollama: with the Modelfile that Lorimer writes beside it, `ollama create {name} -f Modelfile`.

LM Studio: put the file into `PUBLISHER/{name}/` of its models folder."""


def _use(kind: str, base: str, file: str, title: str) -> str:
    if kind == "adapter":
        return _TRANSFORMERS.format(module="peft", model="AutoPeftModelForCausalLM")
    if kind == "merged":
        return _TRANSFORMERS.format(module="transformers", model="AutoModelForCausalLM")
    if kind == "gguf-adapter":
        return f"llama.cpp: `llama-server -m BASE.gguf --lora {file} --jinja`, with a GGUF of {_code(base)}."
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "model"
    return _GGUF.format(file=file, name=name)


def _limits(facts: Mapping[str, Any], kind: str, type: str) -> str:
    lines = [
        "- It knows what its base model knows and what its rows taught; it may state what is false.",
        "- It was trained with one chat template. Asked in another form it may answer badly or not stop.",
    ]
    if kind == "gguf" and type not in ("", "F32", "F16", "BF16"):
        lines.append(f"- Its weights are rounded to {type}; the section on the check says what that changed.")
    licence = base_licence(facts)
    lines.append(f"- The licence of the base model applies{f' ({licence})' if licence else ''}.")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------------- how
def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _code(text: str) -> str:
    return f"`{_line(text).replace('`', ' ')}`"


def _line(text: str) -> str:
    """One line of plain text: a title may hold anything, but it does not begin a list, a tag or a head."""
    return re.sub(r"[<>|]", " ", " ".join(text.split())) or "Model"


def _languages(run: RunFolder) -> list[str]:
    """Languages of the held-out rows, as far as their script tells: Chinese, Japanese, Korean, Russian, English."""
    text = "".join(_head(run.held_out))
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return []
    found = []
    for name, first, last, least in (
        ("zh", "\u4e00", "\u9fff", 0.05),
        ("ja", "\u3040", "\u30ff", 0.05),
        ("ko", "\uac00", "\ud7af", 0.05),
        ("ru", "\u0400", "\u04ff", 0.05),
    ):
        if sum(first <= letter <= last for letter in letters) > least * len(letters):
            found.append(name)
    # Latin letters are of many languages; the commonest English words tell.
    words = re.findall(r"[a-z]+", text.lower())
    common = sum(word in ("the", "a", "is", "to", "of", "and", "in", "you", "for") for word in words)
    if words and common > 0.05 * len(words):
        found.append("en")
    return ["ja", *(name for name in found if name not in ("zh", "ja"))] if "ja" in found else found


def _head(path: Path, lines: int = 100) -> Iterator[str]:
    """Contents of the first rows."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for _, line in zip(range(lines), file, strict=False):
                row = json.loads(line)
                yield from (str(turn.get("content", "")) for turn in row.get("messages", ()) if isinstance(turn, dict))
    except (OSError, ValueError, AttributeError):
        return


def _plain(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path) if path.is_file() else {}
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
