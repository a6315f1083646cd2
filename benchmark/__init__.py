"""Benchmarks: the speed or memory of two programs that are measured alternately in one run, as a ratio; no tests."""

import cnn_perception as cnn_perception  # first: it takes the working directory off `sys.path`
