"""Figures of the scores of saliency maps: localisation, averaged curves, masking, randomisation, ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.metrics.maps.leaderboard import AT_CEILING
from xiqa.metrics.maps.trust import form_of
from xiqa.names import judged_name, method_name
from xiqa.registry import CONTROLS

FORMS = {"signed": "map as it is", "absolute": "absolute value"}
STATES = {
    "trained": (style.BLUE, "o", "trained"),
    "semi_random": (style.ORANGE, "s", "last layer random"),
    "fully_random": (style.VERMILION, "^", "all weights random"),
}
FORM_LOOKS = {"absolute": (style.BLUE, "o", "absolute value"), "signed": (style.ORANGE, "s", "map as it is")}
CHECKS = {
    "localises": ("L", "lies on the ground truth better than every control"),
    "faithful": ("F", "faithful when pixels are masked"),
    "depends_on_training": ("T", "depends on training"),
}
"""Column of trust.csv -> its letter, and what it says."""
MARKS = {
    "passed": {"marker": "o", "color": style.BLUE},
    "failed": {"marker": "x", "color": style.VERMILION},
    "not testable": {"marker": "o", "color": style.BLACK, "markerfacecolor": "none"},
    "not tested": {"marker": "_", "color": style.GREY},
}
BEST = 5


@style.styled
def plot_localisation(pointing_game: pd.DataFrame, roc_auc: pd.DataFrame, architecture: str, data: str) -> Figure:
    """Pointing Game accuracy and pixel AUC of each method with 95 % intervals over patients, by state of the network.

    Args:
        pointing_game: pointing_game.csv of a data set; the unsmoothed scores are drawn, in the form in which a
            method is judged (see `xiqa.metrics.maps.trust.form_of`).
        roc_auc: roc_auc.csv; per-image AUC over the image, and inside the body.
        architecture: the network that is drawn.
        data: `simulated` or `real`.

    Reference: Özer, tables 3 and 4.
    """
    accuracy = _of(pointing_game, architecture).query("smoothing == 'none'")
    by_metric = _of(roc_auc, architecture)
    order = accuracy[accuracy["weights"] == "trained"].sort_values("accuracy", na_position="first")["method"].tolist()
    figure = style.new_figure(style.DOUBLE_COLUMN, 1.1 + 0.16 * len(order))
    left, middle, right = figure.subplots(1, 3, sharey=True)
    _intervals(left, accuracy.rename(columns={"accuracy": "mean"}), order, "weights", STATES)
    chance, tolerance = accuracy["chance"].iloc[0], accuracy["tolerance_px"].iloc[0]
    truth = accuracy["mask_of"].iloc[0]
    left.axvline(chance, color=style.GREY, linewidth=0.8, linestyle=":")
    left.set(xlabel=f"Pointing Game accuracy, τ = {tolerance:.3g} px\n(dotted: chance by area)", xlim=(-0.02, 1.02))
    _say_ceiling(left, accuracy)
    for panel, metric, label in (
        (middle, "roc_auc", "pixel AUC"),
        (right, "roc_auc_within", "pixel AUC inside the body"),
    ):
        rows = by_metric[by_metric["metric"] == metric]
        _say_ceiling(panel, rows)
        _intervals(panel, rows, order, "weights", STATES)
        panel.axvline(0.5, color=style.GREY, linewidth=0.8, linestyle=":")
        panel.set(xlabel=label, xlim=(0, 1.02))
    _name_methods(left, order)
    told = f"maps against the {truth}, {_counted(accuracy)}; |method|: its absolute map counts"
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, title=told, title_fontsize=7)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_curves(
    curves: pd.DataFrame, label_x: str, label_y: str, label_area: str, data: str, log_x: bool = False
) -> Figure:
    """Averaged curves of all methods, signed and absolute: the best by area in colour, controls dashed, others grey.

    Args:
        curves: method, form, x, y, n (images), and area, by which methods are ranked and which the legend tells.
        label_x: of the abscissa.
        label_y: of the ordinate.
        label_area: what the area is.
        data: `simulated` or `real`.
        log_x: logarithmic abscissa.

    Reference: Brocki 2022, figures 5 and 6.
    """
    figure, curves = style.new_figure(style.DOUBLE_COLUMN, 4.2), _in_both_forms(curves)
    for panel, (form, title) in zip(figure.subplots(1, 2, sharey=True), FORMS.items(), strict=True):
        _lines(panel, curves[curves["form"] == form])
        panel.set(title=title, xlabel=label_x)
        if log_x:
            panel.set_xscale("log")
            style.plain_ticks(panel.xaxis, (1, 2, 5, 10, 20, 50, 100))
        panel.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=6, title_fontsize=6,
            title=f"{label_area}, n = {_range(curves['n'])} images",
        )  # fmt: skip
    figure.axes[0].set_ylabel(label_y)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_masking(fidelity: pd.DataFrame, curves: pd.DataFrame, architecture: str, data: str) -> Figure:
    """Fidelity of each method with its interval, and the masking curves of the best method and the best control.

    Args:
        fidelity: fidelity.csv of a data set.
        curves: masking_curves.csv: method, form, order (MiF or LiF), x (share of masked pixels), y (accuracy), ci_low,
            ci_high.
        architecture: the network that is drawn.
        data: `simulated` or `real`.

    Reference: Brocki 2022, table 1, figures 2 and 4.
    """
    rows = fidelity[
        (fidelity["metric"] == "fidelity")
        & (fidelity["architecture"] == architecture)
        & (fidelity["weights"] == "trained")
    ]
    # Maps without a sign stand in both forms of the table: they are drawn once.
    rows = rows.sort_values("form").drop_duplicates(["method", "mean", "ci_low", "ci_high"])
    means = rows.set_index(["method", "form"])["mean"]
    # A map without a sign is the absolute one whatever the form.
    forms = {method: form if (method, (form := form_of(method))) in means else "absolute" for method in rows["method"]}
    means = pd.Series({method: means[method, form] for method, form in forms.items()}).sort_values(na_position="first")
    order = means.index.tolist()
    figure = style.new_figure(style.DOUBLE_COLUMN, max(4.2, 1.1 + 0.16 * len(order)))
    panels = figure.subplot_mosaic([["all", "MiF"], ["all", "LiF"]], width_ratios=(1.25, 1))
    left = panels["all"]
    _intervals(left, rows, order, "form", FORM_LOOKS)
    left.axvline(0, color=style.GREY, linewidth=0.8, linestyle=":")
    left.set_xlim(np.nanmin([-0.1, rows["ci_low"].min()]) - 0.02, 1.02)
    left.set_xlabel(f"fidelity F, area between both curves\n{_counted(rows)}")
    _name_methods(left, order)
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=6.5)
    known = means.dropna()
    parts = known.drop(list(CONTROLS), errors="ignore"), known.reindex(CONTROLS).dropna()
    best = [part.idxmax() for part in parts if len(part)]
    for name, words in (("MiF", "most"), ("LiF", "least")):
        panel, chosen = panels[name], curves[curves["order"] == name]
        for method, colour, line in zip(best, (style.BLUE, style.BLACK), ("-", "--"), strict=False):
            curve = chosen[(chosen["method"] == method) & (chosen["form"] == forms[method])]
            label = f"{judged_name(method, form_of(method))}, F = {means[method]:.2f}"
            panel.fill_between(curve["x"], curve["ci_low"], curve["ci_high"], color=colour, alpha=0.12, linewidth=0)
            panel.plot(curve["x"], curve["y"], line, color=colour, linewidth=1.2, label=label)
        panel.set(title=f"{words} important pixels first ({name})", ylim=(-0.02, 1.02), xlim=(0, 1), ylabel="accuracy")
        panel.grid(True, linewidth=0.3, color="#DDDDDD")
    below = panels["LiF"]
    below.set_xlabel("share of masked pixels")
    told = {"title": "best method and best control", "title_fontsize": 6.5, "fontsize": 6.5}
    below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), **told)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_cascade(table: pd.DataFrame, data: str) -> Figure:
    """Likeness of maps to those of the trained network while its blocks are randomised from the output.

    Args:
        table: cascade.csv of a data set.
        data: `simulated` or `real`.

    Reference: Adebayo et al. 2018, figure 4.
    """
    labels = {
        "rank_correlation": "rank correlation",
        "rank_correlation_absolute": "rank correlation of |map|",
        "structural_similarity": "structural similarity (SSIM)",
    }
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.9)
    blocks = table.drop_duplicates("blocks").sort_values("blocks")
    for panel, (measure, label) in zip(figure.subplots(1, 3, sharex=True), labels.items(), strict=True):
        by_method = table[table["measure"] == measure].groupby("method", sort=False)
        for (method, rows), colour in zip(by_method, style.CYCLE, strict=False):
            panel.plot(rows["blocks"], rows["mean"], "o-", color=colour, markersize=3, label=method_name(method))
            panel.fill_between(rows["blocks"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.15, linewidth=0)
        panel.axhline(0, color=style.GREY, linewidth=0.6)
        panel.set(ylabel=label, ylim=(min(-0.2, panel.get_ylim()[0]), 1.02))
        panel.set_xticks(blocks["blocks"], blocks["block"], rotation=60, ha="right", fontsize=6)
    figure.axes[1].set_xlabel(f"randomised from the output down to\n{_counted(table)}")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_trust(verdicts: pd.DataFrame, data: str) -> Figure:
    """Every method on every data set: the mark of each check, and the pixel AUC in the form in which it is judged.

    Args:
        verdicts: trust.csv: dataset, method, form, mask_of, of each check in `CHECKS` its mark (passed, failed, not
            tested, not testable) and _images, trusted (yes, no, not testable), roc_auc.
        data: `simulated`, `real` or `mixed`.
    """
    datasets, means = verdicts["dataset"].unique().tolist(), verdicts.groupby("method")["roc_auc"].mean()
    methods = means.sort_values(ascending=False, na_position="last").index.tolist()
    # Few methods have high rows: the colour bar beside them needs room for its label.
    figure = style.new_figure(style.DOUBLE_COLUMN, 1.5 + max(0.19 * len(methods), 1.2))
    axes = figure.subplots()
    values = verdicts.pivot(index="method", columns="dataset", values="roc_auc").loc[methods, datasets]
    shown = axes.imshow(values, cmap=style.AMOUNT_MAP, vmin=0, vmax=1, aspect="auto", alpha=0.35)
    for row in verdicts.itertuples():
        y, x = methods.index(row.method), datasets.index(row.dataset)
        score = f"{row.roc_auc:.2f}" if row.roc_auc == row.roc_auc else "not scored"
        axes.text(x - 0.44, y, score, va="center", fontsize=6.5, fontweight="bold" if row.trusted == "yes" else None)
        for place, check in zip((0.02, 0.2, 0.38), CHECKS, strict=True):
            axes.plot(x + place, y, linestyle="none", markersize=4, **MARKS[getattr(row, check)])
    heads = []
    for name in datasets:
        own = verdicts[verdicts["dataset"] == name]
        counts = [f"{letter}: n = {_range(own[f'{check}_images'])}" for check, (letter, _) in CHECKS.items()]
        heads.append("\n".join([name.replace("_", " "), own["mask_of"].iloc[0], *counts]))
    axes.set_xticks(range(len(datasets)), heads, fontsize=6)
    axes.set_xlabel("data set, what its masks show, images")
    for x in range(len(datasets)):
        for place, (letter, _) in zip((0.02, 0.2, 0.38), CHECKS.values(), strict=True):
            at = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            axes.annotate(letter, (x + place, -0.5), fontsize=6.5, **at)
    forms = verdicts.groupby("method")["form"].first()
    axes.set_yticks(range(len(methods)), [judged_name(name, forms[name]) for name in methods], fontsize=6.5)
    axes.set_xticks(np.arange(len(datasets) - 1) + 0.5, minor=True)
    axes.grid(True, which="minor", axis="x", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    handles = [axes.plot([], [], linestyle="none", markersize=4, **look)[0] for look in MARKS.values()]
    said = "; ".join(f"{letter}: {words}" for letter, words in CHECKS.values())
    figure.legend(
        handles, MARKS, loc="outside upper center", ncols=len(MARKS), title_fontsize=6.5,
        title=f"{said}.\nNumber: pixel AUC, bold where the method is trusted. |method|: its absolute map counts.",
    )  # fmt: skip
    style.colour_bar(axes, shown, "pixel AUC", extend="neither", ticks=5 if len(methods) > 10 else 2)
    style.note_data(figure, data)
    return figure


def _in_both_forms(curves: pd.DataFrame) -> pd.DataFrame:
    """Curves of maps without a sign, which have one form, stand in both panels."""
    both = curves.groupby("method")["form"].transform("nunique") > 1
    return pd.concat([curves, curves[~both].assign(form="signed")], ignore_index=True)


def _of(table: pd.DataFrame, architecture: str) -> pd.DataFrame:
    """Rows of a network in the form in which each method is judged."""
    return table[(table["architecture"] == architecture) & (table["form"] == table["method"].map(form_of))]


def _say_ceiling(panel: Axes, rows: pd.DataFrame) -> None:
    """Above a panel: where a control is right nearly everywhere, no method can be shown to be better."""
    held = rows[(rows["weights"] == "trained") & (rows["verdict"] == AT_CEILING)]
    if len(held):
        control = method_name(held["control"].iloc[0])
        panel.set_title(f"{control} at the ceiling:\ncannot be beaten here", fontsize=6.5)


def _range(counts: pd.Series) -> str:
    """A count, or the lowest and the highest where methods differ; those without any are left out."""
    counts = counts[counts > 0]
    return " to ".join(f"{count:.0f}" for count in counts.agg(["min", "max"]).unique()) if len(counts) else "0"


def _counted(rows: pd.DataFrame) -> str:
    """How many images and patients scores rest on."""
    return f"n = {_range(rows['n'])} images of {_range(rows['n_patients'])} patients"


def _name_methods(panel: Axes, order: list[str]) -> None:
    """Methods along the ordinate, controls in grey."""
    panel.set_yticks(range(len(order)), [judged_name(name, form_of(name)) for name in order], fontsize=6.5)
    for tick, method in zip(panel.get_yticklabels(), order, strict=True):
        tick.set_color(style.GREY if method in CONTROLS else style.BLACK)


def _intervals(panel: Axes, table: pd.DataFrame, order: list[str], column: str, looks: dict[str, tuple]) -> None:
    """One point with its interval per method and look, such as the states of the network, a little apart."""
    shown = [name for name in looks if (table[column] == name).any()]
    for number, name in enumerate(shown):
        colour, marker, label = looks[name]
        rows = table[(table[column] == name) & table["mean"].notna()]
        y = np.array([order.index(method) for method in rows["method"]]) + 0.22 * ((len(shown) - 1) / 2 - number)
        span = [rows["mean"] - rows["ci_low"], rows["ci_high"] - rows["mean"]]
        panel.errorbar(
            rows["mean"], y, xerr=np.clip(span, 0, None), fmt=marker, color=colour, markersize=2.8, elinewidth=0.8,
            label=label,
        )  # fmt: skip
    panel.grid(True, axis="y", linewidth=0.3, color="#DDDDDD")


def _lines(panel: Axes, curves: pd.DataFrame) -> None:
    """The best methods by area in colour, controls dashed and black, the others thin and grey."""
    area = curves.groupby("method")["area"].first().sort_values(ascending=False)
    best = [method for method in area.index if method not in CONTROLS][:BEST]
    dashes = dict(zip(CONTROLS, (":", "--", "-."), strict=True))
    for method in reversed(area.index):
        rows = curves[curves["method"] == method]
        look = {"color": "#CCCCCC", "linewidth": 0.6}
        if method in CONTROLS:
            look = {"color": style.BLACK, "linewidth": 1.0, "linestyle": dashes[method]}
        elif method in best:
            look = {"color": style.CYCLE[best.index(method)], "linewidth": 1.3}
        named = method in best or method in CONTROLS
        panel.plot(rows["x"], rows["y"], label=f"{method_name(method)} {area[method]:.2f}" if named else None, **look)
    panel.grid(True, linewidth=0.3, color="#DDDDDD")
