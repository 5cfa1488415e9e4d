"""What the user prefers of the program itself: language, theme, and where the hub is reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from engine.host.platform import config_folder
from engine.project.atomic import read_json, write_json
from engine.protocol.errors import UserError

LANGUAGES = ("auto", "en", "zh")
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True, slots=True)
class Settings:
    """Attributes:
    language: "auto" follows the system, else "en" or "zh".
    theme: "auto" follows the system, else "light" or "dark".
    mirror: address of a mirror of the hub, empty for the hub itself.
    llama_cpp: folder of llama.cpp's sources, whose converter is run for architectures that Lorimer does not write.
    version: of this file's layout.
    """

    language: str = "auto"
    theme: str = "auto"
    mirror: str = ""
    llama_cpp: str = ""
    version: int = 1


def load_settings() -> Settings:
    """The kept settings; defaults where the file is absent, unreadable, or holds a value that is not known."""
    try:
        known = read_json(_file())
    except UserError:
        return Settings()
    if not isinstance(known, dict):
        return Settings()
    values = {field.name: known[field.name] for field in fields(Settings) if field.name in known}
    found = Settings(**values)
    return Settings(
        language=found.language if found.language in LANGUAGES else "auto",
        theme=found.theme if found.theme in THEMES else "auto",
        mirror=found.mirror if isinstance(found.mirror, str) else "",
        llama_cpp=found.llama_cpp if isinstance(found.llama_cpp, str) else "",
    )


def save_settings(settings: Settings) -> None:
    """Keep the settings. Raises `UserError` when the disk does not take them."""
    write_json(_file(), asdict(settings))


def _file() -> Path:
    return config_folder() / "settings.json"
