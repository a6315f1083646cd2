"""evaluate_bag --rois: each box of another detector is evaluated as a frame of its own."""
