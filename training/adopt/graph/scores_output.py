"""The output of a foreign graph that answers: logits, or what is behind a softmax or sigmoid, which is taken off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto

from cnn_perception.errors import ConfigError, ModelError, one_line
from cnn_perception.model.spec import InputSpec, Task
from cnn_perception.tasks.registry import TASKS
from training.adopt.graph import bounds
from training.adopt.graph.bounds import FREE, Bounds
from training.adopt.graph.image_input import ImageInput
from training.adopt.graph.tensors import Array, Tensors, runner
from training.tasks.choices import TaskChoice

Form = Literal["logits", "logarithm", "two classes", "one score"]
_OF_CLASSES = [task for task in TASKS.values() if task.has_classes]
ONE_CLASS = cast("Task", next(task.name for task in _OF_CLASSES if task.is_exclusive))
SEVERAL_CLASSES = cast("Task", next(task.name for task in _OF_CLASSES if not task.is_exclusive))

_SUM_TOLERANCE = 0.02
"""Of scores in 8 bits, whose sum is never quite 1."""
_PROBED = 3
_FEWEST_SORTED = 7
"""Numbers that are in the order of their size for every random image where they were sorted, and by chance in one file
of 2500 at most: 2 / 7!, even where all these images have one answer."""
_MOVING = {"Compress", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"}
"""They put numbers elsewhere by indices; where these depend on the image, so does which class a number is of."""


@dataclass(frozen=True)
class ScoresOutput:
    """Where the logits are.

    Attributes:
        name: The output that answers, of the graph.
        logits: The tensor that the logits are made of.
        scores: The tensor, before it is rounded to 8 bits, that is compared with what becomes of the logits.
        form: What has to be done with `logits`: nothing; the logarithm of scores is taken; of one number, whose sigmoid
            is the score of the second class, two logits are made; or of one number that is this score itself.
        behind: Operator between `logits` and `scores`; empty without one.
        outputs: How many numbers it has for an image.
        task: What they mean.
        in_doubt: Whether numbers that are taken for logits were like scores for every random image.
        by_values: What was told by the numbers of random images alone, since no operator says it; empty if nothing was.
        sorted_in: The output, or tensor, that holds the scores in another order for each image, and was asked for or
            found first; empty without one.
    """

    name: str
    logits: str
    scores: str
    form: Form
    behind: Literal["", "Softmax", "LogSoftmax", "Sigmoid"]
    outputs: int
    task: Task
    in_doubt: bool = False
    by_values: str = ""
    sorted_in: str = ""

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return 2 if self.form in ("two classes", "one score") else self.outputs


def find(
    proto: ModelProto, image: ImageInput, size: InputSpec, wanted: str | None, task: TaskChoice, where: str
) -> ScoresOutput:
    """Finds the output that answers.

    Args:
        proto: The graph.
        image: Its input.
        size: How images are prepared for it: numbers of another range may all look alike to it.
        wanted: Name of the output, or of any inner tensor; None where there is only one that can be it.
        task: What its numbers mean; `auto` tells several labels by a sigmoid.
        where: The file, for errors.

    Raises:
        ModelError: If no output has one number a class, or its numbers do not depend on the image.
        ConfigError: If several do, the name or the task is not one of this graph, or the numbers are in another order
            for each image.
    """
    tensors = Tensors(proto)
    asked = _named(tensors, wanted, where) if wanted else _only(tensors, image, size, where)
    origin = _origin(tensors, asked, image, size, where)
    if not origin.is_same:
        raise ConfigError(
            f"{where}: the numbers of its output {asked!r} are put in another order for each image by {origin.operator}"
            f", so that none stands for a class; name the tensor before it by --output-name, such as {origin.tensor!r}"
        )
    name = origin.tensor
    behind, logits, scores = _taken_off(tensors, name)
    values = _values(proto, image, size, [*dict.fromkeys((name, logits, scores))], where)
    outputs = _numbers(values[logits], where, name)
    if values[logits].dtype.kind != "f":
        raise ModelError(
            f"{where}: {logits!r} is of {values[logits].dtype}, whose scale it does not say; export it again"
        )
    if not all(np.isfinite(values[tensor]).all() for tensor in (logits, scores)):
        raise ModelError(
            f"{where}: its output {name!r} is no finite number for random images: its weights are damaged, or its "
            "training had failed; take another file"
        )
    if np.array_equal(values[logits], np.broadcast_to(values[logits][:1], values[logits].shape)):
        raise ModelError(f"{where}: its output {name!r} is the same for every image; name another --output-name")
    if not wanted and (falling := _sorted(values[name])):
        raise ConfigError(
            f"{where}: the numbers of its output {name!r} {falling} for each of {len(values[name])} random images, as "
            "sorted ones do, of which none stands for a class; name the tensor before the sorting by --output-name, or "
            f"{name!r} where they are not sorted"
        )
    found = _Numbers(values[logits], bounds.of(tensors, logits))
    form: Form = "logits"
    if outputs == 1:
        form = _of_one_number(tensors, name, behind, found, task, where)
    elif not behind and not found.is_signed and found.add_up_to_one():
        form = "logarithm"
    elif not behind and task != ONE_CLASS and not found.are_no_scores and (what := found.like_scores()):
        raise ConfigError(
            f"{where}: the numbers of its output {name!r} {what}, as scores do and not logits, and no softmax or "
            "sigmoid at its end was found to take off; name the tensor before it by --output-name, with --task "
            "multilabel where it was a sigmoid, or give --task multiclass where they are logits"
        )
    in_doubt = not behind and form in ("logits", "two classes") and not found.is_signed and bool(found.like_scores())
    by_values = "" if behind else found.told_by_values(form, in_doubt)
    return ScoresOutput(
        name,
        logits,
        scores,
        form,
        behind,
        outputs,
        _task(task, behind, form, where),
        in_doubt,
        by_values,
        sorted_in=asked if asked != name else "",
    )


@dataclass(frozen=True, eq=False)
class _Numbers:
    """What is known of the numbers of a tensor.

    Attributes:
        values: (n, ...) of random images.
        bounds: What the graph says of any image; None where it says nothing.
    """

    values: Array
    bounds: Bounds | None

    @property
    def are_no_scores(self) -> bool:
        """Whether the graph says that some are below 0 or have no upper bound."""
        known = self.bounds
        return known is not None and known.are_reached and (known.can_be_negative or math.isinf(known.high))

    @property
    def is_signed(self) -> bool:
        """Whether an operator with bounds, such as a tanh, makes some below 0; the weights of a layer tell nothing."""
        return self.bounds is not None and self.bounds.can_be_negative and self.bounds.low > -math.inf

    def add_up_to_one(self) -> bool:
        """Whether those of each random image are shares of 1."""
        rows = self._rows()
        sums = rows.sum(axis=1)
        return rows.shape[1] > 1 and bool(rows.min() >= 0) and bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all())

    def like_scores(self) -> str:
        """Returns what tells them from logits; empty where nothing does."""
        known = self.bounds
        rows = self._rows()
        sums = rows.sum(axis=1)
        if known is not None and known.is_share:
            return "lie between 0 and 1"
        if rows.min() >= 0 and rows.max() <= 1:
            return "lie between 0 and 1"
        if rows.min() >= 0 and rows.shape[1] > 1 and np.ptp(sums) <= _SUM_TOLERANCE * sums.max():
            return f"add up to {sums.mean():.3g} for every image"
        if known is not None and known.low >= 0 and math.isfinite(known.high):
            return f"lie between 0 and {known.high:.6g}"
        return ""

    def told_by_values(self, form: Form, in_doubt: bool) -> str:
        """Returns what nothing but the values say, in words; empty where there is nothing."""
        count = f"{len(self.values)} random images"
        if form == "logarithm":
            return f"that its numbers are shares of 1 for every image: for {count} they added up to 1"
        if form == "one score" and not (self.bounds is not None and self.bounds.is_share):
            return f"that its one number is a score from 0 to 1 for every image: it was for {count}"
        return f"that its numbers are logits: for {count} they were as scores are" if in_doubt else ""

    def _rows(self) -> npt.NDArray[np.float64]:
        return self.values.reshape(len(self.values), -1).astype(np.float64)


def _of_one_number(tensors: Tensors, name: str, behind: str, found: _Numbers, task: TaskChoice, where: str) -> Form:
    """Returns what the one number of a graph is: the second class's logit, or its score.

    A sigmoid that is written out, clipped or made of straight lines is told by its operators, whose numbers are from 0
    to 1 for any image; a tanh likewise, which is below 0 for some. Where they do not say it the values of random images
    do. As logits scores would be the second class for every image.
    """
    if behind == "Sigmoid":
        return "two classes"
    known = found.bounds
    if known is not None and known.is_share:
        return "one score"
    is_said = known is not None and known.are_reached
    low, high = (known.low, known.high) if known is not None and is_said else (found.values.min(), found.values.max())
    if low >= 0:
        if high <= 1:
            return "one score"
        before = tensors.before(name)
        while before is not None and bounds.of(tensors, before) != FREE:
            before = tensors.before(before)
        cure = f"name {before!r}, which a linear layer gives," if before else "name the tensor of the logit"
        raise ConfigError(
            f"{where}: its output {name!r} is one number that is never below 0, and so no logit of two classes, and "
            f"exceeds 1, and so is no score; {cure} by --output-name, with --task multiclass"
        )
    if task != ONE_CLASS:
        raise ModelError(
            f"{where}: its output {name!r} is one number without a sigmoid; where its sigmoid is the score of the "
            "second of two classes, give --task multiclass"
        )
    return "two classes"


def _named(tensors: Tensors, wanted: str, where: str) -> str:
    if wanted in tensors.sources and wanted in tensors.of_image:
        return wanted
    names = ", ".join(value.name for value in tensors.proto.graph.output)
    raise ConfigError(f"{where}: computes nothing called {wanted!r} from the image; its outputs are {names}")


def _only(tensors: Tensors, image: ImageInput, size: InputSpec, where: str) -> str:
    """Returns the name of the one output that can be scores."""
    proto = tensors.proto
    names = [value.name for value in proto.graph.output]
    values = _values(proto, image, size, names, where)
    shapes = {name: "x".join(["N", *map(str, values[name].shape[1:])]) for name in names}
    found = [name for name in names if name in tensors.of_image and _can_be_scores(values[name])]
    shown = ", ".join(f"{name} {shapes[name]}" for name in names)
    if not found:
        raise ModelError(
            f"{where}: is no classifier: none of its outputs ({shown}) has one number a class for an image; where an "
            "inner tensor has, give its --output-name"
        )
    if len(found) > 1:  # of scores and the same ones sorted, the scores
        origins = {_origin(tensors, name, image, size, where).tensor for name in found}
        found = [name for name in found if name in origins] if origins <= {*found} else found
    if len(found) > 1:
        raise ConfigError(
            f"{where}: any of {', '.join(found)} can be the answer ({shown}); choose one by --output-name"
        )
    return str(found[0])


@dataclass(frozen=True)
class _Origin:
    """Where the numbers of a tensor are in the order of the classes.

    Attributes:
        tensor: Which holds them so.
        is_same: Whether it holds the same numbers, so that it can be taken instead.
        operator: That puts them in another order; empty where none does.
    """

    tensor: str
    is_same: bool = True
    operator: str = ""


def _origin(tensors: Tensors, name: str, image: ImageInput, size: InputSpec, where: str) -> _Origin:
    """Follows a tensor back to the layer that gives a number a class, and finds what sorts these behind it."""
    origin = _Origin(name)
    is_same = True
    tensor: str | None = name
    while tensor is not None and (node := tensors.sources.get(tensor)) is not None:
        if node.op_type in bounds.LINEAR:
            break
        if _rearranges(tensors, node):
            if not _can_be_scores(_values(tensors.proto, image, size, [node.input[0]], where)[node.input[0]]):
                break  # such as the largest of each channel's cells
            origin = _Origin(node.input[0], is_same, node.op_type)
            tensor = node.input[0]
            continue
        is_same = is_same and node.op_type in bounds.PASSED
        tensor = _softmax_of(tensors, node) or tensors.before(tensor)
    return origin


def _rearranges(tensors: Tensors, node: NodeProto) -> bool:
    """Whether an operator gives numbers of its first input in an order that depends on the image."""
    if node.op_type in _MOVING:
        return node.input[0] in tensors.of_image and node.input[1] in tensors.of_image
    return node.op_type in ("TopK", "Unique")


def _sorted(value: Array) -> str:
    """Returns how the numbers of every image are in the order of their size; empty where they are not."""
    rows = value.reshape(len(value), -1).astype(np.float64)
    steps = np.diff(rows, axis=1)
    if rows.shape[1] < _FEWEST_SORTED or not np.isfinite(rows).all() or not steps.any():
        return ""
    return "fall from the first to the last" if (steps <= 0).all() else "rise" * bool((steps >= 0).all())


def _can_be_scores(value: Array) -> bool:
    """Whether there is one axis of numbers behind that of the batch; indices of classes are none."""
    is_score = value.dtype.kind == "f" or value.dtype in (np.uint8, np.int8)
    return is_score and value.ndim >= 2 and sum(size > 1 for size in value.shape[1:]) <= 1


def _values(
    proto: ModelProto, image: ImageInput, size: InputSpec, names: Sequence[str], where: str
) -> dict[str, Array]:
    """Returns tensors of the graph for noise around random colours, of as many images as it takes at once."""
    random = np.random.default_rng(0)
    count = image.batch or 1
    rows: dict[str, list[Array]] = {name: [] for name in names}
    try:
        run = runner(proto, names)
        for _ in range(_PROBED):
            colours = random.random((count, 3, 1, 1), np.float32)
            pixels = (colours + random.random((count, 3, image.height, image.width), np.float32)) / np.float32(2)
            for name, value in zip(names, run({image.name: image.of(pixels, size.mean, size.std)}), strict=True):
                rows[name].append(np.asarray(value))
    except ModelError as error:
        raise ModelError(f"{where}: {one_line(error)}; export it again") from None
    if any(value.ndim == 0 for values in rows.values() for value in values):
        raise ModelError(f"{where}: gives a single number for all images; name another --output-name")
    return {name: np.concatenate(values) for name, values in rows.items()}


def _numbers(value: Array, where: str, name: str) -> int:
    """Returns how many numbers a tensor has for an image."""
    if not _can_be_scores(value):
        shape = "x".join(map(str, value.shape[1:])) or "nothing"
        raise ModelError(f"{where}: {name!r} is {shape} of {value.dtype} for an image, not one number a class")
    return math.prod(value.shape[1:])


def _taken_off(tensors: Tensors, name: str) -> tuple[Literal["", "Softmax", "LogSoftmax", "Sigmoid"], str, str]:
    """Returns the operator that made scores of logits, the logits, and the scores before they were rounded."""
    inner = name
    scores = name
    node = tensors.sources.get(inner)
    while node is not None and node.op_type in bounds.PASSED:
        inner = node.input[0]
        if node.op_type == "QuantizeLinear":
            scores = inner
        node = tensors.sources.get(inner)
    if node is not None and (written_out := _softmax_of(tensors, node)) is not None:
        return "Softmax", written_out, scores
    if node is not None and node.op_type == "Softmax":
        return "Softmax", node.input[0], scores
    if node is not None and node.op_type == "LogSoftmax":
        return "LogSoftmax", node.input[0], scores
    if node is not None and node.op_type == "Sigmoid":
        return "Sigmoid", node.input[0], scores
    return "", scores, scores


def _softmax_of(tensors: Tensors, node: NodeProto) -> str | None:
    """Returns the logits of a softmax that is written out as exponents over their sum; None if it is none."""
    if node.op_type != "Div":
        return None
    exponents, total = node.input
    exponential, adding = tensors.sources.get(exponents), tensors.sources.get(total)
    if exponential is None or adding is None or (exponential.op_type, adding.op_type) != ("Exp", "ReduceSum"):
        return None
    if adding.input[0] != exponents:
        return None
    below = tensors.sources.get(exponential.input[0])
    if below is not None and below.op_type == "Sub":
        top = tensors.sources.get(below.input[1])
        if top is not None and top.op_type == "ReduceMax" and top.input[0] == below.input[0]:
            return str(below.input[0])
    return str(exponential.input[0])


def _task(wanted: TaskChoice, behind: str, form: Form, where: str) -> Task:
    several = behind == "Sigmoid" and form == "logits"
    if wanted == "auto":
        return SEVERAL_CLASSES if several else ONE_CLASS
    if several and wanted == ONE_CLASS:
        raise ConfigError(
            f"{where}: ends in a sigmoid of each class, whose scores are no multiclass ones; leave --task out"
        )
    if wanted == SEVERAL_CLASSES and (behind in ("Softmax", "LogSoftmax") or form != "logits"):
        raise ConfigError(f"{where}: gives one class an image, not several labels; leave --task out")
    return wanted
