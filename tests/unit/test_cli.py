"""The command line: simulated images in, matrices and a curve out, and nothing half-written after an error."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pydicom
import pytest

from xiqa import cli
from xiqa.cdmam.dicom import read_dicom
from xiqa.cdmam.phantom import CELL_PRESENT
from xiqa.figures.cdc import plot_cdc
from xiqa.qc.files import matrix_text

READ = (0, 3, 4)
"""Exit codes of `xiqa read` after which results are there: limit met, exceeded, not determined."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    assert cli.main(["simulate", "--scenario", "3", "--images", "2", "--out", str(folder), "--jobs", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def results(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    assert cli.main(["read", str(images), "--out", str(out), "--jobs", "1", "--bootstrap", "50"]) in READ
    return out


def test_simulated_images_carry_their_setting_and_are_reproducible(images, tmp_path):
    paths = sorted(images.iterdir())
    assert [path.name for path in paths] == ["scenario_3_000.dcm", "scenario_3_001.dcm"]
    recording = read_dicom(paths[0])
    assert (recording.tube_voltage_kv, recording.exposure_mas) == (25, 110)
    assert pydicom.dcmread(paths[0]).PixelIntensityRelationshipSign == 1
    # One image alone, made in another run, has the same bytes.
    assert cli.main(["simulate", "--scenario", "3", "--images", "1", "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert (tmp_path / "scenario_3_000.dcm").read_bytes() == paths[0].read_bytes()
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_each_image_gets_two_matrices_in_the_standard_form(images, results):
    for path in sorted(images.iterdir()):
        for kind in ("corner", "centre"):
            raw = (results / f"{path.stem}.{kind}.txt").read_bytes()
            assert len(raw) == 1058
            assert raw.endswith(b"  \r\n\r\n")
            lines = raw.decode("ascii").split("\r\n")
            assert all(len(line) == 64 for line in lines[:16])
            matrix = np.array([[int(word) for word in line.split()] for line in lines[:16]])
            assert np.array_equal(matrix == -1, ~CELL_PRESENT)
            assert 110 < (matrix == 1).sum() < 205


def test_matrix_text_is_byte_for_byte_that_of_the_standard_reader(real_data):
    for path in sorted((real_data / "cdmam_reference" / "standard_reader").glob("*.txt")):
        assert matrix_text(np.loadtxt(path, dtype=int)).encode("ascii") == path.read_bytes()


def test_the_curve_is_written_as_table_and_picture(results):
    table = pd.read_csv(results / "curve.csv")
    assert list(table.columns) == [
        "diameter_mm", "t_auto_um", "t_human_um", "cdc_um", "ci_low_um", "ci_high_um", "censored",
        "acceptable_um", "acceptable_verdict", "achievable_um", "achievable_verdict",
    ]  # fmt: skip
    assert len(table) == 12
    assert (results / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert not (results / "skipped.csv").exists()


def test_the_end_says_what_was_found(images, tmp_path, capsys):
    assert (
        cli.main(["read", str(images), "--out", str(tmp_path), "--jobs", "1", "--bootstrap", "0", "--no-pictures"]) == 4
    )
    said = capsys.readouterr().out
    for words in (
        "2 images read",
        "grid pitch 10.35",
        "% of the corner discs",
        "acceptable limit",
        "16 images or more",
    ):
        assert words in said


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(images, tmp_path, capsys):
    folder, out = tmp_path / "mixed", tmp_path / "out"
    folder.mkdir()
    for path in images.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "letter.txt").write_text("no image")
    blank = pydicom.dcmread(folder / "scenario_3_001.dcm")
    blank.PixelData = np.full((blank.Rows, blank.Columns), 500, np.uint16).tobytes()
    blank.save_as(folder / "blank.dcm")

    assert cli.main(["read", str(folder), "--out", str(out), "--jobs", "1"]) == 1
    error = capsys.readouterr().err
    assert "blank.dcm" in error
    assert "blank" in error.split("blank.dcm", 1)[1]
    assert not out.exists()

    assert (
        cli.main(["read", str(folder), "--out", str(out), "--jobs", "1", "--no-pictures", "--skip-unreadable"]) in READ
    )
    skipped = pd.read_csv(out / "skipped.csv")
    assert skipped["file"].tolist() == ["blank.dcm", "letter.txt"]
    assert skipped["reason"].str.len().min() > 20
    assert len(list(out.glob("*.corner.txt"))) == 2


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "found no such folder"),
        (lambda folder: folder.mkdir(), "found no files"),
        (lambda folder: (folder.mkdir(), (folder / "a.dcm").write_text("x")), "a.dcm"),
    ],
    ids=["missing", "empty", "no_dicom"],
)
def test_useless_folders_are_refused(tmp_path, capsys, prepare, words):
    prepare(tmp_path / "images")
    for options in ([], ["--skip-unreadable"]):
        assert cli.main(["read", str(tmp_path / "images"), "--out", str(tmp_path / "out"), *options]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_export_with_one_image_twice_is_read_and_the_rest_is_listed_once(images, tmp_path, capsys):
    export, out = tmp_path / "export", tmp_path / "export" / "results"
    (export / "S1").mkdir(parents=True)
    first, second = sorted(images.iterdir())
    (export / "S1" / "1.2.840.1.1").write_bytes(first.read_bytes())
    (export / "S1" / "1.2.840.1.2").write_bytes(second.read_bytes())
    again = pydicom.dcmread(first)
    again.ImageComments, again.SOPInstanceUID = "exported a second time", "1.2.3"
    again.save_as(export / "copy.dcm")
    (export / "notes.txt").write_text("CDMAM of Monday")
    for _ in range(2):  # the results of the first reading lie in the folder and are no images
        assert (
            cli.main(["read", str(export), "--out", str(out), "--jobs", "1", "--bootstrap", "0", "--no-pictures"]) == 4
        )
        said = capsys.readouterr().out
        assert "2 images read, 2 files left out" in said
        assert said.count("notes.txt") == 1
        assert "left out: copy.dcm: the same pixels as S1/1.2.840.1.1, counted once" in said
        names = sorted(path.name.removesuffix(".corner.txt") for path in out.glob("*.corner.txt"))
        assert names == ["S1_1.2.840.1.1", "S1_1.2.840.1.2"]


def test_results_do_not_go_among_the_images(images, capsys):
    assert cli.main(["read", str(images), "--out", str(images)]) == 1
    assert "choose another" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--scenario", "5"],
        ["--scenario", "1", "--images", "0"],
        ["--scenario", "1", "--margin-mm", "-1"],
        ["--scenario", "1", "--disc-shift-mm", "0.1"],
        ["--scenario", "1", "--disc-scale", "nan"],
    ],
)
def test_impossible_options_are_refused(tmp_path, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["simulate", "--out", str(tmp_path), *words])
    assert stop.value.code == 2


def test_help_and_version_load_no_verb():
    code = "import sys; from xiqa.cli import main; main(['--help'])"
    listed = "import atexit, sys; atexit.register(lambda: print(sorted({'numpy', 'pandas'} & {*sys.modules}))); "
    found = subprocess.run([sys.executable, "-c", listed + code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("\n[]\n")
    assert all(f" {verb} " in found.stdout for verb in ("read", "compare", "trend", "simulate"))


def test_the_diagram_shows_limits_band_and_open_arrows():
    diameter = np.array([1.0, 0.8, 0.63, 0.5, 0.4, 0.31, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08])
    auto = np.clip(0.02 / diameter**1.8, 0.03, 2.0)
    curve = pd.DataFrame(
        {
            "diameter_mm": diameter, "t_auto_um": auto, "t_human_um": 1.8 * auto, "cdc_um": 1.8 * auto,
            "ci_low_um": 1.7 * auto, "ci_high_um": 1.9 * auto, "censored": (auto <= 0.03) | (auto >= 2),
        }
    )  # fmt: skip
    axes = plot_cdc({"a system": curve}).axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:3] == ["a system", "European limit: acceptable", "European limit: achievable"]
    arrows = [line for line in axes.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert sorted(arrows[0].get_xdata()) == sorted(diameter[auto <= 0.03])
    assert arrows[0].get_markerfacecolor() == "white"
    assert len(axes.collections) == 1
    np.testing.assert_allclose(sorted(axes.get_xticks()), sorted(diameter))
    with pytest.raises(ValueError, match="found none"):
        plot_cdc({})
