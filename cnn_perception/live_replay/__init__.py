"""Replays a bag to a real perception_node as it ran on the robot: `evaluate_bag --live`."""
