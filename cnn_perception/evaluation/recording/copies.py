"""Frames that are there more than once, within a recording or in several: each counts as often as it is there.

Two recorders that were merged, a bridge that sends back what it got, a clip beside the recording that it was cut of:
the figures then say more of these frames than of others, and their intervals are too narrow.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from cnn_perception.evaluation.frame_record import FrameRecord

_MOST_PAIRS = 5

_Key = tuple[int, str, str]
"""Stamp, content, and name of a box: pictures of a scene that stands still have stamps of their own."""


def copies_within(records: Sequence[FrameRecord]) -> list[str]:
    """Returns how many frames of a recording are there already, a line or none."""
    found = _keys(records)
    count = sum(found.values()) - len(found)
    if not count:
        return []
    return [f"{count} of {len(records)} frames have the stamp and the bytes of an earlier one: they count twice"]


def copies_among(recordings: Mapping[str, Sequence[FrameRecord]]) -> list[str]:
    """Returns which recordings, by their names, share frames, a line for each pair of them."""
    holders: dict[_Key, list[str]] = defaultdict(list)
    for name, records in recordings.items():
        for key in _keys(records):
            holders[key].append(name)
    shared = Counter(pair for names in holders.values() for pair in combinations(names, 2))
    lines = [f"{a} and {b} share {n} frames, by stamp and bytes: they count twice" for (a, b), n in shared.items()]
    others = len(lines) - _MOST_PAIRS
    return lines if others <= 0 else [*lines[:_MOST_PAIRS], f"{others} other pairs of bags share frames, too"]


def _keys(records: Sequence[FrameRecord]) -> Counter[_Key]:
    """Returns how often each frame is there; those that could not be read have nothing to be known by."""
    return Counter((one.stamp_ns, one.content, one.name) for one in records if one.stamp_ns > 0 and one.content)
