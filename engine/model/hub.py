"""Models of the Hugging Face hub: which are on this machine, what one is, and its download with progress and cancel.

huggingface_hub does the work, in its own cache, which other tools share. Only configuration, tokenizer and safetensors
are ever fetched: never pickles, never code."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.machine.detect import disk_free_gib
from engine.machine.gpu import GIB
from engine.project.atomic import disk_error
from engine.protocol.errors import EXIT_MACHINE, Stopped, UserError
from engine.protocol.text import say

# What a model needs. Weights elsewhere in a repository ("original/…") are second copies.
NEEDED = (
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "additional_chat_templates/*.jinja",
    "README.md",
    "LICENSE*",
)
# Of folders only the one with templates by name is wanted, and no other pattern above begins with an "a" and a folder.
NEVER = ("[!a]*/*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.py")
# Kept free beside what is downloaded.
SPARE_GIB = 1.0
SECONDS_TO_ANSWER = 10.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in the hub's cache on this machine.

    Attributes:
        id: "owner/name".
        folder: its files.
        revision: commit.
        bytes: on disk.
        last_used: seconds since the epoch.
    """

    id: str
    folder: Path
    revision: str
    bytes: int
    last_used: float


@dataclass(frozen=True, slots=True)
class HubInfo:
    """What the hub says of a model.

    Attributes:
        id, revision: as the hub names them; the revision is a commit.
        bytes, files: size and number of the files that would be fetched.
        missing_bytes: those of them that are not on this machine yet.
        parameters: as the hub counted them, None when it has not.
        licence: as its card says, empty when it says none.
        gated: its owner wants to be asked first.
        family: ``model_type`` of its config, empty when the hub does not know.
        disk_free_gib: free space where the cache lies.
    """

    id: str
    revision: str
    bytes: int
    files: int
    missing_bytes: int
    parameters: int | None
    licence: str
    gated: bool
    family: str
    disk_free_gib: float | None


def cache_folder() -> Path:
    """Where the hub's models lie (``HF_HOME`` and ``HF_HUB_CACHE`` move it)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached_models(cache: Path | None = None) -> tuple[CachedModel, ...]:
    """The models in the cache that have a config and safetensors, last used first."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        found = scan_cache_dir(cache or cache_folder())
    except CacheNotFound:
        return ()
    models = (_cached(repo) for repo in found.repos if repo.repo_type == "model")
    return tuple(sorted((m for m in models if m is not None), key=lambda model: -model.last_used))


def _cached(repo: Any) -> CachedModel | None:
    """The newest whole revision of a cached repository."""
    for revision in sorted(repo.revisions, key=lambda each: ("main" not in each.refs, -each.last_modified)):
        names = {file.file_name for file in revision.files}
        if "config.json" in names and any(name.endswith(".safetensors") for name in names):
            return CachedModel(
                id=repo.repo_id,
                folder=Path(revision.snapshot_path),
                revision=revision.commit_hash,
                bytes=revision.size_on_disk,
                last_used=repo.last_accessed,
            )
    return None


def cached_folder(hub_id: str, *, revision: str = "", cache: Path | None = None) -> Path | None:
    """The folder of a hub model on this machine, None when it is not there; no network.

    Raises:
        UserError: its download was not finished, or the id is no hub id.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            hub_id,
            revision=revision or None,
            cache_dir=cache,
            allow_patterns=list(NEEDED),
            ignore_patterns=list(NEVER),
            local_files_only=True,
        )
    except IncompleteSnapshotError as error:
        raise UserError(
            "hub.incomplete",
            say("The download of {id} was not finished.", "{id} 的下载没有完成。", id=hub_id),
            say("Download it again; what is there is kept.", "请重新下载；已下载的部分会保留。"),
            where=hub_id,
            details=str(error),
        ) from error
    except LocalEntryNotFoundError:
        # Another tool may have fetched a commit without noting which branch it was.
        return None if revision else next((m.folder for m in cached_models(cache) if m.id == hub_id), None)
    except HFValidationError as error:
        raise _bad_id(hub_id, error) from error
    return Path(folder) if (Path(folder) / "config.json").is_file() else None


def info(hub_id: str, *, revision: str = "", cache: Path | None = None) -> HubInfo:
    """What the hub says of a model.

    Raises:
        UserError: no network, no such model, access refused, or it has no safetensors.
    """
    from huggingface_hub import HfApi

    with _told(hub_id, revision):
        answer = HfApi(endpoint=_endpoint()).model_info(
            hub_id, revision=revision or None, files_metadata=True, timeout=SECONDS_TO_ANSWER
        )
    sizes = {file.rfilename: int(file.size or 0) for file in answer.siblings or []}
    wanted = {name: size for name, size in sizes.items() if is_needed(name)}
    if not any(name.endswith(".safetensors") for name in wanted):
        raise _no_safetensors(hub_id, pickled=any(name.endswith((".bin", ".pt", ".pth")) for name in sizes))
    commit = str(answer.sha)
    where = cache or cache_folder()
    here = where / f"models--{hub_id.replace('/', '--')}" / "snapshots" / commit
    card: Any = answer.card_data
    config = answer.config or {}
    return HubInfo(
        id=answer.id,
        revision=commit,
        bytes=sum(wanted.values()),
        files=len(wanted),
        missing_bytes=sum(size for name, size in wanted.items() if not (here / name).exists()),
        parameters=int(answer.safetensors.total) if answer.safetensors else None,
        licence=str(getattr(card, "license_name", None) or getattr(card, "license", None) or ""),
        gated=bool(answer.gated),
        family=str(config.get("model_type", "")),
        disk_free_gib=disk_free_gib(where),
    )


def is_needed(name: str) -> bool:
    """Whether a file of a repository is fetched."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in NEEDED) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in NEVER
    )


def download(
    hub_id: str,
    *,
    progress: Progress,
    cancelled: Callable[[], bool],
    revision: str = "",
    cache: Path | None = None,
) -> Path:
    """Fetch a model into the cache; gives its folder. What an earlier try fetched is kept and used.

    Args:
        progress: told (bytes done, bytes in all), from several threads, a few times a second.
        cancelled: asked as often.

    Raises:
        UserError: no network, no such model, access refused, no safetensors, or not enough disk.
        Stopped: ``cancelled`` said so.
    """
    from huggingface_hub import constants, snapshot_download

    about = info(hub_id, revision=revision, cache=cache)
    check_disk(about)
    # An exception raised in xet's progress callback does not end its download, so cancelling needs plain HTTP, which
    # goes on where it was interrupted.
    constants.HF_HUB_DISABLE_XET = True
    bars = _bars(progress, cancelled, about.bytes)
    with _told(hub_id, revision):
        folder = snapshot_download(
            hub_id,
            revision=revision or None,
            cache_dir=cache,
            allow_patterns=list(NEEDED),
            ignore_patterns=list(NEVER),
            tqdm_class=bars,
            endpoint=_endpoint(),
            etag_timeout=SECONDS_TO_ANSWER,
            max_workers=2,
        )
    progress(about.bytes, about.bytes)
    return Path(folder)


def check_disk(about: HubInfo) -> None:
    """Raises `UserError` when the disk has not enough room for what is missing."""
    if about.disk_free_gib is None or about.missing_bytes / GIB + SPARE_GIB <= about.disk_free_gib:
        return
    raise UserError(
        "hub.no_disk",
        say(
            "{id} needs {needed:.1f} GiB, and {free:.1f} GiB are free on the disk of the model cache.",
            "{id} 需要 {needed:.1f} GiB，而模型缓存所在磁盘只剩 {free:.1f} GiB。",
            id=about.id,
            needed=about.missing_bytes / GIB,
            free=about.disk_free_gib,
        ),
        say(
            "Free some space, choose a smaller model, or set HF_HOME to a folder on another disk.",
            "请腾出空间、选择更小的模型，或将 HF_HOME 设到其他磁盘。",
        ),
        where=about.id,
        exit_code=EXIT_MACHINE,
    )


def _bars(progress: Progress, cancelled: Callable[[], bool], total: int) -> type[Any]:
    """A class that huggingface_hub takes for its progress bars: it counts bytes, draws nothing, and raises on a
    cancel."""

    class Bar:
        def __init__(self, *_: Any, total: float | None = None, initial: float = 0, desc: str = "", **__: Any) -> None:
            self.total, self.n = total, initial
            # Of its three bars this one counts the bytes on disk, those of an earlier try included.
            self.counts = desc.startswith("Reconstructing")
            self.format_dict: dict[str, Any] = {}

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if cancelled():
                raise Stopped
            if self.counts:
                progress(min(int(self.n), total), total)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None: ...

        def refresh(self) -> None: ...

        def set_description(self, *_: Any, **__: Any) -> None: ...

        def set_description_str(self, *_: Any, **__: Any) -> None: ...

        def set_postfix_str(self, *_: Any, **__: Any) -> None: ...

    return Bar


# -------------------------------------------------------------------------------------------------------- sentences
@contextmanager
def _told(hub_id: str, revision: str) -> Iterator[None]:
    """Tell what went wrong with the hub in sentences."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise _gated(hub_id, error) from error
    except RepositoryNotFoundError as error:
        raise _not_found(hub_id, error) from error
    except RevisionNotFoundError as error:
        raise UserError(
            "hub.no_revision",
            say("{id} has no revision {revision}.", "{id} 没有版本 {revision}。", id=hub_id, revision=revision),
            say("Leave it empty for the newest.", "留空即为最新版本。"),
            where=hub_id,
            details=str(error),
        ) from error
    except HFValidationError as error:
        raise _bad_id(hub_id, error) from error
    except OfflineModeIsEnabled as error:
        raise _offline(error, switched=True) from error
    except HfHubHTTPError as error:
        raise _refused(error) from error
    except OSError as error:
        raise _os_error(error) from error
    except Exception as error:
        # The hub's client lets its HTTP library's errors through, and which library that is changes between versions.
        if not type(error).__module__.startswith(("httpx", "requests", "httpcore")):
            raise
        raise _offline(error, switched=False) from error


def _os_error(error: OSError) -> UserError:
    """Errors of the disk have a number; those of the network come without a file."""
    if error.errno is not None and error.filename is not None:
        return disk_error(error, Path(str(error.filename)))
    if error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
        return disk_error(error, cache_folder())
    return _offline(error, switched=False)


def _endpoint() -> str | None:
    """The hub's address, where it is not the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def _bad_id(hub_id: str, error: Exception) -> UserError:
    return UserError(
        "hub.bad_id",
        say("{id} is no hub id.", "{id} 不是有效的 hub 标识。", id=hub_id),
        say("It has the form owner/name, such as Qwen/Qwen3-0.6B.", "格式为 所有者/名称，例如 Qwen/Qwen3-0.6B。"),
        where=hub_id,
        details=str(error),
    )


def _gated(hub_id: str, error: Exception) -> UserError:
    return UserError(
        "hub.gated",
        say("The owner of {id} wants to be asked first.", "{id} 需要先获得所有者许可。", id=hub_id),
        say(
            "Accept its terms on https://huggingface.co/{id}, then run: hf auth login",
            "请在 https://huggingface.co/{id} 接受条款，然后运行：hf auth login",
            id=hub_id,
        ),
        where=hub_id,
        details=str(error),
    )


def _not_found(hub_id: str, error: Exception) -> UserError:
    return UserError(
        "hub.not_found",
        say("The hub has no model {id}, or it is private.", "hub 上没有 {id}，或它是私有的。", id=hub_id),
        say(
            "Check the spelling, capitals included; for a private model run: hf auth login",
            "请检查拼写（区分大小写）；私有模型请运行：hf auth login",
        ),
        where=hub_id,
        details=str(error),
    )


def _offline(error: Exception, *, switched: bool) -> UserError:
    if switched:
        hint = say("Unset HF_HUB_OFFLINE to use the hub.", "要使用 hub，请取消设置 HF_HUB_OFFLINE。")
    else:
        hint = say(
            "Check the network and the proxy; models that are on this machine work without.",
            "请检查网络与代理；本机已有的模型无需联网。",
        )
    return UserError(
        "hub.offline",
        say("The hub cannot be reached.", "无法连接 hub。"),
        hint,
        exit_code=EXIT_MACHINE,
        details=f"{type(error).__name__}: {error}",
    )


def _refused(error: Any) -> UserError:
    status = getattr(getattr(error, "response", None), "status_code", "?")
    return UserError(
        "hub.error",
        say("The hub answered with error {status}.", "hub 返回错误 {status}。", status=status),
        say("Try again in a few minutes.", "请过几分钟再试。"),
        exit_code=EXIT_MACHINE,
        details=str(error),
    )


def _no_safetensors(hub_id: str, *, pickled: bool) -> UserError:
    if pickled:
        message = say(
            "{id} has pickled weights only, and opening a pickle can run any program that is hidden in it.",
            "{id} 只有 pickle 格式的权重，打开 pickle 可能会运行其中隐藏的任意程序。",
            id=hub_id,
        )
    else:
        message = say("{id} has no safetensors weights.", "{id} 没有 safetensors 权重。", id=hub_id)
    hint = say("Choose another version of the model.", "请选择该模型的其他版本。")
    return UserError("hub.no_safetensors", message, hint, where=hub_id)
