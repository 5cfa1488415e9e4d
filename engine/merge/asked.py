"""What a check asks besides the rows: texts to cut into tokens and conversations to write; and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.rows import ASSISTANT, SYSTEM, USER, Message
from engine.export.parity import Difference, Kind, difference
from engine.merge.prompts import Sample, Trained
from engine.protocol.errors import UserError
from engine.protocol.text import Text, say

TEXTS = (
    "Hello, world! It's 3:45 pm; I'm 21 years old.",
    "She'll say: “don't worry” — we've 1234567890 left…",
    "你好，世界！今天是2024年5月17日，气温23度。",
    "价格为￥99.50，优惠码：ABC-123。",
    "def f(x):\n    return x ** 2  # square\n\n\nprint(f(3))",
    "Ünïcödé: naïve café, Привет, こんにちは, 안녕하세요 🙂👍🏽",
)
_MOST_TOKENS = 64
_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message(USER, "What is 2 + 2?"),),
    (Message(SYSTEM, "Answer in one word."), Message(USER, "你好 🙂")),
    (
        Message(USER, "First question"),
        Message(ASSISTANT, "First answer"),
        Message(USER, " Second question,\nin two lines. "),
    ),
    (
        Message(SYSTEM, "Be brief."),
        Message(USER, "Q"),
        Message(ASSISTANT, "A"),
        Message(USER, "And then?"),
        Message(ASSISTANT, "B"),
        Message(USER, "{{ not a template }} </s> <|end|>"),
    ),
)


def texts(samples: Sequence[Sample]) -> list[str]:
    """Texts whose tokens must be the same ones: awkward ones, and what the template made of the rows."""
    return [*TEXTS, *(sample.text for sample in samples)]


def own_tokens(trained: Trained) -> list[tuple[int, str]]:
    """(id, text) of special and added tokens, which stand for themselves: stops, and `_MOST_TOKENS` of the others."""
    found = {
        text: trained.tokenizer.id_of(text) for text in (*trained.template.stop, *sorted(trained.tokenizer.specials))
    }
    known = [(number, text) for text, number in found.items() if number is not None and text.strip()]
    step = max(1, len(known) // _MOST_TOKENS)
    return known[: len(trained.template.stop)] + known[len(trained.template.stop) :: step][:_MOST_TOKENS]


def conversations(trained: Trained, samples: Sequence[Sample], most: int = 8) -> list[tuple[Message, ...]]:
    """Conversations that the trained template writes: those of rows, with a system prompt, of several turns."""
    found = []
    for messages in (*(sample.messages for sample in samples[:most] if sample.messages), *_CONVERSATIONS):
        try:
            trained.template.render(messages, generation_prompt=True)
        except UserError:  # this template knows no such conversation
            continue
        found.append(messages)
    return found


def other_tokens(text: str) -> Difference:
    """It cuts ``text`` otherwise."""
    return difference(
        "tokenizer",
        say(
            "Texts are cut into other tokens than in training, such as “{text}”.",
            "文本的分词与训练时不同，例如“{text}”。",
            text=_short(text),
        ),
    )


def lost_token(text: str) -> Difference:
    """It does not know a token that stands for itself."""
    return difference(
        "tokenizer",
        say(
            "The token “{text}” of the training is not known as one token.",
            "训练所用的词元“{text}”未被识别为单个词元。",
            text=_short(text),
        ),
    )


def too_few_tokens(known: int, used: int) -> Difference:
    """It has no such ids."""
    return difference(
        "tokenizer",
        say(
            "It knows {known} tokens; training used token {used}.",
            "它只有 {known} 个词元；训练中用到第 {used} 号词元。",
            known=known,
            used=used,
        ),
    )


def other_template() -> Difference:
    """It writes conversations otherwise."""
    return difference(
        "template",
        say(
            "Conversations are written otherwise than in training: its chat template is another one.",
            "对话的书写方式与训练时不同：其对话模板不同。",
        ),
    )


def other_start(expected: int, found: int, bos: str) -> Difference:
    """Conversations begin with another number of first-of-text tokens."""
    return difference(
        "template",
        say(
            "A conversation begins with {found} first-of-text tokens ({bos}); in training with {expected}.",
            "对话开头有 {found} 个起始词元（{bos}）；训练时为 {expected} 个。",
            found=found,
            expected=expected,
            bos=bos or "bos",
        ),
    )


def no_end(token: str) -> Difference:
    """It goes on where it should end."""
    return difference(
        "stop",
        say(
            "Answers do not end where they should: “{token}” does not end them.",
            "回答没有在应当结束处结束：“{token}”没有让回答结束。",
            token=token,
        ),
    )


def early_end(token: str) -> Difference:
    """It ends where it should go on."""
    return difference(
        "stop",
        say(
            "Answers end too early: at “{token}”, which did not end them in training.",
            "回答过早结束：在“{token}”处结束，而训练时并非如此。",
            token=_short(token),
        ),
    )


def unreadable(error: UserError) -> Difference:
    """The runtime does not load it."""
    kind: Kind = "file"
    hint: Text = error.problem.hint
    return Difference(kind, error.problem.message, hint)


def _short(text: str, most: int = 40) -> str:
    line = text.replace("\n", "⏎")
    return line if len(line) <= most else line[: most - 1] + "…"
