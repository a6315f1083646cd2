"""The page over HTTP: pictures by number, and what is decided as JSON."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cnn_perception.errors import DataError, FrameError
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.local_page import own_files
from cnn_perception.pages.rendering import render
from training.data_set.columns import STATES
from training.label import pictures
from training.label.answers import Answers
from training.label.keys import COMMANDS
from training.label.session import Decision, Session
from training.label.storage.saving import NotSavedError

_FILES = Path(__file__).parent / "templates"
_NOT_SAVED, _REFUSED, _UNREADABLE = 503, 422, 415


def application(session: Session, answers: Answers, title: str) -> Starlette:
    """Returns the application of a session.

    Args:
        session: What is labelled.
        answers: What it asks for.
        title: What the page is called.
    """
    page = render("training.label", "label.html", title=title, none_of_these=NONE_OF_THESE)
    setting = {
        "form": answers.form,
        "none": NONE_OF_THESE,
        "fields": [{"name": n, "unit": u} for n, u in zip(answers.columns, answers.units, strict=False)],
        "commands": [{"name": one.name, "keys": one.keys, "does": one.does} for one in COMMANDS],
    }

    async def show_page(_: Request) -> Response:
        return Response(page, media_type="text/html")

    async def show_no_icon(_: Request) -> Response:
        return Response(status_code=204)

    async def show_setting(_: Request) -> Response:
        return JSONResponse(setting)

    async def show_state(request: Request) -> Response:
        return await _answer(lambda: session.view(_revision(request)))

    async def show_picture(request: Request) -> Response:
        return await run_in_threadpool(_picture, session, request.path_params["number"], request.path_params["size"])

    async def decide(request: Request) -> Response:
        body = await _body(request)
        return await _answer(lambda: session.decide(_decision(body), _revision(request)))

    async def undo(request: Request) -> Response:
        return await _answer(lambda: session.undo(_revision(request)))

    async def add_class(request: Request) -> Response:
        body = await _body(request)
        return await _answer(lambda: session.add_class(str(body.get("name", "")), _revision(request)))

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/favicon.ico", show_no_icon),
            Route("/setting", show_setting),
            Route("/state", show_state),
            Route("/picture/{number:int}/{size}", show_picture),
            Route("/decide", decide, methods=["POST"]),
            Route("/undo", undo, methods=["POST"]),
            Route("/class", add_class, methods=["POST"]),
            *own_files.routes_of(_FILES),
        ]
    )


async def _answer(work: Callable[[], dict[str, Any]]) -> Response:
    """Returns what some work gives, or why it gives nothing."""
    try:
        return JSONResponse(await run_in_threadpool(work))
    except NotSavedError as error:
        return PlainTextResponse(str(error), _NOT_SAVED)
    except DataError as error:
        return PlainTextResponse(str(error), _REFUSED)


def _picture(session: Session, number: int, size: str) -> Response:
    if size not in pictures.LONGEST_SIDES:
        return PlainTextResponse("there is no such size", _REFUSED)
    try:
        content, media_type = pictures.shown(session.image(number), size)
    except (DataError, FrameError) as error:
        return PlainTextResponse(str(error), _UNREADABLE)
    return Response(content, media_type=media_type)


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = await request.json()
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _decision(body: dict[str, Any]) -> Decision:
    """Returns the decision that a page sends.

    Raises:
        DataError: If it is none.
    """
    numbers, answer, state = body.get("numbers"), body.get("answer"), body.get("state")
    if not isinstance(numbers, list) or not all(isinstance(one, int) for one in numbers):
        raise DataError("numbers: must be those of images")
    if not isinstance(answer, list) or not all(isinstance(one, str) for one in answer):
        raise DataError("answer: must be a list of texts")
    known = next((one for one in STATES if one and one == state), None)
    if known is None:
        raise DataError(f"state: must be one of {', '.join(filter(None, STATES))}")
    return Decision(tuple(numbers), tuple(answer), known)


def _revision(request: Request) -> int:
    """Returns the revision after which the page asks for changes; -1 asks for everything."""
    text = request.query_params.get("after", "-1")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1
