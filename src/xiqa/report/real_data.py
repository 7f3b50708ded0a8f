"""The page of networks on real images, docs/record/real-data.md, from the tables of a run."""

import re
from pathlib import Path

import pandas as pd

from xiqa.metrics.statistics import interval

SETS = {
    "brain_blocks": "Brain tumours, divided by blocks",
    "brain_leaky": "Brain tumours, divided by image: **leakage**",
    "ct_slices": "CT contrast agent",
    "covid_masks": "COVID-19 chest X-ray",
}


TEXTS = {
    "brain_blocks": """
Set: 1,050 slices (350 per class) of J. Cheng, *Brain tumor dataset*, figshare 1512427, as 8-bit JPG, with masks
from its contours. Patient ids are not known here: 60 neighbouring file numbers make a block, blocks are the
proxy groups. Fold k tests every tenth block from the k-th, and the blocks beside a test block are left out of
training (`gap: 1`), because a patient may lie in two. Two folds, two trainings of each. Small ResNet without
its first pooling, 128 px, from scratch, 40 epochs, batch 16, bf16 where the processor has it, no validation
part: on few blocks the best epoch is a matter of luck (validation accuracy jumped between 0.45 and 0.91 from
epoch to epoch).

Another question is harder: when folds are runs of neighbouring blocks instead, so that nothing like the test
blocks was seen, accuracy was 0.62 and AUC 0.82 over ten folds, from 0.39 to 0.84 (commit 7e26aea, 25 epochs,
best epoch by validation), and 0.64 and 0.83 over four folds with a network eight times larger (commit c28ffa1):
acquisition changes along the file numbers. Recipes were tried on such runs; of the folds reported here only
five instead of ten were tried before (410 training slices instead of about 700: accuracy 0.65, AUC 0.91 over
two folds).""",
    "brain_leaky": """
The same images divided at random: slices of one patient lie in training and test. What the score gains here is
leakage, not skill.""",
    "ct_slices": """
Set: 100 DICOM slices of 54 patients, the Kaggle copy (kmader/siim-medical-images) of TCIA lung collections; 6
pairs of exact duplicates are kept together. Window 50 ± 250 HU, five folds by patient. Shortcuts: header fields
(scanner and such), intensity statistics, and the share of pixels above 100 HU alone (`bright pixels`).""",
    "covid_masks": """
Set: 168 frontal X-rays of 116 patients from the covid-chestxray-dataset (ieee8023), with model-made lung masks.
The classes come from other sources, with other sizes, borders, letters and arrows. The shortcuts measure that:
`header` (size and such) and `mask presence` (whether a lung mask exists, which says nothing about a lung)
predict the label better than the network does. A network that scored well here could have learnt the source.""",
}


def page(folder: Path, commit: str, machine: str) -> str:
    """The page as Markdown.

    Args:
        folder: results of the study.
        commit: commit that the study ran at.
        machine: how long it took, and on what.
    """
    parts = [
        f"""# Real images

Numbers of one run of `snakemake --cores all classification --configfile config/real_data.yaml` at commit `{commit}`
({machine}), with `XIQA_REAL_DATA` set to the folder of the sets. `python -m xiqa.report real_data` made this page from
the tables of that run; a short form of the run is a test (`tests/workflow/test_real_data.py`). The sets are small: read
the intervals and the spread between folds, not the third digit.
"""
    ]
    for dataset, title in SETS.items():
        parts += [
            f"## {title}\n\n{TEXTS[dataset].strip()}\n",
            f"Accuracy over all folds: {_pooled_accuracy(folder, dataset)}. "
            f"Training: {_training_minutes(folder, dataset)} per fold.\n",
            f"{_scores(folder, dataset)}\n",
        ]
    findings = (folder / "classification/findings.md").read_text(encoding="utf-8")
    findings = findings.split("## Test AUC")[0].split("\n", 2)[2]
    text = re.sub(r"^!\[.*\n+", "", findings, flags=re.MULTILINE).replace("## ", "### ").strip()
    return "\n".join([*parts, "## Findings, as the study writes them\n", text, ""])


def _pooled_accuracy(folder: Path, dataset: str) -> str:
    """Accuracy over all tested images with its interval over patients or proxy groups."""
    parts = [
        pd.read_parquet(path)
        for path in sorted(folder.glob(f"{dataset}/predictions/small_resnet/trained/seed-*.parquet"))
    ]
    tested = pd.concat([part[part["part"] == "test"] for part in parts], ignore_index=True)
    probabilities = tested[sorted(c for c in tested if c.startswith("probability_"))].to_numpy()
    right = (probabilities.argmax(1) == tested["label"]).to_numpy(float)
    low, high = interval(right, tested["patient"])
    return (
        f"{right.mean():.3f} (95 % interval {low:.3f} to {high:.3f}; {tested['patient'].nunique()} patients or blocks, "
        f"{len(tested)} tested images)"
    )


def _scores(folder: Path, dataset: str) -> str:
    """Mean over folds, lowest and highest, of the network and the shortcuts."""
    over_seeds = pd.read_csv(folder / "classification/tables/scores_over_seeds.csv")
    rows = over_seeds[(over_seeds["dataset"] == dataset) & (over_seeds["weights"] == "trained")]
    lines = ["| | Accuracy | Balanced accuracy | AUC |", "|---|---|---|---|"]
    for name, of_name in rows.groupby("architecture", sort=False):
        of_name = of_name.set_index("metric")
        cells = [
            f"{row['mean']:.3f} ({row['lowest']:.3f} to {row['highest']:.3f})"
            for row in (of_name.loc[metric] for metric in ("accuracy", "balanced_accuracy", "auc"))
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    folds = int(rows["seeds"].max())
    return "\n".join([f"Mean over {folds} folds (lowest to highest); AUC over more than two classes is the mean of "
                      "each against the rest.", "", *lines])  # fmt: skip


def _training_minutes(folder: Path, dataset: str) -> str:
    """Seconds of the trainings, from Snakemake's benchmarks."""
    files = folder.glob(f"benchmarks/train_network/{dataset}/small_resnet/trained/*.jsonl")
    seconds = [pd.read_json(path, lines=True)["s"].iloc[-1] for path in files]
    return f"{min(seconds) / 60:.1f} to {max(seconds) / 60:.1f} minutes on one of two cores"
