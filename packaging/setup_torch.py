"""Which build of PyTorch suits this computer, and where it comes from. Standard library only."""

from dataclasses import dataclass

from engine.protocol.text import NOTHING, Text, say
from setup_system import LINUX, MAC, WINDOWS, Gpu

VERSION = "2.13.0"
_INDEX = "https://download.pytorch.org/whl/"

# The CUDA 13.0 builds need a driver that runs CUDA 13.0 and a GPU of at least this compute capability (Turing).
_CUDA_13 = (13, 0)
_CUDA_12 = (12, 0)
_TURING = (7, 5)


@dataclass(frozen=True)
class Build:
    """One way to get PyTorch.

    Attributes:
        name: "cuda" or "cpu".
        requirement: what pip is asked for.
        index: a further package index to look in; empty for the user's own ones only.
        download: GB to download for the whole of Lorimer with this build.
        disk: GB of disk that the whole needs, pip's cache included.
        note: said when this build is used although a better one was wanted.
    """

    name: str
    requirement: str
    index: str
    download: float
    disk: float
    note: Text = NOTHING

    def pip_arguments(self) -> list[str]:
        """What follows `pip install`."""
        return [self.requirement, *(["--extra-index-url", self.index] if self.index else [])]


# Measured on Linux x86_64 with Python 3.11: GB to download, and GB of disk while pip works, when wheels lie in its
# cache and beside it. Afterwards the environment takes 2.0 GB (CPU) or 6.1 GB (CUDA).
CPU_SIZE = (0.5, 3.0)
CUDA_SIZE = (3.1, 11.0)


def _cpu(requirement: str, index: str = "") -> Build:
    return Build("cpu", requirement, index, *CPU_SIZE)


def _cuda(requirement: str, index: str = "") -> Build:
    return Build("cuda", requirement, index, *CUDA_SIZE)


def choose(system: str, machine: str, gpu: Gpu | None) -> list[Build]:
    """The builds to try, best first. The next one is for where pip cannot find or reach the one before.

    PyPI holds the CUDA build for Linux and the CPU build for Windows and macOS; PyTorch's own index holds all builds.
    """
    if system == MAC:
        return [_cpu(f"torch=={VERSION}")]
    if gpu is not None:
        return _for_gpu(system, gpu)
    return _for_cpu(system, machine)


def _for_gpu(system: str, gpu: Gpu) -> list[Build]:
    turing = gpu.capability is None or gpu.capability >= _TURING
    if gpu.cuda >= _CUDA_13 and turing:
        if system == WINDOWS:
            return [_cuda(f"torch=={VERSION}+cu130", _INDEX + "cu130")]
        # Three equals signs leave out a "+cpu" wheel that lies in the user's own folder of wheels.
        return [_cuda(f"torch==={VERSION}")]
    too_old = say(
        "PyTorch has no build for this NVIDIA driver (CUDA {major}.{minor}), so Lorimer will compute on the processor: "
        "update the driver, delete the folder .venv and start again to use the GPU.",
        "PyTorch 没有适合当前 NVIDIA 驱动（CUDA {major}.{minor}）的版本，Lorimer 将使用处理器计算："
        "要使用显卡，请更新驱动，删除 .venv 文件夹后重新启动。",
        major=gpu.cuda[0],
        minor=gpu.cuda[1],
    )
    on_cpu = [Build(b.name, b.requirement, b.index, b.download, b.disk, too_old) for b in _for_cpu(system, "x86_64")]
    if gpu.cuda < _CUDA_12:
        return on_cpu
    return [_cuda(f"torch=={VERSION}+cu126", _INDEX + "cu126"), *on_cpu]


def _for_cpu(system: str, machine: str) -> list[Build]:
    if system == LINUX and machine in ("x86_64", "arm64"):
        larger = say(
            "PyTorch's own index cannot be reached, so the larger build with CUDA is taken from PyPI: "
            "about {download:.1f} GB to download and {disk:.1f} GB of disk. It works without a GPU too.",
            "无法访问 PyTorch 自己的软件源，改从 PyPI 安装带 CUDA 的较大版本："
            "需下载约 {download:.1f} GB，磁盘空间约 {disk:.1f} GB。没有显卡也能使用。",
            download=CUDA_SIZE[0],
            disk=CUDA_SIZE[1],
        )
        return [
            # A wheel that the user's own index or folder holds is found first, without asking the network for more.
            _cpu(f"torch=={VERSION}+cpu"),
            _cpu(f"torch=={VERSION}+cpu", _INDEX + "cpu"),
            Build("cpu", f"torch==={VERSION}", "", *CUDA_SIZE, larger),
        ]
    return [_cpu(f"torch=={VERSION}")]
