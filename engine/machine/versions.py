"""Which versions are installed, read without importing anything heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "tokenizers",
    "PySide6-Essentials",
    "xllamacpp",
)


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed torch.

    Attributes:
        version: such as "2.13.0+cpu".
        cuda: CUDA version that it was built for, None for a build without CUDA.
        hip: version of AMD's ROCm that it was built for, None for a build without.
    """

    version: str
    cuda: str | None
    hip: str | None = None


def installed(package: str) -> str | None:
    """The version of an installed package, None when it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def lorimer() -> str | None:
    """Lorimer's own version, None where it runs without having been installed."""
    return installed("lorimer")


def versions() -> dict[str, str | None]:
    """Version of each package that Lorimer works with, None for what is missing."""
    return {package: installed(package) for package in PACKAGES}


@cache
def torch_build() -> TorchBuild | None:
    """The installed torch by its ``version.py`` (a text file; torch itself is not imported), None when it is
    missing."""
    spec = find_spec("torch")
    version = installed("torch")
    if spec is None or version is None:
        return None
    text = _version_file(spec.submodule_search_locations)
    told = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return TorchBuild(told.group(1) if told else version, _built_for("cuda", text), _built_for("hip", text))


def _built_for(name: str, text: str) -> str | None:
    found = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else None


@cache
def bitsandbytes_cuda() -> tuple[str, ...]:
    """CUDA versions, such as "13.0", for which the installed bitsandbytes brings a library; empty when it is missing.

    The libraries are called ``libbitsandbytes_cuda130.so``, or ``.dll`` (bitsandbytes, cextension.py).
    """
    spec = find_spec("bitsandbytes")
    if spec is None:
        return ()
    names = [file.name for folder in spec.submodule_search_locations or () for file in Path(folder).iterdir()]
    found = [
        match for match in (re.fullmatch(r"libbitsandbytes_cuda(\d\d)(\d+)\.\w+", name) for name in names) if match
    ]
    return tuple(sorted(f"{match[1]}.{match[2]}" for match in found))


def _version_file(folders: object) -> str:
    for folder in folders if isinstance(folders, list) else list(folders or ()):  # type: ignore[call-overload]
        try:
            return (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
    return ""
