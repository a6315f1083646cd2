"""The baselines of a training run, which its report shows beside the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.baselines import comparison, methods, network, rows
from training.baselines.comparison import Comparison
from training.baselines.fitting import MOST_IMAGES
from training.baselines.network import Network
from training.baselines.rows import Row
from training.calibration.embeddings import Predictions
from training.loop.run import Run
from training.tasks.by_name import task_of


@dataclass(frozen=True, eq=False)
class Beside:
    """The baselines and the network on the validation images of a run.

    Attributes:
        rows: The baselines, then the network.
        compared: The network with the best of them; None if no image was answered by both.
    """

    rows: tuple[Row, ...]
    compared: Comparison | None

    def as_json(self) -> dict[str, Any]:
        """Returns what report.json keeps."""
        compared = {"comparison": self.compared.as_json()} if self.compared else {}
        return {"rows": [row.figures() for row in self.rows], **compared}


def beside(run: Run, seen: Predictions, fit_s: float) -> Beside:
    """Fits the baselines that a run's settings ask for to its training images, and compares its network with them.

    Args:
        run: Its network has the weights of best.pt; its settings ask for baselines.
        seen: What the network answered to the validation images.
        fit_s: Seconds that the training took.

    Raises:
        DataError: If the images can no longer be read.
    """
    task = task_of(run.data.task)
    chosen = methods.cheap(task) if run.config.baselines == "cheap" else methods.all_of(task)
    found = rows.measured(chosen, run.data.part("val"), run.data, run.config, MOST_IMAGES)
    ours = Network("the network", run.model, run.config.input, run.device, run.config.batch_size, run.workers)
    own = network.own_row(ours, seen, run.data, fit_s)
    return Beside((*found, own), comparison.compare(own, found))
