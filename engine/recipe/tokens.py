"""What a key to somebody's account looks like: recipes are shared, so none may stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.protocol.errors import Problem
from engine.protocol.text import say

# Every repeat is bounded: these are searched for in texts of any kind and length.
KEYS = (
    r"hf_[A-Za-z0-9]{16,200}",  # Hugging Face
    r"api_org_[A-Za-z0-9]{16,200}",
    r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_\-]{16,200}",  # OpenAI, Anthropic, DeepSeek and their like
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",  # AWS
    r"gh[pousr]_[A-Za-z0-9]{20,255}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{20,255}",
    r"glpat-[A-Za-z0-9_\-]{16,100}",  # GitLab
    r"xox[abprs]-[A-Za-z0-9\-]{10,200}",  # Slack
    r"AIza[A-Za-z0-9_\-]{35}",  # Google
    r"eyJ[A-Za-z0-9_\-]{8,2000}\.eyJ[A-Za-z0-9_\-]{8,4000}\.[A-Za-z0-9_\-]{8,2000}",  # JSON Web Token
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----",
)
LOGIN = r"(?<=://)[^\s/@\"'<>]{1,500}@"
"""``user:password@`` of an address."""
_KEY = re.compile("|".join((*KEYS, r"(?<=://)[^\s/@:\"'<>]{1,200}:[^\s/@\"'<>]{1,300}@")))
_DEEPEST = 50


def holds_key(text: str) -> bool:
    """Whether a text holds something that opens an account."""
    return _KEY.search(text) is not None


def with_keys(plain: Mapping[str, Any]) -> list[Problem]:
    """A problem for each setting of a recipe's tables that holds a key. The key itself is never repeated."""
    return [_problem(where) for where in dict.fromkeys(_places(plain, "", 0))]


def _places(value: Any, where: str, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if holds_key(value):
            yield where
    elif isinstance(value, Mapping) and depth < _DEEPEST:
        for name, item in value.items():
            if holds_key(str(name)):
                yield where
            else:
                yield from _places(item, f"{where}.{name}" if where else str(name), depth + 1)
    elif isinstance(value, list | tuple) and depth < _DEEPEST:
        for item in value:
            yield from _places(item, where, depth + 1)


def _problem(where: str) -> Problem:
    return Problem(
        "recipe.secret",
        say(
            "{where} holds what looks like a token or password; a recipe is kept with each run and passed on.",
            "{where} 中含有疑似令牌或密码的内容；配方会随每次训练保存，也可能被分享。",
            where=where or "recipe",
        ),
        say(
            "Take it out. A token for the hub belongs into the keyring: lorimer models token",
            "请将其删除。hub 令牌应存入密钥环：lorimer models token",
        ),
        where,
    )
