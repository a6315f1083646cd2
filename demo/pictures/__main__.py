"""Makes the pictures of README and documentation: python -m demo.pictures [NAME ...].

They come from what `make demo` and `make loop` have left, the one of training.auto from the run that --auto names. For
each the command says what it shows, which the text beside it in the documentation has to agree with. What cannot be
made stays as it was, and is said at the end, by exit code 2. Screens need Chromium.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cnn_perception.commands import exit_code
from cnn_perception.errors import ConfigError, PerceptionError
from demo.pictures import auto, comparison, dashboard, label, look, overlay, textbook
from demo.pictures.sources import Sources


class Picture(NamedTuple):
    """A picture, or the figures of the textbook.

    Attributes:
        file: Below the folder of the documentation.
        make: Writes it from the sources, and returns what it shows.
    """

    file: str
    make: Callable[[Sources, Path], str]


PICTURES = {
    "overlay": Picture("overlay.jpg", overlay.make),
    "look_patches": Picture("look_patches.jpg", look.patches),
    "look_visualisation": Picture("look_visualisation.jpg", look.visualisation),
    "look_dissection": Picture("look_dissection.jpg", look.dissection),
    "auto": Picture("auto.png", auto.make),
    "comparison": Picture("comparison.jpg", comparison.make),
    "label": Picture("label.jpg", label.make),
    "dashboard": Picture("dashboard.jpg", dashboard.make),
    "textbook": Picture("textbook/figures", textbook.make),
}
"""By name, the quickest first."""


def run(names: Sequence[str], sources: Sources, output: Path) -> None:
    """Makes pictures and prints what each shows.

    Args:
        names: Of `PICTURES`.
        sources: What they are made from.
        output: The folder of the documentation.

    Raises:
        ConfigError: If some could not be made; all the others are.
    """
    missed = []
    for name in names:
        picture = PICTURES[name]
        path = output / picture.file
        try:
            shown = picture.make(sources, path)
        except PerceptionError as error:
            missed.append(name)
            print(f"{name}: not made: {error}", file=sys.stderr, flush=True)
            continue
        size = f" ({path.stat().st_size / 1000:.0f} kB)" if path.is_file() else ""
        print(f"{path}{size}: {shown}", flush=True)
    if missed:
        raise ConfigError(f"{', '.join(missed)}: not made, and left as before; why stands above")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(PICTURES)} (default: all)")
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder (default: %(default)s)")
    parser.add_argument("--demo", type=Path, default=Path("demo_output"), help="of make demo (default: %(default)s)")
    parser.add_argument("--loop", type=Path, default=Path("loop_output"), help="of make loop (default: %(default)s)")
    parser.add_argument("--auto", type=Path, metavar="RUN", help="of a run of training.auto")
    given = parser.parse_args(argv)
    for name in given.names:
        if name not in PICTURES:
            parser.error(f"{name}: is no picture; give some of {', '.join(PICTURES)}")
    sources = Sources(given.demo, given.loop, given.auto)
    names = given.names or [name for name in PICTURES if name != "auto" or given.auto]
    if not given.names and not given.auto:
        print("auto: left as it is; --auto RUN renews it", flush=True)
    return exit_code(lambda: run(names, sources, given.output), "interrupted")


if __name__ == "__main__":
    sys.exit(main())
