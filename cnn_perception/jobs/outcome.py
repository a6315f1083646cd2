"""What became of the work on one item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")

ATTEMPTS = 2
"""What fails is tried once more: a process may have been killed for the memory that others took."""
INTERRUPTED = "interrupted before it was done"
PULSE_S = 30.0
"""So often it is said of work that takes long that it goes on."""


@dataclass(frozen=True)
class Outcome(Generic[ResultT]):
    """What became of the work on one item.

    Attributes:
        index: Which item it was.
        result: What the work returned; None where it failed.
        failure: Why it failed, in one line; empty where it did not.
        attempts: How often it was tried.
    """

    index: int
    result: ResultT | None
    failure: str = ""
    attempts: int = 1
