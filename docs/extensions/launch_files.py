"""Arguments of the launch files, as they are written there: the package launch need not be installed."""

from __future__ import annotations

import ast
from pathlib import Path

from extensions.markdown import code, terms, text

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def arguments(name: str) -> str:
    """Returns the arguments of a launch file."""
    return terms(_entry(call) for call in declared(name))


def names(name: str) -> set[str]:
    """Returns the names of a launch file's arguments."""
    return {str(ast.literal_eval(call.args[0])) for call in declared(name)}


def declared(name: str) -> list[ast.Call]:
    """Returns the declarations of a launch file.

    Raises:
        ValueError: If there is no such file.
    """
    path = LAUNCH / name
    if not path.is_file():
        raise ValueError(f"there is no launch file {name}")
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "DeclareLaunchArgument"]


def _entry(call: ast.Call) -> tuple[str, list[str], str]:
    given = {str(keyword.arg): keyword.value for keyword in call.keywords}
    choices = f"one of {code(ast.unparse(given['choices']))}" if "choices" in given else ""
    default = f"default {code(_default(given['default_value']))}" if "default_value" in given else "required"
    return code(ast.literal_eval(call.args[0])), [default, choices], text(str(ast.literal_eval(given["description"])))


def _default(value: ast.expr) -> str:
    """Returns a default as it is given; of a file beside the launch file its name."""
    if isinstance(value, ast.Constant):
        return str(value.value) or "''"
    return next(str(node.value) for node in ast.walk(value) if isinstance(node, ast.Constant))
