"""The report as a page: one HTML file without scripts, pictures or addresses of anything outside of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from engine.measured_lines import change, figure, p_value
from engine.project.effect import Effect
from engine.project.evaluation import EvaluatedRow, Evaluation, SideOfRow
from engine.project.measures import INTERVALS, TESTS, Estimate, Measure
from engine.project.verdict import decisive, verdict_of
from engine.protocol.text import Text, say
from engine.report import sections
from engine.report.charts import Bar, curve, pair_bars
from engine.report.facts import Facts, shown_name
from engine.report.markup import NONE, Html, tag
from engine.report.style import STYLE

ROWS_SHOWN = 12
"""Rows of each kind that are shown side by side."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser lets the page do: nothing but look as it does."""

Read = Callable[[Text], str]


def page(facts: Facts, language: str) -> str:
    """The whole document in one language, "en" or "zh"."""

    def read(text: Text) -> str:
        return text.in_language(language)

    title = read(say("{title}: was it worth it", "{title}：值不值得", title=facts.title))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        Html(f"<style>{STYLE}</style>"),
    )
    body = tag("body", tag("main", *_parts(facts, read)))
    lang = "zh-CN" if language.startswith("zh") else "en"
    return f"<!doctype html>\n{tag('html', head, body, lang=lang)}\n"


def _parts(facts: Facts, read: Read) -> Iterator[str]:
    yield _header(facts, read)
    yield _verdict(facts.evaluation, facts.effect, read)
    yield _figures(facts.evaluation, read)
    yield _groups(facts.evaluation, read)
    yield sections.forgetting(facts.forgetting, facts.harness, read)
    yield sections.effect(facts.effect, read)
    yield sections.judge(facts.judgement, read)
    yield sections.votes(facts.tests, read)
    yield _rows(facts.evaluation, read)
    yield _curve(facts, read)
    yield sections.about(facts, read)
    yield _footer(facts, read)


def _header(facts: Facts, read: Read) -> Html:
    known = facts.facts
    chips = [shown_name(known.get("model") or ""), str(known.get("method") or ""), str(known.get("objective") or "")]
    shown = [tag("span", text, cls="chip") for text in (*chips, _day(facts.evaluation.created)) if text]
    brand = read(say("Lorimer · evaluation report", "Lorimer · 评估报告"))
    return tag("header", tag("div", brand, cls="brand"), tag("h1", facts.title), tag("div", *shown, cls="chips"))


def _day(moment: float) -> str:
    """A date; none for a moment that no calendar has, as a forged record may hold."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) if moment else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _verdict(found: Evaluation, effect: Effect | None, read: Read) -> Html:
    sentence, judgement, tone = verdict_of(found, effect)
    top = tag(
        "div",
        tag("p", read(sentence), read(say(".", "。")), cls="sentence"),
        tag("span", read(judgement), cls=f"chip {tone}"),
        cls="verdict",
    )
    return tag("section", top, tag("div", *_tiles(found, read), cls="tiles"))


def _tiles(found: Evaluation, read: Read) -> Iterator[Html]:
    headline = found.measure(found.headline)
    if headline is not None:
        full = headline.kind.full
        text = f"{figure(headline.base.value, full)} → {figure(headline.tuned.value, full)}"
        yield _tile(text, read(headline.kind.label))
    compared = decisive(found)
    yield _tile(
        f"{compared.better} / {compared.worse} / {compared.same}",
        read(say("better / worse / same", "更好 / 更差 / 相同")),
    )
    yield _tile(f"p {_p(compared.p_value)}", read(say("exact sign test, row by row", "逐行精确符号检验")))
    if found.verdict.changed is not None:
        yield _tile(f"{found.verdict.changed:.0%}", read(say("of the answers changed", "的回答发生改变")))
    yield _tile(
        f"{len(found.rows)} / {found.held_out or len(found.rows)}",
        read(say("held-out rows measured", "评估的留出行")),
    )


def _tile(value: str, about: str) -> Html:
    return tag("div", tag("b", value), tag("span", about), cls="tile")


def _p(value: float | None) -> str:
    shown = p_value(value)
    return shown if shown[:1] in "<—" else f"= {shown}"


# --------------------------------------------------------------------------------------------------------- figures
def _figures(found: Evaluation, read: Read) -> Html:
    if not found.measures:
        return NONE
    heads = (say("Measure", "指标"), say("Base", "基础"), say("Tuned", "微调"), say("Change", "变化"), say("p", "p"))
    rows = [sections.row(*_figure_cells(measure, read)) for measure in found.measures]
    notes = [tag("p", text, cls="small muted") for text in dict.fromkeys(read(note) for note in found.notes.values())]
    return tag(
        "section",
        tag("h2", read(say("Your task", "你的任务"))),
        tag("p", read(_how(found)), cls="small muted"),
        sections.table([read(head) for head in heads], rows),
        *notes,
    )


def _figure_cells(measure: Measure, read: Read) -> tuple[Html, ...]:
    full = measure.kind.full
    name = tag("td", read(measure.kind.label), tag("small", read(measure.kind.help)))
    tone = "" if measure.is_better is None or not measure.is_clear else "good" if measure.is_better else "bad"
    sides = [_estimate(side, figure, full) for side in (measure.base, measure.tuned)]
    unit = " pt" if full == 1.0 and measure.difference.value is not None else ""
    return name, *sides, _estimate(measure.difference, change, full, tone, unit), tag("td", p_value(measure.p_value))


def _estimate(
    found: Estimate,
    shown: Callable[[float | None, float | None], str],
    full: float | None,
    tone: str = "",
    unit: str = "",
) -> Html:
    ends = NONE
    if found.low is not None and found.high is not None:
        ends = tag("small", _minus(f"{shown(found.low, full)} … {shown(found.high, full)}"))
    return tag("td", tag("span", _minus(shown(found.value, full)) + unit, cls=tone), ends)


def _minus(text: str) -> str:
    """A number with the sign that is as wide as a plus."""
    return text.replace("-", "−")


def _how(found: Evaluation) -> Text:
    intervals = [INTERVALS[name] for name in dict.fromkeys(m.interval for m in found.measures) if name in INTERVALS]
    tests = [TESTS[name] for name in dict.fromkeys(m.test for m in found.measures) if name in TESTS]
    none = say("none", "无")
    return say(
        "Small figures: 95% intervals ({intervals}). p: {tests}. Greedy answers, seed {seed}.",
        "小字为 95% 区间（{intervals}）。p：{tests}。贪心解码，种子 {seed}。",
        intervals=_listed(intervals) or none,
        tests=_listed(tests) or none,
        seed=found.seed,
    )


def _listed(texts: Sequence[Text]) -> Text:
    return Text(", ".join(text.en for text in texts), "、".join(text.zh for text in texts))


def _groups(found: Evaluation, read: Read) -> Html:
    bars: list[tuple[str, str, Bar, Bar]] = []
    for group in found.groups:
        full = group.measure.kind.full or 1.0
        about = read(say("{n} rows · {by}", "{n} 行 · {by}", n=group.rows, by=group.measure.kind.label))
        bars.append((read(group.name), about, _bar(group.measure.base, full), _bar(group.measure.tuned, full)))
    if len(bars) < 2 and found.labels is None:
        return NONE
    labels = found.labels.labels[:20] if found.labels is not None else ()
    of_label = [
        (
            item.name,
            read(say("{n} rows", "{n} 行", n=item.rows)),
            Bar(item.base, f"{item.base:.0%}"),
            Bar(item.tuned, f"{item.tuned:.0%}"),
        )
        for item in labels
    ]
    by = say("By {column}", "按 {column}", column=found.grouped_by) if found.grouped_by else say("By task", "按任务")
    parts: list[Html] = [tag("h2", read(by)), sections.key(read)]
    if bars:
        parts.append(pair_bars(bars, read(by)))
    if of_label:
        name = read(say("By label: share answered right", "按标签：答对比例"))
        parts += [tag("h3", name), pair_bars(of_label, name)]
    return tag("section", *parts)


def _bar(found: Estimate, full: float) -> Bar:
    low, high = (None if end is None else end / full for end in (found.low, found.high))
    value = None if found.value is None else found.value / full
    return Bar(value, figure(found.value, full), low, high)


# ------------------------------------------------------------------------------------------------------------ rows
def _rows(found: Evaluation, read: Read) -> Html:
    kinds = (
        (say("Gained most", "提升最大"), found.best(ROWS_SHOWN)),
        (say("Answered worst", "回答最差"), found.worst(ROWS_SHOWN)),
        (say("Changed, without gain", "有变化但没有提升"), _others(found)),
    )
    parts = []
    for name, rows in kinds:
        if rows:
            parts += [tag("h3", f"{read(name)} ({len(rows)})"), *(_row(row, read) for row in rows)]
    if not parts:
        return NONE
    about = read(
        say(
            "Held-out rows with both answers. Open one to read it.",
            "留出行与两个模型的回答，点击可展开。",
        )
    )
    return tag("section", tag("h2", read(say("Rows", "行"))), tag("p", about, cls="small muted"), *parts)


def _others(found: Evaluation) -> tuple[EvaluatedRow, ...]:
    """Changed answers that are among neither the best nor the worst."""
    shown = {row.where for row in (*found.best(ROWS_SHOWN), *found.worst(ROWS_SHOWN))}
    return tuple(row for row in found.changed() if row.where not in shown and row.gain <= 0)[:ROWS_SHOWN]


def _row(row: EvaluatedRow, read: Read) -> Html:
    first = " ".join(row.prompt.split())
    summary = tag(
        "summary", first[:110] + ("…" if len(first) > 110 else ""), tag("span", shown_name(row.where), cls="where")
    )
    question = tag("div", tag("h4", read(say("Question", "提问"))), _turn(row.prompt), cls="asked")
    wanted = tag("div", tag("h4", read(say("Right answer", "参考答案"))), _turn(row.reference), cls="side wide")
    sides = [
        _side(row.base, read(say("Base answered", "基础模型的回答")), "side", read),
        _side(row.tuned, read(say("Tuned answered", "微调模型的回答")), "side tuned", read),
    ]
    return tag("details", summary, question, tag("div", wanted, *sides, cls="pair"))


def _side(side: SideOfRow, name: str, cls: str, read: Read) -> Html:
    figures = []
    if side.exact is not None:
        figures.append(read(say("exact", "完全匹配") if side.exact else say("not exact", "不完全匹配")))
    if side.rouge_l is not None:
        figures.append(f"ROUGE-L {side.rouge_l:.2f}")
    if side.loss is not None:
        figures.append(read(say("loss {loss:.3f}", "损失 {loss:.3f}", loss=side.loss)))
    if side.cut:
        figures.append(read(say("cut", "已截断")))
    answer = read(say("(not asked)", "（未提问）")) if side.answer is None else side.answer
    return tag("div", tag("h4", name), _turn(answer), tag("span", " · ".join(figures), cls="small faint"), cls=cls)


def _turn(text: str) -> Html:
    return tag("p", text, cls="turn", dir="auto")


# -------------------------------------------------------------------------------------------------- curve and ends
def _curve(facts: Facts, read: Read) -> Html:
    steps = [(float(step.step), step.loss) for step in facts.state.steps]
    held = [(float(event.step), event.loss) for event in facts.state.held_out]
    name = read(say("The training", "训练过程"))
    drawn = curve(steps, held, name, read(say("step", "步")), read(say("loss", "损失")))
    if not drawn:
        return NONE
    items = (
        (say("training loss, smoothed", "训练损失（平滑）"), "k-tuned"),
        (say("held-out loss", "留出损失"), "k-held"),
    )
    return tag("section", tag("h2", name), sections.key(read, items), drawn)


def _footer(facts: Facts, read: Read) -> Html:
    lines = [
        say(
            "This file holds rows of the training data's held-out part, the recipe and the environment. It fetches "
            "nothing and runs nothing.",
            "此文件含留出部分的数据行、配方与环境信息；不会联网，也不运行任何程序。",
        )
    ]
    if facts.damaged:
        lines.append(say("Damaged and left out: {names}.", "已损坏、未包含：{names}。", names=", ".join(facts.damaged)))
    return tag("footer", *(tag("p", read(line)) for line in lines))
