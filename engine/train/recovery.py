"""What a run recovers from: told in a sentence, and written into the recipe as run, with which a resume goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from safetensors.torch import load_file

from engine.data.rows import Row
from engine.data.token_store import Examples
from engine.model.load import out_of_memory
from engine.objectives.ladder import Descent, Rung, at_the_end
from engine.objectives.trainer import Hooks
from engine.project.run_folder import RunFolder
from engine.protocol.channel import Channel
from engine.protocol.errors import EXIT_MACHINE, Problem, UserError
from engine.protocol.events import Note, RolledBack
from engine.protocol.text import NOTHING, Text, say
from engine.recipe.file import save
from engine.recipe.recipe import Recipe, Recovered
from engine.train import checkpoints
from engine.train.adapter import PEFT_FILES
from engine.train.checkpoints import Checkpoint
from engine.train.watch import Trouble, what_happened

Cause = Literal["memory", "killed", "loss"]

MOST_RETURNS = 3
"""How often one run goes back by itself because of its loss."""
NAMED = 6
"""Rows that a sentence names."""
SNIPPET = 80


class Recoveries:
    """Tells each recovery and writes it down.

    Attributes:
        recipe: as the run goes on.
    """

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        channel: Channel,
        keep: Callable[[Callable[[], None]], None] = lambda write: write(),
        *,
        resume: bool = True,
    ) -> None:
        """``keep`` writes what must be kept, and may wait for the disk; a run that does not ``resume`` has recovered
        from nothing yet."""
        self._run, self._channel, self._keep = run, channel, keep
        self.recipe = recipe if resume else recipe.model_copy(update={"recovered": ()})

    @property
    def left_out(self) -> frozenset[int]:
        """Optimizer steps whose rows are passed over."""
        return frozenset(self.recipe.recovered[-1].left_out if self.recipe.recovered else ())

    @property
    def returns(self) -> int:
        """How often the run went back because of its loss."""
        return sum(item.cause == "loss" for item in self.recipe.recovered)

    def descended(self, descent: Descent) -> None:
        """Memory ran out in the process, and less is computed at once from here on."""
        self._write(descent.step, "memory", descent.after, self.left_out)
        self._tell("memory.recovered", descent.step, descended(descent, self.recipe.effective_batch))

    def restarted(self, step: int) -> None:
        """The system ended the process for lack of memory after ``step`` was saved: go on with less at once.

        Raises:
            UserError: nothing is left to give up.
        """
        rung = Rung.of(self.recipe)
        longest = rung.longest or self.recipe.data.max_length
        lower = rung.lower(longest, shorten=self.recipe.train.shorten)
        if lower is None:
            raise at_the_end(
                out_of_memory(MemoryError("the system ended the process"), gpu=False), step=step, longest=longest
            )
        self._write(step, "killed", lower, self.left_out)
        self._tell("memory.restarted", step, restarted(step, rung, lower))

    def left(self, trouble: Trouble) -> None:
        """The rows of these steps are passed over when the run goes on."""
        added = self.left_out | set(range(trouble.first, trouble.last + 1))
        self._write(trouble.first, "loss", Rung.of(self.recipe), added)

    def _write(self, step: int, cause: Cause, rung: Rung, left_out: frozenset[int]) -> None:
        train = self.recipe.train.model_copy(
            update={
                "batch_size": rung.rows,
                "accumulation": self.recipe.effective_batch // rung.rows,
                "checkpointing": rung.checkpointing,
            }
        )
        entry = Recovered(
            step=step,
            cause=cause,
            batch_size=train.batch_size,
            accumulation=train.accumulation,
            held_out_rows=rung.held_out,
            checkpointing=rung.checkpointing,
            longest=rung.longest,
            left_out=tuple(sorted(left_out)),
        )
        self.recipe = self.recipe.model_copy(update={"train": train, "recovered": (*self.recipe.recovered, entry)})
        recipe = self.recipe
        self._keep(lambda: save(recipe, self._run.recipe_as_run))

    def _tell(self, code: str, step: int, text: Text) -> None:
        self._channel.emit(Note(code=code, level="recovery", text=text, step=step))


# -------------------------------------------------------------------------------------------------------- the sentences
def descended(descent: Descent, effective: int) -> Text:
    """What is other after memory ran out in the process."""
    before, after, step = descent.before, descent.after, descent.step
    if after == before:
        return say(
            "Memory ran out at step {step} with one row at once; it was tried once more with memory freed.",
            "第 {step} 步在每批一行时内存不足；已释放内存后重试一次。",
            step=step,
        )
    if after.longest != before.longest:
        what = say("from here on rows are cut to {n} tokens", "此后各行截断为 {n} 个词元", n=after.longest)
    elif descent.measuring:
        return say(
            "Memory ran out while measuring after step {step}; held-out rows are now measured {after} instead of "
            "{before} at once.",
            "第 {step} 步后评估时内存不足；此后每次评估 {after} 行留出数据（原为 {before} 行）。",
            step=step,
            before=before.held_out,
            after=after.held_out,
        )
    elif after.checkpointing != before.checkpointing:
        what = say("recomputing was switched on, which needs more time", "已开启重算，用时会增加")
    else:
        what = say(
            "rows at once {before} → {after}, each step still learns {effective}",
            "每批行数 {before} → {after}，每步仍学习 {effective} 行",
            before=before.rows,
            after=after.rows,
            effective=effective,
        )
    return say(
        "Memory ran out at step {step}; it was repeated: {what}.",
        "第 {step} 步内存不足，已重做：{what}。",
        step=step,
        what=what,
    )


def restarted(step: int, before: Rung, after: Rung) -> Text:
    """What is other after the system ended the process."""
    if after.rows != before.rows:
        what = say("rows at once {b} → {a}", "每批行数 {b} → {a}", b=before.rows, a=after.rows)
    elif after.checkpointing != before.checkpointing:
        what = say("recomputing is on", "已开启重算")
    else:
        what = say("rows are cut to {n} tokens", "各行截断为 {n} 个词元", n=after.longest)
    return say(
        "Started again after the system had ended the process; going on from {where}: {what}.",
        "进程被系统终止后已重新启动，从{where}继续：{what}。",
        where=place(step),
        what=what,
    )


def place(step: int) -> Text:
    """Where a run goes on from."""
    return say("step {n}", "第 {n} 步", n=step) if step else say("the beginning", "头")


def steps(trouble: Trouble) -> Text:
    """Which steps the loss broke away in."""
    if trouble.first == trouble.last:
        return say("step {n}", "第 {n} 步", n=trouble.first)
    return say("steps {a} to {b}", "第 {a} 至 {b} 步", a=trouble.first, b=trouble.last)


# ------------------------------------------------------------------------------------------------ the loss broke away
def roll_back(run: RunFolder, trouble: Trouble, channel: Channel) -> Checkpoint | None:
    """Go back to the newest checkpoint from before the trouble that is whole and has numbers for weights.

    Checkpoints after it are removed: nothing may go on from them. None: there is no good one.
    """
    known = checkpoints.checkpoints(run)
    good = next((item for item in reversed(known) if item.step < trouble.first and _is_good(item)), None)
    for item in known:
        if good is None or item.step > good.step:
            checkpoints.remove(item.path)
    channel.emit(RolledBack(step=good.step if good else 0))
    return good


def _is_good(checkpoint: Checkpoint) -> bool:
    if not checkpoints.is_whole(checkpoint):
        return False
    weights = load_file(checkpoint.path / PEFT_FILES[1])
    return all(bool(torch.isfinite(weight).all()) for weight in weights.values())


def rows_of(trainer: Hooks, examples: Examples, trouble: Trouble) -> list[Row]:
    """The rows of the batches in which the loss broke away."""
    wanted = [index for step in range(trouble.first, trouble.last + 1) for index in trainer.places(step)]
    return [examples[index].row for index in dict.fromkeys(wanted)]


def went_back(trouble: Trouble, rows: Sequence[Row], back: Checkpoint | None) -> Note:
    """The note of a run that went back."""
    text = say(
        "{what}. Went back to {where}; from there on the rows of {steps} are left out: {rows}.",
        "{what}。已回到{where}；此后跳过{steps}的行：{rows}。",
        what=what_happened(trouble),
        where=place(back.step if back else 0),
        steps=steps(trouble),
        rows=named(rows),
    )
    return Note(code="train.rolled_back", level="recovery", text=text, step=trouble.first)


def ended(trouble: Trouble, rows: Sequence[Row], back: Checkpoint | None, recipe: Recipe) -> UserError:
    """What a person should know of a run that its loss ended."""
    half = f"{recipe.train.learning_rate / 2:g}"
    finer = say(" or with bf16 or fp32", "或 bf16、fp32 精度") if recipe.train.precision == "fp16" else NOTHING
    problems = (Problem("train.row", _snippet(row), where=row.where) for row in rows)
    return UserError(
        "train.not_finite" if trouble.usual is None else "train.spike",
        say(
            "{what}. The run went back to {where} and ended. The rows of {steps}: {rows}.",
            "{what}。训练已回到{where}并结束。{steps}的行：{rows}。",
            what=what_happened(trouble),
            where=place(back.step if back else 0),
            steps=steps(trouble),
            rows=named(rows),
        ),
        say(
            "Look at these rows. Start again with a lower learning rate (such as {half}){finer}, or continue the run: "
            "it then leaves these rows out.",
            "请检查这些行。可用更低的学习率（如 {half}）{finer}重新开始，或继续训练：届时会跳过这些行。",
            half=half,
            finer=finer,
        ),
        where=str(steps(trouble)),
        problems=tuple(problems),
        exit_code=EXIT_MACHINE,
    )


def named(rows: Sequence[Row]) -> Text:
    """Where some rows stand."""
    first = ", ".join(row.where for row in rows[:NAMED])
    more = len(rows) - NAMED
    if more <= 0:
        return Text(first, first.replace(", ", "、"))
    return say(
        "{first} and {n} more", "{zh} 等共 {all} 行", first=first, zh=first.replace(", ", "、"), n=more, all=len(rows)
    )


def _snippet(row: Row) -> Text:
    words = " ".join((row.question or row.answer).split())
    return Text(*[words if len(words) <= SNIPPET else words[: SNIPPET - 1] + "…"] * 2)
