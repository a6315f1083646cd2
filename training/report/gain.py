"""What fine-tuning gained: over the network that it began with, and over a probe of the features that it began with.

All three answer the same validation images, so that what is compared is image by image: far smaller differences can be
told apart than by two figures with an interval each.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cnn_perception.errors import ConfigError
from cnn_perception.intervals import Estimate, PairedDifference, paired, paired_mean
from training import distributed
from training.calibration import embeddings
from training.data.records import Sample
from training.loop import probe
from training.loop.run import EpochRecord, Run
from training.networks.weights import classifier_name
from training.run_files import write_text
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles

FILE = "baseline.json"
"""What the run began with, for each validation image; a continued run has it from its start."""
_LEAST_LEARNED = 0.1
"""Share of what is to be gained over chance below which next to nothing was learned."""
_FEWEST_EPOCHS = 4
"""Of fewer it cannot be told whether they jump about."""
_LEAST_LEFT = 0.5
"""Share of what the best epoch had learned over chance that the last one has at least where training is steady."""
_SETTINGS = "take another --lr, which --find-lr suggests, or the settings of a --recipe"
Qualities = dict[str, float]
"""How well each image was answered, by its path: 1 or 0 where it has one class, else minus its loss."""


@dataclass(frozen=True)
class Gain:
    """What was gained over one beginning.

    Attributes:
        over: Which: the network that fine-tuning began with (`start`), or a probe of its features (`probe`).
        difference: Of the shares of right answers; of the mean losses where an image has several classes, or numbers.
        paired: How many images were won and lost; None for losses.
    """

    over: str
    difference: Estimate
    paired: PairedDifference | None

    def in_words(self) -> str:
        """Returns what was gained, in one line."""
        name = {"start": "the network it began with", "probe": "a probe of its features"}[self.over]
        low, high = self.difference.low, self.difference.high
        if self.paired is None:
            return f"fine-tuning over {name}: loss lower by {self.difference.value:.3g} (95 %: {low:.3g} to {high:.3g})"
        points = f"{100 * self.difference.value:+.1f} points (95 %: {100 * low:+.1f} to {100 * high:+.1f})"
        won = f"{self.paired.gained} images won, {self.paired.lost} lost"
        return f"fine-tuning over {name}: {points}, {won} of {self.paired.images}, chance {self.paired.chance:.2g}"


def note_beginning(run: Run) -> None:
    """Leaves in the run's folder how the network and a probe of its features answer the validation images now.

    The network is as before afterwards. Where it ends in no linear layer there is no probe; where its head is going to
    begin as that of a probe, that is the beginning.

    Args:
        run: What is to be fine-tuned.
    """
    layer = run.model.get_submodule(classifier_name(run.model))
    before = copy.deepcopy(layer)
    has_probe = True
    try:
        probe.start_head(run)
    except ConfigError:
        has_probe = False
    found = embeddings.predict(run.model, run.evaluation_batches("val"), run.device, "the beginning")
    beginnings = {"probe": found.logits} if has_probe else {"start": found.logits}
    if has_probe and run.config.head_init != "probe":
        with torch.inference_mode():
            beginnings["start"] = before(torch.from_numpy(found.embeddings).to(run.device)).float().cpu().numpy()
    layer.load_state_dict(before.state_dict())
    task = task_of(run.data.task)
    answered = {
        name: _of_images(run, found.samples, task.probabilities(logits, 1.0)) for name, logits in beginnings.items()
    }
    if distributed.rank() == 0:
        write_text(run.folder / FILE, json.dumps(answered) + "\n")


def gains(run: Run, samples: tuple[Sample, ...], scores: Doubles) -> list[Gain]:
    """Returns what a run gained over each beginning; nothing where it left none.

    Args:
        run: The run.
        samples: The n validation images that could be read.
        scores: (n, K) of the network that it ended with, see `LearningTask.probabilities`.
    """
    path = run.folder / FILE
    if run.config.mode != "finetune" or not path.is_file():
        return []
    now = _of_images(run, samples, scores)
    beginnings: Mapping[str, Qualities] = json.loads(path.read_text())
    found = (_gain(over, now, before, is_hit=task_of(run.data.task).one_class) for over, before in beginnings.items())
    return [gain for gain in found if gain is not None]


def warning(found: list[Gain]) -> str:
    """Returns what to say where fine-tuning gained nothing that chance does not explain; empty otherwise."""
    if not found or min(gain.difference.low for gain in found) > 0:
        return ""
    least = min(found, key=lambda gain: gain.difference.low)
    name = {"start": "the network it began with", "probe": "a probe: --mode probe may do as well, in minutes"}[
        least.over
    ]
    return f"warning: no gain of fine-tuning is proven over {name}"


def chance_warning(val: Mapping[str, Any]) -> str:
    """Returns `hardly_learned` of a network that was trained here, as a warning."""
    told = hardly_learned(val, _SETTINGS)
    return f"warning: {told}" if told else ""


def unsteady_warning(history: Sequence[EpochRecord], classes: int) -> str:
    """Returns what to say of a run that has lost again most of what its best epoch had learned; empty of all others.

    What is kept is the best epoch: of a training that jumps about it is the luckiest jump.

    Args:
        history: Its epochs.
        classes: How many are told apart by top-1; other metrics are not judged.
    """
    if len(history) < _FEWEST_EPOCHS or history[-1].metric != "top1":
        return ""
    best, last = max(history, key=lambda epoch: epoch.val_metric), history[-1]
    chance = 1 / classes
    if last.val_metric - chance >= _LEAST_LEFT * (best.val_metric - chance):
        return ""
    return (
        f"warning: its training was not steady: validation top-1 {last.val_metric:.1%} in the last epoch, "
        f"{best.val_metric:.1%} in the best, {best.epoch}; the learning rate is too high: {_SETTINGS}"
    )


def hardly_learned(val: Mapping[str, Any], cure: str) -> str:
    """Returns what to say of classes that are told apart hardly better than by chance; empty of all others.

    Args:
        val: The scores of the validation images, as report.json keeps them.
        cure: What to do then.
    """
    found = val.get("balanced_accuracy")
    if found is None:
        return ""
    chance = 1 / len(val["per_class"])
    if found >= min(2 * chance, chance + _LEAST_LEARNED * (1 - chance)):
        return ""
    return f"it has learned next to nothing: balanced accuracy {found:.1%}, by chance {chance:.1%}; {cure}"


def as_json(found: list[Gain]) -> dict[str, Any]:
    """Returns the gains as report.json keeps them, by what they are over."""
    rows: dict[str, Any] = {}
    for gain in found:
        ends = {"difference": gain.difference.value, "interval": [gain.difference.low, gain.difference.high]}
        pairs = {} if gain.paired is None else {"gained": gain.paired.gained, "lost": gain.paired.lost}
        chance = {} if gain.paired is None else {"images": gain.paired.images, "chance": gain.paired.chance}
        rows[gain.over] = ends | pairs | chance
    return rows


def _gain(over: str, now: Qualities, before: Qualities, *, is_hit: bool) -> Gain | None:
    common = [path for path in now if path in before]
    if not common:
        return None
    ours = np.array([now[path] for path in common])
    theirs = np.array([before[path] for path in common])
    if not is_hit:
        return Gain(over, paired_mean(ours - theirs), None)
    found = paired(ours > 0.5, theirs > 0.5)
    return Gain(over, found.difference, found)


def _of_images(run: Run, samples: tuple[Sample, ...], scores: Doubles) -> Qualities:
    task = task_of(run.data.task)
    truth = task.targets(samples)
    values: npt.NDArray[np.float64] = (
        (scores.argmax(axis=1) == truth).astype(np.float64) if task.one_class else -task.image_losses(scores, truth)
    )
    # undecodable bytes of a path become escapes in the file, and so here
    paths = [str(Path(sample.path)).encode(errors="backslashreplace").decode() for sample in samples]
    return dict(zip(paths, values.tolist(), strict=True))
