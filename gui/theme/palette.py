"""The colours of the window, light and dark, by what they are for."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by purpose, each "#rrggbb".

    Attributes:
        page, sidebar, card, field: grounds, from the back to the front.
        line, edge: thin lines between things, and the edges of fields and buttons.
        text, muted, faint: what is read first, second, and only when looked for.
        accent, accent_hover, accent_soft, on_accent: the one strong colour, its ground, and text on it.
        good…, warn…, bad…: text and ground of judgements; each also has a word, never colour alone.
        learned, learned_line: ground and underline of learned tokens.
        series: colours of plots and of parts in a bar.
        track: the empty part of a bar.
        bubble: ground of the user's words in a chat.
    """

    dark: bool
    page: str
    sidebar: str
    card: str
    field: str
    line: str
    edge: str
    hover: str
    text: str
    muted: str
    faint: str
    accent: str
    accent_hover: str
    accent_soft: str
    accent_line: str
    on_accent: str
    good: str
    good_soft: str
    good_line: str
    warn: str
    warn_soft: str
    bad: str
    bad_soft: str
    bad_line: str
    learned: str
    learned_line: str
    chip: str
    track: str
    bubble: str
    series: tuple[str, ...]

    def tokens(self) -> dict[str, str]:
        """Name → colour, for the style sheet."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), str)}


LIGHT = Palette(
    dark=False,
    page="#f6f7f9",
    sidebar="#eef0f3",
    card="#ffffff",
    field="#ffffff",
    line="#e3e6eb",
    edge="#cbd2dc",
    hover="#f1f3f6",
    text="#1b1f2e",
    muted="#5f677a",
    faint="#878fa1",
    accent="#2f6f6a",
    accent_hover="#275e5a",
    accent_soft="#eff7f6",
    accent_line="#8fbdb8",
    on_accent="#ffffff",
    good="#1a7347",
    good_soft="#e2f3ea",
    good_line="#9fd3b8",
    warn="#8f5b06",
    warn_soft="#fdf3dc",
    bad="#b3261e",
    bad_soft="#fdecea",
    bad_line="#e8b4b0",
    learned="#d7efe4",
    learned_line="#2f8f6a",
    chip="#eef0f3",
    track="#e6e9ee",
    bubble="#eef0f3",
    series=("#2f6f6a", "#7fb3ae", "#a9c9c5", "#d9a441", "#b8c0cc", "#8a7fb8", "#c97b5a"),
)
DARK = Palette(
    dark=True,
    page="#14181d",
    sidebar="#171b21",
    card="#1b2027",
    field="#1f252d",
    line="#2c333d",
    edge="#3a434f",
    hover="#252c35",
    text="#e8ebf0",
    muted="#a0a8b6",
    faint="#7b8492",
    accent="#4fa39b",
    accent_hover="#62b5ad",
    accent_soft="#1d2c2e",
    accent_line="#35706b",
    on_accent="#0d1518",
    good="#74cf9e",
    good_soft="#173326",
    good_line="#2c6547",
    warn="#e5b567",
    warn_soft="#382c14",
    bad="#f08a80",
    bad_soft="#3b2020",
    bad_line="#6d3532",
    learned="#1c4034",
    learned_line="#5fc39b",
    chip="#272e38",
    track="#2c333d",
    bubble="#252c35",
    series=("#4fa39b", "#347a74", "#7fb3ae", "#d9a441", "#6b7482", "#9a8fd0", "#d98d6c"),
)
