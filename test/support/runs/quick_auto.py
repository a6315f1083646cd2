"""training.auto as a process that tests start: networks that begin with nothing learn for a few epochs only."""

from __future__ import annotations

from collections.abc import Sequence

from training.auto import candidate, command

EPOCHS = 30


def main(given: Sequence[str]) -> int:
    """The command, in this process."""
    candidate.usual_epochs = lambda _: EPOCHS
    return command.main(given)
