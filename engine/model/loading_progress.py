"""How far a model's weights are read: transformers counts them for a progress bar that nobody sees here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as library_log

Told = Callable[[int, int], None]


@contextmanager
def watched(told: Told | None) -> Iterator[None]:
    """Tell of each weight that transformers reads in the block: how many are read, and of how many.

    What ``told`` raises ends the reading between two weights. One thread at a time: the hook is the whole process's.
    """
    if told is None:
        yield
        return
    before = library_log.set_tqdm_hook(lambda factory, args, kwargs: _Counted(told, *args, **kwargs))
    try:
        yield
    finally:
        library_log.set_tqdm_hook(before)


class _Counted:
    """In place of a progress bar."""

    def __init__(self, told: Told, items: Iterable[Any] | None = None, *_: Any, **facts: Any) -> None:
        self._told: Told = told
        self._items: Iterable[Any] = items if items is not None else ()
        self._total = int(facts.get("total") or (len(self._items) if isinstance(self._items, Sized) else 0))

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._items):
            self._told(done, self._total)
            yield item

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """What else a bar is told moves nothing here."""
        return lambda *_, **__: None
