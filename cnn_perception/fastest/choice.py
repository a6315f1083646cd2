"""What was found to be the fastest, as text: it is kept in a file, and goes from one process to another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.fastest.candidates import Candidate

_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class Choice:
    """Which file, on which execution provider, was found to be the fastest on this machine.

    Attributes:
        sha256: Hex digest of the file.
        provider: The execution provider.
        text: What each way to run the network took, in one line.
        lasts: Whether it holds for later starts, too: not where a GPU that has a driver could not be used.
    """

    sha256: str
    provider: str
    text: str
    lasts: bool = True

    @classmethod
    def from_json(cls, data: bytes | str) -> Choice | None:
        """Reads what `to_json` wrote; returns None where it is damaged."""
        try:
            found = json.loads(data)
            sha256, provider, text, lasts = found["sha256"], found["provider"], found["text"], found.get("lasts", True)
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        if not all(isinstance(one, str) for one in (sha256, provider, text)) or not text.isprintable():
            return None
        return cls(sha256, provider, text[:_MOST_CHARACTERS], lasts is True)

    def to_json(self) -> str:
        """Returns it as JSON on one line."""
        return json.dumps(dataclasses.asdict(self))

    def among(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Returns which of the candidates it is; None where it is none of them."""
        wanted = (self.sha256, self.provider)
        return next((one for one in candidates if (one.file.sha256, one.provider) == wanted), None)
