"""Scores of saliency maps, one module each."""
