"""A judge model compares base and tuned: each pair of answers in both orders, so that no answer wins by its place.

Position bias of such judges is well known (Zheng et al. 2023, "Judging LLM-as-a-judge", section 3.3); as there, a row
is won only where both orders agree, and all else is a tie. Equal answers are ties that nobody is asked about.
"""

from __future__ import annotations

import hashlib
import json
import queue
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.evaluate.judge_client import Cancelled, JudgeClient, Reply, Unanswered, unreachable
from engine.evaluate.watch import Watch
from engine.project.atomic import disk_error, open_plain
from engine.project.evaluation import EvaluatedRow, read_evaluation
from engine.project.judge_access import checked_address, judge_key
from engine.project.judge_asking import ORDERS, Forecast, checked_prompt, forecast, judge_prompt, rows_to_judge
from engine.project.judgement import JudgedRow, Judgement, Winner, write_judgement
from engine.project.run_folder import RunFolder
from engine.project.votes import binomial_p, exact_interval
from engine.protocol.channel import Channel
from engine.protocol.codec import to_plain
from engine.protocol.errors import UserError
from engine.protocol.events import Note
from engine.protocol.text import NOTHING, Text, say
from engine.recipe.judge import JudgeSettings

LONGEST_REASON = 500
LOOK_SECONDS = 0.1
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*)\n```$", re.DOTALL)
REPAIR = 'That is not the form asked for. Answer with one JSON object and nothing else: {"verdict": "1"}, "2" or "tie".'


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of the judge: "1", "2", "tie", or "" for none, with the reason or the problem."""

    verdict: str
    reason: str = ""
    problem: Text = NOTHING
    prompt_tokens: int = 0
    answer_tokens: int = 0


def judge(run: RunFolder, settings: JudgeSettings, seed: int, channel: Channel) -> dict[str, Any]:
    """Have a judge compare the answers of the run's last evaluation, and keep the result in ``judgement.json``.

    What was answered already (same judge, same words) is not asked again: a judging that was stopped goes on.

    Returns:
        Wins, ties and losses of the tuned model with interval and test, and what the judge itself is worth.

    Raises:
        UserError: there is no evaluation, the address is none or not safe, the key is refused, no row could be judged.
        Stopped: the user asked; answers that came are kept.
    """
    began = time.monotonic()
    address = checked_address(settings.address)
    if not settings.model.strip():
        raise UserError(
            "judge.no_model",
            say("Which model is to judge?", "用哪个模型评判？"),
            say(
                "Name it as the endpoint does (evaluate.judge.model).",
                "请填写服务中的模型名称（evaluate.judge.model）。",
            ),
            where="evaluate.judge.model",
        )
    checked_prompt(settings)
    evaluation = read_evaluation(run)
    if evaluation is None:
        raise UserError(
            "judge.not_evaluated",
            say("There are no answers to judge yet.", "还没有可评判的回答。"),
            say("Evaluate the run first.", "请先评估这次训练。"),
            where=str(run.path),
        )
    rows = rows_to_judge(evaluation, settings, seed)
    if not rows:
        raise UserError(
            "judge.no_rows",
            say("No row was answered by both models.", "没有两个模型都回答了的行。"),
            say("Plain text asks no questions.", "纯文本没有提问。"),
            where=str(run.evaluation),
        )
    channel.emit(Note(text=cost_words(forecast(evaluation, settings, seed), address), code="judge.forecast"))
    client = JudgeClient(
        address,
        settings.model,
        judge_key(address),
        timeout=settings.timeout,
        max_tokens=settings.max_tokens,
        seed=seed,
    )
    said = _Asking(run, settings, client, seed).all(rows, Watch(channel))
    found = judged(rows, said, settings, address, seed=seed, requests=client.requests, seconds=time.monotonic() - began)
    if found.unjudged == len(rows):
        problem = next((row.problem for row in found.rows if row.problem), NOTHING)
        raise unreachable(address, problem)
    write_judgement(run, found)
    return document(found)


def cost_words(cost: Forecast, address: str) -> Text:
    """What it will cost, in a sentence."""
    return say(
        "{requests} questions to {address}: about {read:,} tokens to read and {written:,} to write, at most {most:,}. "
        "{equal} of {rows} rows have equal answers and are not sent.",
        "将向 {address} 提问 {requests} 次：约读入 {read:,} 个词元，写出 {written:,} 个，至多 {most:,} 个。"
        "{rows} 行中有 {equal} 行回答相同，不发送。",
        requests=cost.requests,
        address=address,
        read=cost.prompt_tokens,
        written=cost.answer_tokens,
        most=cost.most_answer_tokens,
        equal=cost.equal,
        rows=cost.rows,
    )


# ---------------------------------------------------------------------------------------------------------- asking
Place = tuple[int, str]
"""A row's place, and whose answer stands first."""


class _Asking:
    """Asks all rows in both orders, some at once, and keeps each answer as it comes."""

    def __init__(self, run: RunFolder, settings: JudgeSettings, client: JudgeClient, seed: int) -> None:
        self._run, self._settings, self._client, self._seed = run, settings, client, seed
        self._known = _kept_answers(run)

    def all(self, rows: Sequence[EvaluatedRow], watch: Watch) -> dict[Place, Said]:
        """What the judge said of each pair and order. Raises `Stopped`, or the first `UserError` that ends all."""
        places = [(i, first) for i, row in enumerate(rows) if row.base.answer != row.tuned.answer for first in ORDERS]
        prompts = {place: judge_prompt(rows[place[0]], place[1], self._settings) for place in places}
        found = {place: self._known[key] for place in places if (key := self._key(prompts[place])) in self._known}
        left = [place for place in places if place not in found]
        watch.stage("judge", say("Asking the judge", "请评审模型评判"), len(places), "answers")
        watch.at(len(found))
        answers: queue.SimpleQueue[tuple[Place, Said | UserError]] = queue.SimpleQueue()
        asked: queue.SimpleQueue[Place] = queue.SimpleQueue()
        for place in left:
            asked.put(place)
        workers = [
            threading.Thread(target=self._work, args=(asked, answers, prompts), daemon=True, name="judge")
            for _ in range(min(self._settings.at_once, len(left)))
        ]
        for worker in workers:
            worker.start()
        try:
            while len(found) < len(places):
                watch.look()
                try:
                    place, said = answers.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(said, UserError):
                    raise said
                self._keep(prompts[place], said)
                found[place] = said
                watch.at(len(found))
        finally:
            self._client.close()
            for worker in workers:
                worker.join(timeout=2.0)
        return found

    def _work(
        self,
        asked: queue.SimpleQueue[Place],
        answers: queue.SimpleQueue[tuple[Place, Said | UserError]],
        prompts: Mapping[Place, str],
    ) -> None:
        while True:
            try:
                place = asked.get_nowait()
                answers.put((place, ask(self._client, prompts[place])))
            except (queue.Empty, Cancelled):
                return
            except UserError as error:
                answers.put((place, error))
                return

    def _key(self, prompt: str) -> str:
        """What tells one question from all others: who is asked, and how."""
        how = [self._settings.address, self._settings.model, self._settings.max_tokens, self._seed, prompt]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def _keep(self, prompt: str, said: Said) -> None:
        if not said.verdict:
            return
        line = {"key": self._key(prompt), "verdict": said.verdict, "reason": said.reason}
        counts = {"prompt_tokens": said.prompt_tokens, "answer_tokens": said.answer_tokens}
        try:
            with open_plain(self._run.judge_answers, "ab") as file:
                file.write((json.dumps({**line, **counts}, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise disk_error(error, self._run.judge_answers) from error


def _kept_answers(run: RunFolder) -> dict[str, Said]:
    """Answers of earlier judgings; damaged lines count as none."""
    try:
        with open_plain(run.judge_answers) as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        try:
            plain = json.loads(line)
            verdict, reason = plain["verdict"], str(plain["reason"])[:LONGEST_REASON]
            read, written = int(plain["prompt_tokens"]), int(plain["answer_tokens"])
            if verdict in ("1", "2", "tie"):
                found[str(plain["key"])] = Said(verdict, reason, NOTHING, read, written)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def ask(client: JudgeClient, prompt: str) -> Said:
    """The judge's verdict on one pair; where it cannot be read, the judge is asked once more for the form.

    Raises:
        UserError, Cancelled: as `JudgeClient.ask`.
    """
    messages = [{"role": "user", "content": prompt}]
    read = written = 0
    for _ in range(2):
        try:
            reply: Reply = client.ask(messages)
        except Unanswered as error:
            return Said("", problem=error.reason, prompt_tokens=read, answer_tokens=written)
        read, written = read + reply.prompt_tokens, written + reply.answer_tokens
        parsed = parse(reply.text)
        if parsed is not None:
            return Said(parsed[0], parsed[1], NOTHING, read, written)
        messages = [
            *messages[:1],
            {"role": "assistant", "content": reply.text[:4000]},
            {"role": "user", "content": REPAIR},
        ]
    problem = say("its answer holds no verdict", "其回答中没有评判结果")
    return Said("", problem=problem, prompt_tokens=read, answer_tokens=written)


def parse(text: str) -> tuple[str, str] | None:
    """(verdict, reason) of an answer that is one JSON object as asked for; None for anything else.

    What a model thinks aloud before (``<think>``), and a fence around the object, are passed over; nothing is looked
    for inside a text, since an answer that it repeats could hold a verdict, too.
    """
    plain = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.match(plain)
    try:
        found = json.loads(fenced[1] if fenced else plain)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    verdict, reason = found.get("verdict"), found.get("reason", "")
    verdict = str(verdict) if isinstance(verdict, int) and not isinstance(verdict, bool) else verdict
    if not isinstance(verdict, str) or verdict.strip().lower() not in ("1", "2", "tie"):
        return None
    return verdict.strip().lower(), str(reason)[:LONGEST_REASON] if isinstance(reason, str) else ""


# --------------------------------------------------------------------------------------------------------- figures
def judged(
    rows: Sequence[EvaluatedRow],
    said: Mapping[Place, Said],
    settings: JudgeSettings,
    address: str,
    *,
    seed: int = 0,
    requests: int = 0,
    seconds: float = 0.0,
) -> Judgement:
    """Wins, ties and losses, and how much the order counted."""
    found = [_row(row, said.get((i, "base")), said.get((i, "tuned"))) for i, row in enumerate(rows)]
    count = {winner: sum(row.winner == winner for row in found) for winner in ("tuned", "tie", "base", "none")}
    wins, decided = count["tuned"], count["tuned"] + count["base"]
    low, high = exact_interval(wins, decided) if decided else (None, None)
    named = [(row.base_first, "base") for row in found] + [(row.tuned_first, "tuned") for row in found]
    named = [(winner, first) for winner, first in named if winner in ORDERS]
    first = sum(winner == shown for winner, shown in named)
    return Judgement(
        model=settings.model,
        address=address,
        rows=tuple(found),
        wins=wins,
        ties=count["tie"],
        losses=count["base"],
        unjudged=count["none"],
        share=wins / decided if decided else None,
        low=low,
        high=high,
        p_value=binomial_p(wins, decided) if decided else None,
        first_share=first / len(named) if named else None,
        first_p_value=binomial_p(first, len(named)) if named else None,
        contradictions=sum(row.contradicted for row in found),
        requests=requests,
        prompt_tokens=sum(answer.prompt_tokens for answer in said.values()),
        answer_tokens=sum(answer.answer_tokens for answer in said.values()),
        seed=seed,
        seconds=round(seconds, 3),
        created=round(time.time(), 3),
    )


def _row(row: EvaluatedRow, base_first: Said | None, tuned_first: Said | None) -> JudgedRow:
    base, tuned = row.base.answer or "", row.tuned.answer or ""
    if base_first is None or tuned_first is None:  # equal answers
        return JudgedRow(row.where, row.prompt, base, tuned, "tie")
    one = _winner(base_first.verdict, {"1": "base", "2": "tuned"})
    two = _winner(tuned_first.verdict, {"1": "tuned", "2": "base"})
    return JudgedRow(
        row.where,
        row.prompt,
        base,
        tuned,
        "none" if "none" in (one, two) else one if one == two else "tie",
        one,
        two,
        base_first.reason,
        base_first.problem or tuned_first.problem,
    )


def _winner(verdict: str, named: Mapping[str, Winner]) -> Winner:
    return "tie" if verdict == "tie" else named.get(verdict, "none")


def document(found: Judgement) -> dict[str, Any]:
    """The judgement as the command line gives it: figures without the rows."""
    plain: dict[str, Any] = to_plain(found)
    return {
        **{name: value for name, value in plain.items() if name not in ("rows", "version")},
        "rows": len(found.rows),
    }
