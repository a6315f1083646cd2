"""Several classifiers as one network: image -> logits of their mean score, embeddings side by side, activation map.

Each member's logits are divided by its own temperature, and its scores are averaged; the logits are those of the mean
score, by `LearningTask.together`. Each embedding is scaled to the length 1, so that all members count alike where
embeddings are compared. The activation map is that of the class with the highest mean score, in each member's own
features: what changes the logit of the mean is the sum of what changes each member's logit, each by its share
(`LearningTask.shares`), so the map is the sum of the members' gradient maps weighted likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_perception.model.spec import InputSpec, Task
from training.batches.recolour import recoloured
from training.graphs.activation_map import ClassWeights, shown_logit
from training.networks.backbones import Split
from training.tasks.by_name import task_of


@dataclass(frozen=True, eq=False)
class Member:
    """One network of several.

    Attributes:
        model: The whole network, in evaluation mode.
        split: The same, cut at its last spatial features.
        temperature: By which its logits are divided before they are averaged.
        input: Its preprocessing, which may differ from that of the whole in mean and standard deviation alone.
    """

    model: nn.Module
    split: Split
    temperature: float
    input: InputSpec


class MeanScore(nn.Module):
    """Image -> logits (N, K) of the mean score, of whole networks that know nothing of where they were cut."""

    def __init__(self, members: Sequence[Member], task: Task, size: InputSpec) -> None:
        super().__init__()
        self.colours = nn.ModuleList(recoloured(size, member.input) for member in members)
        self.networks = nn.ModuleList(member.model for member in members)
        self.temperatures = tuple(member.temperature for member in members)
        self.task: Task = task

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits."""
        steps = zip(self.colours, self.networks, self.temperatures, strict=True)
        outputs = [network(colour(image)) / temperature for colour, network, temperature in steps]
        return task_of(self.task).together(torch.stack(outputs))


class Joint(nn.Module):
    """Image (N, 3, H, W) -> logits (N, K), embedding (N, D) and, where it has one, activation (N, h, w).

    Attributes:
        has_map: Whether all members have features of the same cells, of which the activation map is made.
    """

    def __init__(self, members: Sequence[Member], task: Task, size: InputSpec) -> None:
        super().__init__()
        splits = [member.split for member in members]
        self.colours = nn.ModuleList(recoloured(size, member.input) for member in members)
        self.bodies = nn.ModuleList(split.body for split in splits)
        self.heads = nn.ModuleList(split.head for split in splits)
        self.temperatures = tuple(member.temperature for member in members)
        self.task: Task = task
        grids = {split.feature_shape[1:] for split in splits}
        self.has_map = len(grids) == 1 and all(split.spatial for split in splits)
        self.weights = nn.ModuleList(ClassWeights(split) for split in splits if self.has_map)

    def without_map(self) -> Joint:
        """Returns the same network, which gives no activation map from now on."""
        self.has_map = False
        self.weights = nn.ModuleList()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns logits, embedding, and the activation where there is a map."""
        return self.outputs(image)[: 3 if self.has_map else 2]

    def outputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the same and then the features of each member."""
        features = [body(colour(image)) for body, colour in zip(self.bodies, self.colours, strict=True)]
        answers = [head(found) for head, found in zip(self.heads, features, strict=True)]
        scaled = [logits / of for (logits, _), of in zip(answers, self.temperatures, strict=True)]
        members = torch.stack(scaled)
        logits = task_of(self.task).together(members)
        embedding = torch.cat([functional.normalize(found, dim=1) for _, found in answers], dim=1)
        if not self.has_map:
            return (logits, embedding, *features)
        classes = shown_logit(logits, self.task)
        return (logits, embedding, self._map(features, members, classes), *features)

    def shares(self, members: Tensor, classes: Tensor) -> Tensor:
        """Returns by how much the logit of a class (N,) changes with that logit of each member, (M, N)."""
        found = task_of(self.task).shares(members)
        chosen = found.gather(2, classes.reshape(1, -1, 1).expand(len(found), -1, 1))[:, :, 0]
        return chosen / chosen.new_tensor(self.temperatures)[:, None]

    def _map(self, features: Sequence[Tensor], members: Tensor, classes: Tensor) -> Tensor:
        shares = self.shares(members, classes)
        total = torch.zeros_like(features[0][:, 0])
        for index, (found, weights) in enumerate(zip(features, self.weights, strict=True)):
            count, channels, rows, columns = found.shape
            alpha = weights(found, classes) * shares[index][:, None]
            own = alpha.reshape(count, 1, channels) @ found.reshape(count, channels, rows * columns)
            total = total + own.reshape(count, rows, columns)
        return total


class Traced(nn.Module):
    """What is exported of `Joint`: its outputs with the features, by which their cells and the heads are found."""

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns logits, embedding, perhaps the activation, and the features of each member."""
        return self.joint.outputs(image)


def map_by_autograd(joint: Joint, images: Tensor, classes: Tensor) -> Tensor:
    """Returns the activation maps (N, h, w) by torch's own gradient of each member's whole head.

    Args:
        joint: The network, which has a map.
        images: (N, 3, H, W).
        classes: (N,), of which class the map of each is.
    """
    with torch.no_grad():
        features = [body(colour(images)) for body, colour in zip(joint.bodies, joint.colours, strict=True)]
    entered = [found.clone().requires_grad_(True) for found in features]
    # torchvision's heads work in place
    logits = [head(found.clone())[0] for head, found in zip(joint.heads, entered, strict=True)]
    members = torch.stack([found / of for found, of in zip(logits, joint.temperatures, strict=True)]).detach()
    shares = joint.shares(members, classes)
    maps = []
    for found, own, share in zip(entered, logits, shares, strict=True):
        (gradient,) = torch.autograd.grad(own.gather(1, classes[:, None]).sum(), found)
        weights = gradient.mean((2, 3), keepdim=True) * share[:, None, None, None]
        maps.append((weights * found.detach()).sum(1))
    return torch.stack(maps).sum(0)
