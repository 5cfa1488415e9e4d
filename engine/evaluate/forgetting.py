"""What a run forgot: general questions and ordinary text, before and after, on one set of weights.

Forgetting is (before − after) / before. A rate is given only where the base model knows something: where it answers
better than guessing by more than chance (exact binomial test), and enough questions that a change can be seen.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.data.quality.language import language_of_row
from engine.data.rows import Row
from engine.data.template import own_templates
from engine.evaluate.metrics import sign_test
from engine.evaluate.probes import Asker, Probe, probes, texts
from engine.evaluate.score import TextLoss
from engine.evaluate.watch import Watch
from engine.model.tuned import SIDES, Side, TunedModel
from engine.project.forgetting import ALL, Forgetting, SkillChange, TextDrift, write_forgetting
from engine.project.run_folder import RunFolder
from engine.protocol.text import NOTHING, Text, say

RESAMPLES = 4000
CONFIDENCE = 0.95
KNOWN = 0.01
"""The base model knows a skill when guessing would be as good with a probability below this; small, since there are up
to ten skills."""
FEWEST_RIGHT = 5
"""Right answers of the base model below which nothing is said of what it lost."""
LANGUAGE_SHARE = 0.1
"""A language is asked in when it is that of so many of the rows."""
_ADDED = 0.5
"""Added to each of the four counts of a paired table (Agresti and Min 2005, Stat. Med. 24:729), so that an interval has
a width where no answer changed."""


def forgetting(run: RunFolder, tuned: TunedModel, rows: Sequence[Row], watch: Watch) -> Forgetting:
    """Measure what the run forgot, and keep it in ``forgetting.json``.

    Args:
        rows: rows like those that were trained on; their language is asked in, beside English.

    Raises:
        Stopped: the user asked; what was kept stays as it was.
    """
    began = time.monotonic()
    recipe = tuned.recipe
    seed, languages = recipe.data.seed, languages_of(rows)
    own = recipe.data.template == "auto" and bool(own_templates(run.trained_on()))
    asker, asked = Asker(tuned, own_template=own), probes(languages, recipe.evaluate.probe_items, seed)
    passages = [(language, text) for language in languages for text in texts(language)]
    total = 2 * (len(asked) + len(passages))
    watch.stage("forgetting", say("Asking what both models know", "检查两个模型的通用能力"), total, "questions")
    right: dict[Side, list[bool]] = {}
    drift: dict[Side, list[TextLoss]] = {}
    for side in SIDES:
        with tuned.as_side(side):
            right[side] = asker.right(asked, watch.at)
            watch.next_part(len(asked))
            drift[side] = asker.losses([text for _, text in passages], watch.at)
            watch.next_part(len(passages))
    skills = by_skill(asked, right["base"], right["tuned"], seed)
    data = recipe.data
    found = Forgetting(
        skills=skills,
        overall=together(skills, seed),
        drift=_drifts([language for language, _ in passages], drift["base"], drift["tuned"], seed),
        limit=recipe.evaluate.forgetting_limit,
        own_template=asker.own_template,
        general_share=data.general_share if data.general else 0.0,
        seed=seed,
        seconds=round(time.monotonic() - began, 3),
        created=round(time.time(), 3),
    )
    write_forgetting(run, found)
    return found


def languages_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """English, and Chinese where it is the language of a tenth of the rows."""
    found = Counter(language_of_row(row) for row in rows)
    return ("en", "zh") if rows and found["zh"] >= LANGUAGE_SHARE * len(rows) else ("en",)


# --------------------------------------------------------------------------------------------------------- figures
def by_skill(
    asked: Sequence[Probe], before: Sequence[bool], after: Sequence[bool], seed: int
) -> tuple[SkillChange, ...]:
    """Each skill in each language, in the order in which they were asked."""
    kinds = dict.fromkeys((probe.skill, probe.language) for probe in asked)
    found = []
    for skill, language in kinds:
        places = [i for i, probe in enumerate(asked) if (probe.skill, probe.language) == (skill, language)]
        counts = _table([before[i] for i in places], [after[i] for i in places])
        chance = math.fsum(asked[i].chance for i in places) / len(places)
        found.append(_change(skill, language, chance, [counts], _unknown(counts, chance), seed))
    return tuple(found)


Table = tuple[int, int, int, int]
"""Questions right both times, before alone, after alone, never."""


def _table(before: Sequence[bool], after: Sequence[bool]) -> Table:
    pairs = Counter(zip(before, after, strict=True))
    return pairs[True, True], pairs[True, False], pairs[False, True], pairs[False, False]


def together(skills: Sequence[SkillChange], seed: int) -> SkillChange | None:
    """All skills that can be measured, each question counting as one; None where none can be."""
    known = [skill for skill in skills if skill.rate is not None]
    if not known:
        return None
    tables = [_table_of(skill) for skill in known]
    chance = math.fsum(skill.chance * skill.items for skill in known) / sum(skill.items for skill in known)
    return _change(ALL, "", chance, tables, NOTHING, seed)


def _table_of(skill: SkillChange) -> Table:
    both = round(skill.before * skill.items) - skill.lost
    return both, skill.lost, skill.gained, skill.items - both - skill.lost - skill.gained


def _change(skill: str, language: str, chance: float, tables: Sequence[Table], unknown: Text, seed: int) -> SkillChange:
    both, lost, gained, never = (sum(column) for column in zip(*tables, strict=True))
    items = both + lost + gained + never
    low = high = rate = None
    if not unknown:
        rate = (lost - gained) / (both + lost)
        low, high = rate_interval(tables, seed)
    return SkillChange(
        skill=skill,
        language=language,
        items=items,
        chance=chance,
        before=(both + lost) / items,
        after=(both + gained) / items,
        rate=rate,
        low=low,
        high=high,
        lost=lost,
        gained=gained,
        p_value=sign_test(gained, lost),
        reason=unknown,
    )


def _unknown(table: Table, chance: float) -> Text:
    """Why there is nothing to forget; empty where there is."""
    right, items = table[0] + table[1], sum(table)
    if chance and at_least(right, items, chance) >= KNOWN:
        return say(
            "Not measurable with this model: it answers {right} of {items}, and guessing would give {chance:.0%}.",
            "该模型无法测量：{items} 题答对 {right} 题，随机猜测约为 {chance:.0%}。",
            right=right,
            items=items,
            chance=chance,
        )
    if right < FEWEST_RIGHT:
        return say(
            "Not measurable with this model: it answers {right} of {items}.",
            "该模型无法测量：{items} 题仅答对 {right} 题。",
            right=right,
            items=items,
        )
    return NOTHING


def at_least(right: int, of: int, chance: float) -> float:
    """Probability that guessing gives so many right answers or more (exact binomial)."""
    log = [math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(right, of + 1)]
    known = zip(range(right, of + 1), log, strict=True)
    return min(1.0, math.fsum(math.exp(a + k * math.log(chance) + (of - k) * math.log1p(-chance)) for k, a in known))


def rate_interval(tables: Sequence[Table], seed: int) -> tuple[float, float]:
    """95% interval of (before − after) / before: the questions of each table are drawn again, both models' answers to
    one question together. Percentiles of `RESAMPLES` draws; (low, high)."""
    chance = np.random.default_rng(seed)
    before, after = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for table in tables:
        shares = np.array(table) + _ADDED
        drawn = chance.multinomial(sum(table), shares / shares.sum(), size=RESAMPLES)
        before += drawn[:, 0] + drawn[:, 1]
        after += drawn[:, 0] + drawn[:, 2]
    rates = 1 - after[before > 0] / before[before > 0]
    low, high = np.quantile(rates, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def _drifts(
    languages: Sequence[str], before: Sequence[TextLoss], after: Sequence[TextLoss], seed: int
) -> tuple[TextDrift, ...]:
    found = []
    for language in dict.fromkeys(languages):
        places = [i for i, of in enumerate(languages) if of == language]
        found.append(drift(language, [before[i] for i in places], [after[i] for i in places], seed))
    return tuple(found)


def drift(language: str, before: Sequence[TextLoss], after: Sequence[TextLoss], seed: int) -> TextDrift:
    """How much the loss of the same texts rose, with the interval over texts that are drawn again."""
    tokens = np.array([text.tokens for text in before])
    sums = np.array([[text.total for text in before], [text.total for text in after]])
    whole = sums.sum(1)
    rise = low = high = None
    if np.isfinite(whole).all() and whole[0] > 0:
        rise = float(whole[1] / whole[0] - 1)
        chosen = np.random.default_rng(seed).integers(0, len(tokens), (RESAMPLES, len(tokens)))
        drawn = sums[:, chosen].sum(-1)
        low, high = (float(q) for q in np.quantile(drawn[1] / drawn[0] - 1, (0.025, 0.975)))
    count = max(1, int(tokens.sum()))
    before_mean, after_mean = (float(total) / count if np.isfinite(total) else None for total in whole)
    return TextDrift(language, len(before), int(tokens.sum()), before_mean, after_mean, rise, low, high)
