"""The layers of a network: what each reads and gives, how it slides, what it costs and what it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from training.graphs.layers import totals as totals
    from training.inspect.command import main as main
    from training.inspect.sources import of_backbone as of_backbone
    from training.inspect.sources import of_file as of_file
    from training.inspect.stack import of_text as of_text
    from training.inspect.table import COLUMNS as COLUMNS
    from training.inspect.table import as_text as as_text
    from training.inspect.table import rows as rows

__getattr__, __dir__ = lazy(
    __name__,
    {
        "COLUMNS": "table",
        "as_text": "table",
        "main": "command",
        "of_backbone": "sources",
        "of_file": "sources",
        "of_text": "stack",
        "rows": "table",
        "totals": "table",
    },
)
