"""Drawn settings: nothing that a background shows fixes the contrast-detail curve."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from xiqa.cdmam import beam
from xiqa.cdmam.drawn import background, draw_settings, shortcut_error
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.shortcut import background_statistics
from xiqa.cdmam.simulator import simulate_cell
from xiqa.config import Detector, Drawn, load_config

GEOMETRY = GEOMETRIES["standard_reader"]
DETECTOR = Detector(pixel_mm=0.07, heel=0.01)


def drawn(number, part="train", seed=0):
    return draw_settings(Drawn(), number, seed, part, DETECTOR, GEOMETRY)


def test_each_quantity_fills_its_range_and_knows_nothing_of_the_others():
    settings = list(drawn(300).values())
    ranges = Drawn()
    columns = {
        "tube_voltage_kv": [exposure.tube_voltage_kv for exposure, _ in settings],
        "exposure_mas": [exposure.exposure_mas for exposure, _ in settings],
        "relative_noise": [
            exposure.noise_level / beam.mean_counts(exposure, GEOMETRY, detector.scatter_to_primary)
            for exposure, detector in settings
        ],
        **{
            name: [getattr(detector, name) for _, detector in settings]
            for name in ("scatter_to_primary", "blur_px", "noise_filter_px")
        },
    }
    for name, values in columns.items():
        low, high = getattr(ranges, name)
        assert low * 0.999 <= min(values) < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < max(values) <= high * 1.001, name
    columns["beam"] = [ranges.beams.index((exposure.anode, exposure.filter)) for exposure, _ in settings]
    assert np.bincount(columns["beam"]).tolist() == [60] * 5
    for first, second in combinations(columns.values(), 2):
        assert (
            abs(spearmanr(first, second).statistic) < 0.23
        )  # exceeded once in a thousand draws by one of the 21 pairs
    assert {detector.pixel_mm for _, detector in settings} == {0.07}
    assert {detector.heel for _, detector in settings} == {0.01}


def test_parts_and_seeds_are_drawn_apart_and_again_the_same():
    assert drawn(5) == drawn(5)
    names = {exposure.name for part in (drawn(5), drawn(5, "test"), drawn(5, seed=1)) for exposure, _ in part.values()}
    assert len(names) == 15
    assert list(drawn(2, "test")) == ["test_0", "test_1"]


@pytest.mark.parametrize("index", range(3))
def test_the_background_without_an_image_is_that_of_an_image(index):
    exposure, detector = list(drawn(3).values())[index]
    image = simulate_cell(exposure, detector, GEOMETRY, 0.1, 0.01, size=400)
    np.testing.assert_allclose(
        background(exposure, detector, GEOMETRY), background_statistics(image[None])[0], rtol=0.02
    )


def test_the_shortcut_fails_at_drawn_settings_and_not_at_those_of_the_default_study():
    error = shortcut_error(list(drawn(40).values()), list(drawn(20, "test").values()), GEOMETRY)
    assert error.shape == (12,)
    assert error.min() > 0.25
    path = Path(__file__).parents[2] / "config/config.yaml"
    cdmam = load_config(yaml.safe_load(path.read_text(encoding="utf-8"))).cdmam
    training, validation = (
        [(exposure, cdmam.detector) for exposure in part]
        for part in (cdmam.training_settings, cdmam.validation_settings)
    )
    assert shortcut_error(training, validation, GEOMETRY).max() < 0.02


@pytest.mark.long
def test_more_settings_do_not_help_the_shortcut():
    error = shortcut_error(list(drawn(150).values()), list(drawn(20, "test").values()), GEOMETRY)
    assert error.min() > 0.25
