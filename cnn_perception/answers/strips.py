"""What is known and what the latest answer was, over time, as rows of colours."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame
from cnn_perception.evaluation.plots import Strips, named_strips
from cnn_perception.label_text import shown, text_of

_MOMENTS = 480
"""More cannot be told apart in a picture."""


def strips_over_time(
    frames: Sequence[AskedFrame], streams: Mapping[str, Sequence[Answer]], reading: Reading
) -> Strips | None:
    """Returns a row of what is known, and one of each stream's latest answer; None for numbers or a single moment.

    Args:
        frames: In order of time.
        streams: By its label, the answers in the order in which they came.
        reading: How they are read.
    """
    if not reading.has_classes or not frames or frames[-1].time_s <= frames[0].time_s:
        return None
    first_s, last_s = frames[0].time_s, frames[-1].time_s
    moments_s = np.linspace(first_s, last_s, _MOMENTS, endpoint=False).tolist()
    rows: dict[str, list[str | None]] = {}
    if any(frame.truth is not None for frame in frames):
        starts = [frame.time_s for frame in frames]
        known = (frames[bisect_right(starts, moment_s) - 1].truth for moment_s in moments_s)
        rows["truth"] = [None if truth is None else shown(text_of(truth)) for truth in known]
    for label, answers in streams.items():
        times_s = [answer.time_s for answer in answers]
        places = (bisect_right(times_s, moment_s) - 1 for moment_s in moments_s)
        latest = [answers[place] if place >= 0 else None for place in places]
        rows[label] = [None if one is None else shown(reading.text(one)) or "none" for one in latest]
    return named_strips(rows, first_s, last_s)
