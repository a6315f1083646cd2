"""Collects from a running camera; the only folder of training that uses ROS."""
