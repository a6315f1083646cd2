"""The bag of an evaluation's results: a rosbag2 (mcap) that Foxglove and `ros2 bag play` open like any recording.

It is written as a stream, in a thread of its own, which no Ctrl-C tears: however an evaluation ends, the bag is whole
and has its index.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from cnn_perception import topic_names
from cnn_perception.bag.message_types import DIAGNOSTICS_TYPE
from cnn_perception.bag.metadata import FILE_NAME
from cnn_perception.bag.writer import BagWriter
from cnn_perception.errors import ConfigError, DataError
from cnn_perception.model.spec import ModelSpec
from cnn_perception.results_bag.diagnosis import Diagnosis
from cnn_perception.results_bag.evaluated_frame import EvaluatedFrame
from cnn_perception.results_bag.frame_messages import FrameMessages, ResultsOptions, TopicMessage

FOLDER = "results"
"""Name of the bag in the folder of an evaluation."""
_MARK = "evaluate_bag"
"""By which a bag of results is known: the recording it is about, in its metadata."""


class ResultsBag:
    """A bag of results that is being written."""

    def __init__(self, path: Path, spec: ModelSpec, options: ResultsOptions) -> None:
        """Makes the bag in place of an earlier one.

        Args:
            path: Of its folder.
            spec: Of the model whose answers these are.
            options: What it holds.

        Raises:
            ConfigError: If there is something else in its place.
            DataError: If it cannot be written.
        """
        self.path = path
        self._made = FrameMessages(spec, options)
        self._diagnosis = Diagnosis()
        self._is_broken = False
        require_replaceable(path)
        try:
            remove(path)
            self._writer = BagWriter(path, self._made.messages.types, {_MARK: str(options.source)})
        except OSError as error:
            raise self._refusal(error) from None
        self._pen = ThreadPoolExecutor(1, "results bag")

    def __enter__(self) -> ResultsBag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        closing = self._pen.submit(self._writer.abandon if self._is_broken else self._writer.close)
        self._pen.shutdown(wait=True)
        try:
            closing.result()
        except OSError as failure:
            raise self._refusal(failure) from None

    def made(self, frame: EvaluatedFrame) -> tuple[EvaluatedFrame, list[TopicMessage]]:
        """Returns a frame with its messages, for `write`; may be called by several threads."""
        return frame, self._made.of(frame)

    def write(self, frame: EvaluatedFrame, messages: list[TopicMessage]) -> None:
        """Appends the next frame and how the evaluation fares.

        Raises:
            DataError: If it cannot be written, such as on a full disk; what was written before can be read.
        """
        header = self._made.messages.header(frame.image.stamp_ns, "")
        diagnosis = self._made.messages.diagnostics(header, self._diagnosis.of(frame))
        payload = self._made.messages.serialized(diagnosis)
        whole = [*messages, TopicMessage(topic_names.DIAGNOSTICS, DIAGNOSTICS_TYPE, payload)]
        try:
            self._pen.submit(self._append, frame.image.log_time_ns, whole).result()
        except OSError as error:
            self._is_broken = True
            raise self._refusal(error) from None

    def _append(self, log_time_ns: int, messages: list[TopicMessage]) -> None:
        for message in messages:
            self._writer.write(message.topic, message.type, log_time_ns, message.payload)
        self._writer.flush()

    def _refusal(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot be written ({error.strerror or error}); free or choose another --output")


def require_replaceable(path: Path) -> None:
    """Refuses to overwrite what is no bag of results.

    Raises:
        ConfigError: If there is something else than such a bag, or files beside its own.
    """
    if os.path.lexists(path) and not _is_own(path):
        raise ConfigError(f"{path}: is there already, and is no bag of results; choose another --output")


def remove(path: Path) -> None:
    """Removes a bag of results; anything else is left alone."""
    if _is_own(path):
        for name in _own_names(path):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


def _is_own(path: Path) -> bool:
    """Whether a folder holds a bag of results and nothing else; one whose writer was killed has no metadata."""
    if path.is_symlink() or not path.is_dir() or {one.name for one in path.iterdir()} - _own_names(path):
        return False
    metadata = path / FILE_NAME
    return not metadata.exists() or f"{_MARK}:" in metadata.read_text(errors="replace")


def _own_names(path: Path) -> set[str]:
    unfinished = (one.name for one in path.glob(f".{FILE_NAME}.*.tmp"))  # of a writer that was killed, see `files`
    return {f"{path.name}.mcap", FILE_NAME, *unfinished}
