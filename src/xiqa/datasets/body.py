"""Where the body is in a prepared image."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu


def body_mask(image: np.ndarray) -> np.ndarray:
    """The body, such as the head in a slice: the largest bright region with its holes filled.

    Args:
        image: (h, w) in 0..1; air around the body is dark.

    Returns:
        (h, w) bool; all pixels where the image has no range.
    """
    image = ndimage.gaussian_filter(np.asarray(image, np.float64), 1)
    if image.min() == image.max():
        return np.ones(image.shape, bool)
    # Otsu parts dark from bright tissue as well as air from tissue: half its way is in the air's tail.
    bright = image > image.min() + 0.5 * (threshold_otsu(image) - image.min())
    labels, number = ndimage.label(bright)
    largest = 1 + np.argmax(np.bincount(labels.ravel(), minlength=number + 1)[1:])
    return ndimage.binary_fill_holes(labels == largest)
