"""What became of every frame of a replay, by the node's own counters and by what was heard of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_DROPPED, _ODD = "dropped: ", "odd: "


@dataclass(frozen=True)
class NodeCounts:
    """What a node's diagnostics say of its camera: each a number of frames since it is active.

    Attributes:
        received: That arrived, those included that were overtaken.
        answered: To which an answer was published.
        lost: That were sent and never arrived.
        overtaken: That a newer one replaced before they were taken.
        unknown: That were answered `unknown`.
        dropped: That were taken and not answered, by reason.
        odd: With a strange stamp or picture, by kind; they may have been answered all the same.
    """

    received: int = 0
    answered: int = 0
    lost: int = 0
    overtaken: int = 0
    unknown: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    odd: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_status(cls, values: Mapping[str, str]) -> NodeCounts:
        """Returns the counts that a camera's diagnostic status holds, by its keys."""
        return cls(
            received=int(values.get("received", 0)),
            answered=int(values.get("answered", 0)),
            lost=int(values.get("lost on the way", 0)),
            overtaken=int(values.get("overtaken", 0)),
            unknown=int(values.get("unknown", 0)),
            dropped=_by_reason(values.items(), _DROPPED),
            odd=_by_reason(values.items(), _ODD),
        )

    @property
    def settled(self) -> int:
        """Frames of which it is known what became of them."""
        return self.answered + self.lost + self.overtaken + sum(self.dropped.values())


def _by_reason(pairs: Iterable[tuple[str, str]], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): int(value) for key, value in pairs if key.startswith(prefix)}


@dataclass(frozen=True)
class Accounts:
    """What became of the frames of a bag.

    Attributes:
        in_bag: Messages of the image topic.
        unreadable: Of these, that are no message of their type: no camera sends such, and they were not published.
        unplayed: Of these, that were not published because the replay ended early.
        published: Those that were.
        answered: Published frames that the node says it has answered.
        lost: That never reached it.
        overtaken: That a newer one replaced before it took them.
        dropped: That it took and did not answer, by reason.
        unaccounted: Published frames of which nobody knows what became; below 0 where the node counts more than those.
        unheard: Answers that the node has published and that did not arrive here.
    """

    in_bag: int
    unreadable: int
    unplayed: int
    published: int
    answered: int
    lost: int
    overtaken: int
    dropped: Mapping[str, int]
    unaccounted: int
    unheard: int

    @property
    def is_balanced(self) -> bool:
        """Whether it is known of every frame what became of it."""
        return self.unaccounted == 0 and self.unheard == 0

    def problems(self) -> list[str]:
        """Returns what does not add up, a line each."""
        found = []
        if self.unaccounted:
            found.append(
                f"{self.unaccounted} of {self.published} published frames are unaccounted for: the node's counters "
                f"tell of {self.published - self.unaccounted}"
            )
        if self.unheard:
            found.append(f"{self.unheard} of the node's {self.answered} answers did not arrive here")
        return found


def account(
    in_bag: int, unreadable: int, published: int, counts: NodeCounts, heard: int, before_first: int = 0
) -> Accounts:
    """Returns the accounts of a replay.

    A node counts what was overtaken from the first frame on that it takes: of those before it cannot know whether they
    were sent to it. Here it was connected before the first was published.

    Args:
        in_bag: Messages of the image topic.
        unreadable: Of these, that were passed over because they cannot be read.
        published: Of these, that were published.
        counts: What the node said last; of one that died that is old, and the answers that arrived tell more.
        heard: Answers that arrived.
        before_first: Published frames before the first one that was answered.
    """
    answered = max(counts.answered, heard)
    uncounted = published - counts.settled - (answered - counts.answered)
    overtaken_first = min(max(uncounted, 0), before_first)
    return Accounts(
        in_bag=in_bag,
        unreadable=unreadable,
        unplayed=in_bag - unreadable - published,
        published=published,
        answered=answered,
        lost=counts.lost,
        overtaken=counts.overtaken + overtaken_first,
        dropped=dict(counts.dropped),
        unaccounted=uncounted - overtaken_first,
        unheard=answered - heard,
    )
