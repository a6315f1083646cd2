"""What the owner of an adopted file should know, beside what its description says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cnn_perception.errors import printable

Kind = Literal["note", "warning", "not proven"]
"""What was found or done; what is probably wrong; what the certificate leaves open."""


@dataclass(frozen=True)
class Remark:
    """One thing that its owner should know.

    Attributes:
        text: What it is, in one line; names and values of the file in it may hold anything.
        kind: How it is meant.
        covers: The line of `ModelSpec.unproven` whose matter it tells more exactly, so that both are not printed; empty
            for none.
    """

    text: str
    kind: Kind = "note"
    covers: str = ""

    def in_words(self) -> str:
        """Returns it as it is printed: one line, with its kind before it."""
        return printable(f"{self.kind}: {self.text}")
