"""What ``lorimer rehearse`` says of a rehearsal."""

from __future__ import annotations

from typing import Any

from engine.jobs import english
from engine.protocol.errors import EXIT_MACHINE, Failure
from engine.protocol.events import CLOSE, HOLDS
from engine.protocol.text import Text, as_text, say

VERDICTS: dict[str, Text] = {
    "holds": say("It holds.", "可以跑通。"),
    "close": say("It holds, with little memory left.", "可以跑通，但内存所剩不多。"),
    "out_of_memory": say("Memory did not suffice in the rehearsal.", "排练时内存不足。"),
    "killed": say(
        "The system ended the rehearsal; most often memory ran out.", "排练被系统终止；最常见的原因是内存不足。"
    ),
}
MIB = 2**20


def rehearsal_document(value: dict[str, Any]) -> dict[str, Any]:
    """The command's document; empty when the rehearsal came to nothing."""
    if not value:
        return {}
    left_out = ("about", "failure", "next_recipe", "next_change", "next_gib", "next_seconds")
    document = {name: each for name, each in value.items() if name not in left_out}
    down = {name: value[f"next_{name}"] for name in ("recipe", "change", "gib", "seconds")}
    return english({**document, "next": down if value["next_recipe"] else None})  # type: ignore[no-any-return]


def not_held(value: dict[str, Any]) -> Failure | None:
    """The failure to tell where memory did not suffice."""
    if not value or value["verdict"] in (HOLDS, CLOSE):
        return None
    known = value["predicted_gib"] is not None
    needs = say(
        " Predicted: {told:.2f} GiB; free: {free:.2f}.",
        "预计 {told:.2f} GiB，可用 {free:.2f} GiB。",
        told=value["predicted_gib"] or 0.0,
        free=value["free_gib"] or 0.0,
    )
    message = Text(VERDICTS[value["verdict"]].en + needs.en * known, VERDICTS[value["verdict"]].zh + needs.zh * known)
    if value["next_recipe"]:
        hint = say(
            "Next: {change}: about {gib:.2f} GiB. --settle tries it.",
            "下一步：{change}，约 {gib:.2f} GiB。加 --settle 会自动尝试。",
            change=as_text(value["next_change"]),
            gib=value["next_gib"],
        )
    else:
        hint = say(
            "Nothing is left to save: take a smaller model or shorter rows, or close other programs.",
            "已无可再省之处：请换更小的模型、缩短行，或关闭其他程序。",
        )
    details = str((value["failure"] or {}).get("details", ""))
    return Failure(f"rehearsal.{value['verdict']}", message, hint, details=details, exit_code=EXIT_MACHINE)


def rehearsal_lines(value: dict[str, Any]) -> list[Text]:
    """The rehearsal for people."""
    lines = [VERDICTS[value["verdict"]]]
    changes = [as_text(each["change"]) for each in value["tried"][1:]]
    lines += [say("Changed: {change}", "已改：{change}", change=change) for change in changes]
    if value["predicted_gib"] is not None:
        lines.append(
            say(
                "Memory: {peak:.2f} GiB at its peak ({told:.2f} predicted, {free:.2f} free on {device})",
                "内存：峰值 {peak:.2f} GiB（预计 {told:.2f}，{device} 可用 {free:.2f}）",
                peak=value["peak_gib"],
                told=value["predicted_gib"],
                free=value["free_gib"],
                device=value["device"],
            )
        )
    lines.append(
        say(
            "Time: {step:.2f} s a step, {longest:.2f} s on the longest rows; about {minutes:.1f} min for {steps} steps",
            "时间：每步 {step:.2f} 秒，最长的行 {longest:.2f} 秒；{steps} 步约 {minutes:.1f} 分钟",
            step=value["step_seconds"],
            longest=value["longest_step_seconds"],
            minutes=value["seconds"] / 60,
            steps=value["steps"],
        )
    )
    if value["evaluation_seconds"] is not None:
        lines.append(
            say(
                "Held-out rows: {seconds:.1f} s each time they are measured",
                "留出数据：每次评估 {seconds:.1f} 秒",
                seconds=value["evaluation_seconds"],
            )
        )
    lines.append(
        say(
            "Checkpoint: {size:.1f} MiB in {seconds:.2f} s; disk: {speed}",
            "检查点：{size:.1f} MiB，{seconds:.2f} 秒；磁盘：{speed}",
            size=value["checkpoint_bytes"] / MIB,
            seconds=value["checkpoint_seconds"],
            speed=_speed(value["disk_bytes_per_second"]),
        )
    )
    return lines


def _speed(value: float | None) -> Text | str:
    return say("nearly full", "几乎已满") if value is None else f"{value / MIB:.0f} MiB/s"
