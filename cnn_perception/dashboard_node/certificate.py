"""What the model file itself says, where it lies on this machine, too: the node tells its path and its hash only."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from cnn_perception.errors import ModelError
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.spec import METADATA_KEY, ModelSpec
from cnn_perception.pages.model_facts import facts_of

_SUFFIX = ".onnx"
"""The path comes from the graph, where anybody may say anything: no other file is read for it."""


def certificate_of(file: str, sha256: str, provider: str) -> dict[str, Any]:
    """Returns the rows of a model's table, or in `missing` why there are none, as JSON has it.

    Args:
        file: Path of the model file on the node's machine; empty where the node has told nothing yet.
        sha256: Hex digest of the file that the node has loaded.
        provider: Execution provider in use.
    """
    if not file:
        return {"rows": [], "missing": "the node has no model yet"}
    if not file.endswith(_SUFFIX):
        return {"rows": [], "missing": f"{file}: only files that end in {_SUFFIX} are opened"}
    try:
        rows = _rows(Path(file), sha256, provider, _age(Path(file)))
    except ModelError as error:
        return {"rows": [], "missing": f"{error} (the node may run on another machine)"}
    if rows is None:
        return {"rows": [], "missing": f"{file}: is another file here than the one that the node has loaded"}
    return {"rows": rows, "missing": ""}


def _age(path: Path) -> int:
    """Returns when a file was changed, nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


@functools.lru_cache(maxsize=4)
def _rows(path: Path, sha256: str, provider: str, _changed_ns: int) -> list[tuple[str, str]] | None:
    """Returns the table of a file; None where it is another one. Reading a large one takes a second."""
    found = read_onnx_file(path)
    if found.sha256 != sha256:
        return None
    return facts_of(ModelSpec.from_json(found.metadata.get(METADATA_KEY, "")), provider)
