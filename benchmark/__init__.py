"""Measurements, reported as ratios of two things measured alternately in one run; never tests."""
