"""The certificate of an adopted file: what its bytes, loaded as the robot loads them, answer, beside the original.

Each image goes two ways: prepared for the robot and through the file; and through what the original takes, its layout,
type and range, and the original graph. That both say the same says nothing of how the original was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import onnxruntime

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError, one_line
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import CheckedOutput, InputSpec, ModelSpec, OutputCheck, ParityRecord, ParitySource
from training.adopt.reference import Reference
from training.graphs.parity import Image, ParityError
from training.graphs.score_map import relative
from training.tasks.by_name import task_of

NOISE_IMAGES = 16
Answers = dict[CheckedOutput, FloatArray]


def noise(size: InputSpec) -> list[Image]:
    """Returns images of random pixels, as the robot would prepare them."""
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (size.mean, size.std))

    def made(seed: int) -> FloatArray:
        random = np.random.default_rng(seed)
        cells = random.integers(0, 256, (3, size.height // 8 + 1, size.width // 8 + 1))
        coarse = np.kron(cells, np.ones((8, 8)))[:, : size.height, : size.width]
        pixels = np.clip(coarse + random.integers(-32, 33, coarse.shape), 0, 255) / 255
        return np.asarray((pixels - mean) / std, np.float32)

    return [partial(made, seed) for seed in range(NOISE_IMAGES)]


def certify(
    file: OnnxModel,
    reference: Reference,
    images: Sequence[Image],
    source: ParitySource,
    allowed: Mapping[CheckedOutput, float],
) -> ParityRecord:
    """Compares an adopted file with the original graph.

    Args:
        file: Loaded from the disk as the robot loads it.
        reference: The original.
        images: As the robot prepares them.
        source: What they are.
        allowed: The tolerance of each output.

    Raises:
        ParityError: If an output differs by more than its tolerance, or is no finite number.
        DataError: If an image cannot be read any more.
    """
    ours, theirs = _both(file, reference, images)
    spec = file.spec
    _require_same_scores(ours["logits"], theirs["scores"], reference, allowed["scores"])
    differences = _differences(ours, theirs, spec)
    largest = float(np.abs(theirs["logits"]).max())
    checks = [_checked(output, value, allowed[output], largest) for output, value in differences.items()]
    absolute = np.abs(ours["logits"] - theirs["logits"])
    return ParityRecord(
        source=source,
        images=len(images),
        max_logit_difference=float(absolute.max()),
        tolerance=allowed["logits"],
        top1_agreement=_agreement(ours["logits"], theirs["logits"], absolute <= allowed["logits"], spec),
        provider=file.provider,
        runtime=str(onnxruntime.__version__),
        outputs=tuple(checks),
    )


def _both(file: OnnxModel, reference: Reference, images: Sequence[Image]) -> tuple[Answers, Answers]:
    """Returns the answers of the file and of the original, rows of images."""
    ours: dict[CheckedOutput, list[FloatArray]] = {}
    theirs: dict[CheckedOutput, list[FloatArray]] = {}
    for image in ProgressBar(images, desc="certificate", unit="img", leave=False):
        tensor = image()
        for side, answers in ((ours, _of_file(file, tensor)), (theirs, reference.answers(tensor))):
            for name, values in answers.items():
                side.setdefault(name, []).append(values)
    stacked = [{name: np.stack(rows) for name, rows in side.items()} for side in (ours, theirs)]
    return stacked[0], stacked[1]


def _of_file(file: OnnxModel, tensor: FloatArray) -> Answers:
    try:
        (outputs,) = file.run(tensor[np.newaxis])
    except FrameError as error:
        raise ParityError(
            f"ONNX Runtime cannot run the adopted graph ({one_line(error)}); nothing is written"
        ) from None
    found: Answers = {"logits": outputs.logits, "embedding": outputs.embedding}
    return found | ({"activation": outputs.activation} if outputs.activation is not None else {})


def _require_same_scores(logits: FloatArray, stated: FloatArray, reference: Reference, tolerance: float) -> None:
    """Checks that softmax or sigmoid of the logits is what the original states: that the right one was taken off."""
    if not reference.states_scores:
        return
    scores = task_of(reference.task).probabilities(logits, 1.0)
    difference = float(np.abs(scores - stated).max())
    if not difference <= max(tolerance, 1e-3):
        raise ParityError(
            f"the scores of the adopted graph differ by {difference:.3g} from those that the original states; nothing "
            "is written; name the tensor of the logits by --output-name"
        )


def _differences(ours: Answers, theirs: Answers, spec: ModelSpec) -> dict[CheckedOutput, float]:
    """Returns the differences by the measures of `spec.OutputCheck`."""
    task = task_of(spec.task)
    scale = 1.0
    if spec.precision.precision != "fp32":
        scale = max(float(np.ptp(theirs["logits"])), 1e-20)
    scores, stated = (task.probabilities(side["logits"], spec.temperature) for side in (ours, theirs))
    found: dict[CheckedOutput, float] = {
        "logits": float(np.abs(ours["logits"] - theirs["logits"]).max()) / scale,
        "scores": float(np.abs(scores - stated).max(axis=1).mean()),
        "embedding": relative(ours["embedding"], theirs["embedding"]),
    }
    if "activation" in ours:
        same = ours["logits"].argmax(1) == theirs["logits"].argmax(1)  # else the maps are of other classes
        maps = (side["activation"][same] for side in (ours, theirs))
        found["activation"] = relative(*maps) if same.any() else 0.0
    return found


def _agreement(ours: FloatArray, theirs: FloatArray, is_near: npt.NDArray[np.bool_], spec: ModelSpec) -> float:
    """Returns the share of images that both decide alike, see `LearningTask.agrees`."""
    decided = [side.astype(np.float64) / spec.temperature for side in (ours, theirs)]
    return float(task_of(spec.task).agrees(decided[0], decided[1], is_near, spec.thresholds).mean())


def _checked(output: CheckedOutput, difference: float, tolerance: float, largest: float) -> OutputCheck:
    if not difference <= tolerance:  # catches NaN, too
        raise ParityError(
            f"the output {output} of the adopted graph differs by {difference:.3g} from the original's, tolerance "
            f"{tolerance:g} (logits up to {largest:.3g}); nothing is written; see --tolerance"
        )
    return OutputCheck(output, difference, tolerance)
