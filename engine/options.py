"""The options of ``lorimer``: their names, bounds and help, in both languages."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from engine.export.targets import QUANTISATIONS, RECOMMENDED, TARGETS
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say
from engine.recipe.fields import bounds
from engine.recipe.recipe import DataSettings

LANGUAGES = ("en", "zh")
PROJECT = Path("lorimer-project")
LARGEST_SEED = 2**31 - 1

_HELP_TITLES = {"positional arguments": "位置参数", "options": "选项"}

# What argparse says of wrong options (its own sentences, Python 3.11 to 3.14), in Chinese.
_CHINESE: tuple[tuple[str, str], ...] = (
    (r"the following arguments are required: (.*)", r"缺少参数 \1"),
    (r"unrecognized arguments: (.*)", r"无法识别的参数 \1"),
    (r"argument (\S+): expected one argument", r"\1 需要一个值"),
    (r"argument (\S+): ignored explicit argument (.*)", r"\1 不带值（给出了 \2）"),
    (r"argument (\S+): invalid choice: (.*?) \(choose from (.*)\)", r"\1 不能是 \2，只能是 \3"),
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong as every other error is said, in ``language`` where it is help.

    An option's name is written out: what stands for ``--json`` and ``--lang`` is known before the rest is read.
    """

    def __init__(self, *, language: str = "en", **options: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=_formatter(language), **options)
        self.add_argument("-h", "--help", action="help", help=_HELP.in_language(language))

    def error(self, message: str) -> NoReturn:
        raise UserError(
            "usage",
            say("{message}.", "参数有误：{chinese}。", message=message, chinese=_in_chinese(message)),
            say("See: {program} --help", "参见：{program} --help", program=self.prog),
        )


_HELP = say("show this help and exit", "显示此帮助并退出")


def _formatter(language: str) -> type[argparse.HelpFormatter]:
    return _ChineseHelp if language.startswith("zh") else argparse.HelpFormatter


class _ChineseHelp(argparse.HelpFormatter):
    """argparse's own words in Chinese."""

    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "用法：" if prefix is None else prefix)

    def start_section(self, heading: str | None) -> None:
        super().start_section(_HELP_TITLES.get(heading or "", heading))


def _in_chinese(message: str) -> str:
    for pattern, chinese in _CHINESE:
        found = re.fullmatch(pattern, message)
        if found:
            return found.expand(chinese)
    return message


def language_of(given: list[str], otherwise: str = "en") -> str:
    """The language that the options ask for; read by itself, so that wrong options are told in it too."""
    for i, option in reversed(list(enumerate(given))):
        if option.startswith("--lang="):
            return option.partition("=")[2]
        if option == "--lang" and i + 1 < len(given):
            return given[i + 1]
    return otherwise


def number(
    option: str, kind: type[int] | type[float], least: float, most: float = math.inf, *, hint: Text
) -> Callable[[str], float]:
    """How an option's value is read: a number from ``least`` to ``most``.

    Args:
        hint: what to do instead of a value that is none.
    """

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and least <= value <= most:
            return value
        expected = _expected(kind, least, most)
        message = say(
            '{option} is "{given}", but must be {expected}.',
            "{option} 为“{given}”，必须是{expected}。",
            option=option,
            given=text[:60],
            expected=expected,
        )
        raise UserError("usage", message, hint)

    return read


def _expected(kind: type[int] | type[float], least: float, most: float) -> Text:
    word = say("a whole number", "整数") if kind is int else say("a number", "数字")
    if math.isinf(most):
        return say("{word} of at least {least:g}", "不小于 {least:g} 的{word}", word=word, least=least)
    return say(
        "{word} from {least} to {most}",
        "{least} 到 {most} 之间的{word}",
        word=word,
        least=f"{least:.0f}",
        most=f"{most:.0f}",
    )


def parser(language: str = "en") -> argparse.ArgumentParser:
    """The whole command line; ``command`` of what it reads is the command's name, "window" without any."""
    made = Parser(
        language=language,
        prog="lorimer",
        description=say("Fine-tune language models on this machine.", "在本机微调语言模型。").in_language(language),
    )
    made.set_defaults(command="window")
    _common(made, language)
    commands = made.add_subparsers(title=say("commands", "命令").in_language(language), metavar="COMMAND")
    for name, (about, add) in _COMMANDS.items():
        text = about.in_language(language)
        command = commands.add_parser(name, help=text, description=text, language=language)
        command.set_defaults(command=name)
        _common(command, language)
        if add is not None:
            add(command, language)
    return made


def _common(made: argparse.ArgumentParser, language: str) -> None:
    document = say("one JSON document on standard output", "向标准输出写一个 JSON 文档")
    made.add_argument("--json", action="store_true", help=document.in_language(language))
    sentences = say("language of the sentences", "提示所用的语言")
    made.add_argument("--lang", choices=LANGUAGES, help=sentences.in_language(language))


def _run_argument(made: argparse.ArgumentParser, language: str) -> None:
    about = say("a run's folder, as the command run prints it", "训练记录的文件夹，即 run 命令给出的路径")
    made.add_argument("run", type=Path, help=about.in_language(language))


def _project(made: argparse.ArgumentParser, language: str) -> None:
    made.add_argument(
        "--project", type=Path, default=PROJECT, help=say("project folder", "项目文件夹").in_language(language)
    )


def _seed(made: argparse.ArgumentParser, about: Text, language: str) -> None:
    hint = say("Leave it out for 42.", "省略则为 42。")
    read = number("--seed", int, 0, LARGEST_SEED, hint=hint)
    made.add_argument("--seed", type=read, default=42, help=about.in_language(language))


def _demo(made: argparse.ArgumentParser, language: str) -> None:
    _project(made, language)
    _seed(made, say("seed of the split and the run", "划分与训练的随机种子"), language)


def _data(made: argparse.ArgumentParser, language: str) -> None:
    title = say("data commands", "数据命令").in_language(language)
    commands = made.add_subparsers(title=title, metavar="COMMAND", required=True)
    for name, (words, fill) in _DATA.items():
        text = words.in_language(language)
        command = commands.add_parser(name, help=text, description=text, language=language)
        command.set_defaults(command=f"data {name}")
        _common(command, language)
        fill(command, language)


def _data_check(made: argparse.ArgumentParser, language: str) -> None:
    made.add_argument("file", type=Path, help=say("data file or folder", "数据文件或文件夹").in_language(language))
    model = say(
        "starter, a folder, or a hub id: token lengths are measured with it",
        "starter、文件夹或 hub 标识：用它来量词元长度",
    )
    made.add_argument("--model", default="", help=model.in_language(language))
    least, most = bounds(DataSettings, "max_length")
    hint = say("Leave it out for 512.", "省略则为 512。")
    read = number("--max-length", int, least or 1, most or math.inf, hint=hint)
    length = say("longest row in tokens", "一行最多的词元数").in_language(language)
    made.add_argument("--max-length", type=read, default=512, help=length)
    _reading(made, language)
    quality = say("look at what the texts say, too: takes longer", "同时检查文本内容：耗时更长").in_language(language)
    made.add_argument("--quality", action="store_true", help=quality)


def _reading(made: argparse.ArgumentParser, language: str) -> None:
    """How a file is read where what is found is not right."""
    shape = say("what the columns mean together; found if left out", "各列合起来的格式；省略则自动识别")
    made.add_argument("--shape", default="auto", help=shape.in_language(language))
    mapping = say("a column's meaning; may stand several times", "某列的含义；可写多次").in_language(language)
    made.add_argument("--map", type=_mapped, default=[], action="append", metavar="ROLE=COLUMN", help=mapping)
    encoding = say("text encoding; found if left out", "文本编码；省略则自动识别").in_language(language)
    made.add_argument("--encoding", default="auto", help=encoding)


def _mapped(text: str) -> tuple[str, str]:
    role, equals, column = text.partition("=")
    if not (role and equals and column):
        raise UserError(
            "usage",
            say("--map takes ROLE=COLUMN, not {text}.", "--map 的写法是 角色=列名，而不是 {text}。", text=text),
            say("For example: --map prompt=question", "例如：--map prompt=question"),
        )
    return role, column


def _data_prepare(made: argparse.ArgumentParser, language: str) -> None:
    recipe = say("recipe whose data are prepared", "要准备其数据的配方").in_language(language)
    made.add_argument("recipe", type=Path, help=recipe)
    out = say("folder that is written; made if absent", "写入的文件夹；不存在则新建").in_language(language)
    made.add_argument("--out", type=Path, required=True, help=out)


def _data_score(made: argparse.ArgumentParser, language: str) -> None:
    recipe = say("recipe whose training rows are scored", "要为其训练行评分的配方").in_language(language)
    made.add_argument("recipe", type=Path, help=recipe)
    run = say("a run whose tuned model scores; else the base model", "用哪次训练的微调模型评分；省略则用基础模型")
    made.add_argument("--run", type=Path, help=run.in_language(language))
    out = say("write all rows here, as JSON Lines", "把所有行的评分写到此文件（JSON Lines）").in_language(language)
    made.add_argument("--out", type=Path, help=out)


_DATA: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]] = {
    "check": (say("what a file holds and what of it trains", "文件里有什么，其中哪些能训练"), _data_check),
    "prepare": (say("write out what a recipe trains on", "写出配方将用于训练的数据"), _data_prepare),
    "score": (
        say("which rows are easy, hard or uncertain for a model", "哪些行对模型来说容易、困难或不确定"),
        _data_score,
    ),
}


def _models(made: argparse.ArgumentParser, language: str) -> None:
    _room(made, language)
    title = say("models commands", "模型命令").in_language(language)
    commands = made.add_subparsers(title=title, metavar="COMMAND")
    for name, (words, fill) in _MODELS.items():
        text = words.in_language(language)
        command = commands.add_parser(name, help=text, description=text, language=language)
        command.set_defaults(command=f"models {name}")
        _common(command, language)
        fill(command, language)


def _room(made: argparse.ArgumentParser, language: str) -> None:
    """What is asked whether it fits, and where."""
    read = number("--length", int, 16, hint=say("Leave it out for 512.", "省略则为 512。"))
    length = say("tokens of the longest row", "最长一行的词元数").in_language(language)
    made.add_argument("--length", type=read, default=512, help=length)
    hint = say("Leave it out to ask about this machine.", "省略则按本机判断。")
    memory = say("ask about a GPU with so many GiB; 0 for the CPU", "按有这么多 GiB 显存的 GPU 判断；0 表示 CPU")
    made.add_argument(
        "--gpu-memory", type=number("--gpu-memory", float, 0, hint=hint), help=memory.in_language(language)
    )


def _hub_id(made: argparse.ArgumentParser, language: str) -> None:
    about = say("a hub id: owner/name", "hub 标识：所有者/名称").in_language(language)
    made.add_argument("id", metavar="ID", help=about)


def _models_info(made: argparse.ArgumentParser, language: str) -> None:
    _hub_id(made, language)
    _room(made, language)


def _models_get(made: argparse.ArgumentParser, language: str) -> None:
    _hub_id(made, language)
    revision = say("commit, branch or tag; the newest if left out", "提交、分支或标签；省略则为最新")
    made.add_argument("--revision", default="", help=revision.in_language(language))


def _models_convert(made: argparse.ArgumentParser, language: str) -> None:
    about = say("folder with config.json and pytorch_model*.bin", "含 config.json 与 pytorch_model*.bin 的文件夹")
    made.add_argument("folder", type=Path, help=about.in_language(language))
    sure = say("you have read what opening pickled weights means", "已了解打开 pickle 权重的风险").in_language(language)
    made.add_argument("--yes", action="store_true", help=sure)


def _models_token(made: argparse.ArgumentParser, language: str) -> None:
    about = say("forget the token that is kept", "删除已保存的令牌").in_language(language)
    made.add_argument("--forget", action="store_true", help=about)


def _models_mirror(made: argparse.ArgumentParser, language: str) -> None:
    about = say("address of a mirror of the hub", "hub 镜像的地址").in_language(language)
    made.add_argument("address", nargs="?", default="", metavar="ADDRESS", help=about)
    forget = say("use the hub itself again", "恢复使用 hub 本身").in_language(language)
    made.add_argument("--forget", action="store_true", help=forget)


_MODELS: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]] = {
    "info": (say("what one model is, and what it takes to get it", "某个模型是什么，下载需要什么"), _models_info),
    "get": (say("download a model, or go on with its download", "下载模型，或继续未完成的下载"), _models_get),
    "convert": (
        say("write one model's pickled weights as safetensors", "把某个模型的 pickle 权重写成 safetensors"),
        _models_convert,
    ),
    "token": (say("keep the hub's token in the system's keyring", "把 hub 令牌存入系统密钥环"), _models_token),
    "mirror": (say("by which address the hub is reached", "通过哪个地址访问 hub"), _models_mirror),
}


def _plan(made: argparse.ArgumentParser, language: str) -> None:
    model = say("starter, a folder, or a hub id", "starter、文件夹或 hub 标识").in_language(language)
    made.add_argument("--model", required=True, help=model)
    data = say("data file; may stand several times", "数据文件；可写多次").in_language(language)
    made.add_argument("--data", type=Path, required=True, action="append", help=data)
    _reading(made, language)
    hint = say("Leave it out to plan for this machine.", "省略则按本机规划。")
    memory = say("plan for a GPU with so many GiB; 0 for the CPU", "按有这么多 GiB 显存的 GPU 规划；0 表示 CPU")
    read = number("--gpu-memory", float, 0, hint=hint)
    made.add_argument("--gpu-memory", type=read, help=memory.in_language(language))
    goal = say("what counts most", "最看重什么").in_language(language)
    made.add_argument("--wish", choices=("quality", "speed", "smallest"), default="quality", help=goal)
    task = say("what the rows teach; recognised if left out", "数据教的是什么；省略则自动识别").in_language(language)
    made.add_argument("--task", choices=("classification", "dialogue", "reasoning", "domain"), default="", help=task)
    out = say("write the recipe here", "把配方写到此文件").in_language(language)
    made.add_argument("--out", type=Path, help=out)


def _run(made: argparse.ArgumentParser, language: str) -> None:
    about = say("a recipe's TOML file", "配方的 TOML 文件").in_language(language)
    made.add_argument("recipe", type=Path, help=about)
    _project(made, language)


def _tell(made: argparse.ArgumentParser, language: str) -> None:
    _run_argument(made, language)
    about = say("free saves, ends the process and gives its memory back", "free：保存后结束进程并释放内存")
    made.add_argument("what", choices=["pause", "continue", "save", "free"], help=about.in_language(language))


def _stop(made: argparse.ArgumentParser, language: str) -> None:
    _run_argument(made, language)
    about = say("seconds that it may take to save before it is ended", "结束之前允许其保存的秒数")
    hint = say("Leave it out for a minute, or three steps.", "省略则为一分钟或三步的时间。")
    read = number("--patience", float, 0, 86400, hint=hint)
    made.add_argument("--patience", type=read, help=about.in_language(language))


def _rehearse(made: argparse.ArgumentParser, language: str) -> None:
    about = say("a recipe's TOML file", "配方的 TOML 文件").in_language(language)
    made.add_argument("recipe", type=Path, help=about)
    settle = say("where it fails, try the next recipe down until one holds", "失败时依次尝试更省内存的配方，直到通过")
    made.add_argument("--settle", action="store_true", help=settle.in_language(language))
    out = say("write the recipe that held here", "把通过排练的配方写到此文件").in_language(language)
    made.add_argument("--out", type=Path, help=out)


def _evaluate(made: argparse.ArgumentParser, language: str) -> None:
    _run_argument(made, language)
    hint = say("Leave it out for the recipe's number.", "省略则按配方中的行数。")
    about = say("at most so many rows", "最多评估这么多行").in_language(language)
    made.add_argument("--rows", type=number("--rows", int, 1, hint=hint), help=about)
    kept = say("measure nothing again: use what the last evaluation kept", "不再评估，使用上次评估保存的结果")
    made.add_argument("--kept", action="store_true", help=kept.in_language(language))
    report = say("write the report, one HTML file, there", "把报告（一个 HTML 文件）写到此处").in_language(language)
    made.add_argument("--report", type=Path, metavar="FILE", help=report)
    _judge_options(made, language)
    names = say("tasks of lm-evaluation-harness, with commas between", "lm-evaluation-harness 的任务名，用逗号分隔")
    made.add_argument("--tasks", default="", metavar="NAMES", help=names.in_language(language))
    folder = say("a folder of tasks of your own (YAML, data beside)", "自己的任务文件夹（YAML，数据在旁）")
    made.add_argument("--tasks-folder", type=Path, metavar="DIR", help=folder.in_language(language))
    most = say("at most so many questions a task; 0 for all", "每个任务最多这么多题；0 为全部").in_language(language)
    read = number("--limit", int, 0, hint=say("Leave it out for 200.", "省略则为 200。"))
    made.add_argument("--limit", type=read, default=200, help=most)


def _judge_options(made: argparse.ArgumentParser, language: str) -> None:
    where = say(
        "have a judge compare the answers: its address, such as https://api.example.com/v1",
        "请评审模型比较回答：其地址，如 https://api.example.com/v1",
    )
    made.add_argument("--judge", metavar="URL", help=where.in_language(language))
    model = say("the judge's model; left out for the recipe's", "评审模型的名称；省略则按配方").in_language(language)
    made.add_argument("--judge-model", default="", metavar="NAME", help=model)
    hint = say("Leave it out for the recipe's number.", "省略则按配方中的行数。")
    rows = say("at most so many rows are judged", "最多评判这么多行").in_language(language)
    made.add_argument("--judge-rows", type=number("--judge-rows", int, 1, hint=hint), help=rows)


def _judge_key(made: argparse.ArgumentParser, language: str) -> None:
    where = say("the judge's address; the key is sent to it alone", "评审模型的地址；密钥只发送到该地址")
    made.add_argument("address", help=where.in_language(language))
    about = say("forget the key that is kept", "删除已保存的密钥").in_language(language)
    made.add_argument("--forget", action="store_true", help=about)


def _chat(made: argparse.ArgumentParser, language: str) -> None:
    _run_argument(made, language)
    prompt = say("a question; several for several turns; line by line if left out", "提问，可写多次；省略则逐行询问")
    made.add_argument("--prompt", action="append", default=[], metavar="TEXT", help=prompt.in_language(language))
    adapter = say("another adapter of the base, or a run; several times", "同一基础模型的其他适配器或训练，可写多次")
    made.add_argument("--adapter", type=Path, action="append", default=[], help=adapter.in_language(language))
    gguf = say("an exported GGUF, through llama.cpp; may stand several times", "已导出的 GGUF，经 llama.cpp；可写多次")
    made.add_argument("--gguf", type=Path, action="append", default=[], metavar="FILE", help=gguf.in_language(language))
    system = say("system prompt; that of training if left out", "系统提示；省略则用训练时的")
    made.add_argument("--system", default=None, metavar="TEXT", help=system.in_language(language))
    _sampling(made, language)
    blind = say("judge answers without knowing whose they are", "在不知道来源的情况下评判回答").in_language(language)
    made.add_argument("--blind", action="store_true", help=blind)
    new = say("with --blind: begin anew instead of going on", "与 --blind 同用：重新开始而不是继续")
    made.add_argument("--new-test", action="store_true", help=new.in_language(language))
    out = say("write the conversation here (.md or .json)", "把对话写到此文件（.md 或 .json）").in_language(language)
    made.add_argument("--transcript", type=Path, metavar="FILE", help=out)


def _sampling(made: argparse.ArgumentParser, language: str) -> None:
    """How tokens are chosen; the same for every column."""
    _seed(made, say("start of the random numbers", "随机数的种子"), language)
    settings: tuple[tuple[str, type[int] | type[float], float, float, float, Text], ...] = (
        ("temperature", float, 0.0, 0, 10, say("0 is greedy", "0 为贪心")),
        ("top-p", float, 1.0, 0.001, 1, say("among the likeliest tokens of this share", "只取累计概率达到此值的词元")),
        ("top-k", int, 0, 0, math.inf, say("of so many likeliest tokens; 0 for all", "只取最可能的若干个；0 为全部")),
        ("min-p", float, 0.0, 0, 0.999, say("not below this share of the likeliest", "不取低于最可能者此比例的词元")),
        ("repetition-penalty", float, 1.0, 0.001, 10, say("above 1 repeats less", "大于 1 则减少重复")),
        ("max-new-tokens", int, 256, 1, math.inf, say("an answer is cut there", "回答在此处截断")),
    )
    for name, kind, default, least, most, about in settings:
        hint = say("Leave it out for {n:g}.", "省略则为 {n:g}。", n=default)
        read = number(f"--{name}", kind, least, most, hint=hint)
        made.add_argument(f"--{name}", type=read, default=kind(default), help=about.in_language(language))


def _merge(made: argparse.ArgumentParser, language: str) -> None:
    about = say(
        "a run's folder, as the command run prints it; left out for an adapter that was trained elsewhere",
        "训练记录的文件夹，即 run 命令给出的路径；合并在别处训练的适配器时省略",
    )
    made.add_argument("run", type=Path, nargs="?", help=about.in_language(language))
    elsewhere = say("an adapter's folder as PEFT writes it, instead of a run", "PEFT 适配器文件夹，代替训练记录")
    made.add_argument("--adapter", type=Path, metavar="DIR", help=elsewhere.in_language(language))
    original = say(
        "folder of the original 16-bit weights, where they are not those the run was trained on",
        "原始 16 位权重的文件夹；与训练时所用不同时指定",
    )
    made.add_argument("--base", type=Path, metavar="DIR", help=original.in_language(language))
    about = say("folder to write", "要写入的文件夹")
    made.add_argument("--out", type=Path, required=True, help=about.in_language(language))
    device = say("what computes; both give the same weights", "计算设备；两者得到的权重相同")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=device.in_language(language))


def _export(made: argparse.ArgumentParser, language: str) -> None:
    _run_argument(made, language)
    kind = say("what to write", "写什么").in_language(language)
    made.add_argument("--to", choices=tuple(TARGETS), default="gguf", help=kind)
    levels = tuple(name.lower() for name in QUANTISATIONS)
    precision = say("number format of a GGUF", "GGUF 的数值精度").in_language(language)
    # The program's own messages, and llama.cpp, write Q4_K_M.
    made.add_argument("--quantize", type=str.lower, choices=levels, default=RECOMMENDED.lower(), help=precision)
    about = say(
        "file or folder to write; in the run's own folder if left out", "要写入的文件或文件夹；省略则放在训练的文件夹中"
    )
    made.add_argument("--out", type=Path, help=about.in_language(language))
    name = say(
        "name in Ollama or LM Studio; made of the title if left out", "在 Ollama 或 LM Studio 中的名称；省略则取自标题"
    )
    made.add_argument("--name", default="", help=name.in_language(language))
    create = say("with --to ollama: have Ollama make the model, too", "与 --to ollama 同用：同时让 Ollama 创建模型")
    made.add_argument("--create", action="store_true", help=create.in_language(language))
    _context(made, say("with --to ollama: tokens of a conversation", "与 --to ollama 同用：对话的词元数"), language)
    publisher = say("with --to lmstudio: folder above the model's", "与 --to lmstudio 同用：模型上一级的文件夹名")
    made.add_argument("--publisher", default="lorimer", help=publisher.in_language(language))
    models = say("LM Studio's models folder; found if left out", "LM Studio 的模型文件夹；省略则自动查找")
    made.add_argument("--models-folder", type=Path, metavar="DIR", help=models.in_language(language))
    sources = say(
        "llama.cpp's sources: their converter is run for architectures that Lorimer does not write",
        "llama.cpp 源代码文件夹：对 Lorimer 不支持的架构运行其转换器",
    )
    made.add_argument("--llama-cpp", type=Path, metavar="DIR", help=sources.in_language(language))
    force = say("hand on a GGUF that failed its check", "即使核对未通过也交出 GGUF").in_language(language)
    made.add_argument("--force", action="store_true", help=force)


def _context(made: argparse.ArgumentParser, about: Text, language: str) -> None:
    hint = say("Leave it out for what the model knows, 8192 at most.", "省略则按模型支持的长度，最多 8192。")
    made.add_argument(
        "--context", type=number("--context", int, 16, 2**24, hint=hint), help=about.in_language(language)
    )


def _serve(made: argparse.ArgumentParser, language: str) -> None:
    what = say("a GGUF, or a run whose newest GGUF is served", "GGUF 文件，或训练（使用其最新的 GGUF）")
    made.add_argument("what", type=Path, metavar="FILE|RUN", help=what.in_language(language))
    hint = say("Leave it out for one that is free.", "省略则自动选择空闲端口。")
    port = say("port on this machine", "本机端口").in_language(language)
    made.add_argument("--port", type=number("--port", int, 1, 65535, hint=hint), help=port)
    key = say("made anew, typed by you (or piped in), or none", "新生成、由你输入（或经管道），或不设").in_language(
        language
    )
    made.add_argument("--key", choices=("new", "ask", "none"), default="new", help=key)
    _context(made, say("tokens of a conversation", "对话的词元数"), language)
    name = say("by which requests name the model; the file's if left out", "请求中使用的模型名；省略则取文件名")
    made.add_argument("--name", default="", help=name.in_language(language))
    stay = say("go on when this command ends", "命令结束后继续运行").in_language(language)
    made.add_argument("--stay", action="store_true", help=stay)
    force = say("also a GGUF that failed its check", "核对未通过的 GGUF 也使用").in_language(language)
    made.add_argument("--force", action="store_true", help=force)


def _servers(made: argparse.ArgumentParser, language: str) -> None:
    _inner_commands(made, "servers", say("servers commands", "服务器命令"), _SERVERS, language)


def _servers_stop(made: argparse.ArgumentParser, language: str) -> None:
    about = say("its address; all if left out", "其地址；省略则全部停止").in_language(language)
    made.add_argument("address", nargs="?", default="", metavar="ADDRESS", help=about)


def _upload(made: argparse.ArgumentParser, language: str) -> None:
    about = say("what was exported; several GGUFs may go together", "已导出的内容；多个 GGUF 可一起上传")
    made.add_argument("export", type=Path, nargs="+", metavar="EXPORT", help=about.in_language(language))
    repo = say("repository on the hub", "hub 上的仓库").in_language(language)
    made.add_argument("--repo", required=True, metavar="OWNER/NAME", help=repo)
    public = say("everybody may see it; else it is private", "所有人可见；省略则为私有").in_language(language)
    made.add_argument("--public", action="store_true", help=public)
    update = say("the repository may be there already", "仓库可以已存在").in_language(language)
    made.add_argument("--update", action="store_true", help=update)
    run = say("the run that it is of; found if left out", "它所属的训练；省略则自动查找").in_language(language)
    made.add_argument("--run", type=Path, metavar="RUN", help=run)
    force = say("also what failed its check", "核对未通过的内容也上传").in_language(language)
    made.add_argument("--force", action="store_true", help=force)


def _check(made: argparse.ArgumentParser, language: str) -> None:
    about = say("a GGUF, or the folder of merged weights or of an adapter", "GGUF 文件，或合并后权重、适配器的文件夹")
    made.add_argument("export", type=Path, metavar="EXPORT", help=about.in_language(language))
    run = say("the run that it is held against", "用来对照的训练").in_language(language)
    made.add_argument("--run", type=Path, required=True, metavar="RUN", help=run)
    base = say("GGUF of the base model, for a GGUF of an adapter", "基础模型的 GGUF，用于检查适配器的 GGUF")
    made.add_argument("--base-gguf", type=Path, metavar="FILE", help=base.in_language(language))


def _search(made: argparse.ArgumentParser, language: str) -> None:
    """Which runs of a project are listed, and in which order."""
    _project(made, language)
    words = say("words that its title, model, data, tags or note hold", "标题、模型、数据、标签或备注中的词")
    made.add_argument("--search", default="", metavar="WORDS", help=words.in_language(language))
    made.add_argument("--tag", default="", help=say("runs with this tag", "带此标签的训练").in_language(language))
    statuses = ("new", "training", "done", "stopped", "paused", "failed")
    made.add_argument("--status", default="", choices=statuses, help=say("how it stands", "状态").in_language(language))
    orders = ("newest", "oldest", "title", "loss", "gain", "size")
    order = say("what they are sorted by", "排序方式").in_language(language)
    made.add_argument("--sort", default="newest", choices=orders, help=order)


def _runs(made: argparse.ArgumentParser, language: str) -> None:
    _search(made, language)
    _inner_commands(made, "runs", say("runs commands", "训练记录命令"), _RUNS, language)


def _inner_commands(
    made: argparse.ArgumentParser,
    group: str,
    title: Text,
    inner: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]],
    language: str,
) -> None:
    commands = made.add_subparsers(title=title.in_language(language), metavar="COMMAND")
    for name, (words, fill) in inner.items():
        text = words.in_language(language)
        command = commands.add_parser(name, help=text, description=text, language=language)
        command.set_defaults(command=f"{group} {name}")
        _common(command, language)
        fill(command, language)


def _one_run(made: argparse.ArgumentParser, language: str) -> None:
    """A run by its folder, or by its name or number in the project."""
    about = say("a run's folder, or its number in the project", "训练记录的文件夹，或其在项目中的编号")
    made.add_argument("run", type=Path, help=about.in_language(language))
    _project(made, language)


def _runs_compare(made: argparse.ArgumentParser, language: str) -> None:
    about = say("two to six runs", "2 到 6 次训练").in_language(language)
    made.add_argument("run", type=Path, nargs="+", help=about)
    _project(made, language)


def _runs_tag(made: argparse.ArgumentParser, language: str) -> None:
    _one_run(made, language)
    made.add_argument("tags", nargs="*", metavar="TAG", help=say("tags to give", "要添加的标签").in_language(language))
    gone = say("take this tag away; may stand several times", "去掉此标签；可写多次").in_language(language)
    made.add_argument("--remove", action="append", default=[], metavar="TAG", help=gone)


def _runs_note(made: argparse.ArgumentParser, language: str) -> None:
    _one_run(made, language)
    about = say("the note; shown if left out, taken away if empty", "备注；省略则显示，为空则清除")
    made.add_argument("text", nargs="?", default=None, metavar="TEXT", help=about.in_language(language))


def _runs_rename(made: argparse.ArgumentParser, language: str) -> None:
    _one_run(made, language)
    about = say("what it is called from now on", "新的标题").in_language(language)
    made.add_argument("title", metavar="TITLE", help=about)


def _runs_delete(made: argparse.ArgumentParser, language: str) -> None:
    _one_run(made, language)
    only = say("only checkpoints, but the newest and the best", "只移除检查点，保留最新和最佳的").in_language(language)
    made.add_argument("--checkpoints", action="store_true", help=only)
    sure = say("do it; else only the sizes are told", "确认执行；否则只显示大小").in_language(language)
    made.add_argument("--yes", action="store_true", help=sure)


def _runs_continue(made: argparse.ArgumentParser, language: str) -> None:
    _one_run(made, language)
    hint = say("See: lorimer runs show RUN", "参见：lorimer runs show RUN")
    about = say("the checkpoint's step", "检查点的步数").in_language(language)
    made.add_argument("--step", type=number("--step", int, 0, hint=hint), required=True, help=about)
    title = say("what the new run is called", "新训练的标题").in_language(language)
    made.add_argument("--title", default="", help=title)


_RUNS: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]] = {
    "list": (say("the runs of a project", "项目中的训练"), _search),
    "show": (say("one run: figures, checkpoints, what its curve says", "某次训练：数据、检查点、曲线结论"), _one_run),
    "compare": (say("settings in which runs differ, and their figures", "几次训练不同的设置与结果"), _runs_compare),
    "tag": (say("give a run tags, or take them away", "为训练添加或去掉标签"), _runs_tag),
    "note": (say("put a note to a run", "为训练写备注"), _runs_note),
    "rename": (say("call a run something else", "重命名训练"), _runs_rename),
    "delete": (say("move a run, or its older checkpoints, to the trash", "把训练或其旧检查点移到回收站"), _runs_delete),
    "continue": (say("train on from any checkpoint, as a new run", "从任一检查点继续，作为新的训练"), _runs_continue),
}


def _project_commands(made: argparse.ArgumentParser, language: str) -> None:
    _inner_commands(made, "project", say("project commands", "项目命令"), _PROJECT, language)


def _project_folder(made: argparse.ArgumentParser, language: str) -> None:
    made.add_argument("folder", type=Path, help=say("project folder", "项目文件夹").in_language(language))


def _project_move(made: argparse.ArgumentParser, language: str) -> None:
    _project_folder(made, language)
    about = say("its new folder, absent or empty", "新的文件夹，不存在或为空").in_language(language)
    made.add_argument("target", type=Path, help=about)


_PROJECT: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]] = {
    "check": (say("what a project names that is not on this machine", "项目引用了哪些不在本机的内容"), _project_folder),
    "move": (say("move a project to another folder or disk", "把项目移到其他文件夹或磁盘"), _project_move),
}


def _queue(made: argparse.ArgumentParser, language: str) -> None:
    _inner_commands(made, "queue", say("queue commands", "队列命令"), _QUEUE, language)


def _nothing(made: argparse.ArgumentParser, language: str) -> None:
    """A command without options of its own."""


def _queue_add(made: argparse.ArgumentParser, language: str) -> None:
    _one_run(made, language)
    only = say("start it only if the one before is done", "仅当前一个完成时才启动").in_language(language)
    made.add_argument("--only-if-done", action="store_true", help=only)


def _queue_entry(made: argparse.ArgumentParser, language: str) -> None:
    about = say("its place from 1, or the run's folder or name", "其序号（从 1 起），或训练的文件夹或名称")
    made.add_argument("entry", metavar="ENTRY", help=about.in_language(language))


def _queue_move(made: argparse.ArgumentParser, language: str) -> None:
    _queue_entry(made, language)
    made.add_argument("way", choices=("up", "down"), help=say("which way", "方向").in_language(language))


_SERVERS: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]] = {
    "list": (say("the servers that run", "正在运行的服务器"), _nothing),
    "stop": (say("stop one, or all", "停止一个或全部"), _servers_stop),
}


_QUEUE: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None]]] = {
    "list": (say("what waits for its turn", "正在排队的训练"), _nothing),
    "add": (say("let a run wait for its turn", "让一次训练排队"), _queue_add),
    "remove": (say("take a run out of the queue", "把训练移出队列"), _queue_entry),
    "move": (say("move a run up or down", "上移或下移"), _queue_move),
    "run": (say("start what waits, one after the other", "依次启动排队的训练"), _nothing),
}


def _bundle(made: argparse.ArgumentParser, language: str) -> None:
    _run_argument(made, language)
    about = say("ZIP file to write; only shown if left out", "要写入的 ZIP 文件；省略则仅显示内容")
    made.add_argument("--out", type=Path, help=about.in_language(language))


_COMMANDS: dict[str, tuple[Text, Callable[[argparse.ArgumentParser, str], None] | None]] = {
    "demo": (say("the whole path on the starter model and its sample data", "用入门模型和示例数据走完全程"), _demo),
    "doctor": (say("what this machine has and what is wrong with it", "本机的配置与存在的问题"), None),
    "data": (say("look at data", "查看数据"), _data),
    "models": (say("models to start from, and which fit here", "可用的模型，以及哪些适合本机"), _models),
    "plan": (say("a recipe that fits this machine", "适合本机的配方"), _plan),
    "rehearse": (
        say("try a recipe for seconds: does it hold, how fast is it", "用几十秒试跑配方：能否跑通、有多快"),
        _rehearse,
    ),
    "run": (say("train as a recipe says", "按配方训练"), _run),
    "resume": (say("continue a run from its last checkpoint", "从最后的检查点续训"), _run_argument),
    "follow": (say("show a run that trains; Ctrl+C leaves it", "查看正在进行的训练；按 Ctrl+C 离开"), _run_argument),
    "tell": (say("tell a run to pause, continue, save or free its memory", "让训练暂停、继续、保存或释放内存"), _tell),
    "stop": (say("save what a run has learned and end it", "保存学到的内容并结束训练"), _stop),
    "runs": (say("find, compare and go on with runs", "查找、比较、继续训练"), _runs),
    "queue": (say("runs that wait for their turn", "排队等候的训练"), _queue),
    "project": (say("projects opened lately, and moving one", "最近的项目，以及移动项目"), _project_commands),
    "evaluate": (
        say("measure base against tuned on the held-out rows", "在留出数据上比较基础模型与微调模型"),
        _evaluate,
    ),
    "judge-key": (say("keep a judge's key in the system's keyring", "把评审模型的密钥存入系统密钥环"), _judge_key),
    "chat": (say("ask base and tuned the same", "向基础模型与微调模型提同样的问题"), _chat),
    "merge": (say("put the adapter into the 16-bit weights", "把适配器并入 16 位权重"), _merge),
    "export": (say("write what can be taken away", "写出可带走的成果"), _export),
    "serve": (
        say("let other programs ask an exported GGUF, by OpenAI's API", "让其他程序通过 OpenAI API 使用导出的 GGUF"),
        _serve,
    ),
    "servers": (say("servers that run", "正在运行的服务器"), _servers),
    "upload": (
        say("send an export to the hub, private unless you say otherwise", "把导出上传到 hub，默认私有"),
        _upload,
    ),
    "check": (say("hold an export against what was trained", "检查导出的成果是否与训练结果一致"), _check),
    "bundle": (say("what a report needs of a run, without the data", "反馈问题所需的信息，不含数据"), _bundle),
}
