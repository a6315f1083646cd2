"""Owns: what the convolution benchmark tells of its measurements. Leaves to others: the methods, and the times."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs what training needs")

from benchmark import convolution
from benchmark.convolution import Cost, Setting
from cnn_perception.errors import EXIT_OK


@pytest.mark.parametrize(
    ("ratios", "side"),
    [
        ((0.9, 0.5, 0.1), 3.0),  # from the smallest kernel on
        ((2.0, 0.5, 0.1), 4.0),  # log 2 and -log 2: half-way between 3 and 5
        ((4.0, 2.0, 0.25), 5 + 2 / 3),  # a third of the way down from log 2 to -2 log 2
        ((2.0, 1.0, 0.5), 5.0),
        ((0.5, 2.0, 0.5), 6.0),  # what it wins for small kernels and loses again is no crossing
        ((0.5, 0.5, 1.1), math.inf),
    ],
)
def test_a_crossing_is_where_the_ratio_goes_below_one_for_good(ratios, side):
    assert convolution.crossing((3, 5, 7), ratios) == pytest.approx(side)


def test_crossings_are_of_medians_of_paired_ratios():
    """One slow turn of im2col alone changes nothing."""
    costs = {
        Setting(4, 8, kernel): Cost(
            {"im2col": 1.0, "fft": fft}, {"im2col": (1.0, 1.0, 1.0), "fft": (fft, fft / 100, fft)}
        )
        for kernel, fft in ((3, 2.0), (5, 0.5))
    }

    (found,) = convolution.crossings(costs)

    assert (found.method, found.other, found.channels, found.size) == ("fft", "im2col", 4, 8)
    assert found.kernel == pytest.approx(4.0)


def test_counts_alone_say_where_fft_takes_fewer_products(tmp_path, capsys):
    arguments = ["--count", "--channels", "4", "--sizes", "32", "--kernels", "3", "5", "7", "--output", str(tmp_path)]

    assert convolution.main(arguments) == EXIT_OK

    record = json.loads((tmp_path / "convolution.json").read_text())
    assert [row["multiply-adds"]["im2col"] for row in record["costs"]] == [4 * 4 * 4 * 32**2 * k**2 for k in (3, 5, 7)]
    fft = next(one for one in record["crossings"] if (one["method"], one["other"]) == ("fft", "im2col"))
    assert 3 < fft["kernel"] < 5
    assert f"{fft['kernel']:.1f}" in capsys.readouterr().out


def test_a_run_leaves_a_table_a_record_and_a_figure(tmp_path, capsys):
    arguments = [
        "--rounds",
        "2",
        "--channels",
        "2",
        "3",
        "--sizes",
        "8",
        "--kernels",
        "3",
        "5",
        "--output",
        str(tmp_path),
    ]

    assert convolution.main(arguments) == EXIT_OK

    record = json.loads((tmp_path / "convolution.json").read_text())
    assert [(row["channels"], row["size"], row["kernel"]) for row in record["costs"]] == [
        (2, 8, 3), (2, 8, 5), (3, 8, 3), (3, 8, 5),
    ]  # fmt: skip
    for row in record["costs"]:
        expected = {"direct", "im2col", "fft", "torch", "onnxruntime"} | ({"winograd"} if row["kernel"] == 3 else set())
        assert set(row["ms"]) == set(row["over_im2col"]) == expected
        assert row["over_im2col"]["im2col"] == [1.0, 1.0]
    with Image.open(tmp_path / "convolution.png") as picture:
        assert picture.width > picture.height / 3
    assert "winograd /" in capsys.readouterr().out


@pytest.mark.parametrize("side", ["4", "0", "x"])
def test_kernels_are_odd(side, capsys):
    with pytest.raises(SystemExit):
        convolution.main(["--kernels", side])
    assert "--kernels" in capsys.readouterr().err
