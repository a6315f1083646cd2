"""Owns: what `pip install` brings: the files of wheel and sdist, what they ask for, and programs that run from them.

Leaves to others: what colcon installs (test_packaging). The oracle for the files is the source tree.
"""

from __future__ import annotations

import email
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from paths import ROOT
from PIL import Image as Picture
from tiny_model import write_tiny_model

pytest.importorskip("build", reason="`build` is not installed")

OWN = os.environ.get("CNN_PERCEPTION_WHEEL_ENVIRONMENT", "")
"""Where `make wheel-check` has installed the wheel with all that it asks for; without it the libraries are borrowed."""
NOT_PACKED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "runs", "*_output")
PURE = {"py", "html", "css", "js"}
"""Kinds of files that the package itself is made of."""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=environment() | variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """That of a program which finds ROS 2 as this one does, but no clone, and not what colcon has installed."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if path and not (Path(path) / "cnn_perception").is_dir()]
    found = os.environ | {"PYTHONPATH": os.pathsep.join(kept)}
    if OWN and found.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", ""):
        # its own Python finds its own wheels of ROS 2, as long as nothing says that it has found them already
        del found["LD_LIBRARY_PATH"]
        found["AMENT_PREFIX_PATH"] = OWN
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the sdist of the clone, and the wheel that was made from that sdist."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(ROOT, folder / "clone", ignore=NOT_PACKED)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder / "clone", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(made) -> Path:
    (path,) = made.glob("*.whl")
    return path


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


def test_the_wheel_holds_the_runtime_and_nothing_else_that_python_could_import(wheel):
    package = [path for path in (ROOT / "cnn_perception").rglob("*.*") if path.suffix[1:] in PURE]
    imported = {name for name in names_in(wheel) if ".data/" not in name and ".dist-info/" not in name}

    assert imported == {str(path.relative_to(ROOT)) for path in package}


def test_the_wheel_lays_the_shared_files_where_ament_looks(wheel):
    shared = {name.partition(".data/data/")[2] for name in names_in(wheel) if ".data/data/" in name}
    launched = [path for path in (ROOT / "launch").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    launch = {f"share/cnn_perception/{path.relative_to(ROOT)}" for path in launched}

    assert launch < shared
    assert "share/ament_index/resource_index/packages/cnn_perception" in shared
    assert {f"share/cnn_perception/{name}" for name in ("package.xml", "security/policy.xml")} < shared
    assert all(name.startswith("share/") for name in shared)


def test_the_sdist_holds_what_builds_that_wheel_and_no_training(made):
    (path,) = made.glob("*.tar.gz")
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}

    assert {"setup.py", "package.xml", "LICENSE", "README.md", "requirements/runtime.txt"} < names
    assert not {name.partition("/")[0] for name in names} & {"training", "test", "demo", "benchmark", "fuzz"}


def listed(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith(("#", "-r"))}


def plain(line: str) -> str:
    return line.replace(" ", "").replace('"', "'")


def test_the_wheel_asks_for_what_requirements_list(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith("/METADATA")]
        metadata = email.message_from_bytes(file.read(name))
    asked = set(map(plain, metadata.get_all("Requires-Dist")))
    extras = set(metadata.get_all("Provides-Extra"))

    assert {line for line in asked if "extra==" not in line} == set(
        map(plain, listed("runtime") | listed("recordings"))
    )
    assert extras == {"cpu", "gpu", "openvino", "fleet", "heic", "page", "test", "video"}
    for extra in extras:
        own = {line for line in asked if f"extra=='{extra}'" in line}
        assert own == {f"{plain(one)}{'and' if ';' in one else ';'}extra=='{extra}'" for one in listed(extra)}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment of its own: the wheel alone beside the libraries of this one, or what `make wheel-check` made."""
    if OWN:
        return Path(OWN)
    folder = tmp_path_factory.mktemp("installed")
    # where ROS 2 is apt's, so are some of the libraries
    settings = Path(sys.prefix, "pyvenv.cfg")
    sees_apt = not settings.is_file() or "include-system-site-packages = true" in settings.read_text()
    options = ("--without-pip", *(["--system-site-packages"] if sees_apt else []))
    run(sys.executable, "-m", "venv", *options, folder, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", "--disable-pip-version-check", wheel, cwd=folder)
    own = next(folder.glob("lib/python3*/site-packages"))
    # a folder that a .pth names is searched, but no .pth in it is read: not that of the clone's own link either
    (own / "libraries.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) + "\n")
    return folder


def test_programs_of_the_wheel_run_its_own_code(installed):
    names = "cnn_perception, cv2, numpy, onnxruntime"
    code = f"import {names}\nfor one in ({names}): print(one.__file__)"
    package, *libraries = run(installed / "bin" / "python", "-c", code, cwd=installed).splitlines()

    assert Path(package).is_relative_to(installed)
    assert not OWN or all(Path(one).is_relative_to(installed) for one in libraries)
    assert "--min-accuracy" in run(installed / "bin" / "evaluate_bag", "--help", cwd=installed)


def test_the_wheel_scores_a_model(installed, tmp_path):
    for name, color in (("red", "red"), ("green", "green"), ("blue", "red")):  # the third label is wrong
        (tmp_path / "images" / name).mkdir(parents=True)
        Picture.new("RGB", (40, 30), color).save(tmp_path / "images" / name / "0.png")
    model = write_tiny_model(tmp_path / "tiny.onnx")
    given = ("--model", model, "--images", tmp_path / "images", "--output", tmp_path / "out", "--json")
    program = (installed / "bin" / "evaluate_bag", "--providers", "CPUExecutionProvider")
    said = json.loads(run(*program, *given, cwd=Path("/")))

    assert said["exit_code"] == 0
    assert (tmp_path / "out" / "report.html").is_file()
    assert said["result"]["top1"] == pytest.approx(2 / 3)


def test_a_node_of_the_wheel_answers_an_image(installed, tmp_path, domain):
    pytest.importorskip("rclpy", reason="no ROS 2")
    from perception import image, picture
    from ros import participant
    from vision_msgs.msg import Classification

    model = write_tiny_model(tmp_path / "tiny.onnx")
    words = ["--ros-args", "-p", f"model:={model}", "-p", "providers:=[CPUExecutionProvider]"]
    own = {"ROS_DOMAIN_ID": str(domain), "ROS_LOG_DIR": str(tmp_path), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(
            [installed / "bin" / "perception_node", *words], cwd="/", env=environment() | own, stdout=log, stderr=log
        )
    try:
        with participant(domain) as ros:
            answers = ros.collect(Classification, "/perception_node/classification")
            frame = image((1, 0), picture(0))
            camera = ros.publisher(type(frame), "/image_raw")
            ros.repeat(lambda: camera.publish(frame), lambda: answers, "an answer")
    finally:
        node.send_signal(signal.SIGINT)
        code = node.wait(20)
    assert code == 0, (tmp_path / "log").read_text()
    assert len(answers[0].results) == 3


@pytest.mark.parametrize(
    ("program", "library", "way"),
    [
        ("perception_node", "rclpy", "doctor"),
        ("camera_node", "rclpy", "doctor"),
        ("follow_node", "rclpy", "doctor"),
        ("evaluate_bag", "onnxruntime", "cnn_perception[cpu]"),
    ],
)
def test_a_program_without_one_of_its_libraries_says_so_in_one_line(installed, tmp_path, program, library, way):
    (tmp_path / "sitecustomize.py").write_text(f'import sys\nsys.modules["{library}"] = None\n')
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = subprocess.run(
        [installed / "bin" / program, "--json"],
        cwd="/",
        env=environment() | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: this Python finds no {library}; ")
    assert way in done.stderr
    assert done.stderr.count("\n") == 1
    assert json.loads(done.stdout)["command"] == program
