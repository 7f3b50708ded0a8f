"""The figures: each is drawn from small synthetic inputs and shows the numbers that it was given."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from printed_numbers import assert_drawn, assert_printed, texts_of

from xiqa.cdmam.phantom import CELL_PRESENT, DIAMETERS_MM, GEOMETRIES, THICKNESSES_UM, disc_centres_mm
from xiqa.figures import cdmam_images, checks, prediction, saliency_maps, style, training
from xiqa.figures.blocks import block_mean
from xiqa.files import write_figure
from xiqa.metrics.modified_image import summarise_modified_images
from xiqa.metrics.prediction import STOOD_FOR, diameter_scores
from xiqa.metrics.structure_share import summarise_structure_share

CDC_MM = np.array([1.0, 0.8, 0.63, 0.5, 0.4, 0.31, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08])
GROUPS = ["scenario_1", "scenario_2", "scenario_3", "scenario_4", "ood", "recorded_standin"]
PIXEL_MM = 0.3
SIZE = (731, 465)
# The matrix's bounding box reaches farther to its left than to its right: 10 and 9 half diagonals of a cell.
CENTRE_MM = (10 * 10.35 / 2**0.5, SIZE[0] * PIXEL_MM / 2)
LIMITS = {"acceptable": ([2, 1, 0.5, 0.25, 0.1], [0.069, 0.091, 0.150, 0.352, 1.68])}


def draw(figure: Figure, name: str) -> Figure:
    """Render a figure (into the folder XIQA_FIGURES, to look at it) and check that it says where its data are from."""
    folder = os.environ.get("XIQA_FIGURES")
    if folder:
        write_figure(Path(folder) / f"{name}.png", figure)
    else:
        figure.canvas.draw()
    assert figure.get_supxlabel() in style.DATA_NOTES.values()
    return figure


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Counts and disc labels of a coarse phantom with discs only."""
    rng = np.random.default_rng(0)
    y, x = (np.indices(SIZE) + 0.5) * PIXEL_MM
    counts, labels = 400 + rng.normal(0, 4, SIZE), np.zeros(SIZE, np.uint8)
    for centres in disc_centres_mm(GEOMETRIES["standard_reader"]):
        for i, j in zip(*np.nonzero(CELL_PRESENT), strict=True):
            cx, cy = centres[i, j] + CENTRE_MM
            inside = (x - cx) ** 2 + (y - cy) ** 2 < (DIAMETERS_MM[i] / 2) ** 2
            counts[inside] *= np.exp(-0.19 * THICKNESSES_UM[j])
            labels[inside] = i + 1
    return counts, labels


def sampled(seed: int = 0, size: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(400, 10, (size, size))


def signed_map(seed: int = 0, size: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, (size, size)) * 1e-3


def predictions(n: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for g, group in enumerate(GROUPS):
        truth = (0.08 / CDC_MM) ** 1.2 * (2.5 - 0.4 * g)
        for image in range(n):
            total = 0.06 * truth * rng.uniform(0.6, 1.6)
            predicted = truth + total * rng.normal(size=12) * (3 if group == "scenario_4" else 1)
            rows.append(
                pd.DataFrame(
                    {
                        "image": f"{group}-{image}", "group": group, "diameter_mm": CDC_MM, "truth_um": truth,
                        "predicted_um": predicted, "aleatoric_um": 0.8 * total, "epistemic_um": 0.6 * total,
                    }
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_block_mean_keeps_the_mean_and_leaves_missing_pixels_out():
    image = np.random.default_rng(0).normal(size=(12, 9))
    reduced = block_mean(image, 3)
    assert reduced.shape == (4, 3)
    assert reduced.mean() == pytest.approx(image.mean())
    image[:3, :3] = np.nan
    image[3, 0] = np.nan
    reduced = block_mean(image, 3)
    assert np.isnan(reduced[0, 0])
    assert reduced[1, 0] == pytest.approx(np.nanmean(image[3:6, :3]))


def test_signed_limit_is_symmetric_robust_and_never_zero():
    values = np.concatenate([np.linspace(-1, 1, 1001), [1e6]])
    assert style.signed_limit(values) == style.signed_limit(-values) == pytest.approx(1, abs=0.01)
    sparse = np.zeros(1000)
    sparse[3] = -0.2
    assert style.signed_limit(sparse) == pytest.approx(0.2)
    assert style.signed_limit(np.zeros(5)) == 1


def test_house_style_leaves_the_settings_of_the_caller_alone():
    before = mpl.rcParams["font.size"]
    prediction.plot_shortcut(scores())
    assert mpl.rcParams["font.size"] == before


def test_a_figure_refuses_data_that_is_neither_simulated_nor_recorded():
    with pytest.raises(ValueError, match="found 'drawn'"):
        cdmam_images.plot_sampled_images([sampled()], ["a"], data="drawn")


def test_same_input_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        write_figure(path, prediction.plot_shortcut(scores()))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_sampled_images_figure_1():
    titles = ["stand-in", "scenario #1", "OOD"]
    figure = cdmam_images.plot_sampled_images([sampled(i) for i in range(3)], titles, [(260, 180), (219, 139)] * 2)
    axes = draw(figure, "figure_1").axes
    assert [a.get_title().split("\n")[0] for a in axes[:3]] == ["(a) stand-in", "(b) scenario #1", "(c) OOD"]


def test_phantom_figure_8_names_every_diameter_and_thickness_and_circles_two_discs():
    counts, _ = phantom()
    figure = cdmam_images.plot_phantom(counts, PIXEL_MM, GEOMETRIES["standard_reader"], cell=(3, 12))
    whole, zoom = draw(figure, "figure_8").axes[:2]
    texts = [text.get_text() for text in whole.texts]
    assert texts == [f"{size:.2f}" for size in (*DIAMETERS_MM, *THICKNESSES_UM)]
    # The circles lie where the phantom has its discs: the counts inside are lower than around.
    assert len(zoom.patches) == 2
    for circle in zoom.patches:
        x, y = (int(v / PIXEL_MM) for v in circle.center)
        assert counts[y, x] < 390
    with pytest.raises(ValueError, match="205 cells"):
        cdmam_images.plot_phantom(counts, PIXEL_MM, GEOMETRIES["standard_reader"], cell=(0, 0))


def test_image_with_margin_figure_9():
    maps = {method: signed_map(i) for i, method in enumerate(("occlusion_pixel", "gradient", "omig"))}
    figure = draw(cdmam_images.plot_margin_image(sampled(), maps, 20), "figure_9")
    assert [a.get_title().split("\n")[0] for a in figure.axes[1:4]] == [
        "occlusion (pixel)",
        "gradient",
        "OMIG",
    ]


def test_sampled_maps_figure_3_scale_each_map_by_its_own_limit():
    maps = {
        row: {method: signed_map(i) * scale for i, (method, scale) in enumerate({"gradient": 1, "omig": 100}.items())}
        for row in ("stand-in", "scenario #1", "OOD")
    }
    figure = draw(saliency_maps.plot_sampled_maps(maps, {row: sampled() for row in maps}), "figure_3")
    shown = figure.axes[1].images[0]
    assert shown.get_clim() == (-1, 1)
    limit = style.signed_limit(maps["stand-in"]["gradient"])
    np.testing.assert_allclose(shown.get_array(), maps["stand-in"]["gradient"] / limit, rtol=1e-5)


@pytest.mark.parametrize("columns", [("map", "cutout"), ("image", "map", "cutout"), ("map", "cutout", "image_cutout")])
def test_upsampled_maps_figures_4_to_7_and_12(columns):
    counts, labels = phantom()
    values = np.random.default_rng(0).normal(0, 1e-3, SIZE) + 5e-3 * (labels > 0) * (labels < 6)
    values[:30] = np.nan
    boxes = [(30.0, 60.0, 80.0, 110.0), (60.0, 120.0, 110.0, 170.0)]
    views = [
        saliency_maps.UpsampledView(title, values, box, counts, labels)
        for title, box in zip(("stand-in", "scenario #1"), boxes, strict=True)
    ]
    figure = draw(
        saliency_maps.plot_upsampled_maps(views, PIXEL_MM, "Δx per visit (training SD)", columns),
        f"figure_4_{'_'.join(columns)}",
    )
    panels = figure.axes[: 2 * len(columns)]
    cutout = panels[columns.index("cutout")]
    # mm axes: the cutout covers exactly the rectangle drawn into the whole map, and holds the same pixels.
    assert cutout.get_xlim() == pytest.approx((30, 80), abs=PIXEL_MM)
    assert cutout.get_ylim() == pytest.approx((110, 60), abs=PIXEL_MM)
    rectangle = panels[columns.index("map")].patches[0]
    assert (rectangle.get_x(), rectangle.get_y(), rectangle.get_width()) == (30, 60, 50)
    np.testing.assert_allclose(cutout.images[0].get_array(), values[200:367, 100:267], rtol=1e-5)
    low, high = cutout.images[0].get_clim()
    assert low == -high


def test_a_cutout_outside_the_map_is_refused():
    view = saliency_maps.UpsampledView("a", np.zeros((10, 10)), (0, 0, 50, 50))
    with pytest.raises(ValueError, match="inside the image of"):
        saliency_maps.plot_upsampled_maps([view], PIXEL_MM, "")
    view = saliency_maps.UpsampledView("a", np.zeros((10, 10)), (0, 0, 1.5, 1.5))
    with pytest.raises(ValueError, match=r"give view\.image"):
        saliency_maps.plot_upsampled_maps([view], PIXEL_MM, "", ("map", "cutout", "image"))


def test_omig_settings_figure_14_put_c_into_columns():
    settings = [(c, steps) for c in (0.1, 1.0, 10.0) for steps in (10, 50)]
    maps = {row: {s: signed_map(i) * s[0] for i, s in enumerate(settings)} for row in ("stand-in", "scenario #1")}
    figure = draw(saliency_maps.plot_omig_settings(maps), "figure_14")
    assert [a.get_title().split("\n")[0] for a in figure.axes[:3]] == ["c = 0.1", "c = 1", "c = 10"]


def test_upsampling_quality_panel():
    visits = np.random.default_rng(0).poisson(30, SIZE)
    error = np.random.default_rng(1).gamma(4, 1e-4, SIZE)
    figure = saliency_maps.plot_upsampling_quality(visits, error, 2 * error, PIXEL_MM, "training SD", "OMIG")
    assert draw(figure, "upsampling_quality").axes[0].images[0].get_clim()[1] > 40


def test_predicted_curves_figure_2a_draw_the_expanded_uncertainty():
    table = predictions()
    titles = {"recorded_standin-0": "stand-in", "scenario_1-0": "scenario #1", "ood-0": "OOD"}
    figure = draw(prediction.plot_predicted_curves(table, titles, LIMITS), "figure_2a")
    rows = table[table["image"] == "recorded_standin-0"].sort_values("diameter_mm")
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    total = np.hypot(rows["aleatoric_um"], rows["epistemic_um"])
    assert band.max() == pytest.approx((rows["predicted_um"] + 1.96 * total).max())
    shown = table[table["image"].isin(titles)]
    assert_drawn(figure, shown[["predicted_um", "truth_um"]], LIMITS["acceptable"][1])
    assert_printed(texts_of(figure), [])
    # Where there is a calibration, its band is drawn too.
    both = prediction.plot_predicted_curves(table.assign(calibrated_um=0.01), titles, LIMITS)
    band = both.axes[0].collections[1].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((rows["predicted_um"] + 0.0196).max())
    # A truth that was not measured is marked as such.
    flagged = prediction.plot_predicted_curves(table.assign(censored=table["diameter_mm"] > 0.7), titles, LIMITS)
    crosses = [line for line in flagged.axes[0].lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[0.8, 1.0]] * 3
    with pytest.raises(ValueError, match="'absent'"):
        prediction.plot_predicted_curves(table, {"absent": "a"}, LIMITS)


def test_error_against_uncertainty_figure_2b_shows_every_point():
    table = predictions()
    figure = draw(prediction.plot_error_against_uncertainty(table), "figure_2b")
    lines = figure.axes[0].lines
    assert sum(len(line.get_xdata()) for line in lines[:-1]) == len(table)
    x, y = lines[-1].get_data()
    np.testing.assert_allclose(y / x, 1.96)
    figure = prediction.plot_error_against_uncertainty(table.assign(censored=table["diameter_mm"] > 0.7))
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines[:-1]) == len(table) * 10 // 12


def scores() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "group": ["scenario_1_3", *GROUPS],
            "n": [60] + [20] * 6,
            "rmse_midpoint_um": [0.05, 0.06, 0.05, 0.04, 0.2, 0.08, 0.1],
            "rmse_train_mean_um": [0.25, 0.5, 0.2, 0.06, 0.3, 0.4, 0.2],
            "rmse_shortcut_um": [0.09, 0.1, 0.08, 0.08, 0.15, 0.1, 0.3],
            "coverage_95": [0.96, 0.971, 0.99, 0.97, 0.61, 0.985, 1.0],
            "coverage_95_low": [0.94, 0.93, 0.95, 0.93, 0.5, 0.9, 0.85],
            "coverage_95_high": [0.98, 0.99, 1.0, 0.99, 0.72, 0.995, 1.0],
            "coverage_95_calibrated": [0.93, 0.941, 0.95, 0.93, 0.52, 0.965, 0.97],
            "coverage_95_calibrated_low": [0.91, 0.89, 0.92, 0.91, 0.44, 0.87, 0.78],
            "coverage_95_calibrated_high": [0.96, 0.97, 0.98, 0.96, 0.68, 0.98, 1.0],
        }
    )


def test_coverage_and_shortcut_are_drawn_in_the_order_of_the_paper():
    figure = draw(prediction.plot_coverage(scores().iloc[::-1]), "coverage")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0].startswith("scenario #1 ")
    assert labels[4].startswith("scenarios #1-#3")
    assert_drawn(figure, scores().filter(like="coverage"), along="x")
    assert_printed(texts_of(figure), scores()[["n"]], phrases=["95 %"])
    figure = draw(prediction.plot_shortcut(scores()), "shortcut")
    assert_drawn(figure, scores().filter(like="rmse"), along="x")
    assert_printed(texts_of(figure), scores()[["n"]])
    shown = {line.get_label(): line.get_xdata() for line in figure.axes[0].lines}
    assert shown["ensemble"][0] == 0.06


def test_ways_to_a_curve_are_drawn_for_every_system():
    ways = ["graded signals", "ensemble", "shortcut", "counting"]
    table = pd.DataFrame({"group": np.repeat(GROUPS, 4), "method": ways * 6, "images": [1, 1, 1, 16] * 6})
    error = np.tile([0.021, 0.083, 0.31, 0.059], 6) * np.repeat(1 + 0.1 * np.arange(6), 4)
    coverage = np.where(table["method"] == "shortcut", np.nan, 0.95 - 2 * error)
    for name, values in (("relative_error", error), ("coverage_95", coverage)):
        one = table["method"] == "counting"
        ends = {"low": np.where(one, np.nan, 0.9 * values), "high": np.where(one, np.nan, 1.04 * values)}
        table = table.assign(**{name: values}, **{f"{name}_{end}": part for end, part in ends.items()})
    figure = draw(prediction.plot_curve_methods(table.iloc[::-1]), "curve_methods")
    for panel, column in enumerate(("relative_error", "coverage_95")):
        assert_drawn(figure, table.filter(like=column), along="x", axes=panel)
    assert "counting, 16 images" in texts_of(figure)
    assert_printed(texts_of(figure), table[["images"]], phrases=["95 %"])


def test_error_over_uncertainty_is_drawn_before_and_after_for_every_group():
    table = predictions()
    by_diameter = diameter_scores(
        table.assign(censored=table["diameter_mm"] > 0.9, calibrated_um=0.03 * table["truth_um"])
    )
    figure = draw(prediction.plot_error_over_uncertainty(by_diameter), "uncertainty_by_diameter")
    for panel, column in enumerate(("error_over_uncertainty", "error_over_uncertainty_calibrated")):
        assert_drawn(figure, by_diameter[[column]], axes=panel)
        lines = [line for line in figure.axes[panel].lines if len(line.get_xdata()) == 11]
        assert [line.get_linestyle() for line in lines] == ["-" if group in STOOD_FOR else "--" for group in GROUPS]
    nothing = prediction.plot_error_over_uncertainty(by_diameter.assign(error_over_uncertainty_calibrated=np.nan))
    assert "not calibrated: no validation setting" in texts_of(draw(nothing, "not_calibrated"))


def test_a_study_too_small_to_measure_anything_is_drawn_all_the_same():
    table = predictions(1)
    draw(prediction.plot_error_against_uncertainty(table.assign(censored=True)), "nothing_measured")
    single = scores().assign(coverage_95_low=np.nan, coverage_95_high=np.nan, rmse_shortcut_um=np.nan)
    single.loc[0, "coverage_95"] = np.nan
    assert len(draw(prediction.plot_coverage(single), "coverage_single").axes[0].get_yticks()) == 6
    draw(prediction.plot_shortcut(single), "shortcut_single")
    unchanged = modified(1).assign(midpoint_after_um=0.5, midpoint_before_um=0.5)
    figure = draw(checks.plot_modified_midpoints(unchanged, summarise_modified_images(unchanged)), "unchanged")
    assert "lowered 0 of 1" in figure.axes[1].texts[0].get_text()


def test_modified_curves_figure_13_show_the_form_of_the_paper_beside_ours():
    curve = (0.08 / CDC_MM) * 1.5
    table = pd.concat(
        pd.DataFrame(
            {"group": group, "diameter_mm": CDC_MM, "before_um": curve, "after_um": ours * curve,
             "after_published_um": 0.998 * curve}
        )
        for group, ours in (("scenario_1", 0.83), ("recorded_standin", 0.71))
    )  # fmt: skip
    figure = draw(checks.plot_modified_curves(table, "omig", LIMITS), "figure_13")
    dashed, solid, dotted = figure.axes[0].lines[:3]
    assert (dashed.get_linestyle(), solid.get_linestyle(), dotted.get_linestyle()) == ("--", "-", ":")
    np.testing.assert_array_equal(dashed.get_ydata(), curve)
    np.testing.assert_array_equal(dotted.get_ydata(), 0.998 * curve)
    texts = texts_of(figure)
    assert "original + map as printed in the paper (÷ all draws)" in texts
    # The midpoint falls by as much as its curve.
    assert_printed(texts, [-17, -29])


def modified(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    kinds = [("omig", "published", -0.2), ("omig", "visit_normalised", -14), ("omig", "permuted", 1)]
    rows = []
    for method, form, percent in [*kinds, ("gradient", "visit_normalised", -5)]:
        for image in range(n):
            before = [0.5, 0.4, 0.3][image % 3]
            change = percent * (1 + 0.3 * rng.normal()) if form != "permuted" else rng.normal()
            rows.append([f"i{image}", GROUPS[image % 3], method, form, before, before * (1 + change / 100)])
    columns = ["image", "group", "method", "form", "midpoint_before_um", "midpoint_after_um"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("n", [3, 60])
def test_modified_midpoints_count_the_lowered_images(n):
    table = modified(n)
    summary = summarise_modified_images(table)
    figure = draw(checks.plot_modified_midpoints(table, summary), f"modified_midpoints_{n}")
    assert_printed(texts_of(figure), summary[summary["group"] == "all"])
    assert_drawn(figure, table, along="x")
    notes = [text.get_text() for text in figure.axes[1].texts]
    assert notes[1].startswith(f"lowered {n} of {n}\n")
    permuted = table[table["form"] == "permuted"]
    lowered = int((permuted["midpoint_after_um"] < permuted["midpoint_before_um"]).sum())
    assert notes[2].startswith(f"lowered {lowered} of {n}\n")


def shares(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for image in range(n):
        for diameter in DIAMETERS_MM:
            area = 26 * np.pi * diameter**2 / 4 / (219 * 139)
            share = area * (3 if diameter > 0.8 else 0.6) * rng.uniform(0.7, 1.3)
            rows.append([f"i{image}", "disc", diameter, share, share * rng.uniform(-0.2, 0.8), area])
        rows.append([f"i{image}", "grid", np.nan, 0.2, -0.05, 0.1])
        rows.append([f"i{image}", "writing", np.nan, 0.02, 0.004, 0.01])
        rows.append([f"i{image}", "background", np.nan, 0.75, -0.01, 0.88])
    return pd.DataFrame(rows, columns=["image", "structure", "diameter_mm", "share_abs", "share_signed", "share_area"])


@pytest.mark.parametrize("n", [1, 12])
def test_structure_share_lists_discs_from_large_to_small_then_the_rest(n):
    summary = summarise_structure_share(shares(n).assign(group="all", method="omig"))
    figure = draw(checks.plot_structure_share(summary.sample(frac=1, random_state=1), "OMIG"), f"structure_share_{n}")
    assert any(("too few for an interval" in text) == (n == 1) for text in texts_of(figure) if "mean of n" in text)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "disc 2.00 mm"
    assert labels[15:] == ["disc 0.06 mm", "grid", "writing", "background"]
    assert_drawn(figure, summary.filter(like="enrichment"), along="x", axes=0)
    assert_drawn(figure, summary.filter(like="balance"), along="x", axes=1)
    assert_printed(texts_of(figure), summary[["diameter_mm", "n"]], phrases=["apart from 1"])


def test_structure_share_cannot_contradict_its_finding():
    """Shares and areas that differ between images: unpaired means would call the grid enriched, pairs do not."""
    rows = [
        ["i0", "grid", np.nan, 0.40, 0.0, 0.20], ["i1", "grid", np.nan, 0.02, 0.0, 0.04],
        ["i2", "grid", np.nan, 0.03, 0.0, 0.05], ["i3", "grid", np.nan, 0.02, 0.0, 0.03],
    ]  # fmt: skip
    columns = ["image", "structure", "diameter_mm", "share_abs", "share_signed", "share_area"]
    summary = summarise_structure_share(pd.DataFrame(rows, columns=columns).assign(group="all", method="omig"))
    assert summary["share_abs"][0] / summary["share_area"][0] > 1.4
    row = summary.iloc[0]
    assert row["enrichment"] == pytest.approx((2 + 0.5 + 0.6 + 2 / 3) / 4)
    assert row["lies_there"] == "not told apart"
    figure = checks.plot_structure_share(summary)
    colours = [line.get_color() for line in figure.axes[0].lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert colours == [style.GREY]
    assert "not told apart from 1" in texts_of(figure)


def designs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": "gradient",
            "draws": [150, 150, 300, 300],
            "without_replacement": [False, True, False, True],
            "relative_standard_error": [0.91, 0.84, 0.85, 0.71],
            "relative_error_between_repeats": [0.937, 0.912, 0.863, 0.814],
        }
    )


def test_upsampling_designs_show_the_error_between_repeats_without_a_line():
    figure = draw(checks.plot_upsampling_designs(designs()), "upsampling_designs")
    assert_drawn(figure, designs()[["relative_error_between_repeats"]])
    assert_printed(texts_of(figure), designs()[["relative_error_between_repeats"]])
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["without replacement"].get_ydata(), [91.2, 81.4])
    assert {line.get_linestyle() for line in lines.values()} == {"None"}


def test_history_marks_the_steps_of_the_training():
    epochs = np.arange(1, 41)
    names = np.repeat(["no_margin", "small_margins", "large_margins", "recorded"], 10)
    histories = {
        f"member {m}": pd.DataFrame(
            {
                "step_name": names, "epoch": epochs, "nll": 2 * np.exp(-epochs / 12) - 1 + 0.03 * m,
                "rmse_um": 0.5 * np.exp(-epochs / 15) + 0.05, "validation_nll": 2 * np.exp(-epochs / 13) - 0.9,
                "validation_rmse_um": 0.5 * np.exp(-epochs / 14) + 0.06,
            }
        )
        for m in range(3)
    }  # fmt: skip
    figure = draw(training.plot_history(histories), "history")
    vertical = [line.get_xdata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1]
    assert vertical[:3] == [10.5, 20.5, 30.5]
    assert {"training images", "validation images"} <= set(texts_of(figure))
    alone = {name: history.filter(regex="^(?!validation)") for name, history in histories.items()}
    assert "training images;\nno validation part" in texts_of(training.plot_history(alone))
