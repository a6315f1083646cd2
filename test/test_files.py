"""Owns: paths as users write them, and files that are complete or as before. Leaves to others: what is in the files."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pwd
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT, UNWRITABLE, fill_the_disk

from cnn_perception import files
from cnn_perception.errors import ConfigError
from cnn_perception.files import (
    alone_in,
    as_utf8,
    expanded,
    given_name,
    given_path,
    remove_unfinished,
    replacing,
    require_other,
    require_unused,
    require_writable,
)


def test_a_tilde_stands_for_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    user = pwd.getpwuid(os.getuid())

    assert expanded("~/models/a.onnx") == tmp_path / "models" / "a.onnx"
    assert expanded(f"~{user.pw_name}/a.onnx") == Path(user.pw_dir) / "a.onnx"
    for path in ("a.onnx", "/data/~nobody/a.onnx", "file:~nobody/a.yaml", ""):
        assert expanded(path) == Path(path)


@pytest.mark.parametrize("path", ["~nobody_of_this_name/a.onnx", "~nobody_of_this_name", "~nobody_of_this_name\n/a"])
def test_the_home_of_nobody_is_refused_in_one_line(path: str):
    with pytest.raises(ConfigError, match="there is no user 'nobody_of_this_name") as caught:
        expanded(path)

    assert "\n" not in str(caught.value)


def test_a_path_of_a_command_line_begins_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=given_path)
    parser.add_argument("--backbone", type=given_name)

    assert parser.parse_args(["--output=~/run"]).output == tmp_path / "run"
    assert parser.parse_args(["--backbone", "~/mine.py:small"]).backbone == f"{tmp_path}/mine.py:small"
    assert parser.parse_args(["--backbone", "timm://a"]).backbone == "timm://a"


def test_the_home_of_nobody_is_refused_by_the_option_that_names_it(capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=given_path)

    with pytest.raises(SystemExit):
        parser.parse_args(["--output=~nobody_of_this_name/run"])

    assert "argument --output: there is no user 'nobody_of_this_name'" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["cnn_perception", "training"])
def test_no_option_of_a_command_takes_a_path_as_it_is_written(package: str):
    found = [path for path in (ROOT / package).rglob("*.py") if re.search(r"type=Path\b", path.read_text())]

    assert found == []


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch):
    def fail(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", fail)

    with pytest.raises(ConfigError, match=r"there is no home folder for '~/a\.onnx'"):
        expanded("~/a.onnx")


def test_a_file_takes_the_place_of_the_older_one_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    unfinished = tmp_path / f".a.txt.{ended.pid}.tmp"
    others = [f".a.txt.{os.getpid()}.tmp", ".a.txt.1.tmp", ".a.txt.tmp", ".mine.tmp", f"a.{ended.pid}.tmp", "a.txt"]
    for name in (unfinished.name, *others):
        (tmp_path / name).touch()

    remove_unfinished(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(others)


WRITE = """
import pathlib, sys
from cnn_perception.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
    file.write(b"new")
    print("writing", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which has begun to write a file and goes on when its input ends."""
    command = [sys.executable, "-c", WRITE, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        yield process


def test_what_a_process_was_writing_when_it_was_killed_is_removed(tmp_path: Path):
    with writing(tmp_path / "a.txt") as process:
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
        process.wait()

        remove_unfinished(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_what_a_process_of_another_container_is_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its number is that of no process here, as where two containers share a folder."""
    monkeypatch.setattr(files, "_runs", lambda _: False)
    path = tmp_path / "a.txt"
    with writing(path) as process:
        remove_unfinished(tmp_path)

        assert len(list(tmp_path.iterdir())) == 1
        process.communicate(b"")
        assert process.returncode == 0
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_of_one_number_write_a_file_without_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As the first processes of two containers, both of which have the number 1."""
    path = tmp_path / "a.txt"
    monkeypatch.setattr("os.getpid", lambda: 1)
    with replacing(path) as one:
        one.write(b"half of it, ")
        with replacing(path) as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
        one.write(b"and the rest")

    assert path.read_bytes() == b"half of it, and the rest"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_taken_for_a_rest_before_it_is_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "_runs", lambda _: False)
    lock, taken = files._lock, []

    def lock_too_late(descriptor: int, ends_s: float) -> bool:
        if not taken:
            taken.append(descriptor)
            remove_unfinished(tmp_path)
            assert list(tmp_path.iterdir()) == []
        return lock(descriptor, ends_s)

    monkeypatch.setattr(files, "_lock", lock_too_late)
    with replacing(tmp_path / "a.txt") as file:
        remove_unfinished(tmp_path)
        file.write(b"new")

    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_disk_that_cannot_lock_the_number_of_the_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with replacing(tmp_path / "a.txt") as file:
        remove_unfinished(tmp_path)
        file.write(b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    with writing(tmp_path / "b.txt") as process:
        process.kill()
        process.wait()
        remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_nothing_that_a_link_points_to_is_removed_or_locked_in_place_of_a_rest(tmp_path: Path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    other = tmp_path / "other.txt"
    other.write_text("mine")
    (tmp_path / f".a.txt.{ended.pid}.tmp").symlink_to(other)
    remove_unfinished(tmp_path)
    assert other.read_text() == "mine"


def test_whatever_fails_leaves_the_older_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half" + bytes(1 // 0))
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), replacing(path) as file:
        file.write(b"not on the disk")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_flushed_before_the_renaming_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.txt"
    flushed: list[tuple[bool, bool]] = []

    def note(number: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{number}").is_dir(), path.exists()))

    monkeypatch.setattr("os.fsync", note)

    with replacing(path) as file:
        file.write(b"new")

    assert flushed == [(False, False), (True, True)]


@pytest.mark.parametrize("kind", [errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EBADF, errno.ENOSYS])
@pytest.mark.parametrize("function", ["fsync", "open"])
def test_a_disk_that_cannot_flush_folders_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, kind: int
):
    """As CIFS, 9p and some FUSE file systems do, and folders that may be written to but not read."""
    usual = getattr(os, function)

    def fail(what: int | str | Path, *flags: int) -> int | None:
        if (Path(f"/proc/self/fd/{what}") if function == "fsync" else Path(what)).is_dir():
            raise OSError(kind, os.strerror(kind))
        return usual(what, *flags)

    (tmp_path / "a.txt").write_bytes(b"old")
    monkeypatch.setattr(f"os.{function}", fail)

    with replacing(tmp_path / "a.txt") as file:
        file.write(b"new")

    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_a_text_with_a_file_name_of_any_bytes_is_written_as_utf8():
    name = b"caf\xe9 \xe8\x9c\x82.jpg".decode(errors="surrogateescape")

    assert as_utf8(name).decode() == "caf\\udce9 蜂.jpg"


def test_a_link_in_place_of_the_unfinished_file_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "other.txt"
    other.write_text("mine")
    names = iter(["taken", "free"])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(names))
    (tmp_path / f".a.txt.taken.{os.getpid()}.tmp").symlink_to(other)
    with replacing(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert other.read_text() == "mine"
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_replaced_and_its_target_is_left_alone(tmp_path: Path, link):
    other = tmp_path / "other.txt"
    other.write_text("mine")
    link(other, tmp_path / "a.txt")
    with replacing(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert (other.read_text(), (tmp_path / "a.txt").read_text()) == ("mine", "new")
    assert not (tmp_path / "a.txt").is_symlink()


@pytest.mark.parametrize("folder", [UNWRITABLE, UNWRITABLE / "new" / "out"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(folder: Path):
    with pytest.raises(ConfigError, match=f"^{folder}: cannot be written .*; free or choose another --output$"):
        require_writable(folder)


def test_a_full_disk_and_what_is_no_folder_are_refused_and_all_else_is_left_as_it_is(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), Path("out"), tmp_path / "new" / "out"):
        require_writable(folder)
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ConfigError, match="cannot be made"):
            require_writable(folder)
    fill_the_disk(monkeypatch, "trial")
    with pytest.raises(ConfigError, match=os.strerror(errno.ENOSPC)):
        require_writable(tmp_path / "out")

    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "[" * 10**5, None])
def test_files_of_others_are_not_overwritten(tmp_path: Path, content: str | None):
    record = tmp_path / "report.json"
    require_unused([record, tmp_path / "page.html"], record, ("a", "b"))
    if content is None:
        record.symlink_to(tmp_path / "nowhere")
    else:
        record.write_text(content)
    with pytest.raises(ConfigError, match=r"report\.json: is there already"):
        require_unused([record, tmp_path / "page.html"], record, ("a", "b"))


def test_earlier_results_of_the_same_program_are_replaced(tmp_path: Path):
    record = tmp_path / "report.json"
    record.write_text('{"a": 1, "b": 2, "c": 3}')
    (tmp_path / "page.html").touch()
    require_unused([record, tmp_path / "page.html"], record, ("a", "b"))


def test_what_is_read_is_not_overwritten_under_any_name(tmp_path: Path):
    (tmp_path / "in").touch()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    os.link(tmp_path / "in", tmp_path / "hard")
    require_other(tmp_path / "out", [tmp_path / "in"])
    for name in ("in", "link", "hard"):
        with pytest.raises(ConfigError, match="would be overwritten"):
            require_other(tmp_path / name, [tmp_path / "missing", tmp_path / "in"])


def test_who_is_alone_in_a_folder_keeps_others_waiting_until_it_is_done(tmp_path: Path):
    order = []

    def other() -> None:
        with alone_in(tmp_path, 60.0):
            order.append("other")

    with alone_in(tmp_path, 60.0):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.1)
        order.append("one")
    thread.join()

    assert order == ["one", "other"]


def test_nobody_waits_for_ever_for_one_who_was_stopped(tmp_path: Path):
    with alone_in(tmp_path, 0.0), alone_in(tmp_path, 0.0):
        pass


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_locked_is_written_to_all_the_same(tmp_path: Path, monkeypatch, number: int):
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with alone_in(tmp_path, 60.0), alone_in(tmp_path / "missing", 60.0):
        pass
