"""What of an export goes to the hub, and whether it may. Light.

Only files that the export itself wrote are sent: never rows, records, logs or recipes. A repository is private unless
the user says otherwise, and one that is there already is left alone unless they say so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.export.card import CARD, card
from engine.export.ledger import LEDGER, Export, listed
from engine.export.serve import check_gguf_file
from engine.project.atomic import read_json
from engine.project.rebuilt import is_run
from engine.project.recent import recent
from engine.project.run_folder import RunFolder
from engine.protocol.errors import UserError
from engine.protocol.text import say

UPLOADS = "uploads.json"
"""In the run's folder: what was sent where, and what was begun, so that a second try goes on."""
KIND = "upload"
MARK = "lorimer-export.json"
"""As `engine.merge.place` calls the list of an export's own files."""
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True, slots=True)
class Sent:
    """One file that goes to the hub.

    Attributes:
        name: in the repository.
        size: in bytes.
        path: where it lies; None where ``content`` is sent.
        content: of a card that is written for this.
    """

    name: str
    size: int
    path: Path | None = None
    content: bytes = b""


def checked_repo(repo: str) -> str:
    """A repository's name as the hub takes it: ``owner/name``. Raises `UserError` when it is none."""
    name = repo.partition("/")[2]
    bad = "--" in repo or ".." in repo or name.endswith((".git", ".ipynb", "-", "."))
    if _REPO.fullmatch(repo) and not bad:
        return repo
    raise UserError(
        "upload.repo",
        say("“{repo}” is no name of a repository.", "“{repo}”不是有效的仓库名称。", repo=repo[:120]),
        say(
            "It has the form owner/name, with letters, digits, dots, dashes and underscores.",
            "格式为 所有者/名称，只含字母、数字、点、连字符和下划线。",
        ),
        where="--repo",
    )


def found_export(path: Path, run: RunFolder | None = None) -> tuple[RunFolder, Export]:
    """The run that an export was made of, and its entry among that run's exports.

    Args:
        run: where to look; else the run around it, and those of the projects opened lately.

    Raises:
        UserError: no run knows of it, or it is not there.
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise UserError(
            "file.missing",
            say("{path} does not exist.", "{path} 不存在。", path=path),
            say("Check the path; was the file moved or renamed?", "请检查路径；文件是否被移动或改名？"),
            where=str(path),
        )
    for known in [run] if run is not None else _runs_near(path):
        for export in listed(known):
            if Path(export.file) == path or Path(export.file).resolve() == path.resolve():
                return known, export
    raise UserError(
        "upload.unknown",
        say("{name} is no export that Lorimer knows of.", "{name} 不是 Lorimer 所知的导出。", name=path.name),
        say(
            "Only what Lorimer wrote and checked is uploaded. Say which run it is of: --run RUN",
            "只上传由 Lorimer 写出并核对过的内容。请用 --run RUN 指明它属于哪次训练。",
        ),
        where=str(path),
    )


def _runs_near(path: Path) -> list[RunFolder]:
    around = [RunFolder(parent) for parent in path.parents if is_run(RunFolder(parent))]
    lately = [RunFolder(ledger.parent) for project in recent() for ledger in sorted(project.glob(f"runs/*/{LEDGER}"))]
    return [*around, *(run for run in lately if run not in around)]


def check_may_go(exports: Sequence[Export], *, force: bool = False) -> None:
    """See that no export is marked as not to be used. Raises `UserError`; with ``force`` never."""
    wrong = next((export for export in exports if export.passed is False), None)
    if wrong is None or force:
        return
    raise UserError(
        "upload.differs",
        say(
            "{name} differs from what was trained: it is not uploaded.",
            "{name} 与训练结果不一致，不会上传。",
            name=Path(wrong.file).name,
        ),
        say(
            "Export it again. If you must: --force; its card says that it differs.",
            "请重新导出。确有必要时可用 --force；模型卡会注明不一致。",
        ),
        where=wrong.file,
    )


def parcel(run: RunFolder, exports: Sequence[Export]) -> tuple[Sent, ...]:
    """The files that go to the hub, with a card.

    Raises:
        UserError: an export was moved, or several that do not belong into one repository are given.
    """
    folders = [export for export in exports if Path(export.file).is_dir()]
    if len(exports) > 1 and folders:
        raise UserError(
            "upload.several",
            say("A folder goes into a repository of its own.", "文件夹需要单独的仓库。"),
            say("Upload several GGUFs together, but each folder by itself.", "可一起上传多个 GGUF，文件夹请分别上传。"),
            where=folders[0].file,
        )
    if folders:
        return _folder(Path(folders[0].file))
    files = [Sent(Path(export.file).name, Path(export.file).stat().st_size, Path(export.file)) for export in exports]
    for file in files:
        check_gguf_file(file.path or Path())  # a list of exports may come from a stranger, and name any file
    first = exports[0]
    about = card(run, first.kind, type=first.type, file=Path(first.file).name, parity=first.parity).encode()
    return (Sent(CARD, len(about), content=about), *files)


def _folder(folder: Path) -> tuple[Sent, ...]:
    """What an export wrote into its folder, and nothing that was put there later."""
    names = [str(name) for name in read_json(folder / MARK).get("files", ())]
    paths = [folder / name for name in sorted(names) if name != MARK]
    own = [path for path in paths if path.is_file() and not path.is_symlink() and path.parent == folder]
    return tuple(Sent(path.name, path.stat().st_size, path) for path in own)
