"""xiqa: explainable image-quality assessment for medical imaging."""

__version__ = "0.1.0"
