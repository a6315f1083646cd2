"""Looks at every frame of the sources once, and keeps what may be chosen: its numbers, never its pixels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError
from cnn_perception.evaluation.replay import in_order
from cnn_perception.image.messages import Seen, decode_frame
from cnn_perception.stream.frozen import PictureSample
from cnn_perception.stream.odd_pictures import OddPictures
from training.collect.description import Describer, Description, Vector
from training.collect.set_folder import Fingerprint, fingerprint
from training.collect.sources.frame import Answer, Origin, Source, SourceFrame


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that may be chosen.

    Attributes:
        source: Where it is read again.
        origin: Where it comes from.
        vector: What it is like.
        answer: What a model says of it.
    """

    source: Source
    origin: Origin
    vector: Vector
    answer: Answer | None

    @property
    def doubt(self) -> float | None:
        """How much the model is in doubt, if there is one and it can tell."""
        return None if self.answer is None else self.answer.doubt

    def doubted(self, doubt: float) -> Candidate:
        """Returns the same with another doubt; there must be an answer."""
        assert self.answer is not None
        return dataclasses.replace(self, answer=dataclasses.replace(self.answer, doubt=doubt))


@dataclass
class Survey:
    """What was met so far; it grows while the sources are read.

    Attributes:
        candidates: The frames that may be chosen.
        times_ns: When the good frames of each source came, by its name in the data set; no times of files.
        frames: How many were read, good and bad.
        alike: How many look like the one before them.
        known: How many are in the data set already, or came twice.
        fingerprints: Of the data set's images and of the candidates.
        taken: The sources of the candidates, by their fingerprints.
        met: Which of the fingerprints before its own each source has with stamps, by its name; none of files.
        stamps_ns: Of the good frames of each source, by its name.
        bad: How many cannot be used, by reason.
        damage: What cannot be read of the sources, a line each.
        warnings: What is odd about the sources and their pictures, though they can be used, a line each.
        tables: The rows of the sources that have tables of their own, by the index of the frame.
        interrupted: Whether Ctrl-C ended it.
    """

    candidates: list[Candidate] = field(default_factory=list)
    times_ns: dict[str, list[int]] = field(default_factory=dict)
    frames: int = 0
    alike: int = 0
    known: int = 0
    fingerprints: set[Fingerprint] = field(default_factory=set)
    taken: dict[Fingerprint, str] = field(default_factory=dict)
    met: dict[str, set[Fingerprint]] = field(default_factory=dict)
    stamps_ns: dict[str, set[int]] = field(default_factory=dict)
    bad: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tables: dict[Source, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    interrupted: bool = False

    def named(self, names: Mapping[str, str]) -> Survey:
        """Returns the same with other names of some sources, which several may share."""
        sources = {one.source: one.source.named(names.get(one.source.bag, one.source.bag)) for one in self.candidates}
        candidates = [
            dataclasses.replace(one, source=sources[one.source], origin=one.origin.named(sources[one.source].bag))
            for one in self.candidates
        ]
        times_ns: dict[str, list[int]] = {}
        for bag, own_ns in self.times_ns.items():
            times_ns.setdefault(names.get(bag, bag), []).extend(own_ns)
        tables = {sources.get(source, source): rows for source, rows in self.tables.items()}
        return dataclasses.replace(self, candidates=candidates, times_ns=times_ns, tables=tables)


_Camera = tuple[str, str]
"""A topic and a camera's name, of which a source may have either."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame that was looked at; its sample is None for a file, which has no time."""

    frame: SourceFrame
    fingerprint: Fingerprint
    description: Description
    picture: Seen
    sample: PictureSample | None


def survey(
    sources: Sequence[Source],
    describer: Describer,
    fingerprints: Collection[Fingerprint],
    min_distance: float,
    say: Callable[[str], object],
) -> Survey:
    """Returns what the sources hold; Ctrl-C ends it early and is noted.

    Args:
        sources: What is read, one after the other.
        describer: Looks at each frame.
        fingerprints: Of the images that the data set has already.
        min_distance: A frame that is nearer than this to the last one kept of its camera is left out.
        say: Is told what is read now.

    Raises:
        DataError: If not one frame can be used; says why.
    """
    found = Survey(fingerprints=set(fingerprints))
    for source in sources:
        try:
            _read(source, describer, min_distance, found, say)
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
    source: Source, describer: Describer, min_distance: float, found: Survey, say: Callable[[str], object]
) -> None:
    say(f"reading {source.path}")
    kept: dict[_Camera, Vector] = {}
    odd = OddPictures()
    with source.opened() as opened:
        if opened.rows:
            found.tables[source] = opened.rows
        try:
            seen = in_order(lambda frame: _look(frame, describer), opened.frames)
            for one in ProgressBar(seen, total=opened.count, desc=source.bag, unit="frame"):
                _count(one, source.bag, found)
                if isinstance(one, _Seen):
                    odd.add(one.picture, one.sample, _camera(one))
                    _add(source, one, kept, min_distance, found)
        finally:
            found.damage += opened.damage
            found.warnings += [*opened.warnings, *(f"{source.path}: {line}" for line in odd.warnings("images"))]


def _look(frame: SourceFrame, describer: Describer) -> _Seen | FrameError:
    try:
        if isinstance(frame.content, FrameError):
            raise frame.content
        decoded = decode_frame(frame.content)
        image, stamp_ns = decoded.image, frame.origin.stamp_ns
        sample = None if stamp_ns is None else PictureSample.of(image, stamp_ns)
        return _Seen(frame, fingerprint(stamp_ns, image), describer(image), decoded.seen, sample)
    except FrameError as error:
        return error


def _count(seen: _Seen | FrameError, bag: str, found: Survey) -> None:
    found.frames += 1
    times_ns = found.times_ns.setdefault(bag, [])
    if isinstance(seen, FrameError):
        found.bad[seen.reason] += 1
    elif (time_ns := seen.frame.origin.time_ns) is not None:
        times_ns.append(time_ns)
        if (stamp_ns := seen.frame.origin.stamp_ns or 0) > 0:
            found.stamps_ns.setdefault(bag, set()).add(stamp_ns)
            if seen.fingerprint in found.fingerprints:
                found.met.setdefault(bag, set()).add(seen.fingerprint)


def _add(source: Source, seen: _Seen, kept: dict[_Camera, Vector], min_distance: float, found: Survey) -> None:
    origin = seen.frame.origin
    look = seen.description.look
    camera = _camera(seen)
    before = kept.get(camera)
    if seen.fingerprint in found.fingerprints:
        found.known += 1
    elif before is not None and float(np.linalg.norm(look - before)) < min_distance:
        found.alike += 1
        return
    else:
        answer = seen.description.answer or seen.frame.answer
        found.fingerprints.add(seen.fingerprint)
        found.taken[seen.fingerprint] = source.bag
        found.candidates.append(Candidate(source, origin, seen.description.vector, answer))
    kept[camera] = look


def _camera(seen: _Seen) -> _Camera:
    return seen.frame.origin.topic, seen.frame.origin.camera


def _reasons(found: Survey) -> str:
    words = ", ".join(f"{count} {reason}" for reason, count in found.bad.most_common())
    return f" ({words})" if words else ""
