"""The names of a network's classes: of the user's file, or those that the file of the network carries itself."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnn_perception.errors import ConfigError, printable
from training.torch_files import mappings

NAMES_OF_DICTIONARY = "classlabels_strings"
"""As ZipMap calls the names in a dictionary of scores."""
MOST_CLASSES = 100_000
"""Of a network that is made by their number. ImageNet-21k has 21 841; a last layer of many more fills the memory."""

_OF_NAMES = ("class_to_idx", "label2id")
"""Keys under which programs note a mapping from names to numbers: torchvision's and Hugging Face's."""
_KEYS = (
    "names", "classes", "class_names", "labels", "id2label", "idx_to_class", "categories", NAMES_OF_DICTIONARY,
    *_OF_NAMES,
)  # fmt: skip
"""All such keys; `names` is ultralytics'."""
_SEPARATORS = ("\n", ";", ",")
"""Of names in a plain text, tried in this order: names of ImageNet's classes hold commas."""
_LONGEST_TEXT = 1_000_000
_BACKGROUND = "background"
_SHOWN = 3


@dataclass(frozen=True)
class Carried:
    """What a file says itself of its classes.

    Attributes:
        lists: The names in the order of the outputs, by the key under which they are.
        unread: Keys that should hold names, under which none can be read.
    """

    lists: Mapping[str, tuple[str, ...]]
    unread: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The first of the lists; empty without one."""
        return next(iter(self.lists.values()), ())

    @property
    def key(self) -> str:
        """The key of `names`; empty without one."""
        return next(iter(self.lists), "")

    def remarks(self, given: Sequence[str]) -> list[str]:
        """Says what of it the user should know, a line each.

        Args:
            given: The names that the user gives; empty where those of the file are taken.
        """
        told = [f"its own {key!r} cannot be read as names of classes: compare it with --classes" for key in self.unread]
        if given and self.names and all(_folded(given) != _folded(names) for names in self.lists.values()):
            told.append(f"its own metadata names other classes: {some(self.names)}")
        return told


NOTHING_CARRIED = Carried({})


def carried(content: object) -> Carried:
    """Returns the names that a file carries.

    They are a list, a mapping from numbers to names or from names to numbers, which begin with 0 or with 1, or such a
    one as JSON or Python writes it, or a text with a name a line or with commas between them.

    Args:
        content: Its metadata, or what `torch_files.read_tensors` returned; settings in it are looked into, too.
    """
    found: dict[str, tuple[str, ...]] = {}
    unread = []
    literal = {key: _read(value) for key, value in content.items()} if isinstance(content, Mapping) else content
    for place, mapping in mappings(literal):
        by_key = {key.lower(): value for key, value in mapping.items() if isinstance(key, str)}
        for key in _KEYS:
            value = _read(by_key.get(key))
            if not isinstance(value, str | list | tuple | Mapping) or not value:
                continue  # such as the number of classes
            where = f"{place}.{key}" if place else key
            if names := _names(value, inverse=key in _OF_NAMES):
                found[where] = names
            else:
                unread.append(printable(where))
    return Carried(found, tuple(unread))


def _names(value: object, *, inverse: bool) -> tuple[str, ...]:
    """Returns the names in a value; empty where they cannot be read.

    Args:
        value: Of one of the keys.
        inverse: Whether a mapping is looked at from names to numbers first: where both are digits nothing else tells.
    """
    if isinstance(value, str):
        value = _separated(value)
    if isinstance(value, Mapping):
        pairs = [*value.items()]
        swapped = [(number, name) for name, number in pairs]
        ways = (swapped, pairs) if inverse else (pairs, swapped)
        return next(filter(None, map(_by_number, ways)), ())
    if isinstance(value, list | tuple) and value and all(map(_is_name, value)):
        return tuple(name.strip() for name in value)
    return ()


def _by_number(pairs: Sequence[tuple[object, object]]) -> tuple[str, ...]:
    """Returns the names of (number, name) in the order of the numbers, which begin with 0 or 1 and lack none."""
    by_number = {_number(number): name for number, name in pairs}
    numbers = sorted(number for number in by_number if number is not None)
    if len(numbers) != len(pairs) or numbers[0] not in (0, 1) or numbers[-1] - numbers[0] != len(numbers) - 1:
        return ()
    ordered = [by_number[number] for number in numbers]
    return tuple(str(name).strip() for name in ordered) if all(map(_is_name, ordered)) else ()


def _number(value: object) -> int | None:
    if isinstance(value, str):
        return int(value) if value.strip().isdecimal() and len(value) < 10 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value // 1 else None


def _separated(text: str) -> list[str]:
    """Returns the names in a plain text; empty where nothing separates them."""
    text = text.strip()
    separator = next((one for one in _SEPARATORS if one in text), None)
    if separator is None or text[0] in "[{(":
        return []
    return text.rstrip(f"{separator} ").split(separator)


def _is_name(value: object) -> bool:
    """Whether it is a text that can be shown: the file comes from anywhere, and its names go to terminals and logs."""
    return isinstance(value, str) and bool(value.strip()) and value.strip().isprintable()


def _read(value: object) -> object:
    """Returns what a text says as JSON or as Python writes it; the text where it is neither, and other values."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return value
    # digits with commas between them are no list of numbers but the names of classes
    return value if isinstance(found, tuple) and value.lstrip()[:1] != "(" else found


def settled(given: Sequence[str], found: Carried, where: str) -> tuple[str, ...]:
    """Returns the names that count: the user's, or else the file's; equal ones are told apart by numbers.

    Raises:
        ConfigError: If there are none, or both name the same classes in another order, or the file does so twice.
    """
    if not (given or found.names):
        unread = f"; its {found.unread[0]!r} cannot be read as such" if found.unread else ""
        raise ConfigError(
            f"{where}: carries no names of its classes; give --classes FILE, one name a line in their order{unread}"
        )
    names = tuple(given or found.names)
    others = {key: other for key, other in found.lists.items() if _are_reordered(names, other)}
    if given and others and not any(_folded(names) == _folded(other) for other in found.lists.values()):
        key, other = next(iter(others.items()))
        at = _first_difference(names, other)
        raise ConfigError(
            f"{where}: says itself that its class {at} is {other[at]!r} by its {key!r}, --classes says {names[at]!r}: "
            "the same names in another order; leave --classes out, or mend the order"
        )
    if not given and others:
        key, other = next(iter(others.items()))
        at = _first_difference(names, other)
        raise ConfigError(
            f"{where}: contradicts itself: its class {at} is {names[at]!r} by its {found.key!r}, "
            f"{other[at]!r} by its {key!r}; give --classes FILE, one name a line in the order of the outputs"
        )
    return numbered(names)


def _are_reordered(one: Sequence[str], other: Sequence[str]) -> bool:
    return _folded(one) != _folded(other) and sorted(_folded(one)) == sorted(_folded(other))


def _folded(names: Sequence[str]) -> list[str]:
    """Names without what people write differently."""
    return [name.casefold().replace("_", " ").strip() for name in names]


def _first_difference(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(_folded(one), _folded(other), strict=True)
    return next(place for place, (a, b) in enumerate(pairs) if a != b)


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Tells equal names apart: many lists of ImageNet's classes have two `crane` and two `maillot`."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(result)


def require_possible(count: int) -> int:
    """Returns the number of classes that a user gives.

    Raises:
        ConfigError: If it is above `MOST_CLASSES`.
    """
    if count > MOST_CLASSES:
        raise ConfigError(f"--classes {count}: at most {MOST_CLASSES} classes are possible; give a smaller number")
    return count


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


def some(names: Sequence[str]) -> str:
    """Returns the first of some names, for people."""
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
