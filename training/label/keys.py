"""What the keys of the page do: one a command, and one for each of the first classes."""

from __future__ import annotations

import string
from dataclasses import dataclass

from cnn_perception.label_text import NONE_OF_THESE


@dataclass(frozen=True)
class Command:
    """Something that the page does at a key.

    Attributes:
        name: By which the page knows it.
        keys: As browsers name them, any of them.
        does: In words, for whoever asks which keys there are.
    """

    name: str
    keys: tuple[str, ...]
    does: str


COMMANDS = (
    Command("accept", ("Enter",), "accept the model's guess, or what is chosen"),
    Command("undo", ("u", "Backspace", "Ctrl+z"), "take the last decision back"),
    Command("none", ("n",), NONE_OF_THESE),
    Command("skip", ("s",), "leave the image out"),
    Command("back", ("ArrowLeft", "PageUp"), "the image before"),
    Command("forth", ("ArrowRight", "PageDown"), "the next image"),
    Command("grid", ("g",), "the look-alikes of the image at once, or one image again"),
    Command("zoom", ("z",), "every pixel of the picture, moved by the arrows, or the whole of it"),
    Command("brighten", ("b",), "brighter, for dark pictures"),
    Command("search", ("/",), "find a class by its name"),
    Command("add", ("+",), "add a class"),
    Command("help", ("?",), "show the keys"),
)
_TAKEN = {key for command in COMMANDS for key in command.keys}
_LETTERS = string.ascii_lowercase
CLASS_KEYS = (
    *"1234567890",
    *(letter for letter in _LETTERS if letter not in _TAKEN),
    *(f"Shift+{letter}" for letter in _LETTERS if letter in _TAKEN),
)
"""Of the classes in their order, 36; the others are found by their names."""


def key_of(place: int) -> str:
    """Returns the key of the class at a place in the list, from 0; empty where it has none."""
    return CLASS_KEYS[place] if place < len(CLASS_KEYS) else ""
