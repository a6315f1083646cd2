"""Owns: the settings of a training run and the command line derived from them. Leaves to others: what they do."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
import typing

import pytest
from paths import ROOT

from cnn_perception.errors import ConfigError
from training.config import SWITCHES, TrainConfig, from_json, make, parse, without_effect
from training.config.command_line import GROUPS
from training.loop.run import settings

PLACES = {"data": "images", "output": "run"}
FLAGS = [
    ("--data", ...),
    ("--output", ...),
    ("--task", "auto"),
    ("--targets", ()),
    ("--group-pattern", None),
    ("--classes", None),
    ("--strict --no-strict", False),
    ("--on-conflict", "error"),
    ("--recipe", "none"),
    ("--backbone", "resnet18"),
    ("--weights", "imagenet"),
    ("--feature-layer", None),
    ("--grid", None),
    ("--mode", "finetune"),
    ("--epochs", 15),
    ("--batch-size", 32),
    ("--input-size", (224, 224)),
    ("--resize-mode", "crop"),
    ("--crop-fraction", None),
    ("--interpolation", "bilinear"),
    ("--mean", (0.485, 0.456, 0.406)),
    ("--std", (0.229, 0.224, 0.225)),
    ("--val-fraction", 0.2),
    ("--test-fraction", 0.0),
    ("--split", "random"),
    ("--folds", None),
    ("--fold", None),
    ("--seed", 0),
    ("--augment", None),
    ("--crop-area", 0.35),
    ("--color-strength", 0.3),
    ("--rotation-deg", 360.0),
    ("--translate-px", 10.0),
    ("--scale-factor", 1.6),
    ("--shear-deg", 20.0),
    ("--stretch-factor", 1.3),
    ("--randaugment-operations", 2),
    ("--randaugment-magnitude", 9),
    ("--mixup", 0.0),
    ("--cutmix", 0.0),
    ("--balance", "none"),
    ("--loss", "usual"),
    ("--auxiliary-weight", 0.3),
    ("--optimizer", "adamw"),
    ("--momentum", 0.9),
    ("--rmsprop-alpha", 0.99),
    ("--adam-betas", (0.9, 0.999)),
    ("--lr", 0.001),
    ("--lr-decay-per-stage", 0.1),
    ("--init", "own"),
    ("--head-init", "random"),
    ("--head-epochs", None),
    ("--last-stage-epochs", None),
    ("--freeze-norm --no-freeze-norm", False),
    ("--adapt-norm --no-adapt-norm", False),
    ("--schedule", "cosine"),
    ("--warmup-epochs", None),
    ("--step-epochs", 10),
    ("--patience", 3),
    ("--lr-gamma", 0.1),
    ("--weight-decay", 0.05),
    ("--dropout", None),
    ("--label-smoothing", 0.0),
    ("--accumulate", 1),
    ("--clip-norm", 0.0),
    ("--ema", 0.0),
    ("--select", "best"),
    ("--early-stop", 0),
    ("--bad-steps", 3),
    ("--teacher", ()),
    ("--unlabelled", ()),
    ("--unlabelled-images", 20_000),
    ("--distil-weight", 0.5),
    ("--distil-temperature", 4.0),
    ("--unknown", "auto"),
    ("--false-alarm-rate", 0.05),
    ("--outside", None),
    ("--baselines", "cheap"),
    ("--workers", None),
    ("--cache-gb", 4.0),
    ("--cache-dir", None),
    ("--device", "auto"),
    ("--amp", "auto"),
    ("--channels-last --no-channels-last", True),
    ("--compile --no-compile", False),
    ("--tensorboard --no-tensorboard", False),
    ("--find-lr --no-find-lr", False),
    ("--resume --no-resume", False),
]
"""Every option and its default, as they were before the settings lay in a folder; `...` where one must be given."""


def test_the_command_line_has_every_setting_once(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])

    text = capsys.readouterr().out
    assert stopped.value.code == 0
    for field in dataclasses.fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in text


def test_flags_and_defaults_are_the_ones_they_were(capsys):
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    required = {name for name, default in defaults.items() if default is dataclasses.MISSING}
    expected = {words.split()[0][2:].replace("-", "_"): default for words, default in FLAGS}

    assert [*defaults] == [*expected]
    assert required == {name for name, default in expected.items() if default is ...}
    assert {name: defaults[name] for name in defaults.keys() - required} == {
        name: default for name, default in expected.items() if default is not ...
    }
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = {word for word in capsys.readouterr().out.split() if word.startswith("--")}
    assert {word for words, _ in FLAGS for word in words.split()} <= {word.rstrip(",") for word in shown}


def test_help_begins_with_the_ten_settings_that_matter_and_has_each_setting_in_one_named_group(capsys):
    listed = [name for names in GROUPS.values() for name in names]
    with pytest.raises(SystemExit):
        parse(["--help"])

    text = capsys.readouterr().out
    assert sorted(listed) == sorted(field.name for field in dataclasses.fields(TrainConfig))
    assert [*GROUPS] == ["most used", "data", "network", "optimisation", "augmentation", "confidence", "run"]
    headings = [line.rstrip(":") for line in text.splitlines() if line.rstrip(":") in GROUPS]
    assert headings == [*GROUPS]
    assert len(GROUPS["most used"]) == 10
    assert text.index("--epochs") < text.index("\ndata:") < text.index("--targets")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"momentum": 0.5}, ["--momentum has no effect without --optimizer sgd or nesterov or rmsprop"]),
        ({"momentum": 0.5, "optimizer": "sgd"}, []),
        ({"rotation_deg": 10.0}, ["--rotation-deg has no effect without --augment rotate"]),
        ({"rotation_deg": 10.0, "augment": ("classic",)}, []),
        ({"crop_area": 0.5}, []),
        ({"distil_weight": 0.1}, ["--distil-weight has no effect without --teacher"]),
        ({"distil_weight": 0.1, "teacher": "best.pt"}, []),
        ({"patience": 2, "schedule": "step"}, ["--patience has no effect without --schedule plateau"]),
        ({"mode": "scratch", "head_epochs": 1}, ["--head-epochs has no effect without --mode finetune"]),
        ({"label_smoothing": 0.1, "targets": ("angle",)}, ["--label-smoothing has no effect with --targets"]),
        ({"cache_dir": "c", "cache_gb": 0.0}, ["--cache-dir has no effect without --cache-gb"]),
        ({"outside": "o", "unknown": "none"}, ["--outside has no effect without --unknown auto or energy or distance"]),
        ({"unknown": "energy"}, []),
        ({"rmsprop_alpha": 0.9}, ["--rmsprop-alpha has no effect without --optimizer rmsprop"]),
        ({"rmsprop_alpha": 0.9, "optimizer": "rmsprop"}, []),
        ({"adam_betas": (0.8, 0.9), "optimizer": "sgd"},
         ["--adam-betas has no effect without --optimizer adam or adamw"]),
        ({"adam_betas": (0.8, 0.9)}, []),
        ({"init": "xavier", "head_init": "probe"}, ["--init has no effect with --head-init=probe"]),
        ({"init": "xavier"}, []),
        ({"auxiliary_weight": 0.5}, ["--auxiliary-weight has no effect without --backbone googlenet_v1 or googlenet"]),
        ({"auxiliary_weight": 0.5, "backbone": "googlenet"},
         ["--auxiliary-weight has no effect without --weights none"]),
        ({"auxiliary_weight": 0.5, "backbone": "googlenet", "weights": "none"}, []),
        ({"auxiliary_weight": 0.5, "backbone": "googlenet_v1", "mode": "scratch", "grid": (1, 1)},
         ["--auxiliary-weight has no effect with --grid"]),
    ],
)  # fmt: skip
def test_a_setting_that_has_no_effect_beside_the_others_is_named(given, expected):
    assert without_effect(given, make(**PLACES, **given)) == [f"warning: {line}" for line in expected]


def test_what_a_setting_needs_is_a_setting_and_one_of_its_values():
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    hints = typing.get_type_hints(TrainConfig)
    for field in fields.values():
        for need in field.metadata["needs"].split(" and "):
            wanted, _, values = need.removeprefix("not ").partition("=")
            if wanted:
                assert wanted in fields
                known = SWITCHES if wanted == "augment" else typing.get_args(hints[wanted])
                is_open = hints[wanted] is str  # such as the names of networks
                assert is_open or not values or {*values.split(",")} <= {*known}


def test_the_settings_need_no_torch():
    code = "import sys, training.config; print(sorted({'torch', 'torchvision'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"


def test_only_what_was_given_is_taken_from_the_command_line():
    given = parse(["--data", "d", "--input-size", "96x128", "--augment", "crop,classic", "--no-channels-last"])

    assert given == {"data": ["d"], "input_size": (96, 128), "augment": ("crop", "classic"), "channels_last": False}
    assert parse(["--input-size", "160"]) == {"input_size": (160, 160)}


def test_paths_among_the_settings_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--output=~/run", "--cache-dir", "~/c", "--outside", "~/o", "--weights", "~/w.pt", "--classes", "~/k.txt"]

    found = parse(["--data", "~/a", "b", *words, "--backbone", "~/m.py:small"])

    assert found == {
        "data": [f"{tmp_path}/a", "b"],
        "output": f"{tmp_path}/run",
        "cache_dir": f"{tmp_path}/c",
        "outside": f"{tmp_path}/o",
        "weights": f"{tmp_path}/w.pt",
        "classes": f"{tmp_path}/k.txt",
        "backbone": f"{tmp_path}/m.py:small",
    }


def test_each_mode_has_defaults_of_its_own_and_what_is_given_wins():
    assert make(**PLACES, mode="probe").weight_decay is None
    assert make(**PLACES, mode="scratch").weights == "none"
    finetune = make(**PLACES, mode="finetune", epochs=20, label_smoothing=0.0)
    assert (finetune.weights, finetune.label_smoothing) == ("imagenet", 0.0)
    assert (finetune.head_epochs, finetune.last_stage_epochs, finetune.warmup_epochs) == (2, 3, 1.0)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 60])
def test_every_number_of_epochs_has_phases_that_fit(epochs):
    config = make(**PLACES, epochs=epochs)

    assert config.head_epochs + config.last_stage_epochs < epochs


def test_augmentations_add_up_and_flip_can_be_left_out():
    assert make(**PLACES, augment=("crop", "color", "classic")).augment == (
        "crop", "color", "rotate", "translate", "scale", "shear", "stretch",
    )  # fmt: skip
    assert make(**PLACES, augment=("light", "none")).augment == ("crop", "flip", "color")
    assert make(**PLACES, augment=("none",)).augment == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "--epochs: 0 is out of range"),
        ({"lr": float("nan")}, "--lr: nan is out of range"),
        ({"lr": float("inf")}, "--lr: inf is out of range"),
        ({"batch_size": 1}, "--batch-size: 1 is out of range"),
        ({"batch_size": 2.5}, "--batch-size: 2.5 is out of range"),
        ({"input_size": (7, 64)}, "--input-size"),
        ({"optimizer": "lion"}, "--optimizer: 'lion' is none of sgd"),
        ({"augment": ("mixup",)}, "--augment: 'mixup' is unknown"),
        ({"mode": "probe", "lr": 0.1}, "--lr has no effect in --mode probe"),
        ({"mode": "scratch", "weights": "imagenet"}, "--mode scratch starts from no weights"),
        ({"mode": "scratch", "head_init": "probe"}, "--head-init probe needs features"),
        ({"mode": "scratch", "freeze_norm": True}, "--freeze-norm needs features"),
        ({"mode": "finetune", "adapt_norm": True}, "--adapt-norm is for --mode probe: --mode finetune estimates"),
        ({"mode": "scratch", "adapt_norm": True}, "--adapt-norm is for --mode probe: --mode scratch estimates"),
        ({"select": "last", "early_stop": 2}, "--early-stop ends by the validation images"),
        ({"epochs": 3, "head_epochs": 2, "last_stage_epochs": 2}, "exceed --epochs 3"),
        ({"epochs": 3, "warmup_epochs": 4.0}, "--warmup-epochs: 4.0 exceeds"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave less than a tenth"),
        ({"resize_mode": "letterbox", "crop_fraction": 0.875}, "--crop-fraction: needs --resize-mode crop"),
        ({"data": ""}, "--data is missing"),
        ({"moment": 1}, "unknown settings moment;"),
        ({"mean": (0.5, 0.5)}, r"--mean: .* is not three finite numbers"),
        ({"mean": "abc"}, r"--mean: 'abc' is not three finite numbers"),
        ({"std": (0.5, float("nan"), 0.5)}, r"--std: .* is not three finite numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "--std: 0.5,0,0.5 is out of range"),
        ({"std": (0.5, -0.2, 0.5)}, "--std: 0.5,-0.2,0.5 is out of range"),
        ({"mean": (-0.1, 0.5, 0.5)}, "--mean: -0.1,0.5,0.5 is out of range"),
        ({"mean": (300.0, 0.5, 0.5)}, "--mean: 300,0.5,0.5 is out of range"),
    ],
)
def test_a_wrong_setting_is_named(given, message):
    with pytest.raises(ConfigError, match=message):
        make(**{**PLACES, **given})


@pytest.mark.parametrize(
    ("mean", "std", "cure"),
    [  # of 0 to 255, as Caffe, Keras and OpenCV's users have them
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"),
        ((102.0, 127.5, 153.0), (1.0, 1.0, 1.0), "--mean 0.4,0.5,0.6 --std 0.00392157,0.00392157,0.00392157"),
        ((123.675, 116.28, 103.53), (0.229, 0.224, 0.225), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ((0.485, 0.456, 0.406), (58.395, 57.12, 57.375), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
    ],
)
def test_colours_of_pixels_up_to_255_are_refused_with_those_to_give(mean, std, cure):
    with pytest.raises(ConfigError, match=f"are of pixels from 0 to 255; .*: {re.escape(cure)}$"):
        make(**PLACES, mean=mean, std=std)

    given = parse(shlex.split(cure))  # what is said can be given
    assert make(**PLACES, **given).input.mean == given["mean"]


def test_own_colours_are_the_inputs_and_one_number_is_for_all_three():
    given = parse(["--mean", "0.5", "--std", "0.25,0.5, 0.125", "--interpolation", "bicubic"])

    size = make(**PLACES, **given).input
    assert (size.mean, size.std, size.interpolation) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.125), "bicubic")
    assert make(**PLACES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).std == (1.0, 1.0, 1.0)
    for wrong in ("0.5,0.5", "a,b,c", "0.1,0.2,0.3,0.4", ""):
        with pytest.raises(SystemExit):
            parse(["--mean", wrong])


@pytest.mark.parametrize(("fraction", "fits"), [(0.009, False), (0.01, True), (0.9, True), (0.901, False)])
def test_a_range_includes_its_ends(fraction, fits):
    if fits:
        assert make(**PLACES, val_fraction=fraction).val_fraction == fraction
    else:
        with pytest.raises(ConfigError):
            make(**PLACES, val_fraction=fraction)


def test_settings_survive_json():
    config = make(**PLACES, input_size=(96, 128), augment=("classic",), momentum=0.8, mean=(0.5, 0.25, 0.0))

    assert TrainConfig(**from_json(json.dumps(config.to_dict()), "config.json")) == config


def test_a_config_of_before_there_were_some_settings_has_their_defaults():
    config = make(**PLACES, momentum=0.8)
    older = {name: value for name, value in config.to_dict().items() if name not in ("mean", "std", "classes")}

    assert TrainConfig(**from_json(json.dumps(older), "config.json")) == config


@pytest.mark.parametrize("text", ["{", "[]", '{"lr": 1}'])
def test_a_foreign_config_is_refused(text):
    with pytest.raises(ConfigError, match="start a new run"):
        from_json(text, "config.json")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("group_pattern", 5, "--group-pattern: 5 is no text"),
        ("classes", 7, "--classes: 7 is no text"),
        ("backbone", None, "--backbone: None is no text"),
        ("weights", ["none"], "--weights: .* is no text"),
        ("strict", "no", "--strict: 'no' is no yes or no"),
        ("strict", 1, "--strict: 1 is no yes or no"),
        ("augment", "flip", "--augment: 'flip' is not a list of texts"),
        ("augment", [1], "--augment: .* is not a list of texts"),
        ("targets", "angle", "--targets: 'angle' is not a list of texts"),
        ("data", 5, "--data: 5 is not a list of texts"),
        ("data", [["a"]], "--data: .* is not a list of texts"),
        ("data", [], "--data: must not be empty"),
        ("input_size", [64], "--input-size: .* is not 2 numbers"),
        ("input_size", 64, "--input-size: 64 is not 2 numbers"),
        ("adam_betas", [0.9, "0.9"], "--adam-betas: .* is not 2 numbers"),
        ("lr", "0.1", "--lr: 0.1 is out of range"),
        ("epochs", None, "--epochs: none is out of range"),
        ("optimizer", ["sgd"], "--optimizer: .* is none of sgd"),
        ("optimizer", {"name": "sgd"}, "--optimizer: .* is none of sgd"),
        ("mean", 5, "--mean: .* is not three finite numbers"),
    ],
)
def test_a_value_of_another_type_in_a_stored_config_is_named_in_one_line(name, value, message):
    kept = make(**PLACES).to_dict() | {name: value}

    with pytest.raises(
        ConfigError, match=f"^run/config.json: {message}.*; restore this file, or start a new run$"
    ) as e:
        from_json(json.dumps(kept), "run/config.json")
    assert "\n" not in str(e.value)


def test_a_stored_config_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(json.dumps(make(**PLACES).to_dict()).encode().replace(b"resnet18", b"resnet\xff8"))

    with pytest.raises(ConfigError, match=r"config\.json: is no text in UTF-8; restore this file"):
        settings({"output": str(tmp_path), "resume": True})


@pytest.mark.parametrize("words", ["0.9", "0.9,1", "0.9,-0.1", "a,b", "0.9,0.99,0.999", "nan,0.9"])
def test_betas_are_two_shares_below_1(words):
    with pytest.raises((ConfigError, SystemExit)):
        make(**PLACES, **parse(["--adam-betas", words]))


def test_a_run_of_an_earlier_version_goes_on_without_what_it_did_not_have():
    kept = make(**PLACES, backbone="googlenet", weights="none").to_dict()
    for name in ("loss", "init", "rmsprop_alpha", "adam_betas", "auxiliary_weight", "adapt_norm"):
        del kept[name]

    found = from_json(json.dumps(kept), "config.json")

    assert (found["loss"], found["init"], found["adam_betas"]) == ("usual", "own", (0.9, 0.999))
    assert found["auxiliary_weight"] == 0
    assert found["adapt_norm"] is False
