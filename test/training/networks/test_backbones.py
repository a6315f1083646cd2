"""Owns: architectures by name, published weights, and where a network is cut. Leaves to others: training, export."""

from __future__ import annotations

import collections
import hashlib
import pickle
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from training import checkpoint
from training.networks import backbones

# name -> input size, shape of the last spatial features, width of the embedding: all from torchvision's source
NETWORKS = {
    "resnet18": ((64, 96), (512, 2, 3), 512),
    "resnet50": ((64, 96), (2048, 2, 3), 2048),
    "vgg11": ((64, 96), (512, 2, 3), 4096),
    "alexnet": ((127, 191), (256, 3, 5), 4096),
    "googlenet": ((64, 96), (1024, 2, 3), 1024),
    "densenet121": ((64, 96), (1024, 2, 3), 1024),
    "mobilenet_v2": ((64, 96), (1280, 2, 3), 1280),
    "mobilenet_v3_small": ((64, 96), (576, 2, 3), 1024),
    "efficientnet_b0": ((64, 96), (1280, 2, 3), 1280),
    "convnext_tiny": ((64, 96), (768, 2, 3), 768),
    "squeezenet1_1": ((64, 96), (512, 3, 5), 512),
    "shufflenet_v2_x0_5": ((64, 96), (1024, 2, 3), 1024),
    "regnet_y_400mf": ((64, 96), (440, 2, 3), 440),
    "mnasnet0_5": ((64, 96), (1280, 2, 3), 1280),
    "swin_t": ((64, 96), (768, 2, 3), 768),
    "vit_b_32": ((224, 224), (768,), 768),
}
FIRST_OF_LAST_STAGE = {
    "resnet18": "layer4.0.conv1.weight",
    "resnet50": "layer4.0.conv1.weight",  # works at layer3's resolution, but blocks are not torn apart
    "vgg16_bn": "features.34.weight",
    "alexnet": "features.6.weight",
    "googlenet": "inception5a.branch1.conv.weight",
    "mobilenet_v3_small": "features.9.block.0.0.weight",
    "densenet121": "features.denseblock4.denselayer1.norm1.weight",
    "swin_v2_t": "features.6.reduction.weight",
}


def squeezenet(classes=3):
    torch.manual_seed(0)
    return backbones.build("squeezenet1_1", classes)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_cut_at_its_last_spatial_features(name):
    (height, width), features, embedding = NETWORKS[name]
    model = backbones.build(name, 3).eval()
    image = torch.randn(2, 3, height, width)
    before_last = []
    last = model.get_submodule(backbones.classifier_name(model))
    hook = last.register_forward_pre_hook(lambda _, inputs: before_last.append(inputs[0]))
    with torch.no_grad():
        expected = model(image)
    hook.remove()

    split = backbones.split(model, height, width)

    with torch.no_grad():
        found = split.body(image)
        logits, embedded = split.head(found)
        assert torch.equal(logits, expected)
        assert torch.equal(embedded, split.neck(found))
    assert (split.feature_shape, found.shape[1:], embedded.shape) == (features, features, (2, embedding))
    assert split.spatial == (len(features) == 3)
    entering = before_last[0].mean((2, 3)) if isinstance(last, nn.Conv2d) else before_last[0]
    torch.testing.assert_close(embedded, entering)
    assert split.classifier is last
    assert {id(p) for part in (split.body, split.head) for p in part.parameters()} == {
        id(p) for p in model.parameters()
    }


@pytest.mark.parametrize("name", FIRST_OF_LAST_STAGE)
def test_the_last_stage_begins_where_the_resolution_last_drops(name):
    with torch.device("meta"):  # shapes without numbers: fast
        model = backbones.build(name, 3)
    names = [key for key, _ in model.named_parameters()]

    stages = backbones.stages(model, 128, 192)

    first = names.index(FIRST_OF_LAST_STAGE[name])
    head = tuple(key for key in names if key.startswith(("fc.", "classifier.", "head.")))
    assert stages.head == head
    assert stages.last == tuple(key for key in names[first:] if key not in head)
    assert stages.below == tuple(names[:first])


def test_a_transformer_without_stages_counts_its_last_quarter_as_one():
    with torch.device("meta"):
        model = backbones.build("vit_b_16", 3)

    stages = backbones.stages(model, 224, 224)

    blocks = {key.split(".")[2] for key in stages.last if ".layers." in key}
    assert blocks == {"encoder_layer_9", "encoder_layer_10", "encoder_layer_11"}
    assert stages.head == ("heads.head.weight", "heads.head.bias")
    assert len(stages.head + stages.last + stages.below) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet19", "resnet18"), ("fasterrcnn_resnet50_fpn", "take"), ("ResNet18", "resnet18")]
)
def test_what_is_no_classifier_is_refused_with_similar_names(name, hint):
    with pytest.raises(ConfigError, match=rf"'{name}' is no image classifier.*{hint}"):
        backbones.build(name, 3)


def test_an_image_too_small_for_the_network_is_refused():
    with pytest.raises(ConfigError, match="takes no images of 16x16 pixels"):
        backbones.split(backbones.build("alexnet", 3), 16, 16)


@pytest.mark.parametrize("name", ["alexnet", "mobilenet_v2", "resnet18"])
def test_dropout_is_set_where_the_head_has_it_and_added_to_the_pooling_where_not(name):
    model = backbones.build(name, 3, dropout=0.25)

    found = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert found
    assert set(found) == {0.25}
    assert model.state_dict().keys() == models.get_model(name, weights=None, num_classes=3).state_dict().keys()


def test_dropout_without_a_place_for_it_is_refused():
    with pytest.raises(ConfigError, match="densenet121 has no place for a dropout"):
        backbones.build("densenet121", 3, dropout=0.5)


def test_networks_published_for_another_input_scaling_undo_the_normalisation():
    assert backbones.build("googlenet", 3).transform_input


def wrapped(state):
    return {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}


def save_checkpoint(state, path):
    size = InputSpec(64, 64, "squash", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    made = checkpoint.Checkpoint(
        backbone="squeezenet1_1",
        task="multiclass",
        class_names=("a", "b"),
        units=(),
        scaling=(),
        input=size,
        model=dict(state),
        training={},
        train_images=(),
        val_images=(),
        calibration=checkpoint.UNCALIBRATED,
        config={},
        resume=None,
    )
    checkpoint.save(path, made)


WRITERS = {
    "bare.pth": torch.save,
    "wrapped.pt": lambda state, path: torch.save(wrapped(state), path),
    "model.pth": lambda state, path: torch.save({"model": state}, path),
    "weights.safetensors": save_file,
    "best.pt": save_checkpoint,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", WRITERS)
def test_weights_of_any_width_and_wrapping_are_loaded_but_for_a_last_layer_of_other_classes(tmp_path, name, dtype):
    published = squeezenet(classes=5)
    path = tmp_path / name
    WRITERS[name]({key: value.to(dtype) for key, value in published.state_dict().items()}, path)
    model = backbones.build("squeezenet1_1", 3)
    fresh = model.classifier[1].weight.clone()

    origin = backbones.load_weights(model, "squeezenet1_1", str(path)).origin

    assert origin == f"{name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    for key, value in published.features.state_dict().items():
        assert torch.equal(model.features.state_dict()[key], value.to(dtype).float())
    assert torch.equal(model.classifier[1].weight, fresh)


def test_a_last_layer_of_as_many_classes_is_loaded(tmp_path):
    published = squeezenet()
    torch.save(published.state_dict(), tmp_path / "a.pth")
    model = backbones.build("squeezenet1_1", 3)

    backbones.load_weights(model, "squeezenet1_1", str(tmp_path / "a.pth"))

    assert torch.equal(model.classifier[1].weight, published.classifier[1].weight)


def test_auxiliary_heads_absent_counters_and_an_absent_classifier_are_no_error(tmp_path):
    published = models.googlenet(weights=None, num_classes=7, aux_logits=True, init_weights=False)
    state = {
        key: value
        for key, value in published.state_dict().items()
        if not key.endswith("num_batches_tracked") and not key.startswith("fc.")
    }
    torch.save(state, tmp_path / "a.pth")
    model = backbones.build("googlenet", 3)

    backbones.load_weights(model, "googlenet", str(tmp_path / "a.pth"))

    assert torch.equal(model.conv1.conv.weight, published.conv1.conv.weight)


def test_plain_tensors_are_enough_for_mnasnet_too(tmp_path):
    published = models.mnasnet0_5(weights=None, num_classes=3).state_dict()
    save_file(dict(published), tmp_path / "a.safetensors")
    model = backbones.build("mnasnet0_5", 3)

    backbones.load_weights(model, "mnasnet0_5", str(tmp_path / "a.safetensors"))

    assert all(torch.equal(value, published[key]) for key, value in model.state_dict().items())


def test_old_names_of_densenet_are_understood(tmp_path):
    model = backbones.build("densenet121", 3)
    state = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in model.state_dict().items()
    }
    torch.save(state, tmp_path / "a.pth")

    assert backbones.load_weights(model, "densenet121", str(tmp_path / "a.pth")).origin.startswith("a.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.0.bias"), r"1 missing \(features.0.bias\); check"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda state: state.update({"features.0.bias": torch.zeros(9)}), r"1 of another shape \(features.0.bias\)"),
        (
            lambda state: [state.pop(key) for key in list(state) if key.startswith("features.3")],
            r"6 missing \(features.3.squeeze.weight, features.3.squeeze.bias, features.3.expand1x1.weight, ...\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_first_names(tmp_path, change, message):
    model = squeezenet()
    state = model.state_dict()
    change(state)
    torch.save(state, tmp_path / "a.pth")

    with pytest.raises(ConfigError, match=f"a.pth sha256:.* do not fit squeezenet1_1: {message}"):
        backbones.load_weights(model, "squeezenet1_1", str(tmp_path / "a.pth"))


class Code:
    def __reduce__(self):
        return (print, ("this must never be run",))


BROKEN = {
    "pickled.pth": pickle.dumps({"weight": Code()}, protocol=2),
    "text.pth": b"<html>404</html>",
    "empty.pt": b"",
    "text.safetensors": b"<html>404</html>",
}
OF_BROKEN = {name: "is a web page" if "text" in name else "not a file of plain tensors" for name in BROKEN}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_holds_no_plain_tensors_is_refused_in_one_line(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(BROKEN[name])

    with pytest.raises(ConfigError, match=f"{name}: .*({OF_BROKEN[name]})") as caught:
        backbones.load_weights(squeezenet(), "squeezenet1_1", str(tmp_path / name))

    assert "\n" not in str(caught.value)
    assert "never be run" not in capsys.readouterr().out


def test_code_saved_by_torch_is_refused_not_run(tmp_path, capsys):
    torch.save({"weight": Code()}, tmp_path / "a.pth")

    with pytest.raises(ConfigError, match="not a file of plain tensors"):
        backbones.load_weights(squeezenet(), "squeezenet1_1", str(tmp_path / "a.pth"))

    assert "never be run" not in capsys.readouterr().out


def test_a_file_of_something_else_or_none_at_all_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")

    with pytest.raises(ConfigError, match="holds no state dict"):
        backbones.load_weights(squeezenet(), "squeezenet1_1", str(tmp_path / "a.pth"))
    with pytest.raises(ConfigError, match=r"b.pth: no such weights file"):
        backbones.load_weights(squeezenet(), "squeezenet1_1", str(tmp_path / "b.pth"))
    with pytest.raises(ConfigError, match="not a file"):
        backbones.load_weights(squeezenet(), "squeezenet1_1", str(tmp_path))


def test_published_weights_are_torchvisions_default_download(monkeypatch):
    published = models.squeezenet1_1(weights=None).state_dict()
    calls = collections.Counter()

    def download(url, **_):
        calls[url] += 1
        return published

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    model = backbones.build("squeezenet1_1", 3)

    origin = backbones.load_weights(model, "squeezenet1_1", "imagenet").origin

    assert origin == "imagenet (SqueezeNet1_1_Weights.IMAGENET1K_V1)"
    assert list(calls) == [models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url]
    assert torch.equal(model.features[0].weight, published["features.0.weight"])


@pytest.mark.parametrize("is_there", [False, True])
def test_a_download_without_a_terminal_is_one_line_and_none_where_the_file_is_there(
    monkeypatch, tmp_path, capsys, is_there
):
    bars = []

    def download(url, progress, **_):
        bars.append(progress)
        return models.squeezenet1_1().state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    if is_there:
        (tmp_path / "checkpoints").mkdir()
        name = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
        (tmp_path / "checkpoints" / name).write_bytes(b"weights")

    backbones.load_weights(squeezenet(), "squeezenet1_1", "imagenet")

    assert bars == [False]
    said = "" if is_there else "downloading SqueezeNet1_1_Weights.IMAGENET1K_V1\n"
    assert capsys.readouterr().err == said


def test_a_failed_download_says_to_give_a_path(monkeypatch):
    def download(url, **_):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)

    with pytest.raises(ConfigError, match=r"cannot download.*no route to host.*give the path") as caught:
        backbones.load_weights(squeezenet(), "squeezenet1_1", "imagenet")
    assert "\n" not in str(caught.value)


def test_no_weights_leave_the_model_as_it_is():
    model = squeezenet()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    assert backbones.load_weights(model, "squeezenet1_1", "none").origin == "none"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
