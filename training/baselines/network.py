"""A network beside the baselines: its own answers, and a linear layer on what it sees before it decides."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cnn_perception.model.spec import InputSpec
from training.baselines import fitting, methods
from training.baselines.rows import Cost, Row
from training.batches.loader import Images, Order, data_loader
from training.batches.workers import affordable
from training.calibration import embeddings
from training.calibration.embeddings import Predictions
from training.config import TrainConfig
from training.data.records import LabelledImages, Sample
from training.networks.weights import classifier_name
from training.tasks.by_name import task_of

_TIMED = 16
"""Images of the batch by which a network's time is measured."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network and how images reach it.

    Attributes:
        name: What it is called in the table.
        model: It, on its device.
        input: Its preprocessing.
        device: Where it computes.
        batch_size: Images a step.
        workers: Processes that load images.
    """

    name: str
    model: nn.Module
    input: InputSpec
    device: torch.device
    batch_size: int
    workers: int

    def seen(self, samples: Sequence[Sample], title: str) -> Predictions:
        """Returns its logits of images, and what it sees in them before it decides.

        Raises:
            DataError: If none of them can be read.
        """
        images = Images(tuple(samples), self.input)
        workers = affordable(self.workers, (self.batch_size, *images.shape))
        loader = data_loader(images, Order(len(images), self.batch_size, None), workers, self.device.type == "cuda")
        return embeddings.predict(self.model, loader, self.device, title)

    def cost(self, fit_s: float | None) -> Cost:
        """Returns what its answers cost; its training took so many seconds."""
        return Cost(fit_s, ms_per_image(self.model, self.input, self.device), weights_bytes(self.model))


@torch.inference_mode()
def ms_per_image(model: nn.Module, spec: InputSpec, device: torch.device) -> float:
    """Returns what a network takes for an image of a batch, the best of three times, in ms."""
    model.eval()
    batch = torch.zeros(_TIMED, 3, spec.height, spec.width, device=device).to(memory_format=torch.channels_last)
    took = []
    for _ in range(3):
        started = time.perf_counter()
        model(batch).cpu()  # which waits for a GPU
        took.append(time.perf_counter() - started)
    return 1000 * min(took) / _TIMED


def weights_bytes(model: nn.Module) -> int:
    """Returns the bytes of a network's weights and of its other stored tensors."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _body_bytes(model: nn.Module) -> int:
    """The same without the last layer."""
    return weights_bytes(model) - weights_bytes(model.get_submodule(classifier_name(model)))


def own_row(network: Network, seen: Predictions, data: LabelledImages, fit_s: float | None) -> Row:
    """Returns the row of a network's own answers."""
    return Row(network.name, True, "", None, network.cost(fit_s), seen.samples, seen.logits, data)


def frozen_row(
    network: Network, samples: Sequence[Sample], answered: Predictions, data: LabelledImages, config: TrainConfig
) -> Row:
    """Fits a linear layer to the features of a network, and returns its row.

    Args:
        network: It learns nothing.
        samples: The training images that are used.
        answered: What the network sees in the images to answer.
        data: What the labels mean.
        config: Says how the images were divided, and the seed.

    Raises:
        DataError: If the images can no longer be read.
    """
    task = task_of(data.task)
    method = methods.frozen(task, network.name)
    started = time.perf_counter()
    train = network.seen(samples, f"features of {network.name}, train")
    seconds = time.perf_counter() - started
    lesson = fitting.Lesson.of(train.samples, data, config)
    with fitting.begun(lesson.fits(method), method.name) as begin:
        one = fitting.fit(method, train.embeddings, lesson, seconds, begin)
    started = time.perf_counter()
    outputs = methods.outputs(one.estimator, answered.embeddings, task, len(data.class_names))
    own = 1000 * (time.perf_counter() - started) / len(answered)
    body = Cost(None, ms_per_image(network.model, network.input, network.device), _body_bytes(network.model))
    cost = body.plus(Cost(one.seconds, own, methods.stored_bytes(one.estimator)))
    return Row(method.name, True, method.chosen(one.value), one.images, cost, answered.samples, outputs, data)
