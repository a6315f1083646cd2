"""Reads and copies rosbag2's .db3 files without executing any SQL that a file contains.

An SQLite file may define views, virtual tables, generated columns and triggers, which are SQL of its author's. rosbag2
writes plain tables only, so nothing else is read, and a copy is made by statements that are written here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from cnn_perception.bag.decompression import check_files
from cnn_perception.bag.mcap_chunks import RecordReader
from cnn_perception.errors import BagError, with_kind

_NEW_DATABASE = """
CREATE TABLE schema (schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata (id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL,
    offered_qos_profiles TEXT NOT NULL DEFAULT '', type_description_hash TEXT NOT NULL DEFAULT '');
CREATE TABLE message_definitions (
    id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
    encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
INSERT INTO schema VALUES (4, '');
"""
"""The tables of version 4 of rosbag2_storage_sqlite3's schema. Version 1 has `topics`, without its last two columns,
and `messages`; version 2 adds `offered_qos_profiles`, version 3 `schema` and `metadata`."""
_TABLES = MappingProxyType(
    {
        "schema": ("schema_version",),
        "metadata": ("id", "metadata_version", "metadata"),
        "topics": ("id", "name", "type", "serialization_format", "offered_qos_profiles", "type_description_hash"),
        "message_definitions": ("id", "topic_type", "encoding", "encoded_message_definition", "type_description_hash"),
        "messages": ("id", "topic_id", "timestamp", "data"),
    }
)
"""Table -> columns that are read."""


class _DatabaseReader(Sqlite3Reader):
    """rosbags' reader, for files that consist of plain tables."""

    def __init__(self, path: Path) -> None:
        super().__init__(Path(quote(bytes(path))))  # rosbags puts it into a URI as it is
        self._file = path

    def open(self) -> None:
        with contextlib.closing(_connect(self._file)) as connection:
            _plain_tables(connection, self._file)
        super().open()

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yields the messages of connections in the order of reception, without the index, which may lack some."""
        if start is not None or stop is not None:
            raise NotImplementedError
        assert self.dbconn is not None
        known = {connection.id: connection for connection in connections}
        rows = f"topic_id IN ({', '.join('?' * len(known))}) ORDER BY timestamp"
        found = self.dbconn.execute(
            f"SELECT topic_id, timestamp, rowid FROM messages NOT INDEXED WHERE {rows}", tuple(known)
        )
        timeless = 0
        for topic, time_ns, row in found:
            cells = self.dbconn.execute("SELECT data FROM messages NOT INDEXED WHERE rowid = ?", (row,)).fetchone()
            if cells is None or not isinstance(time_ns, int):
                timeless += 1
            else:
                yield known[topic], time_ns, cells[0] if isinstance(cells[0], bytes) else b""
        if timeless:
            raise ReaderError(f"{timeless} messages have no time of reception, or cannot be found.")


class _FolderReader(DirectoryReader):
    """rosbags' reader of folders, which unpacks nothing without a limit."""

    STORAGE_PLUGINS = MappingProxyType(
        {**DirectoryReader.STORAGE_PLUGINS, "sqlite3": _DatabaseReader, "mcap": RecordReader}
    )

    def open(self) -> None:
        files = sorted(file for file in Path(str(self.path)).iterdir() if file.is_file())
        check_files(files)
        super().open()
        self.files = []  # of any kind, and used for nothing; rosbags would empty it as a list
        listed = {storage.path.name for storage in self.storages}  # type: ignore[attr-defined]
        if others := [file.name for file in files if {".db3", ".mcap"} & set(file.suffixes)]:
            others = [name for name in others if name.removesuffix(".zstd") not in listed]
        if others:
            raise ReaderError(f"metadata.yaml does not list {', '.join(others)}.")
        if self.metadata.compression_mode == "message":
            self.metadata = self.metadata._replace(compression_mode=None)  # `Bag` unpacks them, one by one

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yields the messages of connections, file by file, whatever their quality of service was."""
        wanted = {(connection.topic, connection.msgtype): connection for connection in connections}
        for storage in self.storages:
            stored = [one for one in storage.connections if (one.topic, one.msgtype) in wanted]
            if stored:
                for one, time_ns, payload in storage.messages(stored, start, stop):
                    yield wanted[one.topic, one.msgtype], time_ns, payload


class BagReader(Reader):
    """rosbags' reader of every kind of bag, which executes no SQL of theirs.

    It raises a ReaderError on whatever is damaged, and a BagError for a .db3 file whose tables are not plain ones.
    """

    STORAGE_PLUGINS = MappingProxyType(
        {**Reader.STORAGE_PLUGINS, "dir": _FolderReader, ".db3": _DatabaseReader, ".mcap": RecordReader}
    )

    def open(self) -> None:
        """Opens the bag and checks the kinds of what it says of itself."""
        with as_reader_errors():
            super().open()
            numbers = (self.start_time, self.message_count, *(one.msgcount for one in self.connections))
            names = [text for one in self.connections for text in (one.topic, one.msgtype)]
            if not all(type(number) is int for number in numbers) or not all(isinstance(name, str) for name in names):
                raise ReaderError("Topics, counts or times are of another kind than those of a bag.")

    def messages(
        self, connections: Collection[Connection] = (), start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """Yields the messages of connections in the order of reception."""
        with as_reader_errors():
            yield from super().messages(connections, start, stop)

    def stored_count(self, topic: str, kind: str) -> int:
        """Returns how many messages of a topic the files say that they hold, whatever metadata.yaml says."""
        storages = getattr(self.storage, "storages", [self.storage])
        stored = [one for storage in storages for one in storage.connections]
        return sum(one.msgcount for one in stored if (one.topic, one.msgtype) == (topic, kind))


@contextlib.contextmanager
def as_reader_errors() -> Iterator[None]:
    """Makes a ReaderError of whatever a library raises on a damaged file.

    What that can be is told nowhere: rosbags lets KeyError, TypeError, OverflowError, MemoryError and others through.
    """
    try:
        yield
    except (BagError, ReaderError):
        raise
    except Exception as error:
        raise ReaderError(with_kind(error)) from error


def copy_rows(path: Path, target: Path) -> None:
    """Copies the rows of rosbag2's tables before the damage into a new database; other tables are ignored.

    Args:
        path: A .db3 file that is broken off or damaged, of any version of the schema.
        target: The new .db3 file, of version 4 of the schema.

    Raises:
        BagError: If not even the list of tables can be read, or one of rosbag2's is not a plain one.
    """
    source = _connect(path)
    sink = apsw.Connection(str(target))
    with contextlib.closing(source), contextlib.closing(sink), sink:
        source.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)  # accepts a file that is shorter than its header says
        sink.execute(_NEW_DATABASE)
        try:
            tables = _plain_tables(source, path)
        except apsw.Error as error:
            raise BagError(f"{path}: does not begin like an SQLite file ({error}); record it again") from None
        for table, columns in tables.items():
            if table != "schema":  # the copy has its own
                _copy_table(source, sink, table, columns)


def _connect(path: Path) -> apsw.Connection:
    """Opens a database so that nothing but the columns of rosbag2's tables can be read."""
    connection = apsw.Connection(
        f"file:{quote(bytes(path))}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0)
    connection.drop_modules(None)  # those of virtual tables
    connection.authorizer = _authorize
    return connection


def _authorize(action: int, first: str | None, _second: str | None, _database: str | None, inside: str | None) -> int:
    """Denies all but reading rosbag2's tables; `inside` names the view or trigger whose SQL asks."""
    reads_table = action == apsw.SQLITE_READ and first in _TABLES
    reads_columns = action == apsw.SQLITE_PRAGMA and first == "table_xinfo"
    is_allowed = action == apsw.SQLITE_SELECT or reads_table or reads_columns
    return apsw.SQLITE_OK if is_allowed and inside is None else apsw.SQLITE_DENY


def _plain_tables(connection: apsw.Connection, path: Path) -> Mapping[str, tuple[str, ...]]:
    """Returns those of rosbag2's tables that a database has, each with those of their columns that it has.

    All names are those of `_TABLES`: nothing that a file contains becomes part of a statement.

    Raises:
        BagError: If SQL of the file would have to be executed to read one of them.
        apsw.Error: If the file is damaged.
    """
    tables = {}
    for table, known in _TABLES.items():
        try:
            rows = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
            is_computed = {str(name): bool(hidden) for _, name, *_, hidden in rows}
            columns = tuple(column for column in known if column in is_computed)
            if columns:
                connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0")
        except (apsw.SQLError, apsw.AuthError) as error:
            raise _not_plain(path, table, str(error)) from None
        if any(is_computed.values()):
            raise _not_plain(path, table, "it has computed columns")
        if columns:
            tables[table] = columns
    return tables


def _not_plain(path: Path, table: str, reason: str) -> BagError:
    return BagError(
        f"{path}: {table} is no plain table, as rosbag2 writes it ({reason}), and SQL of a bag is not executed; "
        "record it again"
    )


def _copy_table(source: apsw.Connection, sink: apsw.Connection, table: str, columns: tuple[str, ...]) -> None:
    names = ", ".join(columns)
    places = ", ".join("?" * len(columns))
    with contextlib.suppress(apsw.Error, UnicodeDecodeError):  # the rows before the damage are what is wanted
        for row in source.execute(f"SELECT {names} FROM {table}"):
            sink.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)
