"""Measures every m: examples, the procedural world and the recipe of the packaged models."""
