"""What is promised of networks of timm, tried out: one family a row.

    python -m benchmark.timm_table
    python -m benchmark.timm_table vit_tiny_patch16_224 coatnet_pico_rw_224

Each is built with random weights for two classes, probed and fine-tuned on a few drawn pictures (head, last stage,
all), and exported. A row says what came of it: the input in pixels, parameters, which trainings ended and why one did
not, the largest difference of a logit between torch and the file, what the activation map is, whether there is a score
map, and what a cell of the features sees. The difference is that of four images of noise over how far their logits lie
apart: a network that has learned next to nothing answers all images alike, so its biases and its last layer are drawn
anew before. Needs `pip install timm`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from cnn_perception.errors import PerceptionError, one_line
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import ModelSpec
from training import checkpoint, train
from training.export import export
from training.networks import backbones, build

FAMILIES = {
    "resnet10t": "ResNet", "resnetv2_18": "ResNet v2", "regnety_002": "RegNet", "densenet121": "DenseNet",
    "vgg11": "VGG", "efficientnet_b0": "EfficientNet", "tf_efficientnetv2_b0": "EfficientNet v2",
    "mobilenetv3_small_050": "MobileNet v3", "mobilenetv4_conv_small": "MobileNet v4", "ghostnet_050": "GhostNet",
    "hgnetv2_b0": "HGNet v2", "convnext_atto": "ConvNeXt", "convnextv2_atto": "ConvNeXt v2",
    "mambaout_femto": "MambaOut",
    "edgenext_xx_small": "EdgeNeXt", "mobilevit_xxs": "MobileViT", "coatnet_pico_rw_224": "CoAtNet",
    "swin_tiny_patch4_window7_224": "Swin", "poolformer_s12": "PoolFormer", "mixer_s32_224": "MLP-Mixer",
    "vit_tiny_patch16_224": "ViT", "vit_small_patch14_dinov2": "DINOv2", "eva02_tiny_patch14_224": "EVA-02",
    "cait_xxs24_224": "CaiT",
}  # fmt: skip
"""A small member of each family, and its name."""
_SIZES = {"convnext_atto": 96, "densenet121": 96, "vgg11": 96}
"""Pixels of a side where it is another one than 224: some networks have one size only, and others are quick at less."""
_SHORT = 120
"""Characters of a refusal."""
_HEADER = (
    "family",
    "network",
    "input",
    "parameters",
    "trains",
    "logits differ, of their spread",
    "activation map",
    "score map",
    "a cell sees",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.timm_table", description="Tries out networks of timm.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of them; all by default")
    names = parser.parse_args(argv).names or list(FAMILIES)
    print("| " + " | ".join(_HEADER) + " |\n|" + "---|" * len(_HEADER), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = _pictures(Path(folder, "pictures"))
        for name in names:
            print("| " + " | ".join(_row(name, data, Path(folder))) + " |", flush=True)
    return 0


def _pictures(folder: Path) -> Path:
    """Draws a few pictures of two classes, whose halves are light or dark."""
    random = np.random.default_rng(0)
    for label in ("left", "right"):
        (folder / label).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 120, (64, 64, 3), np.uint8)
            pixels[:, : 32 if label == "left" else 0] += 120
            pixels[:, 32 if label == "right" else 64 :] += 120
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def _row(name: str, data: Path, folder: Path) -> list[str]:
    """Returns the cells of a row; where a step fails, what it says."""
    size = _SIZES.get(name, 224)
    title = [FAMILIES.get(name, ""), name, str(size)]
    refusals = {mode: _refusal(name, mode, data, folder / f"{name}_{mode}") for mode in ("probe", "finetune")}
    trains = ", ".join(f"no {mode}: {text}" if text else mode for mode, text in refusals.items())
    ended = [mode for mode, text in refusals.items() if not text]
    if not ended:
        return [*title, "", trains, "", "", "", ""]
    saved = checkpoint.load(folder / f"{name}_{ended[-1]}" / "best.pt")
    model = drawn_anew(build.restore(saved))
    file = folder / f"{name}.onnx"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            spec = export(dataclasses.replace(saved, model=model.state_dict()), file, parity_images=2)
    except PerceptionError as error:
        return [*title, "", trains, one_line(error, _SHORT), "", "", ""]
    parameters = sum(value.numel() for value in model.parameters())
    difference = f"{_difference(model, file, (size, size)):.1e}"
    file.unlink()
    return [*title, f"{parameters / 1e6:.1f} M", trains, difference, *_of_spec(spec)]


def drawn_anew(model: nn.Module) -> nn.Module:
    """Returns a network with other biases and another last layer, so that its answers differ from image to image."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.05)
    last = model.get_submodule(backbones.classifier_name(model))
    nn.init.normal_(last.get_parameter("weight"), std=0.3)
    return model.eval()


def _difference(model: nn.Module, file: Path, size: tuple[int, int]) -> float:
    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images).numpy()
    outputs = OnnxModel(file, SessionOptions(providers=("CPUExecutionProvider",))).run(images.numpy(), activation=False)
    answered = np.stack([one.logits for one in outputs])
    return float(np.abs(answered - expected).max() / np.ptp(expected, axis=0).max())


def _of_spec(spec: ModelSpec) -> list[str]:
    if spec.activation is None:
        return ["none", "no", ""]
    kinds = {"cam": "exact", "grad-cam": "gradient of the head"}
    down, right = spec.activation.receptive_field
    sees = f"{down}x{right}" if down and right else "all"
    return [kinds[spec.activation.method], "no" if spec.score_map is None else "yes", sees]


def _refusal(name: str, mode: str, data: Path, output: Path) -> str:
    """Trains a network; returns why it cannot be trained in this way, empty if it was."""
    size = str(_SIZES.get(name, 224))
    words = ["--data", str(data), "--output", str(output), "--mode", mode, "--backbone", f"timm:{name}"]
    words += ["--weights", "none", "--input-size", size, "--workers", "0", "--unknown", "none", "--baselines", "none"]
    if mode == "finetune":
        words += ["--epochs", "3", "--head-epochs", "1", "--last-stage-epochs", "1", "--cache-gb", "0"]
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = train.main([*words, "--batch-size", "4"])
    lines = [line for line in said.getvalue().splitlines() if line.startswith("error: ")] or [f"exit code {code}"]
    return lines[-1].removeprefix("error: ")[:_SHORT] if code else ""


if __name__ == "__main__":
    sys.exit(main())
