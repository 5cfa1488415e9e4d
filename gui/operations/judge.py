"""What the user can do with a judge: choose it, give its key, see what it will cost, ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.protocol.errors import Failure, UserError
from engine.protocol.text import NOTHING, Text, say
from gui.context import AppContext
from gui.operations.jobs import start_later_job, stop_job
from gui.operations.operation import Operation

if TYPE_CHECKING:
    from engine.project.evaluation import Evaluation
    from engine.recipe.judge import JudgeSettings


def choose_judge(context: AppContext, **values: Any) -> None:
    """Keep settings of the judge in the recipe under work."""
    context.draft.set({f"evaluate.judge.{name}": value for name, value in values.items()})
    look_at_judge(context)


def settings_of(context: AppContext) -> JudgeSettings:
    """The judge's settings as they stand."""
    return context.draft.recipe.evaluate.judge


def look_at_judge(context: AppContext) -> None:
    """Find out in the background whether there is a key, which the keyring may ask its owner for, and the cost."""
    settings, found = settings_of(context), context.runs.proof.evaluation

    def look() -> tuple[str, Text]:
        return _key(settings.address), _cost(settings, found)

    def done(known: tuple[str, Text]) -> None:
        if settings == settings_of(context):
            context.judging.put(key=known[0], cost=known[1])

    looking = Operation(context).in_background(look).on_success(done)
    looking.on_failure(lambda failure: context.judging.put(key=context.judging.key, failure=failure))


def _key(address: str) -> str:
    from engine.project import judge_access

    if not address.strip():
        return ""
    checked = judge_access.checked_address(address)
    if judge_access.kept_judge_key(checked):
        return "kept"
    return "variable" if judge_access.judge_key(checked) else "none"


def _cost(settings: JudgeSettings, found: Evaluation | None) -> Text:
    from engine.project.judge_asking import forecast

    if found is None or not settings.address.strip() or not settings.model.strip():
        return NOTHING
    cost = forecast(found, settings, found.seed)
    return say(
        "{requests} questions: about {read:,} tokens to read and {written:,} to write. {equal} of {rows} rows have "
        "equal answers and are not sent.",
        "共 {requests} 次提问：约读入 {read:,} 个词元，写出 {written:,} 个。{rows} 行中有 {equal} 行回答相同，不发送。",
        requests=cost.requests,
        read=cost.prompt_tokens,
        written=cost.answer_tokens,
        equal=cost.equal,
        rows=cost.rows,
    )


def keep_key(context: AppContext, key: str) -> None:
    """Keep the key for the judge's address in the system's keyring."""
    from engine.project import judge_access

    address = settings_of(context).address
    keeping = Operation(context).in_background(lambda: judge_access.keep_judge_key(address, key))
    keeping.on_success(lambda nothing: look_at_judge(context))
    keeping.on_failure(lambda failure: context.judging.put(key=context.judging.key, failure=failure))


def forget_key(context: AppContext) -> None:
    """Take the key for the judge's address out of the keyring."""
    from engine.project import judge_access

    address = settings_of(context).address
    forgetting = Operation(context).in_background(lambda: judge_access.forget_judge_key(address))
    forgetting.on_success(lambda was: look_at_judge(context))


def ask_judge(context: AppContext) -> None:
    """Have the judge compare the answers of the last evaluation, as a job."""
    from engine.project.judge_access import checked_address

    settings = settings_of(context)
    try:
        checked_address(settings.address)
    except UserError as error:
        context.judging.put(key=context.judging.key, failure=Failure.of(error))
        return
    start_later_job(context, context.runs.judge, "judge", {"judge": settings.model_dump(mode="json")})


def stop_judge(context: AppContext) -> None:
    """Ask no more; what was answered is kept."""
    stop_job(context, context.runs.judge)
