"""The style sheets and scripts of a page, served from the folder of its templates."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


def routes_of(folder: Path) -> list[Route]:
    """Returns the route of each style sheet and script in a folder, by its name."""
    return [_route(path) for path in sorted(folder.iterdir()) if path.suffix in _MEDIA_TYPES]


def _route(path: Path) -> Route:
    content = path.read_bytes()

    async def show(_: Request) -> Response:
        return Response(content, media_type=_MEDIA_TYPES[path.suffix])

    return Route(f"/{path.name}", show)
