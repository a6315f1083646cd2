"""Owns: what pip, colcon and ros2 launch are told about this package, and that it agrees with the code.

Leaves to others: which module may import which (test_dependencies), what the nodes do (test_node).
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from paths import ROOT
from PIL import Image
from tiny_model import write_tiny_model

import cnn_perception
from cnn_perception.perception_node.settings import CameraSettings, Settings

BIN = Path(sys.executable).parent
EXECUTABLES = {"perception_node", "camera_node", "evaluate_bag", "follow_node", "dashboard_node", "doctor"}
NOT_PACKAGED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "install", "log", "runs", "demo_output"
)
OPTIONAL = {"av": "video", "ray": "fleet", "starlette": "page", "uvicorn": "page"}
"""What a program asks for where it is wanted, and the file of requirements that has it."""
STANDARD_SINCE_3_14 = {"compression"}
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "cv2": "python3-opencv",
    "jinja2": "python3-jinja2",
    "PIL": "python3-pil",
    "yaml": "python3-yaml",
}


def exec_depends() -> set[str]:
    return {tag.text for tag in ET.parse(ROOT / "package.xml").iter("exec_depend")}


def requirements(name: str) -> set[str]:
    """The names of what a file lists, and the files that it names."""
    lines = [line for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines() if line]
    named = [requirements(line.removeprefix("-r ").removesuffix(".txt")) for line in lines if line.startswith("-r ")]
    return set().union(*named, (re.match(r"[\w-]+", line)[0] for line in lines if not line.startswith(("#", "-r "))))


def third_party_imports() -> set[str]:
    names = set()
    for path in [*ROOT.glob("cnn_perception/**/*.py"), *ROOT.glob("launch/*.py")]:
        for statement in ast.walk(ast.parse(path.read_text())):
            if isinstance(statement, ast.Import):
                names |= {alias.name.split(".")[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
                names.add(statement.module.split(".")[0])
    return names - sys.stdlib_module_names - STANDARD_SINCE_3_14 - {"cnn_perception"}


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False
    )


def test_package_xml_setup_py_and_the_package_have_the_same_version():
    assert ET.parse(ROOT / "package.xml").findtext("version") == cnn_perception.__version__
    assert run(sys.executable, "setup.py", "--version").stdout.split()[-1] == cnn_perception.__version__


def test_torch_is_no_runtime_dependency():
    runtime = exec_depends() | requirements("runtime") | requirements("ros-kilted") | requirements("ros-jazzy")

    assert not [name for name in runtime if "torch" in name]


def test_everything_the_runtime_imports_is_a_declared_dependency():
    declared = exec_depends() | {name.removesuffix("-gpu") for name in requirements("runtime")}

    found = third_party_imports() - set(OPTIONAL)
    assert {ROSDEP_KEYS.get(name, name) for name in found} <= declared
    assert all(library in requirements(name) for library, name in OPTIONAL.items())


@pytest.mark.parametrize("extra", ["heic", *sorted({*OPTIONAL.values()})])
def test_what_is_optional_is_an_extra_of_the_wheel_and_not_needed_by_the_robot(extra):
    extras = re.search(r"EXTRAS = \((.+)\)", (ROOT / "setup.py").read_text())[1]

    assert f'"{extra}"' in extras
    assert not requirements(extra) & (exec_depends() | requirements("runtime"))


def test_the_parameter_file_holds_the_nodes_defaults():
    file = yaml.safe_load((ROOT / "launch" / "perception.yaml").read_text())["/**"]["ros__parameters"]
    fields = [*dataclasses.fields(Settings), *dataclasses.fields(CameraSettings)]
    defaults = {f.name: list(f.default) if isinstance(f.default, tuple) else f.default for f in fields}
    launch_arguments = {"model", "image_transport"}
    not_given = {"rectified"}  # whether the user has given it makes a difference

    assert file == {name: value for name, value in defaults.items() if name not in launch_arguments | not_given}
    assert "    # rectified: false\n" in (ROOT / "launch" / "perception.yaml").read_text()


def test_every_place_names_the_same_pythons():
    texts = [path.read_text() for path in (ROOT / "README.md", *ROOT.glob("requirements/*.py"))]
    texts += [path.read_text() for path in ROOT.glob("cnn_perception/**/*.py")]
    named = [re.findall(r"3\.10 to 3\.\d+", text) for text in texts]

    assert [words for words in named if words] == [["3.10 to 3.14"]] * 3  # README, `make venv` and the doctor


def test_a_missing_compiler_is_said_on_one_line_before_anything_is_downloaded():
    result = run(sys.executable, "requirements/check.py", "wheels", PATH="/nowhere")

    assert result.returncode == 1
    assert result.stderr.startswith("error: gcc, g++, cmake not found")
    assert result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A colcon workspace in which this package has been built."""
    if importlib.util.find_spec("colcon_core") is None:
        pytest.skip("colcon is not installed")
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT, workspace / "src", ignore=NOT_PACKAGED)
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    built = run(BIN / "colcon", "build", cwd=workspace)
    assert built.returncode == 0, built.stdout + built.stderr
    return workspace


def test_colcon_sees_one_ament_python_package(workspace):
    listed = run(BIN / "colcon", "list", cwd=workspace).stdout.split()

    assert listed == ["cnn_perception", "src", "(ros.ament_python)"]


def test_colcon_installs_launch_files_parameters_profile_and_models(workspace):
    share = workspace / "install" / "cnn_perception" / "share" / "cnn_perception"

    shipped = [path for path in (ROOT / "launch").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {"foxglove.json", "perception.rviz"} < {path.name for path in shipped}
    for path in shipped:
        assert (share / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert (share / "package.xml").is_file()
    assert (share / "security" / "policy.xml").is_file()
    assert (share / "models" / "README.md").is_file()


def test_colcon_installs_the_executables_where_ros2_run_looks(workspace):
    folder = workspace / "install" / "cnn_perception" / "lib" / "cnn_perception"

    assert {path.name for path in folder.iterdir() if os.access(path, os.X_OK)} == EXECUTABLES


def test_colcon_tests_the_package_with_pytest(workspace):
    chosen = ["--pytest-args", "test/image/test_limits.py", "-q"]
    tested = run(BIN / "colcon", "test", "--return-code-on-test-failure", *chosen, cwd=workspace)
    result = ET.parse(workspace / "build" / "cnn_perception" / "pytest.xml").find("testsuite")

    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert int(result.get("tests")) > 10
    assert result.get("failures") == result.get("errors") == "0"


@pytest.mark.parametrize("plugin", ["launch_testing", "launch_ros", "launch_pytest"])
def test_plugins_of_a_sourced_ros_do_not_keep_pytest_from_its_tests(tmp_path, plugin):
    (tmp_path / "of_ros.py").write_text(
        "def pytest_pycollect_makemodule(path, parent): ...\n"
    )  # pytest has no such `path`
    folder = tmp_path / f"{plugin}-3.4.3.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin}\nVersion: 3.4.3\n")
    (folder / "entry_points.txt").write_text(f"[pytest11]\n{plugin} = of_ros\n")
    given = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    collected = run(sys.executable, "-m", "pytest", "--collect-only", "test/image/test_limits.py", PYTHONPATH=given)

    assert collected.returncode == 0, collected.stderr


def test_an_installed_executable_runs_the_installed_code(workspace):
    install = workspace / "install"
    script = f". {install}/setup.sh && {install}/cnn_perception/lib/cnn_perception/evaluate_bag --help"
    result = run("sh", "-c", script, cwd=install, COLCON_CURRENT_PREFIX=str(install))

    assert result.returncode == 0, result.stderr
    assert "--min-accuracy" in result.stdout


def test_an_installed_executable_writes_a_page_with_the_installed_templates(workspace, tmp_path):
    install = workspace / "install"
    (tmp_path / "images" / "red").mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "images" / "red" / "0.png")
    arguments = f"--model {write_tiny_model(tmp_path / 'tiny.onnx')} --images {tmp_path}/images --output {tmp_path}/out"
    program = install / "cnn_perception" / "lib" / "cnn_perception" / "evaluate_bag"
    script = f"cd / && . {install}/setup.sh && {program} {arguments} --providers CPUExecutionProvider"
    result = run("sh", "-c", script, cwd=install, COLCON_CURRENT_PREFIX=str(install))

    assert result.returncode == 0, result.stderr
    assert "<h1>tiny on images</h1>" in (tmp_path / "out" / "report.html").read_text()
    installed = {path.relative_to(path.parents[2]) for path in install.rglob("cnn_perception/*/templates/*")}
    assert installed == {path.relative_to(path.parents[2]) for path in ROOT.glob("cnn_perception/*/templates/*")}


def launch_arguments(name: str) -> dict[str, bool]:
    """Returns the arguments of a launch file and whether each is required."""
    pytest.importorskip("launch_ros", reason="launch comes with an apt ROS 2, not as a wheel")
    spec = importlib.util.spec_from_file_location("launch_file", ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = module.generate_launch_description().get_launch_arguments()
    return {argument.name: argument.default_value is None for argument in arguments}


def test_the_launch_file_requires_nothing_for_a_params_file_may_name_the_model():
    arguments = launch_arguments("perception.launch.py")

    assert {
        "model",
        "image",
        "image_transport",
        "namespace",
        "params_file",
        "respawn",
        "on_exit",
        "autostart",
        "viewer",
    } < arguments.keys()
    assert [name for name, required in arguments.items() if required] == []


def test_the_demo_launch_file_requires_a_source():
    arguments = launch_arguments("demo.launch.py")

    assert {name for name, required in arguments.items() if required} == {"source"}
    assert {"model", "image", "width", "height", "frame_id", "camera_info_url"} < arguments.keys()


def test_the_follow_launch_file_requires_nothing_for_a_params_file_may_name_the_class():
    arguments = launch_arguments("follow.launch.py")

    assert {"follow", "stamped", "params_file"} < arguments.keys()
    assert [name for name, required in arguments.items() if required] == []
