"""Templates: equal to transformers' own rendering, learned spans, roles that do not fit, choice for a base model."""

from __future__ import annotations

import itertools
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from engine.data.encode import learned_tokens
from engine.data.rows import Message
from engine.data.template import ChatTemplate, choose_template, own_template
from engine.data.templates import TEMPLATES
from engine.data.tokenizer import TextTokenizer
from engine.protocol.errors import UserError
from engine.protocol.text import Text

Model = Callable[..., Path]
CONVERSATION = (
    Message("user", "What is 1 + 1?\nAnswer shortly."),
    Message("assistant", "It is  2."),
    Message("user", "你好 🙂"),
    Message("assistant", "你好！\n\n```py\nx = 1\n```"),
)
WITH_SYSTEM = (Message("system", "You are kind."), *CONVERSATION)
SHARED = (
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen-Qwen2.5-7B-Instruct",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    "google-gemma-2-2b-it",
    "llama-cpp-deepseek-r1",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
)
# Tokens that end an answer in each of these templates.
ENDS = {
    "Cohere": "<|END_OF_TURN_TOKEN|>",
    "Qwen": "<|im_end|>",
    "deepseek": "<｜end▁of▁sentence｜>",
    "llama-cpp-deepseek": "<｜end▁of▁sentence｜>",
    "google": "<end_of_turn>",
    "meta": "<|eot_id|>",
    "microsoft": "<|end|>",
    "mistralai": "</s>",
}


def plain(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


def shared_template(shared_data: Path, name: str, **fields: Any) -> ChatTemplate:
    source = (shared_data / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    end = next((end for start, end in ENDS.items() if name.startswith(start)), "</s>")
    values = {"variables": {"bos_token": "<s>", "eos_token": "</s>"}, "specials": frozenset({"<s>", "</s>", end})}
    return ChatTemplate(name, source, Text("", ""), **{**values, "eos": "</s>", **fields})


def their_text(tokenizer: Any, source: str, messages: tuple[Message, ...], **options: Any) -> str | None:
    """Transformers' text, None where the template refuses the conversation."""
    try:
        text = tokenizer.apply_chat_template(plain(messages), chat_template=source, tokenize=False, **options)
    except (jinja2.TemplateError, TypeError):
        return None
    assert isinstance(text, str)
    return text


def our_text(template: ChatTemplate, messages: tuple[Message, ...], **options: bool) -> str | None:
    try:
        return template.text(messages, **options)
    except (jinja2.TemplateError, TypeError):
        return None


# ---------------------------------------------------------------------------------------- equal to transformers
@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("messages", [CONVERSATION, WITH_SYSTEM, WITH_SYSTEM[:2]])
@pytest.mark.parametrize("generation_prompt", [False, True])
def test_text_equals_transformers(
    shared_data: Path, stories: Path, name: str, messages: tuple[Message, ...], generation_prompt: bool
) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(stories)
    template = shared_template(shared_data, name, variables=dict(tokenizer.special_tokens_map))
    theirs = their_text(tokenizer, template.source, messages, add_generation_prompt=generation_prompt)
    assert our_text(template, messages, generation_prompt=generation_prompt) == theirs


@pytest.mark.parametrize("model", ["starter", "stories", "tiny"])
def test_tokens_and_mask_of_our_own_equal_transformers(
    starter_text: Path, stories: Path, tiny_model: Model, model: str
) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = {"starter": starter_text, "stories": stories}.get(model) or tiny_model(
        "<bos>", "<eos>", "<|eot_id|>", bos_token="<bos>", eos_token="<eos>", add_bos_token=True
    )
    theirs, ours = PreTrainedTokenizerFast.from_pretrained(folder), TextTokenizer.load(folder)
    for name, messages in itertools.product(TEMPLATES, (CONVERSATION, WITH_SYSTEM, CONVERSATION[:2])):
        template = choose_template(folder, name, tokenizer=ours)
        expected = theirs.apply_chat_template(
            plain(messages), chat_template=template.source, return_assistant_tokens_mask=True, return_dict=True
        )
        rendered, text = template.render(messages), template.text(messages)
        assert text == theirs.apply_chat_template(plain(messages), chat_template=template.source, tokenize=False)
        encoding = ours.encode_batch([rendered.text])[0]
        learned = learned_tokens(rendered, encoding)
        if rendered.text == text:
            assert encoding.ids == expected["input_ids"], name
            assert [int(x) for x in learned] == expected["assistant_masks"], name
        else:
            # The template's own end is no token of this model: the model's eos was added, and is learned.
            assert rendered.text.endswith(ours.eos or ""), name
            assert learned[-1], name


def test_the_starters_own_template_equals_transformers(starter_text: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(starter_text)
    ours, template = TextTokenizer.load(starter_text), choose_template(starter_text)
    assert template.name == "model"
    for messages in (CONVERSATION, WITH_SYSTEM, CONVERSATION[:2]):
        expected = theirs.apply_chat_template(plain(messages), return_assistant_tokens_mask=True, return_dict=True)
        rendered = template.render(messages)
        encoding = ours.encode_batch([rendered.text])[0]
        assert encoding.ids == expected["input_ids"]
        assert [int(x) for x in learned_tokens(rendered, encoding)] == expected["assistant_masks"]
        prompt = template.render(messages[:-1], generation_prompt=True).text
        assert prompt == theirs.apply_chat_template(plain(messages[:-1]), tokenize=False, add_generation_prompt=True)


# -------------------------------------------------------------------------------------------------- what is learned
@pytest.mark.parametrize("name", [n for n in SHARED if "tool_use" not in n])
def test_every_answer_is_learned_with_its_end(shared_data: Path, name: str) -> None:
    template = shared_template(shared_data, name)
    end = next(end for start, end in ENDS.items() if name.startswith(start))
    for messages in (CONVERSATION, WITH_SYSTEM):
        rendered = template.render(messages)
        learned = [rendered.text[a:b] for a, b in rendered.spans]
        assert learned == [f"It is  2.{end}", f"{CONVERSATION[3].content}{end}"]
        if messages is WITH_SYSTEM:
            assert "You are kind." in rendered.text


@pytest.mark.parametrize("name", [n for n in SHARED if "tool_use" not in n])
def test_pattern_and_marks_agree(shared_data: Path, name: str) -> None:
    template = shared_template(shared_data, name)
    fitted, text, _ = template._first_that_fits(WITH_SYSTEM, "", False)
    pattern = template._pattern(fitted)
    assert pattern is not None
    assert pattern.match(fitted.turns, text) == template._by_marks(fitted, text)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("model", ["starter", "stories"])
def test_our_own_end_every_answer_and_keep_prompts_whole(
    starter_text: Path, stories: Path, name: str, model: str
) -> None:
    folder = {"starter": starter_text, "stories": stories}[model]
    tokenizer = TextTokenizer.load(folder)
    template = choose_template(folder, name, tokenizer=tokenizer)
    assert template.reason.zh
    rendered = template.render(WITH_SYSTEM)
    assert len(rendered.spans) == 2
    for (start, end), message in zip(rendered.spans, (CONVERSATION[1], CONVERSATION[3]), strict=True):
        assert message.content in rendered.text[start:end]
    assert any(rendered.text[: rendered.spans[-1][1]].endswith(stop) for stop in template.stop)
    # Asked alone, the prompt has the tokens it has in training.
    asked, _ = tokenizer.encode(template.render(WITH_SYSTEM[:-1], generation_prompt=True).text)
    trained, _ = tokenizer.encode(rendered.text)
    assert trained[: len(asked)] == asked
    # Never two beginnings.
    if tokenizer.bos_id is not None and name != "llama2":
        assert trained.count(tokenizer.bos_id) <= 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_without_marks_the_text_and_spans_are_the_same(stories: Path, name: str) -> None:
    marked = choose_template(stories, name)
    bare = ChatTemplate(
        name, marked.source_without_marks, marked.reason, marked.stop, marked.variables, marked.specials, marked.eos
    )
    assert "generation " not in bare.source.replace("add_generation_prompt ", "")
    assert bare.text(WITH_SYSTEM) == marked.text(WITH_SYSTEM)
    for ours, found in zip(marked.render(WITH_SYSTEM).spans, bare.render(WITH_SYSTEM).spans, strict=True):
        # Plain-text ends that are no token of the model are seen as the end only by the mark.
        assert marked.render(WITH_SYSTEM).text[slice(*found)].strip() in marked.render(WITH_SYSTEM).text[slice(*ours)]


def test_only_marked_messages_are_learned(starter_text: Path) -> None:
    template = choose_template(starter_text)
    messages = (CONVERSATION[0], Message("assistant", "No.", learned=False), *CONVERSATION[2:])
    rendered = template.render(messages)
    assert [rendered.text[a:b] for a, b in rendered.spans] == [CONVERSATION[3].content + "<|im_end|>"]


def test_an_answer_without_an_end_gets_one() -> None:
    source = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    template = ChatTemplate("x", source, Text("", ""), specials=frozenset({"</s>"}), eos="</s>")
    rendered = template.render(CONVERSATION[:2])
    assert rendered.text.endswith("It is  2.</s>")
    # This template does not write the answer's heading when asked to go on: the model must, so it is learned too.
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["assistant: It is  2.</s>"]


def test_an_answer_that_repeats_the_question_is_found_in_its_place() -> None:
    source = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] | trim + '</s>' }}{% endfor %}"
    source += "{% if add_generation_prompt %}<assistant>{% endif %}"
    template = ChatTemplate("x", source, Text("", ""), specials=frozenset({"</s>"}), eos="</s>")
    same = (Message("user", "hi"), Message("assistant", " hi "), Message("user", "hi"), Message("assistant", "hi"))
    rendered = template.render(same)
    assert rendered.text == "<user>hi</s><assistant>hi</s><user>hi</s><assistant>hi</s>"
    assert rendered.spans == ((23, 29), (52, 58))


# ----------------------------------------------------------------------------------------------- roles that do not fit
def test_a_refused_system_prompt_goes_to_the_question(shared_data: Path) -> None:
    text = shared_template(shared_data, "google-gemma-2-2b-it").render(WITH_SYSTEM).text
    assert "user\nYou are kind.\n\nWhat is 1 + 1?" in text


def test_a_dropped_system_prompt_goes_to_the_question(shared_data: Path) -> None:
    text = shared_template(shared_data, "mistralai-Mistral-Nemo-Instruct-2407").render(WITH_SYSTEM).text
    assert "[INST]You are kind.\n\nWhat is 1 + 1?" in text


@pytest.mark.parametrize("name", [n for n in SHARED if "tool_use" not in n])
def test_tools_results_are_context_everywhere(shared_data: Path, name: str) -> None:
    messages = (
        Message("user", "Add 1 and 2."),
        Message("assistant", "CALL"),
        Message("tool", "RESULT"),
        Message("assistant", "It is 3."),
    )
    rendered = shared_template(shared_data, name).render(messages)
    assert "RESULT" in rendered.text
    assert not any("RESULT" in rendered.text[a:b] for a, b in rendered.spans)
    assert ["CALL" in rendered.text[slice(*rendered.spans[0])], "3." in rendered.text[slice(*rendered.spans[-1])]] == [
        True,
        True,
    ]


def test_turns_of_one_speaker_in_a_row_are_joined_where_it_must_be(shared_data: Path) -> None:
    messages = (Message("user", "One."), Message("user", "Two."), Message("assistant", "Three."))
    assert "One.\n\nTwo.<end_of_turn>" in shared_template(shared_data, "google-gemma-2-2b-it").render(messages).text


def test_a_template_that_refuses_is_told() -> None:
    template = ChatTemplate("x", "{{ raise_exception('never') }}", Text("", ""))
    with pytest.raises(UserError, match="never"):
        template.render(CONVERSATION)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__class__=1) %}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{{ raise_exception.__globals__['os'] }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises((jinja2.exceptions.SecurityError, jinja2.TemplateError)):
        ChatTemplate("x", source, Text("", "")).text(CONVERSATION)


# -------------------------------------------------------------------------------------------------------- the choice
def test_a_base_model_gets_plain_text_and_a_reason(stories: Path) -> None:
    assert own_template(stories) is None
    template = choose_template(stories)
    assert template.name == "plain"
    assert "no chat template" in template.reason.en
    assert "没有对话模板" in template.reason.zh
    assert template.stop == ("</s>",)
    assert template.render(CONVERSATION[:2]).text == (
        "<s>Question: What is 1 + 1?\nAnswer shortly.\nAnswer: It is  2.</s>\n"
    )


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "phi", "mistral"])
def test_a_base_model_gets_the_template_its_tokens_are_for(tiny_model: Model, name: str) -> None:
    template = choose_template(tiny_model("<eos>", *TEMPLATES[name].tokens))
    assert template.name == name
    assert template.stop == ((TEMPLATES[name].end, "<eos>") if TEMPLATES[name].end else ("<eos>",))
    assert all(token in template.reason.en for token in TEMPLATES[name].tokens)


# Base models as they are published: each tokenizer with the special tokens that its own base model declares.
BASES = {
    "qwen2": ({"eos_token": "<|endoftext|>"}, "chatml", ("<|im_end|>", "<|endoftext|>")),
    "llama3": (
        {"eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>", "add_bos_token": True},
        "llama3",
        ("<|eot_id|>", "<|end_of_text|>"),
    ),
    "phi-3-mini": ({"eos_token": "<|endoftext|>", "bos_token": "<s>"}, "phi", ("<|end|>", "<|endoftext|>")),
    "gpt2": ({"eos_token": "<|endoftext|>"}, "plain", ("<|endoftext|>",)),
}


@pytest.mark.parametrize("family", BASES)
def test_each_familys_base_model_gets_tokens_it_has(shared_data: Path, tmp_path: Path, family: str) -> None:
    config, name, stop = BASES[family]
    source = shared_data / "tokenizers" / family
    if family == "gpt2":
        model = models.BPE.from_file(str(source / "gpt2.vocab"), str(source / "gpt2.merges.txt"))
        made = Tokenizer(model)
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.add_special_tokens(["<|endoftext|>"])
        made.save(str(tmp_path / "tokenizer.json"))
    else:
        shutil.copy(source / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = TextTokenizer.load(tmp_path)
    template = choose_template(tmp_path, tokenizer=tokenizer)
    assert (template.name, template.stop) == (name, stop)
    assert "has no chat template" in template.reason.en
    # Each token of the template is one token, wherever it stands; and no other template before it would do.
    for token in TEMPLATES[name].tokens:
        assert len(tokenizer.encode(f"a{token}b")[0]) == 3
        assert token in template.reason.en
    for other in itertools.takewhile(lambda t: t != name, TEMPLATES):
        assert any(len(tokenizer.encode(token)[0]) > 1 for token in TEMPLATES[other].tokens), other
    rendered = template.render(CONVERSATION)
    ids, _ = tokenizer.encode(rendered.text)
    assert tokenizer.id_of(stop[0]) in ids
    if config.get("add_bos_token"):
        assert ids.count(tokenizer.bos_id) == 1
        assert template.render_text("x").text == f"{tokenizer.bos}x{tokenizer.eos}"


def real(shared_data: Path, name: str, ours: ChatTemplate) -> ChatTemplate:
    return replace(ours, source=(shared_data / "templates" / f"{name}.jinja").read_text(encoding="utf-8"))


def named(name: str, *specials: str) -> ChatTemplate:
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    ends = frozenset({"<s>", "</s>", *TEMPLATES[name].tokens, *specials})
    return ChatTemplate(name, TEMPLATES[name].source, Text("", ""), (), variables, ends, "</s>")


@pytest.mark.parametrize("messages", [WITH_SYSTEM, WITH_SYSTEM[:3]])
@pytest.mark.parametrize("generation_prompt", [False, True])
def test_named_templates_are_what_the_real_ones_are(
    shared_data: Path, messages: tuple[Message, ...], generation_prompt: bool
) -> None:
    asked = messages[:-1] if generation_prompt else messages

    def both(name: str, model: str, turns: tuple[Message, ...]) -> tuple[str, str]:
        ours = named(name)
        theirs = real(shared_data, model, ours)
        found = [t.render(turns, generation_prompt=generation_prompt) for t in (ours, theirs)]
        learned = [[r.text[a:b].strip() for a, b in r.spans] for r in found]
        assert learned[0] == learned[1]
        return found[0].text, found[1].text

    ours, theirs = both("chatml", "Qwen-Qwen2.5-7B-Instruct", asked)
    assert ours == theirs
    ours, theirs = both("gemma", "google-gemma-2-2b-it", asked)
    assert ours == theirs
    ours, theirs = both("phi", "microsoft-Phi-3.5-mini-instruct", asked)
    assert ours + ("" if generation_prompt else "</s>") == theirs
    # Llama 3.1 and later write dates into the system prompt, which Llama 3 does not.
    ours, theirs = both("llama3", "meta-llama-Llama-3.1-8B-Instruct", asked)
    dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    assert ours == theirs.replace(dates, "")
    # Mistral's first tokenizers had spaces around the marks, Nemo's has none.
    ours, theirs = both("mistral", "mistralai-Mistral-Nemo-Instruct-2407", asked)
    assert re.sub(r" ?(\[/?INST\]) ?", r"\1", ours) == theirs


def test_templates_are_found_wherever_models_keep_them(tiny_model: Model) -> None:
    folder = tiny_model("<|im_end|>", chat_template="A", eos_token="<|im_end|>")
    assert choose_template(folder).source == "A"
    (folder / "chat_template.json").write_text('{"chat_template": "B"}')
    assert choose_template(folder).source == "B"
    (folder / "chat_template.jinja").write_text("C")
    assert choose_template(folder).source == "C"
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").unlink()
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named, "eos_token": "<|im_end|>"}))
    assert choose_template(folder).source == "D"


TOOLS = json.dumps([{"type": "function", "function": {"name": "look", "description": "Looks", "parameters": {}}}])
NAMED = [
    {"name": "rag", "template": "R"},
    {"name": "tool_use", "template": "T {{ tools | length }}{{ messages[0]['content'] }}{{ eos_token }}"},
    {"name": "default", "template": "D {{ messages[0]['content'] }}{{ eos_token }}"},
]


def _written(folder: Path, kept: str) -> Path:
    """The three templates where transformers' models keep them."""
    if kept == "list":
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": NAMED}))
        return folder
    (folder / "additional_chat_templates").mkdir()
    for template in NAMED:
        name = template["name"]
        path = "chat_template.jinja" if name == "default" else f"additional_chat_templates/{name}.jinja"
        (folder / path).write_text(template["template"], encoding="utf-8")
    return folder


@pytest.mark.parametrize("kept", ["list", "files"])
def test_rows_with_tools_use_the_template_that_transformers_would(tiny_model: Model, tmp_path: Path, kept: str) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = _written(tiny_model("<|im_end|>", eos_token="<|im_end|>"), kept)
    template = choose_template(folder)
    theirs = PreTrainedTokenizerFast.from_pretrained(str(folder))
    for tools in ("", TOOLS):
        given = {"tools": json.loads(tools)} if tools else {}
        expected = theirs.apply_chat_template(plain(CONVERSATION[:1]), tokenize=False, **given)
        assert template.text(CONVERSATION[:1], tools=tools) == expected
    assert template.text(CONVERSATION[:1], tools=TOOLS).startswith("T 1")
    assert template.text(CONVERSATION[:1]).startswith("D ")
    assert "tool_use" in template.reason.en
    assert "“rag”" in template.reason.zh
    theirs.chat_template = template.sources
    theirs.save_pretrained(tmp_path / "saved")
    assert choose_template(tmp_path / "saved").sources == template.sources


@pytest.mark.parametrize("name", [name for name in SHARED if "tool_use" in name])
def test_real_tool_use_templates_beside_a_default_one(shared_data: Path, tiny_model: Model, name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    source = (shared_data / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    named = [{"name": "default", "template": NAMED[2]["template"]}, {"name": "tool_use", "template": source}]
    folder = tiny_model("<|im_end|>", chat_template=named, eos_token="<|im_end|>", bos_token="<|im_end|>")
    template = choose_template(folder)
    assert template.tool_use is not None
    theirs = PreTrainedTokenizerFast.from_pretrained(str(folder))
    handed, tools = template.handed(CONVERSATION, tools=TOOLS)
    assert tools == json.loads(TOOLS)
    expected = theirs.apply_chat_template(handed, tools=tools, tokenize=False)
    assert template.render(CONVERSATION, tools=TOOLS).text.startswith(expected.rstrip())
    assert template.render(CONVERSATION[:2]).text.startswith("D ")


def test_a_broken_template_for_tools_is_not_used_and_said(tiny_model: Model) -> None:
    named = [{"name": "default", "template": NAMED[2]["template"]}, {"name": "tool_use", "template": "{% for %}"}]
    template = choose_template(tiny_model("<|im_end|>", chat_template=named, eos_token="<|im_end|>"))
    assert template.tool_use is None
    assert "broken" in template.reason.en


def test_one_template_by_another_name_serves_all_rows(tiny_model: Model) -> None:
    template = choose_template(tiny_model("<|im_end|>", chat_template=NAMED[:1], eos_token="<|im_end|>"))
    assert (template.source, template.tool_use) == ("R", None)
    assert "“rag”" in template.reason.en


def test_a_broken_own_template_is_replaced_and_said(tiny_model: Model) -> None:
    template = choose_template(
        tiny_model("<|im_start|>", "<|im_end|>", chat_template="{% for %}", eos_token="<|im_end|>")
    )
    assert template.name == "chatml"
    assert "broken" in template.reason.en


def test_a_template_from_a_file_and_names_that_are_none(stories: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}")
    assert choose_template(stories, str(path)).name == "mine.jinja"
    path.write_text("{% if %}")
    for name, code in (
        (str(path), "template.syntax"),
        (str(tmp_path / "no.jinja"), "file.missing"),
        ("x", "template.unknown"),
    ):
        with pytest.raises(UserError) as caught:
            choose_template(stories, name)
        assert caught.value.problem.code == code


@pytest.mark.parametrize(
    ("name", "head"), [("phi", "<|user|>\n"), ("llama3", "<|start_header_id|>ipython<|end_header_id|>")]
)
def test_named_templates_give_tools_results_a_role_that_models_know(name: str, head: str) -> None:
    turns = (*CONVERSATION[:2], Message("tool", "RESULT"), CONVERSATION[3])
    assert f"{head}RESULT" in named(name).render(turns).text.replace("\n\nRESULT", "RESULT")


def test_special_tokens_that_no_file_declares_are_written_into_the_template(tiny_model: Model) -> None:
    template = choose_template(tiny_model("<|endoftext|>"), "plain")
    assert '"<|endoftext|>"' in template.source
    assert template.render(CONVERSATION[:2]).text.endswith("It is  2.<|endoftext|>\n")


def test_rendering_is_quiet(stories: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        choose_template(stories).render(CONVERSATION)
    assert not caplog.records
