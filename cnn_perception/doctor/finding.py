"""What `doctor` found out, one line each: how bad it is, what it is about, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `FAIL` keeps results from arriving, `warn` may do so or spoils them.
        what: What was looked at.
        text: What was found.
        remedy: What to do; may be empty.
    """

    level: Level
    what: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.what}: {self.text}" + (f" -> {self.remedy}" if self.remedy else "")
        return f"{self.level:4}  {' '.join(line.split())}"


def from_error(what: str, error: Exception) -> Finding:
    """Returns what an error of this package says as a failure; what to do follows its last semicolon."""
    text, _, remedy = str(error).rpartition("; ")
    return Finding("FAIL", what, text, remedy) if text else Finding("FAIL", what, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """Returns `EXIT_BAD_INPUT` if anything must be mended."""
    return EXIT_BAD_INPUT if any(finding.level == "FAIL" for finding in findings) else EXIT_OK
