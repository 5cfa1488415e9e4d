"""Models of the Hugging Face hub: which are on this machine, wholly or in part, and what the hub says of one.

huggingface_hub does the work, in its own cache, which other tools share. Only configuration, tokenizer and safetensors
are ever fetched: never pickles, never code. The download itself is in `engine.model.download`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.machine.detect import disk_free_gib
from engine.machine.gpu import GIB
from engine.project import hub_access
from engine.project.atomic import disk_error
from engine.protocol.errors import EXIT_MACHINE, UserError
from engine.protocol.text import say

WEIGHTS = "*.safetensors"
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
class Unfinished:
    """A model whose download was interrupted.

    Attributes:
        id: "owner/name".
        bytes: of it that are on this machine.
    """

    id: str
    bytes: int


@dataclass(frozen=True, slots=True)
class HubInfo:
    """What the hub says of a model.

    Attributes:
        id, revision: as the hub names them; the revision is a commit.
        bytes, files: size and number of the files that would be fetched.
        missing_bytes: those of them that are not on this machine yet; what came of a file before counts as here.
        parameters: as the hub counted them, None when it has not.
        licence: as its card says, empty when it says none.
        gated: its owner wants to be asked first.
        family: ``model_type`` of its config, empty when the hub does not know.
        disk_free_gib: free space where the cache lies.
        has_token: there is a token to ask with.
        sizes: bytes of each file that would be fetched.
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
    has_token: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)


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


def repository_folder(hub_id: str, cache: Path | None = None) -> Path:
    """Where the cache keeps a model's files and revisions."""
    return (cache or cache_folder()) / f"models--{hub_id.replace('/', '--')}"


def unfinished(cache: Path | None = None) -> tuple[Unfinished, ...]:
    """The models whose download was interrupted; only names and sizes are looked at."""
    found = []
    for part in sorted((cache or cache_folder()).glob("models--*--*/blobs")):
        if any(part.glob("*.incomplete")):
            size = sum(file.stat().st_size for file in part.iterdir() if file.is_file())
            found.append(Unfinished(part.parent.name.removeprefix("models--").replace("--", "/"), size))
    return tuple(found)


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

    with told(hub_id, revision):
        answer = HfApi(endpoint=hub_access.endpoint(), token=hub_access.token()).model_info(
            hub_id, revision=revision or None, files_metadata=True, timeout=SECONDS_TO_ANSWER
        )
    files = {file.rfilename: file for file in answer.siblings or []}
    sizes = {name: int(file.size or 0) for name, file in files.items() if is_needed(name)}
    if not any(name.endswith(".safetensors") for name in sizes):
        raise _no_safetensors(hub_id, pickled=any(name.endswith((".bin", ".pt", ".pth")) for name in files))
    commit, where = str(answer.sha), cache or cache_folder()
    repository = repository_folder(hub_id, where)
    card: Any = answer.card_data
    config = answer.config or {}
    return HubInfo(
        id=answer.id,
        revision=commit,
        bytes=sum(sizes.values()),
        files=len(sizes),
        missing_bytes=sum(_missing(repository, commit, files[name], size) for name, size in sizes.items()),
        parameters=int(answer.safetensors.total) if answer.safetensors else None,
        licence=str(getattr(card, "license_name", None) or getattr(card, "license", None) or ""),
        gated=bool(answer.gated),
        family=str(config.get("model_type", "")),
        disk_free_gib=disk_free_gib(where),
        has_token=has_token(),
        sizes=sizes,
    )


def has_token() -> bool:
    """Whether there is a token to ask with: of the keyring, of ``HF_TOKEN``, or of ``hf auth login``."""
    from huggingface_hub import get_token

    return bool(hub_access.token() or get_token())


def user() -> str:
    """The name of the account whose token is used.

    Raises:
        UserError: the hub cannot be reached, or does not know the token.
    """
    from huggingface_hub import HfApi

    with told("", ""):
        answer = HfApi(endpoint=hub_access.endpoint(), token=hub_access.token()).whoami()
    return str(answer.get("name", ""))


def _missing(repository: Path, commit: str, file: Any, size: int) -> int:
    """Bytes of a file that are not in the cache."""
    if (repository / "snapshots" / commit / file.rfilename).exists():
        return 0
    # Large files are kept by the SHA-256 of what they hold, so what an earlier try fetched is known before asking.
    name = getattr(file.lfs, "sha256", None)
    for blob in (name, f"{name}.incomplete") if name else ():
        path = repository / "blobs" / blob
        if path.exists():
            return max(0, size - path.stat().st_size)
    return size


def is_needed(name: str) -> bool:
    """Whether a file of a repository is fetched."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in NEEDED) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in NEVER
    )


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


# -------------------------------------------------------------------------------------------------------- sentences
@contextmanager
def told(hub_id: str, revision: str) -> Iterator[None]:
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


def _bad_id(hub_id: str, error: Exception) -> UserError:
    return UserError(
        "hub.bad_id",
        say("{id} is no hub id.", "{id} 不是有效的 hub 标识。", id=hub_id),
        say("It has the form owner/name, such as Qwen/Qwen3-0.6B.", "格式为 所有者/名称，例如 Qwen/Qwen3-0.6B。"),
        where=hub_id,
        details=str(error),
    )


def _gated(hub_id: str, error: Exception) -> UserError:
    """Whoever has no token is told how to give one; whoever has one, that its account was not let in yet."""
    page = hub_access.page(hub_id)
    if has_token():
        hint = say(
            "Accept its terms on {page} with the account of your token; some owners take a while to agree.",
            "请用令牌所属的账号在 {page} 接受条款；部分所有者审核需要一些时间。",
            page=page,
        )
    else:
        hint = say(
            "Accept its terms on {page}, then give your token: on the Model page under “Hub access…”, or with "
            "lorimer models token",
            "请在 {page} 接受条款，然后提供令牌：在“模型”页的“Hub 访问…”中，或运行 lorimer models token",
            page=page,
        )
    return UserError(
        "hub.gated",
        say("The owner of {id} wants to be asked first.", "{id} 需要先获得所有者许可。", id=hub_id),
        hint,
        where=hub_id,
        details=str(error),
    )


def _not_found(hub_id: str, error: Exception) -> UserError:
    return UserError(
        "hub.not_found",
        say("The hub has no model {id}, or it is private.", "hub 上没有 {id}，或它是私有的。", id=hub_id),
        say(
            "Check the spelling, capitals included; a private model needs your token: lorimer models token",
            "请检查拼写（区分大小写）；私有模型需要令牌：lorimer models token",
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
    if status == 401:
        return UserError(
            "hub.token_refused",
            say("The hub does not know this token.", "hub 不认识这个令牌。"),
            say(
                "It may have been withdrawn. Make a new one at {page}",
                "它可能已被撤销。请在 {page} 新建令牌",
                page=hub_access.page(hub_access.TOKENS),
            ),
            details=str(error),
        )
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
