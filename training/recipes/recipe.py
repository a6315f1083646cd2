"""Recipes: settings that belong together, as a file of the command line's own options with the reason beside each.

--optimizer sgd  # Krizhevsky et al. 2012, section 5
"""

from __future__ import annotations

import shlex
from pathlib import Path

from cnn_perception.errors import ConfigError
from cnn_perception.mistaken_files import what_is_at

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))
NONE = "none"


def path_of(name: str) -> Path:
    """Returns the file of a recipe that comes with this package, or the file named."""
    return FOLDER / f"{name}.txt" if name in NAMES else Path(name)


def words(name: str) -> list[str]:
    """Returns the options of a recipe as words of a command line.

    Args:
        name: One of `NAMES`, or a file.

    Raises:
        ConfigError: If there is no such recipe or it is no text.
    """
    path = path_of(name)
    if what := what_is_at(path, "recipe"):
        raise ConfigError(f"{path}: {what}")
    try:
        return shlex.split(path.read_text(), comments=True)
    except OSError:
        raise ConfigError(f"--recipe {name}: no such recipe or file; take {', '.join(NAMES)} or a file") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not a recipe ({error}); write lines such as: --lr 0.01  # why") from None
