"""Whether a folder holds a model that can be trained, and what it is; read from its small files and headers alone.

Every problem is found before any is told. Nothing is executed and nothing pickled is opened.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.machine.dims import FAMILIES, ModelDims
from engine.model.weights_header import Damaged, Header, is_weights_name, read_header
from engine.project.atomic import disk_error
from engine.protocol.errors import Problem, UserError
from engine.protocol.text import say

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS = ("F64", "F32", "F16", "BF16")
DTYPES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
LARGEST_TEXT = 256 * 2**20
"""Configuration, tokenizer and template of the largest models take a tenth of it."""
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be trained.

    Attributes:
        path: its folder, absolute.
        name: what people call it.
        family: ``model_type`` of its config; family_label: for people.
        architecture: class name of its config, empty when it says none.
        parameters: counted in the weights' files.
        bytes, files: size and number of the weights' files.
        dtype: "bf16", "fp16", "fp32" or "fp64": that of most weights.
        context: longest sequence in tokens.
        layers, hidden, vocab: widths.
        has_template: whether it has a chat template of its own.
        licence: as its model card says; empty when it says none.
        dims: all widths.
    """

    path: Path
    name: str
    family: str
    family_label: str
    architecture: str
    parameters: int
    bytes: int
    files: int
    dtype: str
    context: int
    layers: int
    hidden: int
    vocab: int
    has_template: bool
    licence: str
    dims: ModelDims

    def to_plain(self) -> dict[str, Any]:
        """What JSON knows of it; without `dims`."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "dims"}
        return plain | {"path": str(self.path)}


def inspect(folder: Path) -> ModelInfo:
    """The model of a folder.

    Raises:
        UserError: it cannot be trained; ``problems`` lists all that was found.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise disk_error(FileNotFoundError(), folder)
    if (folder / "adapter_config.json").is_file() and not (folder / CONFIG).is_file():
        raise _adapter_only(folder)
    problems: list[Problem] = list(_odd_files(folder))
    if problems:  # nothing of it is opened
        raise _unusable(folder, tuple(problems))
    config = _config(folder, problems)
    dims = _dims(folder, config, problems)
    headers = _weights(folder, problems)
    if dims is not None and headers:
        _compare(folder, dims, headers, problems)
    _tokenizer(folder, problems)
    if problems or dims is None:
        raise _unusable(folder, tuple(problems))
    return _info(folder, config, dims, headers)


def _info(folder: Path, config: Mapping[str, Any], dims: ModelDims, headers: Mapping[str, Header]) -> ModelInfo:
    sizes: Counter[str] = Counter()
    for header in headers.values():
        for tensor in header.tensors.values():
            sizes[tensor.dtype] += tensor.elements
    common = sizes.most_common(1)[0][0]
    architectures = config.get("architectures")
    return ModelInfo(
        path=folder,
        name=model_name(folder),
        family=dims.family,
        family_label=FAMILIES[dims.family].label,
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else "",
        parameters=sum(sizes.values()),
        bytes=sum(header.size for header in headers.values()),
        files=len(headers),
        dtype=DTYPES.get(common, common.lower()),
        context=dims.context,
        layers=dims.layers,
        hidden=dims.hidden,
        vocab=dims.vocab,
        has_template=has_template(folder),
        licence=licence(folder),
        dims=dims,
    )


def model_name(folder: Path) -> str:
    """The folder's name; for a snapshot in the hub's cache the model's id ("Qwen/Qwen3-0.6B")."""
    cached = re.search(r"models--(.+?)/snapshots/", folder.as_posix() + "/")
    return cached.group(1).replace("--", "/") if cached else folder.name


def has_template(folder: Path) -> bool:
    """Whether the folder has a chat template: a file of its own, or a key of tokenizer_config.json."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    if any((folder / "additional_chat_templates").glob("*.jinja")):
        return True
    try:
        plain = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(plain, dict) and bool(plain.get("chat_template"))


def licence(folder: Path) -> str:
    """The licence in the head of the model card (README.md), else that a licence file lies there; empty without
    either."""
    try:
        head = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        head = ""
    front = re.match(r"\s*---\n(.*?)\n---", head, re.DOTALL)
    lines = (
        dict(re.findall(r"^(license(?:_name)?):[ \t]*(\S.*?)[ \t]*$", front.group(1), re.MULTILINE)) if front else {}
    )
    named = lines.get("license_name") if lines.get("license") == "other" else lines.get("license")
    if named:
        return str(named).strip("\"'")
    return next((name for name in LICENCE_FILES if (folder / name).is_file()), "")


# ---------------------------------------------------------------------------------------------------------- files
def _odd_files(folder: Path) -> Iterator[Problem]:
    """What would hang whoever opens it, or fill the memory: pipes, devices, and texts that are none."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise disk_error(error, folder) from error
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:
            continue  # a link to nowhere: who needs the file says that it is missing
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            message = say(
                "{name} is no file but a pipe or device.", "{name} 不是文件，而是管道或设备。", name=entry.name
            )
        elif entry.name.endswith(_TEXTS) and stat.S_ISREG(status.st_mode) and status.st_size > LARGEST_TEXT:
            message = say(
                "{name} has {size:.1f} GiB; no model's has.",
                "{name} 有 {size:.1f} GiB，不可能是模型文件。",
                name=entry.name,
                size=status.st_size / 2**30,
            )
        else:
            continue
        yield Problem("model.odd_file", message, _SOURCE, entry.path)


_TEXTS = (".json", ".jinja", ".md", ".txt")
_SOURCE = say("Take the model from a source that you trust.", "请从可信的来源获取该模型。")


# --------------------------------------------------------------------------------------------------------- config
def _config(folder: Path, problems: list[Problem]) -> dict[str, Any]:
    path = folder / CONFIG
    hint = say("Copy it from the model's source again.", "请从模型来源重新复制。")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = say("There is no config.json.", "缺少 config.json。")
        problems.append(Problem("model.no_config", message, hint, str(path)))
        return {}
    except OSError as error:
        raise disk_error(error, path) from error
    except (ValueError, RecursionError):
        message = say("config.json is damaged: it is not JSON.", "config.json 已损坏：不是有效的 JSON。")
        problems.append(Problem("model.config", message, hint, str(path)))
        return {}
    if not isinstance(plain, dict):
        message = say("config.json is not a JSON object.", "config.json 不是 JSON 对象。")
        problems.append(Problem("model.config", message, hint, str(path)))
        return {}
    return plain


def _dims(folder: Path, config: dict[str, Any], problems: list[Problem]) -> ModelDims | None:
    if not config:
        return None
    if "quantization_config" in config:
        problems.append(_quantised(folder / CONFIG))
    try:
        return ModelDims.from_config(config)
    except UserError as error:
        problems += error.problems or (error.problem,)
        return None


def _quantised(path: Path) -> Problem:
    return Problem(
        "model.quantised",
        say("These weights are already quantised.", "这些权重已经量化过。"),
        say(
            "Choose the original 16-bit model: QLoRA quantises it while loading, and merging needs exact weights.",
            "请选择原始的 16 位模型：QLoRA 会在加载时量化，合并也需要精确的权重。",
        ),
        str(path),
    )


# -------------------------------------------------------------------------------------------------------- weights
def _weights(folder: Path, problems: list[Problem]) -> dict[str, Header]:
    """Header of each weights file by name; empty when there is none to read."""
    names = _weight_files(folder, problems)
    headers: dict[str, Header] = {}
    for name in names:
        path = folder / name
        try:
            headers[name] = read_header(path)
        except FileNotFoundError:
            problems.append(_missing_shard(path, len(names)))
        except Damaged as damage:
            problems.append(damage.problem)
        except OSError as error:
            raise disk_error(error, path) from error
    odd = next((t.dtype for h in headers.values() for t in h.tensors.values() if t.dtype not in FLOATS), None)
    if odd is not None and not any(problem.code == "model.quantised" for problem in problems):
        problems.append(_quantised(folder))
    return headers


def _weight_files(folder: Path, problems: list[Problem]) -> list[str]:
    """Names of the weights' files as the index lists them, else the single file, else whatever safetensors lie
    there."""
    index = folder / INDEX
    if index.is_file():
        try:
            plain = json.loads(index.read_text(encoding="utf-8"))
            names = set(plain["weight_map"].values())
            if not all(map(is_weights_name, names)):
                problems.append(_odd_index(index))
                return []
            return sorted(names)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            message = say("{name} is damaged.", "{name} 已损坏。", name=INDEX)
            hint = say("Download or copy it again.", "请重新下载或复制。")
            problems.append(Problem("model.damaged", message, hint, str(index)))
            return []
    if (folder / SINGLE).is_file():
        return [SINGLE]
    found = sorted(path.name for path in folder.glob("model*.safetensors"))
    if found:
        # Numbered shards without their index: which tensors are missing cannot be known.
        message = say(
            "There is no {name} for the {n} weights files.", "{n} 个权重文件缺少索引 {name}。", name=INDEX, n=len(found)
        )
        hint = say("Copy it from the model's source.", "请从模型来源复制。")
        problems.append(Problem("model.no_index", message, hint, str(index)))
        return []
    problems.append(_no_weights(folder))
    return []


def _odd_index(index: Path) -> Problem:
    return Problem(
        "model.odd_index",
        say(
            "{name} names files that are no safetensors, or lie outside of the folder.",
            "{name} 指向了非 safetensors 的文件，或文件夹之外的文件。",
            name=INDEX,
        ),
        _SOURCE,
        str(index),
    )


def _missing_shard(path: Path, count: int) -> Problem:
    return Problem(
        "model.missing_shard",
        say(
            "{name} is missing; the model is made of {count} files.",
            "缺少 {name}；该模型共 {count} 个权重文件。",
            name=path.name,
            count=count,
        ),
        say("Download or copy this file too.", "请下载或复制该文件。"),
        str(path),
    )


def _no_weights(folder: Path) -> Problem:
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        return Problem(
            "model.pickled",
            say(
                "The weights are pickled ({name}), and opening a pickle can run any program that is hidden in it.",
                "权重是 pickle 格式（{name}），打开 pickle 可能会运行其中隐藏的任意程序。",
                name=pickled[0],
            ),
            say(
                "Choose a version of the model with safetensors; most hub models have one. "
                "Or, if you trust its source: lorimer models convert FOLDER",
                "请选择带 safetensors 的版本；hub 上多数模型都有。"
                "若信任其来源，也可运行：lorimer models convert 文件夹",
            ),
            str(folder / pickled[0]),
        )
    if next(folder.glob("*.gguf"), None) is not None:
        return Problem(
            "model.gguf",
            say("This is a GGUF: made for running, not for training.", "这是 GGUF：用于运行，不能用于训练。"),
            say("Choose the original model with safetensors.", "请选择带 safetensors 的原始模型。"),
            str(folder),
        )
    return Problem(
        "model.no_weights",
        say(
            "There are no weights: no safetensors file lies in {name}.",
            "没有权重：{name} 中没有 safetensors 文件。",
            name=folder.name,
        ),
        say(
            "Choose the folder that config.json and model.safetensors lie in.",
            "请选择包含 config.json 和 model.safetensors 的文件夹。",
        ),
        str(folder),
    )


def _compare(folder: Path, dims: ModelDims, headers: Mapping[str, Header], problems: list[Problem]) -> None:
    """Whether the weights are those that the config tells of, by the embedding and the number of layers."""
    tensors = {name: tensor for header in headers.values() for name, tensor in header.tensors.items()}
    embedding = next((t.shape for name, t in tensors.items() if name.endswith("embed_tokens.weight")), None)
    found = {int(match.group(1)) for name in tensors if (match := re.search(r"\blayers\.(\d+)\.", name))}
    wrong = embedding is not None and embedding != (dims.vocab, dims.hidden)
    if any(problem.code in ("model.missing_shard", "model.damaged", "model.quantised") for problem in problems):
        return
    whole = len(found) == dims.layers and found == set(range(len(found)))
    if not wrong and whole and embedding is not None:
        return
    problems.append(
        Problem(
            "model.mismatch",
            say(
                "config.json and the weights do not match: the first has {layers} layers and {vocab} × {hidden} "
                "embeddings, the weights have {found} layers and {shape}.",
                "config.json 与权重不匹配：前者写明 {layers} 层、嵌入 {vocab} × {hidden}，权重有 {found} 层、{shape}。",
                layers=dims.layers,
                vocab=dims.vocab,
                hidden=dims.hidden,
                found=len(found),
                shape=" × ".join(map(str, embedding)) if embedding else say("no embeddings", "没有嵌入"),
            ),
            say("Copy both from the same source.", "请从同一来源复制两者。"),
            str(folder / CONFIG),
        )
    )


# ------------------------------------------------------------------------------------------------------ the rest
def _tokenizer(folder: Path, problems: list[Problem]) -> None:
    from engine.data.tokenizer import TextTokenizer

    try:
        TextTokenizer.load(folder)
    except UserError as error:
        problems.append(error.problem)


def _adapter_only(folder: Path) -> UserError:
    return UserError(
        "model.adapter",
        say("{name} is an adapter, not a model.", "{name} 是适配器，不是模型。", name=folder.name),
        say("Choose the base model that it was trained on.", "请选择它所基于的基础模型。"),
        where=str(folder),
    )


def _unusable(folder: Path, problems: tuple[Problem, ...]) -> UserError:
    if len(problems) == 1:
        only = problems[0]
        return UserError(only.code, only.message, only.hint, where=only.where, problems=problems)
    return UserError(
        "model.unusable",
        say(
            "{name} cannot be used: {n} things are wrong.",
            "{name} 无法使用：有 {n} 处问题。",
            name=folder.name,
            n=len(problems),
        ),
        problems[0].message,
        where=str(folder),
        problems=problems,
    )
