"""How often a comparison of two models finds a loss that is there, and how often one that is not.

    python -m benchmark.comparison_power

Draws answers of two models to the same frames, of which a share differ, and counts in how many draws the model is
called worse, or better: by images that are taken for independent (McNemar's test), and by blocks of time (block
bootstrap). Where so many neighbouring frames are one event, each event is answered alike. Leaves comparison_power.json
in --output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmark.support.options import OUTPUT, at_least_one, option_parser
from cnn_perception.commands import exit_code
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.comparison.difference import Difference, Series, Unit, Values, difference
from cnn_perception.comparison.verdict import change_of
from training.run_files import write_text
from training.text_table import text_table

_RATE_HZ = 10.0


@dataclass(frozen=True)
class Setting:
    """What is drawn.

    Attributes:
        frames: How many.
        event: So many neighbouring frames are answered alike.
        discordant: Share of the frames that the models answer differently.
        loss: By which share of the frames the model is worse.
        unit: What the comparison takes for independent.
    """

    frames: int
    event: int
    discordant: float
    loss: float
    unit: Unit


@dataclass(frozen=True)
class Count:
    """What was found in the draws of a setting.

    Attributes:
        draws: How many.
        worse: In how many the model was called worse.
        better: In how many better.
        held: In how many the interval held the planted difference.
        detectable: Median of the smallest loss that the comparison said it could have shown.
    """

    draws: int
    worse: int
    better: int
    held: int
    detectable: float


SETTINGS = (
    Setting(2000, 1, 0.04, 0.0, "frame"),
    Setting(2000, 1, 0.04, 0.01, "frame"),
    Setting(2000, 1, 0.04, 0.02, "frame"),
    Setting(2000, 1, 0.04, 0.0, "time"),
    Setting(2000, 1, 0.04, 0.02, "time"),
    Setting(2000, 15, 0.04, 0.0, "frame"),
    Setting(2000, 15, 0.04, 0.0, "time"),
    Setting(2000, 15, 0.15, 0.0, "frame"),
    Setting(2000, 15, 0.15, 0.0, "time"),
    Setting(2000, 15, 0.15, 0.1, "time"),
    Setting(9000, 45, 0.05, 0.0, "time"),
    Setting(600, 15, 0.1, 0.0, "time"),
)


def drawn(setting: Setting, random: np.random.Generator) -> Values:
    """Returns (frames,) differences: 1 where the model alone is right, -1 where the baseline alone is, else 0."""
    lost = (setting.discordant + setting.loss) / 2
    gained = (setting.discordant - setting.loss) / 2
    events = random.choice([-1.0, 0.0, 1.0], setting.frames // setting.event + 2, p=[lost, 1 - lost - gained, gained])
    first = int(random.integers(setting.event))  # recordings begin in the midst of an event
    return np.asarray(np.repeat(events, setting.event)[first : first + setting.frames])


def compared(values: Values, unit: Unit) -> Difference:
    """Returns the difference that a comparison finds."""
    return difference([Series(values, np.arange(len(values)) / _RATE_HZ)], unit, max_loss=0.0, is_share=True)


def count(setting: Setting, draws: int) -> Count:
    """Returns what is found in so many draws."""
    found = [compared(drawn(setting, np.random.default_rng(seed)), setting.unit) for seed in range(draws)]
    changes = [change_of(one, one.chance, 0.0) for one in found]
    return Count(
        draws=draws,
        worse=changes.count("worse"),
        better=changes.count("better"),
        held=sum(one.low <= -setting.loss <= one.high for one in found),
        detectable=float(np.median([one.detectable for one in found])),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Draws, counts and prints; returns the exit code."""
    parser = option_parser("comparison_power", __doc__, output=OUTPUT)
    parser.add_argument("--draws", type=at_least_one, default=100, help="of each setting (default: %(default)s)")
    options = parser.parse_args(argv)
    counts = {setting: count(setting, options.draws) for setting in ProgressBar(SETTINGS, "drawing")}

    def report() -> None:
        options.output.mkdir(parents=True, exist_ok=True)
        rows = [{**asdict(setting), **asdict(found)} for setting, found in counts.items()]
        write_text(options.output / "comparison_power.json", json.dumps(rows, indent=2) + "\n")
        print("\n".join(text_table([_HEADER, *(_row(setting, found) for setting, found in counts.items())])))

    return exit_code(report)


_HEADER = ["frames", "an event", "differ", "loss", "independent", "worse", "better", "interval holds", "could show"]


def _row(setting: Setting, found: Count) -> list[str]:
    drawn_as = [str(setting.frames), str(setting.event), f"{setting.discordant:.0%}", f"{setting.loss:.1%}"]
    shares = [f"{number} of {found.draws}" for number in (found.worse, found.better, found.held)]
    return [*drawn_as, setting.unit, *shares, f"{found.detectable:.1%}"]


if __name__ == "__main__":
    sys.exit(main())
