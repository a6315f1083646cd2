"""What pictures are made from: what `make demo`, `make loop` and `training.auto` leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import DataError


@dataclass(frozen=True)
class Sources:
    """Folders that are read and never changed.

    Attributes:
        demo: Of `make demo`, on the images that it draws.
        loop: Of `make loop`.
        auto: Of a run of training.auto; None where none was given.
    """

    demo: Path
    loop: Path
    auto: Path | None = None

    def of_demo(self, *names: str) -> Path:
        """Returns a file or folder of the demo.

        Raises:
            DataError: If it is not there.
        """
        return _there(self.demo.joinpath(*names), "`make demo` leaves it; --demo names another folder")

    def of_loop(self, *names: str) -> Path:
        """Returns a file or folder of the loop.

        Raises:
            DataError: If it is not there.
        """
        return _there(self.loop.joinpath(*names), "`make loop` leaves it; --loop names another folder")

    def of_auto(self, *names: str) -> Path:
        """Returns a file or folder of the search.

        Raises:
            DataError: If it is not there, or no search was given.
        """
        if self.auto is None:
            raise DataError("it is of a search: give --auto RUN, the folder of a `python -m training.auto`")
        return _there(self.auto.joinpath(*names), "--auto names the folder that `python -m training.auto` leaves")


def _there(path: Path, remedy: str) -> Path:
    if not path.exists():
        raise DataError(f"{path}: is not there; {remedy}")
    return path
