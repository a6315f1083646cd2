"""Owns: networks from a user's own file: what is asked of them, and when such a file is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import CLASSES, checkpoint_of
from paths import ROOT
from tiny_images import write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, ConfigError
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions
from training import checkpoint, evaluate, export, train
from training.networks import backbones, build
from training.networks.libraries import own_errors, own_module

GOOD = """
import torch
from torch import nn

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
INPUT_SIZE = (32, 40)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.last = nn.Linear(8, classes)  # registered first
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, image):
        features = self.second(self.first(image))
        return self.last(features.mean((2, 3)))


def net(classes):
    return Net(classes)
"""
RAN = "\nfrom pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"


@pytest.fixture(autouse=True)
def _a_user(tmp_path, monkeypatch):
    """A user who has run nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CNN_PERCEPTION_MODULE", raising=False)
    torch.set_num_threads(1)


def file_of(folder, forward, before="", layers="self.last = nn.Linear(3, classes)"):
    """A file whose network has some layers and a forward."""
    text = f"""
import torch
from torch import nn
{before}

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        {layers}

    def forward(self, image):
        pooled = image.mean((2, 3))
        {forward}


def net(classes):
    return Net(classes)
"""
    path = folder / "mine.py"
    path.write_text(text)
    return path


BREACHES = {
    "two outputs": ("return self.last(pooled), pooled", "", "", r"mine.py: the network gives a tuple of 2"),
    "a softmax": ("return self.last(pooled).softmax(1)", "", "", "does not end in a linear layer"),
    "a softmax behind pooled cells": (
        "return self.last(image).mean((2, 3)).softmax(1)", "", "self.last = nn.Conv2d(3, classes, 1)", "does not end",
    ),
    "a logarithm of a softmax": (
        "return self.last(image).mean((2, 3)).log_softmax(1)", "", "self.last = nn.Conv2d(3, classes, 1)",
        "does not end",
    ),
    "a sigmoid behind pooled cells": (
        "return self.last(image).amax((2, 3)).sigmoid()", "", "self.last = nn.Conv2d(3, classes, 1)", "does not end",
    ),
    "no linear layer": ("return pooled @ self.w", "", "self.w = nn.Parameter(torch.randn(3, classes))", "does not end"),
    "other classes": ("return self.last(pooled)", "", "self.last = nn.Linear(3, 7)", "gives 7 outputs for 4 classes"),
    "one image": ("return self.last(pooled)[0]", "", "", r"gives \(4,\) for 3 images"),
    "batch": ("return self.last(pooled - pooled.mean(0))", "", "", "depends on the others in its batch"),
    "chance": ("return self.last(pooled + torch.rand(3))", "", "", "other answers to the same images"),
    "state": (
        "return self.last(pooled * self.scale)",
        "",
        "self.last = nn.Linear(3, classes); self.scale = torch.randn(3)",
        "not in its state_dict",
    ),
    "import": ("return self.last(pooled)", "import nowhere_to_be_found", "", r"mine.py:4: running it failed .*install"),
    "syntax": ("return self.last(pooled)", "def (", "", r"mine.py:4: running it failed \(SyntaxError"),
    "forward": ("return self.last(pooled.missing)", "", "", r"mine.py:13: an image of 32x40 pixels failed \(Attr"),
    "constructor": ("return self.last(pooled)", "", "raise ValueError('no')", r"mine.py:9: building a network of 4"),
    "nothing learned": ("return pooled", "", "pass", "no parameters"),
    "nan": ("return self.last(pooled / 0 * 0)", "", "", "no finite number"),
    "training": (
        "return self.last(pooled if not self.training else pooled.missing)", "", "",
        r"mine.py:13: a step of training failed \(Attr",
    ),
    "train": (
        "return self.last(pooled)\n\n    def train(self, mode=True):\n        raise RuntimeError('no')", "", "",
        r"mine.py:16: trying it out failed \(RuntimeError: no\)",
    ),
    "eval": (
        "return self.last(pooled)\n\n    def eval(self):\n        super().eval()", "", "",
        r"eval\(\) or train\(\) does not return it",
    ),
    "no tensor": (
        "return self.last(pooled)\n\n    def get_extra_state(self):\n        return {}\n\n"
        "    def set_extra_state(self, state):\n        pass", "", "", "holds what is no tensor",
    ),
    "dtype": ("return self.last(pooled)", "torch.set_default_dtype(torch.float64)", "", "sets torch's default dtype"),
    "exit": ("raise SystemExit(3)", "", "", r"mine.py:13: an image of 32x40 pixels failed \(SystemExit: 3"),
    "no gradient": ("return self.last(pooled).detach()", "", "", "last layer gets no gradient in training"),
    "nan in training": ("return self.last(pooled / (0 if self.training else 1))", "", "", "finite number in training"),
}  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES)
def test_a_network_that_breaks_the_contract_is_refused_in_one_line(tmp_path, breach):
    forward, before, layers, message = BREACHES[breach]
    path = file_of(tmp_path, forward, before, layers or "self.last = nn.Linear(3, classes)")

    with pytest.raises(ConfigError, match=message) as caught:
        backbones.build(f"{path}:net", 4, size=(32, 40))

    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("pooled", ["mean((2, 3))", "amax((2, 3))", "relu().mean((2, 3))"])
def test_a_convolution_that_is_pooled_is_a_last_layer(tmp_path, pooled):
    path = file_of(tmp_path, f"return self.last(image).{pooled}", "", "self.last = nn.Conv2d(3, classes, 1)")

    assert backbones.build(f"{path}:net", 4, size=(32, 40))(torch.zeros(2, 3, 32, 40)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.py:net", "there is no file"),
        ("mine.py:nett", "has no function nett; it has Net, net"),
        ("mine.py:", "is no FILE.py:FUNCTION"),
        ("mine.py", "is no FILE.py:FUNCTION"),
        ("mine.py:Net.x", "is no FILE.py:FUNCTION"),
    ],
)
def test_a_file_or_function_that_is_not_there_is_said(tmp_path, name, message):
    (tmp_path / "mine.py").write_text(GOOD)

    with pytest.raises(ConfigError, match=message):
        backbones.build(f"{tmp_path}/{name}", 4, size=(32, 40))


def test_what_is_no_module_is_said(tmp_path):
    (tmp_path / "mine.py").write_text("def net(classes):\n    return classes\n")

    with pytest.raises(ConfigError, match=r"gives int, and no torch.nn.Module"):
        backbones.build(f"{tmp_path}/mine.py:net", 4)


def test_a_network_that_was_compiled_is_taken_as_it_was_before(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD.replace("return Net(classes)", "return torch.compile(Net(classes))"))

    assert set(backbones.build(f"{tmp_path}/mine.py:net", 4, size=(32, 40)).state_dict()) >= {"last.weight"}


def test_building_takes_nothing_from_the_run_of_chance(tmp_path):
    """The check builds a second network; the first one's weights follow from the seed as if it did not."""
    (tmp_path / "mine.py").write_text(GOOD)
    namespace = {}
    exec(GOOD, namespace)
    torch.manual_seed(3)
    expected = namespace["net"](4).state_dict()
    following = torch.rand(1)

    torch.manual_seed(3)
    found = backbones.build(f"{tmp_path}/mine.py:net", 4, size=(32, 40)).state_dict()

    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert torch.equal(torch.rand(1), following)


def test_the_last_layer_is_the_one_that_answers_not_the_one_registered_last(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD)
    model = backbones.build(f"{tmp_path}/mine.py:net", 4, size=(32, 40)).eval()
    image = torch.randn(2, 3, 32, 40)

    split = backbones.split(model, 32, 40)

    assert split.classifier is model.last
    assert split.feature_shape == (8, 8, 10)
    assert torch.equal(split.head(split.body(image))[0], model(image))
    assert backbones.stages(model, 32, 40).head == ("last.weight", "last.bias")


FOLLOWED = {
    "a choice by value": "if float(x.mean()) > 1e9:\n            return x * 2\n        return self.conv(x)",
    "a loop over rows": "return torch.stack([self.conv(row[None])[0] for row in x])",
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_a_block_that_decides_by_values_is_called_as_a_whole(tmp_path, case):
    text = f"""
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x):
        {FOLLOWED[case]}

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.block = Block()
        self.last = nn.Linear(6, classes)

    def forward(self, image):
        return self.last(self.block(image).mean((2, 3)))

net = Net
"""
    (tmp_path / "mine.py").write_text(text)
    model = backbones.build(f"{tmp_path}/mine.py:net", 4, size=(16, 20)).eval()
    images = torch.randn(2, 3, 16, 20)

    split = backbones.split(model, 16, 20)

    assert split.feature_shape == (6, 14, 18)
    torch.testing.assert_close(split.head(split.body(images))[0], model(images))


WHOLE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.last = nn.Linear(6, classes)

    def forward(self, image):
        features = self.first(image)
        HOW
        return self.last(features.mean((2, 3)))

net = Net
"""


@pytest.mark.parametrize(
    "how", ["if features.shape[0] > 10**9: raise ValueError", "features.mul_(3)", "features[:, 0] = 0"]
)
def test_a_network_that_cannot_be_followed_or_not_rightly_is_cut_before_its_last_layer(tmp_path, how):
    """fx gives stand-ins for sizes, and loses what works in place."""
    (tmp_path / "mine.py").write_text(WHOLE.replace("HOW", how))
    model = backbones.build(f"{tmp_path}/mine.py:net", 4, size=(16, 20)).eval()
    images = torch.randn(2, 3, 16, 20)

    split = backbones.split(model, 16, 20)
    stages = backbones.stages(model, 16, 20)

    assert (split.spatial, split.tokens, split.feature_shape) == (False, None, (6,))
    torch.testing.assert_close(split.head(split.body(images))[0], model(images))
    assert {id(p) for p in (*split.body.parameters(), *split.head.parameters())} == {id(p) for p in model.parameters()}
    assert sorted((*stages.head, *stages.last, *stages.below)) == sorted(key for key, _ in model.named_parameters())
    assert stages.head == ("last.weight", "last.bias")


@pytest.mark.parametrize("batch", [1, 3])
def test_a_network_that_decides_by_sizes_is_followed_and_takes_any_number_of_images(tmp_path, batch):
    how = "features = features.reshape(len(image.shape) * features.size(0) // 4, *features.shape[1:])"
    text = WHOLE.replace("HOW", f"assert features.shape[2] == 14 and features.dim() == 4\n        {how}")
    (tmp_path / "mine.py").write_text(text)
    model = backbones.build(f"{tmp_path}/mine.py:net", 4, size=(16, 20)).eval()
    images = torch.randn(batch, 3, 16, 20)

    split = backbones.split(model, 16, 20)

    assert (split.spatial, split.feature_shape) == (True, (6, 14, 18))
    torch.testing.assert_close(split.head(split.body(images))[0], model(images))


LATER = """
from torch import nn

INPUT_SIZE = (16, 20)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.last = nn.Linear(6, classes)

    def forward(self, image):
        if len(image) > 3:
            HOW
        return self.last(self.first(image).mean((2, 3)))


net = Net
"""


@pytest.mark.parametrize("how", ["raise RuntimeError('too many')", "raise SystemExit(0)", "image.missing"])
def test_what_goes_wrong_in_its_code_only_later_is_one_line_with_its_place(tmp_path, photos, how, capsys):
    (tmp_path / "mine.py").write_text(LATER.replace("HOW", how))

    assert train.main(arguments(photos, tmp_path / "run", f"{tmp_path}/mine.py:net")) == EXIT_BAD_INPUT

    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"{tmp_path}/mine.py:15: training failed (" in errors[0]


def test_an_error_in_which_it_has_no_part_is_not_said_to_be_its():
    with pytest.raises(ZeroDivisionError), own_errors.blamed("training"):
        raise ZeroDivisionError


def test_a_network_without_a_body_has_all_its_parameters_in_its_last_layer(tmp_path):
    text = (
        "from torch import nn\n\n\ndef net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))\n"
    )
    (tmp_path / "mine.py").write_text(text)

    stages = backbones.stages(backbones.build(f"{tmp_path}/mine.py:net", 4, size=(4, 4)), 4, 4)

    assert (stages.head, stages.last, stages.below) == (("1.weight", "1.bias"), (), ())


def test_a_network_whose_cells_depend_on_the_values_is_exported_without_maps(tmp_path):
    how = "features = features.flatten(2)[..., (features.mean((0, 1)).flatten() > -9).nonzero()[:, 0]][..., None]"
    (tmp_path / "mine.py").write_text(WHOLE.replace("HOW", how))
    name = f"{tmp_path}/mine.py:net"
    torch.manual_seed(0)
    model = backbones.build(name, len(CLASSES), size=(16, 20)).eval()
    images = torch.randn(2, 3, 16, 20)
    own_module.allow(name)
    saved = checkpoint.dataclasses.replace(checkpoint_of(name, model, (16, 20)), source=own_module.fields_of(name))

    spec = export.export(saved, tmp_path / "m.onnx", parity_images=2)

    assert (spec.activation, spec.score_map) == (None, None)
    found = OnnxModel(tmp_path / "m.onnx", SessionOptions(providers=("CPUExecutionProvider",))).run(images.numpy())
    torch.testing.assert_close(torch.from_numpy(np.stack([one.logits for one in found])), model(images).detach())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "signs", {"go": 9, "stop": 9})


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """A run with an own network, the file in a folder of its own, and the user's notes of what may run."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(GOOD + RAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.chdir(folder)
        assert train.main(arguments(photos, folder / "run", "mine.py:net")) == EXIT_OK
    return folder


def arguments(photos, run, backbone):
    steps = ["--epochs", "2", "--workers", "0", "--cache-gb", "0", "--baselines", "none", "--unknown", "none"]
    common = [
        "--data",
        str(photos),
        "--output",
        str(run),
        "--backbone",
        backbone,
        "--weights",
        "none",
        "--device",
        "cpu",
    ]
    return [*common, "--mode", "finetune", "--head-epochs", "1", "--last-stage-epochs", "0", *steps]


@pytest.fixture
def own(finished, tmp_path, monkeypatch):
    """That run for the same user on another day, from another folder; its folder may be changed."""
    folder = tmp_path / "own"
    shutil.copytree(finished, folder)
    (folder / "mine.ran").unlink()
    saved = checkpoint.load(folder / "run" / "best.pt")
    moved = {**saved.source, "path": str(folder / "mine.py")}
    for name in ("best.pt", "last.pt"):
        one = checkpoint.load(folder / "run" / name)
        checkpoint.save(folder / "run" / name, checkpoint.dataclasses.replace(one, source=moved))
    config = folder / "run" / "config.json"
    config.write_text(config.read_text().replace(str(finished), str(folder)))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_what_a_file_says_of_its_images_is_taken_and_kept_with_its_text(finished):
    saved = checkpoint.load(finished / "run" / "best.pt")

    assert saved.backbone == f"{finished}/mine.py:net"
    assert (saved.input.height, saved.input.width) == (32, 40)
    assert (saved.input.mean, saved.input.std) == ((0.5,) * 3, (0.25,) * 3)
    assert saved.source["text"] == GOOD + RAN


def test_on_another_day_the_run_is_scored_exported_and_continued(own, photos, capsys):
    run = own / "run"
    best = str(run / "best.pt")

    assert evaluate.main(["--checkpoint", best, "--data", str(photos), "--part", "val"]) == EXIT_OK
    assert export.main(["--checkpoint", best, "--output", str(own / "m.onnx"), "--parity-images", "2"]) == EXIT_OK
    assert train.main(["--output", str(run), "--resume", "--epochs", "3"]) == EXIT_OK, capsys.readouterr().err

    spec = OnnxModel(own / "m.onnx", SessionOptions(providers=("CPUExecutionProvider",))).spec
    assert spec.architecture == "mine.py:net"
    assert (spec.activation.method, spec.activation.stride) == ("cam", (4.0, 4.0))
    assert spec.score_map is not None
    assert str(own).encode() not in (own / "m.onnx").read_bytes()


def test_a_strangers_checkpoint_runs_nothing_until_the_user_says_so(own, tmp_path, monkeypatch):
    saved = checkpoint.load(own / "run" / "best.pt")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody else"))

    with pytest.raises(Exception, match="a program that you have not run here yet") as caught:
        build.restore(saved)

    assert "\n" not in str(caught.value)
    assert not (own / "mine.ran").exists()
    monkeypatch.setenv("CNN_PERCEPTION_MODULE", str(own / "mine.py"))
    build.restore(saved)
    assert (own / "mine.ran").exists()


def test_a_strangers_run_is_not_continued_either(own, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody else"))
    for name in ("best.pt", "last.pt", None):
        assert train.main(["--output", str(own / "run"), "--resume", "--epochs", "3"]) == EXIT_BAD_INPUT
        assert "not run here yet" in capsys.readouterr().err
        assert not (own / "mine.ran").exists()
        if name:
            (own / "run" / name).unlink()


def test_the_function_that_was_run_allows_no_other_of_the_same_file(own):
    """Else a checkpoint could call whatever a file that is trusted holds."""
    saved = checkpoint.load(own / "run" / "best.pt")
    other = checkpoint.dataclasses.replace(saved, source={**saved.source, "function": "Path"})

    with pytest.raises(Exception, match="not run here yet"):
        build.restore(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "is not there; name the file"),
        (lambda path: path.write_text(path.read_text() + "\n"), "is another file now"),
    ],
)
def test_a_file_that_is_gone_or_changed_is_said_and_its_text_can_be_had_back(own, change, message):
    best = own / "run" / "best.pt"
    change(own / "mine.py")

    with pytest.raises(Exception, match=message):
        build.restore(checkpoint.load(best))

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "training.networks", str(best)], capture_output=True, text=True, env=environment
    )
    assert done.stdout == GOOD + RAN
    assert not (own / "mine.ran").exists()


def test_a_file_that_was_moved_is_named(own, monkeypatch):
    (own / "mine.py").rename(own / "elsewhere.py")
    monkeypatch.setenv("CNN_PERCEPTION_MODULE", str(own / "elsewhere.py"))

    assert build.restore(checkpoint.load(own / "run" / "best.pt")).last.out_features == 2


def test_a_file_that_is_where_it_was_needs_no_name_beside_one_that_was_moved(own, monkeypatch):
    """As where one of two teachers has moved."""
    (own / "elsewhere.py").write_text("another network")
    monkeypatch.setenv("CNN_PERCEPTION_MODULE", str(own / "elsewhere.py"))

    assert build.restore(checkpoint.load(own / "run" / "best.pt")).last.out_features == 2


@pytest.mark.parametrize(
    "source", [{}, {"path": 3}, ["x"], {"path": "a", "function": "b", "sha256": "c", "text": None}]
)
def test_a_source_that_is_none_is_refused(own, source):
    path = own / "run" / "best.pt"
    checkpoint.save(path, checkpoint.dataclasses.replace(checkpoint.load(path), source=source))

    with pytest.raises(Exception, match="does not say where its network came from"):
        checkpoint.load(path)


@pytest.mark.parametrize("line", ["MEAN = (124, 116, 104)", "MEAN = 3", "INPUT_SIZE = (32, 0)", "INPUT_SIZE = 'x'"])
def test_constants_that_make_no_sense_are_refused(tmp_path, photos, line, capsys):
    path = Path(tmp_path / "mine.py")
    path.write_text(textwrap.dedent(GOOD) + line + "\n")

    assert train.main(arguments(photos, tmp_path / "run", f"{path}:net")) == EXIT_BAD_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1
