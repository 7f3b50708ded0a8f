"""Settings of simulated systems drawn so that background mean and noise do not fix what can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from xiqa.cdmam import beam
from xiqa.cdmam.detectability import detectability_threshold_um
from xiqa.cdmam.detector import gaussian_taps, noise_parameters
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, Geometry
from xiqa.cdmam.shortcut import fit_shortcut
from xiqa.config import Detector, Drawn, Exposure
from xiqa.seeds import stream_seed

LOG_SCALE = ("exposure_mas", "relative_noise")
"""Quantities that are drawn uniformly on a logarithmic scale."""

Setting = tuple[Exposure, Detector]


def draw_settings(
    drawn: Drawn, number: int, seed: int, part: str, detector: Detector, geometry: Geometry
) -> dict[str, Setting]:
    """Draw exposure settings with `published` noise, and a detector for each.

    Beam, tube voltage, mAs, relative noise, scatter, blur and noise filter come from the columns of one Latin
    hypercube: each is spread evenly over its range, and knows nothing of the others. As the noise is relative to the
    signal, mAs are a gain: they change mean and noise by one factor, and what can be seen not at all.

    Args:
        drawn: the ranges.
        number: how many settings.
        seed: seed of the study.
        part: what the settings are for, such as "train"; parts are drawn independently of each other.
        detector: pixel size and everything else that is not drawn.
        geometry: the preset, which decides the counts that the noise is relative to.

    Returns:
        `<part>_<number>` -> exposure and detector.

    Reference: McKay, Beckman, Conover 1979, Technometrics 21, 239 (Latin hypercube sampling).
    """
    ranges = {name: value for name, value in drawn if name != "beams"}
    cube = qmc.LatinHypercube(len(ranges) + 1, seed=np.random.default_rng(stream_seed(seed, "drawn settings", part)))
    settings = {}
    for index, (which, *places) in enumerate(cube.random(number)):
        values = {}
        for (name, (low, high)), place in zip(ranges.items(), places, strict=True):
            value = low * (high / low) ** place if name in LOG_SCALE else low + (high - low) * place
            values[name] = float(f"{value:.4g}")
        anode, filter_material = drawn.beams[int(which * len(drawn.beams))]
        beam_of: dict[str, Any] = {"anode": anode, "filter": filter_material}
        beam_of |= {name: values.pop(name) for name in ("tube_voltage_kv", "exposure_mas")}
        relative_noise = values.pop("relative_noise")
        own = detector.model_copy(update=values)
        # Any noise level will do to ask for the mean, on which it has no influence.
        mean = beam.mean_counts(Exposure(**beam_of, noise_level=1.0), geometry, own.scatter_to_primary)
        level = float(f"{relative_noise * mean:.4g}")
        settings[f"{part}_{index}"] = (Exposure(**beam_of, noise_level=level), own)
    return settings


def background(exposure: Exposure, detector: Detector, geometry: Geometry) -> tuple[float, float]:
    """Mean and standard deviation of the background in counts, without any image."""
    mean = beam.mean_counts(exposure, geometry, detector.scatter_to_primary)
    white, per_count, per_square, electronic = noise_parameters(exposure, detector, geometry)
    taps = gaussian_taps(detector.noise_filter_px)
    passed = taps[0] ** 2 + 2 * np.sum(taps[1:] ** 2)  # share of the variance that the filter leaves along one axis
    variance = (white**2 + per_count * mean + per_square * mean**2) * passed**2 + electronic**2
    return mean, float(np.sqrt(variance))


def shortcut_error(training: Sequence[Setting], test: Sequence[Setting], geometry: Geometry) -> np.ndarray:
    """How far the shortcut is off at settings that it was not fitted to, without any image.

    The shortcut is given exact background statistics, and analytic thresholds (`detectability_threshold_um`) as labels.

    Args:
        training, test: exposures with their detectors.
        geometry: the preset.

    Returns:
        (12,) mean of |predicted - true| / true at the test settings, by falling diameter.
    """
    (trained_on, labels_um), (given, truth_um) = (_known(settings, geometry) for settings in (training, test))
    predicted_um = fit_shortcut(trained_on, labels_um).predict(given)
    return np.mean(np.abs(predicted_um - truth_um) / truth_um, axis=0)


def _known(settings: Sequence[Setting], geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Background statistics (n, 2) in counts and analytic thresholds (n, 12) in µm."""
    statistics = [background(*setting, geometry) for setting in settings]
    labels = [detectability_threshold_um(*setting, geometry, CDC_DIAMETERS_MM) for setting in settings]
    return np.array(statistics), np.array(labels)
