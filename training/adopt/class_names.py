"""The names of a foreign classifier's classes: of the user's file, or of its own metadata."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from cnn_perception.errors import ConfigError
from training.adopt.foreign_file import NAMES_OF_DICTIONARY

_KEYS = ("names", "classes", "class_names", "labels", "id2label", "categories", NAMES_OF_DICTIONARY)
"""Under which exporters note them; `names` is ultralytics'."""
_LONGEST_TEXT = 1_000_000
_BACKGROUND = "background"


def of_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names that a file carries, in the order of its outputs; empty where it carries none.

    A list or a mapping from numbers, as JSON or as Python writes them.
    """
    for key in _KEYS:
        value = _read(metadata.get(key, ""))
        if isinstance(value, dict) and value and all(str(number).isdecimal() for number in value):
            by_number = {int(number): name for number, name in value.items()}
            value = [by_number.get(number) for number in range(len(by_number))]
        if isinstance(value, list) and value and all(map(_is_name, value)):
            return tuple(name.strip() for name in value)
    return ()


def _is_name(value: object) -> bool:
    """Whether it is a text that can be shown: the file comes from anywhere, and its names go to terminals and logs."""
    return isinstance(value, str) and bool(value.strip()) and value.strip().isprintable()


def _read(text: str) -> object:
    """Returns what a text says as a literal; None if it is none."""
    if not 0 < len(text) <= _LONGEST_TEXT:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def settled(given: Sequence[str], carried: Sequence[str], where: str) -> tuple[str, ...]:
    """Returns the names that count: the user's, or else the file's; equal ones are told apart by numbers.

    Raises:
        ConfigError: If there are none, or both name the same classes in another order.
    """
    if sorted(given) == sorted(carried) and tuple(given) != tuple(carried):
        at = next(place for place, name in enumerate(given) if name != carried[place])
        raise ConfigError(
            f"{where}: says itself that its class {at} is {carried[at]!r}, --classes says {given[at]!r}: the same "
            "names in another order; leave --classes out, or mend the order"
        )
    if not (given or carried):
        raise ConfigError(
            f"{where}: carries no names of its classes; give --classes FILE, one name a line in their order"
        )
    seen: Counter[str] = Counter()
    names = []
    for name in given or carried:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(names)


def require_count(names: Sequence[str], outputs: int, output: str, where: str) -> None:
    """Checks that there is a name for each output.

    Raises:
        ConfigError: If not; where the one too many is a background it says so.
    """
    if len(names) == outputs:
        return
    told = f"{where}: its output {output!r} has {outputs} numbers, but there are {len(names)} class names"
    if outputs == len(names) + 1 and _BACKGROUND not in names:
        raise ConfigError(
            f"{told}; where its first one is the background, as of TensorFlow's 1001 classes, write {_BACKGROUND!r} as "
            "the first line of --classes"
        )
    if len(names) == outputs + 1 and names[0] == _BACKGROUND:
        raise ConfigError(f"{told}, the first of them {_BACKGROUND!r}; remove this line of --classes")
    raise ConfigError(f"{told}; give --classes with one name for each, or choose another --output-name")
