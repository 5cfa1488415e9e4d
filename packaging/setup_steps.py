"""The set-up, step by step: from a bare Python to an environment that holds all that Lorimer needs.

Standard library only.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import IO

import setup_env
import setup_system
import setup_torch
from engine.protocol.text import NOTHING, say
from setup_env import Places
from setup_pip import PipProgress, SetUpError, explain, pip_install, run_logged
from setup_progress import Progress

_GB = 1000**3

# Libraries other than PyTorch, GB to download. Measured like the sizes in setup_torch.
_LIBRARIES_GB = 0.33

# What most often fails to load. It should fail here, with a log, and not later in the user's way.
_CHECK = (
    'import torch, PySide6.QtWidgets, engine.cli; print("torch", torch.__version__, "cuda:", torch.cuda.is_available())'
)


def set_up(places: Places, *, dev: bool, window: bool, progress: Progress) -> bool:
    """Make or complete the environment; False where it was ready and nothing was done.

    Args:
        dev: with the developers' tools.
        window: whether a window will be shown, so that what it needs of the system must be there.

    Raises:
        SetUpError: it cannot be made; the sentence says why.
    """
    if setup_env.is_ready(places, dev=dev):
        return False
    steps = _SetUp(places, dev=dev, window=window, progress=progress)
    try:
        steps.run()
    except OSError as error:
        raise explain(str(error), 1) from error
    finally:
        steps.release()
    return True


class _SetUp:
    """One set-up; `run` reads from top to bottom."""

    def __init__(self, places: Places, *, dev: bool, window: bool, progress: Progress) -> None:
        self.places = places
        # What test.py added stays when run.py finds that something changed.
        self.dev = dev or bool(setup_env.read_stamp(places).get("dev"))
        self.window = window
        self.progress = progress
        self.environment = setup_env.clean_environment(os.environ)
        self.builds = setup_torch.choose(setup_system.system(), setup_system.machine(), setup_system.find_gpu())
        self.build = self.builds[0]
        self.held: IO[bytes] | None = None

    def run(self) -> None:
        check_python()
        self.announce()
        check_disk(self.places, self.build)
        self.folder()
        self.system_libraries()
        self.venv()
        setup_system.use_temporary_folder(self.places.venv, self.environment)
        self.installer()
        self.pytorch()
        self.libraries()
        self.lorimer()
        self.check()
        shutil.rmtree(self.places.venv / "tmp", ignore_errors=True)
        setup_env.write_stamp(self.places, dev=self.dev)
        self.progress.end()

    def release(self) -> None:
        """Let another set-up in."""
        if self.held is not None:
            self.held.close()

    # ------------------------------------------------------------------------------------ before pip can start
    def announce(self) -> None:
        """Say what will be downloaded and needed before it happens."""
        on = say("on the NVIDIA GPU", "使用 NVIDIA 显卡计算")
        if self.build.name == "cpu":
            on = say("on the processor", "使用处理器计算")
        already = say(" (less what is there already)", "（已有的部分除外）")
        self.progress.say(
            say(
                "Lorimer is being set up in {folder}, to compute {on}. "
                "This downloads about {download:.1f} GB and needs about {disk:.1f} GB of disk, once{less}.",
                "正在将 Lorimer 安装到 {folder}，{on}。"
                "需下载约 {download:.1f} GB，需要磁盘空间约 {disk:.1f} GB，仅此一次{less}。",
                folder=self.places.venv,
                on=on,
                download=self.build.download,
                disk=self.build.disk,
                less=already if self.places.venv.exists() else NOTHING,
            )
        )

    def folder(self) -> None:
        """Make `.venv` and hold it, so that two set-ups never work in it at once; clear it where it is of no use."""
        venv = self.places.venv
        if setup_env.is_foreign(venv):
            raise SetUpError(
                "not_ours",
                say(
                    "{folder} exists and is no Python environment: move it away, and start again.",
                    "{folder} 已存在，但不是 Python 环境：请将其移走，然后重新启动。",
                    folder=venv,
                ),
            )
        venv.mkdir(exist_ok=True)
        self.held = self.places.lock.open("ab")
        if not setup_system.lock(self.held):
            raise SetUpError(
                "already_running",
                say(
                    "Another set-up of Lorimer is running in this folder: wait until it has ended.",
                    "此文件夹中正在进行另一个 Lorimer 安装：请等待其结束。",
                ),
            )
        self.places.stamp.unlink(missing_ok=True)
        if setup_env.must_be_remade(self.places):
            setup_env.clear(venv)

    def system_libraries(self) -> None:
        """Install what Qt needs of the system where no password is needed for it; else say how."""
        self.progress.phase(say("System libraries", "系统库"), 0.0, 0.05)
        needs = setup_system.find_system_needs()
        manager = setup_system.package_manager()
        if needs and manager == "apt" and setup_system.is_administrator():
            self.apt(setup_system.packages(needs, manager))
            needs = setup_system.find_system_needs()
        if not needs:
            return
        sentence = setup_system.how_to_fill(needs, manager)
        if needs.libraries or (needs.window_libraries and self.window):
            raise SetUpError("system_libraries", sentence)
        self.progress.say(sentence)

    def apt(self, names: list[str]) -> None:
        """Install system packages as root; the caller looks whether it helped."""
        environment = {**self.environment, "DEBIAN_FRONTEND": "noninteractive"}
        self.progress.say(
            say("Installing system packages: {names}.", "正在安装系统软件包：{names}。", names=", ".join(names))
        )
        for command in (["apt-get", "update", "-q"], setup_system.install_command(names, "apt")):
            run_logged(command, log=self.places.log, environment=environment, quiet=self.progress.tick)

    def venv(self) -> None:
        """Make the environment, or keep one whose pip still works."""
        self.progress.phase(say("Python environment", "Python 环境"), 0.05, 0.08)
        packages = setup_env.site_packages(self.places.python, self.environment)
        if packages is not None:
            setup_env.forget_half_installed(packages)
            return
        if package := setup_system.venv_package():
            self.venv_module(package)
        # Resolved first: started with the Python of a broken `.venv`, this leads to the one it was made with.
        python = sys.executable if sys.prefix == sys.base_prefix else str(Path(sys.executable).resolve())
        setup_env.clear(self.places.venv)
        command = [python, "-m", "venv", str(self.places.venv)]
        code, tail = run_logged(command, log=self.places.log, environment=self.environment, quiet=self.progress.tick)
        if code != 0:
            raise explain(tail, code)

    def venv_module(self, package: str) -> None:
        """Bring back the module that Debian and Ubuntu leave out of Python."""
        if setup_system.is_administrator() and setup_system.package_manager() == "apt":
            self.apt([package])
            if setup_system.venv_package() is None:
                return
        raise SetUpError(
            "no_venv",
            say(
                "This Python lacks the module that makes environments: run `sudo apt-get install -y {package}`, "
                "and start again.",
                "此 Python 缺少创建环境的模块：请运行 `sudo apt-get install -y {package}`，然后重新启动。",
                package=package,
            ),
        )

    # -------------------------------------------------------------------------------------------------- with pip
    def pip(self, arguments: list[str], download: float, *, speaks_raw: bool = True) -> None:
        """Run pip within the current phase; `download` is the GB that it will probably fetch."""
        packages = setup_env.site_packages(self.places.python, self.environment) or self.places.venv
        pip_install(
            self.places.python,
            ["--constraint", str(self.places.constraints), *arguments],
            log=self.places.log,
            environment=self.environment,
            progress=PipProgress(expected=download * _GB, installed=lambda: setup_env.count_installed(packages)),
            watch=self.progress.step,
            speaks_raw=speaks_raw,
        )

    def installer(self) -> None:
        """The pinned pip, and setuptools for what has no wheel."""
        self.progress.phase(say("Installer", "安装工具"), 0.08, 0.1)
        self.pip(
            [setup_env.pin(self.places.constraints, name) for name in ("pip", "setuptools")], 0.003, speaks_raw=False
        )

    def pytorch(self) -> None:
        """The build that suits the hardware, from the first place that has it."""
        self.progress.phase(say("PyTorch", "PyTorch"), 0.1, 0.75 if self.build.name == "cuda" else 0.45)
        for number, build in enumerate(self.builds, start=1):
            if build.note:
                self.progress.say(build.note)
            check_disk(self.places, build)
            self.build = build
            try:
                return self.pip(build.pip_arguments(), build.download - _LIBRARIES_GB)
            except SetUpError as error:
                index_down = error.code == "network" and not build.index
                if number == len(self.builds) or index_down or error.code not in ("network", "not_found"):
                    raise

    def libraries(self) -> None:
        """Everything else. A library without a wheel is built with the setuptools just installed."""
        self.progress.phase(say("Libraries", "依赖库"), 0.75 if self.build.name == "cuda" else 0.45, 0.95)
        self.pip(["--no-build-isolation", *setup_env.requirements(self.places.root, dev=self.dev)], _LIBRARIES_GB)

    def lorimer(self) -> None:
        """Lorimer itself, as a link to this folder."""
        self.progress.phase(say("Lorimer", "Lorimer"), 0.95, 0.97)
        self.pip(["--no-build-isolation", "--no-deps", "--editable", str(self.places.root)], 0.001)

    def check(self) -> None:
        """Load the libraries once."""
        self.progress.phase(say("Check", "检查"), 0.97, 1.0)
        code, tail = run_logged(
            [str(self.places.python), "-c", _CHECK],
            log=self.places.log,
            environment={**self.environment, "QT_QPA_PLATFORM": "offscreen"},
            quiet=self.progress.tick,
            folder=self.places.venv,
        )
        if code != 0:
            raise explain(tail, code)
        if self.build.name == "cuda" and "cuda: True" not in tail:
            self.progress.say(
                say(
                    "PyTorch cannot use the GPU; `lorimer doctor` says why.",
                    "PyTorch 无法使用显卡；请运行 `lorimer doctor` 查看原因。",
                )
            )


# ------------------------------------------------------------------------------------------------------ refusals
def check_python() -> None:
    """Refuse a computer for which PyTorch is not made.

    Raises:
        SetUpError: Python is a 32-bit one, or the Mac has an Intel processor.
    """
    if sys.maxsize < 2**32:
        raise SetUpError(
            "python_32_bit",
            say(
                "This Python is a 32-bit one, for which there is no PyTorch: install a 64-bit Python 3.11 or newer.",
                "此 Python 为 32 位，没有对应的 PyTorch：请安装 64 位的 Python 3.11 或更高版本。",
            ),
        )
    if setup_system.system() == setup_system.MAC and setup_system.machine() == "x86_64":
        raise SetUpError(
            "intel_mac",
            say(
                "PyTorch is no longer made for Macs with an Intel processor: Lorimer needs a Mac with Apple silicon.",
                "PyTorch 已不再支持 Intel 处理器的 Mac：Lorimer 需要搭载 Apple 芯片的 Mac。",
            ),
        )


def check_disk(places: Places, build: setup_torch.Build) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        SetUpError: there is too little room, even counting what an earlier set-up left.
    """
    free = shutil.disk_usage(places.root).free
    if free > build.disk * _GB:
        return
    needed = build.disk * _GB - setup_env.folder_size(places.venv)
    if free < needed:
        raise SetUpError(
            "no_disk",
            say(
                "There are {free:.1f} GB free on the disk of {folder}, and Lorimer needs about {needed:.1f} GB: "
                "free some space, and start again.",
                "{folder} 所在磁盘剩余 {free:.1f} GB，Lorimer 需要约 {needed:.1f} GB：请腾出空间，然后重新启动。",
                free=free / _GB,
                needed=needed / _GB,
                folder=places.root,
            ),
        )
