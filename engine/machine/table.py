"""The figures behind the advice: one table, each cell with its source. ``docs/advice.md`` is written from it.

Where sources differ, a measurement of ours comes first, then PEFT's published comparison of methods, then the tiers of
tutorials and what is common practice. `advise` only looks figures up here and tries them; whoever wants to change the
advice changes this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from engine.protocol.text import Text, say

V = TypeVar("V")
Optimizer = Literal["adamw", "paged_adamw", "adamw_8bit", "paged_adamw_8bit"]
Goal = Literal["quality", "speed", "smallest"]
Task = Literal["classification", "dialogue", "reasoning", "domain"]


@dataclass(frozen=True, slots=True)
class Cell(Generic[V]):
    """A figure and where it comes from."""

    value: V
    source: Text


@dataclass(frozen=True, slots=True)
class Row(Generic[V]):
    """A figure that holds from a size on. ``least`` is the smallest size for which it does."""

    least: float
    cell: Cell[V]


def look_up(rows: tuple[Row[V], ...], size: float) -> Cell[V]:
    """The figure of the last row whose ``least`` is not above ``size``; rows stand in rising order."""
    return next(row.cell for row in reversed(rows) if size >= row.least)


COMMON = say("common practice", "通行做法")
OURS = say("our measurement", "我们的测量")
PEFT_64 = say(
    "PEFT method comparison (MetaMathQA, 20,000 rows): rank 64 with rank stabilisation 0.513, rank 32 0.478",
    "PEFT 方法比较（MetaMathQA，2 万行）：秩 64 加秩稳定 0.513，秩 32 为 0.478",
)

# ------------------------------------------------------------------------------------------------------ what is wished
GOALS: dict[Goal, Text] = {
    "quality": say("best quality", "质量优先"),
    "speed": say("fastest", "速度优先"),
    "smallest": say("least memory", "最省内存"),
}

# ------------------------------------------------------------------------------------------------- what the rows teach
TASKS: dict[Task, Text] = {
    "classification": say("classification", "分类"),
    "dialogue": say("dialogue", "对话"),
    "reasoning": say("reasoning or code", "推理或代码"),
    "domain": say("a new domain", "新领域"),
}
# Kinds of row as the data room tells them apart (`engine.data.quality.tasks.NAMES`) → what they teach. Kinds that are
# not named here are dialogue.
KINDS: dict[str, Task] = {"classification": "classification", "analysis": "reasoning", "code": "reasoning"}
# Shapes of rows (`engine.data.registry.SHAPES`) that say it by themselves.
SHAPES: dict[str, Task] = {"classification": "classification", "text": "domain"}
# So large a share of the rows decides what all of them teach.
MAJORITY = Cell(0.5, COMMON)


def task_of(kinds: Mapping[str, int], shape: str = "") -> Task:
    """What rows teach: by their shape where that says it, else by how many there are of each kind."""
    if shape in SHAPES:
        return SHAPES[shape]
    every = sum(kinds.values())
    for task in TASKS:
        if every and sum(kinds.get(kind, 0) for kind, of in KINDS.items() if of == task) >= MAJORITY.value * every:
            return task
    return "dialogue"


# ----------------------------------------------------------------------------------------------------- rank, by rows
_LABELS = say("tutorials: 4 to 8 for simple classification", "教程：简单分类用 4 至 8")
_TALK = say("tutorials: 8 to 16 for dialogue", "教程：对话用 8 至 16")
_THINK = say("tutorials: 16 to 32 for reasoning or code", "教程：推理或代码用 16 至 32")
_DOMAIN = say("tutorials: 32 to 64 for a new domain", "教程：新领域用 32 至 64")
_MANY = say("tutorials: 16 to 32 where there is more to learn", "教程：要学的更多时用 16 至 32")
RANK: dict[Task, tuple[Row[int], ...]] = {
    "classification": (Row(0, Cell(8, _LABELS)),),
    "dialogue": (Row(0, Cell(16, _TALK)), Row(20_000, Cell(32, _MANY)), Row(100_000, Cell(64, PEFT_64))),
    "reasoning": (Row(0, Cell(32, _THINK)), Row(20_000, Cell(64, PEFT_64))),
    "domain": (Row(0, Cell(32, _DOMAIN)), Row(20_000, Cell(64, _DOMAIN))),
}
# The rank hardly changes the time (PEFT's comparison: 942 s with rank 32, 966 s with rank 64), so who wishes for speed
# gets the same one.
LOW_RANK = Cell(8, say("tutorials' tier for 12 GiB: QLoRA, rank 8", "教程 12 GiB 档位：QLoRA，秩 8"))

# ------------------------------------------------------------------------------------------------------ by rows
EPOCHS = (
    Row(0, Cell(3.0, say("Stanford Alpaca: 3 passes", "Stanford Alpaca：3 轮"))),
    Row(5_000, Cell(2.0, say("tutorials: 1 to 3 passes", "教程：1 至 3 轮"))),
    Row(50_000, Cell(1.0, say("tutorials: 1 to 3 passes", "教程：1 至 3 轮"))),
)
PREFERENCE_EPOCHS = (Row(0, Cell(1.0, say("Rafailov et al. 2023: 1 pass", "Rafailov 等，2023：1 轮"))),)
# Who wishes for speed gets the fewest passes that still make `LEAST_STEPS` updates, at least this one.
FEWEST_EPOCHS = Cell(1.0, say("tutorials: 1 to 3 passes", "教程：1 至 3 轮"))
# Rows per update. Few rows get smaller batches, so that a run has updates enough to learn from.
EFFECTIVE_BATCHES = Cell((16, 8, 4), say("tutorials: 16 to 32", "教程：16 至 32"))
LEAST_STEPS = Cell(100, OURS)
HELD_OUT = Cell(0.1, say("tutorials: a tenth", "教程：十分之一"))
HELD_OUT_ROWS = Cell(
    1_000,
    say("1,000 rows give a share to within 3 points (95% interval)", "1,000 行可把比例估到 3 个百分点以内（95% 区间）"),
)

# ------------------------------------------------------------------------------------------- by the model's weights
# What the method's own rate is multiplied by.
RATE_FACTOR = (
    # A sweep on 400 Alpaca rows, 150 updates, with 0.26 million weights: held-out loss 3.146 at 2e-4, 2.874 at 1e-3,
    # 2.787 at 2e-3, 2.730 at 4e-3, 2.722 at 8e-3.
    Row(0, Cell(20.0, OURS)),
    # 3.4 million weights, 600 rows, 225 updates: 1.798 at 1e-3, 1.766 at 2e-3.
    Row(1e6, Cell(10.0, OURS)),
    Row(50e6, Cell(2.0, say("tutorials: up to 5e-4", "教程：最高 5e-4"))),
    Row(2e9, Cell(1.0, say("Dettmers et al. 2023: 2e-4 for 7B and 13B", "Dettmers 等，2023：7B 与 13B 用 2e-4"))),
    Row(25e9, Cell(0.5, say("Dettmers et al. 2023: 1e-4 for 33B and 65B", "Dettmers 等，2023：33B 与 65B 用 1e-4"))),
)
FEW_ROWS = Cell(500, COMMON)
FEW_ROWS_FACTOR = Cell(1.5, say("tutorials: up to 5e-4", "教程：最高 5e-4"))

# ------------------------------------------------------------------------------------------------------- always
# The adapter's scale alpha/r for which 2e-4 was tuned is 2 (alpha = 2r). With rank stabilisation the scale is alpha/√r
# (Kalajdzievski 2023), so alpha = 2·√r keeps it at 2 for every rank; 2r would make it 2·√r and the steps too large.
SCALE = Cell(2.0, say("tutorials: alpha = 2r, kept as alpha/√r", "教程：alpha = 2r，按 alpha/√r 保持"))
RANK_STABILISED = Cell(
    True,
    say(
        "PEFT method comparison (MetaMathQA): best of the common choices, at 2.5% more time than rank 32",
        "PEFT 方法比较（MetaMathQA）：常用方法中最好，比秩 32 多用 2.5% 时间",
    ),
)
TARGETS = Cell("all", say("Dettmers et al. 2023: all linear layers", "Dettmers 等，2023：所有线性层"))
DROPOUT = Cell(0.05, say("Dettmers et al. 2023", "Dettmers 等，2023"))
LENGTH_STEP = Cell(64, say("NVIDIA, deep learning performance guide", "NVIDIA 深度学习性能指南"))
# Tokens computed at once: more bring no speed (GPU: products are large by then; CPU: they leave the cache).
MICRO_BATCH_TOKENS = {"cuda": Cell(16_384, COMMON), "cpu": Cell(4_096, OURS)}
LARGEST_MICRO_BATCH = Cell(16, COMMON)
# A larger micro-batch must be faster by this share to be worth its memory.
WORTH = Cell(0.05, COMMON)


# ------------------------------------------------------------------------------------------------------- the order
@dataclass(frozen=True, slots=True)
class Squeeze:
    """How far to go to make a run fit.

    Attributes:
        four_bit: base weights in 4-bit, where the method is free.
        checkpointing: recompute activations.
        optimizer: of the recipe; the CPU, which has no memory to page to, keeps AdamW.
        rank: at most this rank; 0 for the rank that suits the data.
        whole: rows at this percentile of length or below are kept whole: "longest", "p99", "p95" or "p90".
    """

    four_bit: bool = False
    checkpointing: bool = False
    optimizer: Optimizer = "adamw"
    rank: int = 0
    whole: str = "longest"


# The formulas are at most 3% too low against the simulated step (tests/bench/bench_advice.py, bench_memory_formula.py);
# what a GPU's driver and allocator hold beside them is not measured by us yet, so more is left.
ROOMY = Cell(
    0.9,
    say(
        "ours: formulas at most 3% too low; the rest for what a GPU holds beside, not measured yet",
        "我们的测量：公式最多低估 3%；其余留给显卡的额外占用，尚未测量",
    ),
)
CLOSE = Cell(0.96, say("ours: formulas at most 3% too low", "我们的测量：公式最多低估 3%"))


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the order.

    Attributes:
        squeeze: what is given up.
        share: how much of the memory that a run may use it may fill.
        words: what it is, for people.
        source: why it stands where it does.
    """

    squeeze: Squeeze
    share: float
    words: Text
    source: Text

    def closely(self) -> Place:
        """The same, where it may fit closely."""
        return Place(
            self.squeeze, CLOSE.value, say("{text}; fits closely", "{text}；勉强放得下", text=self.words), self.source
        )


EXACT = Place(
    Squeeze(),
    ROOMY.value,
    say("16-bit weights", "16 位权重"),
    say(
        "exact, and faster than 4-bit: 23:36 against 34:06 min on an A100 (H2O's documentation)",
        "精确，且比 4 位快：A100 上 23:36 对 34:06 分钟（H2O 文档）",
    ),
)
EXACT_AGAIN = Place(
    Squeeze(checkpointing=True),
    ROOMY.value,
    say("16-bit weights, activations recomputed", "16 位权重，重算激活值"),
    say("30% more time (axolotl's documentation)", "时间多 30%（axolotl 文档）"),
)
FOUR_BIT = Place(
    Squeeze(four_bit=True),
    ROOMY.value,
    say("4-bit weights", "4 位权重"),
    say("25% more time, little quality lost (Dettmers et al. 2023)", "时间多 25%，质量损失很小（Dettmers 等，2023）"),
)
FOUR_BIT_AGAIN = Place(
    Squeeze(four_bit=True, checkpointing=True),
    ROOMY.value,
    say("4-bit weights, activations recomputed", "4 位权重，重算激活值"),
    say("both costs in time", "两种时间代价都有"),
)
PAGED = Place(
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit"),
    CLOSE.value,
    say("the same, optimizer in 8 bits and paged", "同上，优化器用 8 位并可分页"),
    say(
        "as good in 8 bits (Dettmers et al. 2022), but moving it takes time",
        "8 位同样好（Dettmers 等，2022），但搬移需要时间",
    ),
)
LOW = Place(
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit", rank=LOW_RANK.value),
    CLOSE.value,
    say("the same, with a rank of at most 8", "同上，秩不超过 8"),
    LOW_RANK.source,
)
CUT_1, CUT_5, CUT_10 = (
    Place(
        Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit", rank=LOW_RANK.value, whole=whole),
        CLOSE.value,
        say("the same, the longest {n} of the rows cut", "同上，截断最长的 {n} 的行", n=share),
        say("loses data, so it comes last", "会损失数据，所以排在最后"),
    )
    for whole, share in (("p99", "1%"), ("p95", "5%"), ("p90", "10%"))
)

# The published order, one for each wish: the advice is the first place at which a recipe fits. Whatever fits at a place
# still fits there with more memory, so more memory never leads to a lower place.
ORDER: dict[Goal, tuple[Place, ...]] = {
    # Exact weights first; among what costs nothing but time, what fits with room before what fits closely.
    "quality": (
        EXACT,
        EXACT_AGAIN,
        FOUR_BIT,
        FOUR_BIT_AGAIN,
        EXACT.closely(),
        EXACT_AGAIN.closely(),
        FOUR_BIT.closely(),
        FOUR_BIT_AGAIN.closely(),
        PAGED,
        LOW,
        CUT_1,
        CUT_5,
        CUT_10,
    ),
    # By time: 4-bit weights cost 25%, recomputing 30%.
    "speed": (
        EXACT,
        FOUR_BIT,
        EXACT_AGAIN,
        FOUR_BIT_AGAIN,
        EXACT.closely(),
        FOUR_BIT.closely(),
        EXACT_AGAIN.closely(),
        FOUR_BIT_AGAIN.closely(),
        PAGED,
        LOW,
        CUT_1,
        CUT_5,
        CUT_10,
    ),
    # All that saves memory at once, one row at a time; rows stay whole as long as that is enough.
    "smallest": (
        replace(
            LOW,
            words=say(
                "4-bit weights, recomputed, optimizer in 8 bits and paged, a rank of at most 8, one row at once",
                "4 位权重、重算、8 位可分页优化器、秩不超过 8、每批一行",
            ),
        ),
        CUT_1,
        CUT_5,
        CUT_10,
    ),
}
# The same without wish and room, for who goes down from a recipe that did not fit (`step_down`).
SQUEEZES: tuple[Squeeze, ...] = tuple(dict.fromkeys(place.squeeze for place in ORDER["quality"]))
# Sizes of cards that there are, in GiB, to say which would do.
CARDS = (6, 8, 12, 16, 24, 32, 48, 80, 141)
# Lengths that are tried, to say what would fit, when nothing does.
SHORTER = (4096, 2048, 1024, 768, 512, 384, 256, 192, 128, 64)
