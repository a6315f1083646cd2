"""From sources to a data set: look at every frame once, choose, and write what was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError
from cnn_perception.image.kept_file import as_file
from cnn_perception.image.messages import decode
from cnn_perception.label_table import State, states_of
from cnn_perception.tasks.registry import task_of
from training.collect import choice
from training.collect.options import CollectOptions
from training.collect.parts import Place
from training.collect.placing import as_known, place
from training.collect.preparation import (
    KnownImages,
    Say,
    known_images,
    labels_of,
    make_describer,
    require_folder,
    require_separate,
)
from training.collect.set_folder import (
    Labels,
    SetWriter,
    answer_cells,
    label_cells,
    left_undecided,
    next_group,
    open_table,
)
from training.collect.sources.finding import find
from training.collect.sources.frame import Source, SourceFrame
from training.collect.survey import Candidate, Survey, survey
from training.data_set import columns
from training.data_set.table import DataSetTable
from training.run_files import make_output


@dataclass(frozen=True)
class Outcome:
    """What was collected.

    Attributes:
        survey: What the sources hold.
        rows: The rows that were added.
        before: How many rows there were.
        in_gaps: Candidates that were left out between parts of one recording.
        division: How recordings were divided, in words.
        interrupted: Whether Ctrl-C ended it; what was chosen by then is there.
    """

    survey: Survey
    rows: Sequence[Mapping[str, str]]
    before: int
    in_gaps: int
    division: str
    interrupted: bool


@dataclass(frozen=True, eq=False)
class _Chosen:
    """A candidate that is to be written, and what its row says of the choice."""

    candidate: Candidate
    place: Place
    reason: str
    cluster: str = ""

    @property
    def cells(self) -> dict[str, str]:
        """The cells of its row beside those of its origin and its label."""
        return {
            **answer_cells(self.candidate.answer),
            columns.PART: self.place.part,
            columns.BAG: self.place.bag,
            columns.REASON: self.reason,
            columns.CLUSTER: self.cluster,
        }


def collect(options: CollectOptions, say: Say) -> Outcome:
    """Chooses frames of the sources and adds them to the data set.

    Args:
        options: What is collected from where.
        say: Is told what is done now.

    Raises:
        ConfigError: If an option does not fit the data or a model.
        ModelError: If a model file cannot be used.
        DataError: If no source can be read, the data set is of another kind, or it cannot be written.
    """
    require_folder(options.output)
    sources = find(options.bags, options.images, options.recorded, options.topics, options.overrides)
    for path in (*options.bags, *options.images, *options.recorded, *(source.path for source in sources)):
        require_separate(options.output, path)
    describer = make_describer(options)
    labels = labels_of(options, describer)
    table = open_table(options.output, labels)
    make_output(options.output)
    known = known_images(table, describer, say)
    found = survey(sources, describer, known.bags.keys(), options.min_distance, say)
    found = as_known(found, table, known.bags)
    if not task_of(labels.task).has_classes:
        found = dataclasses.replace(found, candidates=_scaled(found.candidates))
    placement = place(found, table, options.division, options.budget)
    chosen = _grouped(_choose(found.candidates, placement.places, known, options), table)
    writer = SetWriter(table, labels)
    interrupted = _write(chosen, writer, labels, found, say)
    in_gaps = placement.places.count(None)
    return Outcome(found, writer.rows, len(table.rows), in_gaps, placement.how, interrupted or found.interrupted)


def _scaled(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Returns candidates whose doubts about numbers, which are differences of any unit, are shares of the largest."""
    largest = max((doubt for one in candidates if (doubt := one.doubt) is not None), default=0.0)
    return [one.doubted(one.doubt / largest) if one.doubt and largest else one for one in candidates]


def _choose(
    candidates: Sequence[Candidate], places: Sequence[Place | None], known: KnownImages, options: CollectOptions
) -> list[_Chosen]:
    usable = [(one, where) for one, where in zip(candidates, places, strict=True) if where is not None]
    if not usable:
        return []
    vectors = np.stack([one.vector for one, _ in usable])
    covered = np.stack(known.vectors) if known.vectors else vectors[:0]
    answers = [one.answer for one, _ in usable]
    found = choice.choose(vectors, answers, covered, options.budget, options.doubt_share)
    return [_Chosen(*usable[one.index], one.reason) for one in found]


def _grouped(chosen: Sequence[_Chosen], table: DataSetTable) -> list[_Chosen]:
    """Returns the frames with the numbers of their groups of look-alikes; none for what stands alone."""
    if not chosen:
        return []
    guesses = ["" if one.candidate.answer is None else one.candidate.answer.guess for one in chosen]
    vectors = np.stack([one.candidate.vector for one in chosen])
    numbers = choice.group_numbers(vectors, guesses, next_group(table))
    return [dataclasses.replace(one, cluster=number) for one, number in zip(chosen, numbers, strict=True)]


def _write(chosen: Sequence[_Chosen], writer: SetWriter, labels: Labels, found: Survey, say: Say) -> bool:
    """Writes images and table; returns whether Ctrl-C ended it, with what was written by then in the table."""
    if not chosen:
        return False
    say(f"writing {len(chosen)} images to {writer.table.file.parent}")
    states = {source: states_of(rows, labels.columns) for source, rows in found.tables.items()}
    for source, of_rows in states.items():
        if left := left_undecided(found.tables[source], of_rows, labels):
            say(f"{source.path}: {left}")
    interrupted = False
    try:
        for one, frame in ProgressBar(_read_again(chosen, found), total=len(chosen), desc="writing"):
            file = _file_of(frame, found)
            if file is not None:
                writer.add(frame.origin, *file, one.cells | _label_of(one, states, labels, found))
    except KeyboardInterrupt:
        interrupted = True
    except DataError:
        writer.save()
        raise
    writer.save()
    return interrupted


def _label_of(one: _Chosen, states: Mapping[Source, Sequence[State]], labels: Labels, found: Survey) -> dict[str, str]:
    """Returns the label that a person gave in the source's table; one that is none here is said and left out."""
    source, index = one.candidate.source, one.candidate.origin.index
    if source not in states:
        return {}
    try:
        return label_cells(found.tables[source][index], states[source][index], labels)
    except DataError as error:
        said = f"{source.path}: {error}; such images are not labelled"
        if said not in found.damage:
            found.damage.append(said)
        return {}


def _read_again(chosen: Sequence[_Chosen], found: Survey) -> Iterator[tuple[_Chosen, SourceFrame]]:
    """Yields each chosen frame with its content; one that is another now is said and left out."""
    of_source: dict[Source, dict[int, _Chosen]] = {}
    for one in chosen:
        of_source.setdefault(one.candidate.source, {})[one.candidate.origin.index] = one
    for source, wanted in of_source.items():
        with source.opened(wanted) as opened:
            for frame in opened.frames:
                one = wanted[frame.origin.index]
                if isinstance(frame.content, FrameError) or frame.origin != one.candidate.origin:
                    found.damage.append(f"{source.path}: {one.candidate.origin.stem} changed while it was read")
                else:
                    yield one, frame


def _file_of(frame: SourceFrame, found: Survey) -> tuple[bytes, str] | None:
    """Returns the content of an image file and its suffix; None, and says so, where no file holds the picture."""
    assert not isinstance(frame.content, FrameError)
    try:
        return as_file(frame.content, decode(frame.content))
    except FrameError as error:
        found.damage.append(f"{frame.origin.stem}: {error}")
        return None
