# All tables, figures and networks of the classification studies.
SCORE_TABLES = ("scores", "auc_by_severity", "confusion", "roc", "roc_band", "calibration", "comparison")
SEVERITY_FIGURES = ("severity", "auc_by_severity")
NETWORK_FIGURES = ("roc", "confusion", "calibration", "history", "embedding")
OVERVIEW = {
    "scores": f"{CLASSIFICATION}/tables/scores.csv",
    "scores_over_seeds": f"{CLASSIFICATION}/tables/scores_over_seeds.csv",
    "comparison": f"{CLASSIFICATION}/tables/comparison.csv",
    "auc_by_severity": f"{CLASSIFICATION}/tables/auc_by_severity.csv",
    "findings": f"{CLASSIFICATION}/findings.md",
}
DATASET_FIGURES = ("examples", "split", *SCORE_FIGURES, *ALIGNMENT)
CLASSIFICATION_TABLES = [
    *expand(
        f"{RESULTS}/{{dataset}}/tables/{{table}}.csv", dataset=CLASSIFICATIONS, table=(*SCORE_TABLES, *SALIENCY_TABLES)
    ),
    *expand(f"{RESULTS}/{{dataset}}/tables/{{table}}.csv", dataset=REGRESSIONS, table=REGRESSION_TABLES),
    *([path for path in OVERVIEW.values() if path.endswith(".csv")] if CLASSIFICATIONS else []),
    *(path for path in COMPARED if path.endswith(".csv")),
]
CLASSIFICATION_FIGURES = [
    *expand(f"{RESULTS}/{{dataset}}/figures/{{figure}}.png", dataset=CLASSIFICATIONS, figure=DATASET_FIGURES),
    *expand(f"{RESULTS}/{{dataset}}/figures/{{figure}}.png", dataset=GRADED, figure=SEVERITY_FIGURES),
    *(
        f"{RESULTS}/{name}/figures/{n.architecture}/{figure}.png"
        for name in CLASSIFICATIONS
        for n in DATASETS[name].networks
        for figure in (*NETWORK_FIGURES, *SALIENCY_FIGURES)
    ),
    *([f"{CLASSIFICATION}/figures/overview.png"] if CLASSIFICATIONS else []),
    *(path for name in REGRESSIONS for path in regression_figures(name).values()),
    *expand(f"{RESULTS}/{{dataset}}/figures/{{figure}}.png", dataset=REGRESSIONS, figure=("examples", "split")),
    *(path for path in COMPARED if path.endswith(".png")),
    *(expand(f"{RESULTS}/{{dataset}}/tables.html", dataset=CLASSIFICATIONS) if SALIENCY.methods else []),
]
# The main figures of a data set, in the order of its page.
PAGE_FIGURES = ("examples", "roc", "severity", "auc_by_severity", "saliency", "localisation", "fidelity")


def pictures_of(dataset):
    """Paths of the main figures of a data set, those of its networks one after the other."""
    made = [path for path in CLASSIFICATION_FIGURES if path.startswith(f"{RESULTS}/{dataset}/figures/")]
    return [path for name in PAGE_FIGURES for path in made if os.path.basename(path) == f"{name}.png"]


CLASSIFIERS = [
    f"{RESULTS}/{name}/models/{NETWORK.format(**n)}/weights.safetensors" for name in DATASETS for n in networks(name)
]


def tracked_dataset(name):
    """What the tracking stage needs of one data set: its configuration without the folder, networks and files."""
    return {
        "dataset": name,
        "config": plain(DATASETS[name], "path"),
        "models": [n | {"folder": f"{RESULTS}/{name}/models/{NETWORK.format(**n)}"} for n in networks(name)],
        "tables": [path for path in CLASSIFICATION_TABLES if path.startswith(f"{RESULTS}/{name}/")],
        "figures": [path for path in CLASSIFICATION_FIGURES if path.startswith(f"{RESULTS}/{name}/")],
    }
