"""What a column's name says it holds: English and Chinese, prefixes and suffixes, a few words of other tongues."""

from __future__ import annotations

import re
from functools import lru_cache

QUESTION = "question"
INPUT = "input"
CONTEXT = "context"
ANSWER = "answer"
TURNS = "turns"
CHOSEN = "chosen"
REJECTED = "rejected"
LIKED = "liked"
LABEL = "label"
TEXT = "text"
SECOND = "second"
SYSTEM = "system"
TOOLS = "tools"
HISTORY = "history"
ASIDE = "aside"
"""What names can mean; `ASIDE` is what is not learned (ids, sources, dates, scores)."""

_WORDS: dict[str, str] = {
    INPUT: "input inputs",
    QUESTION: "prompt question query instruction problem request ask user human prompts questions instructions "
    "frage pregunta domanda pergunta вопрос 質問 질문 anweisung",
    CONTEXT: "context passage background evidence kontext contexto contesto contexte контекст",
    ANSWER: "completion answer response output reply solution assistant gpt completions answers responses outputs "
    "summary translation highlights antwort respuesta risposta reponse réponse resposta ответ 答え 답변 ausgabe",
    TURNS: "messages conversations conversation chat dialogue dialog turns dialogs chats",
    CHOSEN: "chosen preferred better winner win accepted",
    REJECTED: "rejected dispreferred worse loser lose incorrect wrong distractor",
    LIKED: "kto_tag liked like thumbs_up desirable is_desirable is_good thumbsup",
    LABEL: "label labels class category sentiment intent emotion target etikett etiqueta étiquette метка",
    TEXT: "text content document article sentence body paragraph review tweet comment sms texto texte текст",
    SECOND: "hypothesis sentence2 text2 text_pair",
    SYSTEM: "system system_prompt system_message sys_prompt sys",
    TOOLS: "tools functions available_tools function_definitions",
    HISTORY: "history chat_history",
    ASIDE: "id ids idx index uuid guid key hash sha md5 url uri link path file filename file_name source dataset "
    "origin subset split fold date time timestamp created created_at updated updated_at lang language locale license "
    "topic domain type task task_type tag tags keyword keywords level difficulty score scores rating quality "
    "reward vote votes upvotes token tokens num_tokens length len count size model model_name engine generator "
    "temperature author user_id username title name section chapter version note notes comments remark status "
    "annotator worker rationale explanation meta metadata provenance safe is_safe toxic is_english redacted flag "
    "flagged 编号 序号 来源 日期 时间 语言 分数 难度 备注 主题 类型 作者 标题 链接",
}
_MEANING = {word: meaning for meaning, words in _WORDS.items() for word in words.split()}
# Chinese names are put together without spaces; the word that ends last says what the column is.
_CHINESE = {
    "输入": INPUT,
    **dict.fromkeys(("问题", "提问", "指令", "提示", "题目", "问句", "用户"), QUESTION),
    **dict.fromkeys(("上下文", "背景", "材料"), CONTEXT),
    **dict.fromkeys(("回答", "答案", "输出", "回复", "答复", "响应", "摘要", "译文"), ANSWER),
    **dict.fromkeys(("对话", "消息", "会话"), TURNS),
    **dict.fromkeys(("优选", "较优", "较好"), CHOSEN),
    **dict.fromkeys(("劣选", "较差", "拒绝"), REJECTED),
    **dict.fromkeys(("好坏", "点赞"), LIKED),
    **dict.fromkeys(("标签", "类别", "分类", "情感", "意图"), LABEL),
    **dict.fromkeys(("文本", "内容", "正文", "句子", "评论", "文章"), TEXT),
    **dict.fromkeys(("系统提示词", "系统提示", "系统"), SYSTEM),
    **dict.fromkeys(("工具",), TOOLS),
    **dict.fromkeys(("历史",), HISTORY),
    **dict.fromkeys(("编号", "序号", "来源", "日期", "时间", "语言", "分数", "难度", "备注", "主题", "类型"), ASIDE),
    **dict.fromkeys(("作者", "标题", "链接"), ASIDE),
}
# Where two words of a name mean different things, the stronger one is what the column holds ("chosen_response").
_STRENGTH = (
    *(REJECTED, CHOSEN, SYSTEM, HISTORY, TOOLS, SECOND, LIKED, TURNS),
    *(CONTEXT, ANSWER, INPUT, QUESTION, LABEL, TEXT),
)
_SPEAKERS = ("user", "human", "assistant", "gpt")
_ASIDE_ENDS = frozenset(
    "id ids idx index uuid url uri hash score scores rating len length tokens token count type lang language date time "
    "source model start end name num quality reward level key path file version logprob logprobs embedding".split()
)
_NOTES = frozenset(
    "title section chapter note notes comments remark keyword keywords tag tags topic source author meta metadata "
    "rationale explanation url link path annotator 标题 备注 来源 作者 主题".split()
)
_KINDS = frozenset(
    "source dataset origin subset split fold lang language locale license topic domain type task tag tags keyword "
    "keywords level difficulty model engine generator annotator worker section category categories version kind "
    "来源 语言 类型 主题 难度 分类".split()
)
_ASIDE_STARTS = frozenset("num n has count original orig score rating is old raw len".split())
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[\u4e00-\u9fff])(?=[A-Za-z])|(?<=[A-Za-z])(?=[\u4e00-\u9fff])")
_BETWEEN = re.compile(r"[\s\-./:_]+")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A name in lower case with ``_`` between its words: "Prompt Text", "promptText" → "prompt_text"."""
    return _BETWEEN.sub("_", _CAMEL.sub("_", name.strip()).lower()).strip("_")


@lru_cache(maxsize=4096)
def meaning(name: str) -> str | None:
    """What a name says the column holds, prefixes and suffixes allowed; None where it says nothing.

    Of a path into nested objects ("data.prompt") the last part counts, unless it says no more than "answers.text".
    """
    path, _, last = name.rpartition(".")
    if path and last in ("text", "value", "content"):
        return meaning(path) or TEXT
    whole = plain(last)
    if whole in _MEANING:
        return _MEANING[whole]
    words = whole.split("_")
    if words[-1] in _ASIDE_ENDS or words[0] in _ASIDE_STARTS:
        return ASIDE
    found = {_MEANING[word]: word for word in words if _MEANING.get(word, ASIDE) != ASIDE and len(word) > 1}
    if not found:
        return _chinese(whole)
    if len(found) > 1:
        # "user_response" tells whose and what: what it is counts.
        said = {kind for kind, word in found.items() if word not in _SPEAKERS and kind != TEXT}
        if {QUESTION, ANSWER} <= said or len(said - {QUESTION, ANSWER, SYSTEM, CHOSEN, REJECTED}) > 1:
            return None
        found = {kind: found[kind] for kind in said} or found
    return next(kind for kind in _STRENGTH if kind in found)


def may_hold_text(name: str) -> bool:
    """Whether a column that is named like a note may well hold sentences (a title), as no id or score does."""
    return not _NOTES.isdisjoint(plain(name.rsplit(".", 1)[-1]).split("_"))


def may_be_few(name: str) -> bool:
    """Whether a column of that name naturally holds the same few values (a language, a source), as no id does."""
    return not _KINDS.isdisjoint(plain(name.rsplit(".", 1)[-1]).split("_"))


def _chinese(name: str) -> str | None:
    ends = [(name.rfind(word) + len(word), len(word), kind) for word, kind in _CHINESE.items() if word in name]
    pair = next((kind for _, _, kind in ends if kind in (CHOSEN, REJECTED)), None)
    return pair or (max(ends)[2] if ends else None)
