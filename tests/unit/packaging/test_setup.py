"""The set-up scripts, with faked systems and a faked pip: nothing is installed and nothing is asked of a network."""

import ast
import ctypes
import errno
import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


class Scripts:
    """The set-up's modules, imported from `packaging/`, which is no package."""

    def __init__(self) -> None:
        self.commands = import_module("setup_commands")
        self.env = import_module("setup_env")
        self.pip = import_module("setup_pip")
        self.progress = import_module("setup_progress")
        self.steps = import_module("setup_steps")
        self.system = import_module("setup_system")
        self.torch = import_module("setup_torch")


@pytest.fixture
def scripts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    monkeypatch.setattr(sys, "path", [*sys.path, str(repository / "packaging"), str(repository)])
    return Scripts()


@pytest.fixture
def on(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Fake the system: `on("win32")`, `on("darwin", machine="x86_64")`."""

    def fake(name: str, machine: str = "x86_64") -> None:
        monkeypatch.setattr(scripts.system.sys, "platform", name)
        monkeypatch.setattr(scripts.system.platform, "machine", lambda: machine)

    return fake


@pytest.fixture
def places(scripts: Scripts, tmp_path: Path) -> Any:
    """A small repository with a finished environment, as far as the stamp can tell."""
    (tmp_path / "packaging").mkdir()
    (tmp_path / "packaging" / "constraints.txt").write_text("pip==26.3\nsetuptools==84.2.1\n")
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\n'
        '[project]\nname = "x"\ndependencies = ["numpy>=2"]\noptional-dependencies = {dev = ["ruff"]}\n'
        "[tool.ruff]\nline-length = 120\n"
    )
    places = scripts.env.Places(tmp_path)
    places.python.parent.mkdir(parents=True)
    places.python.symlink_to(sys.executable)
    return places


# -------------------------------------------------------------------------------------------------- old Python
@pytest.mark.parametrize("script", ["run.py", "test.py"])
def test_an_old_python_is_told_in_one_sentence(
    repository: Path, script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(repository / "packaging" / script), run_name="__main__")
    said = capsys.readouterr().err
    assert stopped.value.code == 1
    assert said.count("\n") == 1
    assert "needs Python 3.11 or newer, and this is Python 3.8" in said


@pytest.mark.parametrize("script", ["run.py", "test.py"])
def test_an_old_python_can_parse_the_start(repository: Path, script: str) -> None:
    ast.parse((repository / "packaging" / script).read_text(encoding="utf-8"), feature_version=(3, 4))


def test_the_scripts_need_nothing_installed(repository: Path) -> None:
    # -S: without site-packages.
    command = [sys.executable, "-E", "-S", str(repository / "packaging" / "run.py"), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert "--set-up-only" in answer.stdout


@pytest.mark.parametrize("script", ["run.py", "test.py"])
def test_an_unknown_argument_is_the_users_mistake(repository: Path, script: str) -> None:
    command = [sys.executable, str(repository / "packaging" / script), "--colour"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2
    assert "--colour" in answer.stderr


# -------------------------------------------------------------------------------------------- which PyTorch
def arguments(scripts: Scripts, system: str, machine: str, gpu: Any) -> list[list[str]]:
    return [build.pip_arguments() for build in scripts.torch.choose(system, machine, gpu)]


def test_a_gpu_on_linux_gets_the_cuda_build_of_pypi(scripts: Scripts) -> None:
    gpu = scripts.system.Gpu((13, 0), (9, 0))
    assert arguments(scripts, "linux", "x86_64", gpu) == [["torch===2.13.0"]]


def test_a_gpu_on_windows_gets_the_cuda_build_of_pytorchs_index(scripts: Scripts) -> None:
    gpu = scripts.system.Gpu((13, 1), (8, 9))
    assert arguments(scripts, "windows", "x86_64", gpu) == [
        ["torch==2.13.0+cu130", "--extra-index-url", "https://download.pytorch.org/whl/cu130"]
    ]


@pytest.mark.parametrize(("cuda", "capability"), [((12, 8), (8, 9)), ((13, 0), (7, 0))])
def test_an_older_driver_or_gpu_gets_the_older_cuda(
    scripts: Scripts, cuda: tuple[int, int], capability: tuple[int, int]
) -> None:
    first, *rest = scripts.torch.choose("linux", "x86_64", scripts.system.Gpu(cuda, capability))
    assert first.pip_arguments() == [
        "torch==2.13.0+cu126",
        "--extra-index-url",
        "https://download.pytorch.org/whl/cu126",
    ]
    assert rest
    assert all(build.name == "cpu" and "update the driver" in build.note.en for build in rest)


def test_a_driver_too_old_for_any_cuda_build_computes_on_the_processor(scripts: Scripts) -> None:
    builds = scripts.torch.choose("linux", "x86_64", scripts.system.Gpu((11, 4), (8, 0)))
    assert [build.name for build in builds] == ["cpu"] * 3
    assert "CUDA 11.4" in builds[0].note.en


def test_no_gpu_on_linux_tries_own_wheels_then_pytorchs_index_then_pypi(scripts: Scripts) -> None:
    assert arguments(scripts, "linux", "x86_64", None) == [
        ["torch==2.13.0+cpu"],
        ["torch==2.13.0+cpu", "--extra-index-url", "https://download.pytorch.org/whl/cpu"],
        ["torch===2.13.0"],
    ]


@pytest.mark.parametrize(("system", "machine"), [("mac", "arm64"), ("windows", "x86_64")])
def test_elsewhere_pypi_has_the_cpu_build(scripts: Scripts, system: str, machine: str) -> None:
    assert arguments(scripts, system, machine, None) == [["torch==2.13.0"]]


class FakeNvml:
    """NVML as its C interface shows it; `missing` makes a function fail."""

    def __init__(self, *, count: int = 1, version: int = 13010, capability: tuple[int, int] = (9, 0)) -> None:
        self.count, self.version, self.capability = count, version, capability
        self.shut_down = False

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        self.shut_down = True
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = self.count
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = self.capability
        return 0


@pytest.mark.parametrize(("system", "library"), [("linux", "libnvidia-ml.so.1"), ("win32", "nvml.dll")])
def test_the_drivers_library_is_asked(
    scripts: Scripts, on: Callable[..., None], monkeypatch: pytest.MonkeyPatch, system: str, library: str
) -> None:
    on(system)
    nvml, asked = FakeNvml(), []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or nvml)
    assert scripts.system.find_gpu() == scripts.system.Gpu((13, 1), (9, 0))
    assert asked == [library]
    assert nvml.shut_down


def test_a_driver_without_a_gpu_is_no_gpu(
    scripts: Scripts, on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on("linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeNvml(count=0))
    monkeypatch.setattr(scripts.system.shutil, "which", lambda name: None)
    assert scripts.system.find_gpu() is None


def no_library(name: str) -> None:
    raise OSError(name)


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [
        (0, "| NVIDIA-SMI 580.65  Driver Version: 580.65  CUDA Version: 13.0 |", (13, 0)),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", None),
    ],
)
def test_nvidia_smi_is_asked_where_the_library_is_not_found(
    scripts: Scripts,
    on: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    output: str,
    expected: tuple[int, int] | None,
) -> None:
    on("linux")
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    monkeypatch.setattr(scripts.system.shutil, "which", lambda name: f"/usr/bin/{name}")
    answer = subprocess.CompletedProcess(["nvidia-smi"], code, stdout=output)
    monkeypatch.setattr(scripts.system.subprocess, "run", lambda *args, **options: answer)
    gpu = scripts.system.find_gpu()
    assert (gpu.cuda if gpu else None) == expected


def test_a_mac_is_never_asked_for_nvidia(scripts: Scripts, on: Callable[..., None]) -> None:
    on("darwin", "arm64")
    assert scripts.system.find_gpu() is None


# ---------------------------------------------------------------------------------------------- faked systems
@pytest.mark.parametrize(
    ("system", "python", "command"),
    [
        ("linux", "bin/python", "bin/lorimer"),
        ("darwin", "bin/python", "bin/lorimer"),
        ("win32", "Scripts/python.exe", "Scripts/lorimer.exe"),
    ],
)
def test_where_the_environment_keeps_its_programs(
    scripts: Scripts, on: Callable[..., None], system: str, python: str, command: str
) -> None:
    on(system)
    venv = Path("venv")
    assert scripts.system.venv_python(venv) == venv / python
    assert scripts.system.venv_script(venv, "lorimer") == venv / command


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_where_a_window_can_be_shown(
    scripts: Scripts, on: Callable[..., None], system: str, environment: dict[str, str], expected: bool
) -> None:
    on(system)
    assert scripts.system.has_display(environment) is expected


@pytest.mark.parametrize(
    ("system", "environment", "expected"),
    [
        ("linux", {"LORIMER_HOME": "/own"}, Path("/own")),
        ("linux", {"XDG_CONFIG_HOME": "/x"}, Path("/x/lorimer")),
        ("win32", {"APPDATA": "/roaming"}, Path("/roaming/Lorimer")),
        ("darwin", {}, Path.home() / "Library" / "Application Support" / "Lorimer"),
    ],
)
def test_the_settings_folder_is_the_engines(
    scripts: Scripts,
    on: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    environment: dict[str, str],
    expected: Path,
) -> None:
    from engine.host import platform

    on(system)
    for name in ("LORIMER_HOME", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert scripts.system.settings_folder(os.environ) == expected == platform.config_folder()


@pytest.mark.parametrize(("value", "expected"), [("zh_CN.UTF-8", "zh"), ("en_GB.UTF-8", "en"), ("C", "en")])
def test_the_language_is_the_systems(scripts: Scripts, value: str, expected: str) -> None:
    assert scripts.system.language({"LANG": value}) == expected


def test_on_windows_a_program_is_run_and_not_become(
    scripts: Scripts, on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on("win32")
    monkeypatch.setattr(scripts.system.subprocess, "call", lambda command, env: 7)
    assert scripts.system.replace_process(["lorimer.exe"], {}) == 7


def test_two_set_ups_never_work_in_one_folder(scripts: Scripts, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("ab") as first, (tmp_path / "lock").open("ab") as second:
        assert scripts.system.lock(first)
        assert not scripts.system.lock(second)


# --------------------------------------------------------------------------------------------- system libraries
@pytest.fixture
def bare_debian(scripts: Scripts, on: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Debian without two libraries and a Chinese font; `commands` is what was run, `repairs` whether it helps."""
    on("linux")
    state = SimpleNamespace(commands=[], root=True, repairs=True, missing={"libEGL.so.1", "libxcb-cursor.so.0"})
    monkeypatch.setattr(scripts.system.shutil, "which", lambda name: name if name == "apt-get" else None)
    monkeypatch.setattr(scripts.system, "is_administrator", lambda: state.root)
    monkeypatch.setattr(scripts.system, "_missing_fonts", lambda: ("fonts-wqy-zenhei",) if state.missing else ())
    find = scripts.system.find_system_needs
    monkeypatch.setattr(scripts.system, "find_system_needs", lambda: find(lambda library: library not in state.missing))

    def run_logged(command: list[str], **options: Any) -> tuple[int, str]:
        state.commands.append(command)
        if state.repairs:
            state.missing = set()
        return 0, ""

    monkeypatch.setattr(scripts.steps, "run_logged", run_logged)
    return state


def set_up_of(scripts: Scripts, places: Any, *, window: bool = True) -> Any:
    progress = scripts.progress.Progress(io.StringIO(), "en")
    return scripts.steps._SetUp(places, dev=False, window=window, progress=progress)


def test_root_on_debian_installs_what_qt_needs(scripts: Scripts, places: Any, bare_debian: SimpleNamespace) -> None:
    set_up_of(scripts, places).system_libraries()
    assert bare_debian.commands == [
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "--no-install-recommends", "libegl1", "libxcb-cursor0", "fonts-wqy-zenhei"],
    ]


def test_anyone_else_is_given_the_exact_command(scripts: Scripts, places: Any, bare_debian: SimpleNamespace) -> None:
    bare_debian.root = False
    with pytest.raises(scripts.pip.SetUpError) as refused:
        set_up_of(scripts, places).system_libraries()
    assert refused.value.code == "system_libraries"
    command = "sudo apt-get install -y --no-install-recommends libegl1 libxcb-cursor0 fonts-wqy-zenhei"
    assert f"`{command}`" in refused.value.sentence.en
    assert bare_debian.commands == []


def test_libraries_of_the_window_do_not_stop_the_terminal(
    scripts: Scripts, places: Any, bare_debian: SimpleNamespace
) -> None:
    bare_debian.root, bare_debian.missing = False, {"libxcb-cursor.so.0"}
    set_up = set_up_of(scripts, places, window=False)
    set_up.system_libraries()
    assert "libxcb-cursor0" in set_up.progress._stream.getvalue()


def test_apt_that_does_not_help_is_reported(scripts: Scripts, places: Any, bare_debian: SimpleNamespace) -> None:
    bare_debian.repairs = False
    with pytest.raises(scripts.pip.SetUpError, match=r"libEGL\.so\.1"):
        set_up_of(scripts, places).system_libraries()


@pytest.mark.parametrize(("manager", "expected"), [("dnf", "libglvnd-egl"), ("pacman", "libglvnd"), ("apt", "libegl1")])
def test_each_package_manager_has_its_own_names(scripts: Scripts, manager: str, expected: str) -> None:
    egl = next(library for library in scripts.system.QT_LIBRARIES if library.file == "libEGL.so.1")
    needs = scripts.system.SystemNeeds(libraries=(egl,), fonts=("fonts-wqy-zenhei",))
    names = scripts.system.packages(needs, manager)
    assert names[0] == expected
    assert "wqy" in names[1]


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_bring_everything(scripts: Scripts, on: Callable[..., None], system: str) -> None:
    on(system)
    assert not scripts.system.find_system_needs(lambda library: False)


def test_a_python_without_venv_names_the_package(
    scripts: Scripts, places: Any, bare_debian: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_debian.root = False
    monkeypatch.setattr(scripts.env, "site_packages", lambda python, environment: None)
    monkeypatch.setattr(scripts.system.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(scripts.pip.SetUpError) as refused:
        set_up_of(scripts, places).venv()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"sudo apt-get install -y python{version}-venv" in refused.value.sentence.en


# --------------------------------------------------------------------------------------------------- sentences
@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", 1, "no_disk"),
        (f"{OSError(errno.EROFS, os.strerror(errno.EROFS))}", 1, "no_permission"),
        ("ERROR: [Errno 13] Permission denied: '/opt/lorimer'", 1, "no_permission"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed", 1, "certificate"),
        (
            "WARNING: Retrying ... NameResolutionError\nERROR: No matching distribution found for pip==26.3",
            1,
            "network",
        ),
        ("ReadTimeoutError: HTTPSConnectionPool: Read timed out.", 2, "network"),
        ("ERROR: No matching distribution found for xllamacpp>=2026.10", 1, "not_found"),
        ("ERROR: ResolutionImpossible", 1, "conflict"),
        ("HINT: ... does not have Windows Long Path support enabled", 1, "long_path"),
        ("Collecting torch", -9, "no_memory"),
        ("something new", 3, "failed"),
    ],
)
def test_a_failure_is_one_sentence_in_both_languages(scripts: Scripts, output: str, code: int, expected: str) -> None:
    problem = scripts.pip.explain(output, code)
    assert problem.code == expected
    assert problem.sentence.en.count("\n") == 0
    assert problem.sentence.zh != problem.sentence.en


def test_a_missing_package_is_named(scripts: Scripts) -> None:
    problem = scripts.pip.explain("ERROR: No matching distribution found for torch==2.13.0", 1)
    assert "torch==2.13.0" in problem.sentence.en


def test_a_full_disk_is_seen_before_anything_is_downloaded(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1_200_000_000)
    monkeypatch.setattr(scripts.steps.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(scripts.pip.SetUpError, match=r"There are 1\.2 GB free"):
        scripts.steps.check_disk(places, scripts.torch.choose("linux", "x86_64", None)[0])


def test_an_intel_mac_is_refused(scripts: Scripts, on: Callable[..., None]) -> None:
    on("darwin", "x86_64")
    with pytest.raises(scripts.pip.SetUpError) as refused:
        scripts.steps.check_python()
    assert refused.value.code == "intel_mac"


def test_a_32_bit_python_is_refused(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.steps.sys, "maxsize", 2**31 - 1)
    with pytest.raises(scripts.pip.SetUpError) as refused:
        scripts.steps.check_python()
    assert refused.value.code == "python_32_bit"


def test_an_unwritable_folder_is_one_sentence(scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(places.venv))

    monkeypatch.setattr(scripts.steps._SetUp, "run", refuse)
    progress = scripts.progress.Progress(io.StringIO(), "en")
    with pytest.raises(scripts.pip.SetUpError) as refused:
        scripts.steps.set_up(places, dev=False, window=False, progress=progress)
    assert refused.value.code == "no_permission"


# ------------------------------------------------------------------------------------------------------- stamp
def test_a_finished_set_up_is_not_repeated(scripts: Scripts, places: Any) -> None:
    assert not scripts.env.is_ready(places, dev=False)
    scripts.env.write_stamp(places, dev=False)
    assert scripts.env.is_ready(places, dev=False)


def test_the_developers_tools_are_asked_for_apart(scripts: Scripts, places: Any) -> None:
    scripts.env.write_stamp(places, dev=False)
    assert not scripts.env.is_ready(places, dev=True)
    scripts.env.write_stamp(places, dev=True)
    assert scripts.env.is_ready(places, dev=True)
    assert scripts.env.is_ready(places, dev=False)


def _another_pin(places: Any) -> None:
    places.constraints.write_text("pip==27.0\nsetuptools==84.2.1\n")


def _another_dependency(places: Any) -> None:
    file = places.root / "pyproject.toml"
    file.write_text(file.read_text().replace("numpy>=2", "numpy>=3"))


def _another_python(places: Any) -> None:
    places.python.unlink()
    places.python.symlink_to(__file__)


def _no_python(places: Any) -> None:
    places.python.unlink()


def _torn_stamp(places: Any) -> None:
    places.stamp.write_text(places.stamp.read_text()[:20])


@pytest.mark.parametrize("change", [_another_pin, _another_dependency, _another_python, _no_python, _torn_stamp])
def test_a_change_asks_for_another_set_up(scripts: Scripts, places: Any, change: Callable[[Any], None]) -> None:
    scripts.env.write_stamp(places, dev=False)
    change(places)
    assert not scripts.env.is_ready(places, dev=False)


def test_settings_of_tools_ask_for_none(scripts: Scripts, places: Any) -> None:
    scripts.env.write_stamp(places, dev=False)
    file = places.root / "pyproject.toml"
    file.write_text(file.read_text().replace("120", "100"))
    assert scripts.env.is_ready(places, dev=False)


def test_a_stamp_elsewhere_counts_for_nothing(scripts: Scripts, places: Any, tmp_path: Path) -> None:
    scripts.env.write_stamp(places, dev=False)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert not scripts.env.is_ready(scripts.env.Places(moved), dev=False)


def test_an_unfinished_set_up_leaves_no_stamp(scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts.env.write_stamp(places, dev=True)
    _another_pin(places)

    def interrupted(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scripts.steps._SetUp, "system_libraries", interrupted)
    progress = scripts.progress.Progress(io.StringIO(), "en")
    with pytest.raises(KeyboardInterrupt):
        scripts.steps.set_up(places, dev=False, window=False, progress=progress)
    assert not places.stamp.exists()


# ------------------------------------------------------------------------------------------- half-made, repaired
def _venv_settings(places: Any, *, version: str | None = None, folder: Path | None = None) -> None:
    version = version or ".".join(str(part) for part in sys.version_info[:3])
    command = f"/usr/bin/python3 -m venv {folder or places.venv}"
    (places.venv / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\ncommand = {command}\n")


def test_an_environment_that_works_is_kept(scripts: Scripts, places: Any) -> None:
    _venv_settings(places)
    assert not scripts.env.must_be_remade(places)


def test_one_without_settings_is_remade(scripts: Scripts, places: Any) -> None:
    assert scripts.env.must_be_remade(places)


def test_one_of_an_old_python_is_remade(scripts: Scripts, places: Any) -> None:
    _venv_settings(places, version="3.9.2")
    assert scripts.env.must_be_remade(places)


def test_one_of_another_new_enough_python_is_kept(scripts: Scripts, places: Any) -> None:
    _venv_settings(places, version="3.14.0")
    assert not scripts.env.must_be_remade(places)


def test_the_environments_own_python_tells_where_libraries_are(scripts: Scripts, places: Any) -> None:
    found = scripts.env.site_packages(Path(sys.executable), os.environ)
    assert (found / "pip").is_dir()
    assert scripts.env.site_packages(places.venv / "absent", os.environ) is None


def test_one_that_was_moved_is_remade(scripts: Scripts, places: Any, tmp_path: Path) -> None:
    _venv_settings(places, folder=tmp_path / "elsewhere" / ".venv")
    assert scripts.env.must_be_remade(places)


def test_a_folder_of_the_users_is_never_touched(scripts: Scripts, places: Any) -> None:
    assert not scripts.env.is_foreign(places.venv)
    (places.venv / "thesis.odt").write_text("years of work")
    assert scripts.env.is_foreign(places.venv)
    with pytest.raises(scripts.pip.SetUpError, match="move it away"):
        set_up_of(scripts, places).folder()
    assert (places.venv / "thesis.odt").exists()


def test_clearing_keeps_the_log(scripts: Scripts, places: Any) -> None:
    places.log.write_text("what happened")
    scripts.env.clear(places.venv)
    assert [entry.name for entry in places.venv.iterdir()] == ["setup.log"]


def test_what_pip_was_installing_is_installed_again(scripts: Scripts, tmp_path: Path) -> None:
    for name, files in (("whole-1.0", ("METADATA", "RECORD")), ("half-2.0", ("METADATA",))):
        info = tmp_path / f"{name}.dist-info"
        info.mkdir()
        for file in files:
            (info / file).touch()
    assert scripts.env.forget_half_installed(tmp_path) == ["half"]
    assert scripts.env.count_installed(tmp_path) == 1


def test_what_leads_pip_astray_is_left_out(scripts: Scripts) -> None:
    environment = scripts.env.clean_environment({"PYTHONPATH": "/x", "PIP_TARGET": "/y", "HOME": "/home/me"})
    assert "PYTHONPATH" not in environment
    assert "PIP_TARGET" not in environment
    assert environment["HOME"] == "/home/me"
    assert environment["PYTHONNOUSERSITE"] == "1"


# --------------------------------------------------------------------------------------------------------- pip
class FakePip:
    """Takes pip's place: `answers` maps the first requirement to what fails; everything else succeeds."""

    def __init__(self, scripts: Scripts, failures: dict[str, str]) -> None:
        self.error = scripts.pip.SetUpError
        self.say = scripts.pip.say
        self.failures = failures
        self.asked: list[list[str]] = []

    def __call__(self, python: Path, arguments: list[str], **options: Any) -> None:
        wanted = arguments[2:]  # after --constraint FILE
        self.asked.append(wanted)
        code = self.failures.get(" ".join(wanted))
        if code:
            raise self.error(code, self.say(code, code))


@pytest.fixture
def plenty_of_disk(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.steps.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**12))


def pytorch_with(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch, failures: dict[str, str]
) -> tuple[Any, FakePip]:
    pip = FakePip(scripts, failures)
    monkeypatch.setattr(scripts.steps, "pip_install", pip)
    set_up = set_up_of(scripts, places)
    set_up.builds = scripts.torch.choose("linux", "x86_64", None)
    set_up.build = set_up.builds[0]
    set_up.pytorch()
    return set_up, pip


LOCAL, INDEX = "torch==2.13.0+cpu", "torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"


@pytest.mark.usefixtures("plenty_of_disk")
def test_a_wheel_of_the_users_own_is_taken_first(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pip = pytorch_with(scripts, places, monkeypatch, {})
    assert pip.asked == [LOCAL.split()]


@pytest.mark.usefixtures("plenty_of_disk")
def test_then_pytorchs_index(scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pip = pytorch_with(scripts, places, monkeypatch, {LOCAL: "not_found"})
    assert pip.asked == [LOCAL.split(), INDEX.split()]


@pytest.mark.usefixtures("plenty_of_disk")
def test_then_the_larger_build_with_a_word_about_it(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up, pip = pytorch_with(scripts, places, monkeypatch, {LOCAL: "not_found", INDEX: "network"})
    assert pip.asked[-1] == ["torch===2.13.0"]
    assert "larger build" in set_up.progress._stream.getvalue()


@pytest.mark.usefixtures("plenty_of_disk")
@pytest.mark.parametrize("code", ["network", "no_disk"])
def test_no_network_and_no_disk_end_it_at_once(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    with pytest.raises(scripts.pip.SetUpError) as failed:
        pytorch_with(scripts, places, monkeypatch, {LOCAL: code})
    assert failed.value.code == code


def test_progress_is_read_from_pip(scripts: Scripts) -> None:
    installed = 3
    progress = scripts.pip.PipProgress(expected=1000, installed=lambda: installed)
    assert progress.heard("Collecting torch\n")
    assert progress.heard("  Downloading torch-2.13.0-cp311.whl (192 MB)\n")
    assert not progress.heard("Progress 500 of 1000\n")
    progress.update()
    assert progress.fraction == pytest.approx(0.35)
    assert progress.doing.en == "fetching torch"
    progress.heard("Installing collected packages: mpmath, sympy, torch\n")
    installed = 5
    progress.update()
    assert progress.fraction == pytest.approx(0.7 + 0.3 * 2 / 3)
    assert progress.doing.en == "installing, 2 of 3 packages"


def test_output_goes_to_the_log_and_numbers_do_not(scripts: Scripts, tmp_path: Path) -> None:
    program = "import sys; print('Progress 1 of 2'); print('no wheel'); sys.exit(4)"
    log = tmp_path / "setup.log"
    code, tail = scripts.pip.run_logged(
        [sys.executable, "-c", program],
        log=log,
        environment=os.environ,
        heard=lambda line: not line.startswith("Progress"),
    )
    assert code == 4
    assert tail.strip() == "no wheel"
    assert "Progress 1 of 2" not in log.read_text().splitlines()
    assert log.read_text().endswith("exit code 4\n")


# ----------------------------------------------------------------------------------------------- what is shown
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_one_line_moves(scripts: Scripts) -> None:
    stream = Terminal()
    progress = scripts.progress.Progress(stream, "zh")
    progress.phase(scripts.pip.say("Libraries", "依赖库"), 0.5, 1.0)
    progress.step(0.5, scripts.pip.say("fetching x", "获取 x"))
    assert stream.getvalue().count("\n") == 0
    assert "[ 75%] 0:00  依赖库: 获取 x" in stream.getvalue()


def test_in_a_log_a_line_stands_for_a_phase(scripts: Scripts) -> None:
    stream = io.StringIO()
    progress = scripts.progress.Progress(stream, "en")
    progress.phase(scripts.pip.say("Libraries", "依赖库"), 0.5, 1.0)
    for _ in range(100):
        progress.tick()
    assert stream.getvalue() == "[ 50%] 0:00  Libraries\n"


# ---------------------------------------------------------------------------------------------------- commands
@pytest.fixture
def started(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command that run.py becomes; the set-up is taken as done."""
    commands: list[list[str]] = []
    monkeypatch.setattr(scripts.commands, "set_up", lambda *args, **options: False)

    def become(command: list[str], environment: Any) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(scripts.commands.setup_system, "replace_process", become)
    monkeypatch.setenv("DISPLAY", ":0")
    return commands


def ending(command: list[str]) -> list[str]:
    return [Path(command[0]).stem, *command[1:]]


def test_run_opens_the_window(scripts: Scripts, started: list[list[str]]) -> None:
    assert scripts.commands.run(["--", "--exit-after-first-frame"]) == 0
    assert [ending(command) for command in started] == [["python", "-m", "gui", "--exit-after-first-frame"]]


def test_headless_runs_the_main_job(scripts: Scripts, started: list[list[str]]) -> None:
    scripts.commands.run(["--headless", "--json"])
    assert [ending(command) for command in started] == [["lorimer", "demo", "--json"]]


def test_without_a_display_the_main_job_runs_and_says_so(
    scripts: Scripts, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts.system, "has_display", lambda environment: False)
    scripts.commands.run([])
    assert [ending(command) for command in started] == [["lorimer", "demo"]]
    assert capsys.readouterr().out.strip()


def test_set_up_only_starts_nothing(scripts: Scripts, started: list[list[str]]) -> None:
    assert scripts.commands.run(["--set-up-only"]) == 0
    assert started == []


def test_a_failed_set_up_is_explained_and_starts_nothing(
    scripts: Scripts,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: Any, **options: Any) -> bool:
        raise scripts.pip.no_disk()

    monkeypatch.setenv("LC_ALL", "en_GB.UTF-8")
    monkeypatch.setattr(scripts.commands, "set_up", fail)
    assert scripts.commands.run([]) == 1
    assert started == []
    assert "The disk is full" in capsys.readouterr().out


def test_the_farewell_says_how_to_start_and_remove(scripts: Scripts, places: Any) -> None:
    text = scripts.commands._farewell(places, 61)
    for sentence in (text.en, text.zh):
        assert "1:01" in sentence
        assert "run.py" in sentence
        assert str(places.root) in sentence


@pytest.mark.parametrize(
    ("fast", "gpu", "expected"),
    [
        (False, False, ["-m", "not gpu"]),
        (True, False, ["-m", "not gpu and not slow"]),
        (True, True, ["-m", "not slow"]),
        (False, True, []),
    ],
)
def test_which_tests_are_left_out(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch, fast: bool, gpu: bool, expected: list[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    tests = dict(scripts.commands.stages(places, fast=fast, gpu=gpu, passed_on=["-x"]))["tests"]
    assert tests[1:] == ["-m", "pytest", *expected, "-x"]


@pytest.mark.parametrize(
    ("cores", "gpu", "processes"), [(2, False, "2"), (64, False, "4"), (64, True, ""), (None, False, "")]
)
def test_processes_share_the_tests_but_not_a_gpu(
    scripts: Scripts, places: Any, monkeypatch: pytest.MonkeyPatch, cores: int | None, gpu: bool, processes: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    tests = dict(scripts.commands.stages(places, fast=False, gpu=gpu, passed_on=[]))["tests"]
    assert (tests[tests.index("-n") + 1] if "-n" in tests else "") == processes


def test_every_check_runs_and_one_failure_fails_all(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(scripts.commands, "set_up", lambda *args, **options: False)
    monkeypatch.setattr(scripts.system, "find_gpu", lambda: None)
    commands = [
        ("lint", [sys.executable, "-c", "raise SystemExit(3)"]),
        ("tests", [sys.executable, "-c", "print('===', 5, 'passed in 0.1s ===')"]),
    ]
    monkeypatch.setattr(scripts.commands, "stages", lambda *args, **options: commands)
    assert scripts.commands.test([]) == 1
    shown = capfdbinary.readouterr().out.decode()
    assert "FAILED (exit code 3)" in shown
    assert shown.count("=== 5 passed in 0.1s ===") == 2  # as it came, and in the summary
    assert "Failed: lint." in shown


# --------------------------------------------------------------------------------------------------------- pins
def test_every_dependency_is_pinned(scripts: Scripts, repository: Path) -> None:
    pins = (repository / "packaging" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins if "==" in line}
    wanted = scripts.env.requirements(repository, dev=True)
    names = {name_of(requirement).lower().replace("_", "-") for requirement in wanted} - {"torch"}
    assert len(names) > 20
    assert names - pinned == set()


def name_of(requirement: str) -> str:
    return requirement.replace("<", ">").replace("!", ">").replace("=", ">").partition(">")[0].strip()


def test_no_script_uses_an_installed_library(repository: Path) -> None:
    allowed = {*sys.stdlib_module_names, "engine"}
    for file in (repository / "packaging").glob("setup_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign = [name for name in names if name.split(".")[0] not in allowed and not name.startswith("setup_")]
            assert foreign == [], file.name
