"""The recipe under work: one truth that the Data, Model and Plan pages show parts of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal

from engine.protocol.errors import UserError

if TYPE_CHECKING:
    from engine.recipe.recipe import Recipe

SAVE_DELAY_MS = 400


class DraftRecipe(QObject):
    """The recipe of the next run. Every change is validated, kept on disk soon after, and told by name.

    Attributes:
        path: where it is kept, None before a project is open.
        may_keep: asked before it is written; where another window controls the project it is not.

    Signals:
        changed(set[str]): dotted names whose values are others now ("train.epochs").
        not_kept(UserError): the disk did not take it.
    """

    changed = Signal(object)
    not_kept = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path: Path | None = None
        self.may_keep: Callable[[], bool] = lambda: True
        self._recipe: Recipe | None = None
        self._is_dirty = False
        self._timer = QTimer(self)
        self._timer.setObjectName("draft is kept")
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.keep)

    @property
    def recipe(self) -> Recipe:
        """The recipe as it stands; the defaults before one is loaded."""
        if self._recipe is None:
            self._recipe = _default()
        return self._recipe

    @property
    def is_loaded(self) -> bool:
        """Whether a recipe has been read or made (looking at `recipe` makes one, which takes a moment at first)."""
        return self._recipe is not None

    def begin(self, recipe: Recipe, path: Path) -> None:
        """Work on ``recipe``, which is kept at ``path``, from now on."""
        self.keep()
        self.path = path
        self._put(recipe, keep=False)

    def replace(self, recipe: Recipe) -> None:
        """Put another recipe in the place of this one."""
        self._put(recipe, keep=True)

    def set(self, values: Mapping[str, Any]) -> None:
        """Change values at dotted names.

        Raises:
            UserError: a value is wrong; nothing is changed then.
        """
        from engine.catalogue import CATALOGUE
        from engine.recipe.file import changed

        self._put(changed(self.recipe, values, CATALOGUE), keep=True)

    def value(self, name: str) -> Any:
        """The value at a dotted name."""
        found: Any = self.recipe
        for part in name.split("."):
            found = getattr(found, part)
        return found

    def keep(self) -> None:
        """Write the file now, if there is something to write."""
        self._timer.stop()
        if not self._is_dirty or self.path is None or self._recipe is None:
            return
        self._is_dirty = False
        if not self.may_keep():
            return
        from engine.recipe.file import save

        try:
            save(self._recipe, self.path)
        except UserError as error:
            self.not_kept.emit(error)

    def let_go(self) -> None:
        """What is not written yet is not kept: another window changed the file meanwhile."""
        self._timer.stop()
        self._is_dirty = False

    def _put(self, recipe: Recipe, *, keep: bool) -> None:
        names = differences(self._recipe, recipe)
        self._recipe = recipe
        if keep and names:
            self._is_dirty = True
            self._timer.start(SAVE_DELAY_MS)
        if names:
            self.changed.emit(names)


def differences(old: Recipe | None, new: Recipe) -> set[str]:
    """Dotted names whose values differ; all of them when there was none before."""
    before = {} if old is None else _flat(old)
    after = _flat(new)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _flat(recipe: Recipe) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for part in type(recipe).model_fields:
        section = getattr(recipe, part)
        for name in getattr(type(section), "model_fields", ()):
            result[f"{part}.{name}"] = getattr(section, name)
    return result


def _default() -> Recipe:
    from engine.catalogue import CATALOGUE
    from engine.recipe.file import from_plain

    return from_plain({}, CATALOGUE)
