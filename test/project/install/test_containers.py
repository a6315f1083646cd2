"""Owns: Dockerfile, devcontainer and pixi manifest: what they copy, call and name is there. No engine is needed.

Oracle beside the source tree: hadolint, where it is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from fnmatch import fnmatch
from pathlib import Path

import pytest
from paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of the Dockerfile, each on one line."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def copied() -> list[str]:
    """Every path that is copied out of the clone."""
    return [path for name, words in instructions() if name == "COPY" for path in words.split()[:-1]]


@pytest.mark.parametrize("path", copied())
def test_what_is_copied_into_an_image_is_there_and_not_ignored(path):
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]

    assert (ROOT / path).exists()
    assert not [pattern for pattern in ignored if fnmatch(path, pattern)]


def test_the_robots_image_holds_all_that_colcon_installs_and_no_training():
    robot = DOCKERFILE[DOCKERFILE.index("AS robot") : DOCKERFILE.index("AS tools")]
    taken = {path for name, words in instructions() if name == "COPY" and "src/" in words for path in words.split()}
    installed = set(re.findall(r'files\("(\w+)/', (ROOT / "setup.py").read_text()))

    assert installed | {"cnn_perception", "resource", "requirements", "package.xml", "setup.py", "setup.cfg"} <= taken
    assert "README.md" in taken  # setup.py reads it
    assert not taken & {"training", "test", "demo", "."}
    assert "torch" not in robot


def test_the_robots_image_holds_the_libraries_that_no_rosdep_key_has():
    robot = DOCKERFILE[DOCKERFILE.index("AS robot") : DOCKERFILE.index("AS tools")]

    installed = set(re.findall(r"-r /tmp/(\w+)\.txt", robot))
    assert installed == {"recordings", "page"}  # of package.xml's comment, and what dashboard_node serves its page with
    assert {f"requirements/{name}.txt" for name in installed} <= set(copied())


def test_what_setup_py_reads_is_copied_before_it_runs():
    read = set(re.findall(r'ROOT / "([\w.]+)"', (ROOT / "setup.py").read_text()))
    training = DOCKERFILE[DOCKERFILE.index("AS training") : DOCKERFILE.index("RUN make venv")]

    assert read >= {"README.md", "requirements"}
    assert all(re.search(rf"COPY.*\b{re.escape(name)}\b", training) for name in read)


def test_commands_of_the_images_are_there():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    modules = re.findall(r'"-m", "([\w.]+)"', DOCKERFILE)

    assert set(re.findall(r"RUN make ([\w-]+)", DOCKERFILE)) <= {*targets}
    assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules)
    assert all((ROOT / "launch" / name).is_file() for name in re.findall(r"\w+\.launch\.py", DOCKERFILE))


def test_stages_are_named_before_they_are_used():
    known = set()
    for name, words in instructions():
        if name == "FROM":
            base, _, stage = words.split()
            assert base in known or ":" in base, f"{base} is no stage"
            known.add(stage)
    assert {"robot", "training"} < known
    assert set(re.findall(r"--target (\w+)", DOCKERFILE)) <= known


def test_the_choice_of_onnx_runtime_is_that_of_package_xml():
    conditions = [tag.get("condition", "") for tag in ET.parse(ROOT / "package.xml").iter("exec_depend")]
    variable = re.search(r"ENV (\w+)=\$\{ONNXRUNTIME\}", DOCKERFILE)[1]

    assert any(f"${variable} == gpu" in condition for condition in conditions)


def test_hadolint_finds_nothing():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    hadolint = shutil.which("hadolint", path=path) or pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert done.stdout == ""


def test_the_devcontainer_names_a_stage_a_target_and_the_python_of_make_venv():
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())

    assert (ROOT / ".devcontainer" / settings["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert f"AS {settings['build']['target']}\n" in DOCKERFILE
    assert settings["postCreateCommand"] == "make venv"
    python = settings["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python == f"{settings['workspaceFolder']}/.venv/bin/python"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib comes with Python 3.11")
def test_the_pixi_manifest_names_the_packages_of_ros_and_the_programs():
    import tomllib

    manifest = tomllib.loads((ROOT / "pixi.toml").read_text())
    setup = (ROOT / "setup.py").read_text()
    anywhere = manifest["dependencies"] | manifest["target"]["linux-64"]["dependencies"]
    own = manifest["pypi-dependencies"]["cnn_perception"]

    assert {f"ros-lyrical-{name}" for name in ("ros-base", "vision-msgs", "cv-bridge", "bond")} < anywhere.keys()
    assert manifest["tasks"].keys() == set(re.findall(r'f"(\w+) = \{NAME\}', setup))
    assert all(f'"{extra}"' in setup for extra in own["extras"])
