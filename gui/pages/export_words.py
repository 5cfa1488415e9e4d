"""Words of the Export page: judgements, figures of a check, and what things are for."""

from __future__ import annotations

from engine.export.parity import Parity, sentence
from engine.export.targets import TARGETS
from engine.protocol.text import NOTHING, Text, as_text, say
from gui.i18n.language import tr
from gui.i18n.numbers import count, duration, percent, size
from gui.state.takeaway import Taken
from gui.widgets.chip import BAD, GOOD, PLAIN, WARN
from gui.widgets.facts import Fact


def verdict_of(item: Taken, earlier: bool = False) -> tuple[Text, str]:
    """The judgement on an export and its tone; ``earlier``: the run has learned on since it was written."""
    if not item.is_there:
        return say("moved or deleted", "已移走或删除"), PLAIN
    if item.parity.passed is False:
        return say("do not use", "请勿使用"), BAD
    if earlier:
        return say("of an earlier state", "属于较早的状态"), WARN
    if item.parity.passed is True:
        return say("✓ is what you trained", "✓ 与训练结果一致"), GOOD
    return say("not checked", "未核对"), WARN


def said_of(item: Taken) -> Text:
    """What a person must read of a check that was not passed."""
    return NOTHING if item.parity.passed else sentence(item.parity)


def differences_of(parity: Parity) -> str:
    """What else differs and what to do, a line each."""
    if parity.passed is not False:
        return ""
    lines = [tr(item.text) for item in parity.differs[1:]]
    lines += list(dict.fromkeys(tr(item.hint) for item in parity.differs if item.hint))
    return "\n".join(lines)


def parity_facts(item: Taken) -> list[Fact]:
    """The figures of the check against their limits, as far as they apply."""
    parity, limits = item.parity, item.parity.limits
    facts: list[Fact] = []
    if parity.agreement is not None:
        places = tr(say(" of {n}", "，共 {n} 处", n=count(parity.tokens))) if parity.tokens else ""
        least = f" · ≥ {percent(limits.next_token, 1)}" if limits else ""
        name = say("Next token equal to base + adapter", "下一词元与基础模型 + 适配器一致")
        facts.append((name, f"{percent(parity.agreement, 1)}{places}{least}"))
    if parity.perplexity_change is not None:
        facts.append((say("Perplexity on held-out rows", "留出数据上的困惑度"), _perplexity(parity)))
    if parity.greedy_equal is not None:
        name = say("First 32 tokens of the answer equal", "回答前 32 个词元一致")
        facts.append((name, _greedy(parity)))
    for equal, name in (
        (parity.tokenizer_equal, say("Tokenizer", "分词器")),
        (parity.template_equal, say("Chat template", "对话模板")),
        (parity.stops_equal, say("End of the answer", "回答的结束")),
    ):
        if equal is not None:
            words = say("as in training", "与训练时一致") if equal else say("differs", "不一致")
            facts.append((name, words, "value" if equal else "bad"))
    return [*facts, *_circumstances(parity)]


def _perplexity(parity: Parity) -> str:
    found, trained, change = parity.perplexity_found, parity.perplexity, parity.perplexity_change
    words = say(
        "{found:.3g} against {trained:.3g} ({change:+.1%})",
        "{found:.3g}，训练结果 {trained:.3g}（{change:+.1%}）",
        found=found,
        trained=trained,
        change=change,
    )
    within = f" · ≤ {percent(parity.limits.perplexity, 1)}" if parity.limits and parity.limits.perplexity < 10 else ""
    return tr(words) + within


def _greedy(parity: Parity) -> str:
    share = parity.greedy_equal or 0.0
    if not parity.greedy_prompts:
        return percent(share)
    equal = round(share * parity.greedy_prompts)
    return tr(say("{n} of {all}", "{n} / {all}", n=count(equal), all=count(parity.greedy_prompts)))


def _circumstances(parity: Parity) -> list[Fact]:
    facts: list[Fact] = []
    if parity.prompts:
        rows = say("{n} held-out rows", "{n} 行留出数据", n=count(parity.prompts))
        asked = rows if parity.held_out else say("{n} general prompts", "{n} 个通用提问", n=count(parity.prompts))
        took = tr(say(", {t}", "，{t}", t=duration(parity.seconds))) if parity.seconds else ""
        facts.append((say("Asked", "提问"), tr(asked) + took))
    if parity.runtime:
        facts.append((say("Through", "运行环境"), parity.runtime))
    return facts


def kind_of(item: Taken) -> str:
    """What an export is: "GGUF Q4_K_M", "Adapter"."""
    kind = item.export.kind
    label = TARGETS[kind].label if kind in TARGETS else as_text(kind)
    return f"{tr(label)} {item.export.type}".strip()


def faithfulness(parity: Parity | None) -> str:
    """How near a type came in its last check, in a few signs: "ppl +2.6%"."""
    if parity is None or parity.passed is None:
        return ""
    if parity.perplexity_change is not None:
        return f"ppl {parity.perplexity_change:+.1%}"
    return percent(parity.agreement, 1) if parity.agreement is not None else ""


def about(value: int) -> str:
    """A size that is forecast."""
    return f"≈ {size(value)}" if value else ""
