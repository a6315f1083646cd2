"""Owns: recipes: the files, and that the command line wins. Leaves to others: what the settings do."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny_run import tiny_run, write_photos

from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError
from training.config import make, with_recipe
from training.loop.run import settings
from training.recipes import recipe
from training.train import main

PLACES = {"data": "images", "output": "run"}


def made(name, **given):
    return make(**with_recipe({**PLACES, "recipe": name, **given}))


def test_alexnet_2012_is_what_the_paper_says():
    config = made("alexnet2012")

    assert (config.optimizer, config.momentum, config.weight_decay, config.lr) == ("sgd", 0.9, 5e-4, 0.01)
    assert (config.schedule, config.lr_gamma, config.dropout, config.batch_size) == ("plateau", 0.1, 0.5, 128)
    assert config.crop_area == pytest.approx(224**2 / 256**2, abs=1e-3)


def test_resnet_2015_is_what_the_paper_says():
    config = made("resnet2015")

    assert (config.optimizer, config.momentum, config.weight_decay, config.lr) == ("sgd", 0.9, 1e-4, 0.1)
    assert (config.schedule, config.lr_gamma, config.dropout, config.batch_size) == ("plateau", 0.1, None, 256)
    assert config.crop_area == pytest.approx(224**2 / 480**2, abs=1e-3)


def test_nielsen_2015_is_what_the_book_says():
    config = made("nielsen2015")

    assert (config.backbone, config.loss, config.init, config.input_size) == ("mlp", "squared", "standard", (28, 28))
    assert (config.optimizer, config.momentum, config.weight_decay, config.lr) == ("sgd", 0.0, 0.0, 3.0)
    assert (config.schedule, config.warmup_epochs, config.batch_size, config.epochs) == ("constant", 0, 10, 30)
    assert (config.mean, config.std, config.crop_fraction, config.augment) == ((0, 0, 0), (1, 1, 1), 1, ())


def test_the_finetune_recipe_writes_out_the_defaults():
    assert dataclasses.replace(made("finetune"), recipe="none", augment=None) == make(**PLACES, mode="finetune")


@pytest.mark.parametrize("name", recipe.NAMES)
def test_every_recipe_says_where_it_comes_from(name):
    lines = recipe.path_of(name).read_text().splitlines()

    assert lines[0].startswith("# ")
    assert any(year in " ".join(lines) for year in ("2012", "2015", "2017", "2018"))
    assert made(name).recipe == name


def test_the_command_line_wins_over_the_recipe_and_the_run_keeps_the_final_values(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n--optimizer sgd  # why not\n--lr 0.3\n\n--input-size 32x40\n--no-channels-last\n")

    config = settings({**PLACES, "recipe": str(file), "lr": 0.2})
    run = tiny_run(write_photos(tmp_path / "data"), tmp_path / "run", **with_recipe({"recipe": str(file), "lr": 0.2}))

    kept = json.loads((run.folder / "config.json").read_text())
    assert (config.optimizer, config.lr, config.input_size, config.channels_last) == ("sgd", 0.2, (32, 40), False)
    assert (kept["optimizer"], kept["lr"], kept["recipe"]) == ("sgd", 0.2, str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--lrr 0.1", "unrecognized arguments: --lrr 0.1"),
        ("--lr fast", "--lr: invalid float value"),
        ("--optimizer lion", "--optimizer: invalid choice"),
        ("--lr 1  # it's\n'", "No closing quotation"),
        ("--output elsewhere", "--output belongs on the command line"),
        ("--recipe finetune", "--recipe belongs on the command line"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line_that_names_it(tmp_path, capsys, text, message):
    (tmp_path / "bad.txt").write_text(text)

    with pytest.raises(ConfigError, match=r"bad\.txt") as caught:
        with_recipe({"recipe": str(tmp_path / "bad.txt")})

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_is_refused_with_the_known_names(tmp_path, capsys):
    assert main(["--data", "d", "--output", str(tmp_path / "run"), "--recipe", "alexnet"]) == EXIT_BAD_INPUT
    assert "take alexnet2012, finetune, nielsen2015, resnet2015, small_data or a file" in capsys.readouterr().err
