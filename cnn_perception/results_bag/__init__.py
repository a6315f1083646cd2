"""What an evaluation says of a recording, as a recording: each frame with answer, overlay, annotations and truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.results_bag.results_bag import ResultsBag as ResultsBag

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ResultsBag": "results_bag",
    },
)
