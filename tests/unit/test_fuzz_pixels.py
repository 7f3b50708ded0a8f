"""Damaged DICOM and pictures: refused, or the pixels that their bytes say; nobody dies and no memory is filled."""

import fuzz_readers
import numpy as np
import pytest
from cases import long
from fuzz_pixels import pixel_seeds
from pydicom.encaps import encapsulate, generate_frames

from xiqa.datasets import dicom_decoder
from xiqa.datasets.dicom_decoder import Undecodable, check_frame
from xiqa.datasets.dicom_file import open_dicom

SEEDS = pixel_seeds()
MUTANTS = 150
NATIVE = ["DICOM JPEG Lossless (.57)", "DICOM JPEG-LS", "DICOM JPEG 2000", "DICOM JPEG of 12 bit"]


@pytest.mark.parametrize("mutants", [MUTANTS, long(300)])
@pytest.mark.parametrize("kind", SEEDS)
def test_every_mutant_is_refused_or_has_pixels_that_its_bytes_say(kind, mutants):
    outcomes, grown_mb = fuzz_readers.run(SEEDS[kind], mutants)
    assert set(outcomes) <= {"right", "refused", "other pixels, allowed"}, outcomes
    assert outcomes["right"]  # the seed itself, at least
    assert outcomes["refused"] > 0.2 * mutants
    assert sum(outcomes.values()) == mutants + 1
    assert grown_mb < fuzz_readers.MEMORY_MB


def test_a_png_and_a_deflated_file_with_a_checksum_never_give_other_pixels():
    outcomes, _ = fuzz_readers.run(SEEDS["PNG"], MUTANTS, random_seed=1)
    assert set(outcomes) == {"right", "refused"}


@pytest.mark.parametrize("kind", NATIVE)
def test_no_decoder_gives_what_lay_in_the_memory(kind, monkeypatch, tmp_path):
    """Two processes fill the memory that they take and give back with other bytes: what is read must not follow."""
    (tmp_path / "a.dcm").write_bytes(SEEDS[kind].content)
    data = open_dicom(tmp_path / "a.dcm")
    options = {"rows": 24, "columns": 20, "bits_allocated": 16, "bits_stored": 12, "pixel_representation": 0}
    options |= {"transfer_syntax_uid": data.file_meta.TransferSyntaxUID, "photometric_interpretation": "MONOCHROME2"}
    frame = next(generate_frames(data.PixelData, number_of_frames=1))
    processes = {}
    decoded = 0
    try:
        for _, damaged, _ in fuzz_readers.mutants(fuzz_readers.Seed("a", frame), 60):
            found = []
            for filling in ("85", "170"):
                monkeypatch.setenv("MALLOC_PERTURB_", filling)
                if filling not in processes or not processes[filling].usable():
                    processes[filling] = dicom_decoder._Process()
                try:
                    check_frame(damaged, options)
                    found.append(processes[filling].decode(encapsulate([damaged]), options))
                except Undecodable:
                    found.append(None)
            assert (found[0] is None) == (found[1] is None)
            if found[0] is not None:
                assert np.array_equal(*found)
                decoded += 1
    finally:
        for process in processes.values():
            process.end()
    assert decoded
