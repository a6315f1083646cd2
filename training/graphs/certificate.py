"""The certificate of a model file: what its bytes, loaded as the robot loads them, answer, compared with torch.

Every output that the robot uses is compared, each by the measure of `spec.OutputCheck`, and each precision has its own
tolerances, which are fixed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError, one_line
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import CheckedOutput, ModelSpec, OutputCheck, ParityRecord, Precision
from training.checkpoint import Checkpoint
from training.graphs import score_map
from training.graphs.activation_map import ActivatedClassifier
from training.graphs.dilation import Dense
from training.graphs.ensembles.joint import Joint
from training.graphs.parity import BATCH, Image, ParityError, agreement, inputs
from training.networks.backbones import Split
from training.tasks.by_name import task_of
from training.tasks.scaling import Scaling, standardised

ON_CPU = SessionOptions(providers=("CPUExecutionProvider",))
"""How the file is loaded: nothing is claimed of another provider."""
TOLERANCES: Mapping[Precision, Mapping[CheckedOutput, float]] = {
    "fp32": {"logits": 1e-3, "scores": 1e-3, "activation": 1e-3, "embedding": 1e-3, "score_map": 1e-3},
    "fp16": {"logits": 5e-3, "scores": 5e-3, "activation": 5e-3, "embedding": 5e-3, "score_map": 5e-3},
    "int8": {"logits": 0.05, "scores": 0.05, "activation": 0.25, "embedding": 0.25, "score_map": 0.4},
}
"""By the measures of `spec.OutputCheck`. 8 bits spread their noise over each number of an embedding or of a map, so
that these may differ by more than the logits, which are sums of many of them."""

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Network:
    """What was exported: the network in evaluation mode, its numbers in their units, and where it was cut.

    `split` is of several networks what gives logits, embedding and activation; `dense` is the network that the score
    map is of, where that is dilated.
    """

    model: nn.Module
    split: Split | Joint
    dense: Dense | None = None


@dataclass(frozen=True, eq=False)
class _Answers:
    """Outputs for n images, of the file and of torch."""

    found: Mapping[CheckedOutput, _Floats]
    expected: Mapping[CheckedOutput, _Floats]


def tolerances(precision: Precision, of_logits: float | None) -> dict[CheckedOutput, float]:
    """Returns the tolerance of each output; where the user gives that of the logits, the others change by as much."""
    fixed = TOLERANCES[precision]
    factor = 1.0 if of_logits is None else of_logits / fixed["logits"]
    return {output: tolerance * factor for output, tolerance in fixed.items()}


def certify(
    file: OnnxModel, network: Network, checkpoint: Checkpoint, count: int, allowed: Mapping[CheckedOutput, float]
) -> ParityRecord:
    """Compares a model file with the network that it was made of.

    Args:
        file: The file, loaded from the disk as the robot loads it.
        network: In torch.
        checkpoint: Names the validation images, or else noise is taken; and what was fitted.
        count: How many images are compared at most.
        allowed: The tolerance of each output.

    Raises:
        ParityError: If an output differs by more than its tolerance, or is no finite number.
        DataError: If a validation image cannot be read any more.
    """
    spec = file.spec
    source, images = inputs(checkpoint, count)
    answers = _answers(file, network, checkpoint, images)
    largest, is_near = _logits(answers, checkpoint.scaling, spec, allowed["logits"])
    differences: dict[CheckedOutput, float] = {"logits": largest, **_others(answers, spec)}
    if spec.score_map is not None:
        assert not isinstance(network.split, Joint)  # which has none
        differences["score_map"] = _score_map(file, network.dense or Dense(network.split), checkpoint)
    checks = [_checked(output, value, allowed[output], spec) for output, value in differences.items()]
    return ParityRecord(
        source=source,
        images=len(images),
        max_logit_difference=float(_absolute(answers, checkpoint.scaling).max()),
        tolerance=allowed["logits"],
        top1_agreement=agreement(answers.found["logits"], answers.expected["logits"], is_near, checkpoint),
        provider=file.provider,
        runtime=str(onnxruntime.__version__),
        outputs=tuple(checks),
    )


def _answers(file: OnnxModel, network: Network, checkpoint: Checkpoint, images: Sequence[Image]) -> _Answers:
    """Lets both answer all images, a few at a time."""
    split = network.split
    activated = split if isinstance(split, Joint) else ActivatedClassifier(split, checkpoint.task).eval()
    ours: dict[CheckedOutput, list[_Floats]] = {}
    theirs: dict[CheckedOutput, list[_Floats]] = {}
    for start in ProgressBar(range(0, len(images), BATCH), desc="certificate", unit="batch", leave=False):
        batch = np.stack([image() for image in images[start : start + BATCH]])
        _collect(ours, _of_file(file, batch))
        _collect(theirs, _of_torch(network.model, activated, batch))
    return _Answers(*({name: np.concatenate(rows) for name, rows in side.items()} for side in (ours, theirs)))


def _collect(side: dict[CheckedOutput, list[_Floats]], answers: Mapping[CheckedOutput, _Floats]) -> None:
    for name, rows in answers.items():
        side.setdefault(name, []).append(rows)


def _of_file(file: OnnxModel, batch: _Floats) -> dict[CheckedOutput, _Floats]:
    try:
        outputs = file.run(batch)
    except FrameError as error:
        raise ParityError(f"ONNX Runtime cannot run the file ({one_line(error)}); nothing is written") from None
    found: dict[CheckedOutput, _Floats] = {
        "logits": np.stack([one.logits for one in outputs]),
        "embedding": np.stack([one.embedding for one in outputs]),
    }
    maps = [one.activation for one in outputs if one.activation is not None]
    return found | {"activation": np.stack(maps)} if maps else found


@torch.no_grad()
def _of_torch(model: nn.Module, activated: nn.Module, batch: _Floats) -> dict[CheckedOutput, _Floats]:
    images = torch.from_numpy(batch)
    _, embedding, *rest = (output.numpy() for output in activated(images))
    # the logits are those of the network as a whole, which knows nothing of where it was cut
    found: dict[CheckedOutput, _Floats] = {"logits": model(images).numpy(), "embedding": embedding}
    return found | {"activation": rest[0]} if rest else found


def _absolute(answers: _Answers, scaling: Scaling) -> _Floats:
    """By how much each logit differs, (n, K); of a number in its standard deviations."""
    pairs = [standardised(side["logits"], scaling) for side in (answers.found, answers.expected)]
    return np.asarray(np.abs(pairs[0] - pairs[1]), np.float32)


def _logits(
    answers: _Answers, scaling: Scaling, spec: ModelSpec, tolerance: float
) -> tuple[float, npt.NDArray[np.bool_]]:
    """Returns the largest difference of the logits by the measure of the precision, and which of them are near."""
    differences = _absolute(answers, scaling)
    if not np.isfinite(differences).all():
        raise _too_far("logits", float(np.abs(differences).max()), tolerance, spec)
    scale = 1.0
    if spec.precision.precision != "fp32":
        scale = max(float(np.ptp(standardised(answers.expected["logits"], scaling))), 1e-20)
    return float(differences.max()) / scale, differences <= tolerance * scale


def _others(answers: _Answers, spec: ModelSpec) -> dict[CheckedOutput, float]:
    """Returns the differences of what the robot makes of the logits, and of embedding and activation map."""
    task = task_of(spec.task)
    differences: dict[CheckedOutput, float] = {}
    if task.has_probabilities:
        ours, theirs = (
            task.probabilities(side["logits"], spec.temperature) for side in (answers.found, answers.expected)
        )
        differences["scores"] = float(np.abs(ours - theirs).max(axis=1).mean())
    differences["embedding"] = score_map.relative(answers.found["embedding"], answers.expected["embedding"])
    if "activation" in answers.found:
        same = answers.found["logits"].argmax(1) == answers.expected["logits"].argmax(1)
        shown = same if task.has_probabilities else np.ones_like(same)  # else the maps are of other classes
        maps = (side["activation"][shown] for side in (answers.found, answers.expected))
        differences["activation"] = score_map.relative(*maps) if shown.any() else 0.0
    return differences


def _score_map(file: OnnxModel, dense: Dense, checkpoint: Checkpoint) -> float:
    place = file.score_map_place()
    image = score_map.larger_image(checkpoint, place)
    expected = score_map.map_of_torch(dense, torch.from_numpy(image))
    try:
        return score_map.relative(file.score_map(image), expected)
    except FrameError as error:
        raise ParityError(f"its score map cannot be computed ({one_line(error)}); nothing is written") from None


def _checked(output: CheckedOutput, difference: float, tolerance: float, spec: ModelSpec) -> OutputCheck:
    if not difference <= tolerance:  # catches NaN, too
        raise _too_far(output, difference, tolerance, spec)
    return OutputCheck(output, difference, tolerance)


_MEASURES: Mapping[CheckedOutput, str] = {
    "scores": "on average", "embedding": "of its size", "activation": "of its size", "score_map": "of its size",
}  # fmt: skip


def _too_far(output: CheckedOutput, difference: float, tolerance: float, spec: ModelSpec) -> ParityError:
    precision = spec.precision.precision
    measure = _MEASURES.get(output, "" if precision == "fp32" else "of their range")
    remedy = "see --tolerance" if precision == "fp32" else "export it in fp32"
    differs = f"differs by {difference:.3g} {measure}".rstrip()
    return ParityError(
        f"the output {output} of the {precision} file {differs} from torch's, tolerance {tolerance:g}; nothing is "
        f"written; {remedy}"
    )
