"""Owns: that every method of the convolution benchmark computes a convolution. Leaves to others: how long it takes."""

from __future__ import annotations

import pytest
from scipy.fft import next_fast_len
from scipy.signal import correlate2d

pytest.importorskip("torch", reason="needs what training needs")

import torch
from torch.nn import functional

from benchmark.support.convolutions import METHODS, TOLERANCE, fast_length, methods_for, multiply_adds

SIZES = [(8, 8), (9, 7), (5, 12), (3, 3)]
EVERY = [
    (name, kernel, padding)
    for kernel, padding in [(1, 0), (2, 1), (3, 0), (3, 1), (3, 2), (5, 2), (4, 3), (7, 3)]
    for name in methods_for(kernel)
]


def drawn(height, width, rows, columns, channels=3, filters=4, batch=2):
    torch.manual_seed(0)
    return torch.randn(batch, channels, height, width), torch.randn(filters, channels, rows, columns)


def error(found, expected):
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("name", "kernel", "padding"), EVERY)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_method_is_torchs_convolution_within_the_tolerance(name, kernel, padding, height, width):
    if min(height, width) + 2 * padding < kernel:
        pytest.skip("the kernel is larger than the image")
    image, kernels = drawn(height, width, kernel, kernel)
    expected = functional.conv2d(image.double(), kernels.double(), padding=padding)

    found = METHODS[name](image, kernels, padding)

    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert error(found, expected) <= TOLERANCE


@pytest.mark.parametrize("name", ["direct", "im2col", "fft", "torch", "onnxruntime"])
def test_kernels_need_not_be_square(name):
    image, kernels = drawn(10, 11, 2, 5)
    expected = functional.conv2d(image.double(), kernels.double(), padding=1)

    assert error(METHODS[name](image, kernels, 1), expected) <= TOLERANCE


@pytest.mark.parametrize("name", METHODS)
def test_one_channel_is_what_scipy_correlates(name):
    image, kernels = drawn(9, 6, 3, 3, channels=1, filters=1, batch=1)
    expected = torch.from_numpy(correlate2d(image[0, 0].double().numpy(), kernels[0, 0].double().numpy(), "valid"))

    assert error(METHODS[name](image, kernels, 0)[0, 0], expected) <= TOLERANCE


@pytest.mark.parametrize("name", METHODS)
def test_large_sums_stay_within_the_tolerance(name):
    """Of 64 channels, where errors of float32 add up."""
    image, kernels = drawn(32, 32, 3, 3, channels=64, filters=16)
    expected = functional.conv2d(image.double(), kernels.double(), padding=1)

    assert error(METHODS[name](image, kernels, 1), expected) <= TOLERANCE


def test_winograd_refuses_what_it_is_not_made_for():
    assert "winograd" not in methods_for(5)
    with pytest.raises(AssertionError, match="3x3"):
        METHODS["winograd"](*drawn(8, 8, 5, 5), 2)


def test_lengths_of_transforms_are_those_that_scipy_takes_too():
    for pixels in range(1, 400):
        assert fast_length(pixels) == next_fast_len(pixels, real=True)


def test_counts_are_those_of_hand_arithmetic():
    # 10 filters of 5x5x3 would be 768,000 on 32x32; here channels are kept: 3 of them.
    assert multiply_adds("direct", 1, 3, 5, 32) == multiply_adds("im2col", 1, 3, 5, 32) == 5 * 5 * 3 * 3 * 32 * 32
    # A tile of 2x2 outputs: 16 products a pair of channels, 28 of its two transforms a channel; 14 a kernel.
    assert multiply_adds("winograd", 1, 2, 3, 2) == 16 * 4 + 28 * 2 + 14 * 4
    # 6 + 2 pixels make transforms of 8x8 = 64 numbers, 2.5 * 64 * 6 / 2 = 480 multiply-adds each; 8x5 points remain.
    assert multiply_adds("fft", 1, 2, 3, 6) == (2 * 2 + 4) * 480 + 4 * 4 * 40


def test_with_many_channels_winograd_saves_five_ninths_of_the_products():
    """36 products become 16 (Lavin and Gray: 2.25 times fewer)."""
    ratio = multiply_adds("direct", 8, 1024, 3, 64) / multiply_adds("winograd", 8, 1024, 3, 64)

    assert ratio == pytest.approx(2.25, rel=0.01)
