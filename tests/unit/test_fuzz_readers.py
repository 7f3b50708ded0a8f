"""Damaged volumes never give other pixels in silence, kill the process or fill the memory; see fuzz_readers."""

import fuzz_readers
import pytest

SEEDS = fuzz_readers.volume_seeds()
MUTANTS = 300
KINDS = {
    ".nii": (".nii",),
    ".nii.gz": (".nii.gz", ".nii in .gz"),
    ".hdr and .img": (".hdr", ".img"),
    ".mha": ("a.mha", "z.mha"),
    ".mhd and its data": ("a.mhd", "a.raw", "z.mhd", "z.zraw"),
    ".mat": (".mat",),
}
"""The seeds of each format, which share its mutants."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_mutant_is_refused_or_has_the_right_pixels(kind):
    for name in KINDS[kind]:
        outcomes, grown_mb = fuzz_readers.run(SEEDS[name], MUTANTS // len(KINDS[kind]))
        assert set(outcomes) <= {"right", "refused", "other pixels, allowed"}, outcomes
        assert outcomes["right"]  # the seed itself, at least
        assert outcomes["refused"] > 0.3 * MUTANTS // len(KINDS[kind])
        assert grown_mb < fuzz_readers.MEMORY_MB


def test_packed_formats_never_give_other_pixels():
    for name in (".nii.gz", "z.mha", "z.zraw"):
        outcomes, _ = fuzz_readers.run(SEEDS[name], 60, random_seed=1)
        assert set(outcomes) == {"right", "refused"}


def test_the_harness_finds_what_it_looks_for():
    sound = SEEDS["a.mha"]
    closed = fuzz_readers.Seed(sound.name, sound.content, fields=sound.fields)
    assert any("silently" in outcome for outcome in fuzz_readers.run(closed, 60)[0])
