"""Owns: that the site builds without a warning, that what its pages say is so, and that the tests exist which
test/README.md names. Leaves to others: the textbook.
"""

from __future__ import annotations

import ast
import html
import re
import subprocess
import sys
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs what training needs")

import documentation
from extensions.refusals import written
from paths import ROOT
from PIL import Image
from tiny_model import write_tiny_model

from cnn_perception.stream.stamps import Oddity

DOCS = ROOT / "docs"
TROUBLES = DOCS / "robot" / "troubleshooting.md"
FIRST_STEPS = ("README.md", "docs/first-answers.md", "docs/first-model.md")
"""Of somebody who has no ROS program but those of `make venv`."""
NODES = ("perception_node", "camera_node", "follow_node", "dashboard_node")
REMAPPED = {"/classification": "/perception_node/classification", "/ray": "/perception_node/activation/centroid_ray"}
"""By follow.launch.py, as in the policy."""
OF_EVERY_NODE = {"/clock", "/parameter_events", "/rosout", "~/transition_event"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        folder / "trees",
        DOCS,
        folder / "html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def words_of(page) -> str:
    """A built page's text."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_the_site_builds_without_a_warning_and_every_page_is_in_its_contents(site):
    contents = (site / "index.html").read_text()
    pages = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}

    assert {page for page in pages if f'href="{page}"' not in contents} == {"index.html"}


@pytest.mark.parametrize("node", NODES)
def test_topics_of_the_reference_are_those_that_the_security_policy_grants(node):
    policy = ElementTree.parse(ROOT / "security" / "policy.xml")
    (profile,) = [found for found in policy.iter("profile") if found.get("node") == node]
    granted = {topic.text for topic in profile.iter("topic")} - OF_EVERY_NODE
    described = {name if name[0] in "~/" else f"/{name}" for name, one in found_in_code(node) if one.role != "service"}

    assert {REMAPPED.get(name, name) for name in described} == granted


def found_in_code(node):
    return documentation.topics.endpoints(node).items()


def test_the_reference_names_what_the_programs_have(site):
    reference = site / "reference"
    commands = words_of(reference / "commands.html")
    assert all(flag in commands for flag in ("--min-accuracy-each", "--on-doubt", "--seconds", "--score-map-stride"))
    forward_within = "default 0.35 · 0 to 1.5 · live"
    assert forward_within in words_of(reference / "parameters.html")
    assert "only with optimizer=rmsprop" in words_of(reference / "settings.html")
    codes = words_of(reference / "exit_codes.html")
    assert re.search(r"4\s+everything ran, but the model is worse than the baseline", codes)
    assert "max_logit_difference" in words_of(reference / "model_file.html")
    assert "recognise" in words_of(reference / "python.html")


@pytest.mark.parametrize("page", documentation.PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_a_page_is_taken_by_its_program(page):
    for command in documentation.commands(page):
        documentation.check(command)
    for command in documentation.mentions(page):
        documentation.check_mention(command)


@pytest.mark.parametrize(
    "line",
    [
        ".venv/bin/python -m training.train --data DATA --output RUN --no-such-option",
        ".venv/bin/python -m training.nothing",
        ".venv/bin/python -m training.export --output models/mine.onnx",  # of what?
        ".venv/bin/evaluate_bag --bag drive",
        ".venv/bin/perception_node --ros-args -p modle:=model.onnx",
        "ros2 launch cnn_perception perception.launch.py modle:=model.onnx",
        "ros2 launch cnn_perception nothing.launch.py",
        "ros2 param set /perception_node modle model.onnx",
        "ros2 service call /perception_node/reload_model std_srvs/srv/SetBool",
        "ros2 topic echo /perception_node/clasification",
        "make nothing",
        ".venv/bin/pip install -r requirements/nothing.txt",
        "python -m pip install -r src/cnn_perception/requirements/nothing.txt",
        "python -m nothing",
        "docker build --target nothing .",
        "docker build --build-arg NOTHING=1 .",
        "docker run image .venv/bin/python -m training.nothing",
        "docker run image",
        "pixi run nothing",
        "pixi run camera_node --ros-args -p sauce:=0",
        "pixi run camera_node --ros-args -p source:=true",
        ".venv/bin/camera_node --ros-args -p rate_hz:=fast",
        "rosdep install --skip-keys nothing",
        "make demo DATUM=photos",
        "curl something",
    ],
)
def test_a_command_that_does_not_exist_is_found(tmp_path, line):
    page = ROOT / "page.md"
    with pytest.raises(documentation.WrongCommandError):
        documentation.check(documentation.Command(page, tuple(line.split())))


@pytest.mark.parametrize(
    "words", ["python -m training.export --no-such", "evaluate_bag --lvie", "camera_node --ros-args -p s:=0"]
)
def test_a_command_in_a_sentence_that_does_not_exist_is_found(tmp_path, words):
    page = ROOT / "page.md"
    with pytest.raises(documentation.WrongCommandError):
        documentation.check_mention(documentation.Command(page, tuple(words.split())))


def test_commands_are_found_in_sentences(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "With `python -m training.look --checkpoint RUN/best.pt`, `doctor` or `evaluate_bag --live` and `others`."
    )

    found = [" ".join(one.words) for one in documentation.mentions(page)]

    assert found == ["python -m training.look --checkpoint RUN/best.pt", "evaluate_bag --live"]


def test_commands_are_found_over_several_lines_and_without_their_comments(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\nmake demo  # all\na \\\n  b && c 'd e'\n```\n\n```text\nx\n```\n")

    assert [one.words for one in documentation.commands(page)] == [("make", "demo"), ("a", "b"), ("c", "d e")]


def test_the_pages_code_runs_and_recognises_a_photograph(tmp_path):
    (tmp_path / "models").mkdir()
    write_tiny_model(tmp_path / "models" / "imagenet.onnx")
    write_tiny_model(tmp_path / "model.onnx")
    (tmp_path / "photos" / "green").mkdir(parents=True)
    for path in (tmp_path / "photo.jpg", tmp_path / "photos" / "green" / "1.png"):
        Image.fromarray(np.full((30, 40, 3), (0, 255, 0), np.uint8)).save(path)
    written = "".join(page.read_text() for page in documentation.PAGES)
    code = sorted(set(re.findall(r"```python\n(.*?)```", written, re.DOTALL)))
    assert len(code) == 3

    said = [
        subprocess.run([sys.executable, "-c", part], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        for part in code
    ]

    assert all(text.startswith("[('green', 0.99") for text in said[:2])
    assert said[2] == "1.0\n"
    assert (tmp_path / "report" / "report.html").is_file()


def texts_of_the_code() -> str:
    """Every text that is written in the runtime, with … for what is filled in, each on a line."""
    nodes = (node for path in (ROOT / "cnn_perception").rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    return "\n".join(
        " ".join(written(node).split()) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)
    )


def test_what_troubleshooting_quotes_is_said_by_the_code():
    said = texts_of_the_code()
    quoted = re.findall(r"^`([^`]+)`\n: ", TROUBLES.read_text(), re.MULTILINE)
    assert len(quoted) > 60

    assert [words for words in quoted if not is_said(words, said)] == []


def is_said(words: str, said: str) -> bool:
    return re.search(".*?".join(map(re.escape, words.split("…"))), said) is not None


def test_a_quotation_that_nobody_says_is_found():
    assert is_said("no image for … s", texts_of_the_code())
    assert not is_said("no picture for … s", texts_of_the_code())


def test_every_kind_of_oddity_that_is_counted_is_explained():
    table = (DOCS / "explanation" / "counted.md").read_text().partition("## What is odd, and answered")[2]
    rows = "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `"))
    made: set[str] = set()
    for path in (ROOT / "cnn_perception").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ImageOddity":
                words = [one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)]
                assert words, f"{path}: a kind that is not written where it is made"
                made |= {*words}

    assert len(made) > 10
    assert {*re.findall("`([a-z_]+)`", rows)} == made | {*get_args(Oddity)} - {""}


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_first_steps_show_the_page_in_the_browser_as_soon_as_the_node_runs(name):
    programs = [one.words[0].removeprefix(".venv/bin/") for one in documentation.commands(ROOT / name)]

    assert programs[programs.index("perception_node") + 1 :].count("dashboard_node") == 1


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_first_steps_start_the_node_with_the_model_that_they_export(name):
    commands = [one.words for one in documentation.commands(ROOT / name)]
    (model,) = [words[words.index("--output") + 1] for words in commands if "training.export" in words]

    assert [words for words in commands if "perception_node" in words[0] and f"model:={model}" in words]
    assert set(re.findall(r'Pipeline\.load\("([^"]+)"\)', (ROOT / name).read_text())) <= {model}


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)", text)

    assert len(links) > 30
    assert [link for link in links if not (link.startswith("https://") or (ROOT / link).exists())] == []


def test_installing_names_every_extra_and_leaves_the_keys_of_pip_to_the_environment():
    text = (DOCS / "install.md").read_text()
    extras = ast.literal_eval(re.search(r"^EXTRAS = (.*)$", (ROOT / "setup.py").read_text(), re.MULTILINE)[1])
    assert set(re.findall(r"\| `\[(\w+)\]` \|", text)) == set(extras)

    keys = ElementTree.parse(ROOT / "package.xml").iter("exec_depend")
    by_pip = {key.text for key in keys if key.text.endswith("-pip")}
    by_pip -= {"python3-onnxruntime-gpu-pip", "python3-onnxruntime-openvino-pip"}  # of robots that ask for them
    (skipped,) = re.findall(r'--skip-keys "([^"]+)"', text)
    commands = [one.words for one in documentation.commands(DOCS / "install.md")]
    (install,) = [words for words in commands if {"pip", "constraints.txt"} < {*words}]
    assert set(skipped.split()) == by_pip
    others = {key.removeprefix("python3-").removesuffix("-pip") for key in by_pip} - {"onnxruntime"}
    assert others <= set(install)


def test_every_test_that_the_tables_name_exists():
    named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", (ROOT / "test" / "README.md").read_text())
    assert len(named) > 80
    for module, name in named:
        (path,) = (ROOT / "test").rglob(f"{module}.py")
        assert not name or f"def {name}(" in path.read_text(), f"{module}::{name}"
