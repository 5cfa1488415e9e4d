"""Languages, habits of answers, and the report that counts them and everything else."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.data.quality.duplicates import Leaks, near_duplicates
from engine.data.quality.groups import exact_duplicates
from engine.data.quality.language import UNKNOWN, language_of, language_of_row
from engine.data.quality.report import Report, Tally, compared_text
from engine.data.quality.style import BIT, style_of
from engine.data.rows import ASSISTANT, USER, Message, Row
from engine.recipe.quality import QualitySettings


def row(question: str, answer: str) -> Row:
    return Row(0, "rows.jsonl:1", (Message(USER, question), Message(ASSISTANT, answer)))


def tallied(rows: list[Row], settings: QualitySettings | None = None, start: int = 0) -> Tally:
    tally = Tally(settings or QualitySettings())
    for index, item in enumerate(rows, start):
        tally.add(index, item)
    return tally


# -------------------------------------------------------------------------------------------------------- language
@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The weather is fine today and we are going to the beach with the children.", "en"),
        ("今天天气很好，我们带孩子们去海边。", "zh"),
        ("请用 Python 写一个函数，返回两个数字的和。", "zh"),
        ("今日は天気がいいので、子供たちと海へ行きます。", "ja"),
        ("오늘은 날씨가 좋아서 아이들과 바다에 갑니다.", "ko"),
        ("Il fait beau aujourd'hui et nous allons à la plage avec les enfants dans une voiture.", "fr"),
        ("Das Wetter ist heute schön und wir gehen mit den Kindern an den Strand.", "de"),
        ("Hoy hace buen tiempo y vamos a la playa con los niños, pero también está el perro.", "es"),
        ("Oggi il tempo è bello e andiamo in spiaggia con i bambini, che sono molto felici.", "it"),
        ("Hoje o tempo está bom e nós vamos à praia com as crianças, que não são muito grandes.", "pt"),
        ("Сегодня хорошая погода, и мы едем на море с детьми, потому что они это любят.", "ru"),
        ("Dzisiaj jest ładna pogoda i jedziemy z dziećmi nad morze, bo bardzo to lubią.", "pl"),
        ("Hôm nay trời đẹp và chúng tôi đi biển cùng các con.", "vi"),
        ("Σήμερα ο καιρός είναι καλός και πάμε στη θάλασσα.", "el"),
        ("วันนี้อากาศดีและเราจะไปทะเลกับเด็กๆ", "th"),
        ("اليوم الطقس جميل ونحن ذاهبون إلى البحر مع الأطفال.", "ar"),
        ("1 + 1 = 2", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


def test_the_language_of_a_row_is_that_of_its_answer() -> None:
    assert (
        language_of_row(
            row(
                "Translate to Chinese: good morning",
                "早上好，希望你今天过得愉快，一切都顺利，工作也不太忙，晚上早点回家。",
            )
        )
        == "zh"
    )
    # "42" has none: then the question tells.
    assert language_of_row(row("What is the answer to all of the questions that we have?", "42")) == "en"


def test_demo_files_are_in_their_languages(shared_data: Path) -> None:
    for name, language in (("alpaca_en_demo", "en"), ("alpaca_zh_demo", "zh")):
        path = shared_data / "datasets" / "llama-factory" / f"{name}.json"
        items = json.loads(path.read_text(encoding="utf-8"))
        right = sum(language_of_row(row(item["instruction"], item["output"])) == language for item in items)
        # Some Chinese rows ask for English or code.
        assert right / len(items) >= (0.98 if language == "en" else 0.95)


def test_the_same_language_in_every_process(repository: Path) -> None:
    code = (
        "from engine.data.quality.language import language_of as f;"
        "print(f('Zažívám krásný den u moře'), f('En dag på stranden med familjen'))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


# ----------------------------------------------------------------------------------------------------------- style
@pytest.mark.parametrize(
    ("answer", "habits"),
    [
        ("The answer is given in the book that you have.", {"ends_closed"}),
        ("The answer is given in the book that you have", {"ends_open"}),
        ("Yes", set()),
        (
            "你可以在书里找到答案，这对学习也很有帮助，请认真阅读第三章的全部内容。",
            {"familiar", "ends_closed", "simplified"},
        ),
        ("您可以在书里找到答案，这对学习也很有帮助，请认真阅读第三章的全部内容", {"polite", "ends_open", "simplified"}),
        ("您好，你可以看书。", {"both_you", "simplified"}),
        ("這個問題的答案可以在書裡找到，對學習也很有幫助。", {"traditional"}),
        ("這個問題的答案對學習很有幫助。这个问题的答案对学习很有帮助。", {"both_scripts", "ends_closed"}),
    ],
)
def test_styles(answer: str, habits: set[str]) -> None:
    assert {name for name, bit in BIT.items() if style_of(answer) & bit} == habits


# ---------------------------------------------------------------------------------------------------------- report
ROWS = [
    row("What do you know about the sea?", "It is large and deep and full of salt, and it covers most of the earth."),
    row("What do you know about the sea?", "As an AI language model, I have never been to the sea or the beach."),
    row("你对大海了解多少？请说明一下。", "大海很大很深，而且是咸的，覆盖了地球表面的大部分面积，你可以去海边看看。"),
    row("Translate into French: the sea", "la mer"),
    row("Whom may I ask about all that?", "Write to jane.doe@mail-host.co.uk, she is the one who knows of the sea."),
]


def test_a_report_counts_and_names_the_rows() -> None:
    report = Report(tallied(ROWS))
    assert report.count == 5
    assert report.rows("refusal").tolist() == [1]
    assert report.rows("email").tolist() == [4]
    assert report.rows("short_answer").tolist() == []
    assert report.languages == {"en": 4, "zh": 1}
    assert report.rows_in("zh").tolist() == [2]
    assert report.rows_in("xx").tolist() == []
    assert report.rows_of("translation").tolist() == [3]
    assert report.rows_with("familiar").tolist() == [2]
    assert sum(report.tasks.values()) == 5
    with pytest.raises(KeyError):
        report.rows("no such check")


def test_tallies_of_two_processes_merge() -> None:
    whole = Report(tallied(ROWS))
    second, first = tallied(ROWS[2:], start=2), tallied(ROWS[:2])
    # The one that began with another language and came in first.
    second = pickle.loads(pickle.dumps(second))
    second.merge(pickle.loads(pickle.dumps(first)))
    merged = Report(second)
    assert merged.to_plain() == whole.to_plain()
    for name in ("refusal", "email"):
        assert merged.rows(name).tolist() == whole.rows(name).tolist()
    for language in whole.languages:
        assert merged.rows_in(language).tolist() == whole.rows_in(language).tolist()
    # One that came over a pipe can go on counting.
    second.add(5, ROWS[1])
    assert Report(second).rows("refusal").tolist() == [1, 5]


def test_a_tally_is_small() -> None:
    tally = Tally(QualitySettings())
    for index in range(2000):
        tally.add(index, ROWS[index % 3])
    assert len(pickle.dumps(tally)) < 2000 * 14 + 2000


def test_an_answer_of_many_rows_is_a_label() -> None:
    rows = [row(f"The message number {i} of the box", "ham" if i % 3 else "spam") for i in range(90)]
    rows.append(row("The message of the day, it is", "eh"))
    report = Report(tallied(rows))
    assert report.rows("short_answer").tolist() == [90]
    assert report.to_plain()["labels"] == {"ham": 60, "spam": 30}


def test_real_labels_do_not_drown_the_report(shared_data: Path) -> None:
    lines = (shared_data / "datasets" / "sms-spam" / "spam.csv").read_text(encoding="latin-1").splitlines()
    rows = [
        row(text, label) for label, _, text in (line.partition(",") for line in lines[1:]) if label in ("ham", "spam")
    ]
    tally = tallied(rows)
    assert sum(map(len, tally.short_answers.values())) > 4000
    assert len(Report(tally).rows("short_answer")) == 0


def test_uneven_habits_are_named() -> None:
    familiar = row(
        "你对大海了解多少？请说明一下。", "你可以去海边看看，那里的风景非常美丽，空气也很清新，适合全家一起去散步。"
    )
    polite = row(
        "您对大海了解多少？请说明一下。", "您可以去海边看看，那里的风景非常美丽，空气也很清新，适合全家一起去散步。"
    )
    assert Report(tallied([familiar] * 40 + [polite] * 10)).uneven == [("familiar", "polite")]
    assert Report(tallied([familiar] * 200 + [polite] * 4)).uneven == []


def test_duplicates_and_leaks_are_part_of_it(tmp_path: Path) -> None:
    answer = " ".join(f"word{i}" for i in range(40))
    rows = [row("What is it then?", answer + end) for end in ("", "", " more", "")]
    rows += [row("What is that?", "Something else that is not like any of the others."), ROWS[1]]
    texts = [compared_text(item) for item in rows]
    exact = exact_duplicates(np.arange(6), np.array([7, 7, 8, 9, 10, 11], np.uint64))
    near = near_duplicates(enumerate(texts), lambda indices: [texts[i] for i in indices], scratch=tmp_path)
    leaks = Leaks(np.array([4, 1]), np.array([0, 0]), np.array([0.9, 0.9], np.float32))
    aside_too = dict.fromkeys(("near_duplicate", "refusal", "leak"), "set_aside")
    settings = QualitySettings.model_validate({"actions": {**aside_too, "email": "off"}})
    report = Report(tallied(rows, settings), exact=exact, near=near, leaks=leaks)
    assert report.rows("exact_duplicate").tolist() == [1]
    assert report.rows("near_duplicate").tolist() == [2, 3]
    aside = {name: found.tolist() for name, found in report.set_aside().items()}
    # Row 1 is set aside once, as a duplicate, though it leaks as well.
    assert aside == {"refusal": [5], "exact_duplicate": [1], "near_duplicate": [2, 3], "leak": [4]}
    names = [item.name for item in report.found]
    assert "email" not in names
    assert names[-3:] == ["exact_duplicate", "near_duplicate", "leak"]
    assert json.loads(json.dumps(report.to_plain()))["near_duplicate_groups"] == 1


def test_what_was_not_sought_is_not_reported() -> None:
    names = [item.name for item in Report(tallied(ROWS)).found]
    assert not {"exact_duplicate", "near_duplicate", "leak"} & set(names)
    assert Report(tallied([])).to_plain()["rows"] == 0


def test_plain_text_is_compared_as_it_stands() -> None:
    assert compared_text(Row(0, "", (), text="Once upon a time.")) == "Once upon a time."
    assert compared_text(ROWS[3]) == "Translate into French: the sea\nla mer"
