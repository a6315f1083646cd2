"""The bare ONNX Runtime loop that the node is compared with: one tensor, run again and again, in a process of its own.

Reads a number of seconds a line from stdin, and prints for each how many frames a second it did.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime


def main() -> int:
    """Runs until stdin closes; arguments: the model file, the intra-op threads, the providers."""
    path, threads, *providers = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    shape = [1, *session.get_inputs()[0].shape[1:]]
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for _ in range(5):
        session.run(None, {"image": image})
    print("ready", flush=True)
    for line in sys.stdin:
        count, started = 0, time.perf_counter()
        deadline = started + float(line)
        while (now := time.perf_counter()) < deadline:
            session.run(None, {"image": image})
            count += 1
        print(count / (now - started), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
