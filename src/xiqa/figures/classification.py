"""Pictures of the classifiers: ROC, confusion, calibration, dose-response, training, feature spaces, overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xiqa.figures import style

MARKERS = "osD^vPX"
NETWORK_COLOUR = style.BLUE
SHORTCUT_LOOKS: dict[str, dict[str, Any]] = {
    "header": {"color": style.ORANGE, "marker": "s", "linestyle": (0, (4, 1.5))},
    "intensity": {"color": style.VERMILION, "marker": "D", "linestyle": (0, (1, 1))},
    "header and intensity": {"color": style.PURPLE, "marker": "^", "linestyle": (0, (4, 1, 1, 1))},
    "borders": {"color": style.GREEN, "marker": "v", "linestyle": (0, (6, 2))},
    "mask presence": {"color": style.BLACK, "marker": "P", "linestyle": (0, (2, 2))},
    "bright pixels": {"color": style.SKY, "marker": "X", "linestyle": (0, (3, 1, 1, 1, 1, 1))},
}
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.9}
NAMES = {
    "object_cxr": "Object-CXR",
    "lvot": "LVOT",
    "brain_tumor": "brain tumour",
    "covid_cxr": "COVID-19 X-ray",
    "ct_contrast": "CT contrast",
    "mri_quality": "MRI quality",
    "small_resnet": "small ResNet",
    "small_vgg": "small VGG",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet50v2": "ResNet50V2",
    "efficientnet_b0": "EfficientNet-B0",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "densenet121": "DenseNet121",
    "xception": "Xception",
    "inception_v3": "InceptionV3",
    "inception_resnet_v2": "InceptionResNetV2",
}
"""Data sets and networks as figures print them."""

GRID = {"linewidth": 0.3, "color": "#DDDDDD"}
CHANCE = {"color": style.GREY, "linewidth": 0.6, "linestyle": ":"}


def class_look(number: int) -> dict:
    """Colour and marker of a class, the same in all figures."""
    return {"color": style.CYCLE[number % len(style.CYCLE)], "marker": MARKERS[number % len(MARKERS)]}


def plain_name(name: str) -> str:
    """A data set's or network's name as figures print it, with what follows it behind a comma."""
    first, *more = name.split(", ")
    return ", ".join([NAMES.get(first, first.replace("_", " ")), *more])


def _curve_look(name: str, number: int) -> dict:
    """Colour, marker and line of a shortcut (hollow, thin), or of the network of that number (filled, thick)."""
    if name.startswith("shortcut: "):
        return SHORTCUT_LOOKS[name.removeprefix("shortcut: ")] | HOLLOW | {"linewidth": 0.7}
    colours = (NETWORK_COLOUR, style.GREEN, style.SKY, style.BLACK)
    return {"color": colours[number % 4], "marker": "ovPX"[number % 4], "linestyle": "-", "linewidth": 1.5}


@style.styled
def plot_roc(
    curves: Mapping[str, pd.DataFrame],
    bands: Mapping[str, pd.DataFrame],
    scores: Mapping[str, pd.DataFrame],
    data: str = "simulated",
) -> Figure:
    """ROC curves of a network with its 95 % band and of shortcuts, a panel and a legend for each class.

    Args:
        curves: name (such as `small_resnet`, `shortcut: intensity`) -> `xiqa.metrics.classification.roc_curve_table`.
        bands: name -> `roc_band`, for those whose band is drawn.
        scores: name -> `scores`, for the AUC and its interval in the legend.
        data: `simulated`, `recorded` or `mixed`.
    """
    shown = list(dict.fromkeys(name for curve in curves.values() for name in curve["class_name"]))
    if not shown:
        return nothing("no ROC curve: the part holds one class only", data)
    columns, several = min(len(shown), 3), len(shown) > 1
    rows = -(-len(shown) // columns)
    width = style.SINGLE_COLUMN if columns == 1 else style.DOUBLE_COLUMN
    figure = style.new_figure(width, rows * (width / columns + 0.1 + 0.11 * len(curves)) + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    if several:
        figure.suptitle("AUC with 95 % interval; thick: network, thin: shortcuts", fontsize=7)
    for axes, class_name in zip(grid.flat, shown, strict=False):
        axes.plot([0, 1], [0, 1], **CHANCE)
        for number, (name, curve) in enumerate(curves.items()):
            look = {key: value for key, value in _curve_look(name, number).items() if key != "marker"}
            if name in bands:
                band = bands[name][bands[name]["class_name"] == class_name]
                axes.fill_between(
                    band["fpr"].astype(float), band["tpr_low"].astype(float), band["tpr_high"].astype(float),
                    color=look["color"], alpha=0.2, linewidth=0,
                )  # fmt: skip
            part = curve[curve["class_name"] == class_name]
            text = _auc_text(scores[name], class_name)
            # Narrow panels leave no room for more.
            short = f"{plain_name(name).removeprefix('shortcut: ')} {text.removeprefix('AUC ')}"
            label = short if several else f"{plain_name(name)}: {text}"
            axes.plot(part["fpr"], part["tpr"], label=label, **look)
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
        title = f"{class_name} against the rest" if several else class_name
        # Above the panel: inside, a weak curve would run behind it.
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.01), title=title,
            title_fontsize=7, fontsize=6, alignment="left", borderaxespad=0, handlelength=2.4, labelspacing=0.25,
        )  # fmt: skip
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    _label_outer(grid, "false-positive rate", "true-positive rate")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_confusion(confusion: pd.DataFrame, data: str = "simulated") -> Figure:
    """Confusion matrix: images, and their share of the row (of the class that is true).

    Args:
        confusion: `xiqa.metrics.classification.confusion`.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figure 5 of Brima 2023.
    """
    classes = list(dict.fromkeys(confusion["truth"]))
    counts, shares = (
        confusion.pivot(index="truth", columns="predicted", values=values).loc[classes, classes].to_numpy(float)
        for values in ("n", "share")
    )
    side = 0.75 * len(classes)
    figure = style.new_figure(max(style.SINGLE_COLUMN, side + 1.4), max(2.6, side + 0.9))
    axes = figure.subplots()
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1.15)
    for (row, column), share in np.ndenumerate(shares):
        percent = "-" if np.isnan(share) else f"{100 * share:.0f} %"
        axes.text(
            column, row, f"{counts[row, column]:.0f}\n{percent}", ha="center", va="center",
            color="white" if share > 0.6 else "black", fontsize=8,
        )  # fmt: skip
    long = max(map(len, classes)) > 9 and len(classes) > 2
    ticks = range(len(classes))
    axes.set_xticks(
        ticks, classes, rotation=30 if long else 0, ha="right" if long else "center", rotation_mode="anchor"
    )
    axes.set_yticks(ticks, [f"{name}\n(n = {row.sum():.0f})" for name, row in zip(classes, counts, strict=True)])
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_reliability(bins: pd.DataFrame, scores: pd.DataFrame, data: str = "simulated") -> Figure:
    """Reliability diagram: accuracy against the promised probability, with 95 % intervals; above, images per bin.

    Args:
        bins: `xiqa.metrics.classification.calibration_bins`.
        scores: `scores`, for the expected calibration error (ECE).
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(style.SINGLE_COLUMN, 3.9)
    counts, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 4))
    counts.bar(bins["low"], bins["n_images"], bins["high"] - bins["low"], align="edge", color="#BBBBBB", linewidth=0)
    counts.set_ylabel("images")
    axes.plot([0, 1], [0, 1], label="perfect calibration", **CHANCE)
    known = bins["ci_low"].notna()
    sure, few = bins[known], bins[~known]
    ends = [sure["accuracy"] - sure["ci_low"], sure["ci_high"] - sure["accuracy"]]
    axes.errorbar(
        sure["confidence"], sure["accuracy"], yerr=np.clip(ends, 0, None), fmt="o", color=NETWORK_COLOUR, capsize=2,
        elinewidth=0.8, label="network",
    )  # fmt: skip
    if len(few):
        axes.plot(
            few["confidence"], few["accuracy"], "o", color=NETWORK_COLOUR, label="too few patients for an interval",
            **HOLLOW,
        )  # fmt: skip
    # Below, there are no top probabilities: with two classes none is under one half.
    axes.set(xlim=(max(0.0, float(bins["low"].min()) - 0.05), 1.01), ylim=(-0.02, 1.02))
    axes.set(xlabel="highest class probability (mean in bin)", ylabel="accuracy in bin")
    value = scores.set_index("metric")["value"]
    axes.legend(
        loc="lower right", title=f"ECE {value['ece']:.3f} (by chance {value['ece_if_calibrated']:.3f})",
        title_fontsize=7, alignment="left",
    )  # fmt: skip
    style.note_data(figure, data)
    return figure


@style.styled
def plot_auc_by_severity(tables: Mapping[str, pd.DataFrame], data: str = "simulated") -> Figure:
    """Dose-response: AUC against the severity of the defect with bands of 95 % intervals.

    Args:
        tables: name of a network or shortcut -> `xiqa.metrics.classification.auc_by_severity`.
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(style.SINGLE_COLUMN, 2.9)
    axes = figure.subplots()
    levels = sorted({severity for table in tables.values() for severity in table["severity"]})
    if not levels:
        return nothing("no images of graded severity", data)
    logarithmic = levels[0] > 0 and levels[-1] > levels[0]
    for number, (name, table) in enumerate(tables.items()):
        look = _curve_look(name, number)
        axes.plot(table["severity"], table["value"], label=plain_name(name), **look)
        axes.fill_between(
            table["severity"], table["ci_low"].astype(float), table["ci_high"].astype(float), color=look["color"],
            alpha=0.13, linewidth=0,
        )  # fmt: skip
    axes.axhline(0.5, zorder=0, **CHANCE)
    axes.text(1.01, 0.5, "chance", transform=axes.get_yaxis_transform(), fontsize=6.5, va="center", color=style.GREY)
    if logarithmic:
        axes.set_xscale("log")
    style.plain_ticks(axes.xaxis, levels)
    axes.minorticks_off()
    lowest = min(float(np.nanmin([table[["value", "ci_low"]].min().min(), 0.5])) for table in tables.values())
    axes.set(xlabel="severity of the defect (in training: about 1)", ylabel="AUC", ylim=(lowest - 0.03, 1.02))
    figure.legend(loc="outside upper center", ncols=2)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_training(histories: Mapping[str, pd.DataFrame], best: Mapping[str, int], data: str = "simulated") -> Figure:
    """Loss and score (balanced accuracy or error) per epoch, training and validation; a ring marks the epoch kept.

    Args:
        histories: name (such as `seed 0`) -> history.csv: epoch, loss, balanced_accuracy (or rmse_over_sd of a
            regression) and, where there is a validation part, the same with `validation_`.
        best: name -> epoch whose weights were kept.
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.7)
    loss, accuracy = figure.subplots(1, 2)
    classes = all("balanced_accuracy" in history for history in histories.values())
    score = "balanced_accuracy" if classes else "rmse_over_sd"
    handles = {}
    for colour, (name, history) in zip(style.CYCLE * len(histories), histories.items(), strict=False):
        for axes, column in ((loss, "loss"), (accuracy, score)):
            (handles[name],) = axes.plot(history["epoch"], history[column], color=colour, linewidth=1)
            kept = f"validation_{column}" if f"validation_{column}" in history else column
            if kept != column:
                axes.plot(history["epoch"], history[kept], color=colour, linewidth=1, linestyle="--")
            row = history[history["epoch"] == best[name]]
            axes.plot(row["epoch"], row[kept], "o", color=colour, markerfacecolor="none", markersize=7)
    labels = ("loss (cross-entropy)", "balanced accuracy")
    if not classes:
        labels = ("loss (negative log likelihood)", "RMSE / SD of the training targets")
    for axes, label in zip((loss, accuracy), labels, strict=True):
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(True, **GRID)
    if classes:
        loss.set_ylim(bottom=0)
        accuracy.set_ylim(top=1.02)
    else:
        accuracy.set_ylim(bottom=0)
    handles["training"] = loss.plot([], [], color=style.GREY, linewidth=1)[0]
    if any("validation_loss" in history for history in histories.values()):
        handles["validation"] = loss.plot([], [], color=style.GREY, linewidth=1, linestyle="--")[0]
    handles["epoch kept"] = loss.plot([], [], "o", color=style.GREY, markerfacecolor="none", markersize=7)[0]
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_embedding(
    points: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str], data: str = "simulated"
) -> Figure:
    """Feature spaces in two dimensions: PCA above, t-SNE below, one column for each state, silhouettes in the titles.

    Args:
        points: first table of `xiqa.metrics.embedding.embed`.
        scores: its second.
        classes: names in the order of the labels.
        data: `simulated`, `recorded` or `mixed`.

    Reference: Figures 6 and 7 of Brima 2023.
    """
    states = list(scores["state"])
    figure = style.new_figure(max(2.6 * len(states), style.SINGLE_COLUMN), 5.4)
    grid = figure.subplots(2, len(states), squeeze=False)
    size = 3.5 if len(points) < 800 * len(states) else 2
    for column, row in enumerate(scores.itertuples()):
        chosen = points[points["state"] == row.state]
        for axes, method in zip(grid[:, column], ("pca", "tsne"), strict=True):
            for number in np.unique(chosen["label"]):
                part = chosen[chosen["label"] == number]
                axes.plot(
                    part[f"{method}_1"], part[f"{method}_2"], linestyle="none", markersize=size, alpha=0.6,
                    markeredgewidth=0, rasterized=True, **class_look(number),
                )  # fmt: skip
            if chosen[f"{method}_1"].isna().all():
                axes.text(0.5, 0.5, "not defined", ha="center", transform=axes.transAxes, color=style.GREY)
        grid[0, column].set_title(f"{row.state}\nsilhouette {_interval(row.silhouette, row.ci_low, row.ci_high)}")
        shares = ["" if np.isnan(share) else f" ({100 * share:.0f} %)" for share in (row.explained_1, row.explained_2)]
        grid[0, column].set(xlabel=f"component 1{shares[0]}", ylabel=f"component 2{shares[1]}")
        # Lengths on a t-SNE map mean nothing, nor would their numbers.
        grid[1, column].set(xlabel="t-SNE axis 1", ylabel="t-SNE axis 2", xticks=[], yticks=[])
    counts = points[points["state"] == states[0]]["label"].value_counts()
    found = [number for number in range(len(classes)) if number in counts.index]
    handles = [grid[0, 0].plot([], [], linestyle="none", **class_look(number))[0] for number in found]
    names = [f"{classes[number]} (n = {counts[number]})" for number in found]
    figure.legend(handles, names, loc="outside upper center", ncols=min(len(found), len(states) + 1))
    style.note_data(figure, data)
    return figure


@style.styled
def plot_overview(comparisons: pd.DataFrame, data: str = "simulated") -> Figure:
    """Test AUC of all networks on all data sets, beside the shortcuts that they must beat; 95 % intervals.

    Args:
        comparisons: rows of `xiqa.metrics.shortcut_classification.compare` with the columns `dataset` and `network`:
            shortcut, network_auc, network_low, network_high, shortcut_auc, shortcut_low, shortcut_high, n_patients,
            and grouping where it may be "proxy".
        data: `simulated`, `recorded` or `mixed`.
    """
    groups = list(comparisons.groupby(["dataset", "network"], sort=False))
    figure = style.new_figure(5.4, 0.11 * (len(comparisons) + 2 * len(groups)) + 1.3)
    axes = figure.subplots()
    handles, middles, labels, place = {}, [], [], 0
    for (dataset, network), rows in groups:
        first = rows.iloc[0]
        middles.append(place + len(rows) / 2)
        who = "patients" if first.get("grouping", "patient") == "patient" else "proxy groups"
        labels.append(f"{plain_name(dataset)}\n{plain_name(network)} ({who}: {first['n_patients']})")
        look = {"color": NETWORK_COLOUR, "marker": "o"}
        handles["network"] = _interval_point(axes, place, first, "network", look)
        for below, (_, row) in enumerate(rows.iterrows(), place + 1):
            look = {key: SHORTCUT_LOOKS[row["shortcut"]][key] for key in ("color", "marker")} | HOLLOW
            handles[f"shortcut: {row['shortcut']}"] = _interval_point(axes, below, row, "shortcut", look)
        place += len(rows) + 2
        axes.axhline(place - 1, color="#DDDDDD", linewidth=0.5)
    axes.set_yticks(middles, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place - 1, -1)
    axes.axvline(0.5, **CHANCE)
    lowest = comparisons[["network_low", "shortcut_low", "network_auc", "shortcut_auc"]].min().min()
    axes.set_xlim(np.nanmin([0.45, lowest - 0.03]), 1.01)
    axes.set_xlabel("AUC on the test part (dotted: chance)")
    axes.grid(True, axis="x", **GRID)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=2)
    style.note_data(figure, data)
    return figure


def _interval_point(axes: Axes, place: float, row: pd.Series, prefix: str, look: dict):
    """A value as a point with its interval as a bar; the point, for a legend."""
    axes.plot([row[f"{prefix}_low"], row[f"{prefix}_high"]], [place, place], color=look["color"], linewidth=1.2)
    return axes.plot(row[f"{prefix}_auc"], place, linestyle="none", **look)[0]


def _interval(value: float, low: float, high: float) -> str:
    """`0.91 (0.85 to 0.95)`, as far as it is known."""
    if np.isnan(value):
        return "not defined"
    # Two digits would print a narrow interval as no interval at all.
    digits = 3 if value > 0.99 or 0 < high - low < 0.02 else 2
    found = [f"{number:z.{digits}f}" for number in (value, low, high)]
    return found[0] if np.isnan(low) else f"{found[0]} ({found[1]} to {found[2]})"


def _auc_text(scores: pd.DataFrame, class_name: str) -> str:
    """The AUC of a class; with two classes there is one AUC, which carries no class."""
    auc = scores[scores["metric"] == "auc"]
    row = auc[auc["class_name"] == class_name] if (auc["class_name"] == class_name).any() else auc
    return "AUC " + _interval(*row.iloc[0][["value", "ci_low", "ci_high"]])


def _label_outer(grid: np.ndarray, x: str, y: str) -> None:
    """Axis labels at the left and at the lowest visible panel of each column, where shared ticks stay too."""
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.set_xlabel(x)
        lowest.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def nothing(message: str, data: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = style.new_figure(style.SINGLE_COLUMN, 1.2)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", transform=axes.transAxes)
    style.note_data(figure, data)
    return figure
