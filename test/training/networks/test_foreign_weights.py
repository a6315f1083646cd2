"""Owns: weights as other training programs save them: wrapped, prefixed, with metadata, or no weights at all.

Leaves to others: weights in torchvision's own form (test_backbones).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import enum
import os
import pathlib
import pickle
import subprocess
import types

import numpy as np
import pytest
import torch
from paths import ROOT
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from training import checkpoint, torch_files
from training.networks import backbones, state_dicts

torch.manual_seed(3)
NETWORK = models.squeezenet1_1(num_classes=3)
STATE = NETWORK.state_dict()
OLDER = {name: value + 1 for name, value in STATE.items()}
SPEC = InputSpec(64, 64, "squash", 1.0, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def prefixed(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


class Settings(dict):
    """A dictionary of a class of its own, as Lightning's AttributeDict and EasyDict are."""


class Slots:
    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 0.1


class Phase(enum.Enum):
    LAST = "last"


class Trainer:
    def __init__(self):
        self.epoch = 3


def loaded(content, tmp_path, classes=3, **options):
    """The network with the weights of a file that holds this, and what was said of it."""
    torch.save(content, tmp_path / "foreign.pth", **options)
    model = backbones.build("squeezenet1_1", classes)
    return model, backbones.load_weights(model, "squeezenet1_1", str(tmp_path / "foreign.pth"))


def is_loaded(model, state=STATE):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


MECHANICAL = {
    "torch.compile": prefixed("_orig_mod."),
    "compiled and parallel": prefixed("module._orig_mod."),
    "parallel in parts, as the example of PyTorch for ImageNet": {
        name.replace("features.", "features.module."): value for name, value in STATE.items()
    },
    "compiled in parts": {name.replace(".squeeze.", "._orig_mod.squeeze."): value for name, value in STATE.items()},
    "Lightning": {"epoch": 3, "state_dict": prefixed("model."), "hyper_parameters": {"lr": 1e-3}},
    "Lightning with a loss and a metric": {
        "state_dict": {**prefixed("net."), "criterion.weight": torch.ones(3), "val_acc.tp": torch.tensor(3)}
    },
    "a stack of prefixes": prefixed("module.backbone.encoder.model."),
    "model_state_dict": {"model_state_dict": STATE, "epoch": 3, "loss": 0.1},
    "a key of its own": {"what the author called it": {"weights": prefixed("cnn.")}},
    "AveragedModel": {"n_averaged": torch.tensor(5), **prefixed("module.")},
    "beside an optimiser": {
        "optimizer": torch.optim.AdamW(NETWORK.parameters()).state_dict(), "model": STATE, "lr_scheduler": {"last": 3}
    },
    "parameters": dict(NETWORK.named_parameters()),
    "counters of a profiler": {**STATE, "features.3.total_ops": torch.ones(1), "total_params": torch.ones(1)},
}  # fmt: skip


@pytest.mark.parametrize("what", MECHANICAL)
def test_weights_are_found_under_any_key_and_any_prefix(tmp_path, what):
    model, said = loaded(MECHANICAL[what], tmp_path)

    assert is_loaded(model)
    assert said.head
    assert said.note.startswith("foreign.pth: all 50 tensors of squeezenet1_1 below its last layer are taken")
    assert "\n" not in said.note


HARMLESS = {
    "argparse.Namespace, as torchvision and timm": argparse.Namespace(model="squeezenet1_1", lr=0.1),
    "a number of NumPy": np.float64(0.91),
    "an array of NumPy": np.arange(6).reshape(2, 3),
    "a path": pathlib.PurePosixPath("runs/1"),
    "a path of this system": pathlib.Path("runs/1"),
    "a date": datetime.datetime(2026, 11, 26, tzinfo=datetime.timezone.utc),
    "an enumeration": Phase.LAST,
    "a default dictionary": collections.defaultdict(list, {"loss": [0.1]}),
    "a deque": collections.deque([1, 2], maxlen=3),
    "a counter": collections.Counter("aab"),
    "a namespace": types.SimpleNamespace(epoch=3),
    "a dictionary of another class": Settings(lr=0.1),
    "that and a number of NumPy": [Settings(lr=0.1), np.float32(1)],
    "an object without a dictionary": Slots(),
    "any object": Trainer(),
    "a set": {1, 2},
    "a class": Trainer,
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", HARMLESS)
def test_metadata_of_any_class_cost_nothing(tmp_path, what, legacy):
    content = {"state_dict": STATE, "epoch": 3, "metadata": HARMLESS[what]}

    model, _ = loaded(content, tmp_path, _use_new_zipfile_serialization=not legacy)

    assert is_loaded(model)


def test_no_class_that_a_file_names_is_made_or_even_imported(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Trainer, "__new__", lambda cls: made.append(cls) or object.__new__(cls), raising=False)
    monkeypatch.setattr(Trainer, "__setstate__", made.append, raising=False)
    content = {"state_dict": STATE, "trainer": Trainer()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)  # the other has checksums
    content = (tmp_path / "a.pth").read_bytes()
    made.clear()
    # a module that does not exist, of a name as long
    here = Trainer.__module__.encode()
    (tmp_path / "a.pth").write_bytes(content.replace(here + b"\nTrainer", b"x" * len(here) + b"\nTrainer"))

    found = torch_files.read_tensors(tmp_path / "a.pth")

    assert made == []
    assert type(found["trainer"]) is torch_files.StandIn
    assert vars(found["trainer"]) == {"epoch": 3}


class Runs:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


RUNNING = {
    "posix.mkdir": (os.mkdir, "intruded"),
    "subprocess.Popen": (subprocess.Popen, ["mkdir", "intruded"]),
    "builtins.exec": (exec, "import os; os.mkdir('intruded')"),
    "builtins.eval": (eval, "__import__('os').mkdir('intruded')"),
    "pickle.loads": (pickle.loads, b"."),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", RUNNING)
def test_what_runs_code_is_refused_by_its_name_and_not_run(tmp_path, monkeypatch, name, legacy):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=rf"foreign\.pth: .*would run {name}, .*state_dict") as caught:
        loaded({"model": STATE, "x": Runs(*RUNNING[name])}, tmp_path, _use_new_zipfile_serialization=not legacy)

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "intruded").exists()


def test_what_a_function_of_somebody_would_do_is_not_done(tmp_path, capsys):
    model, _ = loaded({"model": STATE, "x": Runs(announce, "hello")}, tmp_path)

    assert is_loaded(model)
    assert "hello" not in capsys.readouterr().out


def announce(text):
    print(text)


@pytest.mark.parametrize("content", [NETWORK, {"model": nn.DataParallel(NETWORK), "epoch": 3}], ids=["bare", "wrapped"])
def test_a_pickled_network_gives_its_weights_without_its_code(tmp_path, content):
    model, _ = loaded(content, tmp_path)

    assert is_loaded(model)


def test_tensors_of_a_pickled_network_are_those_of_its_state_dict(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2, bias=False)))
    torch.save(network, tmp_path / "a.pt")

    ((where, found),) = state_dicts.groups(torch_files.read_tensors(tmp_path / "a.pt"))

    assert where == ""
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "content",
    [
        {"model": OLDER, "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.")}},
        {"state_dict": OLDER, "state_dict_ema": STATE},
        {"ema": STATE, "net": OLDER},
        {"state_dict": {**prefixed("model.", OLDER), **prefixed("ema.module.")}},
    ],
    ids=["torchvision", "timm", "ema", "in one dictionary"],
)
def test_averaged_weights_are_taken_before_the_last_ones_and_it_is_said(tmp_path, content):
    model, said = loaded(content, tmp_path)

    assert is_loaded(model)
    assert "averaged over training" in said.note


def test_the_first_of_two_networks_is_taken_and_the_other_is_said(tmp_path):
    state = {**prefixed("module.encoder_q."), **prefixed("module.encoder_k.", OLDER), "module.queue": torch.ones(9)}

    model, said = loaded({"state_dict": state}, tmp_path)

    assert is_loaded(model)
    assert "named encoder_q.*" in said.note
    assert "left out: encoder_k." in said.note


def test_a_last_layer_of_other_classes_or_of_another_make_is_dropped_and_said(tmp_path):
    body = {name: value for name, value in STATE.items() if name.startswith("features.")}
    projected = {**body, "fc.0.weight": torch.ones(9, 512), "fc.2.weight": torch.ones(4, 9)}
    for content, words in ((STATE, "the last layer of 3 classes is not"), (projected, "the last layer is not")):
        model, said = loaded(content, tmp_path, classes=5)
        assert not said.head
        assert words in said.note
        assert "left out: " in said.note
        assert all(torch.equal(model.state_dict()[name], value) for name, value in body.items())


SHUFFLED = models.shufflenet_v2_x0_5(num_classes=3).state_dict()


def headed(layer, body=""):
    """The weights of a network whose last layer, `fc` here, has another name, and the others have a prefix."""
    return {
        f"{layer}.{name[3:]}" if name.startswith("fc.") else f"{body}{name}": value for name, value in SHUFFLED.items()
    }


@pytest.mark.parametrize(
    ("content", "called"),
    [
        (headed("fc.1"), "fc.1"),  # behind a dropout
        (headed("head", "backbone."), "head"),  # as in a module of Lightning
        ({"state_dict": headed("model.classifier.0", "model.encoder.")}, "model.classifier.0"),
        (headed("last_linear"), "last_linear"),
    ],
)
def test_a_last_layer_of_another_name_is_taken_where_there_is_one_alone(tmp_path, content, called):
    torch.save(content, tmp_path / "a.pth")
    model = backbones.build("shufflenet_v2_x0_5", 3)

    said = backbones.load_weights(model, "shufflenet_v2_x0_5", str(tmp_path / "a.pth"))

    assert is_loaded(model, SHUFFLED)
    assert said.head
    assert f"the last layer of 3 classes ({called}.* there) is taken, too" in said.note


def test_a_last_layer_without_a_bias_has_one_of_zeros(tmp_path):
    torch.save({name: value for name, value in SHUFFLED.items() if name != "fc.bias"}, tmp_path / "a.pth")
    model = backbones.build("shufflenet_v2_x0_5", 3)

    assert backbones.load_weights(model, "shufflenet_v2_x0_5", str(tmp_path / "a.pth")).head
    assert is_loaded(model, {**SHUFFLED, "fc.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    "layers", [{"fc.0": (3, 1024), "fc.3": (3, 3)}, {"fc.1": (3, 512)}, {"fc.0": (3, 1024), "head": (3, 1024)}]
)
def test_of_a_head_of_several_layers_or_of_other_features_nothing_is_taken(tmp_path, layers):
    body = {name: value for name, value in SHUFFLED.items() if not name.startswith("fc.")}
    heads = {f"{name}.weight": torch.ones(shape) for name, shape in layers.items()}
    torch.save({**body, **heads, **{f"{name}.bias": torch.ones(3) for name in layers}}, tmp_path / "a.pth")
    model = backbones.build("shufflenet_v2_x0_5", 3)
    drawn = model.fc.weight.clone()

    said = backbones.load_weights(model, "shufflenet_v2_x0_5", str(tmp_path / "a.pth"))

    assert not said.head
    assert torch.equal(model.fc.weight, drawn)


def other(name, **options):
    return lambda: models.get_model(name, weights=None, **options).state_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (other("squeezenet1_0"), r"these are those of squeezenet1_0; give --backbone squeezenet1_0"),
        (lambda: {"net": prefixed("module.", other("resnet50", num_classes=7)())}, "these are those of resnet50"),
        (lambda: {"blocks.0.attn.qkv.weight": torch.ones(9, 3)}, r"0 of its 50 .*'blocks.0.attn.qkv.weight'; they are"),
        (lambda: {f"{name}x": value for name, value in STATE.items()}, "0 of its 50 tensors .* training.adopt"),
        (lambda: {**STATE, "features.13.weight": torch.ones(1)}, r"1 unexpected \(features.13.weight\); check"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused_with_its_name_where_that_is_known(tmp_path, content, message):
    with pytest.raises(ConfigError, match=f"do not fit squeezenet1_1: .*{message}") as caught:
        loaded(content(), tmp_path)

    assert "\n" not in str(caught.value)


def test_a_deeper_network_of_the_same_names_is_not_taken_for_a_shallow_one(tmp_path):
    torch.save(models.resnet34(num_classes=3).state_dict(), tmp_path / "a.pth")

    with pytest.raises(ConfigError, match="these are those of resnet34; give --backbone resnet34"):
        backbones.load_weights(backbones.build("resnet18", 3), "resnet18", str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda v: torch.full_like(v, float("nan")), r"tensor classifier.1.bias holds what is no finite number"),
        (lambda v: torch.full_like(v, float("-inf")), "no finite number"),
        (lambda v: v.to(torch.int8), r"holds no floats, but torch.int8; give unquantised weights"),
    ],
)
def test_what_is_no_number_or_quantised_is_refused_by_its_name(tmp_path, value, message):
    name = "classifier.1.bias"

    with pytest.raises(ConfigError, match=message):
        loaded({**STATE, name: value(STATE[name])}, tmp_path)


def traced(path):
    with pytest.warns(match="deprecated|not supported in Python"):
        torch.jit.trace(NETWORK.eval(), torch.zeros(1, 3, 64, 64)).save(str(path))


def cut_off(path):
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:100_000])


OTHER_FILES = {
    "is a web page": lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>404</html>"),
    "is a pointer of Git LFS.*git lfs pull": lambda path: path.write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 123\n"
    ),
    "is an ONNX model.*training.adopt": lambda path: path.write_bytes(
        (ROOT / "test" / "support" / "made_at_7e3d333" / "multiclass.onnx").read_bytes()
    ),
    "is a TorchScript program": traced,
    "is empty": lambda path: path.write_bytes(b""),
    "is cut off": cut_off,
    "is an HDF5 file": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "is JSON text": lambda path: path.write_bytes(b'{"weight_map": {}}'),
    "is an archive without tensors": lambda path: np.savez(path.open("wb"), a=np.ones(3)),
    "is a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, what):
    path = tmp_path / "a.pth"
    OTHER_FILES[what](path)

    with pytest.raises(ConfigError, match=rf"a\.pth: {what}") as caught:
        backbones.load_weights(backbones.build("squeezenet1_1", 3), "squeezenet1_1", str(path))
    with pytest.raises(DataError, match=rf"a\.pth: ({what}|no such checkpoint)"):
        checkpoint.load(path)

    assert "\n" not in str(caught.value)


def test_content_and_not_the_name_tells_a_file_of_safetensors(tmp_path):
    save_file(STATE, tmp_path / "a.pth")
    torch.save(STATE, tmp_path / "b.safetensors")

    for name in ("a.pth", "b.safetensors"):
        model = backbones.build("squeezenet1_1", 3)
        backbones.load_weights(model, "squeezenet1_1", str(tmp_path / name))
        assert is_loaded(model)


def test_weights_given_as_a_checkpoint_are_told_where_to_be_given(tmp_path):
    for content in (STATE, {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(DataError, match=r"a\.pth: .*are given as --weights, .*--backbone"):
            checkpoint.load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": STATE, "args": argparse.Namespace(mean=[0.5, 0.5, 0.5], std=(0.25, 0.5, 0.5))}, True),
        ({"state_dict": STATE, "hyper_parameters": {"mean": [127.5] * 3, "std": [63.75, 127.5, 127.5]}}, True),
        ({"state_dict": STATE, "args": argparse.Namespace(mean=None, std=None)}, False),
        ({"state_dict": STATE, "args": argparse.Namespace(mean=IMAGENET_MEAN, std=[0.229, 0.2241, 0.225])}, False),
    ],
)
def test_a_file_that_says_other_colours_than_the_weights_will_get_is_told(tmp_path, content, told):
    _, said = loaded(content, tmp_path)

    warnings = [line for line in said.lines(SPEC) if "--mean 0.5,0.5,0.5 --std 0.25,0.5,0.5" in line]
    assert len(warnings) == told
    assert len(said.lines(SPEC)) == 1 + told


@pytest.mark.parametrize("legacy", [False, True])
def test_whatever_is_damaged_in_a_file_is_read_or_refused_in_one_line(tmp_path, legacy):
    content = {"state_dict": {"a": torch.ones(2, 2)}, "args": argparse.Namespace(lr=0.1), "best": np.float64(1)}
    torch.save(content, tmp_path / "whole.pth", _use_new_zipfile_serialization=not legacy)
    whole = (tmp_path / "whole.pth").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 1000), 3):
            damaged[place] = random.integers(256)
        (tmp_path / "a.pth").write_bytes(damaged)
        with contextlib.suppress(ConfigError):  # any other is a defect
            torch_files.read_tensors(tmp_path / "a.pth")
