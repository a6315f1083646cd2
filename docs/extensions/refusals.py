"""What is refused, in the words in which it is: every error that the code raises, with … for what it fills in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from extensions.markdown import code, terms

ROOT = Path(__file__).resolve().parents[2]


def of_error(kind: str, *folders: str) -> str:
    """Returns the messages of an error class that are written in some folders, a list a folder, or by their reasons.

    Raises:
        ValueError: If there are none.
    """
    parts = []
    for folder in folders:
        found = list(dict.fromkeys(_messages(kind, folder)))
        if not found:
            raise ValueError(f"{folder} raises no {kind}")
        if kind == "FrameError":
            parts.append(_by_reason(found))
        else:
            parts += [f"**{code(folder)}**", "\n".join(f"- {code(words)}" for _, words in found)]
    return "\n\n".join(parts)


def _by_reason(found: list[tuple[str, str]]) -> str:
    reasons = sorted({reason for reason, _ in found})
    said = {reason: [code(words) for its, words in found if its == reason] for reason in reasons}
    return terms((code(reason), (), "\\\n".join(words).replace("\n", "\n  ")) for reason, words in said.items())


def _messages(kind: str, folder: str) -> Iterator[tuple[str, str]]:
    """Yields reason (of a FrameError, else empty) and message of each place where such an error is made."""
    place = ROOT / folder
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == kind and node.args:
                reason = node.args[0] if kind == "FrameError" else None
                words = written(node.args[-1])
                if words.strip("… "):
                    yield (_reason(reason), words)


def _reason(node: ast.expr | None) -> str:
    if node is None:
        return ""
    return str(node.value) if isinstance(node, ast.Constant) else "others"


def written(node: ast.expr) -> str:
    """Returns a text as it is written, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) for part in node.values).replace("……", "…")
    if isinstance(node, ast.BinOp):
        return written(node.left) + written(node.right)
    return "…"
