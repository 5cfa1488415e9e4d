"""What the user can do to report a bug: save a run's bundle, without the data."""

from __future__ import annotations

import re
from pathlib import Path

from PySide6.QtWidgets import QApplication, QFileDialog

from engine.project.run_folder import RunFolder
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.operations.operation import Operation
from gui.state.notices import GOOD

TITLE = say("Save the bundle for a report", "保存诊断包")
KINDS = say("ZIP file (*.zip)", "ZIP 文件 (*.zip)")
BY_SHAPE = say(
    "Not all rows could be looked through, so texts in it are cut to where and what kind.",
    "无法逐一核对全部数据，因此其中的文本只保留位置与类型。",
)


BUTTON = say("Save a report…", "保存诊断包…")
TIP = say(
    "Recipe, record, log and environment in one file, without your data, weights or secrets",
    "将配方、过程记录、日志与环境存为一个文件，不含你的数据、权重与密钥",
)


def report_run(context: AppContext) -> None:
    """Save the bundle of the run that is looked at."""
    if context.runs.run is not None:
        save_bundle(context, context.runs.run)


def save_bundle(context: AppContext, run: RunFolder) -> Operation | None:
    """Ask where to, then make the bundle of ``run`` in the background; None where the user thinks better of it."""
    name = "lorimer-" + re.sub(r"[^\w.-]+", "-", run.id) + ".zip"
    chosen, _ = QFileDialog.getSaveFileName(QApplication.activeWindow(), tr(TITLE), name, tr(KINDS))
    if not chosen:
        return None
    out = Path(chosen if chosen.lower().endswith(".zip") else f"{chosen}.zip")
    return Operation(context).in_background(lambda: _write(run, out)).on_success(lambda cut: _saved(context, out, cut))


def _write(run: RunFolder, out: Path) -> bool:
    """In the background: whether texts had to be cut to their shape."""
    from engine.project.bundle import make_bundle, write_bundle

    bundle = make_bundle(run)
    write_bundle(bundle, out)
    return bundle.by_shape


def _saved(context: AppContext, out: Path, cut: bool) -> None:
    told = say(
        "The bundle is saved to {path}: recipe, record, log and environment, without your data.",
        "诊断包已保存到 {path}：含配方、过程记录、日志与环境，不含你的数据。",
        path=out,
    )
    hint = BY_SHAPE if cut else say("Look into it before you pass it on.", "发送前可先打开查看。")
    context.notices.tell(GOOD, told, hint, folder=out.parent)
