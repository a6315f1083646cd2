"""The public faces of the package: what a script may import, from its docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

WHOLE = "cnn_perception"
"""The face that has the names most used; the others' pages lead to it."""


def of_face(path: str) -> str:
    """Returns every public name of a package, for autodoc; what the whole package has, too, stands there alone."""
    also = [] if path == WHOLE else sorted({*names(path)} & {*names(WHOLE)})
    parts = [_described(path, name) for name in names(path) if name not in also]
    return "\n\n".join([*parts, f"As above: {', '.join(f'`{name}`' for name in also)}." if also else ""])


def names(path: str) -> list[str]:
    """Returns the public names of a package: those that its `__init__` hands to `faces.lazy`."""
    source = Path(str(importlib.import_module(path).__file__)).read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    (face,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "lazy"]
    return sorted(ast.literal_eval(face.args[1]))


def _described(path: str, name: str) -> str:
    found = getattr(importlib.import_module(path), name)
    if inspect.isclass(found):
        return f"```{{eval-rst}}\n.. autoclass:: {path}.{name}\n   :members:\n   :show-inheritance:\n```"
    return f"```{{eval-rst}}\n.. autofunction:: {path}.{name}\n```"
