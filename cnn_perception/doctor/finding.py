"""The result of one check of the doctor, as one line: how severe it is, what it is about, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, printable

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        level: `FAIL` keeps results from arriving, `warn` may do so or spoils them.
        subject: What was checked.
        text: What was found.
        remedy: What to do; may be empty.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.subject}: {self.text}" + (f" -> {self.remedy}" if self.remedy else "")
        return f"{self.level:4}  {printable(' '.join(line.split()))}"


def from_error(subject: str, error: Exception) -> Finding:
    """Returns an error of this package as a failure; what to do follows its last semicolon."""
    text, _, remedy = str(error).rpartition("; ")
    return Finding("FAIL", subject, text, remedy) if text else Finding("FAIL", subject, remedy)


def first_line(error: BaseException) -> str:
    """Returns the beginning of what an error of another package says; its kind, if it says nothing."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def summary(findings: Iterable[Finding]) -> str:
    """Returns how many findings must be mended, and how many may have to be, in a few words."""
    counts = Counter(finding.level for finding in findings)
    warnings = f"{counts['warn']} warning{'s' if counts['warn'] > 1 else ''}" if counts["warn"] else ""
    if counts["FAIL"]:
        return f"{counts['FAIL']} to mend" + (f", {warnings}" if warnings else "")
    return f"nothing to mend, {warnings}" if warnings else "all well"


def exit_code_of(findings: Iterable[Finding]) -> int:
    """Returns `EXIT_BAD_INPUT` if anything must be mended."""
    return EXIT_BAD_INPUT if any(finding.level == "FAIL" for finding in findings) else EXIT_OK
