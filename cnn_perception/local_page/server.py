"""Serves a page on this machine alone until Ctrl-C, and opens it in the browser."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING

from cnn_perception.errors import ConfigError
from cnn_perception.local_page.guard import HOST, TOKEN, App, Guard

if TYPE_CHECKING:
    import uvicorn

_PATIENCE_S = 1
"""How long requests that are being answered are waited for at the end."""
_TOKEN_BYTES = 32
_EVERYWHERE = "0.0.0.0"


class LocalPage:
    """A page that is listened for from the moment on at which it is made.

    Attributes:
        port: On which it is.
        address: For the browser of the person who started the program; it holds the secret token.
        is_remote: Whether other machines can reach it.
    """

    def __init__(self, port: int = 0, host: str = HOST) -> None:
        """Takes a port; requests wait until `serve`.

        Args:
            port: Which; 0 takes a free one.
            host: Numeric IPv4 address at which it listens; 0.0.0.0 for all of the machine's. Other than 127.0.0.1 lets
                other machines in, with the token, which anybody can read who sees the network's traffic.

        Raises:
            ConfigError: If it cannot be had.
        """
        self._socket = _listening(port, host)
        self.port: int = self._socket.getsockname()[1]
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._name = socket.gethostname() if host == _EVERYWHERE else host
        self.is_remote = not ipaddress.ip_address(host).is_loopback
        self.address = f"http://{self._name}:{self.port}/?{TOKEN}={self._token}"
        self._server: uvicorn.Server | None = None
        self._ended = False

    def serve(self, app: App) -> None:
        """Answers requests until Ctrl-C or `stop`.

        Args:
            app: What answers those that the `Guard` lets through.

        Raises:
            ConfigError: If uvicorn is missing.
        """
        try:
            import uvicorn
        except ImportError:
            raise ConfigError("a page needs uvicorn; pip install starlette uvicorn") from None
        config = uvicorn.Config(
            Guard(app, self.port, self._token, names=[self._name], is_remote=self.is_remote),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_PATIENCE_S,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_defect)
        self._server = uvicorn.Server(config)
        self._server.should_exit = self._ended
        with suppress(KeyboardInterrupt):  # with which uvicorn ends after Ctrl-C, when all is answered
            self._server.run(sockets=[self._socket])
        self.close()

    def stop(self) -> None:
        """Ends `serve` from another thread."""
        self._ended = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Gives the port back."""
        self._socket.close()


def open_browser(address: str) -> bool:
    """Opens an address in the browser of the desktop, if there is one; returns whether it was tried."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # a browser for the terminal would take it over
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # some return when they are closed
    return True


def _is_defect(record: logging.LogRecord) -> bool:
    """Returns whether a line of uvicorn's log is about an error of the page, not about what was asked or cut off."""
    error = record.exc_info[1] if record.exc_info else None
    return error is not None and not isinstance(error, asyncio.CancelledError)


def _listening(port: int, host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        ipaddress.IPv4Address(host)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen()
    except (OSError, OverflowError, ValueError) as error:
        made.close()
        if isinstance(error, ValueError):
            raise ConfigError(f"{host!r} is no address to listen at; write numbers such as {HOST}") from None
        where = f"port {port}" if host == HOST else f"port {port} at {host}"
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise ConfigError(f"{where}: cannot be listened on ({reason}); take port 0 for a free one") from None
    return made
