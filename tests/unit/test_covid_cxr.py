"""Both forms of the COVID-19 X-rays are recognised and read, and nothing of the study is lost on the way."""

from collections import Counter

import numpy as np
import pytest
from cases import long
from PIL import Image

from xiqa.config import Dataset
from xiqa.datasets.base import DataError, Record
from xiqa.datasets.covid_cxr import read

SET = Dataset(format="covid_cxr")
LEFT = np.zeros((299, 299), bool)
LEFT[:, :150] = True


def classes(*names):
    return SET.model_copy(update={"classes": names})


def image(path, size=(299, 299), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(path)


def mask(path, inside):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(255 * inside)).convert("RGB").save(path)


# Radiography Database


@pytest.fixture
def radiography(tmp_path):
    """Three classes, one image each, but two of COVID; the mask of the second of them is missing."""
    root = tmp_path / "COVID-19_Radiography_Dataset"
    for name, count in (("COVID", 2), ("Normal", 1), ("Viral Pneumonia", 1)):
        for number in range(1, count + 1):
            image(root / name / "images" / f"{name}-{number}.png", seed=number)
    for name in ("COVID", "Normal", "Viral Pneumonia"):
        mask(root / name / "masks" / f"{name}-1.png", LEFT[:256, 21:277])  # columns 0-128 of 256
    (root / "COVID.metadata.xlsx").write_bytes(b"PK not needed")
    (root / "COVID" / "images" / "._COVID-1.png").write_bytes(b"left by a Mac")
    return root


@pytest.mark.parametrize("deeper", [False, True])
def test_the_classes_are_the_folders(radiography, deeper):
    records = list(read(radiography.parent if deeper else radiography, SET))
    assert [(r.image, r.label, r.label_name) for r in records] == [
        ("Normal-1", 0, "Normal"),
        ("Viral_Pneumonia-1", 1, "Viral Pneumonia"),
        ("COVID-1", 2, "COVID-19"),
        ("COVID-2", 2, "COVID-19"),
    ]
    assert {(r.grouping, r.patient == r.image, r.part) for r in records} == {("proxy", True, None)}
    assert {r.mask_of for r in records} == {"lungs"}


def test_the_published_mask_size_is_fitted_and_a_missing_mask_is_none(radiography):
    records = list(read(radiography, SET))
    loaded = records[2].load()
    assert loaded.pixels.shape == loaded.mask.shape == (299, 299)
    # 129 of 256 columns: a column belongs to the mask where its centre does.
    inside = (np.arange(299) + 0.5) / 299 < 129 / 256
    np.testing.assert_array_equal(loaded.mask, np.broadcast_to(inside, (299, 299)))
    assert loaded.header["has_mask"] == 1
    without = records[3].load()
    assert without.mask is None
    assert without.header["has_mask"] == 0
    assert len(records[2].files) == 2
    assert len(records[3].files) == 1


def test_drawn_opacities_are_the_ground_truth_and_lungs_are_then_no_mask(radiography):
    mask(radiography / "COVID/opacities/COVID-1.png", LEFT)
    mask(radiography / "Normal/opacities/Normal-1.png", np.zeros((299, 299)))
    records = list(read(radiography, SET))
    assert {r.mask_of for r in records} == {"defect"}
    normal, viral, first, second = (r.load().mask for r in records)
    assert normal is not None
    assert not normal.any()
    np.testing.assert_array_equal(first, LEFT)
    # Their lungs are drawn, what is in them is not known.
    assert viral is None
    assert second is None


@pytest.mark.parametrize("size", [(256, 255), (299, 298), (128, 128)])
def test_any_other_mask_size_is_a_fault(radiography, size):
    mask(radiography / "COVID/masks/COVID-1.png", np.ones(size))
    with pytest.raises(DataError, match=r"masks/COVID-1\.png: found a mask of"):
        list(read(radiography, SET))[2].load()


def test_chosen_classes_give_order_and_leave_the_rest_out(radiography):
    records = list(read(radiography, classes("COVID", "Normal")))
    assert Counter((r.label, r.label_name) for r in records) == {(0, "COVID"): 2, (1, "Normal"): 1}
    records = list(read(radiography, classes("other", "COVID-19")))
    assert Counter(r.label for r in records) == {0: 2, 1: 2}


def test_a_slip_in_a_class_name_is_found(radiography):
    with pytest.raises(DataError, match=r"no finding 'Nromal'.*COVID-19; Normal; Viral Pneumonia"):
        list(read(radiography, classes("Nromal", "COVID-19")))


def test_a_class_folder_without_images_is_a_fault(radiography):
    (radiography / "Lung_Opacity/images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Lung_Opacity/images: holds no \.png"):
        list(read(radiography, SET))


# metadata.csv

HEADING = "patientid,offset,finding,view,modality,folder,filename,clinical_notes,"
ROWS = [
    '12,0,"COVID-19, ARDS",PA,X-ray,images,a.png,"notes, with a comma\nand a line",',
    "12,3,Pneumonia/Viral/COVID-19,AP Erect,X-ray,images,b.png,,",
    "7a,,No Finding,AP Supine,X-ray,images,c d.png,,",
    "8,,SARS,L,X-ray,images,lateral.png,,",
    "8,,SARS,Axial,CT,volumes,ct.nii.gz,,",
    "8,,SARS,AP,X-ray,images,e.png,,",
]


def collection(folder, rows=ROWS, images=("a.png", "b.png", "c d.png", "e.png")):
    for name in images:
        image(folder / "images" / name, (30, 20))
    (folder / "metadata.csv").write_text("\n".join([HEADING, *rows]) + "\n")
    return folder


def test_labels_patients_and_frontal_views(tmp_path):
    records = list(read(collection(tmp_path), SET))
    assert [(r.image, r.patient, r.label, r.label_name) for r in records] == [
        ("a", "12", 1, "COVID-19"),
        ("b", "12", 1, "COVID-19"),
        ("c_d", "7a", 0, "other"),
        ("e", "8", 0, "other"),
    ]
    assert {r.grouping for r in records} == {"patient"}
    assert records[1].mask_of == "lungs"
    assert records[1].extra == {"finding": "Pneumonia/Viral/COVID-19", "view": "AP Erect"}
    header = records[0].load().header
    assert {key: header[key] for key in ("width", "height", "colour", "has_mask", "view")} == {
        "width": 20,
        "height": 30,
        "colour": "L",
        "has_mask": 0,
        "view": "PA",
    }


def test_masks_of_the_collection_must_fit(tmp_path):
    collection(tmp_path)
    inside = np.arange(20) < np.full((30, 1), 7)
    mask(tmp_path / "annotations/lungVAE-masks/a_mask.png", inside)
    mask(tmp_path / "annotations/lungVAE-masks/b_mask.png", inside[:-1])
    first, second, third, _ = read(tmp_path, SET)
    np.testing.assert_array_equal(first.load().mask, inside)
    assert third.load().mask is None
    with pytest.raises(DataError, match=r"b_mask\.png: found a mask of \(29, 20\), expected \(30, 20\)"):
        second.load()


def test_findings_as_classes(tmp_path):
    records = list(read(collection(tmp_path), classes("No Finding", "COVID-19")))
    assert [r.label for r in records] == [1, 1, 0]
    # COVID-19 with ARDS is both.
    found = list(read(tmp_path, classes("ARDS", "COVID-19")))
    assert "row 2: finding 'COVID-19, ARDS' belongs to 2 classes" in str(found[0])
    assert found[1].label == 1


def test_a_file_listed_twice_gives_two_records(tmp_path):
    records = list(read(collection(tmp_path, [*ROWS, "339,,SARS,AP,X-ray,images,e.png,,"]), SET))
    assert [r.image for r in records[-2:]] == ["e", "e_listed2"]
    assert [r.patient for r in records[-2:]] == ["8", "339"]


def test_only_files_of_a_subset(tmp_path):
    collection(tmp_path)
    (tmp_path / "subset.csv").write_text("filename,mask\ne.png,\na.png,\nlateral.png,\n")
    assert [r.image for r in read(tmp_path, SET)] == ["a", "e"]
    (tmp_path / "subset.csv").write_text("filename,mask\ne.png,\nx.png,\n")
    with pytest.raises(DataError, match=r"subset\.csv: names x\.png, which metadata\.csv does not list"):
        list(read(tmp_path, SET))


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("9,,SARS,PA,X-ray,images,gone.png,,", r"names 'images/gone\.png'.* no file"),
        ("9,,SARS,PA,X-ray,..,secret.png,,", ".*lies outside"),
        (",,SARS,PA,X-ray,images,e.png,,", r"row 8: column patientid is empty for 'e\.png'"),
        ("9,,todo,PA,X-ray,images,e.png,,", "row 8: found finding 'todo', expected a diagnosis"),
        ("9,,,PA,X-ray,images,e.png,,", "row 8: found finding ''"),
        ("9,,SARS,PA,X-ray,images", "row 8: found 6 cells, expected 9"),
    ],
)
def test_faulty_rows_are_faults_not_losses(tmp_path, row, found):
    folder = collection(tmp_path / "set", [*ROWS, row])
    image(tmp_path / "secret.png")
    *records, fault = read(folder, SET)
    assert all(isinstance(record, Record) for record in records)
    assert len(records) == 4
    with pytest.raises(DataError, match=rf"metadata\.csv: {found}"):
        raise fault


def test_neither_form(tmp_path):
    with pytest.raises(DataError, match=r"neither metadata\.csv nor COVID/images"):
        list(read(tmp_path, SET))
    (tmp_path / "metadata.csv").write_text("patientid,filename\n1,a.png\n")
    with pytest.raises(DataError, match=r"found columns patientid, filename; expected.*finding, view"):
        list(read(tmp_path, SET))


@pytest.mark.parametrize("every", [24, long(1)])
def test_the_real_subset(real_data, every):
    records = list(read(real_data / "covid_cxr_masks", SET))
    assert all(isinstance(record, Record) for record in records)
    assert len({record.image for record in records}) == len(records) == 168
    assert Counter(record.label_name for record in records) == {"COVID-19": 90, "other": 78}
    assert len({record.patient for record in records}) == 116
    masked = [record for record in records if len(record.files) == 2]
    assert len(masked) == 119
    assert Counter(record.label for record in masked) == {1: 90, 0: 29}
    for record in records[::every]:
        loaded = record.load()
        assert loaded.full_scale == 255
        if loaded.mask is not None:
            # Lungs fill a fair part of a chest image, but never most of it.
            assert 0.05 < loaded.mask.mean() < 0.75, record.image
