"""llama.cpp's own converter, for models that Lorimer itself writes no GGUF of. Light.

It is a program in a folder that the user points to, and it is run: that is their choice, for that folder, each time by
``--llama-cpp`` or once in the settings. Lorimer brings no copy of it and looks for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

CONVERTER = "convert_hf_to_gguf.py"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with llama.cpp's sources.

    Attributes:
        folder: it.
        converter: the program that writes a GGUF of a folder of transformers.
        library: its own ``gguf`` package.
    """

    folder: Path
    converter: Path
    library: Path


def checked_checkout(folder: Path) -> Checkout:
    """The parts of a checkout that are used. Raises `UserError` where ``folder`` is none."""
    folder = folder.expanduser().absolute()
    found = Checkout(folder, folder / CONVERTER, folder / "gguf-py")
    if found.converter.is_file() and (found.library / "gguf").is_dir():
        return found
    raise UserError(
        "export.no_checkout",
        say("{folder} is no folder of llama.cpp's sources.", "{folder} 不是 llama.cpp 源代码文件夹。", folder=folder),
        say(
            "It holds {name} and gguf-py. Get it by: git clone https://github.com/ggml-org/llama.cpp",
            "其中应有 {name} 和 gguf-py。获取方式：git clone https://github.com/ggml-org/llama.cpp",
            name=CONVERTER,
        ),
        where=str(folder),
    )


def meaning(folder: Path) -> Text:
    """What running the converter of a folder means; it is said before it is run."""
    return say(
        "The converter in {folder} is run with your rights, as any program that you start.",
        "{folder} 中的转换器会以你的权限运行，与你自己启动的程序相同。",
        folder=folder,
    )
