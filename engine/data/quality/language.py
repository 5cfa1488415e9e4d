"""The language of a row.

The script decides where it can (Chinese, Japanese, Korean, Thai, Greek…), then the small words that only one of the
widely used languages has; py3langid is asked for the rest, on the first 200 characters, since it takes a hundred times
as long and 100 MB of memory. The same text gives the same answer everywhere.
"""

from __future__ import annotations

import re
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from engine.data.rows import Row
from engine.protocol.text import Text, say

UNKNOWN = "und"
"""Too short to tell, or no words at all (ISO 639)."""
LANGUAGES: dict[str, Text] = {
    "zh": say("Chinese", "中文"),
    "en": say("English", "英语"),
    "ja": say("Japanese", "日语"),
    "ko": say("Korean", "韩语"),
    "fr": say("French", "法语"),
    "de": say("German", "德语"),
    "es": say("Spanish", "西班牙语"),
    "pt": say("Portuguese", "葡萄牙语"),
    "it": say("Italian", "意大利语"),
    "nl": say("Dutch", "荷兰语"),
    "ru": say("Russian", "俄语"),
    "uk": say("Ukrainian", "乌克兰语"),
    "pl": say("Polish", "波兰语"),
    "tr": say("Turkish", "土耳其语"),
    "vi": say("Vietnamese", "越南语"),
    "id": say("Indonesian", "印尼语"),
    "th": say("Thai", "泰语"),
    "ar": say("Arabic", "阿拉伯语"),
    "fa": say("Persian", "波斯语"),
    "he": say("Hebrew", "希伯来语"),
    "hi": say("Hindi", "印地语"),
    "el": say("Greek", "希腊语"),
    "cs": say("Czech", "捷克语"),
    "sv": say("Swedish", "瑞典语"),
    UNKNOWN: say("not known", "未知"),
}
"""What people read; a language that is not here is shown by its ISO 639 code."""

_LOOKED_AT = 240
_ASKED = 200
_SHORT = 30
_NO_LANGUAGE = "zxx"
_LIKELY = 0.5
_ENOUGH = 3
_ENOUGH_ALONE = 2
_PLAIN_SHORT = 25
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]+")
_KANA = re.compile("[\u3041-\u309f\u30a1-\u30fa]+")
_LATIN = re.compile("[A-Za-z]+")
_ONE_LANGUAGE = (
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hy", re.compile("[\u0530-\u058f]")),
    ("ka", re.compile("[\u10a0-\u10ff]")),
    ("bn", re.compile("[\u0980-\u09ff]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
    ("te", re.compile("[\u0c00-\u0c7f]")),
    ("km", re.compile("[\u1780-\u17ff]")),
    ("lo", re.compile("[\u0e80-\u0eff]")),
    ("my", re.compile("[\u1000-\u109f]")),
)
_OWN_WORDS = {
    "en": "the of and to is that with for are this was it from by have you which their they be can your has not will "
    "what when how just get out know like there but would about who them then than did were our she my i'm don't it's "
    "if only some these those been into over such because each much does where why how's that's let's can't i'll",
    "fr": "les des est dans du pour une qui sur avec sont cette ces ou leur vous nous être aux c'est mais plus même",
    "de": "der die und das ist den von zu mit dem für auf nicht ein eine sie ich auch wird sich einen werden oder sind",
    "es": "los las y el del por está más pero muy cuando también este esta hay puede son sus tiene donde según estos",
    "pt": "os uma não do da em são mais também você pode isso pelo pela seu sua foi ao à nós muito então fazer",
    "it": "di che il della sono gli è nel delle anche più essere dei questo alla degli nella perché può come queste",
    "nl": "het een van niet dat zijn voor op aan er maar ook bij wordt naar deze kan worden jij wij heeft",
    "ru": "что как это или она был быть они его если только чтобы можно также когда вы может этот",
    "uk": "що як це або вона був бути вони його якщо тільки щоб можна також коли ви може цей є та",
}
_CANDIDATES = (
    "af ar az be bg bs ca cs cy da de en es et eu fa fi fr ga gl gu hi hr hu id is it kk kn lt lv mk ml mn mr ms "
    "ne nl no pa pl ps pt ro ru si sk sl sq sr sv sw tl tr uk ur uz vi zxx"
).split()


def language_of_row(row: Row) -> str:
    """Language of what the row teaches to write: of the answer, unless it is too short to tell; then of all."""
    answer = row.answer
    found = language_of(answer) if len(answer) >= _SHORT else UNKNOWN
    return found if found != UNKNOWN or row.text is not None else language_of(f"{row.question} {answer}")


def language_of(text: str) -> str:
    """ISO 639 code, or `UNKNOWN`."""
    head = text[:_LOOKED_AT]
    return (None if head.isascii() else _by_script(head)) or _by_words(head) or _by_library(head)


def _by_script(text: str) -> str | None:
    han, kana = _count(_HAN, text), _count(_KANA, text)
    if han + kana:
        # A Chinese character says about as much as three letters.
        if 3 * (han + kana) < _count(_LATIN, text):
            return None
        return "ja" if 5 * kana >= han else "zh"
    letters = sum(map(str.isalpha, text))
    for language, script in _ONE_LANGUAGE:
        if 2 * _count(script, text) > letters:
            return language
    return None


def _count(letters: re.Pattern[str], text: str) -> int:
    """How many characters the runs of ``letters`` have together."""
    return len("".join(letters.findall(text)))


def _by_words(text: str) -> str | None:
    """The language of most words that only one language has, if it is clearly ahead."""
    known = _words()
    hits: dict[str, int] = {}
    for word in set(text.lower().split()):
        language = known.get(word)
        if language is not None:
            hits[language] = hits.get(language, 0) + 1
    if not hits:
        return None
    best = max(hits, key=lambda language: (hits[language], language))
    enough = _ENOUGH_ALONE if len(hits) == 1 and best == "en" and text.isascii() else _ENOUGH
    return best if hits[best] >= enough and 3 * hits[best] >= 2 * sum(hits.values()) else None


@cache
def _words() -> dict[str, str]:
    found: dict[str, str] = {}
    shared: set[str] = set()
    for language, words in _OWN_WORDS.items():
        for word in words.split():
            if found.setdefault(word, language) != language:
                shared.add(word)
    return {word: language for word, language in found.items() if word not in shared}


def _by_library(text: str) -> str:
    letters = sum(map(str.isalpha, text))
    if letters < 3 or 3 * letters < len(text.replace(" ", "")):
        return UNKNOWN
    # A few names or nouns without a small word or an accent: the library would guess, and wrongly.
    if letters < _PLAIN_SHORT and text.isascii():
        return UNKNOWN
    language, probability = _identifier().classify(text[:_ASKED])
    told = language != _NO_LANGUAGE and (letters >= _SHORT or probability >= _LIKELY)
    return str(language) if told else UNKNOWN


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_CANDIDATES)
    return identifier
