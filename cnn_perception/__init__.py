"""Recognises what a robot's camera sees, and shows why."""

__version__ = "0.1.0"
