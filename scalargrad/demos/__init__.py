"""Demonstrations to be run: `python -m scalargrad.demos.lenet` and `python -m scalargrad.demos.moons`."""
