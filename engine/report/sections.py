"""Parts of the report: what was forgotten, what the adapter does, what judge and people said, what it was made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.measured_lines import p_value
from engine.project.effect import Effect, Part
from engine.project.forgetting import FORGOT, LANGUAGES, NOT_MEASURABLE, UNSURE, Forgetting, SkillChange
from engine.project.harness_record import HarnessFigure, HarnessResult
from engine.project.judgement import JudgedRow, Judgement
from engine.project.votes import BlindTest, verdict
from engine.protocol.text import Text, say
from engine.report.charts import Bar, pair_bars, share_bar
from engine.report.facts import Facts, shown_name
from engine.report.markup import NONE, Html, tag

Read = Callable[[Text], str]
MOST_LAYERS = 200
JUDGED_SHOWN = 12
SIDES = ((say("base model", "基础模型"), "k-base"), (say("tuned model", "微调模型"), "k-tuned"))


def table(heads: Sequence[str], rows: Sequence[Html]) -> Html:
    """A table that scrolls by itself where the page is narrow."""
    head = tag("tr", *(tag("th", text, scope="col") for text in heads))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows)), cls="scroll")


def row(*cells: Html | str) -> Html:
    """A row of a table; what is no cell yet becomes one."""
    return tag("tr", *(cell if isinstance(cell, Html) else tag("td", cell) for cell in cells))


def key(read: Read, items: Sequence[tuple[Text, str]] = SIDES) -> Html:
    """Which colour is what."""
    return tag("div", *(tag("span", tag("i", cls=kind), read(name)) for name, kind in items), cls="key")


# ------------------------------------------------------------------------------------------------------ forgetting
def forgetting(found: Forgetting | None, harness: HarnessResult | None, read: Read) -> Html:
    """What the tuned model forgot: skills, ordinary text, tasks of lm-evaluation-harness."""
    if found is None and harness is None:
        return NONE
    parts: list[Html] = [tag("h2", read(say("What was forgotten", "遗忘了什么")))]
    if found is not None:
        parts.append(tag("p", read(found.sentence), cls=found.tone if found.tone in ("bad", "warn") else ""))
        parts += [key(read), pair_bars([_skill_bars(skill, read) for skill in found.skills], read(found.sentence))]
        heads = (
            say("Skill", "能力"),
            say("Before", "之前"),
            say("After", "之后"),
            say("Forgotten", "遗忘"),
            say("p", "p"),
        )
        whole = [found.overall] if found.overall is not None else []
        rows = [_skill_row(skill, found.limit, read) for skill in (*found.skills, *whole)]
        parts.append(table([read(head) for head in heads], rows))
        parts += [_drift(found, read)] if found.drift else []
        parts.append(tag("p", read(_how_forgetting(found)), cls="small muted"))
        if found.advice:
            parts.append(tag("p", read(found.advice), cls="advice"))
    if harness is not None:
        parts += _harness(harness, read)
    return tag("section", *parts)


def _skill_bars(skill: SkillChange, read: Read) -> tuple[str, str, Bar, Bar]:
    about = say("{n} questions · guessing {p:.0%}", "{n} 题 · 随机猜测 {p:.0%}", n=skill.items, p=skill.chance)
    before, after = (Bar(value, f"{value:.0%}") for value in (skill.before, skill.after))
    return read(skill.name), read(about), before, after


def _skill_row(skill: SkillChange, limit: float, read: Read) -> Html:
    judged = skill.verdict(limit)
    tone = {FORGOT: "bad", UNSURE: "warn", NOT_MEASURABLE: "muted"}.get(judged, "good")
    name = tag("td", read(skill.name), tag("small", read(skill.reason)) if skill.reason else NONE)
    ends = NONE if skill.low is None or skill.high is None else tag("small", f"{skill.low:.0%} … {skill.high:.0%}")
    rate = read(say("not measurable", "无法测量")) if skill.rate is None else f"{skill.rate:.0%}"
    return row(
        name,
        f"{skill.before:.0%}",
        f"{skill.after:.0%}",
        tag("td", tag("span", rate, cls=tone), ends),
        tag("td", p_value(skill.p_value)),
    )


def _drift(found: Forgetting, read: Read) -> Html:
    heads = (
        say("Ordinary text", "普通文本"),
        say("Loss before", "之前的损失"),
        say("After", "之后"),
        say("Rise", "上升"),
    )
    rows = []
    for text in found.drift:
        language = LANGUAGES.get(text.language, Text(text.language, text.language))
        tone = "bad" if text in found.drifted else ""
        ends = NONE if text.low is None or text.high is None else tag("small", f"{text.low:+.0%} … {text.high:+.0%}")
        about = say("{n} passages, {t} tokens", "{n} 段，{t} 个词元", n=text.texts, t=text.tokens)
        rise = "—" if text.rise is None else f"{text.rise:+.0%}"
        losses = ["—" if loss is None else f"{loss:.3f}" for loss in (text.before, text.after)]
        name = tag("td", read(language), tag("small", read(about)))
        rows.append(row(name, *losses, tag("td", tag("span", rise, cls=tone), ends)))
    return table([read(head) for head in heads], rows)


def _how_forgetting(found: Forgetting) -> Text:
    return say(
        "Forgotten is (before − after) / before, warned of above {limit:.0%}; small figures are 95% intervals of a "
        "paired bootstrap over the questions. Of a skill that the base model does not know nothing is said. "
        "Asked {how}.",
        "遗忘率为（之前 − 之后）/ 之前，超过 {limit:.0%} 时警告；小字为按题配对自助抽样的 95% 区间。"
        "基础模型不具备的能力不作判断。{how}提问。",
        limit=found.limit,
        how=say("in the model's own chat template", "以模型自带的对话模板")
        if found.own_template
        else say("as plain text", "以纯文本"),
    )


def _harness(found: HarnessResult, read: Read) -> list[Html]:
    heads = (say("Task", "任务"), say("Base", "基础"), say("Tuned", "微调"), say("Forgotten", "遗忘"))
    rows = [row(*_task_cells(item, read)) for item in found.figures]
    name = f"lm-evaluation-harness {found.harness}"
    return [tag("h3", name), table([read(head) for head in heads], rows)]


def _task_cells(item: HarnessFigure, read: Read) -> list[Html]:
    ends = NONE if item.low is None or item.high is None else tag("small", f"{item.low:.0%} … {item.high:.0%}")
    about = read(say("{metric}, {n} questions", "{metric}，{n} 题", metric=item.metric, n=item.items))
    cells = [tag("td", item.task, tag("small", about))]
    for value, error in ((item.base, item.base_error), (item.tuned, item.tuned_error)):
        cells.append(tag("td", f"{value:.3f}", NONE if error is None else tag("small", f"± {error:.3f}")))
    return [*cells, tag("td", "—" if item.rate is None else f"{item.rate:.0%}", ends)]


# ---------------------------------------------------------------------------------------------------------- effect
def effect(found: Effect | None, read: Read) -> Html:
    """What the adapter does to weights and probabilities."""
    if found is None:
        return NONE
    tone = found.tone if found.tone in ("bad", "warn") else ""
    parts: list[Html] = [tag("h2", read(say("What the adapter does", "适配器的作用")))]
    parts.append(tag("p", read(found.sentence), cls=tone))
    if found.variation is not None and found.kl is not None:
        about = say(
            "On {n} positions of {rows} held-out rows the next-token probabilities move by {tv:.1%} (total variation; "
            "KL divergence {kl:.3f} nats).",
            "在 {rows} 个留出行的 {n} 个位置上，下一词元的概率变动 {tv:.1%}（全变差；KL 散度 {kl:.3f} 奈特）。",
            n=found.positions,
            rows=found.rows,
            tv=found.variation,
            kl=found.kl,
        )
        parts.append(tag("p", read(about), cls="small muted"))
    for name, items in (
        (say("By kind of module: change over weight", "按模块类型：变化量与权重之比"), found.kinds),
        (say("By layer", "按层"), found.layers),
    ):
        if items and found.whole is not None and found.whole.delta:
            parts += [tag("h3", read(name)), _parts_table(items[:MOST_LAYERS], read)]
    return tag("section", *parts)


def _parts_table(items: Sequence[Part], read: Read) -> Html:
    heads = (
        say("Part", "部分"),
        say("Modules", "模块数"),
        say("‖ΔW‖", "‖ΔW‖"),
        say("‖W‖", "‖W‖"),
        say("Share", "占比"),
    )
    rows = [
        row(
            item.name,
            str(item.modules),
            f"{item.delta:.3g}",
            f"{item.base:.3g}",
            "—" if item.share is None else f"{item.share:.2%}",
        )
        for item in items
    ]
    return table([read(head) for head in heads], rows)


# -------------------------------------------------------------------------------------------------- judge and votes
def judge(found: Judgement | None, read: Read) -> Html:
    """What a judge model said, and how far it can be believed."""
    if found is None:
        return NONE
    total = max(1, len(found.rows))
    shares = [
        (found.wins / total, "fill-tuned"),
        (found.ties / total, "fill-track"),
        (found.losses / total, "fill-base"),
    ]
    items = (
        (say("tuned won: {n}", "微调胜：{n}", n=found.wins), "k-tuned"),
        (say("ties: {n}", "平：{n}", n=found.ties), "k-tie"),
        (say("base won: {n}", "基础胜：{n}", n=found.losses), "k-base"),
    )
    parts = [
        tag("h2", read(say("What a judge says", "评审模型的意见"))),
        tag("p", read(found.sentence)),
        share_bar(shares, read(found.sentence)),
        key(read, items),
        tag("p", read(_how_judged(found)), cls="small muted"),
    ]
    if found.is_biased:
        bias = say(
            "It prefers a place: the answer shown first won {share:.0%} of its verdicts. Rows that the order decided "
            "count as ties.",
            "它偏好位置：先出示的回答在其评判中胜出 {share:.0%}。由顺序决定的行计为平局。",
            share=found.first_share,
        )
        parts.append(tag("p", read(bias), cls="advice"))
    told = [item for item in found.rows if item.winner in ("base", "tuned") and item.reason][:JUDGED_SHOWN]
    parts += [_judged(item, read) for item in told]
    return tag("section", *parts)


def _how_judged(found: Judgement) -> Text:
    interval = say("", "")
    if found.share is not None and found.low is not None and found.high is not None:
        interval = say(
            " Tuned won {share:.0%} of the decided rows (95%: {low:.0%} … {high:.0%}, p {p}).",
            "决出胜负的行中微调胜 {share:.0%}（95%：{low:.0%} … {high:.0%}，p {p}）。",
            share=found.share,
            low=found.low,
            high=found.high,
            p=p_value(found.p_value),
        )
    return say(
        "Each pair was shown in both orders; a row is won where both agree.{interval} {n} rows the order decided, "
        "{none} could not be judged. Judge: {model}.",
        "每对回答按两种顺序出示，两次一致才算胜。{interval}由顺序决定的有 {n} 行，无法评判的有 {none} 行。"
        "评审模型：{model}。",
        interval=interval,
        n=found.contradictions,
        none=found.unjudged,
        model=found.model,
    )


def _judged(item: JudgedRow, read: Read) -> Html:
    won = say("tuned won", "微调胜") if item.winner == "tuned" else say("base won", "基础胜")
    first = " ".join(item.prompt.split())
    told = read(say("{won}: {question}", "{won}：{question}", won=won, question=first[:100]))
    summary = tag("summary", told, tag("span", shown_name(item.where), cls="where"))
    sides = [
        tag("div", tag("h4", read(name)), tag("p", text, cls="turn", dir="auto"), cls=kind)
        for name, text, kind in (
            (say("Base answered", "基础模型的回答"), item.base, "side"),
            (say("Tuned answered", "微调模型的回答"), item.tuned, "side tuned"),
        )
    ]
    reason = tag(
        "div", tag("h4", read(say("The judge's reason", "评审理由"))), tag("p", item.reason, cls="turn", dir="auto")
    )
    return tag("details", summary, tag("div", tag("div", reason, cls="side wide"), *sides, cls="pair"))


def votes(tests: Sequence[BlindTest], read: Read) -> Html:
    """What people voted without knowing whose answers they saw."""
    counted = [test for test in tests if test.votes]
    if not counted:
        return NONE
    heads = (say("Blind test", "盲测"), say("Votes for each", "各方票数"), say("Neither", "未分高下"), say("p", "p"))
    rows = []
    for test in counted:
        result = test.result
        names = " / ".join(side.title or side.name for side in test.sides)
        told = tag("td", names, tag("small", read(verdict(result, test.sides))))
        rows.append(
            row(told, f"{result.first} / {result.second}", str(result.ties + result.bad), p_value(result.p_value))
        )
    return tag(
        "section",
        tag("h2", read(say("Blind votes of people", "人工盲测投票"))),
        table([read(head) for head in heads], rows),
    )


# ----------------------------------------------------------------------------------------------------------- about
def about(facts: Facts, read: Read) -> Html:
    """Model, data, environment and recipe: what one needs to do it again."""
    known, here = facts.facts, facts.environment
    entries: list[tuple[Text, Html | str]] = [
        (say("Run", "训练"), str(known.get("id") or "")),
        (say("Base model", "基础模型"), str(known.get("model") or "")),
        (say("Its files", "模型文件"), _hashes(_files(known.get("model_files")))),
        (say("Data", "数据"), _hashes(_data(known.get("data")))),
        (say("Lorimer", "Lorimer"), " ".join(filter(None, (str(here.get("lorimer") or ""), _commit(here))))),
        (say("Computed on", "运行环境"), _machine(here)),
        (say("Libraries", "库版本"), _versions(here.get("versions"))),
    ]
    listed = [part for name, value in entries if value for part in (tag("dt", read(name)), tag("dd", value))]
    parts = [tag("h2", read(say("What it was made with", "如何得到"))), tag("dl", *listed)]
    if facts.recipe:
        title = tag("summary", read(say("The recipe as it was run", "实际运行的配方")))
        parts.append(tag("details", title, tag("pre", facts.recipe)))
    return tag("section", *parts)


def _files(plain: Any) -> list[tuple[str, str]]:
    files = plain.items() if isinstance(plain, dict) else ()
    return [(shown_name(name), str(facts.get("sha256", ""))) for name, facts in files if isinstance(facts, dict)]


def _data(plain: Any) -> list[tuple[str, str]]:
    files = plain if isinstance(plain, list) else ()
    return [(shown_name(item.get("path", "")), str(item.get("sha256", ""))) for item in files if isinstance(item, dict)]


def _hashes(files: Sequence[tuple[str, str]]) -> Html | str:
    lines = [tag("div", f"{name} ", tag("code", digest[:64], cls="faint")) for name, digest in files[:100]]
    return tag("div", *lines) if lines else ""


def _commit(here: dict[str, Any]) -> str:
    return str(here.get("commit") or "")[:12]


def _machine(here: dict[str, Any]) -> str:
    cards = [str(card.get("name", "")) for card in here.get("gpus") or () if isinstance(card, dict)]
    memory = here.get("ram_gib")
    parts = [str(here.get("platform") or ""), ", ".join(cards) or str(here.get("cpu") or "")]
    parts.append(f"{memory:.0f} GiB RAM" if isinstance(memory, int | float) else "")
    parts.append(f"Python {here['python']}" if here.get("python") else "")
    return " · ".join(filter(None, parts))


def _versions(plain: Any) -> str:
    found = plain.items() if isinstance(plain, dict) else ()
    return ", ".join(f"{name} {version}" for name, version in found if version)
