"""Pictures of the training: loss and error per epoch of each member, with the steps of the incremental training."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style

STEP_NAMES = {
    "no_margin": "no margin",
    "small_margins": "+ smaller margins",
    "large_margins": "+ largest margins",
    "recorded": "+ recorded",
}


@style.styled
def plot_history(histories: Mapping[str, pd.DataFrame], data: str = "simulated") -> Figure:
    """Negative log likelihood and root mean square error per epoch, one line per member.

    Args:
        histories: member -> history.csv (step_name, epoch, nll, rmse_um and, where a validation set was kept,
            validation_nll, validation_rmse_um).
        data: `simulated`, `recorded` or `mixed`.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 3.0)
    loss, error = figure.subplots(1, 2)
    for colour, (member, history) in zip(style.CYCLE * len(histories), histories.items(), strict=False):
        for axes, column in ((loss, "nll"), (error, "rmse_um")):
            axes.plot(history["epoch"], history[column], color=colour, label=member, linewidth=1)
            if f"validation_{column}" in history:
                axes.plot(history["epoch"], history[f"validation_{column}"], color=colour, linewidth=1, linestyle="--")
    first = next(iter(histories.values()))
    # A step begins where its name changes; it is marked between two epochs.
    starts = first[first["step_name"] != first["step_name"].shift()]
    for axes in (loss, error):
        for row in starts.itertuples():
            if row.epoch > first["epoch"].min():
                axes.axvline(row.epoch - 0.5, color=style.GREY, linewidth=0.6, linestyle=":")
            axes.text(
                row.epoch, 1.01, STEP_NAMES.get(row.step_name, row.step_name.replace("_", " ")), fontsize=6,
                rotation=20, transform=axes.get_xaxis_transform(), va="bottom", ha="left", color=style.GREY,
            )  # fmt: skip
        axes.set_xlabel("epoch")
    validated = any("validation_nll" in history for history in histories.values())
    loss.set_ylabel("negative log likelihood")
    error.set_ylabel("RMSE over the 12 points (µm)")
    error.set_yscale("log")
    style.plain_ticks(error.yaxis, (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5))
    handles, labels = loss.get_legend_handles_labels()
    handles += loss.plot([], [], color=style.GREY, linewidth=1)
    labels.append("training images" if validated else "training images;\nno validation part")
    if validated:
        handles += loss.plot([], [], color=style.GREY, linewidth=1, linestyle="--")
        labels.append("validation images")
    figure.legend(handles, labels, loc="outside right upper")
    style.note_data(figure, data)
    return figure
