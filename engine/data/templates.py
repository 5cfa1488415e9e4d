"""Chat templates that Lorimer brings along: for base models that have none, and by name in the recipe.

Learned text stands between ``{% generation %}`` marks, as transformers understands them, and always ends with the token
that ends a turn. Light: declarations only.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.protocol.text import Text, say


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """A chat template by name.

    Attributes:
        name: the recipe's ``data.template``.
        label: what people read.
        source: Jinja text.
        tokens: texts that must each be one token of the model for the template to work as meant; empty for templates
            that are plain text and work with every model.
        end: text that ends an answer; empty for the model's own eos.
        about: where it comes from.
    """

    name: str
    label: Text
    source: str
    tokens: tuple[str, ...] = ()
    end: str = ""
    about: str = ""


_CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] + '<|im_end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- set role = 'ipython' if message['role'] == 'tool' else message['role'] -%}
{{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] | trim + '<|eot_id|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] | trim + '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}
"""

_LLAMA2 = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ns.system = '<<SYS>>\\n' + message['content'] + '\\n<</SYS>>\\n\\n' -%}
{%- elif message['role'] == 'assistant' -%}
{%- generation -%}{{- ' ' + message['content'] | trim + ' ' + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- bos_token + '[INST] ' + ns.system + message['content'] | trim + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
"""

_MISTRAL = """\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ns.system = message['content'] + '\\n\\n' -%}
{%- elif message['role'] == 'assistant' -%}
{%- generation -%}{{- ' ' + message['content'] | trim + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- '[INST] ' + ns.system + message['content'] + ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
"""

_GEMMA = """\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ns.system = message['content'] | trim + '\\n\\n' -%}
{%- elif message['role'] == 'assistant' -%}
{{- '<start_of_turn>model\\n' -}}
{%- generation -%}{{- message['content'] | trim + '<end_of_turn>' -}}{%- endgeneration -%}
{{- '\\n' -}}
{%- else -%}
{{- '<start_of_turn>user\\n' + ns.system + message['content'] | trim + '<end_of_turn>\\n' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""

_PHI = """\
{%- for message in messages -%}
{{- '<|' + ('user' if message['role'] == 'tool' else message['role']) + '|>\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] + '<|end|>' -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}
"""

_VICUNA = """\
{%- if messages[0]['role'] != 'system' -%}
{{- "A chat between a curious user and an artificial intelligence assistant. "
  + "The assistant gives helpful, detailed, and polite answers to the user's questions." -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] | trim -}}
{%- elif message['role'] == 'assistant' -%}
{{- ' ASSISTANT:' -}}
{%- generation -%}{{- ' ' + message['content'] | trim + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- ' USER: ' + message['content'] | trim -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ' ASSISTANT:' -}}{%- endif -%}
"""

# The answer's own mark stands before the space, not after it: tokenizers join a space with the word that follows, so a
# prompt that ended with one would be cut into other tokens than the same text in training.
_PLAIN = """\
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] | trim + '\\n\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- 'Answer:' -}}
{%- generation -%}{{- ' ' + message['content'] | trim + eos_token -}}{%- endgeneration -%}
{{- '\\n' -}}
{%- else -%}
{{- 'Question: ' + message['content'] | trim + '\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Answer:' -}}{%- endif -%}
"""

_ALPACA = """\
{%- if messages[0]['role'] != 'system' -%}
{{- 'PREAMBLE\\n\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{{- message['content'] | trim + '\\n\\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- '### ANSWER:\\n' -}}
{%- generation -%}{{- message['content'] | trim + eos_token -}}{%- endgeneration -%}
{{- '\\n\\n' -}}
{%- else -%}
{{- '### QUESTION:\\n' + message['content'] | trim + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### ANSWER:\\n' -}}{%- endif -%}
"""


def _alpaca(preamble: str, question: str, answer: str) -> str:
    return _ALPACA.replace("PREAMBLE", preamble).replace("QUESTION", question).replace("ANSWER", answer)


_ENGLISH = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_CHINESE = "以下是一条描述任务的指令。请写出恰当完成该请求的回答。"

TEMPLATES: dict[str, NamedTemplate] = {
    template.name: template
    for template in (
        NamedTemplate(
            "chatml", say("ChatML", "ChatML"), _CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>", "OpenAI; Qwen"
        ),
        NamedTemplate(
            "llama3",
            say("Llama 3", "Llama 3"),
            _LLAMA3,
            ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
            "<|eot_id|>",
            "Meta, Llama 3 model card",
        ),
        NamedTemplate(
            "gemma",
            say("Gemma", "Gemma"),
            _GEMMA,
            ("<start_of_turn>", "<end_of_turn>"),
            "<end_of_turn>",
            "Google, Gemma",
        ),
        NamedTemplate(
            "phi", say("Phi", "Phi"), _PHI, ("<|user|>", "<|assistant|>", "<|end|>"), "<|end|>", "Microsoft, Phi-3"
        ),
        NamedTemplate("mistral", say("Mistral", "Mistral"), _MISTRAL, ("[INST]", "[/INST]"), "", "Mistral 7B Instruct"),
        NamedTemplate(
            "plain", say("Question and answer", "Question / Answer 纯文本"), _PLAIN, about="plain text, ends with eos"
        ),
        NamedTemplate(
            "alpaca",
            say("Alpaca, English", "Alpaca（英文）"),
            _alpaca(_ENGLISH, "Instruction", "Response"),
            about="Taori et al. 2023",
        ),
        NamedTemplate(
            "alpaca_zh",
            say("Alpaca, Chinese", "Alpaca（中文）"),
            _alpaca(_CHINESE, "指令", "回答"),
            about="Taori et al. 2023, translated",
        ),
        NamedTemplate("llama2", say("Llama 2", "Llama 2"), _LLAMA2, about="Meta, Llama 2 model card"),
        NamedTemplate("vicuna", say("Vicuna", "Vicuna"), _VICUNA, about="FastChat, Vicuna 1.1"),
    )
}
"""Every template by name. The first ones, up to "plain", are tried in this order for a base model that has none."""
