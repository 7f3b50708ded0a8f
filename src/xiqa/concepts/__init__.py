"""Concepts: directions of a layer that stand for measures of an image, and what the output does along them."""
