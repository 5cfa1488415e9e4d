"""What the user can do with data: import it, add to it, read it again with other columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QTimer

from engine.data import endings
from engine.protocol.errors import Failure
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import language
from gui.operations.operation import Operation, attempt
from gui.operations.plan import set_objective
from gui.operations.rows import check_texts, count_tokens, find
from gui.state.notices import INFO

if TYPE_CHECKING:
    from engine.recipe.recipe import FileSettings

SAMPLES = Path(__file__).resolve().parents[2] / "resources" / "samples"
ENDINGS = (*endings.ENDINGS, *endings.PACKED)
AUTO = "auto"
HOW_READ = (
    "data.files",
    "data.held_out_file",
    "data.general",
    "data.mapping",
    "data.shape",
    "data.encoding",
    "data.template",
    "data.per_file",
)
"""What decides whether data can be read, and is gone back to when they cannot."""
SCAN_DELAY_MS = 200
CHECKED_AT_ONCE = 200_000
"""The texts of so many rows are checked without being asked: about a minute."""


def sample_file() -> Path:
    """The sample data set in the window's language."""
    return SAMPLES / f"orders_{language()}.jsonl"


def can_be_data(path: Path) -> bool:
    """Whether something can be imported: a folder, or a file with a known ending."""
    return path.suffix.lower() in ENDINGS or path.is_dir()


def shown_name(name: str) -> str:
    """What people call a name of ``data.files``: the file's own name, or the data set's."""
    from engine.data.hub_names import shown_name as shown

    return shown(name)


def import_files(context: AppContext, paths: Sequence[Path | str]) -> None:
    """Take these files, folders and data sets of the hub as the data; what was chosen for others is forgotten."""
    values = {
        "data.files": [str(path) for path in paths],
        "data.mapping": {},
        "data.shape": AUTO,
        "data.encoding": AUTO,
        "data.per_file": {},
    }
    # Set before the draft: the answer that follows the change is the one that may choose the objective.
    context.data.is_new = True
    attempt(context, lambda: context.draft.set(values))


def add_files(context: AppContext, paths: Sequence[Path | str]) -> None:
    """Take these files, folders and data sets of the hub besides the ones that are there."""
    known = list(context.draft.recipe.data.files)
    new = [str(path) for path in paths if str(path) not in known]
    if new:
        attempt(context, lambda: context.draft.set({"data.files": [*known, *new], **_of_the_first(context)}))


def _of_the_first(context: AppContext) -> dict[str, Any]:
    """What was chosen while there was one file stays that file's own when others come."""
    data, files = context.draft.recipe.data, context.data.facts.get("files", [])
    if len(files) != 1 or (data.shape == AUTO and not data.mapping and data.encoding == AUTO):
        return {}
    own = {"shape": data.shape, "mapping": dict(data.mapping), "encoding": data.encoding}
    return {
        "data.per_file": _per_file(context, str(files[0]["path"]), own),
        "data.shape": AUTO,
        "data.mapping": {},
        "data.encoding": AUTO,
    }


def choose_columns(context: AppContext, shape: str, mapping: dict[str, str], encoding: str, *, file: str = "") -> None:
    """Read the files in another way, or one of several where ``file`` names it."""
    if file:
        own = {"shape": shape, "mapping": mapping, "encoding": encoding}
        values: dict[str, Any] = {"data.per_file": _per_file(context, file, own)}
    else:
        values = {"data.shape": shape, "data.mapping": mapping, "data.encoding": encoding}
    attempt(context, lambda: context.draft.set(values))


def find_columns(context: AppContext) -> None:
    """Forget what was chosen of shape, columns and encoding, for all files."""
    per_file = {
        file: {**own, "shape": "", "mapping": {}, "encoding": ""} for file, own in _plain_files(context).items()
    }
    values = {"data.shape": AUTO, "data.mapping": {}, "data.encoding": AUTO, "data.per_file": per_file}
    attempt(context, lambda: context.draft.set(values))


def _per_file(context: AppContext, file: str, own: dict[str, Any]) -> dict[str, Any]:
    known, file = _plain_files(context), _named(context, file)
    return {**known, file: {**known.get(file, {}), **own}}


def _plain_files(context: AppContext) -> dict[str, dict[str, Any]]:
    return {file: own.model_dump() for file, own in context.draft.recipe.data.per_file.items()}


def how_file_is_read(context: AppContext, file: str) -> tuple[str, str]:
    """Shape and encoding that were chosen for a file, "auto" where none was."""
    data, own = context.draft.recipe.data, settings_of_file(context, file)
    shape = own.shape if own is not None and own.shape else data.shape
    return shape, own.encoding if own is not None and own.encoding else data.encoding


def last_good(context: AppContext) -> dict[str, Any]:
    """The values that "go back" restores: those with which data were read before, where they are others than now."""
    good = context.data.good(context.draft.path)
    return good if good != how_read(context) else {}


def how_read(context: AppContext) -> dict[str, Any]:
    """The draft's values of `HOW_READ`."""
    return {name: context.draft.value(name) for name in HOW_READ} | {"data.per_file": _plain_files(context)}


def go_back(context: AppContext) -> None:
    """Read what was read well before."""
    good = last_good(context)
    context.data.is_new = False
    attempt(context, lambda: context.draft.set(good))


def leave_out(context: AppContext, file: str) -> None:
    """Take one of several files out of the data; it stays on the disk. Of a folder the other files are named then."""
    file = _named(context, file)
    if file in context.draft.recipe.data.general:
        leave_general_out(context, file)
        return
    named = list(context.draft.recipe.data.files)
    inside = [name for name in named if name != file and Path(name) in Path(file).parents]
    others = [str(item["path"]) for item in context.data.facts.get("files", []) if str(item["path"]) != file]
    files: list[str] = []
    for name in named:
        of_folder = [path for path in others if Path(name) in Path(path).parents]
        files += of_folder if name in inside else [name] if name != file else []
    per_file = {name: own for name, own in _plain_files(context).items() if name != file}
    attempt(context, lambda: context.draft.set({"data.files": files, "data.per_file": per_file}))


def _named(context: AppContext, file: str) -> str:
    """How the recipe names a file: of a data set of the hub it is not its place on the disk."""
    known: dict[str, Any] = next((item for item in context.data.facts.get("files", []) if item["path"] == file), {})
    return str(known.get("named") or file)


def add_general(context: AppContext, paths: Sequence[Path | str]) -> None:
    """Mix these files of general data in, besides the ones that are there."""
    known = list(context.draft.recipe.data.general)
    new = [str(path) for path in paths if str(path) not in known]
    attempt(context, lambda: context.draft.set({"data.general": [*known, *new]}))


def leave_general_out(context: AppContext, file: str) -> None:
    """Take a file of general data out of the mix; it stays on the disk. One of a folder takes the folder with it."""
    name = _named(context, file)
    kept = [item for item in context.draft.recipe.data.general if item != name and Path(item) not in Path(name).parents]
    attempt(context, lambda: context.draft.set({"data.general": kept}))


def settings_of_file(context: AppContext, file: str) -> FileSettings | None:
    """What the draft says of one file, None for nothing."""
    return context.draft.recipe.data.per_file.get(_named(context, file))


def choose(context: AppContext, name: str, value: object) -> None:
    """Another value of a setting of the data section."""
    attempt(context, lambda: context.draft.set({f"data.{name}": value}))


def choose_of_file(context: AppContext, file: str, name: str, value: object) -> None:
    """Another value of a setting of one file."""
    attempt(context, lambda: context.draft.set({"data.per_file": _per_file(context, file, {name: value})}))


def file_at_fault(context: AppContext, failure: Failure) -> str:
    """Which of several files a failure is about, "" where that is not known or there is no other."""
    files = (*context.draft.recipe.data.files, *context.draft.recipe.data.general)
    if len(files) < 2:
        return ""
    place = failure.where
    named = [name for name in files if place == name or place.split(":")[0] == shown_name(name)]
    good = context.data.good(context.draft.path).get("data.files", ())
    new = [name for name in files if name not in good]
    doubtful = [name for name in named if name in new] or named or (new if len(new) == 1 else [])
    return doubtful[-1] if doubtful else ""


def cancel_reading(context: AppContext) -> None:
    """End the reading; the session stops at its next row, and nobody waits for that."""
    if context.data.reading is not None:
        context.data.reading.cancel()
        context.data.reading.drop()
    context.data.clear(is_stopped=True)


def open_data(context: AppContext) -> Operation | None:
    """Have the data session read what the draft names; the data state tells how it goes."""
    from engine.objectives.registry import OBJECTIVES
    from engine.recipe.file import to_plain

    _name_decisions(context)
    recipe = context.draft.recipe
    draft, values = context.draft.path, how_read(context)
    if context.data.reading is not None:
        context.data.reading.drop()
    context.data.drop_errands()
    if not recipe.data.files:
        context.data.clear()
        return None
    context.data.is_stopped = False
    away = not_here(context)
    if away:
        return _fetch(context, away)
    name = shown_name(recipe.data.files[0])
    context.data.status.work(say("Reading {name}…", "正在读取 {name}…", name=name))
    context.data.changed.emit()
    operation = Operation(context).in_session(
        context.bridge.data,
        "open_data",
        data=to_plain(recipe)["data"],
        model=recipe.model.source,
        # New files are taken for what they are, and choose the objective; later the objective says how to read them.
        preference=None if context.data.is_new else OBJECTIVES[recipe.objective.name].preference,
    )

    def done(facts: dict[str, Any]) -> None:
        context.data.keep_good(draft, values)
        if facts.get("scanned", True):
            _read(context, facts)
        else:
            context.data.show_first(facts)
            _scan_soon(context)

    return _reading(context, operation).on_success(done)


def not_here(context: AppContext) -> list[str]:
    """Data sets of the hub that the draft names and that may not be on this machine yet."""
    from engine.recipe.recipe import HUB_DATA

    data = context.draft.recipe.data
    named = [name for name in (*data.files, *data.general, data.held_out_file) if name.startswith(HUB_DATA)]
    return [name for name in named if name not in context.data.hub.known]


def _fetch(context: AppContext, names: list[str]) -> Operation:
    """Fetch data sets of the hub, beside what the data session answers, then read; those that are here take no time."""
    what = ", ".join(shown_name(name) for name in names)
    context.data.status.work(say("Fetching {name} from the hub…", "正在从 hub 获取 {name}…", name=what))
    context.data.changed.emit()

    def done(_value: dict[str, Any]) -> None:
        context.data.hub.known.update(names)
        open_data(context)

    operation = Operation(context).in_session(context.bridge.hub, "hub_data_get", names=names)
    return _reading(context, operation).on_success(done)


def _name_decisions(context: AppContext) -> None:
    """A draft always names the file where decisions about rows are kept, so that the first one changes nothing else."""
    draft = context.draft
    if draft.path is not None and draft.recipe.data.files and not draft.recipe.data.decisions:
        path = str(draft.path.parent / "decisions.jsonl")
        attempt(context, lambda: draft.set({"data.decisions": path}))


def _reading(context: AppContext, operation: Operation) -> Operation:
    """The operation as the one that reads: its progress and failure are the data's."""

    def told(event: Any) -> None:
        context.data.status.tell(event)
        context.data.changed.emit()

    def failed(failure: Failure) -> None:
        context.data.reading = None
        context.data.status.fail(failure)
        context.data.changed.emit()

    context.data.reading = operation
    return operation.on_progress(told).on_failure(failed)


def _scan_soon(context: AppContext) -> None:
    """Scan when the first rows are drawn: it takes all cores, and they should not wait for it."""
    version = context.data.version
    timer = QTimer(context)
    timer.setObjectName("scan begins")
    timer.setSingleShot(True)

    def begin() -> None:
        timer.deleteLater()
        if context.data.version == version:
            _scan(context)

    timer.timeout.connect(begin)
    timer.start(SCAN_DELAY_MS)


def _scan(context: AppContext) -> None:
    """Have every row of large files looked at, while the first ones are in view."""
    operation = Operation(context).in_session(context.bridge.data, "scan")
    _reading(context, operation).on_success(lambda facts: _read(context, facts))


def _read(context: AppContext, facts: dict[str, Any]) -> None:
    """The facts are there; new data of preferences are learned as preferences, and the user is told."""
    was_new, context.data.is_new = context.data.is_new, False
    context.data.set_facts(facts)
    if context.data.words:  # found among the first rows
        find(context, context.data.words)
    if was_new:
        _fit_objective(context, str(facts.get("shape", "")))
    _look_closer(context)


def _look_closer(context: AppContext) -> None:
    """Count tokens exactly, then check the texts, where neither was done."""
    facts = context.data.facts

    def check() -> None:
        if facts.get("quality", {}) is None and int(facts.get("total", 0)) <= CHECKED_AT_ONCE:
            check_texts(context)

    if facts.get("measured", True):
        check()
    else:
        count_tokens(context, then=check)


def _fit_objective(context: AppContext, shape: str) -> None:
    from engine.data.registry import SHAPES
    from engine.objectives.registry import OBJECTIVES

    if shape not in SHAPES or SHAPES[shape].preference == OBJECTIVES[context.draft.recipe.objective.name].preference:
        return
    fitting = next(item for item in OBJECTIVES.values() if item.preference == SHAPES[shape].preference)
    set_objective(context, fitting.name)
    words = say(
        "These rows suit “{name}”, so the plan was set to it. You can change it on the Plan page.",
        "这些数据适合“{name}”，计划已据此设置；可在“计划”页更改。",
        name=fitting.label,
    )
    context.notices.tell(INFO, words)
