"""Who may see a page of this machine: the browser to which its address was given, and no site that this browser visits.

Every program of the machine, and every site in any of its browsers, can send requests to 127.0.0.1. So a request is
answered only if it

- names this address as its host, else a site could reach the page by a name of its own that leads here (DNS rebinding);
- comes from the page itself where it changes something, or says from where it comes (cross-site request forgery);
- holds the token: first in the address, then in a cookie, which scripts cannot read and other sites cannot have sent.

What is answered may load nothing from elsewhere, and be shown in no frame. No library is needed: it is an ASGI
application around another.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An application as the ASGI 3.0 specification describes it."""
Header: TypeAlias = tuple[bytes, bytes]

HOST = "127.0.0.1"
_SCHEME = "http://"
_USUAL_PORT = 80
"""Browsers leave it out."""
TOKEN = "token"
"""What it is called in the address."""
_NAMES = (HOST, "localhost")
"""How browsers name this machine to itself."""
_READING = ("GET", "HEAD")
_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """An ASGI application that lets only the requests of one page through to another one."""

    def __init__(
        self, app: App, port: int, token: str, *, names: Collection[str] = (), is_remote: bool = False
    ) -> None:
        """Remembers whom to let in.

        Args:
            app: The page.
            port: On which it is served.
            token: A secret that the address given to the browser holds.
            names: How browsers may name the machine, beside what each calls its own.
            is_remote: Whether other machines may ask. They may name this one by any of its numeric addresses, too: a
                page of somebody else's is reached by a name of his, never by a number.
        """
        self._app = app
        self._token = token
        self._port = port
        self._names = {*_NAMES, *map(str.lower, names)}
        self._is_remote = is_remote
        self._cookie = f"cnn_perception_{port}"  # cookies of one machine are sent to all its ports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it with one line."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal:
            await _refuse(refusal, send)
            return
        headers = _HEADERS
        if self._is_token(_token_in_address(scope)):
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            headers = (*_HEADERS, (b"set-cookie", cookie.encode()))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> str:
        """Returns why a request is not answered; empty where it is."""
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "this page has another host; open the address that the program printed"
        origins = _values(scope, b"origin")
        from_here = all(one.startswith(_SCHEME) and self._is_ours(one[len(_SCHEME) :]) for one in origins)
        if not from_here or (scope["method"] not in _READING and not origins):
            return "only the page itself may ask for this"
        if not self._is_token(_token_in_address(scope)) and not self._is_token(self._token_in_cookie(scope)):
            return "the token is missing or of a program that has ended; open the address that the program printed"
        return ""

    def _is_ours(self, host: str) -> bool:
        """Returns whether a host and port, as browsers write them, are this page's."""
        if self._port == _USUAL_PORT:
            host = host if re.search(r":\d+$", host) else f"{host}:{_USUAL_PORT}"
        name, _, port = host.lower().rpartition(":")
        return port == str(self._port) and (name in self._names or (self._is_remote and _is_address(name)))

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self._token.encode())

    def _token_in_cookie(self, scope: Scope) -> str:
        """Returns it whatever other cookies this machine's programs have set, which parsers may refuse."""
        pairs = (pair.strip().partition("=") for pair in ";".join(_values(scope, b"cookie")).split(";"))
        return next((value for name, _, value in pairs if name == self._cookie), "")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _token_in_address(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get(TOKEN, [""])[0]


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def _refuse(why: str, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
