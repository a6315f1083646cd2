"""The pictures of README and documentation, each made by a function: `python -m demo.pictures`, or `make pictures`."""
