"""What a model is compared with: the answers of an earlier evaluation, or another model that sees the same frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cnn_perception.comparison.compared_frame import Answer, ComparedFrame
from cnn_perception.comparison.comparison import Comparison, compare
from cnn_perception.comparison.model_card import ModelCard, card_of, common_names, notes_on
from cnn_perception.comparison.recorded_answers import (
    PREDICTIONS,
    FrameKeys,
    RecordedAnswer,
    RecordedAnswers,
    cells_of_numbers,
    read_answers,
)
from cnn_perception.errors import ConfigError, DataError, FrameError
from cnn_perception.image.appearance import Appearance
from cnn_perception.image.messages import RgbImage
from cnn_perception.label_text import NONE_OF_THESE, Truth, text_of
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

REPORT = "report.json"


class RecognisedFrame(Protocol):
    """What is needed of the record of a frame; see `evaluation.frame_record.FrameRecord`."""

    @property
    def index(self) -> int:
        """Position in the topic or the folder."""

    @property
    def name(self) -> str:
        """File name in a folder; empty in a bag."""

    @property
    def stamp_ns(self) -> int:
        """Stamp of the header, nanoseconds."""

    @property
    def received_ns(self) -> int:
        """When it was received, nanoseconds; 0 in a folder."""

    @property
    def content(self) -> str:
        """Digest of its bytes; empty where there are none."""

    @property
    def truth(self) -> Truth | None:
        """What is known of it."""

    @property
    def prediction(self) -> Prediction | None:
        """What was answered; None for a bad frame."""

    @property
    def look(self) -> Appearance | None:
        """How its picture looks."""


@dataclass
class Witness:
    """Sees the pictures of one recording while they are recognised; called by several threads at once.

    Attributes:
        pipeline: The baseline's model; None where its answers are known from an earlier evaluation.
        answers: By the index of the frame, what it answered.
    """

    pipeline: Pipeline | None
    answers: dict[int, Answer] = field(default_factory=dict)

    def see(self, index: int, image: RgbImage) -> None:
        """Asks the baseline's model about a frame's picture."""
        if self.pipeline is None:
            return
        try:
            self.answers[index] = answer_of(self.pipeline.recognise(image))
        except FrameError:  # such as NaN: it has no answer
            self.answers[index] = Answer(None, None)


class Baseline:
    """What a model is compared with.

    Attributes:
        ours: The model that is judged.
        theirs: The one that it is compared with.
        notes: How they differ in what they can answer, a line each.
    """

    def __init__(self, ours: ModelCard, theirs: ModelCard, source: Pipeline | RecordedAnswers) -> None:
        """Prepares a comparison.

        Raises:
            ConfigError: If the models have no common task, or nothing in common that they answer.
        """
        self.ours = ours
        self.theirs = theirs
        self.common = common_names(ours, theirs)
        self.notes = notes_on(ours, theirs)
        self._pipeline = source if isinstance(source, Pipeline) else None
        self._recorded = source if isinstance(source, RecordedAnswers) else None
        self._frames: list[ComparedFrame] = []
        self._met = 0
        self._foreign = 0
        self._unseen: list[str] = []

    def witness(self) -> Witness:
        """Returns what sees the pictures of one recording."""
        return Witness(self._pipeline)

    def add(self, records: Iterable[RecognisedFrame], witness: Witness, bag: str, topic: str) -> None:
        """Adds the frames of a recording, or of a folder.

        Args:
            records: All its frames.
            witness: What has seen them.
            bag: Its path.
            topic: The image topic; empty for a folder.

        Raises:
            DataError: If the earlier evaluation was of another topic, other labels or other pictures.
        """
        answers: Mapping[int, Answer] = witness.answers
        known = list(records)
        if self._recorded is not None:
            answers = self._found(self._recorded, known, bag, topic)
        for record in known:
            theirs = answers.get(record.index, None if self._recorded is not None else Answer(None, None))
            frame = self._compared(record, theirs, bag, topic) if theirs is not None else None
            if frame is not None:
                self._frames.append(frame)

    def compare(self, max_loss: float) -> Comparison:
        """Returns what was found of all frames that were added.

        Args:
            max_loss: The loss that is allowed, as a share.

        Raises:
            DataError: If there is nothing to compare.
        """
        if self._recorded is not None and not self._met:
            raise DataError(
                f"--baseline {self._recorded.path} is of another recording, {self._recorded.source}: none of its "
                f"{len(self._recorded.rows)} frames is here; evaluate the baseline on this one, or name its model file"
            )
        units = [unit for name, unit in zip(self.ours.names, self.ours.units, strict=False) if name in self.common]
        is_same = self.ours.sha256 == self.theirs.sha256
        found = compare(self._frames, self.common, units, max_loss=max_loss, is_same_model=is_same)
        return dataclasses.replace(found, left_out=(*self._left_out(), *found.left_out))

    def _left_out(self) -> list[str]:
        """Returns which frames could not be added, a line each."""
        lines = list(self._unseen)
        if self._recorded is not None and len(self._recorded.rows) > self._met:
            lines.append(f"{len(self._recorded.rows) - self._met} frames that only the baseline has")
        if self._foreign:
            lines.append(f"{self._foreign} frames of classes that only one of the models has")
        return lines

    def _found(
        self, recorded: RecordedAnswers, records: Iterable[RecognisedFrame], bag: str, topic: str
    ) -> dict[int, Answer]:
        """Returns the recorded answers by the index of the frame."""
        if recorded.topic != topic:
            raise DataError(
                f"--baseline {recorded.path} is of {recorded.topic or 'a folder'}, this is {topic or 'a folder'}; "
                "evaluate the baseline on the same"
            )
        keys = FrameKeys()
        answers = {}
        new = 0
        for record in records:
            row = recorded.rows.get(keys.key(record.name, record.stamp_ns, record.received_ns))
            if row is None:
                new += 1
                continue
            self._require_same(recorded, row, record, bag)
            answers[record.index] = row.answer
        self._met += len(answers)
        if new and answers:
            self._unseen.append(f"{new} frames of {bag} that the baseline has not seen")
        return answers

    def _require_same(self, recorded: RecordedAnswers, row: RecordedAnswer, record: RecognisedFrame, bag: str) -> None:
        """Refuses a frame of which an earlier evaluation knew something else, or saw another picture."""
        where = f"frame {record.index}" if not record.name else record.name
        if row.content and record.content and row.content != record.content:
            raise DataError(
                f"--baseline {recorded.path} is of other pictures ({recorded.source}): {where} of {bag} is not the one "
                "that it saw; evaluate the baseline on this one, or name its model file"
            )
        then = self._known_then(row)
        now = self._known_now(record)
        if then != now:
            raise DataError(
                f"--baseline {recorded.path} was scored with other labels ({recorded.labels or 'class folders'}): "
                f"{where} of {bag} was {_shown(then)}, and is now {_shown(now)}; evaluate the baseline with these "
                "labels, or name its model file"
            )

    def _known_then(self, row: RecordedAnswer) -> tuple[str, ...]:
        if task_of(self.theirs.task).has_classes:
            return row.truth
        return tuple(row.truth[self.theirs.names.index(name)] for name in self.common)

    def _known_now(self, record: RecognisedFrame) -> tuple[str, ...]:
        if task_of(self.ours.task).has_classes:
            return (text_of(record.truth),)
        truth = _restricted(record.truth, self.ours.names, self.common)
        return cells_of_numbers(truth) if isinstance(truth, tuple) else ("",) * len(self.common)

    def _compared(self, record: RecognisedFrame, theirs: Answer, bag: str, topic: str) -> ComparedFrame | None:
        """Returns a frame as both models know it; None where nothing is known of it that both could answer."""
        truth = _restricted(record.truth, self.ours.names, self.common)
        if truth is None:
            return None
        if isinstance(truth, str) and truth not in (*self.common, NONE_OF_THESE):
            self._foreign += 1
            return None
        ours = Answer(None, None) if record.prediction is None else answer_of(record.prediction)
        return ComparedFrame(
            bag=bag,
            topic=topic,
            name=record.name,
            index=record.index,
            stamp_ns=record.stamp_ns,
            time_ns=record.received_ns,
            truth=truth,
            ours=self._answer(ours, self.ours),
            theirs=self._answer(theirs, self.theirs),
            look=record.look,
        )

    def _answer(self, answer: Answer, card: ModelCard) -> Answer:
        return Answer(
            _restricted(answer.given, card.names, self.common), _restricted(answer.best, card.names, self.common)
        )


def _shown(cells: tuple[str, ...]) -> str:
    return ", ".join(filter(None, cells)) or "unlabelled"


def _restricted(truth: Truth | None, names: Sequence[str], common: Sequence[str]) -> Truth | None:
    """Returns what a truth or an answer, in which names stand in this order, says of the common ones."""
    if isinstance(truth, frozenset):
        return truth & set(common)
    if isinstance(truth, tuple):
        return tuple(truth[names.index(name)] for name in common)
    return truth


def open_baseline(path: Path, ours: OnnxModel, options: SessionOptions) -> Baseline:
    """Opens what a model is compared with.

    Args:
        path: A report.json of an earlier evaluation, the folder that it lies in, or a model file.
        ours: The model that is judged.
        options: How the other model is to be run.

    Raises:
        ConfigError: If there is nothing, or the models cannot be compared.
        DataError: If the earlier evaluation cannot be read.
        ModelError: If the model file cannot be used.
    """
    if not path.exists():
        raise ConfigError(f"--baseline {path}: there is no such file; name {REPORT}, its folder, or a model file")
    report = path / REPORT if path.is_dir() else path
    if report.suffix == ".json":
        recorded = read_answers(report)
        return Baseline(card_of(ours), recorded.card, recorded)
    pipeline = Pipeline.load(path, options)
    return Baseline(card_of(ours), card_of(pipeline.model), pipeline)


def sources_of(path: Path) -> tuple[Path, ...]:
    """Returns the files that `open_baseline` reads."""
    report = path / REPORT if path.is_dir() else path
    return (report, report.with_name(PREDICTIONS)) if report.suffix == ".json" else (path,)


def answer_of(prediction: Prediction) -> Answer:
    """Returns what a prediction answers, with the unknown rule and without."""
    task = task_of(prediction.task)
    if not task.has_classes:
        values = tuple(float(value) for value in prediction.values)
        return Answer(values, values)
    if not task.is_exclusive:
        return Answer(prediction.seen, prediction.seen)
    return Answer(UNKNOWN if prediction.unknown else prediction.name, prediction.name)
