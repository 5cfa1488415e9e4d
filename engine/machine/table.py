"""The figures behind the advice: one table, each cell with its source.

Where sources differ, a measurement of ours comes first, then what others published with a measurement, then common
practice. `advise` only looks figures up here and tries them; whoever wants to change the advice changes this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from engine.protocol.text import Text, say

V = TypeVar("V")
Optimizer = Literal["adamw", "paged_adamw", "adamw_8bit", "paged_adamw_8bit"]


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
BEST_RANK = say(
    "PEFT method comparison on MetaMathQA: rank 64 with rank stabilisation is best",
    "PEFT 方法比较（MetaMathQA）：秩 64 加秩稳定最好",
)

# ------------------------------------------------------------------------------------------------------ by rows
RANK = (
    Row(0, Cell(16, say("common practice: 8 to 16 for dialogue", "通行做法：对话用 8 至 16"))),
    Row(20_000, Cell(32, say("common practice: 16 to 32 for reasoning or code", "通行做法：推理或代码用 16 至 32"))),
    Row(100_000, Cell(64, BEST_RANK)),
)
EPOCHS = (
    Row(0, Cell(3.0, say("Stanford Alpaca: 3 passes", "Stanford Alpaca：3 轮"))),
    Row(5_000, Cell(2.0, say("common practice: 1 to 3 passes", "通行做法：1 至 3 轮"))),
    Row(50_000, Cell(1.0, say("common practice: 1 to 3 passes", "通行做法：1 至 3 轮"))),
)
PREFERENCE_EPOCHS = (Row(0, Cell(1.0, say("Rafailov et al. 2023: 1 pass", "Rafailov 等，2023：1 轮"))),)
# Rows per update. Few rows get smaller batches, so that a run has updates enough to learn from.
EFFECTIVE_BATCHES = Cell((16, 8, 4), say("common practice: 16 to 32", "通行做法：16 至 32"))
LEAST_STEPS = Cell(100, OURS)
HELD_OUT = Cell(0.1, COMMON)
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
    Row(50e6, Cell(2.0, say("common practice: up to 5e-4", "通行做法：最高 5e-4"))),
    Row(2e9, Cell(1.0, say("Dettmers et al. 2023: 2e-4 for 7B and 13B", "Dettmers 等，2023：7B 与 13B 用 2e-4"))),
    Row(25e9, Cell(0.5, say("Dettmers et al. 2023: 1e-4 for 33B and 65B", "Dettmers 等，2023：33B 与 65B 用 1e-4"))),
)
FEW_ROWS = Cell(500, COMMON)
FEW_ROWS_FACTOR = Cell(1.5, say("common practice: up to 5e-4", "通行做法：最高 5e-4"))

# ------------------------------------------------------------------------------------------------------- always
# The adapter's scale alpha/r for which 2e-4 was tuned is 2 (alpha = 2r). With rank stabilisation the scale is alpha/√r
# (Kalajdzievski 2023), so alpha = 2·√r keeps it at 2 for every rank; 2r would make it 2·√r and the steps too large.
SCALE = Cell(2.0, say("common practice: alpha = 2r", "通行做法：alpha = 2r"))
DROPOUT = Cell(0.05, say("Dettmers et al. 2023", "Dettmers 等，2023"))
LENGTH_STEP = Cell(64, say("NVIDIA, deep learning performance guide", "NVIDIA 深度学习性能指南"))
# Tokens computed at once: more bring no speed (GPU: products are large by then; CPU: they leave the cache).
MICRO_BATCH_TOKENS = {"cuda": Cell(16_384, COMMON), "cpu": Cell(4_096, OURS)}
LARGEST_MICRO_BATCH = Cell(16, COMMON)


@dataclass(frozen=True, slots=True)
class Squeeze:
    """One rung: how far to go to make a run fit.

    Attributes:
        four_bit: base weights in 4-bit, where the method is free.
        checkpointing: recompute activations.
        optimizer: of the recipe.
        rank: at most this rank; 0 for the rank that suits the data.
        whole: rows at this percentile of length or below are kept whole: "longest", "p99", "p95" or "p90".
    """

    four_bit: bool = False
    checkpointing: bool = False
    optimizer: Optimizer = "adamw"
    rank: int = 0
    whole: str = "longest"


# What is given up, in this order, until the run fits. 16-bit first: its weights are exact, and it is faster than
# 4-bit (H2O's documentation: 23:36 against 34:06 minutes on an A100). Checkpointing costs about 30% time (axolotl's
# documentation). Paged 8-bit AdamW: Dettmers et al. 2023. Cutting rows loses data, so it comes last.
SQUEEZES: tuple[Squeeze, ...] = (
    Squeeze(),
    Squeeze(checkpointing=True),
    Squeeze(four_bit=True),
    Squeeze(four_bit=True, checkpointing=True),
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit"),
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit", rank=8),
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit", rank=8, whole="p99"),
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit", rank=8, whole="p95"),
    Squeeze(four_bit=True, checkpointing=True, optimizer="paged_adamw_8bit", rank=8, whole="p90"),
)
# So many first rungs give up nothing but time: among them one that fits with room is preferred to one that fits
# closely.
ONLY_TIME = 4
# A larger micro-batch must be faster by this share to be worth its memory.
WORTH = 0.05
# Lengths that are tried, to say what would fit, when nothing does.
SHORTER = (4096, 2048, 1024, 768, 512, 384, 256, 192, 128, 64)
