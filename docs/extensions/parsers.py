"""Options of the commands, from the parsers themselves."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import math
import sys
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

from cnn_perception.evaluation import cli as evaluate_bag
from extensions.markdown import code, terms, text
from training.config import TrainConfig, command_line, fields

PROGRAMS = {"evaluate_bag": evaluate_bag.__name__, "doctor": "cnn_perception.doctor.cli"}
"""Modules of the console scripts that are no nodes."""


class _Found(BaseException):
    """Carries a parser out of the command that is about to use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


@functools.cache
def parser_of(command: str) -> argparse.ArgumentParser:
    """Returns the parser of a command.

    Args:
        command: A console script, or what stands behind `python -m`.

    Raises:
        ValueError: If there is no such command, or it has no parser.
    """
    module = _module(PROGRAMS.get(command, command))
    try:
        with (
            mock.patch.object(argparse.ArgumentParser, "parse_known_args", _carry),
            mock.patch.object(sys, "argv", [""]),
        ):
            module.main()
    except _Found as found:
        return found.parser
    raise ValueError(f"{command} reads no options")


def _module(name: str) -> ModuleType:
    """Returns the module that has a command's `main`: its own, or `command` or `__main__` of a package."""
    for place in (name, f"{name}.command", f"{name}.__main__"):
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(place)
            if hasattr(module, "main"):
                return module
    raise ValueError(f"there is no command {name}")


def _carry(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 argparse's
    raise _Found(parser)


def options(command: str) -> str:
    """Returns the options of a command in their groups."""
    parser = parser_of(command)
    parts = [text(parser.description or "")]
    for group in parser._action_groups:
        actions = [one for one in group._group_actions if one.help != argparse.SUPPRESS and one.dest != "help"]
        if actions:
            title = "" if group.title in ("options", "positional arguments") else f"**{text(group.title or '')}**"
            parts += [title, terms(_entry(parser, action) for action in actions)]
    if parser.epilog:
        parts.append(text(parser.epilog))
    return "\n\n".join(filter(None, parts))


def _entry(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, list[str], str]:
    """Returns an option with its values; the formatter writes its default into the help text."""
    formatter = parser._get_formatter()
    metavar = formatter._get_default_metavar_for_optional(action)
    values = "" if action.nargs == 0 else formatter._format_args(action, metavar)
    names = ", ".join(code(flag) for flag in action.option_strings) or code(values)
    facts = [code(values) if values and action.option_strings else "", "required" if action.required else ""]
    return names, facts, text(formatter._expand_help(action)) if action.help else "As it says."


def settings() -> str:
    """Returns the settings of training in the groups of its command line: values, defaults, and what they need."""
    hints = typing.get_type_hints(TrainConfig)
    known = {field.name: field for field in dataclasses.fields(TrainConfig)}
    parts = []
    for title, names in command_line.GROUPS.items():
        entries = [
            (code(f"--{fields.flag_of(name)}"), list(_facts(known[name], hints[name])), _meaning(known[name]))
            for name in names
        ]
        parts += [f"**{title}**", terms(entries)]
    return "\n\n".join(parts)


def _facts(field: dataclasses.Field[Any], hint: Any) -> Iterator[str]:  # noqa: ANN401 annotations
    kind = fields.required_type(hint)
    if typing.get_origin(kind) is typing.Literal:
        yield " ".join(map(code, typing.get_args(kind)))
    low, high = field.metadata["low"], field.metadata["high"]
    if math.isfinite(low) or math.isfinite(high):
        yield f"{low:g} to {high:g}" if math.isfinite(high) else f"from {low:g}"
    if field.default is dataclasses.MISSING:
        yield "required"
    if not field.metadata["probe"]:
        yield "not for a probe"
    if field.metadata["needs"]:
        yield f"only with {code(field.metadata['needs'])}"


def _meaning(field: dataclasses.Field[Any]) -> str:
    return text(command_line._help(field).replace("%%", "%"))
