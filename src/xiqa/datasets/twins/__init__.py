"""Twins: simulated stand-ins that are written in the file formats of the real sets, with exact ground truth."""
