"""Turn lists in words of their own: ``{"wer": "ich", "was": "hallo"}`` is a turn to whom knows the four words.

A mapping names the keys that hold speaker and text, and the words for the speakers, beside the list's column. Where it
does not, a proposal is made of what the turns hold; nobody is trained on it before somebody has said yes, unless the
speakers' words are known ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from engine.data.declare import Role
from engine.data.rows import ASSISTANT, SYSTEM, TOOL, USER
from engine.data.shapes.turns import SPEAKER_KEYS, SPEAKERS, TEXT_KEYS, parsed
from engine.protocol.text import say

DIALECT_ROLES = (
    Role("who", say("Key of the speaker", "说话者的键"), False, (), "key"),
    Role("says", say("Key of the text", "文本的键"), False, (), "key"),
    Role("user_is", say("Word for the user", "表示用户的词"), False, (), "word"),
    Role("assistant_is", say("Word for the assistant", "表示助手的词"), False, (), "word"),
    Role("system_is", say("Word for the system prompt", "表示系统提示的词"), False, (), "word"),
    Role("tool_is", say("Word for a tool", "表示工具的词"), False, (), "word"),
)
"""What a mapping can say of the turns in a list; several words for one speaker stand with commas between them."""
DIALECT = tuple(role.name for role in DIALECT_ROLES)
_WORDS = {"user_is": USER, "assistant_is": ASSISTANT, "system_is": SYSTEM, "tool_is": TOOL}
_MOST_ITEMS = 2000
_MOST_SPEAKERS = 6
_LONGEST_WORD = 40
_FEWEST_ITEMS = 4


# ---------------------------------------------------------------------------------------------------------- translating
@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file writes a turn.

    Attributes:
        who, says: the keys of speaker and text; "" for the usual ones.
        words: word for a speaker, in lower case → role.
    """

    who: str
    says: str
    words: Mapping[str, str]

    def turn(self, item: Any) -> Any:
        """A turn with ``role`` and ``content``; what else it holds stays. What is no object is given back."""
        if not isinstance(item, Mapping):
            return item
        who = item.get(self.who) if self.who else next((item[key] for key in SPEAKER_KEYS if key in item), None)
        said = item.get(self.says) if self.says else next((item[key] for key in TEXT_KEYS if key in item), None)
        taken = {self.who, self.says, *SPEAKER_KEYS, *TEXT_KEYS}
        role = self.words.get(str(who).strip().lower(), who)
        return {"role": role, "content": said} | {key: value for key, value in item.items() if key not in taken}


def translated(value: Any, mapping: Mapping[str, str]) -> Any:
    """A list of turns in the usual words, where the mapping says how the file's are to be read; else as it is."""
    if mapping.keys().isdisjoint(DIALECT):
        return value
    return in_usual_words(value, _dialect(tuple(mapping.get(name, "") for name in DIALECT)))


def in_usual_words(value: Any, dialect: Dialect) -> Any:
    """A list of objects (also as text, or a single one) with each translated; any other value as it is."""
    value = parsed(value)
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple) or not any(isinstance(item, Mapping) for item in listed):
        return value
    return [dialect.turn(item) for item in listed]


def dialect_of(mapping: Mapping[str, str]) -> Dialect | None:
    """How a mapping says that turns are written; None where it does not say."""
    names = tuple(mapping.get(name, "") for name in DIALECT)
    return _dialect(names) if any(names) else None


@lru_cache(maxsize=64)
def _dialect(names: tuple[str, ...]) -> Dialect:
    said = dict(zip(DIALECT, names, strict=True))
    words = {word.strip().lower(): role for name, role in _WORDS.items() for word in said[name].split(",")}
    words.pop("", None)
    return Dialect(said["who"], said["says"], words)


# ------------------------------------------------------------------------------------------------------------ proposing
@dataclass(frozen=True, slots=True)
class Proposal:
    """How the turns of a column may be meant.

    Attributes:
        mapping: role of `DIALECT_ROLES` → key or word; what the usual words tell is left out.
        knows_speakers: all speakers go by known words: only keys were found by what they hold.
        offers: role → all that it may be, the proposed one first.
    """

    mapping: dict[str, str]
    knows_speakers: bool
    offers: dict[str, tuple[str, ...]] = field(default_factory=dict)


def propose(values: Sequence[Any]) -> Proposal | None:
    """How the lists in a column's cells may be read as turns; None where they need no proposal, or are hardly turns."""
    lists = [found for value in values if (found := _objects(value)) is not None]
    if not lists or len(lists) * 2 <= sum(value is not None for value in values):
        return None
    items = [item for listed in lists for item in listed][:_MOST_ITEMS]
    if len(items) < _FEWEST_ITEMS or len(items) < 1.5 * len(lists):
        return None
    texts = dict(_text_keys(items))
    who = _speaker_key(texts)
    says = _saying_key(texts, who)
    if who is None or says is None:
        return None
    order = _speakers(lists, who)
    known = all(word.lower() in SPEAKERS for word in order)
    mapping = {} if who in SPEAKER_KEYS else {"who": who}
    mapping |= {} if says in TEXT_KEYS else {"says": says}
    if not known:
        mapping |= _proposed_words(lists, who, order)
    if not mapping:
        return None
    keys = tuple(texts)
    words = tuple(order)
    offers = {role: keys if role in ("who", "says") else words for role in DIALECT}
    return Proposal(mapping, known, offers)


def objects_of(values: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """All objects in the lists that a column's cells hold."""
    for value in values:
        yield from _objects(value) or ()


def _objects(value: Any) -> list[Mapping[str, Any]] | None:
    """The objects of a list, also of one that stands as text."""
    value = parsed(value)
    if not isinstance(value, list | tuple) or not value:
        return None
    found = [item for item in value if isinstance(item, Mapping)]
    return found if len(found) == len(value) else None


def _text_keys(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """(key, texts) of the keys that hold text in nearly every object."""
    counts = Counter(key for item in items for key, value in item.items() if isinstance(value, str))
    for key, count in counts.items():
        if isinstance(key, str) and count >= 0.9 * len(items):
            yield key, [item[key] for item in items if isinstance(item.get(key), str)]


def _speaker_key(texts: Mapping[str, list[str]]) -> str | None:
    """The key under which the same few words stand again and again."""
    fitting = []
    for key, values in texts.items():
        words = {value.strip().lower() for value in values}
        few = 2 <= len(words) <= _MOST_SPEAKERS and len(words) * 2 <= len(values)
        if few and max(map(len, words)) <= _LONGEST_WORD:
            known = sum(word in SPEAKERS for word in words)
            fitting.append((key not in SPEAKER_KEYS, -known, len(words), key))
    return min(fitting)[-1] if fitting else None


def _saying_key(texts: Mapping[str, list[str]], who: str | None) -> str | None:
    """The key of the longest texts that differ from turn to turn."""
    fitting = []
    for key, values in texts.items():
        if key != who and len(set(values)) > 0.3 * len(values):
            fitting.append((key not in TEXT_KEYS, -sum(map(len, values)), key))
    return min(fitting)[-1] if fitting else None


def _speakers(lists: Sequence[Sequence[Mapping[str, Any]]], who: str) -> list[str]:
    """Words for speakers, as they are first written, in the order in which they speak in most lists."""
    places: dict[str, list[int]] = {}
    written: dict[str, str] = {}
    for listed in lists:
        words = dict.fromkeys(str(item.get(who)).strip() for item in listed)
        for place, word in enumerate(words):
            written.setdefault(word.lower(), word)
            places.setdefault(word.lower(), []).append(place)
    return [written[word] for word in sorted(places, key=lambda word: sum(places[word]) / len(places[word]))]


def _proposed_words(lists: Sequence[Sequence[Mapping[str, Any]]], who: str, order: Sequence[str]) -> dict[str, str]:
    """Who may be who: one that speaks once, first and not alone among three is the system; then user and assistant."""
    taken = {SPEAKERS[word.lower()] for word in order if word.lower() in SPEAKERS}
    # A word that stands in a few lists only is a mistake of theirs, and makes their rows unusable.
    left = [word for word in order if word.lower() not in SPEAKERS and _share(lists, who, word) > 0.5]
    found: dict[str, str] = {}
    if SYSTEM not in taken and len(order) > 2 and left and _opens(lists, who, left[0]):
        found["system_is"] = left.pop(0)
    for role, is_role in (("user_is", USER), ("assistant_is", ASSISTANT)):
        if is_role not in taken and left:
            found[role] = left.pop(0)
    return found


def _share(lists: Sequence[Sequence[Mapping[str, Any]]], who: str, word: str) -> float:
    """In which share of the lists somebody speaks who goes by a word."""
    return sum(any(str(item.get(who)).strip() == word for item in listed) for listed in lists) / len(lists)


def _opens(lists: Sequence[Sequence[Mapping[str, Any]]], who: str, word: str) -> bool:
    places = [place for listed in lists for place, item in enumerate(listed) if str(item.get(who)).strip() == word]
    return bool(places) and not any(places)
