"""The images of a folder, and those that a perception node's recorder left in one with a table."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError, one_line
from cnn_perception.image.limits import read_picture
from cnn_perception.image.listing import image_files, in_words
from cnn_perception.image.messages import EncodedFile
from cnn_perception.label_table import ListedFiles, Row, read_table
from cnn_perception.label_text import NONE_OF_THESE, SEPARATOR
from cnn_perception.model.spec import UNKNOWN
from training.collect.sources.frame import Answer, OpenSource, Origin, SourceFrame, safe_name
from training.data_set import columns


@dataclass(frozen=True)
class FolderFrames:
    """A folder of images, whatever folders are in it; see `Source`."""

    path: Path
    bag: str

    @contextmanager
    def opened(self, only: Collection[int] | None = None) -> Iterator[OpenSource]:
        """Lists the images, in the order of their paths.

        Raises:
            DataError: If there is no such folder, or no image in it.
        """
        if not self.path.is_dir():
            raise DataError(f"{self.path}: there is no such folder; name one with images")
        ignored = Counter[str]()
        with ProgressBar(desc=f"listing {self.path.name}", unit=" files", delay=1, leave=False) as bar:
            files = image_files(self.path, ignored, listed=bar.update)
        if not files:
            there = f" (there are {words})" if (words := in_words(ignored)) else ""
            raise DataError(f"{self.path}: there is no image in it{there}; name a folder with JPEG or PNG files")
        yield OpenSource(len(files), self._frames(files, only))

    def named(self, bag: str) -> FolderFrames:
        """Returns the same under another name in the data set."""
        return dataclasses.replace(self, bag=bag)

    def _frames(self, files: Sequence[Path], only: Collection[int] | None) -> Iterator[SourceFrame]:
        for index, file in enumerate(files):
            if only is None or index in only:
                parts = map(safe_name, (self.bag, *file.relative_to(self.path).with_suffix("").parts))
                origin = Origin(index, self.bag, "", "", None, None, str(PurePosixPath(*parts)))
                yield SourceFrame(origin, _content(file))


@dataclass(frozen=True)
class RecordedFrames:
    """The images and the table of one model's unsure frames, see `background.folder_store`; see `Source`.

    Attributes:
        path: The table.
        bag: Its name in the data set.
    """

    path: Path
    bag: str

    @contextmanager
    def opened(self, only: Collection[int] | None = None) -> Iterator[OpenSource]:
        """Reads the table.

        Raises:
            DataError: If it cannot be read, lists nothing, or lacks a column; names the line.
        """
        table = read_table(self.path, "name the recorder's folder").naming(columns.PATH)
        if missing := [name for name in (columns.PATH, columns.STAMP) if name not in table.header]:
            raise DataError(f"{self.path}, line 1: has no column {missing[0]!r}; leave the recorder's columns in it")
        if not table.rows:
            raise DataError(f"{self.path}: lists no image; name the folder that a recorder wrote to")
        rows = [row.cells for row in table.rows]
        yield OpenSource(len(rows), self._frames(table.rows, only), rows=rows)

    def named(self, bag: str) -> RecordedFrames:
        """Returns the same under another name in the data set."""
        return dataclasses.replace(self, bag=bag)

    def _frames(self, rows: Sequence[Row], only: Collection[int] | None) -> Iterator[SourceFrame]:
        files = ListedFiles((self.path.parent,))
        for index, row in enumerate(rows):
            if only is None or index in only:
                camera = row.cells.get(columns.CAMERA, "")
                stamp_ns = _stamp_ns(row)
                stem = f"{safe_name(self.bag)}/{safe_name(camera or 'camera')}/{stamp_ns}"
                topic = row.cells.get(columns.TOPIC, "")
                origin = Origin(index, self.bag, topic, camera, stamp_ns, stamp_ns, stem)
                file = files.find(row) or self.path.parent / row.cells[columns.PATH]
                yield SourceFrame(origin, _content(file), _answer(row))


def _content(path: Path) -> EncodedFile | FrameError:
    try:
        return EncodedFile.from_folder(read_picture(path))
    except FrameError as error:
        return FrameError(error.reason, f"{path}: {error}")
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        return FrameError("unreadable", f"{path}: cannot be read ({one_line(error)})")


def _stamp_ns(row: Row) -> int:
    try:
        return int(row.cells[columns.STAMP])
    except ValueError:
        raise row.wrong(
            columns.STAMP, f"{row.cells[columns.STAMP]!r} is no whole number of nanoseconds; mend it"
        ) from None


def _answer(row: Row) -> Answer | None:
    """Returns what the recorder's model has said; None if a person has removed these columns."""
    answer = row.cells.get("answer", "")
    margin = _number(row.cells.get("margin", ""))
    if margin is None or not answer:
        return None
    model = row.cells.get(columns.MODEL, "")
    if answer == UNKNOWN:
        return Answer(NONE_OF_THESE, 1.0, "unknown", model)
    return Answer(NONE_OF_THESE if answer == SEPARATOR else answer, min(max(1.0 - margin, 0.0), 1.0), "margin", model)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
