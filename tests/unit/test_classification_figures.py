"""The figures of classifiers and data sets show the numbers that they were given, also where there are few."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from printed_numbers import assert_drawn, assert_printed, texts_of

from xiqa.figures import classification, datasets, style
from xiqa.files import write_figure
from xiqa.metrics.classification import (
    auc_by_severity,
    calibration_bins,
    confusion,
    roc_band,
    roc_curve_table,
    scores,
)
from xiqa.metrics.embedding import embed
from xiqa.metrics.shortcut_classification import compare

CLASSES = {2: ["no contrast", "contrast"], 3: ["meningioma", "glioma", "pituitary tumour"]}
SHORTCUTS = ["header", "intensity", "header and intensity"]


def draw(figure: Figure, name: str) -> Figure:
    """Render a figure (into the folder XIQA_FIGURES, to look at it) and check what every figure must have."""
    folder = os.environ.get("XIQA_FIGURES")
    if folder:
        write_figure(Path(folder) / f"{name}.png", figure)
    else:
        figure.canvas.draw()
    assert figure.get_supxlabel() in style.DATA_NOTES.values()
    return figure


def labelled(figure: Figure) -> bool:
    """Both axes of the outer panels have a label."""
    shown = [axes for axes in figure.axes if axes.get_visible()]
    return any(axes.get_xlabel() for axes in shown) and any(axes.get_ylabel() for axes in shown)


def texts(figure: Figure) -> list[str]:
    legends = figure.legends + [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    found = [text.get_text() for legend in legends for text in legend.get_texts()]
    return found + [legend.get_title().get_text() for legend in legends]


def predictions(k: int, strength: float = 2.0, n: int = 120, seed: int = 0) -> pd.DataFrame:
    labels, rng = np.random.default_rng(0).integers(0, k, n), np.random.default_rng(seed)
    weights = np.exp(rng.normal(0, 1, (n, k)) + strength * np.eye(k)[labels])
    probabilities = weights / weights.sum(1, keepdims=True)
    table = pd.DataFrame({"image": [f"i{i}" for i in range(n)], "patient": np.arange(n) // 2, "label": labels})
    return table.assign(part="test", **{f"probability_{c}": probabilities[:, c] for c in range(k)})


def roc(found: dict[str, pd.DataFrame], names: list[str]) -> Figure:
    return classification.plot_roc(
        {name: roc_curve_table(table, names) for name, table in found.items()},
        {name: roc_band(table, names, draws=20) for name, table in list(found.items())[:1]},
        {name: scores(table, names, draws=20) for name, table in found.items()},
    )


@pytest.mark.parametrize("k", [2, 3])
def test_roc_names_the_classes_and_gives_the_auc(k):
    found = {"small_resnet": predictions(k), "shortcut: intensity": predictions(k, 0.3, seed=1)}
    figure = draw(roc(found, CLASSES[k]), f"roc_{k}")
    curves = [name for name in CLASSES[k] if k > 2 or name == "contrast"]
    assert {name if k == 2 else f"{name} against the rest" for name in curves} <= set(texts(figure))
    # One legend per panel, above it, so that it covers no curve and no line is explained twice.
    assert figure.legends == []
    figure.draw_without_rendering()
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        names = [text.get_text().split(" 0.")[0] for text in axes.get_legend().get_texts()]
        assert names == (["small ResNet: AUC", "shortcut: intensity: AUC"] if k == 2 else ["small ResNet", "intensity"])
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
        assert axes.get_legend().get_window_extent().x1 <= figure.bbox.x1
    assert labelled(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == len(curves)
    for axes, name in zip(shown, curves, strict=True):
        table = scores(found["small_resnet"], CLASSES[k], draws=20)
        auc = table[(table["metric"] == "auc") & (table["class_name"] == (name if k > 2 else ""))]["value"].item()
        assert f" {auc:.{3 if auc > 0.99 else 2}f} (" in axes.get_legend().get_texts()[0].get_text()
    tables = [scores(table, CLASSES[k], draws=20).query("metric == 'auc'") for table in found.values()]
    assert_printed(texts_of(figure), *tables)


def test_roc_of_one_class_says_why_it_is_empty():
    table = predictions(2)
    figure = draw(roc({"small_resnet": table[table["label"] == 0]}, CLASSES[2]), "roc_none")
    assert "one class only" in figure.axes[0].texts[0].get_text()


def test_roc_of_one_patient_has_no_band():
    draw(roc({"small_resnet": predictions(3).assign(patient=0)}, CLASSES[3]), "roc_one_patient")


@pytest.mark.parametrize("k", [2, 3])
def test_confusion_shows_counts_and_row_shares(k):
    table = confusion(predictions(k), CLASSES[k])
    figure = draw(classification.plot_confusion(table), f"confusion_{k}")
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == [f"{row.n}\n{100 * row.share:.0f} %" for row in table.itertuples()]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == CLASSES[k]
    assert_printed(texts_of(figure), table, derived=table.groupby("truth")["n"].sum())
    assert labelled(figure)


def test_confusion_of_an_absent_class_shows_no_share():
    table = predictions(3)
    figure = draw(classification.plot_confusion(confusion(table[table["label"] > 0], CLASSES[3])), "confusion_absent")
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["0\n-"] * 3


@pytest.mark.parametrize("n", [1, 120])
def test_reliability_gives_the_calibration_error(n):
    table = predictions(3, n=n)
    found = scores(table, CLASSES[3], draws=20)
    bins = calibration_bins(table, CLASSES[3])
    figure = draw(classification.plot_reliability(bins, found), f"bins_{n}")
    assert_drawn(figure, bins[["accuracy", "ci_low", "ci_high"]], axes=1)
    assert_printed(texts_of(figure), found.query("metric.str.startswith('ece')"))
    ece = found.set_index("metric").loc["ece", "value"]
    assert any(text.startswith(f"ECE {ece:.3f}") for text in texts(figure))
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == n
    assert labelled(figure)


def test_dose_response_marks_the_levels_and_limits():
    levels = pd.concat(
        predictions(2, 4 * level, n=40).assign(severity=level, image=lambda t, level=level: t["image"] + f"_{level}")
        for level in (0.1, 0.5, 1.0)
    )
    alone = levels[(levels["severity"] > 0.1) | (levels["label"] == 0)]
    tables = {name: auc_by_severity(table, CLASSES[2], draws=20) for name, table in
              {"small_resnet": levels, "lvot": alone}.items()}  # fmt: skip
    figure = draw(classification.plot_auc_by_severity(tables), "severity")
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"chance"}
    assert_drawn(figure, *tables.values())
    assert_drawn(figure, [0.1, 0.5, 1.0], along="x")
    assert list(axes.get_xticks()) == [0.1, 0.5, 1.0]
    assert {"small ResNet", "LVOT"} <= set(texts(figure))
    assert labelled(figure)
    nothing = classification.plot_auc_by_severity({"a": tables["lvot"].iloc[:0]})
    assert "no images of graded severity" in draw(nothing, "severity_none").axes[0].texts[0].get_text()


@pytest.mark.parametrize("validated", [True, False])
def test_training_marks_the_epoch_that_was_kept(validated):
    epoch = np.arange(1, 9)
    history = pd.DataFrame({"epoch": epoch, "loss": 1 / epoch, "balanced_accuracy": 1 - 0.5 / epoch})
    if validated:
        history = history.assign(validation_loss=1.1 / epoch, validation_balanced_accuracy=1 - 0.6 / epoch)
    figure = draw(classification.plot_training({"seed 0": history}, {"seed 0": 6}), f"training_{validated}")
    rings = [line for line in figure.axes[1].lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in rings] == [6]
    assert rings[0].get_ydata()[0] == 1 - (0.6 if validated else 0.5) / 6
    assert ("validation" in texts(figure)) == validated
    assert labelled(figure)


def test_embedding_has_silhouettes_in_its_titles_and_names_the_classes():
    rng, table = np.random.default_rng(0), predictions(3, n=60)
    spaces = {"before training": np.zeros((60, 4)), "after training": rng.normal(0, 1, (60, 4))}
    spaces["after training"][:, :3] += 4 * np.eye(3)[table["label"]]
    points, found = embed(spaces, table)
    figure = draw(classification.plot_embedding(points, found, CLASSES[3]), "embedding")
    assert len(figure.axes) == 4
    assert_printed([figure.axes[1].get_title()], found)
    assert f"silhouette {found['silhouette'][1]:.2f}" in figure.axes[1].get_title()
    assert "not defined" in [text.get_text() for text in figure.axes[2].texts]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    counts = table["label"].value_counts()
    assert {f"{name} (n = {counts[c]})" for c, name in enumerate(CLASSES[3])} <= set(texts(figure))


@pytest.mark.parametrize(
    ("ends", "text"),
    [((-0.0148, -0.0051), "-0.010 (-0.015 to -0.005)"), ((0.12, 0.31), "0.21 (0.12 to 0.31)")],
)
def test_a_narrow_interval_is_not_printed_as_none(ends, text):
    assert classification._interval(sum(ends) / 2 - 0.005 * (ends[0] > 0), *ends) == text


def test_overview_has_a_point_for_every_network_and_shortcut():
    network, rows = predictions(2), []
    shortcuts = {name: predictions(2, 0.3, seed=number) for number, name in enumerate(SHORTCUTS, 1)}
    for dataset, seen in {"ct_contrast": SHORTCUTS, "my_own": ["intensity"]}.items():
        found = compare(network, {name: shortcuts[name] for name in seen}, CLASSES[2], draws=20)
        rows.append(found.assign(dataset=dataset, network="small_resnet"))
    alone = compare(network.assign(patient=0), {"intensity": network.assign(patient=0)}, CLASSES[2])
    table = pd.concat([*rows, alone.assign(dataset="lvot", network="vgg16")], ignore_index=True)
    figure = draw(classification.plot_overview(table), "overview")
    (axes,) = figure.axes
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() not in ("None", None, "")]
    assert sorted(points) == pytest.approx(sorted([*table["shortcut_auc"], *[table["network_auc"][0]] * 3]))
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [
        "CT contrast\nsmall ResNet (patients: 60)",
        "my own\nsmall ResNet (patients: 60)",
        "LVOT\nVGG16 (patients: 1)",
    ]
    assert_printed(texts_of(figure), [60, 1])
    assert_drawn(figure, table, along="x")
    proxies = texts_of(classification.plot_overview(table.assign(grouping="proxy")))
    assert "my own\nsmall ResNet (proxy groups: 60)" in proxies
    assert {"network", *(f"shortcut: {name}" for name in SHORTCUTS)} <= set(texts(figure))
    assert axes.get_xlabel().startswith("AUC")


def image_set(n: int = 24, k: int = 3) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    images, masks = rng.random((n, 32, 40)).astype(np.float16), np.zeros((n, 32, 40), bool)
    masks[:, 8:20, 10:30] = True
    parts = np.resize(["train", "test", "severity", "unused"], n)
    table = pd.DataFrame({"patient": np.arange(n) // 2, "label": np.arange(n) // 2 % k, "part": parts})
    boxes = json.dumps([[10.0, 8.0, 30.0, 20.0]])
    severity = np.where(parts == "severity", np.resize([0.1, 0.1, 0.5], n), np.nan)
    return images, masks, table.assign(has_mask=True, boxes=boxes, severity=severity)


def test_examples_show_each_class_with_its_ground_truth():
    images, masks, table = image_set()
    figure = draw(datasets.plot_examples(images, masks, table, CLASSES[3], per_class=3), "examples")
    assert len(figure.axes) == 9
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == [f"{name}\n(n = 8)" for name in CLASSES[3]]
    (box,) = figure.axes[0].patches
    # On the axes pixel 10 begins at 9.5.
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (9.5, 7.5, 20, 12)
    assert {"contour of the defect", "box"} <= set(texts(figure))
    lungs = datasets.plot_examples(images, masks, table.assign(mask_of="lungs"), CLASSES[3])
    assert "contour of the lungs" in texts(lungs)


def test_examples_are_of_different_patients_and_need_no_ground_truth():
    images, _, table = image_set()
    # Every pixel of an image holds its patient's number.
    images[:] = table["patient"].to_numpy()[:, None, None]
    figure = draw(
        datasets.plot_examples(images, None, table.drop(columns=["boxes", "has_mask"]), CLASSES[3], per_class=9),
        "examples_plain",
    )
    patients = [axes.images[0].get_array()[0, 0] for axes in figure.axes if axes.images]
    assert sorted(patients) == sorted(table["patient"].unique())
    assert figure.legends == []


def test_severity_strip_rises_and_leaves_gaps():
    images, masks, table = image_set()
    figure = draw(datasets.plot_severity_strip(images, masks, table, CLASSES[3]), "strip")
    graded = table[table["part"] == "severity"]
    patients = graded.groupby("severity")["patient"].nunique()
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        f"severity {level:g}\none of {patients[level]} patients" for level in (0.1, 0.5)
    ]
    # Each image as it is, and below it once more where there is something to outline.
    wanted = graded.groupby("label")["severity"].nunique().sum()
    plain = datasets.plot_severity_strip(images, None, table.drop(columns="boxes"), CLASSES[3])
    assert sum(bool(axes.images) for axes in plain.axes) == wanted < len(plain.axes)
    assert sum(bool(axes.images) for axes in figure.axes) > wanted
    rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    for label in (label for label in rows if label.endswith("outlined")):
        assert label.split(",")[0] in rows
    upper = [axes for axes in figure.axes if axes.images and not (axes.collections or axes.patches)]
    assert len(upper) >= wanted
    with pytest.raises(ValueError, match="no row of the part 'severity'"):
        datasets.plot_severity_strip(images, masks, table.assign(part="test"), CLASSES[3])


def test_split_counts_patients_and_images():
    table = pd.DataFrame(
        {"patient": [0, 0, 0, 1, 2, 2], "part": ["train"] * 4 + ["test"] * 2, "label": [0, 0, 1, 1, 0, 0]}
    )
    figure = draw(datasets.plot_split(table, CLASSES[2]), "split")
    patients, images = ([bar.get_width() for bar in axes.patches] for axes in figure.axes)
    # Bars class by class, each in the order train, test; patient 0 has images of both classes and counts once.
    assert patients == [0, 1, 1, 0, 1, 0]
    assert images == [2, 2, 2, 0]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["train\n(n = 2)", "test\n(n = 1)"]
    assert {*CLASSES[2], "patients with both classes"} <= set(texts(figure))
    assert figure.axes[0].get_title(loc="left") == "no patients in more than one part"
    assert labelled(figure)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
@settings(max_examples=8, deadline=None)
def test_bars_of_a_split_add_up_to_its_patients_and_images(seed, k):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": rng.integers(0, 12, 40), "label": rng.integers(0, k, 40)})
    table["part"] = np.array(["train", "test"])[table["patient"] % 2]
    patients, images = (
        sum(bar.get_width() for bar in axes.patches) for axes in datasets.plot_split(table, CLASSES[k]).axes
    )
    assert (patients, images) == (table["patient"].nunique(), 40)


def test_a_split_that_tears_patients_or_has_none_says_so():
    table = pd.DataFrame({"patient": [0, 0, 1, 2], "part": ["train", "test", "train", "unused"], "label": [0, 0, 1, 1]})
    axes = datasets.plot_split(table, CLASSES[2]).axes[0]
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("1 patients in more than one part", "patients")
    axes = datasets.plot_split(table.assign(grouping="proxy"), CLASSES[2]).axes[0]
    assert axes.get_title(loc="left") == "1 proxy groups in more than one part"
    assert axes.get_xlabel() == "proxy groups (no patient ids)"


def test_a_figure_of_one_of_several_seeds_says_which():
    figure = datasets.plot_split(pd.DataFrame({"patient": [0], "part": ["train"], "label": [0]}), CLASSES[2])
    style.note_seed(figure, 3, 1)
    assert figure.get_supxlabel() == "simulated images"
    style.note_seed(figure, 3, 5)
    assert figure.get_supxlabel() == "simulated images, seed or fold 3, the first of 5"
