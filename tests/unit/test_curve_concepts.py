"""Concepts of a predicted curve: designed exposures, and a network whose every slope is known."""

import numpy as np
import pytest
import torch

from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.concepts.of_curve import FACTORS, curve_effects, designed_images
from xiqa.concepts.scores import concept_agreement
from xiqa.config import Detector, Exposure, Network
from xiqa.metrics.concept_findings import describe_curve_concepts
from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import Ensemble

SETTINGS = [
    Exposure(tube_voltage_kv=29, exposure_mas=100, noise_level=8.0),
    Exposure(tube_voltage_kv=25, exposure_mas=120, noise_level=24.0),
]
GEOMETRY = GEOMETRIES["standard_reader"]


@pytest.fixture(scope="module")
def designed():
    return designed_images(SETTINGS, Detector(pixel_mm=0.1), GEOMETRY, 32, 60, 0, "thickness", lambda *_: None)


def test_factors_are_spread_over_their_ranges_and_know_nothing_of_each_other(designed):
    counts, table = designed
    assert counts.shape == (60, 32, 32)
    assert table["noise_level"].between(8, 24).all()
    assert table["tube_voltage_kv"].between(25, 29).all()
    assert set(table["blur_px"].round(2)) == {0.49, 0.7, 0.91}
    assert table[list(FACTORS)].corr().abs().where(~np.eye(4, dtype=bool)).max(axis=None) < 0.35
    assert (table["part"] == "train").sum() == 30
    # The physics: noise and blur hide discs (higher curves); with more mAs or kV the same noise is less of the signal.
    standard = (table[list(FACTORS)] - table[list(FACTORS)].mean()) / table[list(FACTORS)].std()
    slopes = np.linalg.lstsq(standard, np.log(table["physics_um"]) - np.log(table["physics_um"]).mean(), rcond=None)[0]
    assert np.sign(slopes).tolist() == [1, -1, -1, 1]
    # What was drawn is what was rendered: the spread of the pixels of the background, which are most.
    pixels = counts.reshape(60, -1).astype(float)
    spread = np.median(np.abs(pixels - np.median(pixels, 1, keepdims=True)), 1)
    assert np.corrcoef(table["noise_level"], spread)[0, 1] > 0.9


def test_effects_of_an_untrained_ensemble_agree_with_the_slopes_of_its_predictions(designed):
    """Every number is told in µm of the midpoint; a network that follows nothing else follows the mean counts."""
    counts, table = designed
    torch.manual_seed(0)
    member = CDCNet(32, Network(channels=(4, 4, 8), hidden=16)).eval()
    ensemble = Ensemble([member, member], float(counts.mean()), float(counts.std()))
    found = curve_effects(ensemble, counts, table, seed=0, permutations=19)
    assert set(found["weights"]) == {"trained", "fully_random"}
    assert found["layer"].unique().tolist() == ["block1", "block2", "block3"]
    first, second = (found.query("weights == 'trained' and member == @n").drop(columns="member") for n in (0, 1))
    assert first.reset_index(drop=True).equals(second.reset_index(drop=True))
    with torch.no_grad():
        midpoint = member(torch.from_numpy(ensemble.normalise(counts))[:, None])[0].mean(1).numpy()
    test = table["part"] == "test"
    for name in FACTORS:
        slope = np.polyfit(table.loc[test, name], midpoint[test], 1)[0] * table.loc[test, name].std(ddof=0)
        assert first[first["concept"] == name]["true_effect"].to_numpy() == pytest.approx(slope, rel=1e-3, abs=1e-6)
    agreed = concept_agreement(found)
    assert {"weights", "member", "layer", "estimate"} <= set(agreed)
    sentences = [text for _, text in describe_curve_concepts(found, agreed) if isinstance(text, str)]
    assert any("noise level" in text and "µm" in text for text in sentences)


def test_settings_of_several_kinds_are_refused():
    other = Exposure(tube_voltage_kv=28, exposure_mas=90, noise="physical", anode="W", filter="Rh")
    with pytest.raises(ValueError, match="expected settings of one kind"):
        designed_images([*SETTINGS, other], Detector(), GEOMETRY, 32, 40, 0, "thickness", lambda *_: None)
    same = [setting.model_copy(update={"exposure_mas": 100.0}) for setting in SETTINGS]
    with pytest.raises(ValueError, match="found 100 as exposure_mas of all settings, expected several values"):
        designed_images(same, Detector(), GEOMETRY, 32, 40, 0, "thickness", lambda *_: None)
