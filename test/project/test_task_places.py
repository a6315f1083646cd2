"""Owns: in how many places the runtime tells tasks apart, so that a further task stays one new file and few edits."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest
from paths import ROOT

from cnn_perception.model.spec import Task
from cnn_perception.tasks.registry import TASKS
from cnn_perception.tasks.rules import MessageKind, TimelineKind

PLACES = {
    "model/spec.py": "which fields a description of each task must have",
    "perception_node/messages.py": "the message of each kind of answer",
    "evaluation/page_sections.py": "the picture and the table of each kind of figures",
    "evaluation/cli.py": "the option of each gate",
    "answers/command.py": "the gates that answers of a robot, which have no scores of all classes, can be held to",
}
"""Outside `tasks/`, where a fourth task may have to be added; at most five."""

TASK_NAMES = set(get_args(Task))
KINDS = {*get_args(MessageKind), *get_args(TimelineKind)}
OPTIONS = {gate.option for task in TASKS.values() for gate in task.gates}


def texts(node: ast.AST) -> set[str]:
    """All string constants in a node."""
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def asks_for_the_task(node: ast.AST) -> bool:
    return any(
        (isinstance(one, ast.Attribute) and one.attr == "task") or (isinstance(one, ast.Name) and one.id == "task")
        for one in ast.walk(node)
    )


def tells_apart(node: ast.AST) -> bool:
    """Whether it names a task or its option, compares the task or a kind with one, or asks whose scores these are."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.removeprefix("--").replace("-", "_") in TASK_NAMES | OPTIONS
    if isinstance(node, ast.Compare):
        return bool(texts(node) & KINDS) or (asks_for_the_task(node) and bool(texts(node)))
    if isinstance(node, ast.Match):
        return asks_for_the_task(node.subject)
    if isinstance(node, ast.Dict):
        return any(key is not None and bool(texts(key) & KINDS) for key in node.keys)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
        return ast.unparse(node.args[1]).endswith("Scores")
    return False


def dispatches(tree: ast.Module) -> list[int]:
    """Lines that tell tasks apart."""
    return sorted({node.lineno for node in ast.walk(tree) if tells_apart(node)})


def places(package: Path) -> dict[str, list[int]]:
    """Lines by file, below a package but for its `tasks`."""
    files = {str(path.relative_to(package)): path for path in sorted(package.rglob("*.py"))}
    outside = {name: path for name, path in files.items() if not name.startswith("tasks/")}
    found = {name: dispatches(ast.parse(path.read_text())) for name, path in outside.items()}
    return {name: lines for name, lines in found.items() if lines}


def test_at_most_five_files_outside_the_tasks_tell_them_apart():
    assert places(ROOT / "cnn_perception").keys() == PLACES.keys()
    assert len(PLACES) <= 5


@pytest.mark.parametrize(
    "text",
    [
        'if spec.task == "multiclass":\n    pass',
        'if spec.task in ("multilabel", OTHER):\n    pass',
        'if prediction.task != "ordinal":\n    pass',
        'answers = {"regression": numbers}[spec.task]',
        "match spec.task:\n    case _:\n        pass",
        "if isinstance(scores, MulticlassScores):\n    pass",
        'if task.message == "numbers":\n    pass',
        'value = getattr(options, "min_map")',
        'parser.add_argument("--max-mae")',
    ],
)
def test_every_way_to_tell_tasks_apart_is_found(text):
    assert dispatches(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        '"""Reads multiclass, multilabel and regression."""',
        'print(f"{spec.task} of {count}")',
        "if spec.task != running.task:\n    pass",
        "if task_of(spec.task).is_exclusive:\n    pass",
    ],
)
def test_to_pass_a_task_on_is_not_to_tell_it_apart(text):
    assert not dispatches(ast.parse(text))
