"""Saliency methods, one module each; loaded by name so that each belongs to its own stage."""
