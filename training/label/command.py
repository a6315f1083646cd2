"""A table of images -> the same table with labels, by a page in the browser and the keyboard.

    python -m training.label SET|TABLE.csv [--order doubt|time|random] [--person NAME] [--port 8000] [--no-browser]

The page is for the browser of this machine and this person alone. Every decision is on the disk before the next image
is shown; Ctrl-C ends at any time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from cnn_perception.commands import Done, exit_code, program
from cnn_perception.errors import printable
from cnn_perception.files import given_path
from cnn_perception.local_page.guard import App
from cnn_perception.local_page.server import LocalPage, open_browser
from cnn_perception.model.spec import Task
from training.data_set.table import table_file
from training.label.server import application
from training.label.session import Session
from training.label.storage.table_lock import locked
from training.label.worklist import Order, Worklist, answers_asked_for


@program("training.label")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = _parser().parse_args(argv)
    return exit_code(lambda: _label(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.label", description="Labels the images of a table in the browser, by the keyboard."
    )
    parser.add_argument(
        "table", type=given_path, metavar="SET", help="folder of training.collect, or a CSV file of images"
    )
    parser.add_argument(
        "--order", choices=get_args(Order), default="doubt", help="which images come first (%(default)s)"
    )
    parser.add_argument("--person", default="", help="who decides: written into a column of that name")
    parser.add_argument(
        "--targets", default="", help="columns of numbers to ask for, with their units, such as angle:rad,throttle"
    )
    parser.add_argument(
        "--task",
        choices=("auto", *get_args(Task)),
        default="auto",
        help="what is labelled, where the columns of the table do not say so (%(default)s)",
    )
    parser.add_argument("--port", type=int, default=0, help="of the page; 0, the default, takes a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser


def _label(options: argparse.Namespace) -> int:
    targets = [target for target in options.targets.split(",") if target.strip()]
    file = table_file(options.table)
    answers = answers_asked_for(file, options.task, targets)
    page = LocalPage(options.port)
    by = f"process {os.getpid()}{f' of {options.person}' * bool(options.person)} on port {page.port}"
    with locked(Path(os.path.realpath(file)), by):
        session = Session(Worklist(file, answers, options.person), options.order)
        app = application(session, answers, title=Path(os.path.realpath(options.table)).name)
        print(printable(f"{file}: {session.summary()}"))
        with suppress(KeyboardInterrupt):  # that comes before the page is served, which ends by it
            _show(page, app, options.no_browser)
        print(printable(f"{file}: {session.summary()}"))
    return Done(result={"said": session.summary()}, written=[file])


def _show(page: LocalPage, app: App, no_browser: bool) -> None:
    print(f"{page.address}\nCtrl-C ends; every decision is on the disk", flush=True)
    if not no_browser:
        open_browser(page.address)
    page.serve(app)
