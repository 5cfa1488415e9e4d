"""Was it worth it, in words: one verdict for the window, the report and the command line."""

from __future__ import annotations

from engine.project.effect import Effect
from engine.project.evaluation import Comparison, Evaluation
from engine.project.measures import FEWEST_FOR_INTERVAL
from engine.protocol.text import Text, say

CLEAR = 0.05
"""p-value below which a difference is called clear."""
GOOD, WARN, BAD = "good", "warn", "bad"


def verdict_of(found: Evaluation, effect: Effect | None = None) -> tuple[Text, Text, str]:
    """The sentence, the judgement and its tone: by the answers where they were asked, else by the losses.

    An adapter that does nothing, and labels no better named than by always giving the most frequent one, come first:
    against a base model that knows no label, a tuned model that knows only one looks good.

    Args:
        effect: what the adapter does, where that was measured.
    """
    compared = decisive(found)
    total = compared.better + compared.worse + compared.same
    sentence = say(
        "Better on {better} of {total} held-out rows, worse on {worse}",
        "{total} 个留出行中，{better} 行变好，{worse} 行变差",
        better=f"{compared.better:,}",
        total=f"{total:,}",
        worse=f"{compared.worse:,}",
    )
    if effect is not None and effect.nothing:
        return sentence, say("it does nothing", "没有作用"), BAD
    clear = compared.p_value is not None and compared.p_value < CLEAR
    if not clear:
        few = total < FEWEST_FOR_INTERVAL
        none = say("no clear difference", "没有明显差别")
        return sentence, say("too few rows to tell", "行数太少，无法判断") if few else none, WARN
    if compared.better > compared.worse and found.labels is not None and found.labels.no_better_than_one:
        one = found.labels.labels[0].name
        return sentence, say("no better than always “{one}”", "不比总答“{one}”更好", one=one), WARN
    if compared.better > compared.worse:
        return sentence, say("worth keeping", "值得保留"), GOOD
    return sentence, say("worse than the base", "不如基础模型"), BAD


def decisive(found: Evaluation) -> Comparison:
    """What the verdict rests on: the answers, or the losses where none was asked."""
    answers = found.verdict.answers
    return answers if answers.better + answers.worse + answers.same else found.verdict.losses
