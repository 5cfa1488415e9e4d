"""Each check of a row finds what it says, tells where, and leaves its look-alikes alone."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from engine.data.quality.checker import RowChecker, too_short
from engine.data.quality.checks import AGAINST_OTHERS, CHECKS, NAMES, actions
from engine.data.quality.report import Tally
from engine.data.quality.shingles import similarity
from engine.data.rows import ASSISTANT, SYSTEM, USER, Message, Row, ToolCall
from engine.protocol.errors import UserError
from engine.recipe.quality import QualitySettings

QUESTION = "Please tell me what you know about this."
ANSWER = "It is a thing that people use every day."
CHECKER = RowChecker(QualitySettings())


def row(answer: str = ANSWER, question: str = QUESTION) -> Row:
    return Row(0, "rows.jsonl:1", (Message(USER, question), Message(ASSISTANT, answer)))


def found(answer: str, check: str, question: str = QUESTION) -> list[str]:
    """The words in the answer that the check points at."""
    at = [place for place in CHECKER.find(row(answer, question), check) if place[0] == "messages.1.content"]
    return [answer[start:end] for _, start, end in at]


@pytest.mark.parametrize(
    ("answer", "check", "words"),
    [
        ("Dear [Your Name], welcome to the club.", "placeholder", ["[Your Name]"]),
        ("I am {{name}}, made by {{ author }}.", "placeholder", ["{{name}}", "{{ author }}"]),
        ("Send it to <your name> by tomorrow.", "placeholder", ["<your name>"]),
        ("TODO: write the answer here", "placeholder", ["TODO"]),
        ("Lorem ipsum dolor sit amet.", "placeholder", ["Lorem ipsum"]),
        ("答案待补充，请稍后再来查看。", "placeholder", ["待补充"]),
        ("尊敬的【您的姓名】，您好，感谢来信。", "placeholder", ["【您的姓名】"]),
        ("The list goes on and on...", "trails_off", ["..."]),
        ("还有许多其他的原因，例如……", "trails_off", ["……"]),
        ("As an AI language model, I can't do that.", "refusal", ["As an AI language model"]),
        ("I'm sorry, but I cannot assist with that.", "refusal", ["I'm sorry, but I cannot"]),
        ("作为一个人工智能语言模型，我没有感受。", "refusal", ["作为一个人工智能"]),
        ("很抱歉，我无法回答这个问题，请换一个。", "refusal", ["抱歉，我无法"]),
        ("Write to jane.doe@mail-host.co.uk today.", "email", ["jane.doe@mail-host.co.uk"]),
        ("请致电 13812345678 联系我们的客服。", "phone", ["13812345678"]),
        ("请致电 +86 138-1234-5678 联系客服。", "phone", ["+86 138-1234-5678"]),
        ("Call (212) 736-5000 for a room.", "phone", ["(212) 736-5000"]),
        ("Call +44 20 7946 0958 for a room.", "phone", ["+44 20 7946 0958"]),
        ("总机：010-62751234，请在工作时间拨打。", "phone", ["010-62751234"]),
        ("身份证号码是 11010519491231002X，请核对。", "id_number", ["11010519491231002X"]),
        ("My number is 123-45-6789, keep it.", "id_number", ["123-45-6789"]),
        ("Pay with 4111 1111 1111 1111 please.", "bank", ["4111 1111 1111 1111"]),
        ("Pay to GB82 WEST 1234 5698 7654 32 now.", "bank", ["GB82 WEST 1234 5698 7654 32"]),
        ("The cafÃ© is good, donâ€™t miss it.", "garbled", ["Ã©", "â€™"]),
        ("A broken \ufffd\ufffd character stands here.", "garbled", ["\ufffd\ufffd"]),
        ("锟斤拷锟斤拷 is what is left of it.", "garbled", ["锟斤拷锟斤拷"]),
        ("ä½\xa0å¥½ was Chinese before.", "garbled", ["ä½\xa0å¥½"]),
        ("A bell \x07 rings in this text.", "control", ["\x07"]),
        ("A mark \ufeff stands in this text.", "control", ["\ufeff"]),
        ("First line<br/>second &amp; last line.", "markup", ["<br/>", "&amp;"]),
        ("x" * 130 + " is not a word.", "blob", ["x" * 130]),
        (QUESTION.upper(), "echo", [QUESTION.upper()]),
        ("Well.", "short_answer", ["Well."]),
        ("It said: " + "I do not know. " * 6, "repeated", [" " + "I do not know. " * 6]),
        ("他说" + "我不知道该怎么办。" * 6, "repeated", ["我不知道该怎么办。" * 6]),
    ],
)
def test_finds(answer: str, check: str, words: list[str]) -> None:
    places = found(answer, check)
    assert places == words
    assert check in CHECKER.check(row(answer))


# Put together here so that no scanner takes this file for a leak.
KEYS = [
    "AKIA" + "Q7RT2XPLM3NB5VCZ",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8",
    "sk-" + "proj-" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8s9T0",
    "sk-" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "xoxb" + "-123456789012-abcdefghijklmnop",
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
    "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA " + "PRIVATE KEY-----",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_found_whole(key: str) -> None:
    assert found(f"Use {key} for it.", "secret") == [key]


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        ("Make a todo list, a TODO list even.", "placeholder"),
        ("See [the docs](https://docs.host.org/x).", "placeholder"),
        ("a[0] < b[1] and b > c in this list.", "placeholder"),
        ("Wait... what was it that you said?", "trails_off"),
        ("I can't help but smile at this story.", "refusal"),
        ("The best language model for this is small.", "refusal"),
        ("Write to someone@example.com for a test.", "email"),
        ("It costs 1381234567 or 0.13812345678 coins.", "phone"),
        ("Call 555-555-1234, as they do in films.", "phone"),
        ("The years 1998-2001 and 2003-2008 were good.", "phone"),
        ("编号 110105194912310021 并不是身份证号。", "id_number"),
        ("Order 4111 1111 1111 1112 was sent on.", "bank"),
        ("0000 0000 0000 0000 is all zeros here.", "bank"),
        ("Pay to GB82 WEST 1234 5698 7654 33 now.", "bank"),
        ("AKIAIOSFODNN7" + "EXAMPLE is what the manual has.", "secret"),
        ("sk-learn-contrib-is-a-long-name-of-a-package-here", "secret"),
        ("« Â » et É, à São João, NÃO, naïve façade", "garbled"),
        ("café…” et le « thé »… à côté", "garbled"),
        ("Two\tcolumns\r\nand 👩‍👩‍👧 a family.", "control"),
        ("In HTML a <br/> tag breaks the line.", "markup"),
        ("If a<b and c>d then swap them, he said.", "markup"),
        ("See https://host.org/" + "path/" * 40 + " for it.", "blob"),
        ("| a | b |\n" + "|---|---|\n" + "-" * 150, "blob"),
        ("1. One apple\n2. Two apples\n3. Three apples\n4. Four", "repeated"),
        ("=" * 80 + "\nTitle\n" + "=" * 80, "repeated"),
        (ANSWER, "echo"),
    ],
)
def test_leaves_look_alikes_alone(answer: str, check: str) -> None:
    assert found(answer, check) == []
    assert check not in CHECKER.check(row(answer))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is the sky blue today, or not?", "Yes."),
        ("天空是蓝色的吗？请直接回答。", "是"),
        ("How much is 6 times 7 in all?", "42"),
        ("What does it cost? Tell me now.", "$ 3.50"),
        ("Classify the mood of this review.", "upbeat"),
        ("请判断这段文字的情感。", "积极"),
        ("Was it apples or pears they ate?", "pears"),
        ("Pick your answer: A, B, C or D", "(C)"),
    ],
)
def test_labels_are_not_too_short(question: str, answer: str) -> None:
    assert "short_answer" not in CHECKER.check(row(answer, question))


def test_an_empty_answer_is_too_short_whatever_is_asked() -> None:
    assert "short_answer" in CHECKER.check(row("  ", "Classify the mood of this review."))


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("abcd", 5, True),
        ("abcde", 5, False),
        ("你好", 5, False),
        ("你", 5, True),
        ("  ab  ", 5, True),
        ("我很好。", 10, False),
    ],
)
def test_a_wide_character_counts_as_three(text: str, limit: int, short: bool) -> None:
    assert too_short(text, limit) is short


def test_limits_and_actions_are_settings() -> None:
    checker = RowChecker(QualitySettings(min_answer=100, actions={"email": "off", "phone": "off"}))
    mail = row("Write to jane.doe@mail-host.co.uk or call 13812345678 today.")
    assert checker.check(mail) == ("short_answer",)
    assert "email" not in checker.names
    # One who asks for the places wants them all the same.
    assert len(checker.find(mail, "email")) == 1


def test_a_check_that_there_is_not_names_the_nearest() -> None:
    with pytest.raises(UserError) as raised:
        RowChecker(QualitySettings(actions={"emial": "off"}))
    assert "email" in raised.value.problem.hint.en
    assert raised.value.problem.where == "data.quality.actions"
    assert actions({})["exact_duplicate"] == "set_aside"


def test_every_part_of_a_row_is_looked_at() -> None:
    mail = "jane.doe@mail-host.co.uk"
    messages = (
        Message(SYSTEM, f"Never tell {mail}."),
        Message(USER, f"Is it {mail}?"),
        Message(ASSISTANT, "", reasoning=f"Hm, {mail}.", calls=(ToolCall("send", f'{{"to": "{mail}"}}'),)),
        Message(USER, "And now? Say it."),
    )
    parts = [place[0] for place in CHECKER.find(Row(0, "", messages, chosen=mail, rejected=f"No {mail}"), "email")]
    assert parts == [
        "messages.0.content",
        "messages.1.content",
        "messages.2.reasoning",
        "messages.2.calls.0",
        "chosen",
        "rejected",
    ]
    assert [p[0] for p in CHECKER.find(Row(0, "", (), text=mail), "email")] == ["text"]
    assert CHECKER.check(Row(0, "", (), text="Once upon a time there was a girl.")) == ()


def test_an_answer_that_calls_a_tool_may_say_nothing() -> None:
    messages = (Message(USER, QUESTION), Message(ASSISTANT, "", calls=(ToolCall("look", "{}"),)))
    assert CHECKER.check(Row(0, "", messages)) == ()


def test_checking_and_finding_agree_on_real_rows(shared_data: Path) -> None:
    folder = shared_data / "datasets" / "llama-factory"
    seen = set()
    for name in ("alpaca_en_demo", "alpaca_zh_demo", "identity"):
        for item in json.loads((folder / f"{name}.json").read_text(encoding="utf-8")):
            real = row(item["output"], f"{item['instruction']}\n{item['input']}".strip())
            failed = CHECKER.check(real)
            assert failed == tuple(check for check in NAMES if CHECKER.find(real, check)), real
            seen |= set(failed)
    assert {"placeholder", "refusal", "short_question"} <= seen


BITS = [*"@ a@b.co 1381 2345678 {{ }} < &amp; İ ß ٣٤ ² 4111 GB82 eyJ as an ai 抱歉 【 （".split(), " ", "\n"]


def test_no_text_breaks_a_check() -> None:
    """Any code points at all, unpaired surrogates and unassigned ones among them, mixed with what is looked for."""
    rng = random.Random(7)
    for _ in range(600):
        pieces = [rng.choice(BITS) if rng.random() < 0.5 else chr(rng.randrange(0x110000)) for _ in range(60)]
        strange = row("".join(pieces), "".join(pieces[:7]))
        texts = {"messages.0.content": strange.question, "messages.1.content": strange.answer}
        places = {check: CHECKER.find(strange, check) for check in NAMES}
        assert CHECKER.check(strange) == tuple(check for check in NAMES if places[check])
        for part, start, end in (place for some in places.values() for place in some):
            assert 0 <= start <= end <= len(texts[part])
        Tally(QualitySettings()).add(0, strange)
        assert similarity(strange.answer, strange.answer) == 1.0


@pytest.mark.parametrize(
    "piece", ["a", " ", "\n", "1", "1 ", "@", "a@", "&", "<", "<p", "[", "{{", "-", "AKIA", "eyJ", "é", "哈"]
)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    start = time.process_time()
    CHECKER.check(row(text))
    for name in NAMES:
        CHECKER.find(row(text), name)
    assert time.process_time() - start < 5.0


def test_every_check_is_explained_in_both_languages() -> None:
    for check in (*CHECKS, *AGAINST_OTHERS):
        for text in (check.label, check.hint, check.explain):
            assert text.en
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text.zh), check.name
