"""The checks of a row: what each is called, what it means, and what is done by default.

Light: the window, the report and the docs list them from here; `engine.data.quality.find` does the work.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

if TYPE_CHECKING:  # helpers that scan files start sooner without it
    from engine.recipe.quality import Action, QualitySettings


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look for in a row.

    Attributes:
        name: key of the recipe's ``data.quality.actions``.
        label: a few words for a table or a chip.
        hint: what the user can do.
        explain: what exactly is found, and what is not.
        default: what happens to rows that have it.
    """

    name: str
    label: Text
    hint: Text
    explain: Text
    default: Action


_MASK = say("Mask it, or set the rows aside.", "请遮盖这些内容，或将这些行搁置。")
_MEND = say("Mend the rows, or set them aside.", "请修正这些行，或将其搁置。")

CHECKS: tuple[Check, ...] = (
    Check(
        "short_question",
        say("question too short", "提问过短"),
        say("Write the question in full, or set the rows aside.", "请将提问写完整，或将这些行搁置。"),
        say(
            "Fewer characters than the shortest question; a Chinese, Japanese or Korean one counts as three.",
            "字符数少于最短提问；一个中日韩字符按三个计算。",
        ),
        "flag",
    ),
    Check(
        "short_answer",
        say("answer too short", "回答过短"),
        say("Write the answer in full, or set the rows aside.", "请将回答写完整，或将这些行搁置。"),
        say(
            "Fewer characters than the shortest answer, unless it is a number, yes or no, one of the choices that the "
            "question names, an answer to a question for a label, or the answer of many rows.",
            "字符数少于最短回答。数字、是否、提问中列出的选项、分类标签以及许多行共有的回答除外。",
        ),
        "flag",
    ),
    Check(
        "placeholder",
        say("placeholder", "占位符"),
        say("Fill in what is meant, or set the rows aside.", "请填入实际内容，或将这些行搁置。"),
        say(
            "TODO, TBD, lorem ipsum, {{name}}, <your name>, [insert date], 待补充, 此处填写 and the like.",
            "TODO、TBD、lorem ipsum、{{name}}、<your name>、[insert date]、待补充、此处填写等。",
        ),
        "flag",
    ),
    Check(
        "trails_off",
        say("answer trails off", "回答未完"),
        say("Finish the answer, or set the rows aside.", "请补全回答，或将这些行搁置。"),
        say("The answer ends in … or three dots.", "回答以省略号结尾。"),
        "flag",
    ),
    Check(
        "refusal",
        say("refusal boiler-plate", "拒答套话"),
        say("Set the rows aside unless the model shall refuse so.", "除非希望模型这样拒答，否则请将这些行搁置。"),
        say(
            "The answer speaks of itself as a language model or refuses in a set phrase, near its beginning.",
            "回答开头自称语言模型，或用套话拒绝。",
        ),
        "flag",
    ),
    Check(
        "email",
        say("e-mail address", "电子邮箱"),
        _MASK,
        say(
            "An e-mail address, other than of the domains kept for examples (example.com).",
            "电子邮箱地址，示例专用域名（如 example.com）除外。",
        ),
        "flag",
    ),
    Check(
        "phone",
        say("phone number", "电话号码"),
        _MASK,
        say(
            "Chinese mobile and landline numbers, numbers with a country code, North American numbers.",
            "中国手机与固定电话号码、带国家代码的号码、北美号码。",
        ),
        "flag",
    ),
    Check(
        "id_number",
        say("identity number", "证件号码"),
        _MASK,
        say(
            "Chinese identity card numbers with a right check digit, and US social security numbers.",
            "校验位正确的中国居民身份证号，以及美国社会安全号。",
        ),
        "flag",
    ),
    Check(
        "bank",
        say("card or account number", "银行卡或账号"),
        _MASK,
        say(
            "Payment card numbers with a known prefix and a right check digit (Luhn), IBAN with a right checksum.",
            "前缀已知且校验位正确（Luhn）的银行卡号，以及校验正确的 IBAN。",
        ),
        "flag",
    ),
    Check(
        "secret",
        say("key or password", "密钥"),
        say("Mask it, and make a new key: this one is known.", "请遮盖并更换密钥：它已经泄露。"),
        say(
            "Keys of AWS, GitHub, GitLab, OpenAI, Anthropic, Slack, Google, Hugging Face and Stripe, private key "
            "blocks, JSON web tokens.",
            "AWS、GitHub、GitLab、OpenAI、Anthropic、Slack、Google、Hugging Face、Stripe 的密钥，"
            "私钥块，JSON Web Token。",
        ),
        "flag",
    ),
    Check(
        "garbled",
        say("broken characters", "乱码"),
        say("Read the file with its right encoding, or mend the rows.", "请用正确的编码读取文件，或修正这些行。"),
        say(
            "Text that was read with a wrong encoding: replacement characters, Ã©, â€™, 锟斤拷.",
            "以错误编码读取的文本：替换字符、Ã©、â€™、锟斤拷等。",
        ),
        "flag",
    ),
    Check(
        "control",
        say("control characters", "控制字符"),
        _MEND,
        say("Characters that nobody sees and no one means to teach.", "不可见、也不该教给模型的字符。"),
        "flag",
    ),
    Check(
        "markup",
        say("leftover HTML", "残留 HTML"),
        _MEND,
        say(
            "HTML tags and entities outside code, in rows that do not speak of code.",
            "代码之外的 HTML 标签和实体，且该行不涉及代码。",
        ),
        "flag",
    ),
    Check(
        "repeated",
        say("repeats itself", "内容循环"),
        say("Cut the answer before it loops, or set the rows aside.", "请在循环之前截断回答，或将这些行搁置。"),
        say(
            "A phrase follows itself at least four times over, 40 characters in all.",
            "同一短语连续出现至少四次，共 40 个字符以上。",
        ),
        "flag",
    ),
    Check(
        "echo",
        say("answer repeats the question", "回答照抄提问"),
        say("Write the answer, or set the rows aside.", "请写上回答，或将这些行搁置。"),
        say("The answer is the question again, letter case and spaces aside.", "除大小写和空格外，回答与提问相同。"),
        "flag",
    ),
    Check(
        "blob",
        say("data, not words", "并非文字的数据"),
        _MEND,
        say(
            "A run of more than 120 characters without a space that is no web address: base64, hashes, minified code.",
            "超过 120 个字符且没有空格、也不是网址的内容：base64、哈希、压缩代码等。",
        ),
        "flag",
    ),
)
"""Every check of a row, in the order of the report."""

AGAINST_OTHERS: tuple[Check, ...] = (
    Check(
        "exact_duplicate",
        say("exact duplicate", "完全重复"),
        say("Nothing is lost: the first one is used.", "没有损失：保留了第一条。"),
        say("The same row again.", "与之前的某行完全相同。"),
        "set_aside",
    ),
    Check(
        "near_duplicate",
        say("near duplicate", "近似重复"),
        say("Keep one of each group unless the differences matter.", "除非差异很重要，否则每组保留一条。"),
        say(
            "So many word triples (in Chinese: runs of five characters) of question and answer are those of an earlier "
            "row as the setting says. Letter case, punctuation and spaces make no difference.",
            "提问与回答的三词组（中文为五字组）与之前某行的重合度达到所设的值。大小写、标点和空格不计。",
        ),
        "flag",
    ),
    Check(
        "leak",
        say("near a held-out row", "与留出行近似"),
        say("What is measured must not be trained on.", "用于评估的内容不应参与训练。"),
        say("The question nearly repeats that of a held-out row.", "提问与某条留出行近似。"),
        "flag",
    ),
)
"""Checks of a row against all others."""

NAMES: tuple[str, ...] = tuple(check.name for check in CHECKS)
BIT: dict[str, int] = {name: 1 << place for place, name in enumerate(NAMES)}
BY_NAME: dict[str, Check] = {check.name: check for check in (*CHECKS, *AGAINST_OTHERS)}


def actions(chosen: Mapping[str, Action]) -> dict[str, Action]:
    """What happens to the rows of each check, where ``chosen`` has some of its own.

    Raises:
        UserError: ``chosen`` names a check that there is not.
    """
    for name in chosen:
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, 1)
            raise UserError(
                "recipe.unknown_check",
                say("There is no check called {name}.", "没有名为 {name} 的检查项。", name=name),
                say("Did you mean {near}?", "是否想写 {near}？", near=near[0])
                if near
                else say("There are: {names}.", "可用的有：{names}。", names=", ".join(BY_NAME)),
                where="data.quality.actions",
            )
    return {**{name: check.default for name, check in BY_NAME.items()}, **chosen}


def sets_aside(settings: QualitySettings) -> bool:
    """Whether rows are set aside for their quality; those that are the same are always looked for."""
    chosen = actions(settings.actions)
    return any(action == "set_aside" for name, action in chosen.items() if name != "exact_duplicate")
