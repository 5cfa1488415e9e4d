"""What most likely ended a process that could not say so itself, from its exit code and the end of its log."""

from __future__ import annotations

import re

from engine.protocol.errors import EXIT_MACHINE, Failure
from engine.protocol.text import Text, say

_SIGNS: tuple[tuple[str, str, Text, Text], ...] = (
    (
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "memory.gpu",
        say("The GPU ran out of memory.", "GPU 显存不足。"),
        say(
            "Use fewer rows at once or shorter rows, or close other programs on the GPU.",
            "请减少每批行数或最大长度，或关闭占用 GPU 的其他程序。",
        ),
    ),
    (
        r"MemoryError|Cannot allocate memory|DefaultCPUAllocator: can't allocate|bad_alloc",
        "memory.ram",
        say("The computer ran out of memory.", "内存不足。"),
        say(
            "Close other programs, or use a smaller model or shorter rows.",
            "请关闭其他程序，或使用更小的模型、更短的行。",
        ),
    ),
    (
        r"No space left on device|Errno 28|disk quota",
        "disk.full",
        say("The disk is full.", "磁盘已满。"),
        say(
            "Free some space and continue the run; its last checkpoint is kept.", "请腾出空间后继续；最后的检查点仍在。"
        ),
    ),
    (
        r"ModuleNotFoundError|ImportError",
        "install.incomplete",
        say("A part of the installation is missing.", "安装不完整。"),
        say("Run packaging/run.py --set-up-only to mend it.", "请运行 packaging/run.py --set-up-only 修复。"),
    ),
    (
        r"CUDA error|CUDA driver|device-side assert|an illegal memory access",
        "gpu.error",
        say("The GPU or its driver failed.", "GPU 或其驱动出错。"),
        say(
            "Continue the run; if it happens again, restart the computer or update the driver.",
            "请继续训练；若再次发生，请重启电脑或更新驱动。",
        ),
    ),
)


KILLED_CODE = -9
"""The exit code of a process that was ended without being asked (SIGKILL)."""
MEMORY_KILLED = "memory.killed"


RESTARTED = "machine.restarted"


def diagnose(code: int | None, log: str, *, by_system: bool = False, restarted: bool = False) -> Failure:
    """The failure to show.

    Args:
        code: exit code, negative for a signal as `subprocess` gives it; None when not known.
        log: the end of the log.
        by_system: the system has ended a process for lack of memory since this one was started.
        restarted: the machine was started anew since this process was last heard of.
    """
    if restarted:
        return Failure(
            RESTARTED,
            say(
                "The computer was restarted while this was being worked on.",
                "任务进行期间，电脑重新启动了。",
            ),
            say(
                "What was saved is safe: continue from the last checkpoint.", "已保存的内容安全：可从最后的检查点继续。"
            ),
            details=log,
        )
    if by_system and code in (KILLED_CODE, None):
        return Failure(
            MEMORY_KILLED,
            say(
                "The system ended the process because memory ran out.",
                "内存不足，系统终止了进程。",
            ),
            say(
                "Use fewer rows at once or shorter rows, or close other programs; then continue from the last "
                "checkpoint.",
                "请减少每批行数或最大长度，或关闭其他程序；然后从最后的检查点继续。",
            ),
            details=log,
        )
    for pattern, name, message, hint in _SIGNS:
        if re.search(pattern, log, re.IGNORECASE):
            return Failure(name, message, hint, details=log)
    hint = say("What was saved is safe: continue from the last checkpoint.", "已保存的内容安全：可从最后的检查点继续。")
    if code == KILLED_CODE or code is None:
        return Failure(
            "process.killed",
            say(
                "The process was ended from outside, by the system or by hand; most often memory ran out.",
                "进程被系统或人为终止；最常见的原因是内存不足。",
            ),
            hint,
            details=log,
        )
    if code in (-11, -6, -4, 0xC0000005 - (1 << 32)):
        return Failure(
            "process.crashed",
            say("The process crashed inside a library (code {code}).", "进程在库内部崩溃（代码 {code}）。", code=code),
            hint,
            details=log,
        )
    return Failure(
        "process.ended",
        say("The process ended unexpectedly (code {code}).", "进程意外结束（代码 {code}）。", code=code),
        hint,
        details=log,
        exit_code=EXIT_MACHINE,
    )
