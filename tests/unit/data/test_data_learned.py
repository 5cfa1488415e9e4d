"""Learned tokens against a reference that finds them by another way, for every real template with its own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from engine.data.encode import learned_tokens
from engine.data.rows import Message, Row, ToolCall
from engine.data.template import ChatTemplate
from engine.data.turns import NOTES
from engine.protocol.errors import UserError
from engine.protocol.text import NOTHING
from tests.unit.data.learned_reference import FAMILIES, TOOLS, Model, load_model, made_rows, shown, tokens, truth

ROWS = made_rows(500)
WEATHER = ToolCall("get_weather", '{"city": "Paris"}')
TOOL_TALK = (
    Message("user", "Weather?"),
    Message("assistant", "", calls=(WEATHER,)),
    Message("tool", "Rain."),
    Message("assistant", "It rains."),
)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Each real template with its tokenizer, loaded once."""
    return load_model(shared_data, request.param, tmp_path_factory.mktemp("family"))


def test_learned_tokens_equal_the_reference(model: Model) -> None:
    """Text, token and learned token alike; nothing left out without a word."""
    for number, row in enumerate(ROWS):
        rendered = model.template.render(row.messages, tools=row.tools)
        expected = truth(model.theirs, model.template, model.family, row)
        assert rendered.text == expected.text, number
        encoding = model.ours.encode_batch([rendered.text])[0]
        assert learned_tokens(rendered, encoding) == tokens(expected, encoding), number
        assert rendered.notes or shown(row, rendered), number
        assert set(rendered.notes) <= set(NOTES)


def test_tokens_are_those_of_transformers(model: Model) -> None:
    texts = [model.template.render(row.messages, tools=row.tools).text for row in ROWS[:40]]
    expected = [model.theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [encoding.ids for encoding in model.ours.encode_batch(texts)] == expected


def test_the_end_is_learned_and_padding_is_not_it(model: Model) -> None:
    row = Row(0, "", (Message("user", "Hi"), Message("assistant", "Hello.")))
    rendered = model.template.render(row.messages)
    encoding = model.ours.encode_batch([rendered.text])[0]
    learned = [i for i, on in zip(encoding.ids, learned_tokens(rendered, encoding), strict=True) if on]
    assert learned[-1] == model.ours.id_of(model.family.end)
    assert model.template.stop[0] == model.family.end
    assert model.ours.pad_id not in (None, learned[-1], model.ours.eos_id)


def test_a_row_of_which_nothing_is_learned_has_no_spans(model: Model) -> None:
    unlearned = (Message("user", "Hi"), Message("assistant", "Hello.", learned=False))
    assert model.template.render(unlearned).spans == ()


def theirs(model: Model, messages: Any, tools: Any, **options: Any) -> str | None:
    """transformers' text, None where the template refuses."""
    try:
        text = model.theirs.apply_chat_template(
            messages, tools=tools, chat_template=model.template.source, tokenize=False, **options
        )
    except (jinja2.TemplateError, TypeError):
        return None
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("prompt", [False, True])
def test_text_equals_transformers_with_tools_and_prompts(model: Model, prompt: bool) -> None:
    with_tools = [row for row in ROWS if row.tools][:25]
    for row in (*with_tools, *ROWS[:25]):
        messages = row.prompt if prompt else row.messages
        handed, tools = model.template.handed(messages, tools=row.tools)
        expected = theirs(model, handed, tools, add_generation_prompt=prompt)
        if prompt:
            assert model.template.render(messages, tools=row.tools, generation_prompt=True).text == expected
        else:
            assert expected is not None
            found = model.template.render(messages, tools=row.tools)
            assert found.text == expected or "end_added" in found.notes


def test_what_is_handed_over_is_what_transformers_takes(model: Model) -> None:
    """Without anything made to fit: what transformers renders, `text` renders; what it refuses, `text` refuses."""
    tools = json.dumps([{"type": "function", "function": tool} for tool in TOOLS])
    call = {"type": "function", "id": "call00000", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    plain = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Rain.", "tool_call_id": "call00000"},
        {"role": "assistant", "content": "It rains."},
    ]
    if "tool_plan" in model.template.source:
        plain[1]["tool_plan"] = ""
    for end in (1, 2, 3, 4):
        expected = theirs(model, plain[:end], json.loads(tools))
        try:
            found = model.template.text(TOOL_TALK[:end], tools=tools)
        except (jinja2.TemplateError, TypeError):
            found = None
        assert found == expected


# ---------------------------------------------------------------------------------------------------------- the notes
NATIVE = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "Qwen-Qwen2.5-7B-Instruct",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "mistralai-Mistral-Nemo-Instruct-2407",
}


def test_tools_are_told_in_the_templates_way_or_as_text(model: Model) -> None:
    name = model.template.name.removesuffix(".jinja")
    rendered = model.template.render(TOOL_TALK, tools=json.dumps(TOOLS))
    assert all(word in rendered.text for word in ("get_weather", "天气", "Paris", "Rain."))
    assert ("calls_as_text" in rendered.notes) == ("tools_as_text" in rendered.notes) == (name not in NATIVE)
    spoken = [rendered.text[a:b] for a, b in rendered.spans]
    assert len(spoken) == 2
    assert "get_weather" in spoken[0]
    assert "Paris" in spoken[0]
    assert "Rain" not in spoken[0] + spoken[1]


def test_parallel_calls_fall_back_for_their_row_alone(model: Model) -> None:
    twice = (TOOL_TALK[0], Message("assistant", "", calls=(WEATHER, WEATHER)), *TOOL_TALK[2:])
    rendered = model.template.render(twice, tools=json.dumps(TOOLS))
    assert rendered.text.count('"Paris"') >= 2
    if "Llama-3." in model.template.name and "meta" in model.template.name:
        assert "calls_as_text" in rendered.notes
        assert "calls_as_text" not in model.template.render(TOOL_TALK, tools=json.dumps(TOOLS)).notes


def test_reasoning_is_kept_or_reported(model: Model) -> None:
    turns = (Message("user", "6 × 7?"), Message("assistant", "42.", reasoning="Six sevens."))
    rendered = model.template.render(turns)
    written = "<think>\nSix sevens.\n</think>\n\n42." in rendered.text
    assert written == ("reasoning_as_text" in rendered.notes)
    assert written != ("reasoning_dropped" in rendered.notes)


def test_a_field_for_reasoning_is_used() -> None:
    source = (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = ChatTemplate("x", source, NOTHING, specials=frozenset({"</s>"}), eos="</s>")
    turn = (Message("user", "Q"), Message("assistant", "A", reasoning="because"))
    rendered = template.render(turn)
    assert (rendered.text, rendered.notes) == ("<|user|>Q</s><|assistant|><think>because</think>A</s>", ())
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["<think>because</think>A</s>"]
    twice = template.render((*turn, *turn))
    assert twice.notes == ("reasoning_dropped",)
    assert [twice.text[a:b] for a, b in twice.spans] == ["A</s>", "<think>because</think>A</s>"]


def test_reasoning_within_the_words_is_followed() -> None:
    """A template that takes an answer apart at </think>, and keeps the reasoning of the last answer alone."""
    source = (
        "{% for m in messages %}<|{{ m.role }}|>\n"
        "{% set words = m.content.split('</think>')[-1].lstrip('\n') %}"
        "{% if loop.last and m.role == 'assistant' %}"
        "<think>\n{{ m.content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') "
        "if '</think>' in m.content }}\n</think>\n\n{% endif %}{{ words }}</s>\n"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    template = ChatTemplate("x", source, NOTHING, specials=frozenset({"</s>"}), eos="</s>")
    turns = (Message("user", "Q"), Message("assistant", "<think>\nwhy\n</think>\n\nA"))
    last = "<think>\nwhy\n</think>\n\nA</s>"
    for messages, learned, notes in (
        (turns, [last], ()),
        ((*turns, *turns), ["A</s>", last], ("reasoning_dropped",)),
        ((turns[0], Message("assistant", "\n\nA")), ["<think>\n\n</think>\n\nA</s>"], ("answer_trimmed",)),
    ):
        rendered = template.render(messages)
        assert [rendered.text[a:b] for a, b in rendered.spans] == learned
        assert rendered.notes == notes


def test_earlier_reasoning_that_is_deleted_is_reported(shared_data: Path, tmp_path: Path) -> None:
    model = load_model(shared_data, "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", tmp_path)
    turns = (Message("user", "Q"), Message("assistant", "<think>\nsecret\n</think>\n\nA"))
    rendered = model.template.render(turns)
    assert rendered.notes == ("reasoning_dropped",)
    assert "secret" not in rendered.text
    assert [str(text) for text in rendered.remarks] == ["The template leaves out reasoning."]


def test_a_template_that_rewrites_answers_is_reported() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}</s>{% endfor %}"
    template = ChatTemplate("x", source, NOTHING, specials=frozenset({"</s>"}), eos="</s>")
    rendered = template.render((Message("user", "q"), Message("assistant", "yes")))
    assert rendered.notes == ("altered",)
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["assistant: YES</s>"]


def test_a_template_that_cannot_be_followed_is_refused() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content[:4] }}</s>{% endfor %}"
    template = ChatTemplate("x", source, NOTHING, specials=frozenset({"</s>"}), eos="</s>")
    with pytest.raises(UserError) as caught:
        template.render((Message("user", "q"), Message("assistant", "a long answer")))
    assert caught.value.problem.code == "template.unclear"


def test_characters_of_the_private_planes_are_ordinary_text(shared_data: Path, tmp_path: Path) -> None:
    model = load_model(shared_data, "Qwen-Qwen2.5-7B-Instruct", tmp_path)
    answer = "<think>\n\U00100001\n</think>\n \U0010fffd"
    rendered = model.template.render((Message("user", "Q"), Message("assistant", answer)))
    assert [rendered.text[a:b] for a, b in rendered.spans] == [f"{answer}<|im_end|>"]


def test_tools_that_are_no_json_are_told(shared_data: Path, tmp_path: Path) -> None:
    model = load_model(shared_data, "Qwen-Qwen2.5-7B-Instruct", tmp_path)
    with pytest.raises(UserError) as caught:
        model.template.render(TOOL_TALK, tools='[{"name": ')
    assert caught.value.problem.code == "template.bad_tools"


# ----------------------------------------------------------------------------------------------------------- plain text
def test_plain_text_is_learned_whole_with_its_end(model: Model) -> None:
    rendered = model.template.render_text("Once upon a time")
    start = model.family.bos if model.template.bos else ""
    assert rendered.text == f"{start}Once upon a time{model.family.eos}"
    assert rendered.spans == ((0, len(rendered.text)),)
    ids, _ = model.ours.encode(rendered.text)
    assert ids[-1] == model.ours.eos_id
    assert model.template.render_text(rendered.text) == rendered
