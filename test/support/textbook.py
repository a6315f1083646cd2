"""The pages of docs/textbook: their commands, run as a reader would, and what they show compared with what comes.

    python test/support/textbook.py docs/textbook/*.md

runs every page in an empty folder, writes what a command says where the page shows something else, and renews its
figures. With `--figures DIR` the figures alone are made, below DIR, but for those of slow commands, whose numbers stand
in the page beside them; with `--slow` those commands are run, too. Kinds of fences, written behind the language:

    console check       is run, and prints what is shown; a line `...` stands for any lines
    console check 2%    the same, each number within so much, or within one in its last digit
    console run         is run; what is shown depends on the machine
    console slow        is not run by the tests: minutes, a download or an idle machine
    pycon               is run as a doctest
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import itertools
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from PIL import Image

PAGES = Path(__file__).resolve().parents[2] / "docs" / "textbook"
KINDS = ("check", "run", "slow")
_FENCE = re.compile(r"^```(console|pycon)(?: (\w+))?(?: (\d+)%)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_COLOURS = 64


@dataclass(frozen=True)
class Fence:
    """A block of commands of a page.

    Attributes:
        language: `console` or `pycon`.
        kind: One of `KINDS`; empty for pycon.
        tolerance: By how much a number may differ, as a share of it.
        text: What stands in it.
        line: Where it begins in the page, from 1.
    """

    language: str
    kind: str
    tolerance: float
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """A command of a console block.

    Attributes:
        words: Its words, `python -m MODULE ...`.
        typed: As it stands in the page, with the prompt.
        shown: What the page shows beneath it.
    """

    words: tuple[str, ...]
    typed: str
    shown: str


class PageError(AssertionError):
    """A page does not show what comes."""


def fences(text: str) -> list[Fence]:
    """Returns the blocks of a page in their order."""
    return [
        Fence(found[1], found[2] or "", int(found[3] or 0) / 100, found[4], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def commands(fence: Fence) -> list[Command]:
    """Returns the commands of a console block."""
    parts = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", fence.text, re.MULTILINE)
    return [Command(tuple(shlex.split(typed.replace("\\\n", " "))), f"$ {typed}\n", shown) for typed, shown in parts]


def run(command: Command) -> str:
    """Runs a command in this process; returns what it prints.

    Raises:
        PageError: If it is not `python -m MODULE`, or fails.
    """
    python, dash, module, *arguments = command.words
    if (python, dash) != ("python", "-m"):
        raise PageError(f"{command.typed}: is no `python -m MODULE`")
    said = io.StringIO()
    threads = torch.get_num_threads()
    with (
        mock.patch.object(sys, "argv", [module, *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        code = _exit_code(module)
    torch.set_num_threads(threads)
    if code:
        raise PageError(f"{command.typed}ends with {code}: {errors.getvalue()[-2000:]}")
    return _without_bars(said.getvalue())


def _exit_code(module: str) -> object:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code
    return 0


def _without_bars(text: str) -> str:
    """Returns a text without what a progress bar has overwritten, and without blanks at the ends of lines."""
    return "".join(f"{line.rsplit(chr(13), 1)[-1].rstrip()}\n" for line in text.rstrip("\n").split("\n"))


def agrees(shown: str, found: str, tolerance: float) -> bool:
    """Tells whether a text is the one that a page shows, in which a line `...` stands for any lines."""
    wanted = [
        list(lines) for is_gap, lines in itertools.groupby(_lines(shown), lambda line: line == "...") if not is_gap
    ]
    gap_first, gap_last = shown.startswith("...\n"), shown.endswith("...\n")
    lines = _lines(found)
    place = 0
    for number, block in enumerate(wanted):
        last = number + 1 == len(wanted)
        starts = range(place, len(lines) - len(block) + 1)
        if last and not gap_last:
            starts = range(max(place, len(lines) - len(block)), len(lines) - len(block) + 1)
        if number == 0 and not gap_first:
            starts = range(place, place + 1) if place in starts else range(0)
        at = next((at for at in starts if _same(block, lines[at : at + len(block)], tolerance)), None)
        if at is None:
            return False
        place = at + len(block)
    return bool(wanted) or gap_first or not lines


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").split("\n") if text.strip() else []


def _same(shown: Sequence[str], found: Sequence[str], tolerance: float) -> bool:
    return all(same_line(one, other, tolerance) for one, other in zip(shown, found, strict=True))


def same_line(shown: str, found: str, tolerance: float) -> bool:
    """Tells whether two lines have the same words, and numbers that differ by no more than the tolerance."""
    if tolerance == 0:
        return shown.split() == found.split()
    if _NUMBER.sub("0", shown).split() != _NUMBER.sub("0", found).split():
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(found), strict=True)
    return all(_near(one, other, tolerance) for one, other in pairs)


def _near(shown: str, found: str, tolerance: float) -> bool:
    one, other = (float(text.replace(",", "")) for text in (shown, found))
    mantissa, _, exponent = shown.partition("e")
    last_digit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(one - other) <= max(tolerance * max(abs(one), abs(other)), 1.01 * last_digit)


@contextlib.contextmanager
def folder(path: Path) -> Iterator[None]:
    """Makes a folder the working directory for the length of a block."""
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def run_page(page: Path, *, slow: bool = False) -> dict[str, str]:
    """Runs a page in the working directory.

    Args:
        page: A file of `PAGES`.
        slow: Whether what the tests leave out is run, too.

    Returns:
        For each command whose block the page does not show rightly, as it stands in the page: what it said.

    Raises:
        PageError: If a command fails, or an example of Python gives something else.
    """
    names: dict[str, object] = {}
    wrong: dict[str, str] = {}
    for fence in fences(page.read_text(encoding="utf-8")):
        if fence.language == "pycon":
            _run_examples(fence, names, page)
        elif fence.kind in ("check", "run", *(["slow"] if slow else [])):
            for command in commands(fence):
                found = run(command)
                if not command.shown or (fence.kind == "check" and not agrees(command.shown, found, fence.tolerance)):
                    wrong[command.typed + command.shown] = command.typed + found
    return wrong


def _run_examples(fence: Fence, names: dict[str, object], page: Path) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(fence.text, names, page.name, str(page), fence.line)
    told = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=options, verbose=False)
    runner.run(test, out=told.write, clear_globs=False)
    names.update(test.globs)
    if runner.failures:
        raise PageError(told.getvalue())


def figures(page: Path) -> list[Path]:
    """Returns the pictures that a page shows."""
    return [page.parent / name for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))]


def source_of(figure: Path) -> Path:
    """Returns where a command of its page leaves a figure, below the working directory."""
    return Path(*figure.parts[figure.parts.index("figures") + 1 :])


def _is_slow(figure: Path, page: Path) -> bool:
    """Tells whether a figure comes from a command that the tests do not run."""
    slow = [fence.text for fence in fences(page.read_text(encoding="utf-8")) if fence.kind == "slow"]
    return any(re.search(rf"--output {figure.parent.name}\b", text) for text in slow)


def renew(page: Path, *, slow: bool) -> None:
    """Writes what the commands of a page say where it shows something else, and its figures."""
    os.environ["CNN_PERCEPTION_CACHE"] = ""  # nothing is known from earlier runs, as in the tests
    with tempfile.TemporaryDirectory() as name, folder(Path(name)):
        wrong = run_page(page, slow=slow)
        for figure in figures(page):
            if slow or not _is_slow(figure, page):
                _copy(source_of(figure), figure)
    text = page.read_text(encoding="utf-8")
    for before, after in wrong.items():
        text = text.replace(before, after, 1)
    page.write_text(text, encoding="utf-8")
    print(f"{page.name}: {len(wrong)} commands renewed")


def draw_figures(page: Path, target: Path) -> list[str]:
    """Makes the figures of a page below a folder by the commands of the page up to the one that leaves the last.

    Returns:
        Their names, without those of slow commands.

    Raises:
        PageError: If a command fails, or none leaves a figure.
    """
    os.environ["CNN_PERCEPTION_CACHE"] = ""  # nothing is known from earlier runs, as in the tests
    wanted = [source_of(figure) for figure in figures(page) if not _is_slow(figure, page)]
    runs = [fence for fence in fences(page.read_text(encoding="utf-8")) if fence.kind in ("check", "run")]
    with tempfile.TemporaryDirectory() as name, folder(Path(name)):
        for command in itertools.chain.from_iterable(map(commands, runs)):
            if all(source.is_file() for source in wanted):
                break
            run(command)
        for source in wanted:
            if not source.is_file():
                raise PageError(f"{page.name}: no command leaves {source}")
            _copy(source, target / source)
    return list(map(str, wanted))


def _copy(source: Path, target: Path) -> None:
    """Copies a picture with few colours, which makes it a third as large."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(target, optimize=True)


def main(argv: Sequence[str]) -> None:
    """Runs pages as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--figures", type=Path, metavar="DIR")
    given = parser.parse_args(argv)
    target = given.figures and given.figures.resolve()
    for page in [path.resolve() for path in given.pages]:
        if target:
            print("".join(f"{name}\n" for name in draw_figures(page, target)), end="", flush=True)
        else:
            renew(page, slow=given.slow)


if __name__ == "__main__":
    main(sys.argv[1:])
