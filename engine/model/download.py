"""The download of a hub model into the hub's own cache: with progress, cancel, and a second try that goes on.

huggingface_hub does the work. Its `snapshot_download` throws away what had come of a file that was interrupted (2.4,
`file_download.py`), and weights come in files of several GiB. So the weights' files are fetched one by one with its
`http_get`, which goes on from a given byte, under its own lock and into its own cache; the rest, and the snapshot
itself, are `snapshot_download`'s.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.host.platform import replace
from engine.model import hub
from engine.model.hub import NEEDED, NEVER, WEIGHTS, HubInfo
from engine.project import hub_access
from engine.protocol.errors import Stopped

PART = ".incomplete"
"""Ending of a blob that has come in part; the name that huggingface_hub gave such files before 2.x, too."""
AT_ONCE = 2
_CHUNK = 2**20
# The hub names large files by the SHA-256 of what they hold.
_SHA256 = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Counter:
    """Bytes that are on this machine, told on; raises `Stopped` where it is asked for."""

    done: int
    total: int
    progress: Progress
    cancelled: Callable[[], bool]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: int) -> None:
        """So many bytes more (fewer where a file begins anew)."""
        if self.cancelled():
            raise Stopped
        if not count:
            return
        with self.lock:
            self.done += count
            self.progress(min(self.done, self.total), self.total)


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
    # Kept under the name that was asked for, though the hub may call the model by a newer one.
    about = dataclasses.replace(hub.info(hub_id, revision=revision, cache=cache), id=hub_id)
    hub.check_disk(about)
    where = cache or hub.cache_folder()
    with hub.told(hub_id, revision):
        # The small files first: what has come can then be looked at, and the cache knows that the model is not whole.
        folder = _snapshot(about, revision, where, ignore=[*NEVER, WEIGHTS])
        here = sum(size for name, size in about.sizes.items() if (folder / name).exists())
        progress(max(here, about.bytes - about.missing_bytes), about.bytes)
        counter = _Counter(here, about.bytes, progress, cancelled)
        _fetch_weights(about, folder, where, counter)
        folder = _snapshot(about, revision, where, ignore=list(NEVER))
    progress(about.bytes, about.bytes)
    return folder


def _snapshot(about: HubInfo, revision: str, cache: Path, *, ignore: list[str]) -> Path:
    """What huggingface_hub fetches and links by itself; gives the snapshot's folder."""
    from huggingface_hub import constants, snapshot_download

    # An exception raised in xet's progress callback does not end its download, so cancelling needs plain HTTP, and
    # pieces that come soon on a slow line too.
    constants.HF_HUB_DISABLE_XET = True
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK
    folder = snapshot_download(
        about.id,
        revision=revision or None,
        cache_dir=cache,
        allow_patterns=list(NEEDED),
        ignore_patterns=ignore,
        tqdm_class=_bar(),
        endpoint=hub_access.endpoint(),
        token=hub_access.token(),
        etag_timeout=hub.SECONDS_TO_ANSWER,
        max_workers=AT_ONCE,
    )
    return Path(folder)


def _fetch_weights(about: HubInfo, folder: Path, cache: Path, counter: _Counter) -> None:
    """The weights' files that are not there, `AT_ONCE` at once; the first that fails ends the others."""
    names = [name for name in about.sizes if name.endswith(".safetensors") and not (folder / name).exists()]
    failed, asked = threading.Event(), counter.cancelled
    counter.cancelled = lambda: failed.is_set() or asked()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(_fetch, about, name, cache, counter) for name in names]
        wait(jobs, return_when=FIRST_EXCEPTION)
        failed.set()  # where all went well, nobody asks any more
        pool.shutdown(cancel_futures=True)
    errors = [error for job in jobs if not job.cancelled() and (error := job.exception()) is not None]
    if errors:
        # The others were stopped because of the one that failed.
        raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])


def _fetch(about: HubInfo, name: str, cache: Path, counter: _Counter) -> None:
    """One file, from where an earlier try ended, to its place among the cache's blobs."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils._fixes import WeakFileLock

    counter.add(0)
    endpoint, token = hub_access.endpoint(), hub_access.token()
    url = hf_hub_url(about.id, name, revision=about.revision, endpoint=endpoint)
    meta = get_hf_file_metadata(url, token=token, timeout=hub.SECONDS_TO_ANSWER, endpoint=endpoint)
    if not meta.etag:
        return  # not in the way of the hub's own library, which says what is wrong with the answer
    blob = hub.repository_folder(about.id, cache) / "blobs" / meta.etag
    lock = cache / ".locks" / hub.repository_folder(about.id, cache).name / f"{meta.etag}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            counter.add(meta.size or 0)
            return
        part = blob.with_name(meta.etag + PART)
        _go_on(part, url, meta.location, meta.size, token, counter)
        if not _is_sound(part, meta.etag):  # what came before was of another file, or another program wrote to it
            counter.add(-part.stat().st_size)
            part.unlink()
            _go_on(part, url, meta.location, meta.size, token, counter)
        replace(part, blob)


def _go_on(part: Path, url: str, location: str, size: int | None, token: str | None, counter: _Counter) -> None:
    """Fetch what is missing of a file behind what is there."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    headers = build_hf_headers(token=token)
    if urlsplit(location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # the store behind the hub is asked by a signed address, never with a token
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have > size:
        have = 0
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(have)
        file.seek(have)
        counter.add(have)
        http_get(location, file, resume_size=have, headers=headers, expected_size=size, tqdm_class=_counting(counter))


def _is_sound(part: Path, etag: str) -> bool:
    """Whether a file holds what its name says, where the name says it."""
    if not _SHA256.fullmatch(etag):
        return True
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest() == etag


# --------------------------------------------------------------------------------------------------- progress bars
class _Bar:
    """What huggingface_hub takes for a progress bar; it draws nothing."""

    def __init__(self, *_: Any, total: float | None = None, initial: float = 0, **__: Any) -> None:
        self.total, self.n = total, initial
        self.format_dict: dict[str, Any] = {}

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None: ...

    def refresh(self) -> None: ...

    def set_description(self, *_: Any, **__: Any) -> None: ...

    def set_description_str(self, *_: Any, **__: Any) -> None: ...

    def set_postfix_str(self, *_: Any, **__: Any) -> None: ...


def _bar() -> Any:
    """`_Bar` where a class of tqdm is declared."""
    return _Bar


def _counting(counter: _Counter) -> Any:
    """A bar that tells each piece to a counter, and so ends the download where it is cancelled."""

    class Bar(_Bar):
        def update(self, n: float | None = 1) -> None:
            super().update(n)
            counter.add(int(n or 0))

    return Bar
