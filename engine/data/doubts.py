"""What speaks against a guess of a file's shape: what must be asked, and what is only less than sure."""

from __future__ import annotations

from engine.data import names
from engine.data.columns import Column
from engine.data.dialect import DIALECT
from engine.data.laying import (
    CONTENT,
    FEWEST,
    NAMED,
    PLACE,
    TELLING,
    TEXT_SHAPES,
    TOLD,
    Try,
    View,
    difference,
    is_explained,
    taking_turns,
)
from engine.data.rows import ASSISTANT
from engine.protocol.text import NOTHING, Text, say

# Columns of these names are as often notes about a text as what is to be answered.
_WEAK_LABELS = ("category", "target", "分类", "categories", "kind")
_SIDES = (names.QUESTION, names.ANSWER, names.CONTEXT, names.INPUT)
_RATINGS = frozenset("score rating quality reward vote votes upvotes status feedback".split())
# What is true or false of a row without rating its answer.
_FACTS = ("safe", "toxic", "redacted", "flag", "flagged", "english")
_SPOKEN = ("### Human:", "### Instruction:", "<|im_start|>", "<|user|>", "[INST]", "\n\nHuman:", "### 指令", "USER:")


def doubts_about(best: Try, view: View) -> tuple[list[Text], list[Text]]:
    """(what must be asked, what is only less than sure) about the best try."""
    asks: list[Text] = []
    doubts: list[Text] = []
    if best.clean < 0.5:
        # Of a handful of rows all may be bad in the right columns.
        (asks if len(view.sample) >= FEWEST else doubts).append(
            say(
                "{n} of {all} sampled rows cannot be used in this way.",
                "抽样的 {all} 行中有 {n} 行无法这样使用。",
                n=round((1 - best.clean) * len(view.sample)),
                all=len(view.sample),
            )
        )
    elif best.clean < 0.9:
        doubts.append(say("Some of the sampled rows cannot be used.", "部分抽样行无法使用。"))
    _doubt_names(best, asks, doubts)
    _doubt_unused(best, view, asks, doubts)
    _doubt_sides(best, asks, doubts)
    _doubt_turns(best, asks, doubts)
    _doubt_texts(best, view, asks, doubts)
    if best.shape.kind == "kto" and not best.columns.keys() & {"messages", "prompt"}:
        asks.append(say("No column holds the questions.", "没有列包含提问。"))
    if len(view.sample) < FEWEST:
        doubts.append(say("There are too few rows to be sure.", "行数太少，无法确定。"))
    return asks, doubts


def _label(best: Try, role: str) -> Text:
    found = best.shape.role(role)
    return found.label if found is not None else NOTHING


def _doubt_names(best: Try, asks: list[Text], doubts: list[Text]) -> None:
    sides: list[str] = [
        r for r in ("instruction", "prompt", "input", "context", "output", "completion") if r in best.levels
    ]
    guessed = [r for r in sides if best.levels[r] == CONTENT and best.columns[r].kind != "turns"]
    guessed += [r for r, level in best.levels.items() if level == PLACE and r not in DIALECT]
    invented = [r for r in DIALECT if best.levels.get(r) == PLACE]
    pair = [r for r in ("chosen", "rejected") if best.levels.get(r) == CONTENT]
    if guessed:
        asks.append(
            say(
                "No name says what {columns} holds; it was guessed from order and wording.",
                "列名无法说明 {columns} 的含义，只是按顺序和措辞猜测。",
                columns=", ".join(f'"{best.columns[r].name}"' for r in guessed),
            )
        )
    if invented:
        asks.append(
            say(
                'The turns of "{name}" use words of their own; guessed: {words}.',
                "“{name}”中各轮用的是自定义的词；推测为：{words}。",
                name=best.columns["messages"].name,
                words=", ".join(f'{r}="{best.columns[r].name}"' for r in invented),
            )
        )
    if len(pair) == 2:
        asks.append(
            say(
                'Nothing says which of "{a}" and "{b}" is the better answer.',
                "无法判断“{a}”与“{b}”中哪一个是较好的回答。",
                a=best.columns["chosen"].name,
                b=best.columns["rejected"].name,
            )
        )
    if best.shape.kind == "kto" and best.levels.get("label") == CONTENT:
        asks.append(
            say(
                'Nothing but its values says that "{name}" marks answers as good or bad.',
                "仅凭取值推测“{name}”标记回答的好坏。",
                name=best.columns["label"].name,
            )
        )
    for role, level in best.levels.items():
        if level == CONTENT:
            doubts.append(
                say(
                    '"{name}" is taken for “{role}” by what it holds.',
                    "“{name}”按其内容被视为“{role}”。",
                    name=best.columns[role].name,
                    role=_label(best, role),
                )
            )
        elif level == NAMED:
            doubts.append(
                say(
                    '"{name}" is taken for “{role}” by its name.',
                    "“{name}”按其名称被视为“{role}”。",
                    name=best.columns[role].name,
                    role=_label(best, role),
                )
            )


def _doubt_unused(best: Try, view: View, asks: list[Text], doubts: list[Text]) -> None:
    for column in best.unused:
        words = say('"{name}" is not used.', "“{name}”未被使用。", name=column.name)
        # One sentence in all rows may be their system prompt; turns beside a text may be what is to be learned.
        serious = (
            column.varies
            or column.distinct == 1
            or column.kind == "turns"
            or column.meaning in (names.CHOSEN, names.REJECTED, names.LABEL)
            # A list of texts where one text belongs: the names may have changed places.
            or (column.kind in ("strings", "pairs") and column.meaning in _SIDES)
        )
        serious = serious or (best.shape.name in TEXT_SHAPES and column.is_rich)
        # A few cells that a row spilled to its right say little about the file.
        spilled = len(view.sample) >= 50 and column.filled < 0.05 and column.meaning is None
        (asks if serious and not spilled else doubts).append(words)
    for column in view.columns:
        if column in best.columns.values() or column in best.unused or is_explained(column, best, view):
            continue
        if best.shape.kind == "conversation" and best.shape.name != "classification" and _may_rate(column):
            asks.append(
                say('"{name}" may mark answers as good or bad.', "“{name}”可能标记回答的好坏。", name=column.name)
            )
        elif column.kind == "text" and (column.is_prose or 0 < column.filled < 0.9) and not column.is_code:
            words = say('"{name}" holds texts, unused.', "“{name}”含文本但未被使用。", name=column.name)
            (asks if _may_be_missed(column, best) else doubts).append(words)
        elif _may_label(column, best):
            words = say('"{name}" may be a label.', "“{name}”可能是标签。", name=column.name)
            (asks if _may_be_the_label(column, best) else doubts).append(words)


def _may_be_missed(column: Column, best: Try) -> bool:
    """Whether texts that nobody uses may well belong to what is learned, whatever their column is called."""
    holds_text = column.meaning is None or names.may_hold_text(column.name)
    # One sentence for all rows reads like a system prompt; notes and sources are as often the same in all.
    if (
        column.distinct == 1
        and column.is_prose
        and "system" not in best.columns
        and not names.may_hold_text(column.name)
    ):
        return True
    if best.shape.name not in TEXT_SHAPES or not column.is_rich:
        return False
    if column.meaning in (names.ASIDE, names.LABEL, names.LIKED) and not holds_text:
        return True
    # What only some rows have is what an input is like.
    pairs = best.shape.name in ("alpaca", "prompt_completion") and not best.columns.keys() & {"input", "context"}
    return pairs and column.is_prose and 0.05 < column.filled < 0.9


def _may_be_the_label(column: Column, best: Try) -> bool:
    """Whether few values stand where many belong (an id, a name), beside a text that goes by no name of its own."""
    if best.shape.kind != "text" or not column.is_few or column.distinct < 2:
        return False
    is_misnamed = not names.may_be_few(column.name)
    return is_misnamed and (best.levels["text"] <= CONTENT or column.meaning not in (None, names.ASIDE))


def _may_label(column: Column, best: Try) -> bool:
    """Whether words stand beside a plain text, or good and bad beside an answer."""
    if best.shape.kind == "text":
        repeats = column.distinct < len(column.texts) and max(map(len, column.texts)) <= 40
        return repeats or (column.kind == "text" and not column.is_code)
    return best.shape.kind == "conversation" and column.varies and not _is_fact(column)


def _may_rate(column: Column) -> bool:
    """Whether a column that is named like a note may say which answers are good: it says yes and no, or rates."""
    if not column.varies or _is_fact(column):
        return False
    return column.kind in ("bool", "text") or not _RATINGS.isdisjoint(_name_words(column))


def _is_fact(column: Column) -> bool:
    words = _name_words(column)
    return words[0] in ("is", "has") or words[-1] in _FACTS


def _name_words(column: Column) -> list[str]:
    return names.plain(column.name.rpartition(".")[2]).split("_")


def _doubt_sides(best: Try, asks: list[Text], doubts: list[Text]) -> None:
    """Whether question and answer may have changed places."""
    question = best.columns.get("instruction") or best.columns.get("prompt")
    answer = next((best.columns[r] for r in ("output", "completion", "chosen") if r in best.columns), None)
    if question is None or answer is None or not answer.present:
        return
    if not question.present:
        asks.append(say('"{name}" is empty in every row.', "“{name}”在每一行都为空。", name=question.name))
        return
    if answer.kind == "strings":
        asks.append(
            say(
                '"{name}" holds several answers a row; the first would be learned.',
                "“{name}”每行有多个回答，只会学习第一个。",
                name=answer.name,
            )
        )
    if question.kind == "turns" or answer.kind == "turns":
        if question.kind == "turns" and question.ends_open < 0.9:
            is_whole = question.ends_open < 0.5 and answer.kind != "turns" and best.shape.kind == "conversation"
            (asks if is_whole else doubts).append(say("Some prompts end with an answer.", "部分提问以回答结尾。"))
        if answer.kind == "turns" and answer.ends_open > 0.1:
            doubts.append(say("Some answers do not end with an answer.", "部分回答一侧不以回答结尾。"))
        if question.kind == answer.kind == "turns":
            return
    low, high = difference(question, answer)
    # Texts to be translated or summarised read a little like answers too; only a clear difference speaks against names.
    enough = min(len(question.present), len(answer.present)) >= FEWEST
    if enough and ((high < 0 and low + high < -0.4) or low + high < -1):
        asks.append(
            say(
                '"{question}" reads like answers and "{answer}" like questions.',
                "“{question}”像是回答，而“{answer}”像是提问。",
                question=question.name,
                answer=answer.name,
            )
        )
    elif low < TELLING:
        doubts.append(
            say(
                'Names alone say which of "{question}" and "{answer}" is the question.',
                "仅凭列名判断“{question}”与“{answer}”中哪一个是提问。",
                question=question.name,
                answer=answer.name,
            )
        )
    _doubt_filled(best, question, answer, asks, doubts)


def _doubt_filled(best: Try, question: Column, answer: Column, asks: list[Text], doubts: list[Text]) -> None:
    """Whether context, system prompt and question may have changed places: a context may be empty, a question never."""
    context = best.columns.get("input") or best.columns.get("context")
    system = best.columns.get("system")
    for side in (question, answer):
        if context is not None and context.filled > side.filled + 0.05:
            asks.append(
                say(
                    '"{side}" is empty more often than "{context}".',
                    "“{side}”比“{context}”更常为空。",
                    side=side.name,
                    context=context.name,
                )
            )
    # One instruction for all rows is usual where an input differs.
    for side in (answer,) if context is not None and context.distinct > 1 else (question, answer):
        if len(side.texts) >= FEWEST and side.distinct == 1:
            asks.append(say('"{name}" holds the same in every row.', "“{name}”每一行都相同。", name=side.name))
    uncertain = say("Nothing but names tells the question from the rest.", "仅凭列名区分提问与其他列。")
    if question.filled < 0.98 or answer.filled < 0.98 or (context is not None and context.filled > 0.9):
        doubts.append(uncertain)
    if answer.is_few or answer.kind in ("number", "bool"):
        doubts.append(say('"{name}" looks like a label.', "“{name}”看起来像标签。", name=answer.name))
    if question.texts and question.distinct < 0.5 * len(question.texts):
        doubts.append(uncertain)
    if system is not None and system.filled < 0.9 and system.distinct > 0.5 * len(system.texts):
        asks.append(say('"{name}" differs from row to row.', "“{name}”逐行不同。", name=system.name))
    if system is not None and (system.filled < 0.5 or system.distinct > max(1, 0.1 * len(system.texts))):
        doubts.append(uncertain)
    if system is not None and system.distinct > max(1, min(question.distinct, answer.distinct)):
        asks.append(
            say(
                'The system prompts in "{system}" vary more than questions or answers do.',
                "“{system}”中的系统提示比提问或回答变化更多。",
                system=system.name,
            )
        )


def _doubt_turns(best: Try, asks: list[Text], doubts: list[Text]) -> None:
    turns = best.columns.get("messages")
    if turns is not None and turns.is_spoken:
        _doubt_spoken(turns, best.levels["messages"], asks, doubts)
    if turns is None or not turns.turn_lists:
        return
    if turns.alternates < 0.5:
        asks.append(say("The turns do not begin with a question.", "对话不是以提问开始的。"))
    elif turns.alternates < 0.9:
        doubts.append(say("Not all turns alternate.", "部分对话的轮次没有交替。"))
    if turns.ends_open > 0.5 and "completion" not in best.columns:
        asks.append(say("Most conversations end with a question.", "多数对话以提问结尾。"))


def _doubt_spoken(turns: Column, level: int, asks: list[Text], doubts: list[Text]) -> None:
    """Lists of texts or of pairs say nothing of who speaks: wording must, or for pairs the column's name."""
    low, high = taking_turns(turns)
    told = low > 0 or (turns.kind == "pairs" and level >= NAMED and high > 0)
    (doubts if told else asks).append(
        say(
            "Nothing says who speaks in \"{name}\"; its texts are taken for the user's and the assistant's in turn.",
            "“{name}”没有说明由谁说话；各段文本依次视为用户与助手所说。",
            name=turns.name,
        )
    )
    odd = sum(listed[-1].role != ASSISTANT for listed in turns.spoken_lists)
    if odd > 0.5 * len(turns.spoken_lists):
        asks.append(say("Most conversations end with a question.", "多数对话以提问结尾。"))


def _doubt_texts(best: Try, view: View, asks: list[Text], doubts: list[Text]) -> None:
    """Plain text that is a written conversation would be learned with its questions."""
    if best.shape.kind != "text" and best.shape.name != "classification":
        return
    text = best.columns["text"]
    spoken = sum(any(mark in value[:4000] for mark in _SPOKEN) for value in text.texts)
    if best.shape.kind == "text" and spoken > 0.5 * max(1, len(text.texts)):
        asks.append(
            say(
                '"{name}" holds conversations written as text; all of it would be learned, questions too.',
                "“{name}”是写成文本的对话；将学习全部内容，包括提问。",
                name=text.name,
            )
        )
    few = [c for c in view.columns if c.meaning is None and c is not text and len(set(c.texts)) < len(c.texts)]
    if best.shape.kind == "text" and few and len(view.sample) < 4 * FEWEST:
        asks.append(say('"{name}" may be a label.', "“{name}”可能是标签。", name=few[0].name))
    if best.shape.kind == "text" and text.mean_length < 40:
        doubts.append(say('"{name}" holds short texts only.', "“{name}”只有短文本。", name=text.name))
    if best.shape.name == "classification":
        label, system = best.columns["label"], best.columns.get("system")
        if system is not None and system.distinct > 0.5 * len(system.texts) > 0.5 * FEWEST:
            asks.append(say('"{name}" differs from row to row.', "“{name}”逐行不同。", name=system.name))
        if names.plain(label.name.rpartition(".")[2]) in _WEAK_LABELS and best.levels["label"] != TOLD:
            asks.append(
                say(
                    '"{name}" may be what is to be answered, or only a note about the text.',
                    "“{name}”可能是要回答的标签，也可能只是文本的附注。",
                    name=label.name,
                )
            )
        if not label.is_few:
            doubts.append(say('"{name}" has many different labels.', "“{name}”的标签种类很多。", name=label.name))
        if label.distinct == 1:
            doubts.append(say('"{name}" holds one label only.', "“{name}”只有一种标签。", name=label.name))
