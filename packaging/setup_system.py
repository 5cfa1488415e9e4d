"""What this computer is, has and lacks. Every difference between systems that the set-up meets is in this file.

Standard library only: it runs before anything is installed.
"""

import ctypes
import importlib.util
import locale
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.protocol.text import Text, say

LINUX, WINDOWS, MAC = "linux", "windows", "mac"


def system() -> str:
    """Which system this is: "linux" (any other Unix counts as it), "windows" or "mac"."""
    if sys.platform.startswith("win"):
        return WINDOWS
    return MAC if sys.platform == "darwin" else LINUX


def machine() -> str:
    """Kind of processor: "x86_64", "arm64" or what the system calls it."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(name, name)


def language(environment: Mapping[str, str]) -> str:
    """Language to speak to the person: "zh" or "en", as their system is set."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "zh" if environment[name].lower().startswith("zh") else "en"
    return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


def has_display(environment: Mapping[str, str]) -> bool:
    """Whether a window can be shown: Windows and macOS always can; elsewhere X11 or Wayland must be there."""
    if system() != LINUX:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def is_administrator() -> bool:
    """Whether system packages can be installed without asking for a password (Unix only)."""
    return system() != WINDOWS and os.geteuid() == 0


def venv_python(venv: Path) -> Path:
    """Python inside a virtual environment."""
    return venv / "Scripts" / "python.exe" if system() == WINDOWS else venv / "bin" / "python"


def venv_script(venv: Path, name: str) -> Path:
    """A command installed in a virtual environment."""
    return venv / "Scripts" / f"{name}.exe" if system() == WINDOWS else venv / "bin" / name


def settings_folder(environment: Mapping[str, str]) -> Path:
    """Where Lorimer keeps settings; the engine's own function asks the same, but needs libraries to be loaded."""
    if environment.get("LORIMER_HOME"):
        return Path(environment["LORIMER_HOME"])
    if system() == WINDOWS:
        return Path(environment.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "Lorimer"
    if system() == MAC:
        return Path.home() / "Library" / "Application Support" / "Lorimer"
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lorimer"


def lock(file: IO[bytes]) -> bool:
    """Hold `file` for this process until it ends; False where another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def replace_process(command: list[str], environment: Mapping[str, str]) -> int:
    """Become `command`; on Windows, where that is impossible, run it and give back its exit code."""
    if system() == WINDOWS:
        return subprocess.call(command, env=dict(environment))
    os.execve(command[0], command, dict(environment))


def use_temporary_folder(venv: Path, environment: dict[str, str]) -> None:
    """Let pip unpack beside the environment: a small /tmp held in memory has no room for PyTorch."""
    if system() == WINDOWS:
        return  # a longer path would meet Windows' limit of 260 characters
    folder = venv / "tmp"
    folder.mkdir(exist_ok=True)
    environment["TMPDIR"] = str(folder)


# ------------------------------------------------------------------------------------------------------- GPU
@dataclass(frozen=True)
class Gpu:
    """NVIDIA hardware: newest CUDA that the driver runs, and the best compute capability among the GPUs."""

    cuda: tuple[int, int]
    capability: tuple[int, int] | None


def find_gpu() -> Gpu | None:
    """The NVIDIA GPU whose driver answers, or None."""
    if system() == MAC:
        return None
    return _ask_nvml(ctypes.CDLL) or _ask_nvidia_smi()


def _ask_nvml(load: Callable[[str], ctypes.CDLL]) -> Gpu | None:
    """Ask the driver's own library (its C interface: docs.nvidia.com/deploy/nvml-api)."""
    try:
        nvml = load("nvml.dll" if system() == WINDOWS else "libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        count, version = ctypes.c_uint(), ctypes.c_int()
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0 or count.value == 0:
            return None
        if nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version)) != 0:
            return None
        capabilities = []
        for index in range(count.value):
            device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
            if nvml.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)) == 0:
                capabilities.append((major.value, minor.value))
        return Gpu((version.value // 1000, version.value % 1000 // 10), max(capabilities, default=None))
    finally:
        nvml.nvmlShutdown()


def _ask_nvidia_smi() -> Gpu | None:
    """Ask the driver's tool; where its library lies outside the search path (WSL), the tool is still found."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        answer = subprocess.run([tool], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"CUDA (?:UMD )?Version:\s*(\d+)\.(\d+)", answer.stdout)
    if answer.returncode != 0 or found is None:
        return None
    return Gpu((int(found[1]), int(found[2])), None)


# ------------------------------------------------------------------------------------- system libraries for Qt
@dataclass(frozen=True)
class Library:
    """A shared library that Qt's wheels load from the system, and the packages that hold it."""

    file: str
    apt: str
    dnf: str
    pacman: str
    window_only: bool = True


# What `ldd` finds in QtGui and QtWidgets (always loaded) and in the X11 and Wayland plug-ins (for a window).
QT_LIBRARIES = (
    Library("libEGL.so.1", "libegl1", "libglvnd-egl", "libglvnd", window_only=False),
    Library("libGL.so.1", "libgl1", "libglvnd-glx", "libglvnd", window_only=False),
    Library("libOpenGL.so.0", "libopengl0", "libglvnd-opengl", "libglvnd", window_only=False),
    Library("libxkbcommon.so.0", "libxkbcommon0", "libxkbcommon", "libxkbcommon", window_only=False),
    Library("libdbus-1.so.3", "libdbus-1-3", "dbus-libs", "dbus", window_only=False),
    Library("libfontconfig.so.1", "libfontconfig1", "fontconfig", "fontconfig", window_only=False),
    Library("libfreetype.so.6", "libfreetype6", "freetype", "freetype2", window_only=False),
    Library("libglib-2.0.so.0", "libglib2.0-0", "glib2", "glib2", window_only=False),
    Library("libX11.so.6", "libx11-6", "libX11", "libx11"),
    Library("libX11-xcb.so.1", "libx11-xcb1", "libX11-xcb", "libx11"),
    Library("libxcb.so.1", "libxcb1", "libxcb", "libxcb"),
    Library("libxcb-cursor.so.0", "libxcb-cursor0", "xcb-util-cursor", "xcb-util-cursor"),
    Library("libxcb-icccm.so.4", "libxcb-icccm4", "xcb-util-wm", "xcb-util-wm"),
    Library("libxcb-image.so.0", "libxcb-image0", "xcb-util-image", "xcb-util-image"),
    Library("libxcb-keysyms.so.1", "libxcb-keysyms1", "xcb-util-keysyms", "xcb-util-keysyms"),
    Library("libxcb-randr.so.0", "libxcb-randr0", "libxcb", "libxcb"),
    Library("libxcb-render-util.so.0", "libxcb-render-util0", "xcb-util-renderutil", "xcb-util-renderutil"),
    Library("libxcb-shape.so.0", "libxcb-shape0", "libxcb", "libxcb"),
    Library("libxcb-shm.so.0", "libxcb-shm0", "libxcb", "libxcb"),
    Library("libxcb-sync.so.1", "libxcb-sync1", "libxcb", "libxcb"),
    Library("libxcb-xfixes.so.0", "libxcb-xfixes0", "libxcb", "libxcb"),
    Library("libxcb-xkb.so.1", "libxcb-xkb1", "libxcb", "libxcb"),
    Library("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", "libxkbcommon-x11", "libxkbcommon-x11"),
    Library("libwayland-client.so.0", "libwayland-client0", "libwayland-client", "wayland"),
    Library("libwayland-cursor.so.0", "libwayland-cursor0", "libwayland-cursor", "wayland"),
    Library("libwayland-egl.so.1", "libwayland-egl1", "libwayland-egl", "wayland"),
)

# Looked for in the names of installed font files.
_CHINESE_FONTS = re.compile(
    r"cjk|wqy|wenquan|fallback|notosanssc|notosanshans|sourcehan|uming|ukai|sarasa|harmonyos", re.I
)
_FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")


@dataclass(frozen=True)
class SystemNeeds:
    """What the system lacks.

    Attributes:
        libraries: without these Qt cannot be loaded at all.
        window_libraries: without these it cannot show a window.
        fonts: packages of fonts, without which texts (Chinese above all) look poor or are empty boxes.
    """

    libraries: tuple[Library, ...] = ()
    window_libraries: tuple[Library, ...] = ()
    fonts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.libraries or self.window_libraries or self.fonts)


def _loads(file: str) -> bool:
    try:
        ctypes.CDLL(file)
    except OSError:
        return False
    return True


def find_system_needs(loads: Callable[[str], bool] = _loads) -> SystemNeeds:
    """What Qt's wheels expect of the system and do not find. Windows and macOS bring everything."""
    if system() != LINUX:
        return SystemNeeds()
    missing = [library for library in QT_LIBRARIES if not loads(library.file)]
    return SystemNeeds(
        libraries=tuple(library for library in missing if not library.window_only),
        window_libraries=tuple(library for library in missing if library.window_only),
        fonts=_missing_fonts(),
    )


def _missing_fonts() -> tuple[str, ...]:
    """Debian's names of the fonts to add: one for Latin where there is none at all, one for Chinese likewise."""
    files = [
        file.name
        for folder in _FONT_FOLDERS
        for file in Path(folder).expanduser().rglob("*")
        if file.suffix.lower() in (".ttf", ".otf", ".ttc")
    ]
    missing = [] if files else ["fonts-inter"]
    if not any(_CHINESE_FONTS.search(name) for name in files):
        missing.append("fonts-wqy-zenhei")
    return tuple(missing)


_FONTS_ELSEWHERE = {
    "dnf": {"fonts-inter": "rsms-inter-fonts", "fonts-wqy-zenhei": "wqy-zenhei-fonts"},
    "pacman": {"fonts-inter": "inter-font", "fonts-wqy-zenhei": "wqy-zenhei"},
}


def package_manager() -> str | None:
    """The package manager whose package names are known here: "apt", "dnf" or "pacman"."""
    for command, name in (("apt-get", "apt"), ("dnf", "dnf"), ("pacman", "pacman")):
        if shutil.which(command):
            return name
    return None


def packages(needs: SystemNeeds, manager: str) -> list[str]:
    """Names of the packages that fill `needs`, each once, in `manager`'s naming."""
    names: list[str] = [getattr(library, manager) for library in (*needs.libraries, *needs.window_libraries)]
    names += [_FONTS_ELSEWHERE[manager][font] if manager in _FONTS_ELSEWHERE else font for font in needs.fonts]
    return list(dict.fromkeys(names))


def install_command(names: Iterable[str], manager: str) -> list[str]:
    """The command that installs system packages, as it is typed."""
    start = {
        "apt": ["apt-get", "install", "-y", "--no-install-recommends"],
        "dnf": ["dnf", "install", "-y"],
        "pacman": ["pacman", "-S", "--needed", "--noconfirm"],
    }[manager]
    return [*([] if is_administrator() else ["sudo"]), *start, *names]


def how_to_fill(needs: SystemNeeds, manager: str | None) -> Text:
    """One sentence that says what is missing and which command brings it."""
    missing = [library.file for library in (*needs.libraries, *needs.window_libraries)] + list(needs.fonts)
    if manager is None:
        return say(
            "Lorimer's window needs {missing}: install them with your system's package manager, and start again.",
            "Lorimer 的窗口需要 {missing}：请用系统的软件包管理器安装，然后重新启动。",
            missing=", ".join(missing),
        )
    return say(
        "Lorimer's window needs {missing} of the system: run `{command}`, and start again.",
        "Lorimer 的窗口需要系统提供 {missing}：请运行 `{command}`，然后重新启动。",
        missing=", ".join(missing),
        command=" ".join(install_command(packages(needs, manager), manager)),
    )


def venv_package() -> str | None:
    """Debian and Ubuntu cut the module that makes environments out of Python: the package that brings it back."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return None
    return f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
