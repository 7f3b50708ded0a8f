"""Golden values of guided IG, blur IG and XRAI, made by PAIR's library; it needs an older numpy than the project.

    python3 -m venv /tmp/pairenv
    /tmp/pairenv/bin/pip install "numpy<2.4" saliency==0.2.1 scikit-image==0.26.0
    /tmp/pairenv/bin/python tests/golden/pair_saliency.py tests/unit/golden_pair_saliency.npz

The network is f_k(x) = Σ readout_k ⊙ tanh(conv(x) + bias), written here in numpy; tests build the same one in torch.
"""

import sys

import numpy as np
from saliency.core import INPUT_OUTPUT_GRADIENTS, XRAI, BlurIG, GuidedIG, XRAIParameters
from saliency.core.xrai import _get_segments_felzenszwalb

HEIGHT, WIDTH, CHANNELS, HIDDEN, CLASSES = 48, 56, 2, 3, 2
TARGETS = np.array([0, 1, 0])


def half(values):
    """What float16 can hold, so that the file stays small and the numbers exact."""
    return np.asarray(values).astype(np.float16)


def images(rng):
    """Three images (3, c, h, w) of discs and bars under noise; the last has a frame of exactly its minimum."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x = rng.normal(0, 0.08, (3, CHANNELS, HEIGHT, WIDTH))
    for image in x:
        for _ in range(5):
            row, column, radius = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(5, 16)
            inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            image += rng.normal(0, 0.8, (CHANNELS, 1, 1)) * inside
        image += rng.normal(0, 0.5) * (columns > WIDTH * rng.uniform(0.3, 0.7))
    x = half(x)
    frame = (rows < 6) | (columns >= WIDTH - 7)
    x[2][:, frame] = x[2].min()
    return x


class Network:
    """f_k and its gradient in closed form."""

    def __init__(self, kernel, bias, readout):
        self.kernel, self.bias, self.readout = (np.asarray(part, np.float64) for part in (kernel, bias, readout))

    def gradient(self, image, k):
        """∂f_k/∂x (c, h, w) of an image (c, h, w)."""
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
        hidden = self.bias[:, None, None] + np.zeros((HIDDEN, HEIGHT, WIDTH))
        for i in range(3):
            for j in range(3):
                window = padded[:, i : i + HEIGHT, j : j + WIDTH]
                hidden += np.einsum("oc,chw->ohw", self.kernel[:, :, i, j], window)
        back = self.readout[k] * (1 - np.tanh(hidden) ** 2)
        given = np.zeros_like(padded)
        for i in range(3):
            for j in range(3):
                given[:, i : i + HEIGHT, j : j + WIDTH] += np.einsum("oc,ohw->chw", self.kernel[:, :, i, j], back)
        return given[:, 1:-1, 1:-1]

    def call(self, batch, call_model_args, expected_keys):
        """The interface of the library: channels last, a batch in the first dimension."""
        gradients = [self.gradient(np.moveaxis(image, -1, 0), call_model_args) for image in batch]
        return {INPUT_OUTPUT_GRADIENTS: np.moveaxis(np.stack(gradients), 1, -1)}


def main(path):
    """Write the file."""
    rng = np.random.default_rng(20)
    x = images(rng)
    weights = {
        "kernel": half(rng.normal(0, 0.4, (HIDDEN, CHANNELS, 3, 3))),
        "bias": half(rng.normal(0, 0.3, HIDDEN)),
        "readout": half(rng.normal(0, 1, (CLASSES, HIDDEN, HEIGHT, WIDTH))),
    }
    net = Network(**weights)
    last = [np.moveaxis(image.astype(np.float64), 0, -1) for image in x]
    found = {"guided_ig": [], "guided_ig_paper": [], "blur_ig": [], "blur_ig_coarse": []}
    for number, (image, k) in enumerate(zip(last, TARGETS, strict=True)):
        black = np.full_like(image, image.min())
        found["guided_ig"].append(GuidedIG().GetMask(image, net.call, k, x_baseline=black))
        found["blur_ig"].append(BlurIG().GetMask(image, net.call, k))
        if number == 1:
            found["guided_ig_paper"].append(
                GuidedIG().GetMask(image, net.call, k, x_steps=25, fraction=0.5, max_dist=1.0)
            )
            found["blur_ig_coarse"].append(
                BlurIG().GetMask(image, net.call, k, max_sigma=3.0, steps=7, grad_step=0.2, batch_size=3)
            )
    maps = {name: np.moveaxis(np.stack(found[name]), -1, 1).astype(np.float32) for name in found}

    full, fast, masks, counts = [], [], [], []
    for image, attribution in zip(last, maps["blur_ig"], strict=True):
        base = np.moveaxis(attribution.astype(np.float64), 0, -1)
        for kept, algorithm in ((full, "full"), (fast, "fast")):
            parameters = XRAIParameters(algorithm=algorithm)
            kept.append(XRAI().GetMask(image, None, base_attribution=base, extra_parameters=parameters))
        segments = [mask for mask in _get_segments_felzenszwalb(image) if mask.any()]
        masks += segments
        counts.append(len(segments))

    own = []  # rectangles that overlap a lot, leave some pixels out, and contain twins
    for _ in range(60):
        top, left = rng.integers(0, HEIGHT - 12), rng.integers(0, WIDTH - 20)
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : top + rng.integers(4, 20), left : left + rng.integers(4, 20)] = True
        own += [mask, mask] if len(own) % 7 == 0 else [mask]
    base = np.moveaxis(maps["blur_ig"][1].astype(np.float64), 0, -1)
    own_maps = [
        XRAI().GetMask(
            last[1], None, segments=own, base_attribution=base, extra_parameters=XRAIParameters(algorithm=algorithm)
        )
        for algorithm in ("full", "fast")
    ]
    np.savez_compressed(
        path,
        x=x,
        targets=TARGETS,
        **weights,
        **maps,
        xrai=np.stack(full).astype(np.float32),
        xrai_fast=np.stack(fast).astype(np.float32),
        masks=np.packbits(np.stack(masks).reshape(len(masks), -1), axis=1),
        mask_counts=counts,
        own_masks=np.packbits(np.stack(own).reshape(len(own), -1), axis=1),
        xrai_own=np.stack(own_maps).astype(np.float32),
    )


if __name__ == "__main__":
    main(sys.argv[1])
