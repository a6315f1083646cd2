"""Reads rosbag2's .db3 files without executing any SQL that a file contains, and without writing beside them.

An SQLite file may define views, virtual tables, generated columns and triggers, which are SQL of its author's. rosbag2
writes plain tables only, so nothing else is read. Its tables `topics` and `messages` have the same columns in every
version of its schema, as far as they are read here.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import apsw
import numpy as np
import numpy.typing as npt

from cnn_perception.bag.decompression import LARGEST_MESSAGE_BYTES, TemporaryFolder, free_bytes
from cnn_perception.bag.message_types import stored_type
from cnn_perception.bag.storage import MessageIndex
from cnn_perception.errors import BagError, one_line

_COLUMNS = MappingProxyType({"topics": ("id", "name", "type"), "messages": ("topic_id", "timestamp", "data")})
"""Table -> columns that are read; and `serialization_format` of topics, where it is there."""
_FORWARD = "SELECT rowid, topic_id, timestamp FROM messages NOT INDEXED ORDER BY rowid"
_BACKWARD = f"{_FORWARD} DESC"
_PAYLOAD = "SELECT data FROM messages WHERE rowid = ?"
_MOST_TOPICS = 10_000
_MOST_STEPS = 10_000_000
"""Of SQLite's machine before messages are read: a schema can be made that takes for ever to load."""
_WAL_HEAD_BYTES = 32
_WAL_FRAME_HEAD_BYTES = 24


class SqliteFile:
    """An open .db3 file, a `StorageFile`; a place is a row of `messages`."""

    def __init__(self, path: Path, shown: Path, folder: TemporaryFolder) -> None:
        """Reads which messages there are.

        Args:
            path: The file.
            shown: Where the user has it.
            folder: For a copy, where a recorder left a write-ahead log.

        Raises:
            BagError: If it is no bag, or SQL of it would have to be executed.
            OSError: If it cannot be read or copied.
        """
        self.path = shown
        self.storage = "sqlite3"
        self.damage: list[str] = []
        self.index = MessageIndex(place_size=1)
        self._trouble = ""
        log = _companion(path, "-wal")
        journal = _companion(path, "-journal")
        if journal is not None:  # to roll it back could delete any file that it names
            self.damage.append(f"{shown}: the recorder's last transaction was not ended; {journal.name} was not used")
        self._connection = _connect(path) if log is None else _connect_to_copy(path, log, folder.path())
        try:
            self._require_database()
            if log is not None:
                self._check_log(log)
            self._read_topics()
            self._read_messages()
        except BaseException:
            self.close()
            raise
        if self._trouble:
            self.damage.append(
                f"{shown}: is {'truncated' if _is_short(path) else 'damaged'}; {self.index.count} messages were read; "
                f"repair with `sqlite3 {shown.name} .recover` ({self._trouble})"
            )

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def message(self, place: npt.NDArray[np.int64]) -> bytes:
        """Returns a serialised message, see `StorageFile`."""
        try:
            found = self._connection.execute(_PAYLOAD, place.tolist()).fetchone()
        except (apsw.Error, ValueError, MemoryError) as error:  # a UnicodeDecodeError is a ValueError
            raise BagError(f"its row cannot be read: {one_line(error)}") from None
        data = found[0] if found else None
        if not isinstance(data, bytes):
            raise BagError("its row holds no bytes")
        return data

    def _require_database(self) -> None:
        """Makes sure that all that is read are plain tables, of a file that may be damaged.

        Raises:
            BagError: If they are not, or there are none.
        """
        steps = iter(range(_MOST_STEPS // 1000))
        self._connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
        try:
            self._require_plain_tables()
        except apsw.Error as error:
            self._trouble = one_line(error)
            # accepts a file that is shorter than its header says, and damaged definitions of other tables
            self._connection.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)
            try:
                self._require_plain_tables()
            except apsw.Error:
                raise BagError(f"{self.path}: does not begin like an SQLite file ({self._trouble})") from None
        finally:
            self._connection.set_progress_handler(None)

    def _require_plain_tables(self) -> None:
        for table, columns in _COLUMNS.items():
            try:
                rows = self._connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
                is_computed = {str(name).lower(): bool(hidden) for _, name, *_, hidden in rows}
                if not set(columns) <= set(is_computed):
                    raise BagError(f"{self.path}: has no table {table} with the columns {', '.join(columns)}")
                self._connection.execute(f"SELECT rowid, {', '.join(columns)} FROM {table} LIMIT 0")
            except (apsw.SQLError, apsw.AuthError) as error:
                raise self._not_plain(table, one_line(error)) from None
            if any(is_computed.values()) or "rowid" in is_computed:
                raise self._not_plain(table, "it has computed columns")

    def _not_plain(self, table: str, reason: str) -> BagError:
        return BagError(
            f"{self.path}: {table} is no plain table, as rosbag2 writes it ({reason}), and SQL of a bag is not executed"
        )

    def _read_topics(self) -> None:
        """Takes in the topics; text is read as bytes, because a file may hold any."""
        columns = [str(row[1]).lower() for row in self._connection.execute("PRAGMA table_xinfo(topics)")]
        encoding = "CAST(serialization_format AS BLOB)" if "serialization_format" in columns else "NULL"
        query = f"SELECT id, CAST(name AS BLOB), CAST(type AS BLOB), {encoding} FROM topics LIMIT {_MOST_TOPICS}"
        try:
            ((text_encoding,),) = self._connection.execute("PRAGMA encoding")
            for number, *texts in self._connection.execute(query):
                decoded = (bytes(text or b"").decode(str(text_encoding), "backslashreplace") for text in texts)
                name, kind, encoding = decoded
                if not isinstance(number, int) or not self.index.describe(number, name, stored_type(kind, encoding)):
                    self.damage.append(f"{self.path}: topic {number!r} is described twice or without a number")
        except apsw.Error as error:
            self._trouble = one_line(error)

    def _read_messages(self) -> None:
        """Takes in the rows from the first on, and where they are damaged, those from the last back to the damage."""
        last, trouble = self._take_rows(self._rows(_FORWARD), None)
        if trouble:
            self._trouble = trouble
            later: list[tuple[int, object, object]] = []
            with contextlib.suppress(apsw.Error):
                for row in self._rows(_BACKWARD):
                    if (last is not None and row[0] <= last) or (later and row[0] >= later[-1][0]):
                        break
                    later.append(row)
            self._take_rows(reversed(later), last)
        self._compare_with_index()

    def _rows(self, query: str) -> Iterator[tuple[int, object, object]]:
        yield from self._connection.execute(query)

    def _take_rows(self, rows: Iterator[tuple[int, object, object]], last: int | None) -> tuple[int | None, str]:
        """Adds rows to the index; returns the number of the last one, and what ended them early."""
        wrong = 0
        try:
            for row, topic, time_ns in rows:
                if last is not None and row <= last:  # a damaged tree can lead round and round
                    return last, "rows are out of order"
                last = row
                if isinstance(topic, int) and isinstance(time_ns, int):
                    self.index.add(topic, time_ns, row)
                else:
                    wrong += 1
        except (apsw.Error, BagError) as error:
            return last, one_line(error)
        finally:
            if wrong:
                self.damage.append(f"{self.path}: {wrong} messages have no topic or no time; they were not read")
        return last, ""

    def _compare_with_index(self) -> None:
        """Notes rows that the index of times promises and the table lacks."""
        count = self.index.count + self.index.orphans
        query = "SELECT 1 FROM messages INDEXED BY timestamp_idx LIMIT ?"
        with contextlib.suppress(apsw.Error):  # without such an index nothing is promised
            if sum(1 for _ in self._connection.execute(query, (count + 1,))) > count:
                self._trouble = self._trouble or f"its index lists more than the {count} rows found"

    def _check_log(self, log: Path) -> None:
        """Notes that a part of the write-ahead log was not used."""
        _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
        used = max(pages, 0) if isinstance(pages, int) else 0  # -1 if there is no log for SQLite
        there = _frames(log)
        if not there:
            self.damage.append(
                f"{self.path}: {log.name} is no write-ahead log of it, or a damaged one; it was not used"
            )
        elif used < there:
            self.damage.append(f"{self.path}: {there - used} of {there} pages of {log.name} were not used")


def _companion(path: Path, ending: str) -> Path | None:
    """Returns a file that SQLite left beside a database; None if there is none, or nothing in it."""
    other = path.with_name(path.name + ending)
    return other if other.is_file() and other.stat().st_size else None


def _connect(path: Path) -> apsw.Connection:
    """Opens a database so that nothing is written and nothing but the columns of rosbag2's tables can be read."""
    location = f"file://{quote(bytes(path.absolute()))}?immutable=1"
    return _guarded(apsw.Connection(location, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI))


def _connect_to_copy(path: Path, log: Path, folder: Path) -> apsw.Connection:
    """Opens a copy of a database with its write-ahead log, because SQLite writes beside a file that has one.

    Raises:
        BagError: If there is too little space.
    """
    size = path.stat().st_size + log.stat().st_size
    if 2 * size > free_bytes(folder):
        raise BagError(f"{path}: too little space in {folder} for a copy with {log.name}; set TMPDIR")
    copy = folder / f"copy_{path.name}"
    shutil.copyfile(path, copy)
    shutil.copyfile(log, copy.with_name(f"{copy.name}-wal"))
    return _guarded(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE))


def _guarded(connection: apsw.Connection) -> apsw.Connection:
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, LARGEST_MESSAGE_BYTES)
    connection.drop_modules(None)  # those of virtual tables
    connection.authorizer = _authorize
    return connection


def _authorize(action: int, first: str | None, _second: str | None, _database: str | None, inside: str | None) -> int:
    """Denies all but reading rosbag2's tables; `inside` names the view or trigger whose SQL asks."""
    reads_table = action == apsw.SQLITE_READ and first in _COLUMNS
    is_pragma = action == apsw.SQLITE_PRAGMA and first in {"table_xinfo", "wal_checkpoint", "encoding"}
    is_allowed = action == apsw.SQLITE_SELECT or reads_table or is_pragma
    return apsw.SQLITE_OK if is_allowed and inside is None else apsw.SQLITE_DENY


def _is_short(path: Path) -> bool:
    """Returns whether a file has fewer bytes than the pages that its header counts."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100:
        return True
    page_size = int.from_bytes(head[16:18], "big")
    count = int.from_bytes(head[28:32], "big")
    return path.stat().st_size < count * (65536 if page_size == 1 else page_size)


def _frames(log: Path) -> int:
    """Returns how many pages a write-ahead log holds since it was last begun anew."""
    with log.open("rb") as file:
        head = file.read(_WAL_HEAD_BYTES)
        if len(head) < _WAL_HEAD_BYTES:
            return 0
        (page_size,) = struct.unpack_from(">I", head, 8)
        count = 0
        while len(frame := file.read(_WAL_FRAME_HEAD_BYTES)) == _WAL_FRAME_HEAD_BYTES and frame[8:16] == head[16:24]:
            count += 1
            file.seek(page_size, 1)
    return count
