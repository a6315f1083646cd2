"""Damage to JSON, YAML and CSV texts that knows their fields."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from fuzz.mutation import edge, mutated, rounds

_DEEP = "[" * 3000 + "]" * 3000
_TEXTS = (
    "", " ", "\0", "\n", "a\nb", "\ud800", "x" * 5000, "../..", "nan", "-inf", "1e999", "1" * 5000, "0x10", "true",
    "null", ";", "|", '"', "'", "\ufeff", "\u2028", "%s{}", "sensor_msgs/msg/Image", "cdr", "zstd", "message", "file",
)  # fmt: skip
_YAML_PIECES = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n"
    "d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e]\n",
    "&x [*x]", "!!python/object/apply:os.getpid []", "!!binary x", "!!timestamp 2001-13-99", "!!timestamp x",
    "!!bool x", "!!float x", "!!int x",
    "!!set {a}", "!!omap [a]", "? [a, b]\n: c\n", "<<: 5\n", "<<: [1]\n", "%YAML 9.9\n---\n", "--- a\n--- b\n", "\t- a",
    "2001-02-30", "0o9", "1_000", "12:30:45", ".nan", "{[a]: b}", "{{a}}", "\x85", _DEEP,
)  # fmt: skip


def mutated_json(random: Random, content: bytes) -> bytes:
    """Returns a JSON text of which values were exchanged, removed, moved or given twice."""
    try:
        text = json.dumps(_mutated_tree(random, json.loads(content)), ensure_ascii=random.random() < 0.5)
    except (ValueError, ArithmeticError, RecursionError):
        return mutated(random, content)
    if random.random() < 0.03:
        text = text.replace(", ", random.choice((', "version": 3, ', f', "x": {_DEEP}, ')), 1)
    return text.encode(errors="surrogatepass")


def mutated_yaml(random: Random, content: bytes) -> bytes:
    """Returns a YAML text with other values, or with what only YAML can say."""
    if random.random() < 0.2:
        return _with_piece(random, content)
    try:
        return yaml.dump(_mutated_tree(random, yaml.load(content, _LOADER)), Dumper=_DUMPER).encode(errors="replace")
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, yaml.YAMLError):
        return mutated(random, content)


def mutated_csv(random: Random, content: bytes) -> bytes:
    """Returns a table with other cells, rows or columns."""
    try:
        rows = list(csv.reader(io.StringIO(content.decode())))
    except (ValueError, csv.Error):
        return mutated(random, content)
    for _ in range(rounds(random)):
        random.choice(_TABLE_KINDS)(random, rows)
    text = io.StringIO()
    try:
        csv.writer(text).writerows(rows)
    except csv.Error:  # Python 3.10 writes no NUL
        return mutated(random, content)
    return text.getvalue().encode(errors="surrogatepass")


def _with_piece(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    piece = random.choice(_YAML_PIECES).encode()
    at = random.randrange(len(lines))
    name, colon, _ = lines[at].partition(b":")
    lines[at] = name + b": " + piece if colon and random.random() < 0.7 else piece
    return b"\n".join(lines)


def _mutated_tree(random: Random, tree: Any) -> Any:  # noqa: ANN401 of any type
    holder = [copy.deepcopy(tree)]
    for _ in range(rounds(random)):
        if places := _places(holder):
            container, key = random.choice(places)
            random.choice(_TREE_KINDS)(random, container, key, holder)
    return holder[0] if holder else None


def _places(tree: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    """Returns (container, key or index) of every value."""
    found = []
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)) and len(found) < 5000:
                waiting.append(container[key])
    return found


def odd_value(random: Random) -> Any:  # noqa: ANN401
    """Returns a value that few readers expect."""
    numbers = (edge(random, 64), -edge(random, 64), 10**400, 0.5, -1, 1e308, 5e-324, float("nan"), float("inf"))
    others: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": None}, _nested(random))
    return random.choice((random.choice(numbers), random.choice(_TEXTS), random.choice(others)))


def _nested(random: Random) -> Any:  # noqa: ANN401
    value: Any = []
    for _ in range(random.choice((2, 50))):
        value = [value]
    return value


def _replace(random: Random, container: Any, key: Any, _: Any) -> None:  # noqa: ANN401
    container[key] = odd_value(random)


def _adjust(random: Random, container: Any, key: Any, _: Any) -> None:  # noqa: ANN401
    """Makes a value a little wrong, which comes farther than what is odd."""
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, (int, float)):
        container[key] = random.choice((value + 1, value - 1, -value, value * 2, value * 1e9, str(value), float(value)))
    elif isinstance(value, str):
        container[key] = mutated(random, value.encode(errors="replace")).decode(errors="replace")
    elif isinstance(value, list) and value:
        value.append(copy.deepcopy(random.choice(value)))


def _remove(_random: Random, container: Any, key: Any, _: Any) -> None:  # noqa: ANN401
    del container[key]


def _rename(random: Random, container: Any, key: Any, _: Any) -> None:  # noqa: ANN401
    if isinstance(container, dict):
        container[random.choice(_TEXTS)] = container.pop(key)


def _move(random: Random, container: Any, key: Any, tree: Any) -> None:  # noqa: ANN401
    other, place = random.choice(_places(tree))
    container[key] = copy.deepcopy(other[place])


_TREE_KINDS: tuple[Callable[[Random, Any, Any, Any], None], ...] = (
    _replace, _replace, _adjust, _adjust, _adjust, _remove, _rename, _move,
)  # fmt: skip


def _change_cell(random: Random, rows: list[list[str]]) -> None:
    row = random.choice(rows) if rows else []
    if row:
        row[random.randrange(len(row))] = random.choice((random.choice(_TEXTS), str(odd_value(random))[:400]))


def _repeat_row(random: Random, rows: list[list[str]]) -> None:
    if rows:
        rows.insert(random.randrange(len(rows) + 1), list(random.choice(rows)))


def _drop_row(random: Random, rows: list[list[str]]) -> None:
    if rows:
        del rows[random.randrange(len(rows))]


def _change_width(random: Random, rows: list[list[str]]) -> None:
    at = random.randrange(4)
    for row in rows if random.random() < 0.5 else rows[:1]:
        row[at:at] = [random.choice(_TEXTS)] if random.random() < 0.5 else []
        del row[at + 1 : at + random.randrange(1, 3)]


_TABLE_KINDS = (_change_cell, _change_cell, _change_cell, _repeat_row, _drop_row, _change_width)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
