"""What the benchmarks share: pairs of measurements, processes that are measured, options."""
