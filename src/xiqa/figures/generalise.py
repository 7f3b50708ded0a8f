"""The picture of the study in which the shortcut cannot win."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.metrics.generalise import METHODS
from xiqa.names import group_name

TITLES = {"drawn": "held-out drawn settings"}
LOOKS = {
    method: {"color": colour, "marker": marker}
    for method, colour, marker in zip(METHODS, style.CYCLE, "vosD^", strict=False)
}


@style.styled
def plot_generalise(scores: pd.DataFrame) -> Figure:
    """Relative error of each method by diameter, one panel per test group.

    Args:
        scores: the table generalise_scores.csv.
    """
    scores = scores[scores["diameter_mm"].notna()]
    groups = list(scores["group"].unique())
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.8)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        for method, look in LOOKS.items():
            rows = scores[(scores["group"] == group) & (scores["method"] == method)].sort_values("diameter_mm")
            label = METHODS[method].removeprefix("the ") if axes is panels[0] else None
            axes.plot(rows["diameter_mm"], 100 * rows["relative_error"], markersize=3, label=label, **look)
        style.detail_axes(axes)
        axes.set_ylabel("mean relative error (%)" if axes is panels[0] else "")
        axes.set_title(TITLES.get(group) or group_name(group))
        style.plain_ticks(axes.yaxis, (1, 2, 5, 10, 20, 50, 100, 200, 500))
    figure.legend(loc="outside upper center", ncols=3)
    style.note_data(figure, "simulated")
    return figure
