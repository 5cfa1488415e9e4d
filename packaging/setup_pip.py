"""Run pip with its output in a log, its progress as a fraction and its failures as one sentence.

Standard library only.
"""

import queue
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.protocol.text import Text, say

Watch = Callable[[float, Text], None]
"""Told how far the work is (0 to 1) and what it is doing."""

_DOWNLOADS_SHARE = 0.7
_TAIL_LINES = 200
_TICK_SECONDS = 0.5


class SetUpError(Exception):
    """The set-up cannot go on.

    Attributes:
        code: short name of what happened.
        sentence: what is wrong and what to do, for the person.
    """

    def __init__(self, code: str, sentence: Text) -> None:
        super().__init__(sentence.en)
        self.code = code
        self.sentence = sentence


# ------------------------------------------------------------------------------------------------------ running
def run_logged(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    heard: Callable[[str], bool] | None = None,
    quiet: Callable[[], None] | None = None,
    folder: Path | None = None,
) -> tuple[int, str]:
    """Run `command` with both of its outputs appended to `log`.

    Args:
        heard: given each line; the line is logged where it returns True.
        quiet: called about twice a second.

    Returns:
        The exit code and the last lines of the output.
    """
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            tail = _follow(process, file.write, heard, quiet)
        except BaseException:
            process.terminate()
            raise
        finally:
            code = process.wait()
            file.write(f"exit code {code}\n")
    return code, tail


def _follow(
    process: subprocess.Popen[str],
    write: Callable[[str], int],
    heard: Callable[[str], bool] | None,
    quiet: Callable[[], None] | None,
) -> str:
    """Read the output to its end, ticking while nothing comes, and give back the last lines."""
    output = process.stdout
    assert output is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in output:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, name="set-up output", daemon=True)
    reader.start()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    while True:
        try:
            line = lines.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            line = ""
        if line is None:
            break
        if line and (heard is None or heard(line)):
            write(line)
            tail.append(line)
        if quiet is not None:
            quiet()
    reader.join()
    output.close()
    return "".join(tail)


# ---------------------------------------------------------------------------------------------------------- pip
class PipProgress:
    """How far pip is, read from its output with `--progress-bar raw`.

    Attributes:
        fraction: 0 to 1; never goes back.
        doing: what pip is doing.
    """

    def __init__(self, *, expected: float, installed: Callable[[], int]) -> None:
        """
        Args:
            expected: bytes that will be downloaded, about.
            installed: gives how many packages the environment holds now.
        """
        self.fraction = 0.0
        self.doing = say("looking up versions", "查询版本")
        self._expected = max(1.0, expected)
        self._installed = installed
        self._finished = self._current = 0.0
        self._before = self._to_install = 0

    def heard(self, line: str) -> bool:
        """Take one line of output; False where it is progress only, which no log needs."""
        if progress := re.match(r"Progress (\d+) of (\d+)", line):
            self._current = float(progress[1])
            return False
        if fetched := re.match(r"\s*(?:Downloading|Using cached|Processing) (\S+)", line):
            self._finished += self._current
            self._current = 0.0
            name = re.split(r"-\d", Path(fetched[1]).name)[0]
            self.doing = say("fetching {name}", "获取 {name}", name=name)
        elif "Retrying (Retry(" in line:
            self.doing = say("no answer from the network, trying again", "网络没有响应，正在重试")
        elif line.startswith("Installing collected packages:"):
            self._before = self._installed()
            self._to_install = line.count(",") + 1
        return True

    def update(self) -> None:
        """Work out the fraction; pip says nothing while it unpacks, so the environment is looked at."""
        if not self._to_install:
            share = min(1.0, (self._finished + self._current) / self._expected)
            self.fraction = max(self.fraction, _DOWNLOADS_SHARE * share)
            return
        done = min(self._to_install, max(0, self._installed() - self._before))
        self.fraction = max(self.fraction, _DOWNLOADS_SHARE + (1 - _DOWNLOADS_SHARE) * done / self._to_install)
        self.doing = say(
            "installing, {done} of {total} packages",
            "正在安装，{done}/{total} 个软件包",
            done=done,
            total=self._to_install,
        )


def pip_install(
    python: Path,
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    progress: PipProgress,
    watch: Watch,
    speaks_raw: bool = True,
) -> None:
    """Run `pip install ARGUMENTS` in the environment of `python`.

    Args:
        speaks_raw: whether this pip can tell its progress in numbers; those that come with Python 3.11 cannot.

    Raises:
        SetUpError: pip failed; the sentence says why.
    """
    command = [str(python), "-m", "pip", "install", "--no-input", "--prefer-binary", "--disable-pip-version-check"]
    command += ["--no-warn-script-location", "--progress-bar", "raw" if speaks_raw else "off", *arguments]

    def quiet() -> None:
        progress.update()
        watch(progress.fraction, progress.doing)

    code, tail = run_logged(command, log=log, environment=environment, heard=progress.heard, quiet=quiet)
    if code != 0:
        raise explain(tail, code)


# ------------------------------------------------------------------------------------------------- what went wrong
_NO_DISK = re.compile(r"No space left on device|Errno 28|Disk quota exceeded|not enough space on the disk", re.I)
_NOT_ALLOWED = re.compile(r"Permission denied|Errno 13\b|Read-only file system|Errno 30\b|Access is denied", re.I)
_LONG_PATH = re.compile(r"Long Path support|WinError 206", re.I)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError", re.I)
_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|getaddrinfo failed|ProxyError|"
    r"Network is unreachable|Connection refused|Connection aborted|ConnectionResetError|ConnectTimeout|ReadTimeout|"
    r"Read timed out|connection timed out|Max retries exceeded|Could not resolve|IncompleteRead|Failed to fetch",
    re.I,
)
_NOT_FOUND = re.compile(r"No matching distribution found for (\S+)")
_CONFLICT = re.compile(r"ResolutionImpossible|conflicting dependencies", re.I)


def explain(output: str, code: int) -> SetUpError:
    """Why a command failed, from the end of its output."""
    if _NO_DISK.search(output):
        return no_disk()
    if _LONG_PATH.search(output):
        return SetUpError(
            "long_path",
            say(
                "Windows refuses the long file names of a library: "
                "move Lorimer to a folder with a short path such as C:\\lorimer, and start again.",
                "Windows 不允许某个库使用过长的文件路径："
                "请把 Lorimer 移到较短的路径（例如 C:\\lorimer），然后重新启动。",
            ),
        )
    if _NOT_ALLOWED.search(output):
        return SetUpError(
            "no_permission",
            say(
                "A file could not be written for lack of permission: "
                "move Lorimer to a folder of your own, and start again.",
                "没有写入文件的权限：请把 Lorimer 移到您自己的文件夹，然后重新启动。",
            ),
        )
    if _CERTIFICATE.search(output):
        return SetUpError(
            "certificate",
            say(
                "The package index shows a certificate that this computer does not trust: "
                "if your network has a proxy of its own, set PIP_CERT to its certificate, and start again.",
                "本机不信任软件源的证书：如果您的网络使用代理，请将 PIP_CERT 设为代理的证书，然后重新启动。",
            ),
        )
    if _NETWORK.search(output):
        return SetUpError(
            "network",
            say(
                "The package index cannot be reached: check the network (or the proxy), and start again; "
                "what has been downloaded is kept.",
                "无法连接软件源：请检查网络或代理，然后重新启动；已下载的内容会保留。",
            ),
        )
    if missing := _NOT_FOUND.search(output):
        return SetUpError(
            "not_found",
            say(
                "The package index has no {name} for this Python and system: use 64-bit Python 3.11, 3.12 or 3.13.",
                "软件源中没有适合当前 Python 和系统的 {name}：请使用 64 位的 Python 3.11、3.12 或 3.13。",
                name=missing[1],
            ),
        )
    if _CONFLICT.search(output):
        return SetUpError(
            "conflict",
            say(
                "The pinned versions do not fit together on this computer: delete the folder .venv, and start again.",
                "固定的版本在本机上互相冲突：请删除 .venv 文件夹，然后重新启动。",
            ),
        )
    if code in (-9, 137):
        return SetUpError(
            "no_memory",
            say(
                "The system ended the installation, most likely for lack of memory: "
                "close other programs, and start again.",
                "系统中止了安装，很可能是内存不足：请关闭其他程序，然后重新启动。",
            ),
        )
    return SetUpError(
        "failed",
        say(
            "The installation failed with exit code {code}; the end of the log says why.",
            "安装失败（退出码 {code}），原因见日志末尾。",
            code=code,
        ),
    )


def no_disk() -> SetUpError:
    """The disk is full."""
    return SetUpError(
        "no_disk",
        say("The disk is full: free some space, and start again.", "磁盘已满：请腾出空间，然后重新启动。"),
    )
