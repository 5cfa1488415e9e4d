"""Puts a palette on the application: style, colours, fonts, icons of small controls. Knows nothing of pages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PySide6.QtCore import QLibraryInfo, Qt, QTranslator
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QApplication

from gui.theme.palette import DARK, LIGHT, Palette

_FAMILIES = ("Inter", "Segoe UI Variable Text", "Segoe UI", "SF Pro Text", "Helvetica Neue", "Noto Sans", "DejaVu Sans")
_CHINESE = ("Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei UI", "WenQuanYi Zen Hei")
_MONO = ("JetBrains Mono", "Cascadia Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "Liberation Mono")


@dataclass(slots=True)
class _Current:
    palette: Palette = LIGHT
    translator: QTranslator | None = None


_current = _Current()


def palette() -> Palette:
    """The colours in use; painters ask at each paint."""
    return _current.palette


def colour(name: str) -> QColor:
    """One colour in use, by its name in `Palette`."""
    return QColor(getattr(_current.palette, name))


def chosen(theme: str) -> Palette:
    """The palette of "light", "dark", or "auto" for the system's."""
    if theme == "auto":
        hints = QApplication.styleHints()
        return DARK if hints.colorScheme() == Qt.ColorScheme.Dark else LIGHT
    return DARK if theme == "dark" else LIGHT


def apply(app: QApplication, theme: str) -> None:
    """Show everything in ``theme`` from now on."""
    _current.palette = chosen(theme)
    app.setStyle("Fusion")
    app.setPalette(_qt_palette(_current.palette))
    app.setFont(text_font())
    app.setStyleSheet(_sheet(_current.palette))


def speak_qt(app: QApplication, language: str) -> None:
    """Qt's own words (dialogs, context menus) in the window's language, where Qt ships them."""
    if _current.translator is not None:
        app.removeTranslator(_current.translator)
        _current.translator = None
    translator = QTranslator()
    folder = QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)
    if language == "zh" and translator.load("qtbase_zh_CN", folder):
        app.installTranslator(translator)
        _current.translator = translator


@cache
def families(kind: str = "text") -> tuple[str, ...]:
    """Installed font families for "text" or "mono", best first, Chinese after Latin."""
    installed = set(QFontDatabase.families())
    wanted = (_MONO if kind == "mono" else _FAMILIES) + _CHINESE
    return tuple(name for name in wanted if name in installed) or (QFont().family(),)


def text_font(pixels: int = 13, weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
    """The window's font for painters."""
    font = QFont()
    font.setFamilies(list(families()))
    font.setPixelSize(pixels)
    font.setWeight(weight)
    return font


def mono_font(pixels: int = 12) -> QFont:
    """The window's font of even width, for painters."""
    font = QFont()
    font.setFamilies(list(families("mono")))
    font.setPixelSize(pixels)
    return font


def _qt_palette(colours: Palette) -> QPalette:
    result = QPalette()
    roles = {
        QPalette.ColorRole.Window: colours.page,
        QPalette.ColorRole.WindowText: colours.text,
        QPalette.ColorRole.Base: colours.field,
        QPalette.ColorRole.AlternateBase: colours.hover,
        QPalette.ColorRole.Text: colours.text,
        QPalette.ColorRole.Button: colours.card,
        QPalette.ColorRole.ButtonText: colours.text,
        QPalette.ColorRole.Highlight: colours.accent,
        QPalette.ColorRole.HighlightedText: colours.on_accent,
        QPalette.ColorRole.PlaceholderText: colours.faint,
        QPalette.ColorRole.Link: colours.accent,
        QPalette.ColorRole.ToolTipBase: colours.card,
        QPalette.ColorRole.ToolTipText: colours.text,
    }
    for role, value in roles.items():
        result.setColor(role, QColor(value))
    return result


def _sheet(colours: Palette) -> str:
    here = Path(__file__).parent
    icons = here / "icons"
    shade = "dark" if colours.dark else "light"
    values = {
        **colours.tokens(),
        "family": ", ".join(f'"{name}"' for name in families()),
        "mono": ", ".join(f'"{name}"' for name in families("mono")),
        "chevron_up": (icons / f"up_{shade}.svg").as_posix(),
        "chevron": (icons / f"down_{shade}.svg").as_posix(),
        "check_accent": (icons / f"check_accent_{shade}.svg").as_posix(),
        "check": (icons / f"check_{shade}.svg").as_posix(),
    }
    text = (here / "style.qss").read_text(encoding="utf-8")
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"@{name}", values[name])
    return text
