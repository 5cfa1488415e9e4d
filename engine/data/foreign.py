"""Files that hold no training data, told by what they hold: settings, lists of data sets, maps, notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

# (columns that must be there, at least one of these, what the file is)
_SIGNS: tuple[tuple[tuple[str, ...], tuple[str, ...], Text], ...] = (
    (("name", "version"), ("dependencies", "devDependencies", "scripts"), say("a package's description", "软件包描述")),
    ((), ("architectures", "model_type", "quantization_config"), say("a model's settings", "模型配置")),
    (("peft_type",), (), say("an adapter's settings", "适配器配置")),
    (("tokenizer_class",), (), say("a tokenizer's settings", "分词器配置")),
    (("added_tokens", "model"), (), say("a tokenizer", "分词器")),
    (("weight_map",), (), say("an index of a model's weights", "模型权重索引")),
    (("log_history", "global_step"), (), say("the log of a training run", "训练日志")),
    (("type", "geometry"), (), say("a map (GeoJSON)", "地图（GeoJSON）")),
    (("type", "features"), (), say("a map (GeoJSON)", "地图（GeoJSON）")),
    (("type", "coordinates"), (), say("a map (GeoJSON)", "地图（GeoJSON）")),
    (("cell_type", "source"), (), say("a notebook", "笔记本（notebook）")),
    (("nbformat",), (), say("a notebook", "笔记本（notebook）")),
    (("openapi", "paths"), (), say("the description of a web service", "网络服务描述")),
    (("$schema",), ("properties", "definitions", "$defs"), say("a JSON schema", "JSON 模式")),
    (("compilerOptions",), (), say("a compiler's settings", "编译器配置")),
    (("splits", "features"), (), say("the description of a data set, not its rows", "数据集的描述，而不是数据行")),
    (
        ("_data_files", "_fingerprint"),
        (),
        say("the description of a data set, not its rows", "数据集的描述，而不是数据行"),
    ),
)
_LISTS = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


def refuse_foreign(sample: Sequence[Mapping[str, Any]], columns: Sequence[str], where: str) -> None:
    """Raise `UserError` where the file is a known kind of file without rows to learn from.

    Args:
        sample: some of its records.
        columns: names of all of its columns.
        where: the file's name.
    """
    if not sample:
        return
    first = sample[0]
    listed = [value for value in first.values() if isinstance(value, Mapping) and not value.keys().isdisjoint(_LISTS)]
    if len(listed) * 2 > len(first):
        raise _list_of_files(listed, where)
    if "input_ids" in first:
        raise _refused(
            where,
            say("token numbers, not text", "词元编号，而不是文本"),
            say("Choose the file that it was made from.", "请选择生成它的原始文件。"),
        )
    present = set(columns)
    for needed, some, what in _SIGNS:
        if present.issuperset(needed) and (not some or not present.isdisjoint(some)):
            raise _refused(where, what, say("Choose a file with rows of text.", "请选择包含文本数据行的文件。"))


def _list_of_files(listed: Sequence[Mapping[str, Any]], where: str) -> UserError:
    files = [str(value["file_name"]) for value in listed if isinstance(value.get("file_name"), str)]
    hint = (
        say("Choose one of the files it names: {files}.", "请选择其中列出的文件：{files}。", files=", ".join(files[:4]))
        if files
        else say("Choose one of the data sets it names.", "请选择其中列出的数据集。")
    )
    return _refused(where, say("a list of data sets, not their rows", "数据集清单，而不是数据行"), hint)


def _refused(where: str, what: Text, hint: Text) -> UserError:
    return UserError(
        "data.not_training_data",
        say("{where} holds {what}.", "{where} 中是{what}。", where=where, what=what),
        hint,
        where=f"{where}:1",
    )
