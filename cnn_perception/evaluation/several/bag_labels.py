"""The labels of each of several bags: a topic, rows of one table, or a table for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnn_perception.errors import ConfigError
from cnn_perception.evaluation.labels import BAG_COLUMN, bags_of_rows, is_of_bag
from cnn_perception.evaluation.several.sources import BagSource
from cnn_perception.label_table import is_table, read_table

PLACEHOLDER = "{bag}"


@dataclass(frozen=True)
class BagLabels:
    """What `--labels` says of several bags.

    Attributes:
        text: As it was given: a topic, a CSV file with a column `bag`, or a path with `PLACEHOLDER`.
        unused: Names in the column `bag` that are none of the bags.
    """

    text: str
    unused: tuple[str, ...] = ()

    def of(self, source: BagSource) -> str:
        """Returns the labels of one bag, as `--labels` gives them for it alone."""
        return self.text.replace(PLACEHOLDER, source.name)


def labels_of_bags(text: str, sources: Sequence[BagSource]) -> BagLabels:
    """Returns the labels of several bags.

    Args:
        text: What `--labels` says; empty for none.
        sources: The bags.

    Raises:
        ConfigError: If a CSV file does not say of which bag its rows are, or a name in it fits two of the bags.
        DataError: If it cannot be read, or a row does not name its bag.
    """
    if not is_table(text) or PLACEHOLDER in text:
        return BagLabels(text)
    table = read_table(Path(text), f"name a CSV file, a label topic, or a path with {PLACEHOLDER} in it")
    named = bags_of_rows(table)
    if named is None:
        raise ConfigError(
            f"--labels {text}: of which of the {len(sources)} bags are its rows? Give it a column {BAG_COLUMN!r}, or "
            f"name a file for each, such as labels/{PLACEHOLDER}.csv"
        )
    fitting = {name: [source for source in sources if is_of_bag(name, source.path)] for name in dict.fromkeys(named)}
    for name, found in fitting.items():
        if len(found) > 1:
            raise ConfigError(f"{text}: {name!r} may be {found[0].path} or {found[1].path}; write more of the path")
    return BagLabels(text, tuple(name for name, found in fitting.items() if not found))
