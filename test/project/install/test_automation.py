"""Owns: what runs and reads this repository for people: CI, pre-commit, forms, statements. Oracle: the source tree."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from paths import ROOT

import cnn_perception
from cnn_perception.model.spec import SPEC_VERSION

sys.path.insert(0, str(ROOT / "requirements"))
import resolve

sys.path.remove(str(ROOT / "requirements"))

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def steps(path: Path) -> list[dict]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


def test_ci_calls_the_make_test_of_people():
    said = [step.get("run", "") for path in WORKFLOWS for step in steps(path)]

    assert ".ci/run" in said
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert {word for line in said for word in re.findall(r"\bmake ([\w-]+)", line)} <= TARGETS


def test_ci_runs_the_launch_files_with_every_ros_that_has_an_image():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    (last,) = [step["run"] for step in jobs["ros"]["steps"] if "make pytest" in step.get("run", "")]
    folders = re.search(r'TESTS="(.+)"', last)[1].split()

    assert jobs["ros"]["strategy"]["matrix"] == jobs["robot"]["strategy"]["matrix"]
    assert last.index("import bond.msg, cv_bridge, launch_ros, rclpy") < last.index("make pytest")  # else they skip
    for path in (ROOT / "test").rglob("test_*.py"):
        if 'importorskip("launch_ros"' in path.read_text() and path != Path(__file__):
            assert any(path.is_relative_to(ROOT / folder) for folder in folders)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends_by_itself(path):
    workflow = yaml.safe_load(path.read_text())

    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 120 for job in workflow["jobs"].values())


def test_ci_runs_pythons_that_are_promised():
    setup = (ROOT / "setup.py").read_text()
    pythons = [str(one) for path in WORKFLOWS for one in re.findall(r'"(3\.\d+)"', path.read_text())]

    assert f'python_requires=">={min(pythons, key=lambda text: int(text[2:]))}"' in setup
    assert "3.14" in pythons


def test_pre_commit_runs_what_make_test_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].replace(".venv/bin/", "").replace(" --force-exclude", "") for hook in hooks]
    tested = re.findall(r"\$\(BIN\)/(ruff [a-z]+(?: --check)?|mypy)", (ROOT / "Makefile").read_text())

    assert entries == tested


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_forms_have_what_a_form_needs(path):
    form = yaml.safe_load(path.read_text())

    if path.stem != "config":
        assert {"name", "description", "body"} <= form.keys()
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert citation["version"] == cnn_perception.__version__
    assert citation["license"] == ET.parse(ROOT / "package.xml").findtext("license")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_package_xml_is_what_catkin_takes_and_asks_for_one_onnx_runtime():
    packages = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg is not installed")
    package = packages.parse_package(str(ROOT / "package.xml"))
    warnings: list[str] = []
    package.validate(warnings=warnings)

    assert warnings == []
    assert {url.type for url in package.urls} == {"website", "repository", "bugtracker"}
    for choice in ("", "cpu", "gpu", "openvino"):
        package.evaluate_conditions({"CNN_PERCEPTION_ONNXRUNTIME": choice} if choice else {})
        names = [one.name for one in package.exec_depends if one.evaluated_condition and "onnx" in one.name]
        suffix = f"-{choice}" if choice in ("gpu", "openvino") else ""
        assert names == [f"python3-onnxruntime{suffix}-pip"]


def test_on_arm_the_robot_is_asked_for_nothing_that_has_no_wheel_there():
    for python in resolve.PYTHONS:
        lines = resolve.listed("runtime", python)
        assert [line for line in lines if line.startswith("onnxruntime")] == ["onnxruntime>=1.20"]
        assert not [line for line in lines if "torch" in line]
        assert any(line.startswith("backports.zstd") for line in lines) == (python != "3.14")


def test_the_statement_of_what_is_stable_names_what_there_is():
    text = (ROOT / "STABILITY.md").read_text()
    programs = set(re.findall(r'f"(\w+) = \{NAME\}', (ROOT / "setup.py").read_text()))
    named = set(re.findall(r"`([\w./~ -]+)`", text))

    assert programs <= named
    assert f"version {SPEC_VERSION}" in text
    files = {name for name in named if re.fullmatch(r"(cnn_perception|launch|training|security|models)/[\w./]+", name)}
    assert files
    assert all((ROOT / name).exists() for name in files)


def test_the_quality_declaration_answers_every_row_of_rep_2004():
    text = (ROOT / "QUALITY_DECLARATION.md").read_text()
    answered = set(re.findall(r"^\| (\d\.[ivx]+) ", text, flags=re.M))
    count = {1: 6, 2: 5, 3: 5, 4: 5, 5: 3, 6: 1, 7: 1}
    numerals = ("i", "ii", "iii", "iv", "v", "vi")

    assert answered == {f"{chapter}.{numeral}" for chapter, rows in count.items() for numeral in numerals[:rows]}
    assert re.search(r"Quality Level 4", text)


def test_make_lists_every_target_that_has_a_word_for_it():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert {line.split()[1] for line in said.splitlines()} >= {"test", "wheel", "aarch64", "cv-bridge"}
