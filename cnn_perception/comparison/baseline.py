"""What a model is compared with: the answers of an earlier evaluation, or another model that sees the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnn_perception.comparison.answered_frames import AnsweredFrames
from cnn_perception.comparison.compared_frame import Answer, ComparedFrame
from cnn_perception.comparison.model_card import ModelCard, card_of, common_names
from cnn_perception.comparison.recognised_frame import RecognisedFrame
from cnn_perception.comparison.recorded_answers import (
    PREDICTIONS,
    FrameKeys,
    RecordedAnswer,
    RecordedAnswers,
    cells_of_numbers,
    read_answers,
)
from cnn_perception.errors import ConfigError, DataError, FrameError
from cnn_perception.image.messages import AS_SENT, Overrides, RgbImage
from cnn_perception.label_text import NONE_OF_THESE, Truth, text_of
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

REPORT = "report.json"


@dataclass
class Observer:
    """Sees the pictures of one recording while they are recognised; called by several threads at once.

    Attributes:
        pipeline: The baseline's model; None where its answers are known from an earlier evaluation.
        answers: By the index of the frame, what it answered.
    """

    pipeline: Pipeline | None
    answers: dict[int, Answer] = field(default_factory=dict)

    def observe(self, index: int, image: RgbImage) -> None:
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
        common: The classes or numbers that both have.
    """

    def __init__(self, ours: ModelCard, theirs: ModelCard, source: Pipeline | RecordedAnswers) -> None:
        """Prepares a comparison.

        Raises:
            ConfigError: If the models have no common task, or nothing in common that they answer.
        """
        self.ours = ours
        self.theirs = theirs
        self.common = common_names(ours, theirs)
        self._source = source

    def observer(self) -> Observer:
        """Returns what sees the pictures of one recording."""
        return Observer(self._source if isinstance(self._source, Pipeline) else None)

    def answered(self, records: Sequence[RecognisedFrame], observer: Observer, bag: str, topic: str) -> AnsweredFrames:
        """Returns the frames of a recording, or of a folder, with the answers of both models.

        Args:
            records: All its frames.
            observer: What has seen them.
            bag: Its path.
            topic: The image topic; empty for a folder.

        Raises:
            DataError: If the earlier evaluation was of another recording, another topic, other labels or other
                pictures.
        """
        left_out = []
        if isinstance(self._source, RecordedAnswers):
            answers = self._found(self._source, records, bag, topic)
            left_out += _unmatched(len(records) - len(answers), len(self._source.rows) - len(answers))
        else:
            answers = {record.index: observer.answers.get(record.index, Answer(None, None)) for record in records}
        labelled = [one for one in records if one.truth is not None and one.index in answers]
        known = [one for one in labelled if self._is_known(one.truth)]
        if len(known) < len(labelled):
            left_out.append(f"{len(labelled) - len(known)} frames of classes that only one of the models has")
        frames = tuple(self._compared(one, answers[one.index], bag, topic) for one in known)
        return AnsweredFrames(self.ours, self.theirs, self.common, bag, frames, tuple(left_out))

    def _found(
        self, recorded: RecordedAnswers, records: Sequence[RecognisedFrame], bag: str, topic: str
    ) -> dict[int, Answer]:
        """Returns the recorded answers by the index of the frame."""
        if recorded.topic != topic:
            raise DataError(
                f"--baseline {recorded.path} is of {recorded.topic or 'a folder'}, this is {topic or 'a folder'}; "
                "evaluate the baseline on the same"
            )
        keys = FrameKeys()
        answers = {}
        for record in records:
            row = recorded.rows.get(keys.key(record.name, record.stamp_ns, record.received_ns))
            if row is not None:
                self._require_same(recorded, row, record, bag)
                answers[record.index] = row.answer
        if not answers:
            raise DataError(
                f"--baseline {recorded.path} is of another recording, {recorded.source}: none of its "
                f"{len(recorded.rows)} frames is here; evaluate the baseline on this one, or name its model file"
            )
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
                f"--baseline {recorded.path} was scored with other labels ({recorded.labels or 'none'}): "
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

    def _is_known(self, truth: Truth | None) -> bool:
        """Whether both models could answer rightly, of one class an image."""
        return not isinstance(truth, str) or truth in (*self.common, NONE_OF_THESE)

    def _compared(self, record: RecognisedFrame, theirs: Answer, bag: str, topic: str) -> ComparedFrame:
        """Returns a frame as both models know it."""
        truth = _restricted(record.truth, self.ours.names, self.common)
        assert truth is not None  # unlabelled frames are not compared
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


def _unmatched(ours: int, theirs: int) -> list[str]:
    """Returns how many frames only one evaluation has, a line for each."""
    found = [(ours, "that the baseline has not seen"), (theirs, "that only the baseline has")]
    return [f"{count} frames {what}" for count, what in found if count]


def _shown(cells: tuple[str, ...]) -> str:
    return ", ".join(filter(None, cells)) or "unlabelled"


def _restricted(truth: Truth | None, names: Sequence[str], common: Sequence[str]) -> Truth | None:
    """Returns what a truth or an answer, in which names stand in this order, says of the common ones."""
    if isinstance(truth, frozenset):
        return truth & set(common)
    if isinstance(truth, tuple):
        return tuple(truth[names.index(name)] for name in common)
    return truth


def open_baseline(path: Path, ours: OnnxModel, options: SessionOptions, overrides: Overrides = AS_SENT) -> Baseline:
    """Opens what a model is compared with.

    Args:
        path: A report.json of an earlier evaluation, the folder that it lies in, or a model file.
        ours: The model that is judged.
        options: How the other model is to be run.
        overrides: What is known better of the images than they say themselves.

    Raises:
        ConfigError: If there is nothing, or the models cannot be compared.
        DataError: If the earlier evaluation cannot be read, or knew something else of the images.
        ModelError: If the model file cannot be used.
    """
    if not path.exists():
        raise ConfigError(f"--baseline {path}: there is no such file; name {REPORT}, its folder, or a model file")
    report = path / REPORT if path.is_dir() else path
    if report.suffix == ".json":
        recorded = read_answers(report)
        _require_same_overrides(recorded, overrides)
        return Baseline(card_of(ours), recorded.card, recorded)
    pipeline = Pipeline.load(path, options)
    return Baseline(card_of(ours), card_of(pipeline.model), pipeline)


def _require_same_overrides(recorded: RecordedAnswers, overrides: Overrides) -> None:
    """Refuses an earlier evaluation that made other pixels of the same bytes: a difference would not be the model's."""
    then = Overrides(recorded.encoding, recorded.significant_bits)
    if then != overrides:
        raise DataError(
            f"--baseline {recorded.path} was evaluated with {_flags(then)}, this is with {_flags(overrides)}: not "
            "the same pictures; evaluate both alike, or name the baseline's model file"
        )


def _flags(overrides: Overrides) -> str:
    given = [f"--encoding {overrides.encoding}"] if overrides.encoding else []
    given += [f"--significant-bits {overrides.significant_bits}"] if overrides.significant_bits else []
    return " ".join(given) or "neither --encoding nor --significant-bits"


def baseline_of_bag(path: Path, name: str) -> Path:
    """Returns with what one of several bags is compared: the report in the folder of its name, if there is one.

    Args:
        path: As for `open_baseline`, or the folder in which several bags were evaluated, or the report in it.
        name: Of the bag's own folder there.
    """
    folder = path if path.is_dir() else path.parent
    own = folder / name / REPORT
    return own if own.is_file() and (path.is_dir() or path.name == REPORT) else path


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
