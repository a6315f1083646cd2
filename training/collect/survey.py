"""Looks at every frame of the sources once, and keeps what may be chosen: its numbers, never its pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from cnn_perception.errors import DataError, FrameError
from cnn_perception.evaluation.replay import in_order
from cnn_perception.image.messages import decode
from training.collect.description import Describer, Description, Vector
from training.collect.parts import Span
from training.collect.set_folder import SetImages
from training.collect.sources.frame import Answer, Origin, Source, SourceFrame


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that may be chosen.

    Attributes:
        source: Where it is read again.
        origin: Where it comes from.
        vector: What it is like.
        answer: What a model says of it.
        labels: The row of the source's own table, which a person may have filled in.
    """

    source: Source
    origin: Origin
    vector: Vector
    answer: Answer | None
    cells: dict[str, str]


@dataclass
class Survey:
    """What was met so far; it grows while the sources are read.

    Attributes:
        candidates: The frames that may be chosen.
        spans: When the frames of each recording came, by its name.
        frames: How many were read, good and bad.
        alike: How many look like the one before them.
        known: How many are in the data set already.
        bad: How many cannot be used, by reason.
        damage: What cannot be read of the sources, a line each.
        interrupted: Whether Ctrl-C ended it.
    """

    candidates: list[Candidate] = field(default_factory=list)
    spans: dict[str, Span] = field(default_factory=dict)
    frames: int = 0
    alike: int = 0
    known: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame that was looked at: `found` is why it cannot be used, None where the data set has it already."""

    frame: SourceFrame
    found: Description | FrameError
    is_known: bool = False


def survey(
    sources: Sequence[Source],
    describer: Describer,
    images: SetImages,
    min_distance: float,
    say: Callable[[str], object],
) -> Survey:
    """Returns what the sources hold; Ctrl-C ends it early and is noted.

    Args:
        sources: What is read, one after the other.
        describer: Looks at each frame.
        images: What the data set has already.
        min_distance: A frame that is nearer than this to the last one kept of its topic is left out.
        say: Is told what is read now.

    Raises:
        DataError: If not one frame can be used; says why.
    """
    found = Survey()
    for source in sources:
        try:
            _read(source, describer, images, min_distance, found, say)
        except DataError as error:
            if len(sources) == 1:
                raise
            found.damage.append(str(error))
        except KeyboardInterrupt:
            found.interrupted = True
            break
    if not (found.candidates or found.known or found.interrupted):
        raise DataError("; ".join([*found.damage, f"not one of {found.frames} frames can be used{_reasons(found)}"]))
    return found


def _read(
    source: Source,
    describer: Describer,
    images: SetImages,
    min_distance: float,
    found: Survey,
    say: Callable[[str], object],
) -> None:
    say(f"reading {source.path}")
    kept: dict[str, Vector] = {}
    with source.opened() as opened:
        try:
            seen = in_order(lambda frame: _look(frame, describer, images), opened.frames)
            for one in tqdm(seen, total=opened.count, desc=source.bag, unit="frame", disable=None):
                _add(source, one, kept, min_distance, found)
        finally:
            found.damage += opened.damage


def _look(frame: SourceFrame, describer: Describer, images: SetImages) -> _Seen:
    try:
        if isinstance(frame.content, FrameError):
            raise frame.content
        image = decode(frame.content)
        is_known = images.hold(frame.origin, image)
        return _Seen(frame, Description(describer.vector(image), None) if is_known else describer(image), is_known)
    except FrameError as error:
        return _Seen(frame, error)


def _add(source: Source, seen: _Seen, kept: dict[str, Vector], min_distance: float, found: Survey) -> None:
    origin = seen.frame.origin
    found.frames += 1
    found.spans.setdefault(origin.bag, Span()).add(origin.time_ns)
    if isinstance(seen.found, FrameError):
        found.bad[seen.found.reason] += 1
        return
    vector = seen.found.vector
    before = kept.get(origin.topic)
    if seen.is_known:
        found.known += 1
    elif before is not None and float(np.linalg.norm(vector - before)) < min_distance:
        found.alike += 1
        return
    else:
        answer = seen.found.answer or seen.frame.answer
        found.candidates.append(Candidate(source, origin, vector, answer, dict(seen.frame.cells)))
    kept[origin.topic] = vector


def _reasons(found: Survey) -> str:
    words = ", ".join(f"{count} {reason}" for reason, count in found.bad.most_common())
    return f" ({words})" if words else ""
