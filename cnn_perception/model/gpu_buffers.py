"""Runs a session on a GPU with input memory that is allocated once, not for every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from cnn_perception.model.outputs import FloatArray


class GpuBuffers:
    """One input buffer on the device for each batch size, and outputs that are copied back in one go.

    A plain run allocates memory on the device for the input, and copies each output as soon as ONNX Runtime has it. On
    the CPU they gain nothing: a plain run reads the caller's array where it lies.
    """

    def __init__(self, session: Any, input_name: str, device: str, device_id: int) -> None:  # noqa: ANN401
        self._session = session
        self._input_name = input_name
        self._device = (device, device_id)
        self._buffers: dict[tuple[int, ...], Any] = {}

    def allocate(self, shape: tuple[int, ...]) -> None:
        """Allocates the memory for inputs of one shape."""
        self._buffers[shape] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, *self._device)

    def run(self, names: Sequence[str], images: FloatArray, run_options: Any) -> list[FloatArray] | None:  # noqa: ANN401
        """Returns the outputs called `names`, or None for a shape that nothing was allocated for."""
        buffer = self._buffers.get(images.shape)
        if buffer is None:
            return None
        buffer.update_inplace(images)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input_name, buffer)
        # Bound anew each time: outputs that stay bound are written over by the next run, under the caller's arrays.
        for name in names:
            binding.bind_output(name, *self._device)
        self._session.run_with_iobinding(binding, run_options)
        outputs: list[FloatArray] = binding.copy_outputs_to_cpu()
        return outputs
