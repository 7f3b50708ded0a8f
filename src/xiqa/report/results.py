"""The page of results of the CDC ensemble, docs/record/results.md, from the tables of a run."""

from pathlib import Path

import pandas as pd

from xiqa.report.pages import markdown

CURVE_GROUPS = ["scenario_1", "scenario_2", "scenario_3", "scenario_4", "ood", "recorded_standin"]


def page(folder: Path, commit: str, command: str) -> str:
    """The page as Markdown.

    Args:
        folder: results of the study.
        commit: commit that the study ran at.
        command: what was run, how long it took, and on what.
    """

    text, scores = _of_predictions(folder)
    verdicts = scores.groupby("against_shortcut", sort=False)["group"].agg(", ".join)

    def table(name: str) -> pd.DataFrame:
        return _table(folder, name)

    return f"""# Results of the study of record (simulated images)

Numbers of one run of {command} at commit `{commit}`. Every image is simulated; "recorded_standin" is
another virtual system, not a recording. `python -m xiqa.report results` made this page from the tables of that run.

{text}

## Contrast-detail curves read out (cdc_um; 64 images per setting; * censored)

{_by_setting(table("cdc"), "cdc_um", ".3f")}
![Curves](../pictures/curves_read_out.png)

Coefficient of variation in per cent of a curve from 16 images, resampled from the 64 (* censored in some draws):

{_by_setting(table("cdc_variation"), "coefficient_of_variation", ".1f", 100)}
docs/explanation/reader.md sets these beside what sixteen images can give at best.

## Predictions

RMSE of the midpoint in µm with its 95 % bootstrap interval over images; relative error and coverage over
uncensored points.

{_markdown(scores)}
The labels of `published` images follow from contrast and noise alone, and noise does not follow dose: background mean
and standard deviation fix the curve. The ensemble against the shortcut, by the interval of the difference of squared
errors on the same images: {"; ".join(f"{verdict} in {groups}" for verdict, groups in verdicts.items())}.

![Ensemble, shortcut, training mean](../pictures/shortcut.png)

Ways to a curve against the analytic curve of each simulated group (docs/explanation/graded.md), from so many images
each:

{_markdown(table("curve_methods"))}
![Ways to a curve](../pictures/curve_methods.png)

Calibration of the uncertainty on validation settings, each judged by the factor from the others:

{_markdown(table("uncertainty_calibration"))}
{_of_maps(folder)}"""


def _table(folder: Path, name: str) -> pd.DataFrame:
    """A table of the study."""
    return pd.read_csv(folder / "cdmam/tables" / f"{name}.csv")


def _of_predictions(folder: Path) -> tuple[str, pd.DataFrame]:
    """The findings without their pictures, and the scores of the predictions."""
    lines = (
        (folder / "cdmam/findings.md").read_text(encoding="utf-8").split("\n", 2)[2].strip().splitlines(keepends=True)
    )
    text = "".join(line for line in lines if not line.startswith("!["))
    scores = _table(folder, "prediction_scores")[
        ["group", "n", "rmse_midpoint_um", "rmse_midpoint_low_um", "rmse_midpoint_high_um", "rmse_shortcut_um",
         "rmse_train_mean_um", "relative_error", "coverage_95", "coverage_95_calibrated", "censored_share",
         "against_shortcut"]
    ]  # fmt: skip
    return text, scores


def _of_maps(folder: Path) -> str:
    """What the page says of maps: modified images, shares, upsampling, OMIG's parameters."""
    modified = _table(folder, "modified_image_summary")[
        ["group", "method", "form", "n", "lowered", "lowered_share_low", "lowered_share_high", "median_change_um",
         "median_change_low_um", "median_change_high_um", "p_value"]
    ]  # fmt: skip
    shares = _table(folder, "structure_share_summary").query("method == 'omig'")
    shares = shares.assign(
        structure=[
            s if pd.isna(d) else f"disc {d:g} mm"
            for s, d in zip(shares["structure"], shares["diameter_mm"], strict=True)
        ]
    )
    overall = shares.query("group == 'all'")[
        ["structure", "n", "share_abs", "share_area", "enrichment", "enrichment_low", "enrichment_high", "share_signed"]
    ]
    groups = shares.query("group != 'all'").pivot(index="structure", columns="group", values="enrichment")
    groups = groups.reindex(overall["structure"]).reset_index()
    upsampling = _table(folder, "upsampling").groupby("method", sort=False).agg(
        images=("image", "size"), draws=("draws", "first"), seconds_median=("seconds", "median"),
        mean_visits_median=("mean_visits", "median"), never_visited_largest=("never_visited", "max"),
        relative_standard_error_median=("relative_standard_error", "median"),
    ).reset_index()  # fmt: skip
    parameters = _table(folder, "omig_parameters")
    parameters["change_percent"] = 100 * (parameters["midpoint_after_um"] / parameters["midpoint_before_um"] - 1)
    parameters = parameters.groupby(["c", "steps"])[["change_percent", "map_norm"]].median().reset_index()
    above, below = overall["enrichment_low"] > 1, overall["enrichment_high"] < 1
    return f"""## Does a map do what it promises?

{_markdown(modified)}
Maps other than the first method's are scaled to its norm. Wilson intervals for shares, bootstrap over images for
medians.

![Modified images](../pictures/figure_13_modified_curves.png)

## Where the OMIG map lies (share of |map| over share of area, bootstrap interval over images)

{_markdown(overall)}
More than by area (interval above 1): {_named(overall[above], "structure")}. Less (interval below 1):
{_named(overall[below], "structure")}. The paper's words were that large discs are used, small ones are not, grid and
writing are used, and no discs in scenario #4.

By group, share over area:

{_markdown(groups)}
![Structure share](../pictures/structure_share.png)

## Upsampling

{_markdown(upsampling)}
`never_visited` is a share of the pixels: a margin makes the image larger than what one cycle of so many draws without
replacement covers. A pixel that no draw visited has the value 0 in the map.

Drawing with and without replacement, at equal cost:

{_markdown(_table(folder, "upsampling_designs"))}
## Length of the path: c and L

Median over one sampled image per group of the change of its own midpoint:

{_markdown(parameters)}
c acts on the normalised input, and the gradient is in µm of threshold thickness per standard deviation. With c = 1, the
paper's, a pixel hardly moves: the path is straight, OMIG is the gradient less its outliers, and at equal norm no map
can lower the midpoint more than the gradient does. From c = 100 on, which the studies use, the path bends;
`config/paper_amanova_2022.yaml` keeps 1."""


def _markdown(rows: pd.DataFrame) -> str:
    """A table with four significant digits."""
    return markdown(rows.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)) + "\n"


def _named(rows: pd.DataFrame, column: str) -> str:
    """Names in one column, or that there are none."""
    return ", ".join(rows[column]) or "none"


def _by_setting(rows: pd.DataFrame, column: str, digits: str, scale: float = 1.0) -> str:
    """Diameters down, test settings across; a star where a point is censored."""
    rows = rows[rows["setting"].isin(CURVE_GROUPS)]
    text = (scale * rows[column]).map(lambda v: format(v, digits)) + rows["censored"].gt(0).map({True: "*", False: ""})
    wide = rows.assign(text=text).pivot(index="diameter_mm", columns="setting", values="text")
    wide = wide.sort_index(ascending=False)[[group for group in CURVE_GROUPS if group in wide]].reset_index()
    return _markdown(wide.astype({"diameter_mm": str}))
