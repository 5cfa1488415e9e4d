"""How a data set of the hub is named: in a recipe, on a web page, and to people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from engine.recipe.recipe import HUB_DATA

TRAIN = "train"
_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SAFE = "/.-_[]:"


@dataclass(frozen=True, slots=True)
class HubName:
    """A split of a data set of the hub.

    Attributes:
        source: "owner/name", or a folder that is laid out as a repository of the hub.
        config: the configuration, "" for the one that the data set names first.
        split: which part of it.
        revision: commit or tag, "" for the newest.
    """

    source: str
    config: str = ""
    split: str = TRAIN
    revision: str = ""

    @classmethod
    def parse(cls, name: str) -> HubName:
        """The name as a recipe has it: ``hub:owner/name?config=main&split=test``.

        Raises:
            ValueError: it is none.
        """
        source, _, query = name.removeprefix(HUB_DATA).partition("?")
        wished = {key: values[-1] for key, values in parse_qs(query).items()}
        if not source or set(wished) - {"config", "split", "revision"}:
            raise ValueError(name)
        return cls(source, **wished)

    @property
    def name(self) -> str:
        """As a recipe has it."""
        wished = {"config": self.config, "split": "" if self.split == TRAIN else self.split, "revision": self.revision}
        query = "&".join(f"{key}={quote(value, safe=_SAFE)}" for key, value in wished.items() if value)
        return f"{HUB_DATA}{self.source}" + (f"?{query}" if query else "")

    @property
    def shown(self) -> str:
        """As people read it: "owner/name · main · test"."""
        return " · ".join(filter(None, (self.source, self.config, self.split if self.split != TRAIN else "")))


def found_in(text: str, *, is_asked: bool = False) -> HubName | None:
    """The data set that a text names: an address of the hub or of a mirror, or an id; None where it names none.

    Args:
        text: what was typed, pasted or dropped.
        is_asked: the text stands where an id is asked for, so that "owner/name" and "name" are taken for ids, too;
            elsewhere they could be anything.
    """
    text = text.strip().strip("<>\"'")
    if text.startswith(HUB_DATA):
        try:
            return HubName.parse(text)
        except ValueError:
            return None
    if "://" in text or text.startswith(("huggingface.co/", "hf.co/")):
        return _of_address(text)
    if is_asked and _ID.fullmatch(text.removeprefix("datasets/")):
        return HubName(text.removeprefix("datasets/"))
    return None


def _of_address(text: str) -> HubName | None:
    """https://huggingface.co/datasets/owner/name, with its viewer's configuration and split, or a tree's revision."""
    address = urlsplit(text if "://" in text else f"https://{text}")
    if address.scheme not in ("http", "https", "hf"):
        return None
    path = f"{address.netloc}{address.path}" if address.scheme == "hf" else address.path
    parts = [unquote(part) for part in path.split("/") if part]
    if len(parts) < 2 or parts[0] != "datasets":
        return None
    # Data sets of the hub's first years have no owner: what follows the name tells.
    places = ("viewer", "tree", "blob", "resolve", "embed", "discussions", "raw")
    end = 2 if len(parts) == 2 or parts[2] in places else 3
    source, rest = "/".join(parts[1:end]), parts[end:]
    if not _ID.fullmatch(source):
        return None
    if rest[:1] == ["viewer"] and len(rest) > 1:
        return HubName(source, rest[1], rest[2] if len(rest) > 2 else TRAIN)
    if rest[:1] in (["tree"], ["blob"], ["resolve"]) and len(rest) > 1 and rest[1] != "main":
        return HubName(source, revision=rest[1])
    return HubName(source)


def shown_name(name: str) -> str:
    """What people call a name of ``data.files``: the file's own name, or the data set's."""
    if name.startswith(HUB_DATA):
        try:
            return HubName.parse(name).shown
        except ValueError:
            return name
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] or name
