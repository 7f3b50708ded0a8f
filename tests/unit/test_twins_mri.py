"""The MRI twins: what the scanner does to a slice, what a defect changes and what not, files that the readers take."""

import filecmp

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from xiqa.config import Dataset, Twin
from xiqa.datasets import brain_tumor as brain_reader
from xiqa.datasets import lvot as lvot_reader
from xiqa.datasets.twins import brain_tumor as brain
from xiqa.datasets.twins import lvot, mri
from xiqa.datasets.twins.writing import TABLE, plan

SMALL = Twin(patients=10, images_per_patient=2, severities=(0.1,), patients_per_severity=2)
READERS = {"lvot": lvot_reader, "brain_tumor": brain_reader}
WRITERS = {"lvot": lvot, "brain_tumor": brain}


def quiet(*_):
    pass


def defect(name, seed, severity, image_seed=9):
    """One image of either twin; for the brain the class follows from the seed."""
    if name == "lvot":
        return lvot.render(seed, image_seed, phase=0.29 * seed, severity=severity)
    return brain.render(seed, image_seed, label=seed % 3, severity=severity)


@pytest.fixture(scope="module", params=["lvot", "brain_tumor"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    WRITERS[name].write(folder, SMALL, 5, quiet)
    return folder


@pytest.fixture
def plane():
    return mri.Plane.centred((3, -4, 5), (0.6, 0, -0.8), (0, 1, 0), (40, 30), 1.5)


def test_a_plane_is_centred_and_its_steps_are_the_spacing(plane):
    position = plane.coordinates()
    np.testing.assert_allclose(position.mean((1, 2)), (3, -4, 5), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(np.diff(position, axis=1), axis=0), 1.5, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(np.diff(position, axis=2), axis=0), 1.5, rtol=1e-4)


@pytest.mark.parametrize("centre", [(3, -4, 5), (10, 12, -4), (3, 30, 5), (8, -4, 9)])
def test_the_window_of_a_ball_holds_all_of_it_and_little_else(plane, centre):
    inside = np.linalg.norm(plane.coordinates() - np.reshape(centre, (3, 1, 1)), axis=0) < 6
    window = plane.window(centre, 6)
    assert inside[window].sum() == inside.sum()
    assert inside[window].size <= (2 * (6 / 1.5 + 1) + 2) ** 2
    np.testing.assert_allclose(plane.part(window).coordinates(), plane.coordinates()[(slice(None), *window)], atol=1e-4)


def test_waves_on_a_plane_are_the_sum_of_cosines_there(plane):
    waves = mri.Waves.draw(np.random.default_rng(1), 12.0, n=7)
    angles = np.tensordot(waves.vectors, plane.coordinates(), 1) + waves.phases[:, None, None]
    np.testing.assert_allclose(waves.on(plane), np.sqrt(2 / 7) * np.cos(angles).sum(0), atol=1e-3)


def test_waves_have_mean_0_and_standard_deviation_1():
    large = mri.Plane.centred((0, 0, 0), (0, 1, 0), (1, 0, 0), (200, 200), 1.0)
    fields = [mri.Waves.draw(np.random.default_rng(seed), 8.0).on(large) for seed in range(5)]
    assert abs(np.mean(fields)) < 0.02
    assert np.std(fields) == pytest.approx(1, abs=0.05)


def test_the_distance_from_a_sphere_is_exact_and_an_ellipse_has_its_area():
    grid = mri.Plane.centred((0, 0, 0), (0, 1, 0), (1, 0, 0), (81, 81), 0.5).coordinates()
    radius = np.linalg.norm(grid, axis=0)
    away = radius > 0.1
    np.testing.assert_allclose(mri.ellipsoid(grid, (0, 0, 0), (9, 9, 9))[away], (radius - 9)[away], atol=1e-3)
    ellipse = mri.coverage(mri.ellipsoid(grid[:2], (1, -2), (12, 5)), 0.5)
    assert ellipse.sum() * 0.25 == pytest.approx(np.pi * 12 * 5, rel=0.01)


def test_the_scanner_keeps_low_and_loses_high_frequencies():
    x = np.arange(64)
    low = 2 + np.cos(2 * np.pi * 4 * x / 64) * np.ones((64, 1))
    high = 2 + np.cos(2 * np.pi * 20 * x / 64) * np.ones((64, 1))
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(mri.acquire(low, rng, noise_sd=0, resolution=0.5), low, atol=1e-4)
    np.testing.assert_allclose(mri.acquire(high, rng, noise_sd=0, resolution=0.5), 2, atol=1e-4)


def test_noise_in_air_follows_rayleigh_and_in_tissue_has_the_given_spread():
    rng = np.random.default_rng(0)
    air = mri.acquire(np.zeros((128, 128), np.float32), rng, noise_sd=0.1, resolution=2.0)
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / 2 / (2 - np.pi / 2)), rel=0.03)
    tissue = mri.acquire(np.full((128, 128), 5, np.float32), rng, noise_sd=0.1, resolution=2.0)
    assert tissue.std() == pytest.approx(0.1, rel=0.03)


def test_motion_puts_ghosts_of_the_given_strength_above_and_below():
    y, x = np.mgrid[:96, :96]
    body = np.exp(-((y - 48) ** 2 + (x - 48) ** 2) / (2 * 4.0**2))
    seen = mri.acquire(body, np.random.default_rng(0), noise_sd=0, resolution=1.0, ghost=0.03, ghost_px=30)
    np.testing.assert_allclose(seen[[18, 48, 78], 48], [0.03, 1, 0.03], atol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_the_defect_is_the_only_difference(name, seed):
    without, with_it = defect(name, seed, 0.0), defect(name, seed, 1.0)
    changed = without.tissue != with_it.tissue
    assert not (changed & ~with_it.mask & ~with_it.halo).any()
    assert changed[with_it.mask].mean() > 0.995
    assert np.array_equal(without.mask, with_it.mask)
    assert without.facts == with_it.facts
    if name == "lvot":
        assert not ndimage.binary_erosion(with_it.halo, np.ones((3, 3))).any()


@pytest.mark.parametrize("seed", range(3))
def test_severity_scales_the_difference(name, seed):
    without, full, faint = (defect(name, seed, severity).tissue for severity in (0, 1, 0.25))
    above_zero = full > 0
    assert above_zero[defect(name, seed, 1).mask].mean() > 0.9
    np.testing.assert_allclose((faint - without)[above_zero], 0.25 * (full - without)[above_zero], atol=1e-5)


def test_the_class_changes_nothing_but_the_tumour():
    slices = [brain.render(4, 2, label, 1.0) for label in range(3)]
    elsewhere = ~np.any([slice_.mask | slice_.halo for slice_ in slices], axis=0)
    assert elsewhere.mean() > 0.8
    for slice_ in slices[1:]:
        assert np.array_equal(slice_.tissue[elsewhere], slices[0].tissue[elsewhere])
        facts = [{key: value for key, value in s.facts.items() if key != "tumour_px"} for s in (slice_, slices[0])]
        assert facts[0] == facts[1]


def test_tumours_sit_in_their_places_and_are_large_enough_to_see():
    for seed in range(8):
        made = [brain.render(seed, seed + 1, label, 1.0) for label in range(3)]
        assert all(slice_.mask.sum() >= 60 for slice_ in made)
        spacing_mm = made[2].facts["field_mm"] / brain.SIDE
        # The pituitary fossa is in the midline, in the middle of the image but for head and table.
        _, column = ndimage.center_of_mass(made[2].mask)
        assert abs(column - (brain.SIDE - 1) / 2) * spacing_mm < 20
        # A meningioma lies off the brain, at its border or in its midline; a glioma is surrounded by brain.
        bone_or_air = made[1].tissue < 0.1
        assert not (ndimage.binary_dilation(made[1].mask, iterations=1) & bone_or_air & ~made[1].mask).any()


def test_ventricles_shrink_as_they_contract():
    for seed in range(5):
        # The right half of the image holds the ventricles without the atria, and no other blood in front.
        filled, contracted = (lvot.render(seed, 1, phase, 0.0).tissue[30:85, 75:] > 0.8 for phase in (0.0, 0.36))
        assert contracted[:, :50].sum() < 0.85 * filled[:, :50].sum()


def test_a_cine_drifts_into_the_tract_once_and_the_beat_tells_nothing():
    twin = Twin(patients=200, images_per_patient=5, patients_per_severity=0)
    planned = plan("lvot", twin, 3, lvot.CLASSES, label_per="image", negative="good")
    phases = {0: [], 1: []}
    for start in range(0, len(planned), 5):
        cine = lvot._in_time(planned[start : start + 5])
        assert sorted(image.image for image, _ in cine) == [image.image for image in planned[start : start + 5]]
        np.testing.assert_allclose(np.diff([phase for _, phase in cine]), 0.2)
        labels = [image.label for image, _ in cine]
        assert np.count_nonzero(np.diff(labels + labels[:1])) <= 2
        for image, phase in cine:
            phases[image.label].append(phase)
    for trigonometric in (np.cos, np.sin):
        moments = [np.mean(trigonometric(2 * np.pi * np.array(values))) for values in phases.values()]
        assert np.abs(moments).max() < 0.1


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(name, folder, tmp_path):
    WRITERS[name].write(tmp_path / "again", SMALL, 5, quiet)
    WRITERS[name].write(tmp_path / "other", SMALL.model_copy(update={"patients": 1}), 6, quiet)
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert filecmp.cmpfiles(folder, tmp_path / "again", files, shallow=False) == (files, [], [])
    one = files[[file.endswith((".mat", ".nii.gz")) for file in files].index(True)]
    others = [path for path in (tmp_path / "other").rglob("*.[mn]*") if path.is_file()]
    assert all((folder / one).read_bytes() != other.read_bytes() for other in others)


def test_files_go_through_the_reader_and_an_image_depends_on_no_other(name, folder):
    table = pd.read_csv(folder / TABLE, dtype={"image": str}).set_index("image")
    records = list(READERS[name].read(folder, Dataset(format=name)))
    assert len(records) == 10 * 2 + 2 * 2 == len(table)
    assert {record.image for record in records} == set(table.index)
    for record in records[-6:]:
        row, loaded = table.loc[record.image], record.load()
        assert (record.label, record.label_name, record.patient) == (row.label, row.label_name, row.patient)
        severity = row.severity if name == "brain_tumor" or row.label else 0.0
        own = {"phase": row.phase} if name == "lvot" else {"label": record.label}
        made = WRITERS[name].render(row.patient_seed, row.image_seed, severity=severity, **own)
        np.testing.assert_array_equal(loaded.pixels, np.rint(made.image))
        expected = made.mask if name == "brain_tumor" or row.label else np.zeros_like(made.mask)
        np.testing.assert_array_equal(loaded.mask, expected)
        if name == "lvot":
            np.testing.assert_allclose(loaded.spacing_mm, made.spacing_mm, rtol=1e-6)


def test_labels_are_balanced_and_every_file_has_the_same_header(name, folder):
    table = pd.read_csv(folder / TABLE)
    for _, part in table.groupby("part"):
        counts = part.label.value_counts()
        per_patient = 1 if name == "lvot" else 2
        assert counts.max() - counts.min() <= per_patient
    headers = [record.load().header for record in READERS[name].read(folder, Dataset(format=name))]
    assert all(header == headers[0] for header in headers)


def test_a_slice_is_what_matlab_saves(tmp_path):
    made = brain.render(3, 4, 1, 1.0)
    brain.write_mat(tmp_path / "1.mat", made, 2, "main-0003")
    assert (tmp_path / "1.mat").read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    assert (tmp_path / "1.mat").read_bytes()[124:128] == b"\x00\x02IM"
    with h5py.File(tmp_path / "1.mat") as file:
        group = file["cjdata"]
        assert set(group) == {"PID", "image", "label", "tumorBorder", "tumorMask"}
        types = {"image": np.int16, "tumorMask": np.uint8, "PID": np.uint16, "label": np.float64}
        assert all(group[name].dtype == kind for name, kind in types.items())
        assert group["label"][()].tolist() == [[2.0]]
        np.testing.assert_array_equal(group["image"][()], np.rint(made.image).T)
        x, y = group["tumorBorder"][()].ravel().reshape(-1, 2).T
        filled = polygon2mask(made.mask.shape, np.stack([y - 1, x - 1], 1))
    largest = ndimage.label(made.mask)[0]
    largest = largest == np.argmax(np.bincount(largest.ravel())[1:]) + 1
    # Holes are filled by a contour; a corner pixel may go either way.
    difference = filled ^ ndimage.binary_fill_holes(largest)
    assert difference.sum() < 0.1 * made.mask.sum()


def test_a_cine_is_a_series_of_whole_numbers_with_its_mask(tmp_path):
    lvot.write(tmp_path, SMALL.model_copy(update={"patients": 1, "patients_per_severity": 0}), 1, quiet)
    cine, mask = (nibabel.load(tmp_path / part / "main-0000.nii.gz") for part in ("cine", "masks"))
    assert cine.shape == mask.shape == (lvot.SIDE, lvot.SIDE, 2)
    assert (cine.get_data_dtype(), mask.get_data_dtype()) == (np.int16, np.uint8)
    labels = pd.read_csv(tmp_path / "labels.csv")
    assert list(labels) == ["patient", "frame", "label"]
    assert np.array_equal(mask.get_fdata().any((0, 1)), labels.label.to_numpy() == 1)
