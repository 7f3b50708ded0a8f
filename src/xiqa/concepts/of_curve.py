"""Which properties of the exposure the curve of an ensemble follows: noise, signal, beam and sharpness, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import qmc
from torch import Tensor, nn

from xiqa.cdmam.curve import Human
from xiqa.cdmam.phantom import Geometry
from xiqa.cdmam.simulator import frame_shape, simulate_sampled
from xiqa.concepts.effects import true_effect
from xiqa.concepts.responses import responses
from xiqa.concepts.scores import concept_effects
from xiqa.config import Detector, Exposure
from xiqa.datasets.sampling import draw_indices
from xiqa.metrics.curve_methods import analytic_curve_um
from xiqa.models.cdc_net import CDCNet, CurveOutputs
from xiqa.models.ensemble import Ensemble, build_member
from xiqa.seeds import stream_seed

FACTORS = ("noise_level", "exposure_mas", "tube_voltage_kv", "blur_px")
"""Drawn independently of each other: noise, signal, contrast of the beam, sharpness of the detector."""
BLURS = (0.7, 1.0, 1.3)
"""Blur of the detector over that of the study; a few values, since each has its own projection of the phantom."""


def designed_images(
    exposures: Sequence[Exposure], detector: Detector, geometry: Geometry, size: int, images: int, seed: int,
    human: Human, progress: Callable[[int, int, str], None],
) -> tuple[np.ndarray, pd.DataFrame]:  # fmt: skip
    """Sampled images whose factors are spread evenly over the ranges of given settings, independently of each other.

    Args:
        exposures: settings with `published` noise, all of one beam: the factors stay within their ranges.
        detector: of the study; its blur is varied.
        geometry: preset of the phantom.
        size: rows and columns that are drawn of each image.
        images: how many; the first half is for fitting ("train"), the other for telling ("test").
        seed: of everything random.
        human: what turns counted thresholds into those of an observer, for `physics_um`.
        progress: told how many images are rendered.

    Returns:
        Counts (n, size, size) uint16, and a row for each: part, patient (each image is its own), label_name, the
        factors, and physics_um, the midpoint of the curve that follows from the analytic thresholds, in µm.

    Raises:
        ValueError: the settings have noise or beams of several kinds, or a factor does not vary over them.
    """
    if len({(e.anode, e.filter) for e in exposures}) > 1 or any(e.noise_level is None for e in exposures):
        raise ValueError("concepts: found several beams or noise without a level, expected settings of one kind")
    ranges = {}
    for name in FACTORS[:-1]:
        values = [getattr(exposure, name) for exposure in exposures]
        ranges[name] = min(values), max(values)
        if not np.ptp(values) > 0:
            raise ValueError(f"concepts: found {values[0]:g} as {name} of all settings, expected several values")
    rng = np.random.default_rng(stream_seed(seed, "designed settings"))
    places = qmc.LatinHypercube(len(FACTORS), seed=rng).random(images)
    counts, rows = np.zeros((images, size, size), np.uint16), []
    for index, place in enumerate(places):
        values = {
            name: float(f"{low + (high - low) * at:.4g}")
            for (name, (low, high)), at in zip(ranges.items(), place, strict=False)
        }
        own = detector.model_copy(update={"blur_px": detector.blur_px * BLURS[int(place[-1] * len(BLURS))]})
        exposure = Exposure(anode=exposures[0].anode, filter=exposures[0].filter, **values)
        draw = np.random.default_rng(stream_seed(seed, "designed sampling", index))
        chosen = draw_indices(frame_shape(geometry, own, 0.0), size, draw)
        counts[index] = simulate_sampled(
            exposure, own, geometry, 0.0, stream_seed(seed, "designed image"), index, *chosen
        )
        physics = float(analytic_curve_um(exposure, own, geometry, human).mean())
        rows.append(
            {"part": "train" if index < images // 2 else "test", "patient": index, "label_name": "midpoint", **values,
             "blur_px": own.blur_px, "physics_um": physics, "data": "simulated"}
        )  # fmt: skip
        progress(index + 1, images, "images rendered")
    return counts, pd.DataFrame(rows)


def curve_effects(
    ensemble: Ensemble, counts: np.ndarray, table: pd.DataFrame, *, seed: int, permutations: int
) -> pd.DataFrame:
    """Effects of the factors on the midpoint of the curve, for each member and layer, beside network and physics.

    Args:
        ensemble: trained members.
        counts: (n, s, s).
        table: their rows, from `designed_images`.
        seed: of permutations and of random members.
        permutations: how many.

    Returns:
        `scores.concept_effects` in µm of the midpoint per standard deviation of the factor, with first columns weights
        ("trained", "fully_random": new weights) and member, and last physics_effect, the slope of `physics_um`.

    Raises:
        ValueError: the members are none of CDCNet.
    """
    if not all(isinstance(member, CDCNet) for member in ensemble.members):
        kind = type(ensemble.members[0]).__name__
        raise ValueError(f"concepts: found an ensemble of {kind}, expected one of CDCNet, whose blocks are known")
    x = torch.from_numpy(ensemble.normalise(counts))[:, None]
    rows = []
    asked = [("trained", number, member) for number, member in enumerate(ensemble.members)]
    for weights, number, member in [*asked, ("fully_random", 0, _untrained(ensemble, seed))]:
        net = _Blocks(member)
        midpoint = _mean if member.target == "linear" else _mean_of_exponentials
        found = responses(net, x, midpoint, net.blocks)
        effects = concept_effects(found, table, FACTORS, seed=seed, permutations=permutations)
        rows.append(pd.DataFrame({"weights": weights, "member": number, **dict(effects.items())}))
    test = table[table["part"] == "test"]
    physics = {name: true_effect(test["physics_um"], test[name], test["patient"])[0] for name in FACTORS}
    found = pd.concat(rows, ignore_index=True)
    return found.assign(physics_effect=found["concept"].map(physics))


def _mean(output: Tensor) -> Tensor:
    return output.mean(1)


def _mean_of_exponentials(output: Tensor) -> Tensor:
    return output.exp().mean(1)


class _Blocks(nn.Module):
    """The mean outputs of a member, whose blocks end behind their ReLU: noise leaves the mean in front of it alone."""

    blocks = ("block1", "block2", "block3")

    def __init__(self, member: CDCNet):
        super().__init__()
        self.block1 = nn.Sequential(member.conv1, member.bn1, nn.ReLU(), nn.MaxPool2d(2))
        self.block2 = nn.Sequential(member.conv2, member.bn2, nn.ReLU(), nn.MaxPool2d(2))
        self.block3 = nn.Sequential(member.conv3, member.bn3, nn.ReLU())
        self.member = member

    def forward(self, x: Tensor) -> Tensor:
        features = self.block3(self.block2(self.block1(x)))
        return self.member.in_target_units(*self.member.heads(features.flatten(1)))[0]


def _untrained(ensemble: Ensemble, seed: int) -> CurveOutputs:
    first = ensemble.members[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "untrained member"))
        return build_member(first.size, first.network).eval()
