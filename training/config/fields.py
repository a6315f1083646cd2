"""A setting as a field of a dataclass: its help text, its range, its type and its flag."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, Literal

from cnn_perception.errors import ConfigError

PATHS = ("data", "teacher", "unlabelled")
"""Settings of several paths each."""
ONE_PATH = ("output", "classes", "recipe", "backbone", "weights", "outside", "cache_dir")
"""Settings of one path each, some of them in place of a name."""


def setting(
    default: Any = dataclasses.MISSING,  # noqa: ANN401  (as dataclasses.field)
    *,
    help: str,  # noqa: A002  (as argparse)
    low: float = -math.inf,
    high: float = math.inf,
    probe: bool = True,
    needs: str = "",
) -> Any:  # noqa: ANN401
    """Returns a dataclass field with what is known of a setting.

    Args:
        default: Its default; without one it must be given.
        help: Its help text.
        low: The least value.
        high: The largest.
        probe: Whether `--mode probe` heeds it.
        needs: The setting without which it has no effect: `teacher`, or with the values that it must have or hold,
            `optimizer=sgd,nesterov`; `not targets` for one beside which it has none. Several are joined by `and`.
    """
    known = {"help": help, "low": low, "high": high, "probe": probe, "needs": needs}
    return dataclasses.field(default=default, metadata=known)


def flag_of(name: str) -> str:
    """Returns a setting's flag without its dashes."""
    return name.replace("_", "-")


def as_given(value: object) -> str:
    """Returns a setting's value as it is written on the command line."""
    if isinstance(value, tuple):
        separator = "x" if value and isinstance(value[0], int) else ","
        return separator.join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def required_type(hint: Any) -> Any:  # noqa: ANN401
    """Returns the type of a setting without its None."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def check(field: dataclasses.Field[Any], hint: Any, value: Any) -> None:  # noqa: ANN401
    """Checks a value against the annotation and the range of its setting.

    Raises:
        ConfigError: If it does not fit.
    """
    low, high = field.metadata["low"], field.metadata["high"]
    numbers = value if isinstance(value, tuple) else (value,)
    if value is None and type(None) in typing.get_args(hint):
        return
    hint = required_type(hint)
    if typing.get_origin(hint) is Literal and value not in typing.get_args(hint):
        raise ConfigError(f"--{flag_of(field.name)}: {value!r} is none of {', '.join(typing.get_args(hint))}")
    if hint in (str, bool) and not isinstance(value, hint):
        raise ConfigError(f"--{flag_of(field.name)}: {value!r} is no {'text' if hint is str else 'yes or no'}")
    if hint in (tuple[str, ...], tuple[int, int], tuple[float, float]):
        _check_several(field, hint, value)
    if hint in (int, float, tuple[int, int], tuple[float, float]):
        fits = all(isinstance(n, int | float) and not isinstance(n, bool) and low <= n <= high for n in numbers)
        whole = hint in (float, tuple[float, float]) or all(isinstance(n, int) for n in numbers)
        if not (fits and whole and all(map(math.isfinite, numbers))):
            text = as_given(value)
            raise ConfigError(f"--{flag_of(field.name)}: {text} is out of range; it must be in [{low:g}, {high:g}]")


def _check_several(field: dataclasses.Field[Any], hint: Any, value: Any) -> None:  # noqa: ANN401
    """Checks that a value is of as many texts or numbers as its annotation says."""
    kinds = typing.get_args(hint)
    is_text = kinds[0] is str
    count = None if Ellipsis in kinds else len(kinds)
    fits = isinstance(value, tuple) and all(isinstance(one, str) == is_text for one in value)
    if not fits or count not in (None, len(value)):
        what = f"{count or 'a list of'} {'texts' if is_text else 'numbers'}"
        raise ConfigError(f"--{flag_of(field.name)}: {value!r} is not {what}")
