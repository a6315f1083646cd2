"""Owns: which requests a page of this machine answers. Leaves to others: what the page is."""

from __future__ import annotations

import asyncio

import pytest

from cnn_perception.local_page.guard import Guard

PORT, TOKEN = 8123, "secret-token"
HOST = (b"host", b"127.0.0.1:8123")
COOKIE = (b"cookie", b"other=1; cnn_perception_8123=secret-token")
ORIGIN = (b"origin", b"http://127.0.0.1:8123")


def answer(*headers, method="GET", query="", kind="http", port=PORT, **whom):
    """Status and headers of what a request is answered; None where it is not at all."""
    sent = []

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-page", b"yes")]})
        await send({"type": "http.response.body", "body": b"the page"})

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": method, "headers": list(headers), "query_string": query.encode()}
    asyncio.run(Guard(page, port, TOKEN, **whom)(scope, None, send))
    if not sent:
        return None
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_the_address_with_the_token_is_answered_and_gives_a_cookie_that_no_script_and_no_other_site_has():
    status, headers, body = answer(HOST, query=f"token={TOKEN}")

    assert (status, body) == (200, b"the page")
    assert headers[b"set-cookie"] == b"cnn_perception_8123=secret-token; Path=/; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize("others", [b"", b'setting={"a": [1, 2]}; ', b"=; ;;\xff; a b=c; "])
def test_the_cookie_is_enough_from_then_on_whatever_other_programs_have_set(others):
    status, headers, _ = answer(HOST, (b"cookie", others + COOKIE[1]))

    assert status == 200
    assert b"set-cookie" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        (HOST,),
        (HOST, (b"cookie", b"cnn_perception_8123=secret-tokem")),
        (HOST, (b"cookie", b"cnn_perception_8124=secret-token")),
        (HOST, (b"cookie", b"\xff=;;;\x00")),
        (COOKIE,),
        (COOKIE, (b"host", b"127.0.0.1")),
        (COOKIE, (b"host", b"127.0.0.1:8124")),
        (COOKIE, (b"host", b"rebound.example:8123")),
        (COOKIE, (b"host", b"127.0.0.1:8123.example")),
        (COOKIE, HOST, HOST),
        (COOKIE, HOST, (b"origin", b"http://evil.example")),
        (COOKIE, HOST, (b"origin", b"http://127.0.0.1:8124")),
        (COOKIE, HOST, (b"origin", b"https://127.0.0.1:8123")),
        (COOKIE, HOST, (b"origin", b"null")),
        (COOKIE, HOST, ORIGIN, (b"origin", b"http://evil.example")),
    ],
)
def test_a_request_without_the_token_of_another_host_or_of_another_site_is_refused_in_one_line(headers):
    status, _, body = answer(*headers)

    assert status == 403
    assert b"the page" not in body.replace(b"the page itself", b"")
    assert body.count(b"\n") == 1


def test_a_wrong_token_in_the_address_is_refused_and_gives_no_cookie():
    status, headers, _ = answer(HOST, query="token=x")

    assert status == 403
    assert b"set-cookie" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_changes_something_must_say_that_it_comes_from_the_page(method):
    assert answer(HOST, COOKIE, method=method)[0] == 403
    assert answer(HOST, COOKIE, ORIGIN, method=method)[0] == 200


@pytest.mark.parametrize("headers", [(HOST, COOKIE), (HOST,)])
def test_every_answer_forbids_what_is_elsewhere_frames_and_guesses_of_its_kind(headers):
    _, found, _ = answer(*headers)

    policy = found[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert found[b"x-content-type-options"] == b"nosniff"
    assert found[b"referrer-policy"] == b"no-referrer"


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_request_is_not_answered(kind):
    assert answer(HOST, COOKIE, kind=kind) is None


@pytest.mark.parametrize(
    ("host", "here", "remote"),
    [
        ("127.0.0.1:8123", 200, 200),
        ("robot.local:8123", 200, 200),
        ("192.168.1.7:8123", 403, 200),
        ("[fd00::7]:8123", 403, 200),
        ("192.168.1.7:80", 403, 403),
        ("192.168.1.7.example.org:8123", 403, 403),
        ("example.org:8123", 403, 403),
        ("", 403, 403),
    ],
)
def test_where_others_are_let_in_the_machine_has_its_name_and_numbers_but_no_name_of_a_strangers(host, here, remote):
    header = (b"host", host.encode())

    assert answer(header, COOKIE, names=["robot.local"])[0] == here
    assert answer(header, COOKIE, names=["robot.local"], is_remote=True)[0] == remote
    origin = (b"origin", f"http://{host}".encode())
    assert answer(HOST, COOKIE, origin, method="POST", names=["robot.local"], is_remote=True)[0] == remote


def test_a_name_with_capitals_is_found_as_browsers_write_it():
    assert answer((b"host", b"my-robot:8123"), COOKIE, names=["My-Robot"], is_remote=True)[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("127.0.0.1:80", 200), ("127.0.0.1:8123", 403), ("", 403), ("[fd00::7]", 403)],
)
def test_port_80_is_left_out_by_browsers(host, status):
    cookie = (b"cookie", b"cnn_perception_80=secret-token")
    assert answer((b"host", host.encode()), cookie, port=80)[0] == status
    if host == "[fd00::7]":
        assert answer((b"host", host.encode()), cookie, port=80, is_remote=True)[0] == 200
