"""The pages of scores of maps, docs/record/real-maps.md and docs/record/twin-maps.md, from the tables of a run."""

import re
from pathlib import Path

import pandas as pd

from xiqa.metrics.maps.beside import ours
from xiqa.report.pages import markdown

READING = """All methods explain the true class. **Bold**: better than the best control (random, centre prior, edges) on
the same images (docs/reference/metrics.md, Statistics). Intervals are 95 %
intervals over patients; n is the number of maps. Absolute maps; the CSV tables have the signed ones, and
relevance, agreement, severities and costs. [What the scores are](../reference/metrics.md); the AUC in the body counts
its pixels only, without the empty background."""
INTRODUCTIONS = {
    "real": """# Maps on real images

Numbers of one run of `snakemake --cores all classification --configfile config/real_data.yaml brain.yaml` at commit
`{commit}` ({machine}), where `brain.yaml` leaves the other real sets out; `python -m xiqa.report maps` made this page
from its tables. Set, networks and their scores: [real images](real-data.md). Its blocks stand for patients.

{reading}

The tumours lie near the middle: a Gaussian there has a high pixel AUC, so read the AUC inside the head, the Pointing
Game, and the controls.
""",
    "simulated": """# Maps on simulated images

Numbers of one run of the default study, `make results`, at commit `{commit}`
({machine}); `python -m xiqa.report maps` made this page from its tables. Every image is simulated
([twins](../reference/twins.md)); what these networks get right says nothing about real patients.

{reading}
""",
}


def page(folder: Path, commit: str, machine: str, datasets: list[str]) -> str:
    """The page as Markdown.

    Args:
        folder: results of the study.
        commit: commit that the study ran at.
        machine: how long it took, and on what.
        datasets: names of the data sets that the page has.
    """
    data = _table(folder, "pointing_game", datasets[0])["data"].iloc[0]
    parts = [INTRODUCTIONS[data].format(commit=commit, machine=machine, reading=READING)]
    for dataset in datasets:
        parts.append(f"""## {dataset}: maps against masks

{_maps_against_masks(folder, dataset)}

### Randomised networks

Mean ± standard deviation over networks (seeds).

{_randomised_maps(folder, dataset)}

### Smoothing, and another architecture

{_smoothing_and_architectures(folder, dataset)}

### Alignment of maps of layers

The same maps of one network, drawn as published or with each cell where padded strided convolutions have it.

{_alignments(folder, dataset)}
""")
    findings = (folder / "findings.md").read_text(encoding="utf-8").split("\n", 2)[2].replace("## ", "### ")
    text = re.sub(r"^!\[.*\n+", "", findings, flags=re.MULTILINE).strip()
    return "\n".join([*parts, "## Which can be trusted\n", text, ""])


def _table(folder: Path, name: str, dataset: str) -> pd.DataFrame:
    """A table of the maps, without the sign, of the first architecture where there are several."""
    table = pd.read_csv(folder / dataset / f"tables/{name}.csv")
    table = ours(table[table["form"] == "absolute"] if "form" in table else table)
    return table[table["architecture"] == "small_resnet"] if "architecture" in table else table


def _cell(row: pd.Series, name: str = "mean", low: str = "ci_low", high: str = "ci_high") -> str:
    """A number with its interval; bold where the method is better than the best control."""
    text = f"{row[name]:.2f} ({row[low]:.2f} to {row[high]:.2f})"
    return f"**{text}**" if str(row.get("verdict", "")).startswith("better") else text


def _maps_against_masks(folder: Path, dataset: str) -> str:
    """Scores of the trained networks' maps, methods by falling Pointing Game accuracy."""
    names = {"roc_auc": "roc_auc", "roc_auc_within": "roc_auc", "region_dice": "region_dice", "fidelity": "fidelity"}
    pointing = (
        _table(folder, "pointing_game", dataset)
        .query("weights == 'trained' and smoothing == 'none'")
        .set_index("method")
    )
    others = {
        metric: _table(folder, name, dataset).query("weights == 'trained' and metric == @metric").set_index("method")
        for metric, name in names.items()
    }
    rows = []
    for method in pointing["accuracy"].sort_values(ascending=False).index:
        found = [_cell(table.loc[method]) if method in table.index else "" for table in others.values()]
        rows.append([method, _cell(pointing.loc[method], "accuracy"), *found, f"{pointing.loc[method, 'n']:.0f}"])
    first = pointing.iloc[0]
    chance = f"Tolerance {first['tolerance_px']:.1f} px, chance by area {first['chance']:.2f}."
    heads = ["Method", "Pointing Game", "pixel AUC", "AUC in the body", "region Dice", "fidelity F", "n"]
    return f"{chance}\n\n{markdown(pd.DataFrame(rows, columns=heads))}"


def _randomised_maps(folder: Path, dataset: str) -> str:
    """Pointing Game accuracy of trained and randomised networks, with the spread over folds and trainings."""
    table = _table(folder, "randomisation", dataset).query("metric == 'pointing_game'")
    full = table[table["compared_with"] == "fully_random"].set_index("method")
    semi = table[table["compared_with"] == "semi_random"].set_index("method")
    rows = []
    for method in full["difference"].sort_values(ascending=False).index:
        of_full, of_semi = full.loc[method], semi.loc[method]
        rows.append([
            method, f"{of_full['trained']:.2f} ± {of_full['trained_sd_over_seeds']:.2f}",
            f"{of_semi['other']:.2f} ± {of_semi['other_sd_over_seeds']:.2f}",
            f"{of_full['other']:.2f} ± {of_full['other_sd_over_seeds']:.2f}", _cell(of_full, "difference"),
        ])  # fmt: skip
    return markdown(
        pd.DataFrame(rows, columns=["Method", "trained", "last layer random", "all random", "trained - all random"])
    )


def _smoothing_and_architectures(folder: Path, dataset: str) -> str:
    """What smoothing and another architecture do to the Pointing Game accuracy."""
    smoothing = _table(folder, "smoothing", dataset).query("weights == 'trained'").set_index("method")
    means = _table(folder, "difference_of_means", dataset).query("metric == 'pointing_game_smooth' and largest")
    means = means.set_index("method")
    rows = []
    for method in smoothing.index:
        change = smoothing.loc[method]
        told = f"{-change['difference']:+.2f} ({-change['ci_high']:+.2f} to {-change['ci_low']:+.2f})"
        mean = means.loc[method] if method in means.index else None
        interval = ""
        if mean is not None:
            networks = ", ".join(f"{mean[name]}={mean[f'mean_{name}']:.3f}" for name in ("first", "second"))
            interval = f"{_cell(mean, 'difference')}: {networks}"
        rows.append([method, told, interval])
    return markdown(pd.DataFrame(rows, columns=["Method", "smoothed - unsmoothed", "Difference of Means (smoothed)"]))


def _alignments(folder: Path, dataset: str) -> str:
    """Maps of layers as published and centred."""
    table = _table(folder, "alignment", dataset)
    rows = [
        [row["method"], row["metric"], f"{row['published']:.2f}", f"{row['centred']:.2f}", _cell(row, "difference")]
        for _, row in table.iterrows()
    ]
    return markdown(pd.DataFrame(rows, columns=["Method", "Score", "published", "centred", "centred - published"]))
