"""Networks: built by name, given weights, cut where the head begins."""
