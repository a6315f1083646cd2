"""Owns: the command as a process: whom it answers, how it ends, and that nothing is lost however it ends.

Leaves to others: the page in a browser (test_label_page), the guard's every rule (test_page_guard).
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from labelling import read_cells, rows_of, served, session_of, write_set
from paths import ROOT
from PIL import Image

from cnn_perception.local_page.server import LocalPage

COUNT = 40


def command(table: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "training.label", str(table), "--no-browser", *options]


@contextmanager
def labelling(table: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on a table, and the address that it prints."""
    with subprocess.Popen(
        command(table, *options), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, next(line.strip() for line in process.stdout if line.startswith("http"))
        finally:
            process.kill()


class Client:
    """A program that knows the token, and sends what a page would send."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=100)
        self._query = parts.query
        self._origin = f"http://127.0.0.1:{parts.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", f"{path}?{self._query}")
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def post(self, path: str, body: object, **headers: str) -> tuple[int, bytes]:
        given = {"Origin": self._origin, **headers}
        self._connection.request("POST", f"{path}?{self._query}", json.dumps(body), given)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def label(self, number: int, name: str) -> int:
        return self.post("/decide", {"numbers": [number], "answer": [name], "state": "labelled"})[0]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", rows_of(COUNT), ("ant", "bee"))


@pytest.fixture
def page(table) -> Iterator[LocalPage]:
    with served(session_of(table)) as page:
        yield page


def test_ctrl_c_ends_it_with_exit_code_0_and_says_what_was_done(table):
    with labelling(table.parent) as (process, address):
        client = Client(address)
        assert client.label(3, "bee") == 200
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert said.splitlines()[-1] == f"{table}: 40 images: 1 labelled, 0 skipped, 39 left"


def test_ctrl_c_before_anybody_has_opened_the_page_ends_it_as_well(table):
    with labelling(table.parent) as (process, _):
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert process.returncode == 0


def test_ctrl_c_while_a_large_picture_is_read_says_nothing_but_how_far_the_work_has_come(table):
    Image.new("1", (8000, 8000)).save(table.parent / "images" / "000.png")
    with labelling(table.parent) as (process, address):
        client = Client(address)
        assert client.get("/setting")[0] == 200
        client._connection.request("GET", f"/picture/0/full?{client._query}")
        client._connection.sock.settimeout(0.02)
        with pytest.raises(TimeoutError):  # it is at work
            client._connection.sock.recv(1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert said.splitlines()[-1].endswith("40 images: 0 labelled, 0 skipped, 40 left")


def test_kill_while_it_writes_loses_no_decision_that_was_confirmed_and_labelling_goes_on(table):
    confirmed = []
    enough = threading.Event()

    def press_keys(client: Client) -> None:
        with suppress(OSError, http.client.HTTPException):  # it was killed
            for turn in range(10**6):
                name = "ant" if turn // COUNT % 2 else "bee"
                assert client.label(turn % COUNT, name) == 200
                confirmed.append((f"images/{turn % COUNT:03}.png", name))
                if turn == 60:
                    enough.set()

    with labelling(table.parent) as (process, address):
        thread = threading.Thread(target=press_keys, args=(Client(address),))
        thread.start()
        assert enough.wait(100)
        process.kill()
        thread.join()

    labels = read_cells(table, "class")
    expected = dict(confirmed)
    lost = [path for path, name in expected.items() if labels[path] != name]
    unconfirmed = f"images/{len(confirmed) % COUNT:03}.png"  # the one that it was at work on may be there already
    assert set(lost) <= {unconfirmed}
    assert len(labels) == COUNT
    assert session_of(table).view()["undo"] in (len(confirmed), len(confirmed) + 1)


def test_a_second_process_is_refused_in_one_line_that_names_the_first_and_a_dead_one_is_no_obstacle(table):
    link = table.parent.parent / "other name"
    link.symlink_to(table.parent)
    with labelling(table.parent, "--person", "Ada") as (process, address):
        second = subprocess.run(command(link), cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
        assert second.returncode == 2
        port = urlsplit(address).port
        assert second.stderr == (
            f"error: {link}/labels.csv: is being labelled by process {process.pid} of Ada on port {port}; "
            "go on there, or end that first\n"
        ).replace(str(link), str(table.parent))
        assert "token" not in (table.parent / ".labels.csv.lock").read_text()
        process.kill()
        process.wait()

    with labelling(table.parent) as (_, address):
        assert Client(address).label(0, "ant") == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "nowhere: cannot be read"),
        (["SET", "--port", "99999"], "port 99999: cannot be listened on"),
        (["SET", "--task", "multilabel", "--targets", "a"], "--targets: names numbers, but --task is multilabel"),
    ],
)
def test_what_cannot_be_begun_is_said_in_one_line_with_exit_code_2(table, options, said, capsys):
    from training.label.command import main

    code = main([str(table.parent) if one == "SET" else one for one in options] + ["--no-browser"])

    assert code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_programs_without_the_token_and_sites_of_a_browser_get_nothing(page, table):
    before = table.read_bytes()
    address = urlsplit(page.address)
    decision = json.dumps({"numbers": [0], "answer": ["ant"], "state": "labelled"})
    own, token = f"127.0.0.1:{page.port}", f"?{address.query}"
    tries = [
        ("GET", "/", {}, 403),
        ("GET", "/state", {}, 403),
        ("GET", "/picture/0/screen", {}, 403),
        ("GET", "/label.js", {}, 403),
        ("GET", "/" + token, {"Host": f"rebound.example:{page.port}"}, 403),
        ("POST", "/decide" + token, {}, 403),
        ("POST", "/decide" + token, {"Origin": "http://evil.example"}, 403),
        ("POST", "/decide", {"Origin": f"http://{own}"}, 403),
        ("GET", "/decide" + token, {}, 405),
        ("GET", "/" + token, {}, 200),
    ]
    for method, path, headers, expected in tries:
        connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
        connection.request(method, path, decision if method == "POST" else None, headers)
        assert connection.getresponse().status == expected, (method, path, headers)
        connection.close()
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    "path",
    [
        "/labels.csv", "/../labels.csv", "/picture/../../labels.csv", "/picture/0/../../labels.csv",
        "/picture/" + quote("../../etc/passwd", safe="") + "/screen", "/picture/-1/screen", "/picture/40/screen",
        "/picture/99999999999999999999/screen", "/picture/0/enormous", "//etc/passwd", "/label.html",
        "/%2e%2e/command.py",
    ],
)  # fmt: skip
def test_nothing_is_served_by_its_path_and_no_number_that_the_table_has_not(page, path):
    status, body = Client(page.address).get(path)

    assert status in (404, 415, 422)
    assert b"path,class" not in body


def test_a_file_that_a_table_names_is_shown_only_if_it_is_a_picture_and_never_as_it_is(tmp_path):
    (tmp_path / "secret.png").write_text("the password of somebody")
    (tmp_path / "page.jpg").write_text("<script>alert(1)</script>")
    Image.new("RGB", (4000, 3000), "red").save(tmp_path / "large.jpg", comment=b"the password of somebody")
    named = [tmp_path / "secret.png", tmp_path / "page.jpg", Path("/etc/passwd"), tmp_path, tmp_path / "large.jpg"]
    (tmp_path / "t.csv").write_text("path,class\n" + "".join(f"{path},\n" for path in named))

    with served(session_of(tmp_path / "t.csv")) as page:
        client = Client(page.address)
        answers = [client.get(f"/picture/{number}/screen") for number in range(5)]

    assert [status for status, _ in answers] == [415, 415, 415, 415, 200]
    assert not [body for _, body in answers if re.search(b"password of|script|root:", body)]
    assert answers[0][1] == b"the file is no picture"
    (tmp_path / "shown.jpg").write_bytes(answers[4][1])
    assert Image.open(tmp_path / "shown.jpg").size == (1600, 1200)


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"numbers": [0]}, {"numbers": ["0"], "answer": ["ant"], "state": "labelled"},
     {"numbers": [0], "answer": "ant", "state": "labelled"}, {"numbers": [0], "answer": ["ant"], "state": ""},
     {"numbers": [], "answer": ["ant"], "state": "labelled"}, {"numbers": [41], "answer": ["ant"], "state": "labelled"},
     {"numbers": [0.5], "answer": ["ant"], "state": "labelled"}, {"numbers": [0], "answer": [1], "state": "labelled"}],
)  # fmt: skip
def test_what_is_no_decision_is_refused_in_one_line(page, table, body):
    before = table.read_bytes()

    status, said = Client(page.address).post("/decide", body)

    assert status == 422
    assert b"\n" not in said
    assert table.read_bytes() == before
