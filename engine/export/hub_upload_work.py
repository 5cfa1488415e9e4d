"""The job that sends an export to the hub: with progress, cancel, and a second try that goes on.

huggingface_hub does the work. Large files are sent one by one before the commit; those that arrived are known there by
their SHA-256, so that a second try does not send them again; a repository has all of its files or none of them.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from engine.export.hub_upload import UPLOADS, Sent, check_may_go, checked_repo, found_export, parcel
from engine.model import hub
from engine.project import hub_access
from engine.project.atomic import read_json, write_json
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel, stop_if_asked
from engine.protocol.errors import UserError
from engine.protocol.events import Note, Progress, Stage
from engine.protocol.text import say

_CHUNK = 2**20
_TELL_SECONDS = 0.2
BEGUN, DONE = "begun", "done"


def upload(arguments: Mapping[str, Any], channel: Channel) -> dict[str, Any]:
    """Send exports of one run to a repository of the hub.

    Args:
        arguments: ``run``, ``files`` (paths of exports), ``repo`` ("owner/name"), and, where wished, ``public`` (else
            it is private), ``update`` (the repository may be there already), ``force`` (also what failed its check).

    Returns:
        ``{"repo", "url", "commit", "private", "files": [{"name", "bytes"}]}``.

    Raises:
        UserError: no token, an unknown one, one that may not write; the repository is there already; an export that
            failed its check; no network.
        Stopped: the user asked; what arrived is known to the hub, and the same upload goes on from there.
    """
    run, repo = RunFolder(Path(arguments["run"])), checked_repo(arguments["repo"])
    exports = [found_export(Path(file), run)[1] for file in arguments["files"]]
    check_may_go(exports, force=bool(arguments.get("force")))
    for export in exports:
        if export.passed is None:
            text = say("{name} was not checked.", "{name} 未经核对。", name=Path(export.file).name)
            channel.emit(Note(text=text, level="warning", code="upload.unchecked"))
    files = parcel(run, exports)
    private = not arguments.get("public")
    _plain_http()
    channel.emit(Stage(name="hub", text=say("Asking the hub", "正在联系 hub")))
    with _told(repo):
        api = _api()
        _prepare(api, run, repo, private=private, may_update=bool(arguments.get("update")))
        commit = _send(api, repo, files, channel)
    url = f"{api.endpoint}/{repo}"
    _remember(run, repo, DONE)
    sent = [{"name": file.name, "bytes": file.size} for file in files]
    return {"repo": repo, "url": url, "commit": commit, "private": private, "files": sent}


def _api() -> Any:
    """The hub, asked by the kept token. Raises `UserError` where there is none, or one that the hub does not know."""
    from huggingface_hub import HfApi

    if not hub.has_token():
        raise UserError(
            "upload.no_token",
            say("An upload needs your token for the hub.", "上传需要你的 hub 令牌。"),
            say(
                "Make one with write access at {page}, then keep it: lorimer models token",
                "请在 {page} 新建有写入权限的令牌，然后保存：lorimer models token",
                page=hub_access.page(hub_access.TOKENS),
            ),
        )
    hub.user()
    return HfApi(endpoint=hub_access.endpoint(), token=hub_access.token())


def _prepare(api: Any, run: RunFolder, repo: str, *, private: bool, may_update: bool) -> None:
    """Make the repository, unless an interrupted upload of ours did. Raises `UserError` where it is another's."""
    begun = _uploads(run).get(repo) == BEGUN
    if api.repo_exists(repo):
        if begun or may_update:
            return
        raise UserError(
            "upload.exists",
            say("{repo} is on the hub already.", "hub 上已有 {repo}。", repo=repo),
            say(
                "Choose another name, or add to it with --update: files of the same name are replaced there.",
                "请换一个名称，或用 --update 更新它：其中的同名文件会被替换。",
            ),
            where=repo,
        )
    _remember(run, repo, BEGUN)
    api.create_repo(repo, private=private, exist_ok=False)


def _send(api: Any, repo: str, files: tuple[Sent, ...], channel: Channel) -> str:
    """Send what is large, then commit all; gives the commit."""
    from huggingface_hub import CommitOperationAdd

    counter = _Counter(channel, total=2 * sum(file.size for file in files))
    operations = []
    channel.emit(Stage(name="hash", text=say("Computing checksums", "正在计算校验和")))
    for file in files:
        # An operation looks at its file when it is made; the checksum is taken here, where it can be told and stopped.
        operation = CommitOperationAdd(file.name, str(file.path) if file.path is not None else file.content)
        if file.path is not None:
            operation.upload_info.sha256 = _hashed(file.path, counter)
        else:
            counter.add(file.size)
        operations.append(operation)
    channel.emit(Stage(name="upload", text=say("Sending to {repo}", "正在上传到 {repo}", repo=repo)))
    for file, operation in zip(files, operations, strict=True):
        begin = counter.done
        with _counted(operation, counter):
            _preupload(api, repo, operation)
        counter.at(begin + file.size)
    message = "Upload with Lorimer"
    return str(api.create_commit(repo, operations=operations, commit_message=message, num_threads=1).oid)


def _preupload(api: Any, repo: str, operation: Any) -> None:
    """Send one file, if it is large and not there. Raises what went wrong, which huggingface_hub wraps."""
    try:
        with warnings.catch_warnings():
            # huggingface_hub 2.4 hands files to its HTTP library in a way that this deprecates.
            warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
            api.preupload_lfs_files(repo, additions=[operation], num_threads=1)
    except RuntimeError as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from error


@dataclass(slots=True)
class _Counter:
    """Bytes that are read or sent, told on a few times a second; raises `Stopped` where it is asked for."""

    channel: Channel
    total: int
    done: int = 0
    began: float = 0.0
    told: float = 0.0

    def add(self, count: int) -> None:
        """So many bytes more."""
        self.at(self.done + count)

    def at(self, done: int) -> None:
        """So many bytes in all (fewer where a file is sent anew)."""
        stop_if_asked(self.channel)
        self.done, now = done, time.monotonic()
        self.began = self.began or now
        if now - self.told < _TELL_SECONDS and done < self.total:
            return
        self.told = now
        took = now - self.began
        left = took / done * (self.total - done) if done and took > 1 else None
        self.channel.emit(Progress(done=done, total=self.total, unit="bytes", seconds_left=left))


def _hashed(path: Path, counter: _Counter) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            counter.add(len(piece))
    return digest.digest()


@contextmanager
def _counted(operation: Any, counter: _Counter) -> Iterator[None]:
    """Tell each piece that is read of an operation's file, where it is sent."""
    begin = counter.done
    as_file = operation.as_file

    @contextmanager
    def counting(with_tqdm: bool = False) -> Iterator[BinaryIO]:
        with as_file() as file:
            if with_tqdm:  # that is how huggingface_hub asks for a file that it sends
                _watch(file, counter, begin)
            yield file

    operation.as_file = counting
    try:
        yield
    finally:
        del operation.as_file


def _watch(file: Any, counter: _Counter, begin: int) -> None:
    read = file.read

    def told(size: int | None = -1) -> bytes:
        data: bytes = read(size)
        counter.at(begin + file.tell())
        return data

    file.read = told


def _plain_http() -> None:
    """Have huggingface_hub send by plain HTTP: an exception in the progress of xet does not end its upload."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Tell what went wrong in sentences: those of the hub's other work, and what only who writes can meet."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    with hub.told(repo, ""):
        try:
            yield
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == 401 and not isinstance(error, RepositoryNotFoundError):
                raise
            if status in (401, 403):
                raise _forbidden(repo, error) from error
            if status == 409:
                raise _conflict(repo, error) from error
            raise


def _forbidden(repo: str, error: Exception) -> UserError:
    return UserError(
        "upload.forbidden",
        say("Your token may not write to {repo}.", "你的令牌无权写入 {repo}。", repo=repo),
        say(
            "Use your own name or an organisation of yours before the slash, and a token with write access: {page}",
            "斜杠前请用自己的用户名或所属组织，并使用有写入权限的令牌：{page}",
            page=hub_access.page(hub_access.TOKENS),
        ),
        where=repo,
        details=str(error),
    )


def _conflict(repo: str, error: Exception) -> UserError:
    return UserError(
        "upload.conflict",
        say("{repo} was made or changed by somebody else meanwhile.", "{repo} 刚刚被他人创建或修改。", repo=repo),
        say("Look at it, then upload again.", "请查看后重新上传。"),
        where=repo,
        details=str(error),
    )


# --------------------------------------------------------------------------------------------------------------- record
def _uploads(run: RunFolder) -> dict[str, str]:
    """Repository → `BEGUN` or `DONE`; what cannot be read counts as empty."""
    path = run.path / UPLOADS
    try:
        known = read_json(path) if path.is_file() else {}
    except UserError:
        return {}
    return {str(name): str(state) for name, state in known.items()} if isinstance(known, dict) else {}


def _remember(run: RunFolder, repo: str, state: str) -> None:
    write_json(run.path / UPLOADS, {**_uploads(run), repo: state})
