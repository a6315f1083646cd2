"""Lists of class names as people and programs write them, in the order of their numbers.

One name a line; lines with a number before or after the name; a list or a map of JSON, YAML or Python, from the name to
the number or the other way round, also as `names` in another map as in YOLO's data.yaml; a CSV file with a header.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

_INSIDE = ("names", "id2label")
"""What YOLO's data.yaml and Hugging Face's config.json call the list among other things."""
_NAME_COLUMNS = frozenset(
    {"name", "names", "class", "classes", "classname", "label", "labels", "labelname", "category"}
)
_NUMBER_COLUMNS = frozenset(
    {"", "unnamed:0", "id", "index", "idx", "number", "classid", "classindex", "labelid", "target"}
)
_TITLES = _NAME_COLUMNS | _NUMBER_COLUMNS
"""What programs call the columns, in lower case without blanks and underscores."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_BEFORE = re.compile(r"([0-9]{1,9})(?:\s*[:;=|,]\s*|[.)]?\s+)(\S.*)")
_AFTER = re.compile(r"(.*?[^\s:;=|,])(?:\s*[:;=|,]\s*|\s+)([0-9]{1,9})")
_TWO_NUMBERS = re.compile(r"[0-9]+(?:\s*[:;=|]\s*|\s+)[0-9]+")
_YAML = re.compile(rf"^(?:{'|'.join(_INSIDE)})\s*:(?:\s|$)", re.MULTILINE)
_WAY_OUT = "write a JSON list of the names"


class _Pairs(list[tuple[Any, Any]]):
    """A map as it is written: a key may occur twice."""


def read(content: str) -> list[str]:
    """Reads the names in a text, without the blanks around them; two may be the same.

    Raises:
        ValueError: If it cannot be told which names in which order are meant; says what to do.
    """
    text = content.strip()
    lines = [line.strip() for line in content.rstrip().split("\n")]
    if text.startswith(("[", "{")):
        return _of_value(_of_json(text))
    if _YAML.search(text) or (text and all(line.startswith("- ") for line in lines if line)):
        return _of_value(_of_yaml(text))
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty; write one name a line")
    return _of_table(lines) or _of_numbered(lines) or lines


def _of_json(text: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        try:
            return _of_yaml(text)  # whose lists and maps in brackets are Python's, too
        except ValueError:
            raise ValueError(f"no JSON list of names ({error}); write one name a line") from None


def _of_yaml(text: str) -> Any:  # noqa: ANN401
    """Returns what a text of YAML holds: scalars as they are written, and what lies deeper as its node."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"no YAML{f', line {mark.line + 1}' if mark else ''}; {_WAY_OUT}") from None
    value = _plain(node)
    if isinstance(value, _Pairs):
        return _Pairs((key, _plain(inner) if key in _INSIDE else inner) for key, inner in value)
    return value


def _plain(node: Any) -> Any:  # noqa: ANN401
    if isinstance(node, yaml.MappingNode):
        return _Pairs((_scalar(key), _scalar(value)) for key, value in node.value)
    return [_scalar(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else _scalar(node)


def _scalar(node: Any) -> Any:  # noqa: ANN401
    return node.value if isinstance(node, yaml.ScalarNode) else node


def _of_value(value: Any) -> list[str]:  # noqa: ANN401
    """Returns the names in a list, in a map, or in the one of these that a map calls names."""
    if isinstance(value, _Pairs):
        inside = [inner for key, inner in value if key in _INSIDE and isinstance(inner, list)]
        return _of_value(inside[0]) if len(inside) == 1 else _of_map(value)
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("must hold a list of names, in the order of the logits, or a map of names and numbers")
    return [name.strip() for name in value]


def _of_map(pairs: _Pairs) -> list[str]:
    """Returns the names of a map, `{"cat": 0}` or `{"0": "cat"}`."""
    keys, values = ([pair[side] for pair in pairs] for side in (0, 1))
    are_numbers = [all(map(_is_number, side)) for side in (keys, values)]
    if are_numbers == [False, True]:
        keys, values = values, keys
    elif are_numbers != [True, False]:
        raise ValueError(f'is a map, but not one of names and numbers as {{"cat": 0}} or {{"0": "cat"}}; {_WAY_OUT}')
    if not pairs or not all(isinstance(name, str) for name in values):
        raise ValueError(f"is a map of numbers, but not of each to one name; {_WAY_OUT}")
    return _in_order([int(number) for number in keys], values)


def _is_number(value: Any) -> bool:  # noqa: ANN401
    is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return is_whole or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def _of_table(lines: Sequence[str]) -> list[str]:
    """Returns the names in a CSV file with a header; none of other lines."""
    delimiter = next((mark for mark in "\t;," if mark in lines[0]), ",")
    header = [re.sub(r"[\s_-]+", "", cell).casefold() for cell in lines[0].split(delimiter)]
    if len(lines) > 1 and len(header) == 1 and header[0] in _NAME_COLUMNS:
        raise ValueError(
            f"line 1, {lines[0]!r}, reads as the title of a column; remove it, or write a JSON list if it is a class"
        )
    has_number = not _NUMBER_COLUMNS.isdisjoint(header) or {*header} <= _NAME_COLUMNS
    if len(header) < 2 or _NAME_COLUMNS.isdisjoint(header) or not has_number:
        return []
    try:
        rows = list(csv.reader(lines[1:], delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"is no CSV ({error}); {_WAY_OUT}") from None
    if wrong := [number for number, row in enumerate(rows, 2) if len(row) != len(header)]:
        raise ValueError(f"line {wrong[0]} has another number of columns than line 1; mend it, or {_WAY_OUT}")
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    known = [(title, column) for title, column in zip(header, columns, strict=True) if title in _TITLES]
    numbers = [column for _, column in known if all(map(_is_number, column))]
    names = [column for title, column in known if title in _NAME_COLUMNS and column not in numbers]
    if len(numbers) != 1 or len(names) != 1:
        raise ValueError(f"is a table, but not of one column of names and one of their numbers; {_WAY_OUT}")
    return _in_order([int(number) for number in numbers[0]], names[0])


def _of_numbered(lines: Sequence[str]) -> list[str]:
    """Returns the names of lines that each begin or end with a number; none where the numbers belong to the names.

    They number the lines if they go on without a gap from 0 or from 1: 50, 70 and 120 belong to signs. So do 1 and 2
    of coins, as what stands beside them is the same.
    """
    if len(lines) < 2:
        return []
    if all(_TWO_NUMBERS.fullmatch(line) for line in lines):
        raise ValueError(f"holds two numbers a line, of which nothing tells which is the name; {_WAY_OUT}")
    for pattern, of_number, of_name in ((_BEFORE, 1, 2), (_AFTER, 2, 1)):
        found = [match for line in lines if (match := pattern.fullmatch(line))]
        numbers, names = ([match[side] for match in found] for side in (of_number, of_name))
        is_each = len(found) == len(lines) and not any(name.isdecimal() for name in names)
        if is_each and 2 * len({*names}) > len(names) and min(map(int, numbers)) < 2:
            return _in_order([int(number) for number in numbers], [_unquoted(name) for name in names])
    return []


def _unquoted(name: str) -> str:
    quoted = re.fullmatch(r"""(["'])(.*)\1,?""", name)
    return quoted[2] if quoted else name


def _in_order(numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    """Returns names in the order of their numbers.

    Raises:
        ValueError: If these do not go on from 0 or from 1 without a gap; names the first that is wrong.
    """
    if twice := [number for number, count in Counter(numbers).items() if count > 1]:
        raise ValueError(f"gives the number {twice[0]} to two classes; mend it, or {_WAY_OUT} if they have no number")
    first = 0 if 0 in numbers else 1
    if gap := sorted({*range(first, first + len(numbers))} - {*numbers}):
        raise ValueError(
            f"numbers its classes, but gives none the number {gap[0]}; mend it, or {_WAY_OUT} if they have no number"
        )
    return [name.strip() for _, name in sorted(zip(numbers, names, strict=True), key=lambda pair: pair[0])]
