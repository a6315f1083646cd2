"""Names that mean something else in a mirror: classes such as `turn_left`, numbers such as a steering angle."""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDES = frozenset({"left", "right", "leftward", "rightward", "leftwards", "rightwards", "lefthand", "righthand"})
"""Words that name a side by themselves."""
EXCHANGED = (
    ("left", "right"), ("l", "r"), ("west", "east"), ("cw", "ccw"), ("clockwise", "counterclockwise"),
    ("clockwise", "anticlockwise"), ("links", "rechts"), ("gauche", "droite"), ("izquierda", "derecha"),
    ("sinistra", "destra"), ("esquerda", "direita"), ("左", "右"),
)  # fmt: skip
"""Words that become each other in a mirror; both must occur, as in `turn_l, turn_r`."""
SIGNED = frozenset({
    "steering", "steer", "angle", "yaw", "heading", "bearing", "turn", "turning", "curvature", "lateral",
})  # fmt: skip
"""Words for numbers whose sign is a side."""
_JOINED = re.compile(r"(turn|keep|go|lane|arrow|hand|curve|bend|veer)?(left|right)(turn|lane|arrow|hand|curve|bend)?")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|左|右")


def sided(names: Sequence[str], *, of_numbers: bool) -> tuple[str, ...]:
    """Returns those names that a mirrored image no longer deserves.

    Args:
        names: Of the classes, or of the numbers.
        of_numbers: Which of the two they are.
    """
    words = {name: tuple(word.lower() for word in _WORD.findall(name)) for name in names}
    exchanged = {_exchange(own, pair) for own in words.values() for pair in EXCHANGED}
    return tuple(name for name, own in words.items() if _names_a_side(own, of_numbers) or own in exchanged)


def _names_a_side(words: Sequence[str], of_numbers: bool) -> bool:
    if of_numbers and SIGNED.intersection(words):
        return True
    return any(word in SIDES or _JOINED.fullmatch(word) for word in words)


def _exchange(words: Sequence[str], pair: tuple[str, str]) -> tuple[str, ...]:
    """The words in a mirror; none where it changes nothing."""
    other = {pair[0]: pair[1], pair[1]: pair[0]}
    found = tuple(other.get(word, word) for word in words)
    return found if found != tuple(words) else ("",)
