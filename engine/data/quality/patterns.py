"""What the checks look for in a text: each function gives the places, as (start, end) pairs.

Nothing here backtracks without bound: repetitions are limited, and a match starts only where a word does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Places = list[tuple[int, int]]

# ------------------------------------------------------------------------------------------------ words and phrases
_PLACEHOLDER = re.compile(
    r"\b(?:TODO|TBD|FIXME|XXXX+)\b(?! list)"
    r"|(?i:\blorem ipsum\b)"
    r"|\{\{ ?[A-Za-z_][\w. ]{0,40}\}\}"
    r"|(?i:<(?:your|insert|enter|add)[ _-][\w '/-]{1,40}>)"
    r"|(?i:\[(?:your|insert|enter|add|fill in|recipient|company|sender)(?:['’]s)?[ _][^\]\n]{1,60}\])"
    r"|(?i:\[(?:name|date|address|city|company|signature|title|email|phone)\])(?!\()"
    r"|[\[(<](?:你的|您的|请输入|请填写|在此|此处)[^\])>\n]{1,30}[\])>]"
)
_PLACEHOLDER_CHINESE = re.compile(
    r"[【（](?:你的|您的|请输入|请填写|在此|此处)[^】）\n]{1,30}[】）]"
    r"|待补充|待完善|待填写|待定稿|此处填写|此处省略|在此处?(?:填写|输入|插入)|[\[【（(](?:姓名|日期|地址|公司名称?|名字)[\]】）)]"
)
_PLACEHOLDER_HINTS = ("todo", "tbd", "fixme", "xxxx", "lorem", "{{", "<", "[")
_PLACEHOLDER_HINTS_CHINESE = ("待补", "待完", "待填", "待定", "此处", "在此", "【", "（")
_REFUSAL = re.compile(
    r"\bas an? (?:large |artificial intelligence |ai |machine )*(?:language model|ai|virtual assistant)\b"
    r"(?! (?:assistant |model )?(?:developed|created|trained|made|designed|built) by)"
    r"|\bi(?:['’]m| am) (?:just |only )?an? (?:large |ai )*language model\b"
    r"|\bi(?:['’]m| am) (?:very |so |really )?(?:sorry|afraid),? (?:but )?(?:as an ai|(?:that )?i"
    r" (?:can(?:not|['’]t| not)|am (?:unable|not able)|['’]m (?:unable|not able)|do(?:n['’]t| not) (?:have|know)))"
    r"|\bi(?: can(?:not|['’]t| not)|(?:['’]m| am) (?:unable to|not able to)) (?:provide|assist|help(?! but)"
    r"|fulfill|comply|answer|create|generate|support|complete|access|browse|engage|respond|process|recommend|offer|give|perform|edit)"
    r"|\bi do(?:n['’]t| not) have (?:personal|access to|the (?:ability|capability)|feelings|emotions"
    r"|enough information)"
)
_REFUSAL_CHINESE = re.compile(
    r"作为(?:一个|一名|一款|一种)?(?:大型|基于)?(?:人工智能|ai|语言模型|虚拟助手|大模型|聊天机器人)"
    r"|我(?:只)?是(?:一个|一名|一款)?(?:ai|人工智能|语言模型)[^，。\n]{0,12}[，,。]?[^。\n]{0,6}(?:无法|不能|没有)"
    r"|(?:抱歉|对不起|不好意思)[，,。！!]?(?:但)?(?:是)?我(?:们)?(?:目前|现在|暂时|并)?(?:无法|不能|没有|没办法|不会)"
    r"|我(?:无法|不能)(?:提供|回答|满足|协助|帮助|执行|访问|生成|完成|处理|为您|为你)"
)
_REFUSAL_HINTS = ("language model", "as an ai", "as a", "sorry", "afraid", "i can", "able to", "i do")
_REFUSAL_HINTS_CHINESE = ("作为", "我是", "我只是", "抱歉", "对不起", "不好意思", "我无法", "我不能")
_REFUSAL_WITHIN = 300
DOTS = ("...", "…", "。。。")


def may_hold_placeholder(text: str, lower: str, ascii_only: bool) -> bool:
    """Whether it is worth while to look."""
    for hint in _PLACEHOLDER_HINTS:
        if hint in lower:
            return True
    return not ascii_only and any(hint in text for hint in _PLACEHOLDER_HINTS_CHINESE)


def placeholders(text: str) -> Places:
    """TODO and the like."""
    lower = text.lower()
    found = _spans(_PLACEHOLDER, text) if any(hint in lower for hint in _PLACEHOLDER_HINTS) else []
    return found if text.isascii() else sorted(found + _spans(_PLACEHOLDER_CHINESE, text))


def may_refuse(answer: str) -> bool:
    """Whether it is worth while to look."""
    head = answer[:_REFUSAL_WITHIN].lower()
    for hint in _REFUSAL_HINTS:
        if hint in head:
            return True
    return not head.isascii() and any(hint in head for hint in _REFUSAL_HINTS_CHINESE)


def refusals(answer: str) -> Places:
    """Set phrases near the beginning of an answer."""
    head = answer[:_REFUSAL_WITHIN]
    lower = head.lower()
    # Places in the lower-case text hold for the text itself, unless a letter grew (İ).
    text = lower if len(lower) == len(head) else head
    found = _spans(_REFUSAL, text) if any(hint in lower for hint in _REFUSAL_HINTS) else []
    return found if text.isascii() else sorted(found + _spans(_REFUSAL_CHINESE, text))


def trailing_dots(answer: str) -> Places:
    """The dots with which an answer breaks off."""
    text = answer.rstrip()
    if not text.endswith(DOTS):
        return []
    return [(len(text.rstrip(".…。 ")), len(text))]


# ------------------------------------------------------------------------------------------------- people and keys
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+/:-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![A-Za-z0-9-])"
)
# RFC 2606 and 6761 keep these for examples.
_EXAMPLE_DOMAIN = re.compile(r"@(?:.*\.)?(?:example(?:\.\w+)?|test|invalid|localhost)$", re.IGNORECASE)
_DIGITS = re.compile(r"\d(?:[-\s().]{0,2}\d){6}")
_PHONE = re.compile(
    r"(?<![\d.\w-])(?:\+?86[- ]?)?1[3-9]\d(?:[- ]?\d{4}){2}(?!\d|\.\d|-\d)"
    r"|(?<![\d.\w-])0\d{2,3}-\d{7,8}(?!\d|-\d)"
    r"|(?<![\w+.])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}(?!\d)"
    r"|(?<![\d.\w-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}(?!\d|-\d)"
)
_ID = re.compile(
    r"(?<!\d)[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\dA-Za-z])"
    r"|(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\d-])"
)
_CARD = re.compile(r"(?<![\d.])(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![ -]?\d|\.\d)")
# Visa, Mastercard, American Express, Discover, UnionPay, JCB, with the lengths of their numbers.
_CARD_PREFIX = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(?:011|5\d\d)\d{12}|62\d{14,17}|35\d{14}"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}(?![A-Za-z0-9])"
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,255}"
    r"|sk-(?=[A-Za-z_-]{0,60}\d)(?:[a-z]{2,8}[0-9]{0,2}-){0,2}[A-Za-z0-9_-]{32,255}"
    r"|xox[abposr]-[0-9A-Za-z-]{20,255}|AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])|hf_[A-Za-z]{34}(?![A-Za-z0-9])"
    r"|[sr]k_live_[0-9A-Za-z]{16,255}|eyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{8,1024})"
    r"|-----BEGIN (?:[A-Z]{2,12} ){0,3}PRIVATE KEY-----"
    r"(?:[A-Za-z0-9+/=\s:,-]{0,8192}?-----END (?:[A-Z]{2,12} ){0,3}PRIVATE KEY-----)?"
)
_SECRET_HINTS = tuple(
    "AKIA ASIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- sk- xox AIza hf_ k_live_ eyJ PRIVATE".split()
)


def may_hold_number(text: str) -> bool:
    """Whether seven digits stand close enough to be a phone, identity, card or account number."""
    return _DIGITS.search(text) is not None


def emails(text: str) -> Places:
    """E-mail addresses."""
    return _spans(_EMAIL, text, lambda found: not _EXAMPLE_DOMAIN.search(found))


def phones(text: str) -> Places:
    """Phone numbers."""
    return _spans(_PHONE, text, _is_phone)


def _is_phone(found: str) -> bool:
    digits = _only_digits(found)
    # 555 is kept for fiction in North America.
    fiction = "555" in (digits[-10:-7], digits[-7:-4]) and not found.startswith(("+86", "86"))
    return 8 <= len(digits) <= 15 and not (len(digits) <= 11 and fiction and digits[0] != "0")


def id_numbers(text: str) -> Places:
    """Identity numbers."""
    return _spans(_ID, text, lambda found: "-" in found or _is_chinese_id(found))


def _is_chinese_id(found: str) -> bool:
    """Check digit of GB 11643-1999."""
    total = sum(int(digit) * weight for digit, weight in zip(found, _ID_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == found[-1].upper()


def bank_numbers(text: str) -> Places:
    """Card and account numbers."""
    found = _spans(_CARD, text, _is_card) + _spans(_IBAN, text, _is_iban)
    return sorted(found)


def _is_card(found: str) -> bool:
    digits = _only_digits(found)
    return _CARD_PREFIX.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    """Check digit of ISO/IEC 7812-1."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _is_iban(found: str) -> bool:
    """Checksum of ISO 13616."""
    plain = found.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _only_digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def may_hold_secret(text: str) -> bool:
    """Whether it is worth while to look."""
    for hint in _SECRET_HINTS:  # noqa: SIM110  a generator takes three times as long
        if hint in text:
            return True
    return False


def secrets(text: str) -> Places:
    """Keys of services, private keys, tokens."""
    return _spans(_SECRET, text)


# ---------------------------------------------------------------------------------------------------- broken text
# What UTF-8 bytes 0x80 to 0xBF look like in Windows-1252 and Latin-1.
_TAIL = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_GARBLED = re.compile(
    rf"\ufffd+|[ÂÃ][{_TAIL}](?<!Â[»«])|â€[{_TAIL}]?|â[\u0080-\u009f]|ï»¿|ðŸ[{_TAIL}]{{2}}"
    rf"|(?:[ä-éã][{_TAIL}]{{2}}){{2,200}}|(?:锟斤拷|烫烫|屯屯){{1,200}}"
)
_GARBLED_HINT = re.compile("[ÂÃâãïðä-é\ufffd锟烫屯]")
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2060-\u206f\ufeff\ue000-\uf8ff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]+"
)
_CONTROL_ASCII = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKUP = re.compile(
    r"</?(?:p|br|div|span|b|i|u|a|li|ul|ol|strong|em|h[1-6]|img|table|tbody|tr|td|th|font|sup|sub|center|blockquote"
    r"|body|script|style)(?:\s[^<>\n=]{1,40}=[^<>\n]{0,300})?\s?/?>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|ldquo|rdquo|lsquo|rsquo|mdash|ndash|hellip|middot|copy|#\d{2,5}"
    r"|#[xX][0-9a-fA-F]{2,5});",
    re.IGNORECASE,
)
_ABOUT_CODE = re.compile(
    r"html|css|xml|svg|markup|\btags?\b|javascript|jsx|php|web ?(?:page|site)|\bcode\b|snippet"
    r"|网页|网站|标签|代码|```|<!doctype",
    re.IGNORECASE,
)
_WORD = re.compile(r"[!-~]{121,}")
LONGEST_WORD = 120


def may_be_garbled(text: str) -> bool:
    """Whether it is worth while to look."""
    return _GARBLED_HINT.search(text) is not None


def garbled(text: str) -> Places:
    """Text read with a wrong encoding."""
    return _spans(_GARBLED, text)


def may_hold_control(text: str, ascii_only: bool) -> bool:
    """Whether there is a control character. A zero-width joiner is none: emoji and some scripts need it."""
    return (_CONTROL_ASCII if ascii_only else _CONTROL).search(text) is not None


def controls(text: str) -> Places:
    """Control characters, private and unpaired code points."""
    return _spans(_CONTROL, text)


def markup(text: str) -> Places:
    """HTML tags and entities."""
    return _spans(_MARKUP, text)


def speaks_of_code(text: str) -> bool:
    """Whether tags in it are meant."""
    return _ABOUT_CODE.search(text) is not None


def may_hold_blob(text: str) -> bool:
    """Whether there is a long run without a space."""
    words = text.split()
    return bool(words) and max(map(len, words)) > LONGEST_WORD


def blobs(text: str) -> Places:
    """Runs of letters and digits that are no words."""
    return _spans(_WORD, text, lambda found: "://" not in found and sum(map(str.isalnum, found)) * 2 > len(found))


# ------------------------------------------------------------------------------------------------------------ loops
_PROBES = 9
_STEP = 20  # of the probes in a short text: no loop that is long enough falls between two
_PROBE = 10
_LONGEST_PHRASE = 400
_TIMES = 4
_LONG_ENOUGH = 40


def loop(text: str) -> Places:
    """A phrase that follows itself at least four times over, if it fills at least a ninth of the text or so.

    Nine short probes are sought in what follows them, which is fast; only one that occurs again is followed up.
    """
    length = len(text)
    if length < _LONG_ENOUGH:
        return []
    for at in range(0, length - _PROBE, max(_STEP, length // _PROBES)):
        probe = text[at : at + _PROBE]
        again = text.find(probe, at + 1, at + 1 + _LONGEST_PHRASE + _PROBE)
        if again < 0 or not any(map(str.isalpha, text[at:again])):
            continue
        start, end = _run(text, at, again - at)
        if end - start >= max(_LONG_ENOUGH, _TIMES * (again - at)):
            return [(start, end)]
    return []


def _run(text: str, at: int, period: int) -> tuple[int, int]:
    """The longest stretch around ``at`` that repeats itself after ``period`` characters."""
    start = end = at
    while start > 0 and text[start - 1] == text[start - 1 + period]:
        start -= 1
    last = len(text) - period
    while end < last and text[end] == text[end + period]:
        end += 1
    return start, end + period


def _spans(pattern: re.Pattern[str], text: str, wanted: Callable[[str], bool] | None = None) -> Places:
    return list(_matches(pattern, text, wanted))


def _matches(pattern: re.Pattern[str], text: str, wanted: Callable[[str], bool] | None) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        if wanted is None or wanted(match.group()):
            yield match.span()
