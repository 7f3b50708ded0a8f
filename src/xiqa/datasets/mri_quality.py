"""Reader of MR slices with a local defect of known severity: a folder of images with a table of targets."""

from xiqa.datasets.folder import read

__all__ = ["read"]
