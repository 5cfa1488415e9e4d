"""A sentence carries both languages."""

import pytest

from engine.protocol.text import Text, as_text, say


def test_values_are_filled_in_each_language() -> None:
    inner = say("four bits", "四位")
    text = say("{n} rows in {kind}", "{kind}的 {n} 行", n=3, kind=inner)
    assert (text.en, text.zh) == ("3 rows in four bits", "四位的 3 行")
    assert text.in_language("zh_CN") == text.zh
    assert text.in_language("de") == str(text) == text.en


def test_a_forgotten_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        say("{n}", "{m}", n=1)


def test_braces_without_values_stay() -> None:
    assert say("{{name}} is left", "{{name}} 保留").en == "{{name}} is left"


def test_reading_what_others_wrote() -> None:
    assert as_text({"en": "a", "zh": "b"}) == Text("a", "b")
    assert as_text({"en": "a"}) == Text("a", "a")
    assert as_text("a") == Text("a", "a")
    assert not Text("", "")
