"""From files to records: a folder as a clinic has it, by command line, in Python and in the pipeline."""

import json
import runpy

import numpy as np
import pandas as pd
import pydicom
import pypdf
import pytest
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import RLELossless

from xiqa import cli
from xiqa.cdmam.dicom import read_dicom, write_dicom
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.qc import CDMAM
from xiqa.qc.record import Record

DETECTOR = Detector(pixel_mm=0.1)
EXPOSURES = [
    Exposure(anode="W", filter="Rh", tube_voltage_kv=kv, exposure_mas=100, noise="physical") for kv in (28, 30)
]


def write(path, exposure, counts):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom(path, counts, exposure, DETECTOR, image_name=path.name)
    data = pydicom.dcmread(path)
    data.PatientName, data.PatientID, data.StationName = "Doe^Jane", "4711", "MAMMO1"
    data.save_as(path)
    return path


@pytest.fixture(scope="module")
def images():
    """Counts of two images of each exposure."""
    return [
        [simulate(exposure, DETECTOR, GEOMETRIES["standard_reader"], 2.0, 5, number).counts for number in (0, 1)]
        for exposure in EXPOSURES
    ]


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """One exposure, as simply as it comes."""
    here = tmp_path_factory.mktemp("day")
    for number, counts in enumerate(images[0]):
        write(here / f"{number}.dcm", EXPOSURES[0], counts)
    return here


def run(*words, code=(0, 3, 4)):
    found = cli.main([*map(str, words), "--jobs", "1", "--bootstrap", "20"])
    assert found in ([code] if isinstance(code, int) else code)


# --- a folder of a clinic --------------------------------------------------------------------------------------------


def clinic(place, images):
    """Forty files: two settings, doubles, one without preamble, one broken off, frames, an index, notes, a viewer."""
    (first, second), (third, fourth) = images
    for number, counts in enumerate((first, second)):
        write(place / f"S1/1.2.840.1.{number}", EXPOSURES[0], counts)
    write(place / "S2/a.dcm", EXPOSURES[1], third)
    data = pydicom.dcmread(write(place / "S2/b.dcm", EXPOSURES[1], fourth))
    with (place / "S2/b.dcm").open("wb") as stream:
        write_dataset(DicomFileLike(stream), data)
    whole = (place / "S2/a.dcm").read_bytes()
    (place / "S2/broken off.dcm").write_bytes(whole[: len(whole) // 2])
    (place / "again").mkdir()
    for number in (0, 1):
        data = pydicom.dcmread(place / f"S1/1.2.840.1.{number}")
        data.compress(RLELossless)
        data.SOPInstanceUID = f"1.2.3.{number}"
        data.save_as(place / f"again/{number}.dcm")
    write_frames(place / "TOMO/stack.dcm", [third, second])
    report = pydicom.dcmread(place / "S2/a.dcm")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.Modality, report.SOPClassUID = "SR", "1.2.840.10008.5.1.4.1.1.88.67"
    report.save_as(place / "report.dcm")
    (place / "Thumbs.db").write_bytes(b"thumbnails" * 100)
    (place / "notes of Doe.txt").write_text("Doe, Jane: CDMAM of Monday")
    (place / "VIEWER").mkdir()
    for number in range(40 - sum(path.is_file() for path in place.rglob("*"))):
        (place / f"VIEWER/{number}.dll").write_bytes(b"MZ" * 200)
    return place


def write_frames(path, frames):
    """An enhanced image: pixel spacing in functional groups, none outside."""
    data = pydicom.dcmread(write(path, EXPOSURES[0], frames[0]))
    data.NumberOfFrames = len(frames)
    data.PixelData = b"".join(np.ascontiguousarray(frame, "<u2").tobytes() for frame in frames)
    del data.ImagerPixelSpacing
    measures, groups = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing = ["0.1", "0.1"]
    groups.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [groups]
    data.PerFrameFunctionalGroupsSequence = [pydicom.Dataset() for _ in frames]
    data.save_as(path)
    return path


@pytest.mark.long
def test_a_folder_of_forty_mixed_files_gives_a_record_per_setting_and_no_word_of_a_patient(images, tmp_path, capsys):
    place = clinic(tmp_path / "export of Doe" / "disc", images)
    assert sum(path.is_file() for path in place.rglob("*")) == 40
    out = tmp_path / "results"
    run("read", place, "--out", out, "--frame", 2, "--skip-unreadable")
    said = capsys.readouterr().out
    # The second frame has the pixels of an image that is there, as have both doubles.
    settings = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/results.json")}
    assert sorted(settings) == ["W-Rh_28kV_100mAs", "W-Rh_30kV_100mAs"]
    assert {name: len(record["images"]) for name, record in settings.items()} == dict.fromkeys(settings, 2)
    assert "4 images read, 36 files left out" in said
    skipped = pd.read_csv(out / "skipped.csv").set_index("file")["reason"]
    assert len(skipped) == 36
    assert skipped["again/0.dcm"] == "the same pixels as S1/1.2.840.1.0, counted once"
    assert skipped["TOMO/stack.dcm"] == "the same pixels as S1/1.2.840.1.1, counted once"
    assert "SR" in skipped["report.dcm"]
    assert skipped["Thumbs.db"] == "no DICOM file by its content"
    assert "S2/broken off.dcm" in skipped
    for name, record in settings.items():
        # It may belong to either setting: both say that it is missing.
        assert any("broken off.dcm: not read, and in no curve" in words for words in record["warnings"])
        files = {path.name for path in (out / name).iterdir()}
        assert {"results.json", "curve.csv", "curve.png", "psychometric.png", "qa.pdf"} <= files
        for image in record["images"]:
            for ending in ("corner.txt", "centre.txt", "hits.png", "grid.png"):
                assert f"{image['name']}.{ending}" in files
        assert record["exposure"]["station"] == "MAMMO1"
        assert (out / name / "results.json").read_text().count("4711") == 0
        whole = "".join(page.extract_text() for page in pypdf.PdfReader(out / name / "qa.pdf").pages)
        assert name in whole
        for text in (whole, (out / name / "results.json").read_text(), said, (out / "skipped.csv").read_text()):
            assert "Doe" not in text
            assert "export" not in text


def test_an_image_that_cannot_be_read_is_named_on_the_record_and_the_rest_is_read(images, tmp_path, capsys):
    """A copy that broke off in the pixels, one in the header, a blank exposure, a double, a note with its ending."""
    place, out = tmp_path / "day", tmp_path / "out"
    whole = write(place / "whole.dcm", EXPOSURES[0], images[0][0]).read_bytes()
    (place / "broken off.dcm").write_bytes(whole[: len(whole) // 2])
    (place / "header.dcm").write_bytes(whole[:300])
    write(place / "blank.dcm", EXPOSURES[0], np.full_like(images[0][0], 500))
    (place / "again.dcm").write_bytes(whole)
    (place / "note.dcm").write_text("CDMAM of Monday")
    unread = {"broken off.dcm", "header.dcm", "blank.dcm"}

    run("read", place, "--out", out, "--no-pictures", code=1)
    error = capsys.readouterr().err
    assert any(file in error for file in unread)
    assert not out.exists()

    run("read", place, "--out", out, "--no-pictures", "--skip-unreadable")
    said = capsys.readouterr().out
    record = json.loads((out / "results.json").read_text())
    assert [image["file"] for image in record["images"]] == ["again.dcm"]
    warned = [warning for warning in record["warnings"] if "not read, and in no curve" in warning]
    assert {warning.split(": ")[0] for warning in warned} == unread
    assert all(len(warning.split("in no curve: ")[1]) > 20 for warning in warned)
    skipped = pd.read_csv(out / "skipped.csv").set_index("file")["reason"]
    assert set(skipped.index) == unread | {"whole.dcm", "note.dcm"}  # each of the six files is somewhere
    assert skipped["whole.dcm"] == "the same pixels as again.dcm, counted once"
    assert all(file in said for file in skipped.index)
    c = CDMAM(place, skip_unreadable=True)
    assert c.analyze(bootstrap=0).results_data().warnings[-len(warned) :] == tuple(warned)


def test_command_line_python_and_pipeline_give_equal_results(folder, root, tmp_path, capsys):
    run("read", folder, "--out", tmp_path, "--json", "--no-pictures")
    (printed,) = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "results.json").read_text())
    assert printed == written
    c = CDMAM(folder)
    assert c.settings == ["W-Rh_28kV_100mAs"]
    with pytest.raises(ValueError, match="analyze"):
        c.results()
    c.analyze(bootstrap=20)
    data = c.results_data(as_dict=True)
    for record in (data, written):
        record["provenance"].pop("analysed")
    assert data == written
    assert isinstance(c.results_data(), Record)
    assert "acceptable limit" in c.results()
    c.publish_pdf(tmp_path / "own.pdf")
    assert len(pypdf.PdfReader(tmp_path / "own.pdf").pages) >= 3
    assert len(c.plot_analyzed_image().axes) == 2
    assert c.plot_curve().axes

    script = runpy.run_path(str(root / "workflow/scripts/data/read_recordings.py"))
    paths = [str(folder / f"{number}.dcm") for number in (0, 1)]
    script["read_recordings"](
        paths, "recording_1", *(str(tmp_path / name) for name in ("detections.npy", "g.csv", "i.csv")), lambda *_: 0
    )
    for number, matrices in enumerate(np.load(tmp_path / "detections.npy")):
        for kind, matrix in zip(("corner", "centre"), matrices, strict=True):
            assert np.array_equal(np.loadtxt(tmp_path / f"{number}.{kind}.txt", dtype=int), matrix)
            assert list(written["images"][number][kind]) == ["".join(".12"[max(v, 0)] for v in row) for row in matrix]


def test_one_image_measured_by_its_signals_has_a_curve_with_an_interval(folder, tmp_path):
    run("read", folder / "0.dcm", "--out", tmp_path, "--method", "graded", "--no-pictures")
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["options"]["method"] == "graded"
    assert all(point["ci_low_um"] < point["cdc_um"] < point["ci_high_um"] for point in record["curve"])
    assert all(point["known_place_um"] < point["t_auto_um"] for point in record["curve"])


def test_several_folders_and_files_are_read_together_each_file_once(folder, images, tmp_path):
    other = write(tmp_path / "other/0.dcm", EXPOSURES[0], images[0][1] + np.uint16(1))
    run("read", folder, folder / "0.dcm", other.parent, "--out", tmp_path / "out", "--no-pictures")
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert [image["file"] for image in record["images"]] == [
        f"{folder.name}/0.dcm",
        f"{folder.name}/1.dcm",
        "other/0.dcm",
    ]


def test_local_limits_decide_the_exit_code(folder, tmp_path):
    for limit, code in ((100.0, 0), (0.001, 3)):
        (tmp_path / "own.yaml").write_text(f"name: own\ndecides: local\nlimits_um: {{local: {{0.25: {limit}}}}}\n")
        words = ["read", folder, "--out", tmp_path / "out", "--limits", tmp_path / "own.yaml", "--no-pictures"]
        run(*words, code=code)
        assert "local_verdict" in pd.read_csv(tmp_path / "out/curve.csv").columns
    assert cli.main(["read", str(folder), "--out", str(tmp_path / "x"), "--limits", str(tmp_path / "none.yaml")]) == 1


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("xiqa 0.")


# --- what a file does not say, or says wrongly -----------------------------------------------------------------------


def test_a_frame_has_the_spacing_of_its_functional_groups_and_needs_to_be_named(images, tmp_path):
    path = write_frames(tmp_path / "stack.dcm", images[0])
    with pytest.raises(ValueError, match="2 frames, expected one; name one of them with --frame"):
        read_dicom(path)
    for number in (1, 2):
        recording = read_dicom(path, frame=number)
        assert (recording.pixel_mm, recording.frame) == (0.1, number)
        assert np.array_equal(recording.counts, images[0][number - 1])
    with pytest.raises(ValueError, match=r"none of number 3, expected a number of 1-2"):
        read_dicom(path, frame=3)
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    assert np.array_equal(read_dicom(path, frame=2).counts, images[0][1])
    single = write(tmp_path / "single.dcm", EXPOSURES[0], images[0][0])
    assert read_dicom(single, frame=7).frame is None


def test_each_frame_may_have_a_spacing_of_its_own(images, tmp_path):
    path = write_frames(tmp_path / "stack.dcm", images[0])
    data = pydicom.dcmread(path)
    for groups, spacing in zip(data.PerFrameFunctionalGroupsSequence, ("0.1", "0.2"), strict=True):
        measures = pydicom.Dataset()
        measures.PixelSpacing = [spacing, spacing]
        groups.PixelMeasuresSequence = [measures]
    data.save_as(path)
    assert [read_dicom(path, frame=number).pixel_mm for number in (1, 2)] == [0.1, 0.2]


def test_a_missing_or_wrong_pixel_size_can_be_given(folder, tmp_path, capsys):
    for number, spacing in enumerate((None, ["0.3", "0.3"], ["0.1", "0.2"])):
        data = pydicom.dcmread(folder / "0.dcm")
        data.ImagerPixelSpacing = spacing
        data.save_as(tmp_path / "a.dcm")
        assert cli.main(["read", str(tmp_path / "a.dcm"), "--out", str(tmp_path / f"{number}"), "--jobs", "1"]) == 1
        assert "--pixel-mm" in capsys.readouterr().err
    run("read", tmp_path / "a.dcm", "--out", tmp_path / "out", "--pixel-mm", 0.1, "--no-pictures")
    assert json.loads((tmp_path / "out/results.json").read_text())["exposure"]["pixel_mm"] == 0.1


def test_the_header_tells_system_station_date_and_kind_of_pixels(folder, tmp_path):
    data = pydicom.dcmread(folder / "0.dcm")
    data.Manufacturer, data.ManufacturerModelName, data.DeviceSerialNumber = "Maker", "M 1", "17"
    data.AcquisitionDate, data.PresentationIntentType, data.PixelIntensityRelationship = (
        "20260131",
        "FOR PRESENTATION",
        "LOG",
    )
    data.save_as(tmp_path / "a.dcm")
    recording = read_dicom(tmp_path / "a.dcm")
    assert (recording.system, recording.serial_number, recording.station) == ("Maker M 1", "17", "MAMMO1")
    assert (recording.date, recording.for_presentation, recording.intensity_relationship) == ("2026-01-31", True, "LOG")
    data.AcquisitionDate, data.ContentDate = "", "20261399"
    data.save_as(tmp_path / "a.dcm")
    assert read_dicom(tmp_path / "a.dcm").date == "2020-01-01"  # of the series


# --- where the phantom is not found ----------------------------------------------------------------------------------


def lost(counts):
    """The image below waves that form a coarser square lattice, which is taken for the grid."""
    y, x = np.mgrid[: counts.shape[0], : counts.shape[1]] * 0.1
    waves = sum(np.cos(2 * np.pi * (x + sign * y) / np.sqrt(2) / 17.3) for sign in (-1, 1))
    return (counts * (0.6 + 0.12 * waves)).astype(np.uint16)


def block_of(counts):
    """Corners of a block of 8 × 8 cells, as somebody would read them off: to the pixel."""
    first, smaller, thicker = read_image(counts, 0.1).registration.frame_px
    return [
        np.round(first + i * smaller + j * thicker) for i, j in ((3.5, 3.5), (3.5, 11.5), (11.5, 11.5), (11.5, 3.5))
    ]


def test_where_the_grid_is_not_found_the_picture_is_written_and_corners_help(images, tmp_path, capsys):
    counts = images[0][0]
    path, out = write(tmp_path / "a.dcm", EXPOSURES[0], lost(counts)), tmp_path / "out"
    assert cli.main(["read", str(path), "--out", str(out), "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert "a.lost.png" in said
    assert "--corners X,Y" in said
    assert [file.name for file in out.iterdir()] == ["a.lost.png"]
    assert (out / "a.lost.png").read_bytes().startswith(b"\x89PNG")
    corners = [f"{x:.0f},{y:.0f}" for x, y in block_of(counts)]
    run("read", path, "--out", out, "--no-pictures", "--rotate", 0, "--corners", *corners)
    assert not (out / "a.lost.png").exists()
    (image,) = json.loads((out / "results.json").read_text())["images"]
    assert image["registration"]["pitch_mm"] == pytest.approx(10.35, abs=0.02)
    assert image["registration"]["orientation"] == 0
    assert image["corner_hits"] > 80  # the waves cost some; by chance it were 51 ± 6


def test_corners_are_those_of_a_square_in_any_order(images):
    counts = images[0][0]
    corners = np.array(block_of(counts))
    usual = read_image(counts, 0.1)
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        reading = read_image(counts, 0.1, block_px=corners[order])
        np.testing.assert_allclose(reading.registration.frame_px, usual.registration.frame_px, atol=0.05)
        assert np.mean(reading.corner == usual.corner) > 0.99
    corners[0] += 60
    with pytest.raises(ValueError, match="expected a square"):
        read_image(counts, 0.1, block_px=corners)


def test_an_orientation_that_is_known_is_taken_and_an_impossible_one_refused(images):
    counts = images[0][0]
    assert read_image(counts, 0.1, orientation=0).registration.orientation == 0
    with pytest.raises(ValueError, match="found orientation 1, expected 0"):
        read_image(counts, 0.1, orientation=1)
