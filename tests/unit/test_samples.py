"""Samples of several settings are put together by part and step; labels belong to settings, or to each image."""

import runpy

import numpy as np
import pandas as pd
import pytest

from xiqa.cdmam.labels import labels_of, own_label_um, training_labels_um
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, GEOMETRIES, LABEL_GRID
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.registered import structure_of_reading
from xiqa.cdmam.samples import even_shares, first_of_each_group, map_samples, parts_of_recordings, read_samples
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.files import read_table, write_array, write_table
from xiqa.metrics.curve_methods import analytic_curve_um


def write_setting(folder, setting, part, steps, samplings, data="simulated"):
    n = len(steps)
    write_array(folder / f"{setting}.npy", np.arange(n * samplings * 16, dtype=np.uint16).reshape(n, samplings, 4, 4))
    table = pd.DataFrame({"image": [f"{setting}-{i}" for i in range(n)], "setting": setting, "part": part})
    write_table(folder / f"{setting}.parquet", table.assign(step=steps, data=data))
    return str(folder / f"{setting}.npy"), str(folder / f"{setting}.parquet")


def test_parts_and_steps_are_kept_apart(tmp_path):
    pairs = [
        write_setting(tmp_path, "a", "train", ["no_margin", "no_margin", "recorded"], 4),
        write_setting(tmp_path, "b", ["train", "test", "test"], ["recorded"] * 3, 2, data="recorded"),
    ]
    images, tables = zip(*pairs, strict=True)
    array, table = read_samples(images, tables, "train", ("no_margin",))
    assert list(table["image"]) == ["a-0", "a-1"]
    assert array.shape == (2, 4, 4, 4)
    array, table = read_samples(images, tables, "train")
    assert list(table["image"]) == ["a-0", "a-1", "a-2", "b-0"]
    assert array.shape == (4, 2, 4, 4), "the smallest number of samplings is kept of each"
    array, table = read_samples(images, tables, "test")
    assert list(table["group"]) == ["recorded", "recorded"]
    assert list(first_of_each_group(table, 1)) == [0]
    array, table = read_samples(images, tables, "train", ("large_margins",))
    assert len(array) == len(table) == 0


def test_images_left_on_disk_equal_those_in_memory(tmp_path):
    pairs = [write_setting(tmp_path, name, "train", ["no_margin"] * 3, k) for name, k in (("a", 3), ("b", 2))]
    images, tables = zip(*pairs, strict=True)
    loaded, table = read_samples(images, tables, "train")
    stack, mapped_table = map_samples(images, tables, "train")
    pd.testing.assert_frame_equal(table, mapped_table)
    assert (stack.shape, stack.ndim, stack.dtype, len(stack)) == (loaded.shape, 4, loaded.dtype, 6)
    np.testing.assert_array_equal(np.stack(list(stack)), loaded)
    np.testing.assert_array_equal(stack[4, 1], loaded[4, 1])


def test_labels_follow_the_setting():
    curves = pd.concat(
        pd.DataFrame({"setting": s, "diameter_mm": CDC_DIAMETERS_MM, "cdc_um": v, "censored": v > 1})
        for s, v in (("a", 0.5), ("b", 1.5))
    )
    labels, flags = labels_of(curves, ["b", "a", "b"])
    assert labels[:, 0].tolist() == [1.5, 0.5, 1.5]
    assert flags.all(1).tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"\['c'\] have no contrast-detail curve"):
        labels_of(curves, ["c"])
    with pytest.raises(ValueError, match="setting a: found diameters"):
        labels_of(curves.iloc[1:], ["a"])


def test_a_training_image_is_labelled_by_its_own_signals_where_the_plan_says_so(root, tmp_path):
    script = runpy.run_path(str(root / "workflow/scripts/data/sample.py"))
    exposure, detector = Exposure(tube_voltage_kv=26, exposure_mas=100, noise_level=14), Detector(pixel_mm=0.1)
    made = {"exposure": exposure.model_dump(), "detector": detector.model_dump(), "geometry": "standard_reader"}
    plan = {"part": "train", "samplings": 1, "rows": [{"step": "no_margin", "margin_mm": 6.0}]}
    tables = {}
    for own in ({}, {"own_labels": "thickness"}):
        paths = {name: tmp_path / f"{name}{len(own)}.{end}" for name, end in
                 (("images", "npy"), ("indices", "npy"), ("table", "parquet"))}  # fmt: skip
        script["sample"](made | {"seed": 1}, plan | own, {"size": 20}, "a", paths, lambda *_: 0)
        tables[len(own)] = read_table(paths["table"])
    pd.testing.assert_frame_equal(tables[0], tables[1].drop(columns="label_um"))
    curves = pd.DataFrame({"setting": "a", "diameter_mm": CDC_DIAMETERS_MM, "cdc_um": 0.5, "censored": False})
    assert (training_labels_um(curves, tables[0]) == 0.5).all()
    truth = analytic_curve_um(exposure, detector, GEOMETRIES["standard_reader"], "thickness")
    np.testing.assert_allclose(training_labels_um(curves, tables[1]), truth[None], rtol=0.12)


def test_an_image_without_discs_has_no_label_of_its_own():
    exposure, detector = Exposure(tube_voltage_kv=26, exposure_mas=100, noise_level=14), Detector(pixel_mm=0.1)
    empty = simulate(exposure, detector, GEOMETRIES["standard_reader"], margin_mm=0, seed=1, discs=False).counts
    with pytest.raises(ValueError, match=r"a-3: found no discs.*label by setting \(cdmam.readout.labels_per: setting"):
        own_label_um(empty, 0.1, "thickness", "a-3")


def test_structures_of_a_recording_lie_where_the_phantom_is():
    detector = Detector(pixel_mm=0.08, tilt_deg=0.7)
    exposure = Exposure(tube_voltage_kv=28, exposure_mas=115, noise_level=9.55)
    image = simulate(exposure, detector, GEOMETRIES["ptb"], margin_mm=8.0, seed=3, index=1)
    found = structure_of_reading(read_image(image.counts, detector.pixel_mm), image.counts.shape, detector.pixel_mm)
    exact = image.structure
    for label in (1, 2, 3, 4, 5):
        # Exact labels count every touched pixel, so that the rim of a disc differs; its area does not lie elsewhere.
        assert (exact[found == label] == label).mean() > 0.97
        assert (found == label).sum() > 0.8 * (exact == label).sum()
    assert (exact[found == LABEL_GRID] == LABEL_GRID).mean() > 0.9


def test_recordings_are_divided_as_in_the_paper_or_by_every_second_one():
    parts = parts_of_recordings(72, {"train": 48, "test": 24})
    assert parts == ["train", "test", "train"] * 24
    assert parts_of_recordings(5, "by_image") == ["train", "test", "train", "test", "train"]
    assert parts_of_recordings(3, "test") == ["test"] * 3
    uneven = parts_of_recordings(17, {"train": 6, "test": 11})
    assert (uneven.count("train"), uneven.count("test")) == (6, 11)
    with pytest.raises(ValueError, match=r"found 16 recordings in the folder, expected 48 \+ 24 = 72"):
        parts_of_recordings(16, {"train": 48, "test": 24})


def test_shares_of_all_recorded_images_add_up():
    assert even_shares(4800, 48) == [100] * 48
    assert even_shares(4800, 2) == [2400, 2400]
    assert even_shares(10, 4) == [3, 3, 2, 2]
