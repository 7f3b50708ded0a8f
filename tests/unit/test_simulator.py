"""Simulated images: exact coverage, contrast, noise, masks, reproducibility."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from xiqa.cdmam import beam
from xiqa.cdmam.detector import gaussian_taps
from xiqa.cdmam.phantom import CELL_PRESENT, DIAMETERS_MM, GEOMETRIES, THICKNESSES_UM
from xiqa.cdmam.projection import (
    _text,
    add_rectangle,
    blur,
    clear_cache,
    core_shape,
    disc_cover,
    discs_px,
    frame_shape,
    grid_rectangles,
    rectangles_px,
)
from xiqa.cdmam.render import QUANTILES, normal_row
from xiqa.cdmam.simulator import (
    noise_free,
    simulate,
    simulate_cell,
    simulate_sampled,
    structure_labels,
    thickness_map,
)
from xiqa.config import Detector, Exposure

STANDARD, PTB = GEOMETRIES["standard_reader"], GEOMETRIES["ptb"]
COARSE = Detector(pixel_mm=0.1)
PUBLISHED = Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=18.91)
PHYSICAL = Exposure(tube_voltage_kv=28, exposure_mas=80, noise="physical")


def _lag_1(noise):
    noise = noise - noise.mean()
    return (noise[..., 1:] * noise[..., :-1]).mean() / (noise**2).mean()


# --- coverage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.2, 0.5176, 1.3, 7.77, 17.25])
def test_disc_coverage_equals_fine_sampling_and_sums_to_the_disc(radius):
    rng = np.random.default_rng(1)
    for x, y in rng.uniform(-1, 1, (5, 2)):
        top, left, cover = disc_cover(x, y, radius, 1)
        assert cover.sum() == pytest.approx(np.pi * radius**2, rel=1e-12)
        fine = (np.arange(40) + 0.5) / 40 - 0.5
        rows = (top + np.arange(cover.shape[0]))[:, None, None, None] + fine[:, None]
        columns = (left + np.arange(cover.shape[1]))[None, :, None, None] + fine
        sampled = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).mean(axis=(2, 3))
        assert cover == pytest.approx(sampled, abs=0.02)


@pytest.mark.parametrize("angle_deg", [0.0, 45.0, 45.6, 90.0, 133.0])
def test_rectangle_coverage_equals_fine_sampling_and_sums_to_its_area(angle_deg):
    ux, uy = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    cover = np.zeros((40, 44))
    add_rectangle(cover, 21.3, 19.7, ux, uy, 14.2, 1.9, 1.0)
    assert cover.sum() == pytest.approx(4 * 14.2 * 1.9, rel=1e-9)
    fine = (np.arange(20) + 0.5) / 20 - 0.5
    dy = np.arange(40)[:, None, None, None] + fine[:, None] - 19.7
    dx = np.arange(44)[None, :, None, None] + fine - 21.3
    inside = (abs(ux * dx + uy * dy) < 14.2) & (abs(ux * dy - uy * dx) < 1.9)
    assert cover == pytest.approx(inside.mean(axis=(2, 3)), abs=0.06)


def test_grid_is_a_union_no_pixel_is_covered_twice():
    detector = Detector(pixel_mm=0.1, tilt_deg=0.7)
    shape = core_shape(STANDARD, detector)
    cover = np.zeros(shape, np.float32)
    for rectangle in rectangles_px(grid_rectangles(STANDARD), STANDARD, detector, np.zeros(2)):
        add_rectangle(cover, *rectangle)
    assert cover.max() < 1 + 1e-5
    assert cover.min() > -1e-5
    # inner crossings are full crosses of two lines: area of all lines less the overlaps, less what the frame cuts off
    pitch, width = STANDARD.detector_pitch_mm, STANDARD.grid_line_mm * STANDARD.magnification
    sides = 2 * CELL_PRESENT.sum() + 30  # sides of 205 cells, the 60 on the outline belong to one cell only
    crossings = len({(i + a, j + b) for i, j in np.argwhere(CELL_PRESENT) for a in (0, 1) for b in (0, 1)})
    area = sides * pitch * width - crossings * width**2 * 1.0
    lines = cover.sum() * detector.pixel_mm**2
    assert lines == pytest.approx(area, rel=0.01)


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.75])
def test_smallest_disc_keeps_its_integrated_contrast(phase):
    """0.06 mm on 0.06 mm pixels, at any sub-pixel place, after the blur."""
    taps = gaussian_taps(0.7)
    radius = 0.06 * STANDARD.magnification / 0.06 / 2
    _, _, cover = disc_cover(phase, 0.5 * phase, radius, len(taps) - 1)
    assert blur(cover, taps, len(taps) - 1).sum() == pytest.approx(np.pi * radius**2, rel=1e-9)
    detector = Detector(writing=False)
    with_discs = noise_free(PUBLISHED, detector, STANDARD, seed=int(phase * 4))
    without = noise_free(PUBLISHED, detector, STANDARD, seed=int(phase * 4), discs=False)
    i, j = 15, 14  # 0.06 mm, 1.42 µm
    thick = thickness_map(PUBLISHED, detector, STANDARD, seed=int(phase * 4))
    labels = structure_labels(PUBLISHED, detector, STANDARD, seed=int(phase * 4))
    rows, columns = np.nonzero((labels == i + 1) & np.isclose(thick, THICKNESSES_UM[j]))
    first = rows < rows.min() + 8  # one of the two discs, apart by more than 40 pixels
    row, column = int(rows[first].mean()), int(columns[first].mean())
    around = np.s_[row - 8 : row + 9, column - 8 : column + 9]
    lost = (without[around].astype(float) - with_discs[around]).sum()
    contrast = beam.gold_contrast(PUBLISHED, np.array([THICKNESSES_UM[j]]), STANDARD)[0]
    expected = beam.primary_counts(PUBLISHED, STANDARD) * contrast * np.pi * radius**2
    scatter = 0.18 * 1e-4 * expected * 17**2  # at most: the discs' own missing scatter, spread over centimetres
    assert lost == pytest.approx(expected, rel=0.005, abs=scatter)


def test_blur_is_scipys_gaussian_filter():
    image = np.zeros((30, 26))
    image[11:15, 9:13] = np.random.default_rng(0).random((4, 4))
    assert blur(image, gaussian_taps(0.7), 3) == pytest.approx(gaussian_filter(image, 0.7), abs=1e-15)


def test_discs_are_displaced_together_about_the_matrix_centre_grid_and_writing_stay():
    straight = Detector(pixel_mm=0.1, tilt_deg=0.7)
    away = {"disc_shift_mm": (0.2, -0.1), "disc_rotation_deg": 0.2, "disc_scale": 1.004, "disc_skew": 0.002}
    displaced = straight.model_copy(update=away)
    before, after = (
        np.array([(x, y) for *_, x, y, _ in discs_px(STANDARD, detector, np.zeros(2))])
        for detector in (straight, displaced)
    )
    # The affine map between them has the singular values, the turn and the shift that were asked for.
    design = np.column_stack([before, np.ones(len(before))])
    solution, residual, *_ = np.linalg.lstsq(design, after, rcond=None)
    assert residual == pytest.approx(0, abs=1e-12)
    stretches = np.linalg.svd(solution[:2].T, compute_uv=False)
    assert np.sqrt(stretches.prod()) == pytest.approx(1.004, abs=1e-12)
    assert (stretches[0] - stretches[1]) / stretches.sum() == pytest.approx(0.002, abs=1e-12)
    linear = solution[:2].T
    turn = np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear.trace()))
    assert turn == pytest.approx(0.2, abs=1e-12)  # clockwise on the screen: x right, y down
    plain, moved = (structure_labels(PUBLISHED, detector, STANDARD, 10.0, seed=3) for detector in (straight, displaced))
    assert np.array_equal(plain >= 17, moved >= 17)
    assert not np.array_equal(plain, moved)
    images = [simulate(PUBLISHED, d, STANDARD, 10.0, seed=3) for d in (straight, displaced)]
    far = gaussian_filter(((plain < 17) & (plain > 0) | (moved < 17) & (moved > 0)).astype(float), 3) == 0
    changed = images[0].counts.astype(int) - images[1].counts
    assert np.abs(changed[far]).max() <= 2  # the discs' scatter, and rounding
    assert np.abs(changed[~far]).max() > 50


# --- contrast ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spr", [0.0, 0.18, 1.0])
def test_large_disc_has_gold_contrast_over_one_plus_scatter(spr):
    detector = Detector(pixel_mm=0.1, scatter_to_primary=spr, writing=False)
    image = noise_free(PHYSICAL, detector, STANDARD)
    thick = thickness_map(PHYSICAL, detector, STANDARD)
    labels = structure_labels(PHYSICAL, detector, STANDARD)
    j = 9  # 0.25 µm
    inside = (labels == 1) & np.isclose(thick, THICKNESSES_UM[j])
    without = noise_free(PHYSICAL, detector, STANDARD, discs=False)
    open_counts = beam.mean_counts(PHYSICAL, STANDARD, spr)
    background = without[inside]
    assert np.all(background < open_counts * (1 + 1e-6))
    assert np.all(background > open_counts * 0.94)  # the grid's shadow takes some scatter away
    gold = beam.gold_contrast(PHYSICAL, np.array([THICKNESSES_UM[j]]), STANDARD)[0]
    lost = without - image
    rows, columns = np.nonzero(inside)
    nearby = np.s_[rows.min() - 5 : rows.max() + 6, columns.min() - 5 : columns.max() + 6]
    scattered = np.median(lost[nearby][labels[nearby] == 0])  # what the discs of all cells take from the scatter here
    contrast = (np.median(lost[inside]) - scattered) / open_counts
    assert contrast == pytest.approx(gold / (1 + spr), rel=0.01)
    assert image.max() <= beam.mean_counts(PHYSICAL, STANDARD, spr) * (1 + 1e-5)


def test_grid_lines_are_dark_with_the_contrast_that_the_standard_reader_accepts():
    image = noise_free(PUBLISHED, Detector(), STANDARD)
    labels = structure_labels(PUBLISHED, Detector(), STANDARD)
    darkest = np.percentile(image[labels == 17], 20)
    contrast = 1 - darkest / np.median(image[labels == 0])
    assert 0.25 < contrast < 0.35


def test_heel_takes_its_share_across_the_long_side():
    image = noise_free(PUBLISHED, Detector(pixel_mm=0.1, heel=0.1, writing=False), STANDARD, margin_mm=10)
    plain = noise_free(PUBLISHED, Detector(pixel_mm=0.1, writing=False), STANDARD, margin_mm=10)
    ratio = (image / plain).mean(axis=1)
    assert ratio[0] / ratio[-1] == pytest.approx(1.05 / 0.95, rel=1e-3)
    assert np.all(np.diff(ratio) < 0)
    assert ratio.mean() == pytest.approx(1, abs=1e-3)


def test_tilt_turns_the_phantom_and_keeps_it_inside():
    for tilt in (-3.0, 0.6):
        detector = Detector(pixel_mm=0.1, tilt_deg=tilt)
        turn = np.deg2rad(tilt)
        flat = {(i, j): (x, y) for i, j, x, y, _ in discs_px(STANDARD, Detector(pixel_mm=0.1), np.zeros(2))}
        tilted = {(i, j): (x, y) for i, j, x, y, _ in discs_px(STANDARD, detector, np.zeros(2))}
        before = np.subtract(flat[15, 14], flat[0, 1])
        after = np.subtract(tilted[15, 14], tilted[0, 1])
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        assert after == pytest.approx(matrix @ before)
        rows, columns = core_shape(STANDARD, detector)
        places = np.array(list(tilted.values()))
        assert places.min() > 0
        assert np.all(places < [columns, rows])


# --- noise ------------------------------------------------------------------------------------------------------------


def _normal_field(rows, columns, keys):
    field, bits = np.empty((rows, columns), np.float32), np.empty(columns, np.uint32)
    for row in range(rows):
        normal_row(row, 0, np.array(keys, np.uint32), QUANTILES, bits, field[row])
    return field.astype(float)


def test_random_numbers_are_standard_normal_and_independent():
    field = _normal_field(1500, 1500, [1, 2, 3])
    n = field.size
    assert stats.kstest(field.ravel()[::3], "norm").pvalue > 1e-3
    assert abs(field.mean()) < 4 / np.sqrt(n)
    assert abs(field.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(stats.kurtosis(field, axis=None)) < 4 * np.sqrt(24 / n)
    beyond = (abs(field) > 3.5).sum() / n
    assert beyond == pytest.approx(2 * stats.norm.sf(3.5), rel=0.2)
    for other in (_normal_field(1500, 1500, [1, 2, 4]), _normal_field(1500, 1500, [1, 3, 3])):
        correlation = np.fft.ifft2(np.fft.fft2(field) * np.conj(np.fft.fft2(other))).real / np.sqrt(n)
        assert abs(correlation).max() < 6.5
    power = abs(np.fft.fft2(field)) ** 2 / n
    assert power[1:, 1:].max() < np.log(n) + 12
    assert power.std() == pytest.approx(1, abs=0.02)


def test_published_noise_has_the_published_width_and_correlation_and_ignores_mas():
    detector = Detector(noise_filter_px=0.55, writing=False)
    found = []
    for mas in (50, 110):
        exposure = Exposure(tube_voltage_kv=25, exposure_mas=mas, noise_level=18.91)
        noise = simulate(exposure, detector, STANDARD, 0, 3, 1).counts - noise_free(
            exposure, detector, STANDARD, 0, 3, 1
        )
        assert noise.std() == pytest.approx(0.559 * 18.91, rel=0.003)
        assert _lag_1(noise) == pytest.approx(0.357, abs=0.003)
        assert _lag_1(noise.T) == pytest.approx(0.357, abs=0.003)
        assert abs(noise.mean()) < 0.05
        found.append(noise)
    assert abs(np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1]) < 0.005  # equal seed, other setting: other noise


def test_physical_noise_falls_relative_to_the_signal():
    relative = []
    for mas in (20, 80, 320):
        exposure = Exposure(tube_voltage_kv=28, exposure_mas=mas, noise="physical")
        image, expected = simulate(exposure, COARSE, STANDARD), noise_free(exposure, COARSE, STANDARD)
        relative.append(float((image.counts / expected - 1).std()))
    assert relative[0] > relative[1] > relative[2]
    assert relative[0] / relative[1] < 2.7


# --- reproducibility --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exposure", [PUBLISHED, PHYSICAL], ids=["published", "physical"])
def test_an_image_depends_on_its_arguments_only(exposure):
    first = simulate(exposure, COARSE, STANDARD, 4.0, 5, 9)
    simulate(exposure, COARSE, STANDARD, 0.0, 1, 2)
    clear_cache()
    again = simulate(exposure, COARSE, STANDARD, 4.0, 5, 9)
    assert np.array_equal(first.counts, again.counts)
    assert first.meta == again.meta
    assert first.counts.dtype == np.uint16
    for seed, index in ((5, 10), (6, 9)):
        other = simulate(exposure, COARSE, STANDARD, 4.0, seed, index)
        assert other.counts.shape == first.counts.shape
        assert (other.counts != first.counts).mean() > 0.9
    with pytest.raises(ValueError, match="seed"):
        simulate(exposure, COARSE, STANDARD, 0.0, -1, 0)


@pytest.mark.parametrize("exposure", [PUBLISHED, PHYSICAL], ids=["published", "physical"])
@pytest.mark.parametrize("margin_mm", [0.0, 12.0])
def test_sampled_pixels_are_those_of_the_image(exposure, margin_mm):
    detector = Detector(pixel_mm=0.085, tilt_deg=0.6, heel=0.05)
    image = simulate(exposure, detector, STANDARD, margin_mm, 2, 4).counts
    assert image.shape == frame_shape(STANDARD, detector, margin_mm)
    rng = np.random.default_rng(0)
    rows, columns = (np.sort(rng.choice(side, 250, replace=False)) for side in image.shape)
    sampled = simulate_sampled(exposure, detector, STANDARD, margin_mm, 2, 4, rows, columns)
    assert np.array_equal(sampled, image[rows][:, columns])
    with pytest.raises(ValueError, match="rise"):
        simulate_sampled(exposure, detector, STANDARD, margin_mm, 2, 4, rows[::-1], columns)
    with pytest.raises(ValueError, match="columns"):
        simulate_sampled(exposure, detector, STANDARD, margin_mm, 2, 4, rows, columns + image.shape[1])


def test_leaving_the_discs_out_changes_nothing_else():
    with_discs = simulate(PUBLISHED, COARSE, STANDARD, 0, 1, 1)
    without = simulate(PUBLISHED, COARSE, STANDARD, 0, 1, 1, discs=False)
    lost = without.counts.astype(int) - with_discs.counts
    far = gaussian_filter(((with_discs.structure > 0) & (with_discs.structure < 17)).astype(float), 2) < 1e-6
    assert abs(lost[far]).max() <= 1  # scatter, and rounding
    assert lost[with_discs.structure == 1].mean() > 5
    assert set(np.unique(without.structure)) <= {0, 17, 18}


# --- masks ------------------------------------------------------------------------------------------------------------


def test_structure_labels_cover_what_the_image_shows():
    detector = Detector(blur_px=0, scatter_to_primary=0)
    image = noise_free(PUBLISHED, detector, STANDARD, 3.0, 8, 2)
    labels = structure_labels(PUBLISHED, detector, STANDARD, 3.0, 8, 2)
    background = beam.primary_counts(PUBLISHED, STANDARD)
    assert image[labels == 0].min() > background * (1 - 1e-5)
    for label in range(1, 19):
        assert np.all(image[labels == label] < background)
    thick = thickness_map(PUBLISHED, detector, STANDARD, 3.0, 8, 2)
    assert np.array_equal(thick > 0, (labels > 0) & (labels < 17))
    cells = CELL_PRESENT.sum(axis=1)
    for i, diameter_mm in enumerate(DIAMETERS_MM):
        radius = diameter_mm * STANDARD.magnification / detector.pixel_mm / 2
        area = 2 * cells[i] * np.pi * radius**2
        ring = 2 * cells[i] * np.pi * 2 * radius
        assert area < (labels == i + 1).sum() < area + 0.8 * ring + 4 * 2 * cells[i]


def test_writing_lies_outside_the_matrix_and_inside_the_frame():
    detector = Detector(pixel_mm=0.1)
    labels = structure_labels(PUBLISHED, detector, STANDARD, 10.0, 0, 0)
    plain = structure_labels(PUBLISHED, Detector(pixel_mm=0.1, writing=False), STANDARD, 10.0, 0, 0)
    assert 18 not in plain
    rows, columns = np.nonzero(labels == 18)
    assert rows.size > 3000
    margin = 100
    assert rows.min() > margin - 60
    assert rows.max() < labels.shape[0] - margin + 60
    assert columns.min() > margin - 60
    assert columns.max() < labels.shape[1] - margin + 60
    assert np.array_equal(labels == 17, plain == 17)
    dots = sum(4 * long * wide for *_, long, wide in _text("10", 0, 0, 1, 0, 0.5))
    assert dots == pytest.approx((10 + 19) * 0.5**2)  # a "1" of ten dots and a "0" of nineteen


# --- single cell, and the published images ----------------------------------------------------------------------------


def test_single_cell_puts_the_disc_in_its_corner():
    for corner, (down, right) in {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0)}.items():
        image = simulate_cell(PUBLISHED, Detector(), PTB, 1.6, 2.0, corner).astype(float)
        quarters = image[:60, :60], image[:60, -60:], image[-60:, :60], image[-60:, -60:]
        assert int(np.argmin([quarter.mean() for quarter in quarters])) == 2 * down + right
    with pytest.raises(ValueError, match="corner"):
        simulate_cell(PUBLISHED, Detector(), PTB, 1.6, 2.0, 5)
    with pytest.raises(ValueError, match="above 0"):
        simulate_cell(PUBLISHED, Detector(), PTB, 0.0, 2.0)


def _measure(images):
    """Background mean, standard deviation and lag-1 autocorrelation, and contrast of the central disc."""
    images = np.asarray(images, float)
    background = images[:, 95:, :]
    noise = background - background.mean(axis=(1, 2), keepdims=True)
    disc = images[:, 66:78, 66:78].mean()
    return background.mean(), noise.std(), _lag_1(noise), 1 - disc / background.mean()


@pytest.mark.skipif("XIQA_REAL_DATA" not in os.environ, reason="XIQA_REAL_DATA does not name the folder of real data")
def test_published_images_are_reproduced():
    h5py = pytest.importorskip("h5py")
    path = Path(os.environ["XIQA_REAL_DATA"]) / "virtual_mammography" / "sim_data_16062020_382.hdf5"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with h5py.File(path) as file:
        published = file["imgdata"][()].T.reshape(-1, 146, 146)
    ours = [simulate_cell(PUBLISHED, Detector(), PTB, 1.6, 2.0, seed=1, index=k) for k in range(20)]
    mean, deviation, lag, contrast = _measure(ours)
    their_mean, their_deviation, their_lag, their_contrast = _measure(published)
    assert their_mean == pytest.approx(488.1, rel=0.001)
    assert mean == pytest.approx(their_mean, rel=0.05)
    assert deviation == pytest.approx(their_deviation, rel=0.02)
    assert lag == pytest.approx(their_lag, abs=0.02)
    assert contrast == pytest.approx(their_contrast, rel=0.05)
