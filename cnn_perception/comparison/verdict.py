"""What a difference means: in one sentence, and for the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cnn_perception.comparison.difference import SIGNIFICANCE, Difference

Doubt = Literal["pass", "fail"]
"""What is done where a loss larger than the allowed one is neither proven nor ruled out."""
Change = Literal["worse", "better", "not shown"]


@dataclass(frozen=True)
class Verdict:
    """What was found of all frames.

    Attributes:
        change: Whether the model is proven to be worse or better, by however little.
        is_loss_proven: Whether it loses more than is allowed, proven.
        is_loss_ruled_out: Whether it is proven that it does not.
        text: The same in a sentence.
    """

    change: Change
    is_loss_proven: bool
    is_loss_ruled_out: bool
    text: str

    def fails(self, on_doubt: Doubt) -> bool:
        """Whether the model is not to be used."""
        return self.is_loss_proven or (on_doubt == "fail" and not self.is_loss_ruled_out)


def change_of(found: Difference, chance: float, max_loss: float) -> Change:
    """Returns whether a difference is proven, whatever is allowed.

    Args:
        found: The difference.
        chance: Its own, or after a correction for other differences beside it.
        max_loss: What the chance was computed for; above 0 it says nothing of a difference from 0.
    """
    if not max_loss and chance >= SIGNIFICANCE:
        return "not shown"
    if found.high < 0:
        return "worse"
    return "better" if found.low > 0 else "not shown"


def is_loss_proven(found: Difference, chance: float, max_loss: float) -> bool:
    """Whether more than the allowed loss is proven; the arguments are those of `change_of`."""
    return found.high < -max_loss and chance < SIGNIFICANCE


def judge(found: Difference, max_loss: float, unit: str, *, is_same_model: bool = False) -> Verdict:
    """Returns the verdict on a difference of shares, or of parts of an error.

    Args:
        found: The difference of all frames.
        max_loss: The loss that is allowed, 0 or more.
        unit: What hundredths of it are called, such as `points`.
        is_same_model: Whether both are the same file, which differs in nothing.
    """
    change = change_of(found, found.chance, max_loss)
    is_proven = is_loss_proven(found, found.chance, max_loss)
    is_ruled_out = found.low >= -max_loss or is_same_model
    if is_same_model:
        text = "no difference: both are the same model file"
    elif change == "not shown":
        text = f"no difference shown: {_signed(found, unit)}; a loss of up to {amount(-found.low)} {unit} is possible"
    else:
        text = f"{change}: {_size(found, unit)}"
    return Verdict(change, is_proven, is_ruled_out, text + _allowed(found, max_loss, unit, is_proven))


def amount(part: float) -> str:
    """Returns a part of 1 in hundredths, with two digits."""
    hundredths = 100 * part
    return f"{hundredths:.0f}" if hundredths >= 10 else f"{hundredths:.2g}"


def _allowed(found: Difference, max_loss: float, unit: str, is_proven: bool) -> str:
    """Returns what the allowed loss has to do with it; nothing where none is allowed, or nothing is lost."""
    if not max_loss or found.low >= 0:
        return ""
    limit = f"the {100 * max_loss:g} {unit} that --max-loss allows"
    if is_proven:
        return f", more than {limit}"
    return f", within {limit}" if found.low >= -max_loss else f", which may be more than {limit}"


def _size(found: Difference, unit: str) -> str:
    """Returns how large a proven difference is, without its sign."""
    near, far = sorted((100 * abs(found.low), 100 * abs(found.high)))
    return f"{100 * abs(found.value):.1f} {unit} (95 %: {near:.1f} to {far:.1f})"


def _signed(found: Difference, unit: str) -> str:
    return f"{100 * found.value:+.1f} {unit} (95 %: {100 * found.low:+.1f} to {100 * found.high:+.1f})"
