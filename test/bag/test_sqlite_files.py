"""Of a database with what a killed recorder or a bad disk left, every image there is read, or something is said.

Owned here: write-ahead logs, journals, broken pages and trees, rows of odd kinds. The oracle is what was written.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bag
from tiny_bag import SECOND, SQLITE, START_NS, TIMES, database, folder, payload, picture, read


def killed(path: Path, in_file: int) -> Path:
    """A bag whose recorder was killed in WAL mode, with all but some messages in the log."""
    whole = folder(path.with_name(f"whole_{path.name}"), SQLITE)
    path.mkdir()
    code = """if True:
        import os, sqlite3, sys
        source, target = (sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:3])
        target.execute("PRAGMA journal_mode=WAL")
        target.execute("PRAGMA wal_autocheckpoint=0")
        for (sql,) in source.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'"):
            target.execute(sql)
        for table in ("schema", "topics"):
            for row in source.execute(f"SELECT * FROM {table}"):
                target.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
        for row in source.execute("SELECT * FROM messages"):
            if row[0] == int(sys.argv[3]) + 1:
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            target.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", row)
        os._exit(9)
    """
    command = [sys.executable, "-c", code, whole / f"{whole.name}.db3", path / "bag.db3", str(in_file)]
    assert subprocess.run(command, check=False).returncode == 9
    return path


@pytest.mark.parametrize("as_file", [True, False])
def test_write_ahead_log_is_read_and_nothing_is_written_beside_it(tmp_path, as_file):
    bag = killed(tmp_path / "bag", 3)
    before = {file.name: file.read_bytes() for file in bag.iterdir() if not file.name.endswith("-shm")}
    names = {file.name for file in bag.iterdir()}

    found, damage = read(bag / "bag.db3" if as_file else bag)

    assert found == TIMES
    assert [line for line in damage if "metadata.yaml" not in line] == []
    assert {name: (bag / name).read_bytes() for name in before} == before
    assert {file.name for file in bag.iterdir()} == names


@pytest.mark.parametrize("kind", ["cut", "flipped", "other salt"])
def test_part_of_a_write_ahead_log_that_cannot_be_used_is_said(tmp_path, kind):
    bag = killed(tmp_path / "bag", 3)
    log = bag / "bag.db3-wal"
    data = bytearray(log.read_bytes())
    if kind == "cut":
        del data[len(data) * 2 // 3 :]
    else:
        data[len(data) * 2 // 3 if kind == "flipped" else 17] ^= 1
    log.write_bytes(data)

    found, damage = read(bag / "bag.db3")

    assert found == TIMES[: len(found)]
    assert 3 <= len(found) < 12
    assert damage


def test_rollback_journal_is_not_played_back(tmp_path):
    bag = folder(tmp_path / "bag", SQLITE)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (bag / "bag.db3-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600) + bytes(victim))

    found, damage = read(bag)

    assert found == TIMES
    assert "the recorder's last transaction was not ended; bag.db3-journal was not used" in damage[0]
    assert victim.read_text() == "kept"
    assert (bag / "bag.db3-journal").exists()


DATABASES = {
    "empty definitions": ("UPDATE message_definitions SET encoding = '', encoded_message_definition = ''", ""),
    "unknown definitions": ("UPDATE message_definitions SET encoding = 'unknown'", ""),
    "no definitions": ("DROP TABLE message_definitions", ""),
    "no index": ("DROP INDEX timestamp_idx", ""),
    "schema of the future": ("UPDATE schema SET schema_version = 99", ""),
    "type of ROS 1": ("UPDATE topics SET type = 'sensor_msgs/Image'", ""),
    "quality of service": ("UPDATE topics SET offered_qos_profiles = 'no: [yaml'", ""),
    "another topic without a name": ("INSERT INTO topics VALUES (9, x'ff', x'fe', 'cdr', '', '')", ""),
    "deleted": ("DELETE FROM messages WHERE id = 12", "/camera: 12 messages are promised, 11 were found"),
    "topic of no message": ("UPDATE messages SET topic_id = 7 WHERE id = 12", "1 messages are of no topic"),
    "time that is none": (
        "UPDATE messages SET timestamp = 'noon' WHERE id = 12",
        "1 messages have no topic or no time",
    ),
    "text for bytes": (
        "UPDATE messages SET data = 'abc' WHERE id = 12",
        "1 messages are lost (its row holds no bytes)",
    ),
}


@pytest.mark.parametrize(("statement", "line"), DATABASES.values(), ids=DATABASES)
def test_database_is_read_whatever_stands_beside_its_messages(tmp_path, statement, line):
    bag = folder(tmp_path / "bag", SQLITE)
    with database(bag) as connection:
        connection.execute(statement)

    found, damage = read(bag)

    assert found == TIMES[: 11 if line else 12]
    assert any(line in said for said in damage) if line else damage == []


def test_texts_of_a_database_in_utf_16_are_read(tmp_path):
    whole = folder(tmp_path / "bag", SQLITE)
    path = tmp_path / "wide.db3"
    with database(whole) as source, contextlib.closing(sqlite3.connect(path)) as target:
        target.execute("PRAGMA encoding = 'UTF-16'")
        for (sql,) in source.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'"):
            target.execute(sql)
        for table in ("topics", "messages"):
            for row in source.execute(f"SELECT * FROM {table}"):
                target.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
        target.commit()

    assert read(path) == (TIMES, [])


def test_rows_before_and_behind_a_broken_page_are_read(tmp_path):
    times = [START_NS + n * SECOND for n in range(200)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/camera", t, picture(t, 8)) for t in times], storage=SQLITE)
    path = bag / "bag.db3"
    data = bytearray(path.read_bytes())
    middle = data.index(payload(picture(times[100], 8)))
    page = middle // 4096 * 4096
    data[page : page + 8] = b"\xff" * 8
    path.write_bytes(data)

    found, damage = read(bag)

    assert {*times[:80], *times[120:]} <= set(found) < set(times)
    assert found == sorted(found)
    assert any(f"is damaged; {len(found)} messages were read" in line for line in damage)
    assert any(f"/camera: 200 messages are promised, {len(found)} were found" in line for line in damage)


def test_tree_that_leads_round_and_round_ends(tmp_path):
    times = [START_NS + n * SECOND for n in range(200)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/camera", t, picture(t, 8)) for t in times], storage=SQLITE)
    with database(bag) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
    path = bag / "bag.db3"
    data = bytearray(path.read_bytes())
    start = (root - 1) * 4096
    assert data[start] == 5  # an inner page of a table
    cells = struct.unpack_from(">H", data, start + 3)[0]
    first = struct.unpack_from(">H", data, start + 12)[0]
    for cell in range(1, cells):  # each leads to the first leaf
        at = struct.unpack_from(">H", data, start + 12 + 2 * cell)[0]
        data[start + at : start + at + 4] = data[start + first : start + first + 4]
    path.write_bytes(data)

    found, damage = read(bag)

    assert len(found) == len(set(found)) < 200
    assert any("200 messages are promised" in line for line in damage)
