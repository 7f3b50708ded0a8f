"""Speed of fidelity in batches, with shared passes and the pipeline's predictor, against a plain loop, in one run.

python tests/benchmarks/fidelity_speed.py [--network resnet50] [--size 224] [--images 1] [--methods 3] [--threads 2]
The plain loop masks one image at a time, asks the network as it was built, and repeats the unmasked and the wholly
masked pass for each method and order. Both are run in turn, method by method; the ratio is that of the total times.
Where other processes share the cores, several threads wait for each other in every layer, and the loop over single
images most: compare with --threads 1 then, and by processor time.
"""

from __future__ import annotations

import argparse
import copy
import os
import time

import numpy as np
import torch

from xiqa.metrics.maps.fidelity import fidelity, fidelity_ends
from xiqa.models.model import Model, predictor
from xiqa.models.task import Classification
from xiqa.models.zoo import build, classifier

CLOCKS = (time.perf_counter, time.process_time)


@torch.no_grad()
def plain_loop(net, images, labels, maps, replacement, steps: int) -> np.ndarray:
    """Probability of the true class (2, n, steps + 1), as one would write it."""
    found = np.empty((2, len(images), steps + 1))
    for order, sign in enumerate((-1, 1)):
        for i, image in enumerate(images):
            sequence = np.argsort(sign * maps[i].ravel())
            for step in range(steps + 1):
                masked = image.copy()
                masked.flat[sequence[: round(step / steps * image.size)]] = replacement[i]
                logits = net(torch.from_numpy(masked)[None, None].expand(1, 3, -1, -1))
                found[order, i, step] = logits.softmax(1)[0, labels[i]]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--methods", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16, help="images that go through the network at once")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    net = build(given.network, channels=3, outputs=2, seed=0).eval()
    with torch.no_grad():  # small logits, so that no probability is 0 or 1
        classifier(net, given.network).weight /= 1000
    rng = np.random.default_rng(0)
    images = rng.random((given.images, given.size, given.size), np.float32)
    maps = rng.random((given.methods, *images.shape), np.float32)
    labels = np.arange(given.images) % 2
    task = (labels, maps[0], 1.0 - labels)
    known = {"task": Classification(("0", "1")), "channels": 3, "size": given.size}
    loaded = copy.deepcopy(net).to(memory_format=torch.channels_last)  # as `load_model` gives it
    predict = predictor(Model(loaded, given.network, {}, **known, input_mean=0.0, input_sd=1.0), given.precision)
    predict(images[:1]), plain_loop(net, images[:1], *task, steps=1)  # both are warm
    marks = [[clock() for clock in CLOCKS]]
    ends = fidelity_ends(predict, images, labels, task[-1], given.batch)
    marks.append([clock() for clock in CLOCKS])
    difference = 0.0
    for one in maps:
        task = (labels, one, 1.0 - labels)
        ours = fidelity(predict, images, *task, steps=given.steps, batch=given.batch, ends=ends).probability
        marks.append([clock() for clock in CLOCKS])
        difference = max(difference, abs(ours - plain_loop(net, images, *task, steps=given.steps)).max())
        marks.append([clock() for clock in CLOCKS])
    once, *parts = np.diff(marks, axis=0)
    ours, plain = np.array(parts[::2]), np.array(parts[1::2])
    ratio, single = plain.sum(0) / (once + ours.sum(0)), plain / ours
    study = 300 / given.images / 3600 * np.array([once + 9 * ours.mean(0), 9 * plain.mean(0)])[:, 0]
    print(
        f"{given.network}, {given.images} image(s) of {given.size}², {given.methods} methods, 2 orders, "
        f"{given.steps + 1} steps, {given.precision}, {given.threads} thread(s), "
        f"load average {os.getloadavg()[0]:.1f}\n"
        f"ours {once[0]:.2f} s once and {ours[:, 0].mean():.1f} s per method, plain loop {plain[:, 0].mean():.1f} s: "
        f"{ratio[0]:.2f} times faster (single methods {single[:, 0].min():.2f} to {single[:, 0].max():.2f}); "
        f"by processor time {ratio[1]:.2f}\n"
        f"300 images x 9 methods: {study[0]:.1f} h, plain loop {study[1]:.1f} h\n"
        f"largest difference of a probability {difference:.1e}"
    )


if __name__ == "__main__":
    main()
