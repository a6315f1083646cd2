"""Damage to SQLite files that knows their cells and their pages. Source: SQLite's file format documentation."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from random import Random

from fuzz.documents import mutated_yaml, odd_value
from fuzz.mutation import edge, mutated, put_edge, rounds

_TABLES = {
    "topics": ("id", "name", "type", "serialization_format", "offered_qos_profiles", "type_description_hash"),
    "messages": ("id", "topic_id", "timestamp", "data"),
    "message_definitions": ("topic_type", "encoding", "encoded_message_definition"),
    "schema": ("schema_version", "ros_distro"),
    "metadata": ("metadata_version", "metadata"),
}
_STATEMENTS = (
    "DROP INDEX timestamp_idx",
    "DROP TABLE {table}",
    "ALTER TABLE {table} RENAME COLUMN {column} TO other",
    "ALTER TABLE {table} RENAME TO other",
    "ALTER TABLE {table} ADD COLUMN later TEXT DEFAULT 'x'",
    "CREATE TABLE copied AS SELECT * FROM {table}",
    "CREATE VIEW seen AS SELECT * FROM {table}",
    "DELETE FROM {table}",
    "INSERT INTO topics SELECT id + 100, name, type, serialization_format, offered_qos_profiles, '' FROM topics",
    "INSERT INTO messages SELECT id + 100, topic_id, timestamp, data FROM messages LIMIT 1",
    "UPDATE messages SET timestamp = timestamp - 5000000000 WHERE id % 2",
    "UPDATE messages SET data = data || x'00' WHERE id % 3 = 0",
    "UPDATE messages SET data = NULL WHERE id % 3 = 0",
    "VACUUM",
)
"""Of which some fail, as is fine."""
_HEADER_NUMBERS = (
    (16, ">H"),
    (18, ">B"),
    (20, ">B"),
    (24, ">I"),
    (28, ">I"),
    (32, ">I"),
    (36, ">I"),
    (44, ">I"),
    (56, ">I"),
)


def mutated_sqlite(random: Random, content: bytes, folder: Path) -> bytes:
    """Returns a database with damaged cells, statements run on it, or damaged pages; `folder` is used meanwhile."""
    chance = random.random()
    if chance < 0.15:
        return mutated(random, content)
    if chance < 0.55:
        return _with_damaged_pages(random, content)
    return _with_damaged_cells(random, content, folder)


def _with_damaged_cells(random: Random, content: bytes, folder: Path) -> bytes:
    path = folder / "mutated.db3"
    path.write_bytes(content)
    with contextlib.suppress(sqlite3.Error, UnicodeError), contextlib.closing(sqlite3.connect(path)) as database:
        database.text_factory = bytes
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        for _ in range(rounds(random)):
            with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError):
                _change(random, database)
        database.commit()
    return path.read_bytes()


def _change(random: Random, database: sqlite3.Connection) -> None:
    table = random.choice(list(_TABLES))
    column = random.choice(_TABLES[table])
    if random.random() < 0.3:
        database.execute(random.choice(_STATEMENTS).format(table=table, column=column))
        return
    if random.random() < 0.1:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (_cell(random, b""), table))
        return
    found = database.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    if found:
        row, value = random.choice(found)
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (_cell(random, value), row))


def _cell(random: Random, value: object) -> object:
    if isinstance(value, bytes) and random.random() < 0.6:
        changed = mutated_yaml(random, value) if b": " in value and random.random() < 0.5 else mutated(random, value)
        return random.choice((changed, changed.decode(errors="replace")))
    if isinstance(value, int) and random.random() < 0.5:
        return value + random.choice((-1, 1, 10**9, -(10**9)))
    odd = odd_value(random)
    if isinstance(odd, int) and abs(odd) >= 2**63:
        return float(edge(random, 63))
    return odd if isinstance(odd, (int, float, str, type(None))) else b"\xff\x00"


def _with_damaged_pages(random: Random, content: bytes) -> bytes:
    data = bytearray(content)
    size = max(512, int.from_bytes(content[16:18], "big"))
    count = len(data) // size
    for _ in range(rounds(random) if count else 0):
        page = random.randrange(count)
        kind = random.randrange(7)
        start = page * size + (100 if page == 0 else 0)  # where its header begins
        if kind == 0:
            put_edge(random, data, *random.choice(_HEADER_NUMBERS))
        elif kind == 1:
            put_edge(random, data, start + random.choice((1, 3, 5)), ">H")
        elif kind == 2:
            data[start : start + 1] = bytes((random.choice((0, 2, 5, 10, 13)),))
        elif kind == 3:
            put_edge(random, data, start + 8 + 2 * random.randrange(8), ">H")
        elif kind == 4:
            _fewer_cells(random, data, start)
        elif kind == 5:
            other = random.randrange(count) * size
            data[page * size : page * size + size] = data[other : other + size]
        else:
            at = page * size + random.randrange(size)
            data[at : at + 16] = mutated(random, bytes(data[at : at + 16])).ljust(16, b"\0")[:16]
    return bytes(data[: random.randrange(len(data) + 1)] if random.random() < 0.1 else data)


def _fewer_cells(random: Random, data: bytearray, start: int) -> None:
    """Lowers the number of a page's cells, as if the last were not there."""
    cells = int.from_bytes(data[start + 3 : start + 5], "big")
    data[start + 3 : start + 5] = random.randint(0, max(cells, 1) % 65536).to_bytes(2, "big")
