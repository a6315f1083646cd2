"""Owns: that a page is served on this machine's own address, until it is ended. Leaves to others: whom it answers."""

from __future__ import annotations

import http.client
import socket
import threading

import pytest

from cnn_perception.errors import ConfigError
from cnn_perception.local_page import server
from cnn_perception.local_page.server import LocalPage, open_browser


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_a_page_is_served_by_its_address_from_the_moment_it_is_made_until_it_is_stopped():
    page = LocalPage()
    waiting = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    waiting.request("GET", page.address.partition(str(page.port))[2])  # before anybody serves
    thread = threading.Thread(target=page.serve, args=(hello,))
    thread.start()

    assert waiting.getresponse().read() == b"hello"

    page.stop()
    thread.join()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", page.port), timeout=60)


def test_a_page_that_was_stopped_before_it_was_served_ends_at_once():
    page = LocalPage()
    page.stop()
    page.serve(hello)


def test_no_other_address_of_the_machine_reaches_it():
    page = LocalPage()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", page.port), timeout=60)
    page.close()


@pytest.mark.parametrize("port", [-1, 65536, "taken"])
def test_a_port_that_cannot_be_had_is_refused_in_one_line(port):
    page = LocalPage()
    with pytest.raises(ConfigError, match=r"^port .*; take port 0 for a free one$"):
        LocalPage(page.port if port == "taken" else port)
    page.close()


def test_tokens_are_long_and_never_the_same():
    pages = [LocalPage() for _ in range(3)]
    tokens = {page.address.partition("token=")[2] for page in pages}
    for page in pages:
        page.close()

    assert len(tokens) == 3
    assert min(map(len, tokens)) >= 43  # 32 bytes


def test_no_browser_is_started_where_there_is_no_desktop(monkeypatch):
    monkeypatch.setattr(server.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(server.webbrowser, "open", lambda _: pytest.fail("was started"))

    assert not open_browser("http://127.0.0.1:1/")
