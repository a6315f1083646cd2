"""The commands that pages tell to type, each taken to pieces by the program's own parser: nothing of them is run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import shlex
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from paths import ROOT
from rclpy.parameter import Parameter

from cnn_perception.errors import ConfigError
from cnn_perception.ros.parameter_types import as_type

sys.path.insert(0, str(ROOT / "docs"))

from extensions import launch_files, parameters, parsers, topics

PAGES = sorted(
    path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "QUALITY_DECLARATION.md",
        ROOT / "SECURITY.md",
        ROOT / "STABILITY.md",
        ROOT / "models" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    )
    if "textbook" not in path.parts
)
"""The textbook's commands are run: see `textbook`."""
RECORDS = {
    "perception_node": ("perception_node.settings.Settings", "perception_node.settings.CameraSettings"),
    "camera_node": ("camera_node.node.CameraNodeSettings",),
    "follow_node": ("follow_node.node.FollowSettings",),
    "dashboard_node": ("dashboard_node.node.DashboardSettings",),
}
OF_THE_SYSTEM = {
    "apt",
    "cd",
    "chroot",
    "colcon",
    "debootstrap",
    "export",
    "git",
    "mkdir",
    "mount",
    "mv",
    ".",
    "ssh",
    "touch",
    ".venv/bin/pip",
    ".venv/bin/ruff",
    ".venv/bin/pytest",
}
_OF_PYTHON = {"colcon", "pip", "venv"}
"""Modules that a page may run by the system's Python or that of an environment."""
_OTHERS = {"topic", "param", "lifecycle", "service", "bag", "security", "pkg"}
"""What `ros2` does besides running and launching."""
_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SEPARATORS = {"&&", "&", ";", "|"}


class WrongCommandError(AssertionError):
    """A page tells to type what cannot be."""


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        page: Where it stands.
        words: Its words.
    """

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {shlex.join(self.words)}"


def commands(page: Path) -> Iterator[Command]:
    """Yields the commands of a page's shell blocks, comments and redirections left out."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), ";"]:
                if word not in _SEPARATORS:
                    words.append(word)
                elif words:
                    yield Command(page, tuple(words))
                    words = []


def mentions(page: Path) -> Iterator[Command]:
    """Yields the commands that stand in a page's sentences."""
    programs = "|".join(map(re.escape, [*RECORDS, *parsers.PROGRAMS]))
    for words in re.findall(
        rf"`((?:\.venv/bin/)?(?:python -m \w+\.|(?:{programs}) )[^`]+)`", page.read_text(encoding="utf-8")
    ):
        yield Command(page, tuple(shlex.split(words)))


def check(command: Command) -> None:
    """Checks that a command's program is there and takes its words.

    Raises:
        WrongCommandError: If not.
    """
    for option, name in itertools.pairwise(command.words):
        if option == "-r":
            path = name.removeprefix("src/cnn_perception/")
            _require(command, (ROOT / path).is_file(), f"no file {path}")
    match command.words:
        case ("python" | "python3", "-c", *_):
            pass
        case ("python" | "python3", "-m", module, *_):
            _require(command, module in _OF_PYTHON, f"no module {module}")
        case ("docker", "build", *rest):
            _check_docker(command, rest)
        case ("docker", "run", *rest):
            begin = next((i for i, word in enumerate(rest) if word == "ros2" or word.startswith(".venv/")), None)
            _require(command, begin is not None, "nothing is run")
            check(Command(command.page, tuple(rest[begin:])))
        case ("pixi", "run", program, *rest):
            _check_program(command, program, rest)
        case ("rosdep", "install", *rest):
            _check_rosdep(command, rest)
        case (".venv/bin/python", "-m", module, *rest):
            _parse(command, module, rest)
        case ("make", *rest):
            _check_make(command, rest)
        case ("ros2", "launch", "cnn_perception", file, *rest):
            _check_launch(command, file, rest)
        case ("ros2", "run", "cnn_perception", program, *rest):
            _check_program(command, program, rest)
        case ("ros2", "param", "set", node, name, _):
            _require(command, name in _parameters(node.strip("/")), f"no parameter {name}")
        case ("ros2", "service", "call", service, kind):
            _check_endpoint(command, service, kind)
        case ("ros2", "topic", "echo", topic):
            _check_endpoint(command, topic, "")
        case ("ros2", "run", *_):
            pass
        case ("ros2", verb, *_):
            _require(command, verb in _OTHERS, f"no verb {verb}")
        case (program, *rest) if program.startswith(".venv/bin/") and program not in OF_THE_SYSTEM:
            _check_program(command, program.removeprefix(".venv/bin/"), rest)
        case (program, *_):
            _require(command, program in OF_THE_SYSTEM, f"{program} is unknown")


def check_mention(command: Command) -> None:
    """Checks a command within a sentence, which may leave out what is needed: its program and its options exist.

    Raises:
        WrongCommandError: If not.
    """
    name = command.words[0].removeprefix(".venv/bin/")
    name, *rest = command.words[2:] if name == "python" else (name, *command.words[1:])
    if name in RECORDS:
        return _check_program(command, name, [word for word in rest if word != "..."])
    if name == "training.NAME":
        return None
    try:
        known = parsers.parser_of(name)._option_string_actions
    except ValueError as error:
        raise WrongCommandError(f"{command}: {error}") from None
    for word in rest:
        _require(command, not word.startswith("--") or word in known, f"no option {word}")
    return None


def _require(command: Command, holds: bool, text: str) -> None:
    if not holds:
        raise WrongCommandError(f"{command}: {text}")


def _parse(command: Command, name: str, words: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsers.parser_of(name).parse_args(words)
    except (SystemExit, ValueError) as error:
        raise WrongCommandError(f"{command}: {said.getvalue()[-300:] or error}") from None


def _check_program(command: Command, program: str, words: list[str]) -> None:
    if program in parsers.PROGRAMS:
        return _parse(command, program, words)
    _require(command, program in RECORDS, f"no program {program}")
    given = [word for before, word in itertools.pairwise(words) if before == "-p"]
    for word in given:
        name, _, value = word.partition(":=")
        _require(command, name in _parameters(program), f"no parameter {word}")
        _check_value(command, name, value, _parameters(program)[name])
    others = set(words) - {"--ros-args", "-p", "--help", *given}
    _require(command, not others or "--enclave" in others, f"{others} are no words of a node")
    return None


def _check_value(command: Command, name: str, value: str, about: dataclasses.Field[Any]) -> None:
    """Checks that a value on a command line, which ROS reads as YAML, is one of the parameter's type."""
    default = list(about.default) if isinstance(about.default, tuple) else about.default
    given = Parameter(name, value=yaml.safe_load(value))
    try:
        as_type(given, Parameter.Type.from_parameter_value(default), takes_number=about.metadata["takes_number"])
    except ConfigError as error:
        raise WrongCommandError(f"{command}: {error}") from None


def _parameters(program: str) -> dict[str, dataclasses.Field[Any]]:
    records = (parameters.fields(f"cnn_perception.{record}") for record in RECORDS[program])
    return {name: about for fields in records for name, about in fields.items()}


def _check_launch(command: Command, file: str, words: list[str]) -> None:
    try:
        known = launch_files.names(file)
    except ValueError as error:
        raise WrongCommandError(f"{command}: {error}") from None
    for word in words:
        _require(command, ":=" in word and word.partition(":=")[0] in known, f"no argument {word}")


def _check_docker(command: Command, words: list[str]) -> None:
    text = (ROOT / "Dockerfile").read_text()
    for option, value in itertools.pairwise(words):
        _require(command, option != "--target" or f" AS {value}\n" in text, f"no target {value}")
        _require(command, option != "--build-arg" or f"ARG {value.partition('=')[0]}=" in text, f"no argument {value}")


def _check_rosdep(command: Command, words: list[str]) -> None:
    keys = {tag.text for tag in ET.parse(ROOT / "package.xml").iter("exec_depend")}
    for option, value in itertools.pairwise(words):
        unknown = set(value.split()) - keys
        _require(command, option != "--skip-keys" or not unknown, f"no keys {unknown}")


def _check_make(command: Command, words: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, _, value = word.partition("=")
        pattern = rf"\$\({name}\)|^{name} \?=" if value else rf"^{name}:"
        _require(command, re.search(pattern, text, re.MULTILINE) is not None, f"no {word}")


def _check_endpoint(command: Command, name: str, kind: str) -> None:
    known = {
        one.name.replace("~", "/perception_node"): one.type for one in topics.endpoints("perception_node").values()
    }
    _require(command, name in known and kind in ("", known[name]), f"no {name} of that type")
