"""One recording of a black box: from some seconds before its first cause to some seconds after its last one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

_MOST_CAUSES = 20
"""So many are named; a shadow may disagree with every frame."""


@dataclass(eq=False)
class Incident:
    """One recording of a black box.

    Attributes:
        name: Of its bag.
        end_s: Until when messages belong to it, by the monotonic clock; a further cause puts it off,
        latest_s: but never beyond this.
    """

    name: str
    end_s: float
    latest_s: float
    _causes: list[str] = field(default_factory=list)
    _more: int = 0

    def add(self, cause: str, end_s: float) -> None:
        """Notes a cause, and that what is received until a time belongs to it."""
        if len(self._causes) < _MOST_CAUSES:
            self._causes.append(cause)
        else:
            self._more += 1
        self.end_s = max(self.end_s, min(end_s, self.latest_s))

    @property
    def causes(self) -> str:
        """What has happened, the first one first, in one line."""
        return "; ".join(self._causes) + (f"; and {self._more} more" if self._more else "")


def incident_name(cause: str, time_ns: int) -> str:
    """Returns what the bag is called: the UTC time of its cause to the millisecond, and the cause."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    stamp = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{stamp:%Y%m%dT%H%M%S}.{rest_ns // 10**6:03}Z_{cause}"
