"""One convolution by six methods: a loop over the kernel, im2col, FFT, Winograd, torch and ONNX Runtime.

Each takes images (N, C, H, W), kernels (K, C, R, S), float32, and a padding in pixels, and returns what a network calls
a convolution, the cross-correlation with stride 1: (N, K, H + 2 padding - R + 1, W + 2 padding - S + 1). Kernels are
new at each call, as in training, so what a method makes of them counts to its time.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from types import MappingProxyType

import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn import functional

from benchmark.support.options import CPU

TOLERANCE = 1e-5
"""Largest difference of any method from torch's in float64, as a share of the largest output."""
Method = Callable[[Tensor, Tensor, int], Tensor]

_INPUT = torch.tensor([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_OUTPUT = torch.tensor([[1.0, 1, 1, 0], [0, 1, -1, -1]])
"""B^T, G and A^T of F(2x2, 3x3). Source: Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks."""
_FAST_FACTORS = (2, 3, 5)
_OPSET = 17


def direct(image: Tensor, kernels: Tensor, padding: int) -> Tensor:
    """Adds up, offset by offset of the kernel, the shifted image times the weights of this offset."""
    padded = _padded(image, padding)
    rows, columns = _output_size(padded, kernels)
    total = torch.zeros(len(image), len(kernels), rows * columns)
    for row, column in itertools.product(*map(range, kernels.shape[2:])):
        shifted = padded[:, :, row : row + rows, column : column + columns]
        total += kernels[:, :, row, column] @ shifted.flatten(2)
    return total.reshape(len(image), len(kernels), rows, columns)


def im2col(image: Tensor, kernels: Tensor, padding: int) -> Tensor:
    """Writes each window as a column of a matrix, and multiplies that by the matrix of the kernels.

    Source: Chellapilla, Puri, Simard 2006, High Performance Convolutional Neural Networks for Document Processing.
    """
    windows = functional.unfold(image, (kernels.shape[2], kernels.shape[3]), padding=padding)
    size = _output_size(_padded(image, padding), kernels)
    return (kernels.flatten(1) @ windows).reshape(len(image), len(kernels), *size)


def fft(image: Tensor, kernels: Tensor, padding: int) -> Tensor:
    """Multiplies the spectra: each image and each kernel is transformed once, whatever the size of the kernel.

    What wraps around at the edge is cut off, so images are padded to a length of small factors and no further.

    Source: Mathieu, Henaff, LeCun 2014, Fast Training of Convolutional Networks through FFTs.
    """
    padded = _padded(image, padding)
    rows, columns = _output_size(padded, kernels)
    length = [fast_length(pixels) for pixels in padded.shape[2:]]
    spectrum = torch.fft.rfft2(padded, length)
    product = torch.einsum("nchw,kchw->nkhw", spectrum, torch.fft.rfft2(kernels, length).conj())
    whole: Tensor = torch.fft.irfft2(product, length)
    return whole[:, :, :rows, :columns]


def winograd(image: Tensor, kernels: Tensor, padding: int) -> Tensor:
    """Makes tiles of 2x2 outputs with 16 products in place of 36, of kernels of 3x3 alone.

    The transforms of a tile are written as one matrix of 16 columns, so that all tiles are one product of matrices.

    Source: Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks, section 4.1.
    """
    assert kernels.shape[2:] == (3, 3), "F(2x2, 3x3) is for kernels of 3x3"
    padded = _padded(image, padding)
    rows, columns = _output_size(padded, kernels)
    even = functional.pad(padded, (0, columns % 2, 0, rows % 2))
    tiles = even.unfold(2, 4, 2).unfold(3, 4, 2)  # N, C, down, right, 4, 4
    down, right = tiles.shape[2:4]
    points = _twice(_INPUT) @ tiles.permute(4, 5, 1, 0, 2, 3).reshape(16, -1)
    weights = _twice(_KERNEL) @ kernels.permute(2, 3, 0, 1).reshape(9, -1)
    channels = image.shape[1]
    products = weights.reshape(16, -1, channels) @ points.reshape(16, channels, -1)
    outputs = _twice(_OUTPUT) @ products.reshape(16, -1)
    cells = outputs.reshape(2, 2, len(kernels), len(image), down, right).permute(3, 2, 4, 0, 5, 1)
    return cells.reshape(len(image), len(kernels), 2 * down, 2 * right)[:, :, :rows, :columns]


def torch_own(image: Tensor, kernels: Tensor, padding: int) -> Tensor:
    """Leaves it to torch, which leaves it to oneDNN on a CPU that has it."""
    return functional.conv2d(image, kernels, padding=padding)


def onnx_runtime(image: Tensor, kernels: Tensor, padding: int) -> Tensor:
    """Leaves it to a graph of one Conv, with one thread."""
    (values,) = _session(padding).run(None, {"image": image.numpy(), "kernels": kernels.numpy()})
    return torch.from_numpy(values)


METHODS = MappingProxyType(
    {
        "direct": direct,
        "im2col": im2col,
        "fft": fft,
        "winograd": winograd,
        "torch": torch_own,
        "onnxruntime": onnx_runtime,
    }
)


def methods_for(kernel: int) -> dict[str, Method]:
    """Returns the methods that can do a kernel of this side."""
    return {name: method for name, method in METHODS.items() if name != "winograd" or kernel == 3}


def fast_length(pixels: int) -> int:
    """Returns the next length, `pixels` or more, of which the fast transform is fast: of the factors 2, 3 and 5."""
    length = pixels
    while not _is_fast(length):
        length += 1
    return length


def multiply_adds(method: str, batch: int, channels: int, kernel: int, size: int) -> int:
    """Returns the multiply-adds of a convolution that keeps size and channels, by arithmetic alone.

    Of the spectra: four for a product of two complex numbers, of half of them, as the input is real; a real
    two-dimensional transform of M numbers takes 2.5 M log2 M operations (Frigo and Johnson 2005, The Design and
    Implementation of FFTW3, section VI), half of it as multiply-adds. Of Winograd's tiles the 16 products, and half of
    the 32, 28 and 24 operations of its transforms (Lavin and Gray 2016, section 4.1).

    Raises:
        KeyError: If the method is not one of those with a formula: direct, im2col, fft, winograd.
    """
    counts = {"direct": _of_windows, "im2col": _of_windows, "fft": _of_spectra, "winograd": _of_tiles}
    return counts[method](batch, channels, kernel, size)


def _of_windows(batch: int, channels: int, kernel: int, size: int) -> int:
    return batch * channels**2 * kernel**2 * size**2


def _of_spectra(batch: int, channels: int, kernel: int, size: int) -> int:
    length = fast_length(size + 2 * (kernel // 2))
    transforms = 2 * batch * channels + channels**2  # of the images, of the outputs and of the kernels
    points = length * (length // 2 + 1)
    return round(transforms * 1.25 * length**2 * math.log2(length**2) + 4 * batch * channels**2 * points)


def _of_tiles(batch: int, channels: int, kernel: int, size: int) -> int:
    tiles = batch * math.ceil(size / 2) ** 2
    return tiles * (16 * channels**2 + (16 + 12) * channels) + 14 * channels**2


def _padded(image: Tensor, padding: int) -> Tensor:
    return functional.pad(image, (padding, padding, padding, padding))


def _output_size(padded: Tensor, kernels: Tensor) -> tuple[int, int]:
    (height, width), (rows, columns) = padded.shape[2:], kernels.shape[2:]
    return height - rows + 1, width - columns + 1


def _is_fast(length: int) -> bool:
    for factor in _FAST_FACTORS:
        while length % factor == 0:
            length //= factor
    return length == 1


def _twice(matrix: Tensor) -> Tensor:
    """Returns the matrix that does to a tile, written as a column, what M tile M^T does to it."""
    return torch.kron(matrix, matrix)


@functools.lru_cache
def _session(padding: int) -> onnxruntime.InferenceSession:
    image, kernels, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("image", "kernels", "output")
    )
    node = helper.make_node("Conv", ["image", "kernels"], ["output"], pads=[padding] * 4)
    graph = helper.make_graph([node], "convolution", [image, kernels], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
