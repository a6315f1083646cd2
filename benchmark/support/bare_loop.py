"""A process that only runs ONNX Runtime, on one tensor again and again: the reference of other measurements.

Reads a number of seconds a line from stdin, and prints for each how many frames a second it did.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from cnn_perception.model.subgraph import subgraph

_OUTPUTS = ("logits", "activation", "embedding")


def _input_shape(session: onnxruntime.InferenceSession) -> list[int]:
    """Returns the shape (3, height, width) of the input: the graph's, or its description's where that is free."""
    shape = session.get_inputs()[0].shape[1:]
    if all(isinstance(number, int) for number in shape):
        return list(shape)
    spec = json.loads(session.get_modelmeta().custom_metadata_map["cnn_perception.spec"])
    return [3, spec["input"]["height"], spec["input"]["width"]]


def main() -> int:
    """Runs until stdin closes; arguments: model file, intra-op threads, images at a time, the providers."""
    path, threads, workers, *providers = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    # As the node does, for ONNX Runtime computes all outputs of a file, wanted or not.
    data = subgraph(Path(path).read_bytes(), set(_OUTPUTS))
    session = onnxruntime.InferenceSession(data, options, providers=providers)
    outputs = [output.name for output in session.get_outputs() if output.name in _OUTPUTS]
    shape = [1, *_input_shape(session)]
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def run_until(deadline: float) -> int:
        count = 0
        while time.perf_counter() < deadline:
            session.run(outputs, {"image": image})
            count += 1
        return count

    run_until(time.perf_counter() + 0.2)
    print("ready", flush=True)
    with ThreadPoolExecutor(int(workers)) as pool:
        for line in sys.stdin:
            started = time.perf_counter()
            counts = list(pool.map(run_until, [started + float(line)] * int(workers)))
            print(sum(counts) / (time.perf_counter() - started), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
