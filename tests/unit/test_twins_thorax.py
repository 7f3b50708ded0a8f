"""Twins of chest X-rays obey the physics they claim, and write what the readers of the real sets read."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from xiqa.config import Dataset, Twin
from xiqa.datasets import covid_cxr as covid_reader
from xiqa.datasets import object_cxr as object_reader
from xiqa.datasets.twins import covid_cxr, object_cxr, thorax, writing

READERS = {"object_cxr": object_reader, "covid_cxr": covid_reader}
TWINS = {"object_cxr": object_cxr, "covid_cxr": covid_cxr}
SIDE = 120
SQUARE = np.ones((3, 3), bool)


def silent(done, total, what):
    pass


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Both twins with two levels; the same with one patient more and without the first level."""
    folders = {}
    for name, twin in TWINS.items():
        for variant, plan in (("a", (10, (0.2, 1.0))), ("b", (11, (1.0,)))):
            folder = tmp_path_factory.mktemp("twins") / name / variant
            size = Twin(patients=plan[0], images_per_patient=1, severities=plan[1], patients_per_severity=2)
            twin.write(folder, size, 3, silent)
            folders[name, variant] = folder
    return folders


# Plan


@given(
    patients=st.integers(10, 40),
    images=st.integers(1, 4),
    per_level=st.integers(0, 9),
    classes=st.integers(2, 4),
    label_per=st.sampled_from(["patient", "image"]),
    seed=st.integers(0, 1000),
)
def test_labels_are_balanced_in_the_main_part_and_at_each_level(patients, images, per_level, classes, label_per, seed):
    names = tuple("abcd"[:classes])
    twin = Twin(
        patients=patients, images_per_patient=images, severities=(0.3, 1.0), patients_per_severity=per_level
    )  # fmt: skip
    planned = writing.plan("test", twin, seed, names, label_per=label_per, negative="a")
    table = pd.DataFrame([vars(image) for image in planned])
    assert len(table) == patients * images + 2 * per_level * min(2, images)
    assert table["image"].is_unique
    main = table[table["part"] == "main"]
    assert (main["severity"].isna() == (main["label_name"] == "a")).all()
    assert main["severity"].dropna().between(*writing.MAIN_SEVERITY).all()
    levels = table[table["part"] == "severity"]
    assert set(levels["severity"]) == ({0.3, 1.0} if per_level else set())
    assert not set(main["patient"]) & set(levels["patient"])
    unit = ["patient"] if label_per == "patient" else ["image"]
    for _, group in [("main", main), *levels.groupby("severity")]:
        counts = group.drop_duplicates(unit)["label"].value_counts().reindex(range(classes), fill_value=0)
        assert counts.max() - counts.min() <= 1
    if label_per == "patient":
        assert (table.groupby("patient")["label"].nunique() == 1).all()


def test_a_twin_never_writes_over_files_of_others(tmp_path):
    (tmp_path / "thesis.txt").write_text("text")
    with pytest.raises(ValueError, match="no twin's"):
        writing.start(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_what_a_killed_run_left_is_removed(tmp_path):
    folder = tmp_path / "twin"
    writing.start(folder)
    (folder / "old.png").touch()
    writing.start(folder)
    assert not (folder / "old.png").exists()


# Physics


def flat(optical_thickness: float) -> tuple[thorax.Thorax, thorax.View]:
    """A slab of equal thickness in a view without scatter, blur and equalisation."""
    everywhere = np.ones((SIDE, SIDE), bool)
    grid = np.zeros((SIDE, SIDE), np.float32)
    slab = thorax.Thorax(np.full_like(grid, optical_thickness), grid, everywhere, everywhere, grid, grid, 1.3)
    view = thorax.draw_view(0, thorax.draw_patient(0))
    plain = {"scatter": 0.0, "blur_px": 0.0, "equalisation": 0.0, "shutter": (0.0, 0.0, 0.0, 0.0), "photons": 1e4}
    return slab, replace(view, **plain)


def log_exposure(grey: np.ndarray, view: thorax.View) -> np.ndarray:
    """The film's curve undone: -log of the exposure, up to a constant."""
    share = (grey - view.offset) / (view.gain - view.offset)
    return np.log(share / (1 - share)) / view.contrast


def test_a_defect_attenuates_by_beer_and_lambert():
    slab, view = flat(2.0)
    defect = np.zeros((SIDE, SIDE), np.float32)
    defect[40:80, 40:80] = 0.3
    bare = log_exposure(thorax.expose(slab, view, 0, noise=False), view)
    for severity in (0.5, 1.0, 2.0):
        with_defect = log_exposure(thorax.expose(slab, view, 0, severity * defect, noise=False), view)
        np.testing.assert_allclose(with_defect - bare, severity * defect, atol=2e-4)


def test_quantum_noise_is_that_of_the_photons():
    slab, view = flat(2.0)
    noisy = log_exposure(thorax.expose(slab, view, 7), view)
    assert noisy.std() == pytest.approx(1 / np.sqrt(view.photons), rel=0.03)


def test_a_line_becomes_the_chord_of_a_tube():
    length, outer, inner = 0.05, 9.0, 6.0
    along = np.arange(-20, SIDE + 20, length)
    group = (along, np.full_like(along, 60.0), np.full_like(along, length), [(outer, 1.0), (inner, -1.0)])
    profile = thorax._tubes([group], SIDE)[:, SIDE // 2]
    distance = np.abs(np.arange(SIDE) - 60.0)

    def chord(radius):
        return 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))

    smooth = np.abs(distance - outer) > 2
    smooth &= np.abs(distance - inner) > 2
    np.testing.assert_allclose(profile[smooth], (chord(outer) - chord(inner))[smooth], atol=0.15)
    assert profile.sum() == pytest.approx(np.pi * (outer**2 - inner**2), rel=0.01)


def test_air_is_black_and_bone_bright():
    patient = thorax.draw_patient(4)
    view = replace(thorax.draw_view(4, patient), roll_deg=0.0, rotation_deg=0.0, shift_mm=(0.0, 0.0))
    projected = thorax.project(patient, view, 200, 0)
    spine = (np.abs(projected.x_mm) < 6) & (np.abs(projected.y_mm - 150) < 40)
    assert projected.optical_thickness[spine].mean() > projected.optical_thickness[projected.lungs].mean() + 1
    assert projected.optical_thickness.min() == 0


# Ground truth


@pytest.mark.parametrize("seed", range(3))
def test_the_image_differs_exactly_on_the_mask_of_the_objects(seed):
    without = object_cxr.render(seed, seed, 0.0, noise=False)
    weak = object_cxr.render(seed, seed, 0.25, noise=False)
    strong = object_cxr.render(seed, seed, 1.0, noise=False)
    np.testing.assert_array_equal(strong.grey != without.grey, strong.mask)
    np.testing.assert_array_equal(weak.mask, strong.mask)
    np.testing.assert_allclose(weak.defect, 0.25 * strong.defect, rtol=1e-6)
    assert not without.mask.any()
    assert without.objects == ()


@pytest.mark.parametrize("disease", ["COVID", "Lung_Opacity"])
def test_the_image_differs_exactly_on_the_mask_of_the_opacities(disease):
    without = covid_cxr.render(1, 1, disease, 0.0, noise=False)
    normal = covid_cxr.render(1, 1, "Normal", 1.0, noise=False)
    weak = covid_cxr.render(1, 1, disease, 0.25, noise=False)
    strong = covid_cxr.render(1, 1, disease, 1.0, noise=False)
    np.testing.assert_array_equal(normal.grey, without.grey)
    np.testing.assert_array_equal(strong.grey != without.grey, strong.mask)
    np.testing.assert_allclose(weak.defect, 0.25 * strong.defect, rtol=1e-6)
    assert (strong.grey >= without.grey).all()


def test_objects_lie_in_the_lungs_and_distractors_beside_them():
    counted = beside = 0
    for seed in range(6):
        rendered = object_cxr.render(seed, 50 + seed, 1.0, noise=False)
        assert 1 <= len(rendered.objects) <= object_cxr.MOST_OBJECTS
        for placed in rendered.objects:
            assert rendered.lungs[placed.optical > 0].mean() > 0.9
            counted += 1
        for placed in rendered.distractors:
            assert not rendered.lungs[placed.optical > 0].any()
            beside += 1
    assert counted >= 6
    assert beside >= 3


def test_ground_glass_is_in_both_lungs_and_consolidation_in_one():
    for seed in range(4):
        for disease, lungs in (("COVID", 2), ("Lung_Opacity", 1)):
            rendered = covid_cxr.render(seed, seed, disease, 1.0, noise=False)
            fields, number = ndimage.label(rendered.lungs)
            large = [field for field in range(1, number + 1) if (fields == field).mean() > 0.03]
            assert len(large) == 2
            assert sum((rendered.mask & (fields == field)).sum() > 100 for field in large) == lungs
            assert (rendered.defect * rendered.lungs).sum() > 0.85 * rendered.defect.sum()


# Files


def records(name, folder):
    return {record.image: record for record in READERS[name].read(folder, Dataset(format=name))}


@pytest.mark.parametrize("name", TWINS)
def test_the_reader_finds_what_the_twin_says(name, written):
    folder = written[name, "a"]
    table = pd.read_csv(folder / writing.TABLE)
    found = records(name, folder)
    assert set(table["image"]) == set(found)
    headers = set()
    for row in table.itertuples():
        record = found[row.image]
        assert record.label == row.label
        loaded = record.load()
        assert loaded.full_scale == 255
        headers.add((loaded.pixels.shape, *sorted(loaded.header.items())))
    # One header for all: nothing in it tells the class.
    assert len(headers) == 1


@pytest.mark.parametrize("name", TWINS)
def test_equal_seeds_give_equal_bytes_whatever_else_is_written(name, written):
    one, other = (
        {path.name: path.read_bytes() for path in written[name, variant].rglob("*") if path.suffix in (".jpg", ".png")}
        for variant in "ab"
    )
    shared = one.keys() & other.keys()
    assert sum(file.startswith(("main", "Normal-main", "COVID-main", "Lung_Opacity-main")) for file in shared) >= 10
    assert any("level1" in file for file in shared)
    assert all(one[file] == other[file] for file in shared)
    assert len(set(one.values())) > len(one) / 2


def test_annotations_outline_the_objects(written):
    folder = written["object_cxr", "a"]
    table = pd.read_csv(folder / writing.TABLE)
    found = records("object_cxr", folder)
    positive = table[table["label"] == 1]
    assert len(positive) == 7
    for row in positive.itertuples():
        loaded = found[row.image].load()
        rendered = object_cxr.render(row.patient_seed, row.image_seed, row.severity)
        assert len(loaded.boxes) == row.objects == len(rendered.objects)
        # Outlines cut pixels that the object covers in part: one pixel of tolerance.
        assert not (rendered.mask & ~ndimage.binary_dilation(loaded.mask, SQUARE)).any()
        outlines = object_reader.parse_annotation(";".join(placed.annotation for placed in rendered.objects), "x")
        for placed, outline in zip(rendered.objects, outlines, strict=True):
            inside = object_reader.rasterise(outline, *rendered.mask.shape)
            near = ndimage.binary_dilation(ndimage.binary_fill_holes(placed.optical > 0), SQUARE)
            # Between the beads of a chain the outline holds what the object leaves free.
            assert (inside & ~near).sum() <= (0.3 if placed.kind == "chain" else 0) * inside.sum()


def test_the_ground_truth_of_a_simulated_chest_is_its_opacities_not_its_lungs(written, tmp_path):
    folder = written["covid_cxr", "a"]
    table = pd.read_csv(folder / writing.TABLE)
    found = records("covid_cxr", folder)
    assert {found[image].mask_of for image in table["image"]} == {"defect"}
    for row in table.itertuples():
        mask = found[row.image].load().mask
        rendered = covid_cxr.render(row.patient_seed, row.image_seed, row.label_name, row.severity)
        truth = rendered.mask if row.label_name != "Normal" else np.zeros_like(rendered.mask)
        np.testing.assert_array_equal(mask, truth)
        assert mask.any() == (row.label_name != "Normal")
    # As the real set is distributed there are lungs only, and the reader says so.
    shutil.copytree(folder, tmp_path / "real", ignore=shutil.ignore_patterns("opacities"))
    row = table.query("label_name == 'COVID'").iloc[0]
    lungs = records("covid_cxr", tmp_path / "real")[row["image"]]
    assert lungs.mask_of == "lungs"
    np.testing.assert_array_equal(lungs.load().mask, covid_cxr.render(
        row["patient_seed"], row["image_seed"], "COVID", row["severity"]).lungs)  # fmt: skip


def test_pixels_are_those_of_the_reader(written):
    folder = written["covid_cxr", "a"]
    row = pd.read_csv(folder / writing.TABLE).query("label_name == 'COVID'").iloc[0]
    rendered = covid_cxr.render(row["patient_seed"], row["image_seed"], "COVID", row["severity"])
    loaded = records("covid_cxr", folder)[row["image"]].load()
    np.testing.assert_array_equal(loaded.pixels, rendered.pixels)
