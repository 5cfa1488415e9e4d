"""The README of an exported adapter or model: what it is, and how to use it. Light."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ADAPTER = """\
---
library_name: peft
base_model: {base}
pipeline_tag: text-generation
tags: [lora, lorimer]
---

# {title}

An adapter for `{base}`, trained with Lorimer (method: {method}, objective: {objective}).
It holds only what was learned; the base model is needed beside it.

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
prompt = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "Hello"}}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=100)[0]))
```
{figures}
The licence of the base model applies.
"""


def adapter_card(facts: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    """Markdown for an adapter's folder.

    Args:
        facts: ``run.json``.
        evaluation: the run's last evaluation, or None.
    """
    base = str(facts.get("model") or "")
    # Quoted as YAML and JSON both understand it: a title may hold anything.
    return _ADAPTER.format(
        base=json.dumps(base, ensure_ascii=False)[1:-1],
        title=str(facts.get("title") or facts.get("id") or "Adapter").replace("\n", " "),
        method=facts.get("method", ""),
        objective=facts.get("objective", ""),
        figures=_figures(evaluation or {}),
    )


def _figures(evaluation: Mapping[str, Any]) -> str:
    """A table of base against tuned; empty when nothing was evaluated."""
    base, tuned = evaluation.get("base") or {}, evaluation.get("tuned") or {}
    names = [name for name in tuned if isinstance(tuned[name], int | float) and isinstance(base.get(name), int | float)]
    if not names:
        return ""
    rows = [f"| {name} | {base[name]:.4g} | {tuned[name]:.4g} |" for name in names]
    head = f"\nOn {evaluation.get('rows', 'the')} held-out rows:\n\n| | base | tuned |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"
