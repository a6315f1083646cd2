"""Frames that two models have answered, as tests of comparisons write them."""

from __future__ import annotations

from cnn_perception.comparison.compared_frame import Answer, ComparedFrame

SECOND = 10**9


def answer(given, best=None) -> Answer:
    """Without an unknown rule both are the same."""
    return Answer(given, given if best is None else best)


def frame(index: int, truth, theirs, ours, **more) -> ComparedFrame:
    """A frame of a bag at 1 Hz, each of which is an event of its own; an answer of both is given as it is."""
    fields = {
        "bag": "drive",
        "topic": "/camera",
        "name": "",
        "index": index,
        "stamp_ns": index * SECOND,
        "time_ns": (index + 1) * SECOND,
        "look": None,
    }
    answers = [one if isinstance(one, Answer) else answer(one) for one in (theirs, ours)]
    return ComparedFrame(**(fields | more), truth=truth, theirs=answers[0], ours=answers[1])


def image(index: int, truth, theirs, ours, **more) -> ComparedFrame:
    """A file of a folder, which has no time."""
    place = {"bag": "photos", "topic": "", "name": f"{index}.png", "stamp_ns": 0, "time_ns": 0}
    return frame(index, truth, theirs, ours, **(place | more))


def frames(counts: dict[tuple[str, str, str], int], make=frame) -> list[ComparedFrame]:
    """So many frames of each (truth, baseline's answer, model's answer), one kind after the other."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return [make(index, *kind) for index, kind in enumerate(kinds)]
