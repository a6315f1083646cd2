"""The images of a batch as torchvision's tutorials and reference scripts prepare them."""

from __future__ import annotations

from torchvision import transforms  # type: ignore[import-untyped]

from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD

TENSOR = (transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD))
"""What ends all of them."""
TRAINING = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *TENSOR])
"""Source: the PyTorch tutorial "Transfer Learning for Computer Vision"."""
EVALUATION = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *TENSOR])
"""Source: likewise."""
