"""Counterfactuals: the image that would have been decided otherwise, and how far that can be believed."""
