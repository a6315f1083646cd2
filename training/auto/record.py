"""What is known so far, kept as auto.json: by it the same command goes on where it was ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.files import has_fields, remove_unfinished, require_outside, require_unused
from training.run_files import make_output, write_text

NAME = "auto.json"
FILES = (NAME, "auto.csv", "accuracy_latency.png", "model.onnx", "files", "trials", "final")
_FIELDS = ("identity", "data_sha256", "files", "tried", "chosen")


@dataclass
class Record:
    """The state of a search; `write` after every change.

    Attributes:
        folder: Where it is.
        identity: What was asked for, see `Asked.identity`.
        data_sha256: Digest of the images and their labels.
        files: Milliseconds and bytes of each graph's model file, with the seconds that its export took.
        tried: What each candidate's folder holds, and why it ended.
        rows: The table as it is now.
        chosen: The candidate that is trained at the end; empty until then.
        final: What came of it.
    """

    folder: Path
    identity: dict[str, Any]
    data_sha256: str
    files: dict[str, dict[str, float]] = field(default_factory=dict)
    tried: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Writes auto.json, whole or not at all."""
        content = {
            "identity": self.identity,
            "data_sha256": self.data_sha256,
            "files": self.files,
            "tried": self.tried,
            "rows": self.rows,
            "chosen": self.chosen,
            "final": self.final,
        }
        write_text(self.folder / NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


_KEPT = tuple(one for one in fields(Record) if one.name != "folder")


def opened(folder: Path, identity: dict[str, Any]) -> Record:
    """Returns the record of a folder, or a new one.

    Args:
        folder: Of the results; it is made if it is not there.
        identity: What is asked for now.

    Raises:
        ConfigError: If the folder lies among the images, holds files of others, or a search that something else was
            asked of.
        DataError: If its record is not as this version writes it.
    """
    for source in map(Path, identity["data"]):
        require_outside(folder, source)
    make_output(folder)
    path = folder / NAME
    require_unused([folder / name for name in FILES], path, _FIELDS)
    if not has_fields(path, _FIELDS):
        return Record(folder, identity, "")
    remove_unfinished(folder)
    kept = json.loads(path.read_text(encoding="utf-8"))
    kinds = {one.name: str if one.name == "data_sha256" else list if one.name == "rows" else dict for one in _KEPT}
    if kept.keys() != kinds.keys() or not all(isinstance(kept[name], kind) for name, kind in kinds.items()):
        raise DataError(f"{path}: is not as this version writes it; give another --output to start anew")
    now = json.loads(json.dumps(identity))
    names = [name for name in sorted({*now, *kept["identity"]}) if now.get(name) != kept["identity"].get(name)]
    if names:
        flag = "--" + names[0].replace("_", "-") if names[0] != "programs" else "the file of a network"
        raise ConfigError(f"{flag}: {folder} was begun with another; give the same again to go on, or another --output")
    del kept["identity"]
    return Record(folder, identity, **kept)


def require_same_data(record: Record, digest: str, where: str) -> None:
    """Notes the data of a new search, and refuses others for one that goes on.

    Raises:
        DataError: If images or labels have changed.
    """
    if record.data_sha256 not in ("", digest):
        raise DataError(
            f"{where}: differs from what {record.folder} was begun with; give another --output to start anew"
        )
    record.data_sha256 = digest
    record.write()
