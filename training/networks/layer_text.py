"""A stack of layers as one line of text, such as `conv 10 5x5 s1 p2, relu, pool 2x2 s2, fc 10`.

Layers are divided by commas. Each is a kind with its numbers, and may have a name in front: `conv1: conv 96 11x11 s4`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnn_perception.errors import ConfigError, one_line
from training.networks.layer_kinds import Grey, L2OverFeatures, L2Pool, Maxout, response_normalisation

PREFIX = "layers:"
"""How a network that is told by its layers begins where others have a name."""
GRAMMAR = (
    "conv N KxK [s1] [p0|same] [d1] [g1] [nobias]; convt N KxK [s1] [p0] [o0] [d1] [g1] [nobias]; "
    "pool|avgpool|l2pool KxK [sK] [p0] [d1] [ceil]; gap; gmp; relu; leaky [0.01]; elu; gelu; tanh; sigmoid; softplus; "
    "maxout K; l2 K; bn; lrn [5]; dropout [0.5]; grey; flatten; fc N [nobias]"
)
"""What may be written; in brackets what may be left out, with its default."""
_ALIASES = {
    "maxpool": "pool", "averagepool": "avgpool", "deconv": "convt", "upconv": "convt", "transposedconv": "convt",
    "linear": "fc", "dense": "fc", "fullyconnected": "fc", "leakyrelu": "leaky", "batchnorm": "bn", "norm": "lrn",
    "drop": "dropout", "globalavgpool": "gap", "globalmaxpool": "gmp",
}  # fmt: skip
"""Other names of kinds; they may also be written as two words, such as `max pool`."""
_LETTERS = {"stride": "s", "pad": "p", "padding": "p", "dilation": "d", "groups": "g"}
_LARGEST = 100_000
"""Of kernels, strides, paddings and dilations: far beyond any that is used."""
_SHAPE = re.compile(r"\d+(x\d+){0,3}")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One layer of a stack.

    Attributes:
        name: As given, or its kind and number, such as conv1.
        kind: The word of `GRAMMAR`.
        module: The layer in torch.
        taken: Shape of what it reads, without the batch.
        given: Shape of what it gives, likewise.
    """

    name: str
    kind: str
    module: nn.Module
    taken: Shape
    given: Shape


def input_shape(text: str) -> Shape:
    """Reads `CxL`, `CxHxW`, `CxDxHxW`, or `C` for numbers that lie nowhere.

    Raises:
        ConfigError: If it is something else.
    """
    shape = tuple(map(int, text.lower().split("x"))) if _SHAPE.fullmatch(text.lower()) else ()
    if not shape or 0 in shape:
        raise ConfigError(f"--input {text!r}: is no shape; write CxL, CxHxW or CxDxHxW, such as 3x32x32")
    return shape


class _Words:
    """The words of one layer, taken one after the other; what is wrong is said with the word and where it stands."""

    def __init__(self, text: str, number: int, shape: Shape) -> None:
        self.where = f"in layer {number}, {text.strip()!r}"
        self.shape = shape
        label, colon, rest = text.rpartition(":")
        self.label = label.strip()
        self.left = rest.split()
        if colon and (not re.fullmatch(r"[A-Za-z_]\w*", self.label) or hasattr(nn.Sequential(), self.label)):
            raise self.wrong(f"{label.strip()}:", "is no name; take letters and digits, such as conv1:")
        if not self.left:
            raise ConfigError(f"layer {number} is empty; write a layer between two commas, such as relu")
        word = self.left.pop(0)
        both = (word + "".join(self.left[:1])).lower()
        if both in _ALIASES or both in _KINDS:
            self.left = self.left[1:]
        else:
            both = word.lower()
        self.kind = _ALIASES.get(both, both)
        if self.kind not in _KINDS:
            close = difflib.get_close_matches(self.kind, [*_KINDS, *_ALIASES], n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KINDS)}"
            raise self.wrong(word, f"is no layer; {hint}")
        self.shorten()

    def wrong(self, word: str, why: str) -> ConfigError:
        """Returns the error that points at a word."""
        return ConfigError(f"{word!r} {self.where}: {why}")

    def shorten(self) -> None:
        """Makes `stride 2` the word s2."""
        for word in [word for word in self.left[:-1] if word.lower() in _LETTERS]:
            place = self.left.index(word)
            self.left[place : place + 2] = [_LETTERS[word.lower()] + self.left[place + 1]]

    @property
    def axes(self) -> int:
        """How many axes of cells the input has."""
        return len(self.shape) - 1

    def need_cells(self) -> None:
        """Checks that the input is a grid of cells."""
        if self.axes < 1:
            raise self.wrong(self.kind, f"needs channels and cells, but gets {by(self.shape)}; put it before flatten")

    def count(self, what: str, default: int | None = None) -> int:
        """Takes a whole number of at least 1."""
        if not self.left or not self.left[0][0].isdigit():
            if default is not None:
                return default
            word = self.left[0] if self.left else self.kind
            raise self.wrong(word, f"the number of {what} is missing; write {self.kind} 10")
        word = self.left.pop(0)
        if not word.isdecimal() or int(word) < 1:
            raise self.wrong(word, f"is no number of {what}; write a whole number of at least 1")
        return int(word)

    def share(self, default: float, high: float) -> float:
        """Takes a number from 0 to below `high`."""
        if not self.left:
            return default
        word = self.left.pop(0)
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 <= value < high:
            raise self.wrong(word, f"is out of range; write a number from 0 to below {high:g}")
        return value

    def kernel(self) -> Shape:
        """Takes the kernel, a size."""
        if not self.left:
            raise self.wrong(self.kind, f"its kernel is missing; write {'x'.join('3' * self.axes)}")
        word = self.left.pop(0)
        return self.sizes(word, word, 1)

    def option(self, letter: str, default: int | Shape, low: int) -> Shape:
        """Takes the size behind a letter, such as s2, wherever it stands."""
        word = next((word for word in self.left if re.fullmatch(rf"{letter}\d\S*", word.lower())), None)
        if word is None:
            return default if isinstance(default, tuple) else (default,) * self.axes
        self.left.remove(word)
        return self.sizes(word, word[1:], low)

    def single(self, letter: str) -> int:
        """Takes the whole number behind a letter."""
        word = next((word for word in self.left if re.fullmatch(rf"{letter}\d\S*", word.lower())), None)
        if word is None:
            return 1
        self.left.remove(word)
        if not word[1:].isdecimal() or int(word[1:]) < 1:
            raise self.wrong(word, "is no whole number of at least 1")
        return int(word[1:])

    def flag(self, name: str) -> bool:
        """Takes a word, if it is there."""
        found = name in self.left
        if found:
            self.left.remove(name)
        return found

    def sizes(self, word: str, text: str, low: int) -> Shape:
        """Reads `2` or `2x3` as one number for each axis of cells."""
        if not _SHAPE.fullmatch(text.lower()):
            raise self.wrong(word, f"is no size; write {'x'.join('3' * self.axes)}")
        numbers = tuple(map(int, text.lower().split("x")))
        if len(numbers) not in (1, self.axes):
            raise self.wrong(word, f"has {len(numbers)} axes, its input {by(self.shape)} has {self.axes}")
        if not low <= min(numbers) <= max(numbers) <= _LARGEST:
            raise self.wrong(word, f"is out of range; write {low} to {_LARGEST}")
        return numbers * self.axes if len(numbers) == 1 else numbers

    def end(self) -> None:
        """Checks that every word was understood."""
        if self.left:
            raise self.wrong(self.left[0], f"is not understood; write {_form(self.kind)}")


def _form(kind: str) -> str:
    """Returns how a kind is written."""
    forms = [form.strip() for form in GRAMMAR.split(";")]
    return next(form.replace("pool|avgpool|l2pool", kind) for form in forms if kind in form.split()[0].split("|"))


def by(shape: Sequence[int]) -> str:
    """Returns a shape as text, such as 3x32x32."""
    return "x".join(map(str, shape))


def _of(kinds: Sequence[type[nn.Module]], axes: int) -> Callable[..., nn.Module]:
    """Returns the layer for that many axes of cells."""
    return kinds[axes - 1]


def _fits(words: _Words, word: str, kernel: Shape, dilation: Shape, padding: Shape) -> None:
    """Checks that a window is not larger than its padded input."""
    rows = zip(kernel, dilation, padding, words.shape[1:], strict=True)
    for size, step, pad, pixels in rows:
        reach = (size - 1) * step + 1
        if reach > pixels + 2 * pad:
            raise words.wrong(word, f"does not fit: kernel {reach} > padded input {pixels + 2 * pad}")


def _convolution(words: _Words) -> nn.Module:
    words.need_cells()
    filters = words.count("filters")
    word = words.left[0] if words.left else ""
    kernel = words.kernel()
    stride, dilation = words.option("s", 1, 1), words.option("d", 1, 1)
    same = tuple((size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True))
    padding = same if words.flag("same") else words.option("p", 0, 0)
    groups = _groups(words, filters)
    _fits(words, word, kernel, dilation, padding)
    return _of((nn.Conv1d, nn.Conv2d, nn.Conv3d), words.axes)(
        words.shape[0], filters, kernel, stride, padding, dilation, groups, bias=not words.flag("nobias")
    )


def _transposed(words: _Words) -> nn.Module:
    words.need_cells()
    filters, kernel = words.count("filters"), words.kernel()
    stride, dilation = words.option("s", 1, 1), words.option("d", 1, 1)
    padding, more = words.option("p", 0, 0), words.option("o", 0, 0)
    groups = _groups(words, filters)
    return _of((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), words.axes)(
        words.shape[0], filters, kernel, stride, padding, more, groups, not words.flag("nobias"), dilation
    )


def _groups(words: _Words, filters: int) -> int:
    word = next((word for word in words.left if re.fullmatch(r"g\d+", word.lower())), "")
    groups = words.single("g")
    if words.shape[0] % groups or filters % groups:
        raise words.wrong(word, f"does not divide {words.shape[0]} channels and {filters} filters")
    return groups


def _pooling(words: _Words) -> nn.Module:
    words.need_cells()
    word = words.left[0] if words.left else ""
    kernel = words.kernel()
    stride, padding = words.option("s", kernel, 1), words.option("p", 0, 0)
    dilation = words.option("d", 1, 1) if words.kind == "pool" else (1,) * words.axes
    over = words.flag("ceil")
    _fits(words, word, kernel, dilation, padding)
    if words.kind == "l2pool":
        return L2Pool(kernel, stride, padding, over)
    if words.kind == "avgpool":
        return _of((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), words.axes)(kernel, stride, padding, over)
    return _of((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), words.axes)(
        kernel, stride, padding, dilation, ceil_mode=over
    )


def _global(words: _Words) -> nn.Module:
    words.need_cells()
    means = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
    largest = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
    return _of(means if words.kind == "gap" else largest, words.axes)(1)


def _over_features(words: _Words) -> nn.Module:
    word = words.left[0] if words.left else ""
    size = words.count("features that become one")
    if words.shape[0] % size:
        raise words.wrong(word, f"does not divide the {words.shape[0]} features of its input")
    return Maxout(size) if words.kind == "maxout" else L2OverFeatures(size)


def _batch_normalisation(words: _Words) -> nn.Module:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return _of(kinds, max(words.axes, 1))(words.shape[0])


def _response_normalisation(words: _Words) -> nn.Module:
    words.need_cells()
    return response_normalisation(words.count("features", 5))


def _fully_connected(words: _Words) -> nn.Module:
    return nn.Linear(words.shape[0], words.count("outputs"), bias=not words.flag("nobias"))


_KINDS: dict[str, Callable[[_Words], nn.Module]] = {
    "conv": _convolution,
    "convt": _transposed,
    **dict.fromkeys(("pool", "avgpool", "l2pool"), _pooling),
    **dict.fromkeys(("gap", "gmp"), _global),
    "relu": lambda _: nn.ReLU(),
    "leaky": lambda words: nn.LeakyReLU(words.share(0.01, 1)),
    "elu": lambda _: nn.ELU(),
    "gelu": lambda _: nn.GELU(),
    "tanh": lambda _: nn.Tanh(),
    "sigmoid": lambda _: nn.Sigmoid(),
    "softplus": lambda _: nn.Softplus(),
    **dict.fromkeys(("maxout", "l2"), _over_features),
    "bn": _batch_normalisation,
    "lrn": _response_normalisation,
    "dropout": lambda words: nn.Dropout(words.share(0.5, 1)),
    "grey": lambda _: Grey(),
    "flatten": lambda _: nn.Flatten(),
    "fc": _fully_connected,
}
KINDS = tuple(_KINDS)


def read(text: str, shape: Shape, device: str = "meta") -> list[Step]:
    """Builds the layers of a text, on an input of a shape; a `fc` behind cells flattens them first.

    Args:
        text: See `GRAMMAR`.
        shape: Of the input, without the batch: channels and up to three axes of cells.
        device: Where the parameters lie; `meta` makes shapes without numbers.

    Raises:
        ConfigError: If a word is wrong, which it names, or a layer does not fit its input.
    """
    steps: list[Step] = []
    counts: Counter[str] = Counter()
    for number, layer in enumerate(text.strip().rstrip(",").split(","), 1):
        words = _Words(layer, number, steps[-1].given if steps else shape)
        if words.kind == "fc" and words.axes:
            steps.append(_step("flatten", "", nn.Flatten(), words, counts, device))
            words.shape = steps[-1].given
        with torch.device(device):
            module = _built(words)
        steps.append(_step(words.kind, words.label, module, words, counts, device))
    if repeated := [name for name, count in Counter(step.name for step in steps).items() if count > 1]:
        raise ConfigError(f"two layers are named {repeated[0]!r}; give another name")
    return steps


def _built(words: _Words) -> nn.Module:
    try:
        module = _KINDS[words.kind](words)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise words.wrong(words.kind, f"cannot be made ({one_line(error, 120)})") from None
    words.end()
    return module


def _step(kind: str, label: str, module: nn.Module, words: _Words, counts: Counter[str], device: str) -> Step:
    """Runs a layer for the shape that it gives."""
    counts[kind] += 1
    try:
        with torch.no_grad():
            found: Tensor = module.eval()(torch.zeros(1, *words.shape, device=device))
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        reason = one_line(error, 120)
        raise words.wrong(kind, f"does not fit its input {by(words.shape)} ({reason})") from None
    return Step(label or f"{kind}{counts[kind]}", kind, module.train(), words.shape, tuple(found.shape[1:]))


def with_classes(text: str, class_count: int) -> str:
    """Returns a text that ends in a `fc` of so many outputs: its own last one, or one more."""
    layers = text.strip().rstrip(",").split(",")
    label, colon, last = layers[-1].rpartition(":")
    words = last.split()
    if words and _ALIASES.get(words[0].lower(), words[0].lower()) == "fc":
        layers[-1] = f"{label}{colon} fc {class_count}{' nobias' * ('nobias' in words)}"
    else:
        layers.append(f"fc {class_count}")
    return ",".join(layers)


def network(text: str, class_count: int, size: tuple[int, int]) -> nn.Sequential:
    """Builds a classifier of coloured images from its layers, with random weights.

    Behind its last convolution a pooling brings the cells to the number that an image of this size gives, which changes
    nothing for such an image: so it is cut where other networks are, and takes larger images.

    Args:
        text: See `GRAMMAR`; a last `fc` gets as many outputs as there are classes, and is added if it is missing.
        class_count: Outputs.
        size: Rows and columns of the image, pixels.

    Raises:
        ConfigError: As `read`.
    """
    layers = OrderedDict[str, nn.Module]()
    is_spatial = False
    for step in read(with_classes(text, class_count), (3, *size), "cpu"):
        if step.kind == "flatten" and is_spatial:
            layers["avgpool"] = nn.AdaptiveAvgPool2d(step.taken[1:])
        if step.kind in ("conv", "convt", "gap", "flatten"):
            is_spatial = step.kind.startswith("conv")
        layers[step.name] = step.module
    return nn.Sequential(layers)
