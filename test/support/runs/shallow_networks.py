"""Networks of torchvision with few of their blocks: those are all alike, and take half a minute to trace."""

from __future__ import annotations

import pytest
from torchvision import models

DEPTHS = {models.VisionTransformer: {"num_layers": 3}, models.SwinTransformer: {"depths": [1] * 4}}


def make_shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives every ViT three blocks in place of 12 or more, and every Swin one block a stage."""
    for network, depth in DEPTHS.items():
        begin = network.__init__

        def begin_shallow(self, *, _begin=begin, _depth=depth, **options):
            _begin(self, **{**options, **_depth})

        monkeypatch.setattr(network, "__init__", begin_shallow)
