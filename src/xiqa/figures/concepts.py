"""Pictures of concepts: effects beside the truth, and the output along ladders of one factor."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.figures.classification import GRID
from xiqa.metrics.concept_findings import chosen_layer, concept_name

LOOKS = {
    "trained": {"color": style.BLUE, "label": "trained network"},
    "semi_random": {"color": style.ORANGE, "label": "last layer random"},
    "fully_random": {"color": style.GREY, "label": "random network"},
}


@style.styled
def plot_concept_effects(effects: pd.DataFrame, data: str = "simulated") -> Figure:
    """Effects of concepts on the logit of each class at the chosen layer, with the true effect of the trained network.

    Args:
        effects: rows of concept_effects.csv of one architecture.
        data: `simulated`.
    """
    layer = chosen_layer(effects)
    shown = effects[effects["layer"] == layer]
    concepts, classes = list(dict.fromkeys(shown["concept"])), list(dict.fromkeys(shown["class"]))
    states = [state for state in LOOKS if state in set(shown["weights"])]
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.36 * len(concepts) + 1.5)
    panels = figure.subplots(1, len(classes), sharey=True, sharex=True, squeeze=False)[0]
    for axes, name in zip(panels, classes, strict=True):
        for number, state in enumerate(states):
            rows = shown[(shown["weights"] == state) & (shown["class"] == name)]
            places = [
                concepts.index(concept) + 0.5 * ((number + 0.5) / len(states) - 0.5) for concept in rows["concept"]
            ]
            look = LOOKS[state]
            axes.barh(places, rows["effect"], height=0.5 / len(states), color=look["color"], label=look["label"])
            if state == "trained":
                axes.errorbar(
                    rows["true_effect"], places, xerr=2 * rows["true_se"], fmt="D", color=style.BLACK, markersize=3.5,
                    markerfacecolor="white", linewidth=0.8, label="true effect, ± 2 standard errors",
                )  # fmt: skip
        axes.axvline(0, color=style.BLACK, linewidth=0.6)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("change of its logit per SD\nof the concept")
        axes.grid(True, axis="x", **GRID)
    panels[0].set_yticks(range(len(concepts)), [concept_name(concept) for concept in concepts])
    panels[0].set_ylim(len(concepts) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
    style.note_data(figure, data)
    return figure


@style.styled
def plot_curve_concepts(effects: pd.DataFrame, data: str = "simulated") -> Figure:
    """Effects of the exposure's properties on the predicted midpoint, beside the network's own slope and the physics.

    Args:
        effects: rows of the phantom's concept_effects.csv: weights, member, concept, layer, effect, true_effect,
            true_se, physics_effect, in µm per standard deviation.
        data: `simulated`.
    """
    layer = chosen_layer(effects)
    shown = effects[(effects["layer"] == layer) & (effects["weights"] == "trained")]
    concepts = list(dict.fromkeys(shown["concept"]))
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.5 * len(concepts) + 1.3)
    axes = figure.subplots()
    for place, concept in enumerate(concepts):
        rows = shown[shown["concept"] == concept]
        first = place == 0
        axes.barh(place, rows["effect"].mean(), height=0.45, color=style.BLUE,
                  label="effect along the concept, mean of the members" if first else None)  # fmt: skip
        axes.plot(rows["effect"], [place] * len(rows), "|", color=style.SKY, markersize=9,
                  label="single members" if first else None)  # fmt: skip
        axes.errorbar(
            rows["true_effect"].mean(), place - 0.12, xerr=2 * rows["true_se"].mean(), fmt="D", color=style.BLACK,
            markerfacecolor="white", markersize=4, linewidth=0.8,
            label="slope of the prediction, ± 2 standard errors" if first else None,
        )  # fmt: skip
        axes.plot(rows["physics_effect"].iloc[0], place + 0.12, "s", color=style.VERMILION, markersize=4.5,
                  label="slope of the true curve" if first else None)  # fmt: skip
    axes.axvline(0, color=style.BLACK, linewidth=0.6)
    axes.set_yticks(range(len(concepts)), [concept_name(concept) for concept in concepts])
    axes.set_ylim(len(concepts) - 0.5, -0.5)
    axes.set_xlabel("change of the curve's midpoint in µm per standard deviation of the property")
    axes.grid(True, axis="x", **GRID)
    figure.legend(loc="outside upper center", ncols=2)
    style.note_data(figure, data)
    return figure


@style.styled
def plot_ladders(ladders: pd.DataFrame, data: str = "simulated") -> Figure:
    """The logit of an image's class along severities at which it was rendered, all else the same.

    Args:
        ladders: rows of concept_ladders.csv of one architecture: ladder, label_name, severity, output, weights.
        data: `simulated`.
    """
    states = [state for state in LOOKS if state in set(ladders["weights"])]
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.7)
    panels = figure.subplots(1, len(states), sharex=True, squeeze=False)[0]
    classes = list(dict.fromkeys(ladders["label_name"]))
    for axes, state in zip(panels, states, strict=True):
        rows = ladders[ladders["weights"] == state]
        for number, name in enumerate(classes):
            look = {"color": style.CYCLE[number % len(style.CYCLE)]}
            of_class = rows[rows["label_name"] == name]
            for _, ladder in of_class.groupby("ladder"):
                ladder = ladder.sort_values("severity")
                axes.plot(ladder["severity"], ladder["output"], linewidth=0.6, alpha=0.45, **look)
            mean = of_class.groupby("severity")["output"].mean()
            axes.plot(mean.index, mean, linewidth=2, label=name.replace("_", " "), **look)
        axes.set_title(LOOKS[state]["label"])
        axes.grid(True, **GRID)
        axes.set_xlabel("severity, 1 is typical")
    panels[0].set_ylabel("logit of the image's class")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=max(1, min(4, len(labels))))
    style.note_data(figure, data)
    return figure


@style.styled
def plot_bottleneck_curves(curves: pd.DataFrame, scores: pd.DataFrame, data: str = "simulated") -> Figure:
    """Accuracy of concept bottlenecks against the number of concepts that were set right, in random orders.

    Args:
        curves: rows of bottleneck_curves.csv of one network.
        scores: rows of bottleneck_scores.csv of the same.
        data: `simulated`.
    """
    sets = list(dict.fromkeys(curves["concepts"]))
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.9)
    panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, sets, strict=True):
        rows = curves[(curves["concepts"] == name) & (curves["order"] == "random")]
        for number, ((kind, weight), curve) in enumerate(
            rows.groupby(["bottleneck", "joint_weight"], sort=False, dropna=False)
        ):
            label = f"joint, weight {weight:g}" if kind == "joint" else kind
            look = {"color": style.CYCLE[number % len(style.CYCLE)], "marker": "osD^vX"[number % 6]}
            shift = 0.03 * (number - 2.5)
            error = [curve["accuracy"] - curve["ci_low"], curve["ci_high"] - curve["accuracy"]]
            axes.errorbar(
                curve["corrected"] + shift,
                curve["accuracy"],
                yerr=error,
                label=label,
                linewidth=1,
                elinewidth=0.6,
                **look,
            )
        for kind, look in (("black box", "--"), ("majority", ":")):
            value = scores[(scores["concepts"] == name) & (scores["bottleneck"] == kind)]["accuracy"].iloc[0]
            axes.axhline(value, color=style.GREY, linestyle=look, linewidth=0.9, label=kind, zorder=0)
        axes.set_title(name)
        axes.set_xlabel("concepts corrected")
        axes.set_xticks(sorted(set(rows["corrected"])))
        axes.grid(True, axis="y", **GRID)
    panels[0].set_ylabel("accuracy, with 95 % intervals")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    style.note_data(figure, data)
    return figure
