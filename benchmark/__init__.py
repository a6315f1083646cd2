"""Benchmarks: the speed or memory of two programs that are measured alternately in one run, as a ratio; no tests."""
