"""The mathematics of looking into a network: arrays in, arrays out, nothing of the page."""
