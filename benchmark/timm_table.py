"""What is promised of networks of timm, tried out: one family a row.

    python -m benchmark.timm_table
    python -m benchmark.timm_table vit_tiny_patch16_224 coatnet_pico_rw_224

Each is built with random weights for two classes, probed and fine-tuned on a few drawn pictures (head, last stage,
all), and exported. A row says what came of it: parameters, whether both trainings ended and what they took, the largest
difference of a logit between torch and the file, what the activation map is, whether there is a score map, and what a
cell of the features sees. Needs `pip install timm`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_perception.errors import PerceptionError
from cnn_perception.model.onnx_file import read_onnx_file
from cnn_perception.model.spec import METADATA_KEY, ModelSpec
from training import checkpoint, export, train

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
_HEADER = (
    "family",
    "network",
    "parameters",
    "trains",
    "logits differ by",
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
    said = io.StringIO()
    title = [FAMILIES.get(name, ""), name]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ways = [mode for mode in ("probe", "finetune") if _trained(name, mode, data, folder / f"{name}_{mode}")]
        best = folder / f"{name}_{ways[-1]}" / "best.pt" if ways else None
        try:
            spec = _exported(best, folder / f"{name}.onnx") if best else None
        except PerceptionError as error:
            return [*title, "", " and ".join(ways), str(error)[:120], "", "", ""]
    if best is None or spec is None:
        return [*title, "", (said.getvalue().strip().splitlines() or ["no"])[-1][:120], "", "", "", ""]
    parameters = sum(value.numel() for key, value in checkpoint.load(best).model.items() if "running_" not in key)
    return [*title, f"{parameters / 1e6:.1f} M", " and ".join(ways), *_of_spec(spec)]


def _of_spec(spec: ModelSpec) -> list[str]:
    difference = f"{spec.parity.max_logit_difference:.1e}"
    if spec.activation is None:
        return [difference, "none", "no", ""]
    kinds = {"cam": "exact", "grad-cam": "gradient of the head"}
    down, right = spec.activation.receptive_field
    sees = f"{down}x{right}" if down and right else "all"
    return [difference, kinds[spec.activation.method], "no" if spec.score_map is None else "yes", sees]


def _trained(name: str, mode: str, data: Path, output: Path) -> bool:
    size = str(_SIZES.get(name, 224))
    words = ["--data", str(data), "--output", str(output), "--mode", mode, "--backbone", f"timm:{name}"]
    words += ["--weights", "none", "--input-size", size, "--workers", "0", "--unknown", "none", "--baselines", "none"]
    if mode == "finetune":
        words += ["--epochs", "3", "--head-epochs", "1", "--last-stage-epochs", "1", "--cache-gb", "0"]
    return train.main([*words, "--batch-size", "4"]) == 0


def _exported(best: Path, output: Path) -> ModelSpec:
    words = ["--checkpoint", str(best), "--output", str(output), "--parity-images", "2"]
    code = export.main(words)
    if code:
        raise PerceptionError(f"export ends with {code}")
    spec = ModelSpec.from_json(read_onnx_file(output).metadata[METADATA_KEY])
    output.unlink()
    return spec


if __name__ == "__main__":
    sys.exit(main())
