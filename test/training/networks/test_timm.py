"""Owns: timm's networks by name: found, cut, given weights, prepared, exported. Leaves to others: training itself."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from checkpoints import CLASSES, checkpoint_of
from safetensors.torch import save_file
from tiny_images import write_folder
from torch import nn

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training import checkpoint, export, train
from training.config import make
from training.networks import backbones
from training.networks.libraries import preparation

timm = pytest.importorskip("timm", reason="needs the optional timm")
CPU = SessionOptions(providers=("CPUExecutionProvider",))
SIZE = (64, 96)

# name -> shape of what is pooled, what the map is made of, whether there is a score map
NETWORKS = {
    "test_resnet": ((2, 3), "cam", True),
    "test_efficientnet": ((2, 3), "cam", False),  # squeeze-and-excitation looks at the whole image
    "test_convnext": ((2, 3), "grad-cam", True),  # normalises behind its pooling
    "test_byobnet": ((2, 3), "cam", False),
    "test_nfnet": ((2, 3), "cam", False),
    "test_mambaout": ((2, 3), "grad-cam", False),  # channels last
    "test_vit": ((4, 6), "grad-cam", False),  # answers from its class token
    "test_vit2": ((4, 6), "grad-cam", False),  # the mean of its patches, normalised
    "test_vit3": ((4, 6), "grad-cam", False),  # pools by attention
    "regnety_002": ((2, 3), "cam", False),
    "mobilenetv4_conv_small": ((2, 3), "grad-cam", True),
    "coatnet_pico_rw_224": ((7, 7), "cam", False),
    "vit_small_patch14_dinov2": ((4, 6), "grad-cam", False),
}
SIZES = {"coatnet_pico_rw_224": (224, 224), "vit_small_patch14_dinov2": (56, 84)}
"""Of networks that do not take any."""


def network(name, size=SIZE):
    torch.manual_seed(1)
    model = backbones.build(f"timm:{name}", len(CLASSES), size=size)
    for module in model.modules():  # what begins with nothing shows nothing
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.05)
        if isinstance(module, nn.Linear) and module.out_features == len(CLASSES):
            nn.init.normal_(module.weight, std=0.3)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_of_a_timm_network_computes_what_timm_computes(tmp_path, name):
    cells, method, has_map = NETWORKS[name]
    size = SIZES.get(name, SIZE)
    model = network(name, size)
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(images).numpy()
        embedding = model.forward_head(model.forward_features(images), pre_logits=True).numpy()

    spec = export.export(checkpoint_of(f"timm:{name}", model, size), tmp_path / "m.onnx", parity_images=2)

    outputs = OnnxModel(tmp_path / "m.onnx", CPU).run(images.numpy())
    np.testing.assert_allclose(np.stack([o.logits for o in outputs]), expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(np.stack([o.embedding for o in outputs]), embedding, rtol=1e-3, atol=1e-4)
    assert (spec.activation.rows, spec.activation.columns, spec.activation.method) == (*cells, method)
    assert (spec.score_map is not None) == has_map
    maps = np.stack([output.activation for output in outputs])
    assert np.ptp(maps[0]) > 0
    if method == "cam":
        bias = model.get_classifier().bias.detach().numpy()[expected.argmax(1)]
        np.testing.assert_allclose(maps.mean((1, 2)) + bias, expected.max(1), rtol=1e-4, atol=1e-4)


def test_the_mean_of_patch_tokens_and_a_linear_layer_give_the_exact_map(tmp_path, monkeypatch):
    """As DINOv2 is often used: normalised tokens, of which the patches' are averaged."""
    make_vit = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **options: make_vit(name, **options, global_pool="avg", fc_norm=False)
    )
    model = network("test_vit")
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        tokens = model.forward_features(images)[:, 1:]
        logits = model(images)
        scores = model.get_classifier()(tokens) - model.get_classifier().bias
    expected = scores.gather(2, logits.argmax(1)[:, None, None].expand(-1, 24, 1)).reshape(2, 4, 6)

    spec = export.export(checkpoint_of("timm:test_vit", model, SIZE), tmp_path / "m.onnx", parity_images=2)

    found = np.stack([one.activation for one in OnnxModel(tmp_path / "m.onnx", CPU).run(images.numpy())])
    assert spec.activation.method == "cam"
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_the_map_of_a_class_token_is_the_gradient_at_the_patches_before_the_last_block(tmp_path):
    model = network("test_vit")
    images = torch.randn(2, 3, *SIZE)
    seen = []
    model.blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = model(images)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), seen[0])
    expected = (gradient[:, 1:].mean(1, keepdim=True) * seen[0][:, 1:]).sum(2).reshape(2, 4, 6).detach().numpy()

    spec = export.export(
        checkpoint_of("timm:test_vit", network("test_vit"), SIZE), tmp_path / "m.onnx", parity_images=2
    )

    found = np.stack([one.activation for one in OnnxModel(tmp_path / "m.onnx", CPU).run(images.numpy())])
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    assert (spec.activation.stride, spec.activation.offset) == ((16.0, 16.0), (7.5, 7.5))
    assert spec.activation.receptive_field == (0, 0)  # the whole image


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet19", r"is no network of timm .*did you mean timm:resnet1"),
        ("timm:zzzzzzzz", r"is no network of timm .*see timm.list_models"),
        ("timm:resnet50.nonsense", "has no weights of that name; there are timm:resnet50."),
        ("timm:deit_tiny_distilled_patch16_224", "has 2 last layers whose answers are averaged"),
        ("timm:vit_small_patch14_dinov2", r"patches of 14x14 pixels, of which 64x96 are no multiple; .*--input-size"),
    ],
)
def test_what_timm_has_not_or_cannot_is_said_in_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        backbones.split(backbones.build(name, 3, size=SIZE), *SIZE)
    assert "\n" not in str(caught.value)


def test_without_timm_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ConfigError, match=r"--backbone timm:resnet18: needs timm .*pip install 'timm>=1.0'"):
        backbones.build("timm:resnet18", 3)


def test_a_network_without_a_classifier_is_refused(monkeypatch):
    make_model = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: make_model(name, **{**given, "num_classes": 0}))

    with pytest.raises(ConfigError, match="has no classifier, only features"):
        backbones.build("timm:test_resnet", 3)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_weights_in_timms_names_are_taken_but_for_a_last_layer_of_other_classes(tmp_path, name):
    published = timm.create_model("test_resnet", num_classes=21).state_dict()
    save_file(published, tmp_path / name) if name.endswith("s") else torch.save(
        {"state_dict": published}, tmp_path / name
    )
    model = backbones.build("timm:test_resnet", 3)

    loaded = backbones.load_weights(model, "timm:test_resnet", str(tmp_path / name))

    assert (loaded.head, loaded.classes) == (False, 21)
    assert all(torch.equal(value, published[key]) for key, value in model.state_dict().items() if "fc." not in key)


def test_positions_of_another_image_size_are_resampled_as_timm_does(tmp_path):
    published = timm.create_model("test_vit", img_size=160, num_classes=3)
    save_file(published.state_dict(), tmp_path / "a.safetensors")
    model = backbones.build("timm:test_vit", 3, size=SIZE)
    expected = timm.create_model("test_vit", img_size=SIZE, num_classes=3)
    timm.models.load_checkpoint(expected, str(tmp_path / "a.safetensors"), filter_fn=filter_of(expected))

    loaded = backbones.load_weights(model, "timm:test_vit", str(tmp_path / "a.safetensors"))

    assert loaded.head
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in model.state_dict().items())


def filter_of(model):
    return importlib.import_module(type(model).__module__).checkpoint_filter_fn


def test_weights_of_another_timm_network_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.models.list_models", lambda module: [])  # else all are compared
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "a.safetensors")

    with pytest.raises(ConfigError, match="do not fit timm:test_vit"):
        backbones.load_weights(backbones.build("timm:test_vit", 3), "timm:test_vit", str(tmp_path / "a.safetensors"))


def test_imagenet_is_timms_own_download(monkeypatch):
    make_model, asked = timm.create_model, []
    published = make_model("test_resnet")

    def create(name, pretrained=False, **options):
        asked.append((name, pretrained))
        return published if pretrained else make_model(name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    model = backbones.build("timm:test_resnet.r160_in1k", 3)

    loaded = backbones.load_weights(model, "timm:test_resnet.r160_in1k", "imagenet")

    assert loaded.origin == "imagenet (timm test_resnet.r160_in1k)"
    assert asked[-1] == ("test_resnet.r160_in1k", True)
    assert torch.equal(model.conv1[0].weight, published.conv1[0].weight)


def test_a_failed_download_says_to_give_a_path(monkeypatch):
    make_model = timm.create_model

    def create(name, pretrained=False, **options):
        if pretrained:
            raise RuntimeError("no route\nto host")
        return make_model(name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    model = backbones.build("timm:test_resnet", 3)

    with pytest.raises(
        ConfigError, match=r"cannot download timm test_resnet.* \(no route to host\); give the path"
    ) as e:
        backbones.load_weights(model, "timm:test_resnet", "imagenet")
    assert "\n" not in str(e.value)


def test_images_are_prepared_as_the_weights_were_trained_unless_the_user_says_otherwise():
    """Of SigLIP timm says mean and deviation 0.5, and a bicubic crop of 0.9."""
    given = {"data": "d", "output": "o", "backbone": "timm:vit_base_patch16_siglip_224", "weights": "w.safetensors"}

    completed, said = preparation.completed(given)
    config = make(**completed)

    assert (config.mean, config.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (config.interpolation, config.input.crop_fraction, config.input_size) == ("bicubic", 0.9, (224, 224))
    assert "mean 0.5,0.5,0.5" in said
    assert "bicubic" in said
    own, said = preparation.completed(
        {**given, "mean": (0.1, 0.2, 0.3), "resize_mode": "squash", "input_size": (96, 96)}
    )
    config = make(**own)
    assert (config.mean, config.std, config.input_size) == ((0.1, 0.2, 0.3), (0.5,) * 3, (96, 96))
    assert config.input.crop_fraction == 1.0
    assert "mean" not in said


def test_random_weights_and_other_libraries_leave_the_settings_alone():
    for backbone, weights in (("timm:vit_base_patch16_siglip_224", "none"), ("resnet18", "imagenet")):
        given = {"data": "d", "output": "o", "backbone": backbone, "weights": weights}

        assert preparation.completed(given) == (given, "")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 9, "stop": 9})


@pytest.mark.parametrize(
    ("backbone", "mode"),
    [("timm:test_vit", "probe"), ("timm:test_vit2", "finetune")],
)
def test_a_timm_network_is_trained_in_stages_and_exported(tmp_path, photos, backbone, mode):
    torch.set_num_threads(1)
    options = ["--baselines", "none", "--unknown", "none", "--workers", "0", "--device", "cpu", "--weights", "none"]
    if mode == "finetune":
        options += ["--epochs", "3", "--head-epochs", "1", "--last-stage-epochs", "1", "--cache-gb", "0"]
    run = tmp_path / "run"

    common = ["--data", str(photos), "--output", str(run), "--mode", mode, "--backbone", backbone]
    assert train.main([*common, "--input-size", "64x96", *options]) == EXIT_OK

    assert checkpoint.load(run / "best.pt").backbone == backbone
    assert json.loads((run / "report.json").read_text())["val"]["images"] > 0
    output = tmp_path / "m.onnx"
    assert (
        export.main(["--checkpoint", str(run / "best.pt"), "--output", str(output), "--parity-images", "2"]) == EXIT_OK
    )
    assert OnnxModel(output, CPU).spec.architecture == backbone


def test_the_last_stage_of_a_transformer_is_its_last_quarter():
    stages = backbones.stages(network("test_vit"), *SIZE)

    assert {key.split(".")[1] for key in stages.last if key.startswith("blocks.")} <= {"4", "5"}
    assert stages.head == ("head.weight", "head.bias")


def test_a_wrong_name_ends_training_in_one_line(tmp_path, photos, capsys):
    arguments = ["--data", str(photos), "--output", str(tmp_path / "run"), "--backbone", "timm:resnet19"]

    assert train.main(arguments) == EXIT_BAD_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1
