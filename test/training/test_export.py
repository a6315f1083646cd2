"""Owns: the model file: that ONNX Runtime computes what torch does, the activation map, the description inside.

Leaves to others: where a network is cut (test_backbones), what its cells see (test_receptive_field).
"""

from __future__ import annotations

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from checkpoints import CLASSES, checkpoint_of
from paths import SHARED_DATA
from PIL import Image
from shallow_networks import make_shallow
from torch import nn
from torchvision import models

from cnn_perception import errors
from cnn_perception.image.messages import decode_file_bytes
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, ModelSpec
from cnn_perception.pipeline.postprocess import postprocess
from cnn_perception.pipeline.preprocess import preprocess
from training import checkpoint, export
from training.export import command
from training.graphs import activation_map

CPU = SessionOptions(providers=("CPUExecutionProvider",))


@pytest.fixture(autouse=True)
def no_gigabytes_on_the_disk(tmp_path, monkeypatch):
    """Large model files need not reach the disk, nor stay there."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    yield
    for path in tmp_path.rglob("*.onnx"):
        path.unlink()


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    make_shallow(monkeypatch)


@dataclass(frozen=True)
class Case:
    """A network at a small size, with the geometry of its cells (receptive fields: Araujo et al. 2019)."""

    size: tuple[int, int]
    method: str
    field: int
    offset: float = 0.0
    has_map: bool = False


CASES = {
    "googlenet": Case((64, 96), "cam", 379, 22.0, has_map=True),
    "densenet121": Case((64, 96), "cam", 2071, 14.0, has_map=True),
    "alexnet": Case((127, 191), "grad-cam", 195, 31.0),  # 3x5 features, pooled to the 6x6 that the head takes
    "mobilenet_v3_small": Case((64, 96), "grad-cam", 0),
    "convnext_tiny": Case((64, 96), "grad-cam", 1688, 15.5, has_map=True),
    "squeezenet1_1": Case((64, 96), "grad-cam", 207, 15.0, has_map=True),
    "vit_b_32": Case((224, 224), "grad-cam", 0, 15.5),  # of its class token
}


def network(name):
    """A seeded network whose answers depend on the image: trained statistics are imitated by those of some noise."""
    torch.manual_seed(1)
    options = {"aux_logits": False, "transform_input": True, "init_weights": False} if name == "googlenet" else {}
    model = models.get_model(name, weights=None, num_classes=len(CLASSES), **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.05)
        if isinstance(module, nn.Linear) and module.out_features == len(CLASSES):
            nn.init.normal_(module.weight, std=0.05)  # torchvision starts some heads with zeros
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        with torch.no_grad():
            model.train()(torch.randn(4, 3, 96, 96))
    return model.eval()


def smooth_noise(count, height, width, seed=0):
    """Images with structure at many scales, (count, 3, height, width) float32."""
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, height, width)
    for cells in (2, 5, 12, 40):
        noise = torch.randn(count, 3, cells, cells, generator=random)
        total += nn.functional.interpolate(noise, (height, width), mode="bilinear")
    return total


@pytest.mark.parametrize("name", CASES)
def test_the_model_file_computes_what_torchvision_computes(tmp_path, name):
    case, model = CASES[name], network(name)
    images = smooth_noise(3, *case.size)
    entering = []
    last = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    last.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    with torch.no_grad():
        expected = model(images).numpy()
    embedding = entering[0].mean((2, 3)) if isinstance(last, nn.Conv2d) else entering[0]
    path = tmp_path / "m.onnx"

    spec = export.export(checkpoint_of(name, model, case.size), path, parity_images=4)

    outputs = OnnxModel(path, CPU).run(images.numpy())
    logits = np.stack([output.logits for output in outputs])
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(np.stack([o.embedding for o in outputs]), embedding, rtol=1e-3, atol=1e-4)
    assert np.ptp(logits, axis=0).max() > 1e-3  # else the answers do not depend on the image
    parameters = sum(value.numel() * 4 for value in model.state_dict().values())
    assert path.stat().st_size <= 1.02 * parameters + 500_000  # the graph itself, but no weight twice
    assert (spec.score_map is not None) == case.has_map
    if case.has_map:
        found = OnnxModel(path, CPU).score_map(images[:1].numpy())
        np.testing.assert_allclose(found[:, 0, 0], expected[0], atol=1e-4 * np.abs(expected).max())
    assert spec.activation.method == case.method
    assert spec.activation.receptive_field == (case.field, case.field)
    assert spec.activation.offset == (case.offset, case.offset)
    maps = np.stack([output.activation for output in outputs])
    assert maps.shape[1:] == (spec.activation.rows, spec.activation.columns)
    assert np.abs(maps).max() > 0
    if case.method == "cam":
        bias = last.bias.detach().numpy()[expected.argmax(1)]
        np.testing.assert_allclose(maps.mean((1, 2)) + bias, expected.max(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "method", "field"),
    [
        ("resnet18", "layer4", "cam", 435),
        ("resnet50", "layer4", "cam", 427),
        ("alexnet", "features", "grad-cam", 195),
    ],
)
def test_the_activation_is_that_of_pytorch_grad_cam(tmp_path, name, layer, method, field):
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.image import scale_cam_image

    model, size = network(name), (224, 224)
    images = smooth_noise(2, *size, seed=3)
    path = tmp_path / "m.onnx"

    spec = export.export(checkpoint_of(name, model, size), path, parity_images=2)

    assert (spec.activation.method, spec.activation.receptive_field) == (method, (field, field))
    parameters = sum(value.numel() * 4 for value in model.state_dict().values())
    assert path.stat().st_size <= 1.02 * parameters + 200_000
    outputs = OnnxModel(path, CPU).run(images.numpy())
    with grad_cam.GradCAM(model, [model.get_submodule(layer)]) as oracle:
        expected = oracle(images, None)
        np.testing.assert_allclose(
            np.stack([output.logits for output in outputs]), oracle.outputs.detach(), rtol=1e-4, atol=1e-4
        )
        for output in outputs:  # the oracle clips, scales to [0, 1] and enlarges to the image
            assert 0.1 < (output.activation > 0).mean() <= 1.0
        scaled = scale_cam_image(np.stack([np.maximum(output.activation, 0) for output in outputs]), size)
        found = oracle.aggregate_multi_layers([scaled[:, None]])
    assert expected.std() > 0.05  # else there is nothing to compare
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def squeezenet():
    return network("squeezenet1_1")


def test_the_description_says_where_the_model_comes_from_and_how_it_was_checked(tmp_path, squeezenet):
    paths = []
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (50 + index, 70, 3), np.uint8)
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(paths[-1])
    made = checkpoint_of("squeezenet1_1", squeezenet, (64, 96), val_images=paths)

    spec = export.export(made, tmp_path / "m.onnx", parity_images=3)

    proto = onnx.load(tmp_path / "m.onnx")
    (entry,) = proto.metadata_props
    assert ModelSpec.from_json(entry.value) == spec
    assert (spec.architecture, spec.class_names, spec.input) == ("squeezenet1_1", CLASSES, made.input)
    assert (spec.training.mode, spec.training.data, spec.training.metrics) == ("finetune", "signs", {"val_top1": 0.5})
    assert (spec.parity.source, spec.parity.images, spec.parity.top1_agreement) == ("validation", 3, 1.0)
    assert 0 <= spec.parity.max_logit_difference < 1e-4
    assert [value.name for value in proto.graph.output] == ["logits", "embedding", "activation", "score_map"]
    assert str(Path(torch.__file__).parent).encode() not in (tmp_path / "m.onnx").read_bytes()


def test_without_validation_images_on_this_machine_parity_is_measured_on_noise(tmp_path, squeezenet):
    made = checkpoint_of("squeezenet1_1", squeezenet, (64, 96), val_images=["/nowhere/a.png"])

    spec = export.export(made, tmp_path / "m.onnx", parity_images=3)

    assert (spec.parity.source, spec.parity.images) == ("noise", 3)


def run(made, tmp_path, *options):
    checkpoint.save(tmp_path / "best.pt", made)
    return export.main(
        ["--checkpoint", str(tmp_path / "best.pt"), "--output", str(tmp_path / "o" / "m.onnx"), *options]
    )


def test_the_command_line_writes_the_file_and_says_what_was_measured(tmp_path, squeezenet, capsys):
    code = run(checkpoint_of("squeezenet1_1", squeezenet, (64, 96)), tmp_path, "--parity-images", "2")

    assert code == errors.EXIT_OK
    assert OnnxModel(tmp_path / "o" / "m.onnx", CPU).spec.class_names == CLASSES
    assert "grad-cam, 3x5 cells every 16 x 16 pixels" in capsys.readouterr().out


def test_above_the_tolerance_no_file_is_left_and_the_exit_code_says_so(tmp_path, squeezenet, capsys):
    code = run(checkpoint_of("squeezenet1_1", squeezenet, (64, 96)), tmp_path, "--tolerance", "1e-12")

    assert code == errors.EXIT_BELOW_TARGET
    assert list((tmp_path / "o").iterdir()) == []
    assert "differs by" in capsys.readouterr().err


def test_a_wrong_activation_map_is_found_and_no_file_is_left(tmp_path, squeezenet, monkeypatch, capsys):
    entry = activation_map._entry

    def wrong(head, logits):
        node, weights = entry(head, logits)
        return node, weights.flip(1)

    monkeypatch.setattr(activation_map, "_entry", wrong)

    code = run(checkpoint_of("squeezenet1_1", squeezenet, (64, 96)), tmp_path)

    assert code == errors.EXIT_BELOW_TARGET
    assert list((tmp_path / "o").iterdir()) == []
    assert "the activation map of the ONNX graph differs" in capsys.readouterr().err


def test_logits_that_are_not_numbers_never_pass(tmp_path):
    model = network("squeezenet1_1")
    model.classifier[1].weight.data.fill_(3e38)

    assert run(checkpoint_of("squeezenet1_1", model, (64, 96)), tmp_path) == errors.EXIT_BELOW_TARGET


def test_weights_that_are_not_numbers_are_named(tmp_path, capsys):
    model = network("squeezenet1_1")
    model.classifier[1].bias.data[0] = float("nan")

    assert run(checkpoint_of("squeezenet1_1", model, (64, 96)), tmp_path) == errors.EXIT_BAD_INPUT
    assert "tensor classifier.1.bias of squeezenet1_1 holds what is no finite number" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_refused(tmp_path, squeezenet, capsys):
    assert run(checkpoint_of("alexnet", squeezenet, (64, 96)), tmp_path) == errors.EXIT_BAD_INPUT
    assert "does not fit alexnet" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, squeezenet):
    (tmp_path / "file").touch()

    with pytest.raises(errors.ConfigError, match="cannot be made"):
        export.export(checkpoint_of("squeezenet1_1", squeezenet, (64, 96)), tmp_path / "file" / "m.onnx")


def test_a_damaged_validation_image_is_named(tmp_path, squeezenet):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    made = checkpoint_of("squeezenet1_1", squeezenet, (64, 96), val_images=[str(tmp_path / "a.png")])

    with pytest.raises(errors.DataError, match=r"a.png: this validation image cannot be read"):
        export.export(made, tmp_path / "m.onnx")


def untrained(tmp_path, *options):
    return export.main(["--output", str(tmp_path / "m.onnx"), "--backbone", *options])


def test_random_weights_are_exported_for_a_number_of_classes(tmp_path):
    assert untrained(tmp_path, "squeezenet1_1", "--classes", "7", "--size", "64", "96") == errors.EXIT_OK

    spec = OnnxModel(tmp_path / "m.onnx", CPU).spec
    assert (spec.class_names[-1], spec.input.height, spec.input.width) == ("class 6", 64, 96)
    assert (spec.training.mode, spec.training.weights) == ("none", "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["squeezenet1_1"], "--classes is missing"),
        (["squeezenet9", "--classes", "3"], "did you mean squeezenet1_"),
        (["squeezenet1_1", "--classes", "labels.json"], "labels.json: neither a number nor a readable file of names"),
        (["squeezenet1_1", "--classes", "3", "--mean", "124,116,104"], "give those from 0 to 1: --mean 0.486"),
        (["squeezenet1_1", "--classes", "3", "--std", "0"], "--std: 0,0,0 is out of range"),
        (["squeezenet1_1", "--classes", "3", "--crop-fraction", "2"], "crop_fraction is out of range: 2"),
        (["squeezenet1_1", "--classes", "3", "--size", "0", "9"], "input size is out of range: 0x9"),
        (
            ["squeezenet1_1", "--classes", "3", "--resize-mode", "squash", "--crop-fraction", "0.9"],
            "--crop-fraction: needs --resize-mode crop, got squash",
        ),
        (
            ["googlenet", "--classes", "3", "--mean", "0.5", "--std", "0.5"],
            "googlenet takes ImageNet's --mean and --std",
        ),
        (["squeezenet1_1", "--classes", "1"], "at least 2 are needed"),
        (["squeezenet1_1", "--classes", "3", "--tolerance", "0"], "--tolerance 0: must be above 0"),
        (["squeezenet1_1", "--classes", "3", "--parity-images", "0"], "--parity-images 0: must be above 0"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path, capsys, options, message):
    assert untrained(tmp_path, *options) == errors.EXIT_BAD_INPUT

    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_own_weights_are_exported_with_their_own_preprocessing(tmp_path, squeezenet, capsys):
    torch.save(squeezenet.state_dict(), tmp_path / "w.pth")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    own = ("squeezenet1_1", "--weights", str(tmp_path / "w.pth"), "--classes", str(tmp_path / "labels.txt"))
    size = ("--size", "64", "96")

    assert untrained(tmp_path, *own, *size) == errors.EXIT_OK
    assert "does not say how images were prepared" in capsys.readouterr().out
    words = ("--mean", "0.5,0.4,0.3", "--std", "0.25", "--interpolation", "bicubic", "--resize-mode", "squash")
    assert untrained(tmp_path, *own, *size, *words) == errors.EXIT_OK

    model = OnnxModel(tmp_path / "m.onnx", CPU)
    assert model.spec.class_names == CLASSES
    assert model.spec.input == InputSpec(64, 96, "squash", 1.0, "bicubic", (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
    shown = capsys.readouterr().out
    assert "does not say" not in shown
    assert "mean 0.5,0.4,0.3, std 0.25,0.25,0.25" in shown
    grey = decode_file_bytes(png(np.full((64, 96, 3), 51, np.uint8)))
    tensor = torch.tensor([[(0.2 - mean) / 0.25 for mean in (0.5, 0.4, 0.3)]])[..., None, None].expand(1, 3, 64, 96)
    with torch.no_grad():
        expected = squeezenet(tensor)[0].numpy()
    (found,) = model.run(preprocess(grey, model.spec.input)[None])
    np.testing.assert_allclose(found.logits, expected, atol=1e-3 * np.abs(expected).max())


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_colours_that_the_file_names_are_taken_unless_others_are_given(tmp_path, squeezenet, capsys):
    said = argparse.Namespace(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    torch.save({"state_dict": squeezenet.state_dict(), "args": said}, tmp_path / "w.pth")
    own = ("squeezenet1_1", "--weights", str(tmp_path / "w.pth"), "--classes", "5", "--size", "64", "96")

    assert untrained(tmp_path, *own) == errors.EXIT_OK
    assert OnnxModel(tmp_path / "m.onnx", CPU).spec.input.std == (0.5, 0.5, 0.5)
    assert "warning" not in capsys.readouterr().out
    assert untrained(tmp_path, *own, "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225") == errors.EXIT_OK
    assert OnnxModel(tmp_path / "m.onnx", CPU).spec.input.std == IMAGENET_STD
    assert "warning: these weights were trained with other colours: give --mean 0.5,0.5" in capsys.readouterr().out


def test_a_checkpoint_of_this_package_given_as_weights_is_told_where_it_belongs(tmp_path, squeezenet, capsys):
    checkpoint.save(tmp_path / "best.pt", checkpoint_of("squeezenet1_1", squeezenet, (64, 96)))

    assert untrained(tmp_path, "squeezenet1_1", "--weights", str(tmp_path / "best.pt"), "--classes", "5") == 2
    assert f"give --checkpoint {tmp_path}/best.pt" in capsys.readouterr().err


def test_weights_of_another_number_of_classes_are_not_exported_with_a_random_last_layer(tmp_path, squeezenet, capsys):
    torch.save(squeezenet.state_dict(), tmp_path / "w.pth")

    assert untrained(tmp_path, "squeezenet1_1", "--weights", str(tmp_path / "w.pth"), "--classes", "6") == 2
    assert "its last layer is not one of 6 classes" in capsys.readouterr().err


def test_published_weights_bring_their_own_preprocessing_and_class_names(tmp_path, monkeypatch):
    published = models.squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: published)
    monkeypatch.setattr(command, "PARITY_IMAGES", 1)

    assert untrained(tmp_path, "squeezenet1_1", "--weights", "imagenet") == errors.EXIT_OK

    spec = OnnxModel(tmp_path / "m.onnx", CPU).spec
    assert spec.input == InputSpec(224, 224, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    assert (len(spec.class_names), spec.class_names[0]) == (1000, "tench")
    assert spec.training.weights == "imagenet (SqueezeNet1_1_Weights.IMAGENET1K_V1)"


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no ImageNet weights and photographs on this machine")
def test_published_imagenet_weights_recognise_photographs(tmp_path):
    weights = SHARED_DATA / "weights" / "resnet50_imagenet_keras_v1stride_fp16.safetensors"
    labels = SHARED_DATA / "weights" / "imagenet1000_labels.json"

    assert untrained(tmp_path, "resnet50", "--weights", str(weights), "--classes", str(labels)) == errors.EXIT_OK

    model = OnnxModel(tmp_path / "m.onnx", CPU)
    for photo, name in [("jet_banana_0.jpg", "banana"), ("jet_granny_smith_0.jpg", "Granny_Smith")]:
        image = preprocess(decode_file_bytes((SHARED_DATA / "photos" / photo).read_bytes()), model.spec.input)
        prediction = postprocess(model.run(image[None])[0], model.spec)
        assert prediction.name == name
    assert model.spec.class_names[0] == json.loads(labels.read_text())[0]
    assert {"crane", "crane (2)"} <= set(model.spec.class_names)  # two classes of ImageNet have this name


def test_what_is_no_model_file_is_not_overwritten(tmp_path):
    made = checkpoint_of("resnet18", models.resnet18(num_classes=5), (32, 32))
    checkpoint.save(tmp_path / "best.pt", made)
    before = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "missing.txt")
    foreign = onnx.helper.make_model(onnx.helper.make_graph([], "of another program", [], []))
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for name in ("best.pt", "link.onnx", "foreign.onnx"):
        with pytest.raises(errors.ConfigError, match="is there already and no model file"):
            export.export(made, tmp_path / name)
    assert (tmp_path / "best.pt").read_bytes() == before
    assert not (tmp_path / "missing.txt").exists()
    assert onnx.load(tmp_path / "foreign.onnx") == foreign
