"""The page over HTTP: what the board shows as JSON, and pictures; nothing can be changed by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cnn_perception.dashboard_node.board import Board, as_json
from cnn_perception.dashboard_node.camera_history import Picture
from cnn_perception.dashboard_node.certificate import certificate_of
from cnn_perception.local_page import own_files
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pages.rendering import render
from cnn_perception.stream.frame_counters import STAGE_KEY

_FILES = Path(__file__).parent / "templates"
_PICTURE_S = 1.0
"""So long a request for a new picture waits for one, before it is told that there is none."""
_NOTHING = 204
_MOST_SHOWN = 5
"""Classes or numbers of one answer that the page shows; a header can hold them."""
_FRAME = "frame"
"""Header of a picture: its number, the answer to its frame or why none is known, as JSON; two requests could find two
frames."""


def application(board: Board) -> Starlette:
    """Returns the application that shows a board."""
    page = render(
        "cnn_perception.dashboard_node",
        "dashboard.html",
        title=board.node,
        history_s=board.history_s,
        unknown=UNKNOWN,
        stage=STAGE_KEY,
        most_shown=_MOST_SHOWN,
    )

    async def show_page(_: Request) -> Response:
        return Response(page, media_type="text/html")

    async def show_no_icon(_: Request) -> Response:
        return Response(status_code=_NOTHING)

    async def show_state(request: Request) -> Response:
        camera = _camera(request)
        board.look(camera)
        return JSONResponse(board.state(camera, _number(request)))

    async def show_picture(request: Request) -> Response:
        history = board.history(_camera(request))
        if history is None:
            return Response(status_code=_NOTHING)
        board.look(_camera(request))
        return _picture(await run_in_threadpool(history.picture_after, _number(request), _PICTURE_S))

    async def show_unsure(request: Request) -> Response:
        history = board.history(_camera(request))
        return _picture(history.unsure_picture(_number(request)) if history else None)

    async def show_model(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(_certificate, board))

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/favicon.ico", show_no_icon),
            Route("/state", show_state),
            Route("/picture", show_picture),
            Route("/unsure", show_unsure),
            Route("/model", show_model),
            *own_files.routes_of(_FILES),
        ]
    )


def _certificate(board: Board) -> dict[str, Any]:
    model = board.model
    return certificate_of(model.get("file", ""), model.get("sha256", ""), model.get("provider", ""))


def _camera(request: Request) -> str:
    return request.query_params.get("camera", "")


def _number(request: Request) -> int:
    """Returns the number that the page asks for, or after which it asks; 0 where it is none."""
    text = request.query_params.get("after", "0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def _picture(picture: Picture | None) -> Response:
    if picture is None:
        return Response(status_code=_NOTHING)
    return Response(picture.content, media_type=picture.media_type, headers={_FRAME: _frame(picture)})


def _frame(picture: Picture) -> str:
    answer = None
    if picture.answer is not None:
        answer = as_json(picture.answer)
        answer["values"] = answer["values"][:_MOST_SHOWN]
    return json.dumps({"number": picture.number, "answer": answer, "doubt": picture.doubt})
