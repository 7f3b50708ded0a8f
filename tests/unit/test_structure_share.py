"""Shares of a map on the phantom's structures are what arithmetic by hand says."""

import numpy as np
import pandas as pd
import pytest

from xiqa.metrics.structure_share import structure_share, structure_share_rows, summarise_structure_share

LABELS = np.array([[0, 0, 1, 1], [0, 16, 17, 17], [18, 0, 0, 0]], np.uint8)


def by_structure(table):
    names = [s if s != "disc" else f"disc {d:g}" for s, d in zip(table["structure"], table["diameter_mm"], strict=True)]
    return table.assign(name=names).set_index("name")


def test_shares_by_hand():
    saliency = np.array([[1.0, -1.0, 3.0, -1.0], [0.0, 2.0, -4.0, 0.0], [0.0, 0.0, 0.0, 8.0]])
    table = by_structure(structure_share(saliency, LABELS))
    assert list(table.index) == ["disc 2", "disc 0.06", "grid", "writing", "background"]
    assert list(table["share_abs"]) == pytest.approx([0.2, 0.1, 0.2, 0.0, 0.5])
    assert list(table["share_signed"]) == pytest.approx([0.1, 0.1, -0.2, 0.0, 0.4])
    assert list(table["share_area"]) == pytest.approx([2 / 12, 1 / 12, 2 / 12, 1 / 12, 6 / 12])


def test_a_uniform_map_has_the_shares_of_the_area():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 19, (60, 50)).astype(np.uint8)
    table = structure_share(np.full(labels.shape, -0.1, np.float32), labels)
    np.testing.assert_allclose(table["share_abs"], table["share_area"], rtol=1e-6)
    np.testing.assert_allclose(table["share_signed"], -table["share_abs"], rtol=1e-6)
    assert len(table) == 19


def test_shares_do_not_depend_on_the_scale_and_sum_to_one():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 19, (60, 50)).astype(np.uint8)
    saliency = rng.normal(size=labels.shape)
    table, scaled = structure_share(saliency, labels), structure_share(1e-6 * saliency, labels)
    np.testing.assert_allclose(table["share_abs"], scaled["share_abs"])
    assert table["share_abs"].sum() == pytest.approx(1)
    assert table["share_signed"].sum() == pytest.approx(saliency.sum() / np.abs(saliency).sum())


def test_pixels_never_visited_count_neither_in_map_nor_in_area():
    saliency = np.array([[1.0, np.nan, 3.0, np.nan], [np.nan] * 4, [0.0, 0.0, np.nan, np.nan]])
    table = by_structure(structure_share(saliency, LABELS))
    assert table.loc["disc 2", "share_abs"] == pytest.approx(0.75)
    assert table.loc["disc 2", "share_area"] == pytest.approx(0.25)
    assert "grid" not in table.index


def test_a_map_of_zeros_has_no_shares():
    assert structure_share(np.zeros(LABELS.shape), LABELS)["share_abs"].isna().all()


def test_columns_of_the_table():
    rows = structure_share_rows(np.ones(LABELS.shape), LABELS, image="a", group="scenario_1", method="omig")
    expected = "image group method structure diameter_mm share_abs share_signed share_area"
    assert list(rows.columns) == expected.split()
    assert set(rows["method"]) == {"omig"}


@pytest.mark.parametrize(
    ("saliency", "labels", "message"),
    [
        (np.zeros((2, 2)), LABELS, "expected \\(3, 4\\)"),
        (np.zeros((3, 4)), LABELS + 1, "found label 19"),
        (np.full((3, 4), np.nan), LABELS, "no finite pixel"),
    ],
)
def test_what_does_not_fit_is_refused(saliency, labels, message):
    with pytest.raises(ValueError, match=message):
        structure_share(saliency, labels)


def test_summary_over_images():
    rng = np.random.default_rng(0)
    parts, on_disc = [], []
    for image in range(12):
        saliency = np.ones(LABELS.shape)
        saliency[LABELS == 1] = rng.uniform(2, 6)
        on_disc.append(2 * saliency[0, 2] / saliency.sum())
        parts.append(structure_share_rows(saliency, LABELS, image=str(image), group="g", method="omig"))
    parts.append(parts[0].assign(image="zero", share_abs=np.nan))
    table = by_structure(summarise_structure_share(pd.concat(parts, ignore_index=True)))
    row = table.loc["disc 2"]
    assert row["n"] == 12
    assert row["share_abs"] == pytest.approx(np.mean(on_disc))
    assert row["enrichment"] == pytest.approx(np.mean(on_disc) / (2 / 12))
    assert row["share_abs_low"] < row["share_abs"] < row["share_abs_high"]
    assert row["enrichment_low"] > 1  # the disc is looked at more than its area asks for
    assert table.loc["grid", "enrichment_high"] < 1


def test_summary_of_one_image_has_no_interval():
    rows = structure_share_rows(np.ones(LABELS.shape), LABELS, image="a", group="g", method="omig")
    assert summarise_structure_share(rows)["share_abs_low"].isna().all()
