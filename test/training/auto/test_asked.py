"""Owns: what of a command line is refused at once, and what may not change. Leaves to others: what is tried."""

from __future__ import annotations

import pytest

from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError
from training.auto import command
from training.auto.asked import Asked

USUAL = {
    "given": {"data": ["d"]}, "minutes": 1.0, "max_latency_ms": None, "backbones": (), "weights": (),
    "precision": "fp32", "folds": 5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "--minutes 0"),
        (["--minutes", "-1"], "--minutes -1"),
        (["--minutes", "nan"], "--minutes nan"),
        (["--minutes", "inf"], "--minutes inf"),
        (["--max-latency-ms", "0"], "--max-latency-ms 0"),
        (["--max-latency-ms", "nan"], "--max-latency-ms nan"),
        (["--folds", "1"], "--folds 1"),
        (["--backbones", "resnet18", "resnet18"], "'resnet18' is named twice"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_read(words, said, tmp_path, capsys):
    assert command.main(["--data", "d", "--output", str(tmp_path / "run"), *words]) == EXIT_BAD_INPUT

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not (tmp_path / "run").exists()


def test_data_that_nobody_named_are_asked_for(tmp_path, capsys):
    assert command.main(["--output", str(tmp_path / "run")]) == EXIT_BAD_INPUT
    assert "--data is missing" in capsys.readouterr().err


def test_time_and_limit_may_change_when_it_goes_on_and_weights_count_by_their_content(tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"one")
    asked = Asked(output=tmp_path, **{**USUAL, "weights": (f"resnet18={file}",)})
    longer = Asked(output=tmp_path, **{**USUAL, "weights": asked.weights, "minutes": 9.0, "max_latency_ms": 3.0})
    before = asked.identity()

    assert longer.identity() == before
    file.write_bytes(b"two")
    assert asked.identity() != before


def test_a_network_of_a_file_counts_by_its_content(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("one")
    asked = Asked(output=tmp_path, **{**USUAL, "backbones": (f"{file}:net", "resnet18")})
    before = asked.identity()

    assert asked.identity() == before
    file.write_text("two")
    assert asked.identity() != before


def test_precision_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--precision int4"):
        Asked(output=tmp_path, **{**USUAL, "precision": "int4"})


@pytest.mark.parametrize("among", ["backbones", "weights"])
def test_a_network_of_the_users_own_counts_by_its_content(among, tmp_path):
    file = tmp_path / "net.py"
    file.write_text("one")
    named = {"backbones": (f"{file}:net", "resnet18")} if among == "backbones" else {"weights": (f"{file}:net=w.pth",)}
    asked = Asked(output=tmp_path, **{**USUAL, **named})
    before = asked.identity()

    assert f"{file}:net" in asked.networks
    assert asked.identity() == before
    file.write_text("two")
    assert asked.identity() != before
