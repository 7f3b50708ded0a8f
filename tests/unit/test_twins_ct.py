"""The CT twin: what the agent changes and what it does not, how hard it is by its physics, files that readers take."""

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import CTImageStorage
from scipy import ndimage

from xiqa.config import Dataset, Twin
from xiqa.datasets import ct_contrast as reader
from xiqa.datasets.twins import ct_contrast as twins_ct
from xiqa.datasets.twins.ct_contrast import LEVELS_MM, _write_dicom, draw_patient, render, write
from xiqa.datasets.twins.writing import TABLE, plan

SMALL = Twin(patients=10, images_per_patient=2, severities=(0.1,), patients_per_severity=1)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write(folder, SMALL, 5, lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def patients():
    """Patients with agent at severity 1, levels spread over the chest."""
    levels = np.linspace(*LEVELS_MM, 30)
    drawn = [render(seed, seed, level_mm=level, contrast=True) for seed, level in enumerate(levels)]
    return [(draw_patient(seed), slice_) for seed, slice_ in enumerate(drawn)]


@pytest.mark.parametrize("seed", range(4))
def test_the_agent_is_the_only_difference_and_follows_severity(seed):
    level = float(np.linspace(*LEVELS_MM, 4)[seed])
    plain = render(seed, 9, level_mm=level, contrast=False)
    full = render(seed, 9, level_mm=level, contrast=True, severity=1.0)
    faint = render(seed, 9, level_mm=level, contrast=True, severity=0.1)
    assert not plain.effect_hu.any()
    assert np.array_equal(plain.mask, full.mask)
    np.testing.assert_allclose(full.hu - plain.hu, full.effect_hu, atol=1e-3)
    np.testing.assert_allclose(faint.effect_hu, 0.1 * full.effect_hu, atol=1e-3)


def test_the_mask_is_what_the_agent_raises(patients):
    for patient, slice_ in patients:
        assert slice_.mask.any()
        assert slice_.effect_hu[slice_.mask].min() > 0
        # Elsewhere nothing wide is raised by half of that: bundles of fine vessels and streaks stay below.
        wide = ndimage.grey_opening(slice_.effect_hu, size=(5, 5))
        assert wide[~ndimage.binary_dilation(slice_.mask, iterations=2)].max() < 0.5 * slice_.effect_hu.max()
        assert slice_.effect_hu.max() < 250 * patient.dose * (1.4 if patient.kernel == "sharp" else 1.1)


def test_blood_without_agent_is_blood(patients):
    for patient, slice_ in patients:
        inside = ndimage.binary_erosion(slice_.mask)
        plain = (slice_.hu - slice_.effect_hu)[inside]
        # Blood or heart muscle, off by calibration, scatter and noise.
        off = 10 + abs(patient.cupping_hu) + 3 * patient.noise_hu / np.sqrt(len(plain) / 4)
        assert 30 - off < np.median(plain) < 62 + off


def test_the_lowest_level_hides_between_patients_and_full_strength_does_not(patients):
    # Observer who knows the mask: median over it. The agent at 0.1 adds about one standard deviation of patients.
    plain, rise = np.array(
        [(np.median((s.hu - s.effect_hu)[s.mask]), np.median(s.effect_hu[s.mask])) for _, s in patients]
    ).T
    assert 0.6 < 0.1 * rise.mean() / plain.std() < 1.4
    assert rise.min() > 3 * plain.std()


def test_header_tells_nothing_about_the_label(tmp_path):
    image = plan("ct_contrast", SMALL, 0, reader.CLASSES, label_per="patient", negative=reader.CLASSES[0])[0]
    headers = []
    for contrast in (False, True):
        slice_ = render(image.patient_seed, 1, level_mm=20, contrast=contrast)
        _write_dicom(tmp_path / "slice.dcm", slice_, draw_patient(image.patient_seed), image, 20.0, 40.0)
        header = pydicom.dcmread(tmp_path / "slice.dcm")
        for tag in ("PixelData", "SOPInstanceUID"):
            del header[tag]
        headers.append(header)
    assert headers[0] == headers[1]


def test_files_are_ct_slices_in_series(twin):
    series, instances = {}, set()
    for path in sorted(twin.rglob("*.dcm")):
        data = pydicom.dcmread(path)
        assert data.SOPClassUID == data.file_meta.MediaStorageSOPClassUID == CTImageStorage
        assert all(uid.is_valid for uid in (data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID))
        hu = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.percentile(hu[hu > -1500], 1) == pytest.approx(-1000, abs=60)
        assert hu.max() < 3072
        instances.add(data.SOPInstanceUID)
        series.setdefault((path.parent, data.SeriesInstanceUID), []).append(data.ImagePositionPatient[2])
    assert len(instances) == 22
    assert len(series) == 11
    for positions in series.values():
        assert positions[1] - positions[0] == pytest.approx(65, abs=1e-3)


def test_reader_finds_the_images_labels_and_masks_of_the_table(twin):
    dataset = Dataset(format="ct_contrast", intensity="window", window_hu=(50.0, 500.0), slices="all")
    records = {record.image: record for record in reader.read(twin, dataset)}
    table = pd.read_csv(twin / TABLE)
    assert set(table["image"]) == set(records)
    for row in table.itertuples():
        record = records[row.image]
        assert (record.patient, record.label, record.label_name) == (row.patient, row.label, row.label_name)
        assert record.files[0] == twin / row.file
        loaded, contrast = record.load(), row.label == 1
        drawn = render(
            row.patient_seed,
            row.image_seed,
            level_mm=-pydicom.dcmread(record.files[0]).SliceLocation,
            contrast=contrast,
            severity=row.severity if contrast else 0.0,
        )
        assert loaded.spacing_mm[0] == pytest.approx(drawn.spacing_mm, abs=1e-5)
        different = loaded.mask != drawn.mask  # the level in the file is rounded
        assert different.mean() < 1e-3
        held = (drawn.hu > -1024) & (drawn.hu < 3071)
        assert np.quantile(np.abs(loaded.pixels - drawn.hu)[held], 0.99) < 1


def test_patients_keep_one_label_and_main_negatives_have_no_severity(twin):
    table = pd.read_csv(twin / TABLE)
    assert (table.groupby("patient")["label"].nunique() == 1).all()
    main = table[table["part"] == "main"]
    assert main["severity"].isna().equals(main["label"] == 0)
    assert main.groupby("label")["patient"].nunique().tolist() == [5, 5]


def test_equal_arguments_give_equal_bytes(twin, tmp_path):
    write(tmp_path, SMALL, 5, lambda *_: None)
    files = sorted(path.relative_to(twin) for path in twin.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((twin / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


def test_table_is_written_last(tmp_path, patients, monkeypatch):
    monkeypatch.setattr(twins_ct, "render", lambda *_, **__: patients[0][1])

    def stop(done: int, total: int, what: str) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, SMALL, 5, stop)
    assert len(list(tmp_path.rglob("*.dcm"))) == 22
    assert not (tmp_path / TABLE).exists()
