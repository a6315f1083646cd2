"""Looks into a trained network: what its layers, units and classes respond to, in one page."""
