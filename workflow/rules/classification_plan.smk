# What the classification studies make: data sets, networks, their states and seeds, tables and figures.
import hashlib

DATASETS = study.datasets
# Twins have images of rising severity; real sets have not.
GRADED = [name for name, d in DATASETS.items() if d.path is None and d.twin.severities and d.twin.patients_per_severity]
DATASET = f"{RESULTS}/{{dataset}}"
NETWORK = "{architecture}/{weights}/seed-{seed}"
CLASSIFICATION = f"{RESULTS}/classification"


wildcard_constraints:
    dataset="|".join(DATASETS) or "none",
    architecture="[a-z0-9_]+",
    weights="trained|semi_random|fully_random",
    seed="[0-9]+",


def network(wildcards):
    """The configured network of a data set, by its architecture."""
    return next(n for n in DATASETS[wildcards.dataset].networks if n.architecture == wildcards.architecture)


def networks(dataset):
    """Wildcards of all networks of a data set, in the order of the configuration."""
    return [
        {"architecture": n.architecture, "weights": state, "seed": seed}
        for n in DATASETS[dataset].networks
        for state in n.states
        for seed in DATASETS[dataset].seeds
    ]


def listing(folder):
    """Digest of names, sizes and times of the files of a real data set: preparing depends on them."""
    if not os.path.isdir(folder):
        raise ValueError(f"datasets: the folder {folder} does not exist; correct `path`, or take it out for the twin")
    files = sorted(
        (os.path.relpath(entry.path, folder), (status := entry.stat()).st_size, status.st_mtime_ns)
        for parent, _, _ in os.walk(folder)
        for entry in os.scandir(parent)
        if entry.is_file()
    )
    return hashlib.sha256(repr(files).encode()).hexdigest()


def source(wildcards):
    """Everything that determines the prepared images of a data set."""
    dataset = DATASETS[wildcards.dataset]
    return {
        "folder": dataset.path or f"{RESULTS}/{wildcards.dataset}/raw",
        "files": listing(dataset.path) if dataset.path else None,
        "dataset": plain(dataset, "twin", "split", "seeds", "networks", "training", "bright_above_hu"),
        "seed": study.seed,
    }


def bright_above(wildcards):
    """The threshold of the bright-pixel baseline on the prepared scale of 0 to 1."""
    dataset = DATASETS[wildcards.dataset]
    if dataset.bright_above_hu is None:
        return None
    centre, width = dataset.window_hu
    return (dataset.bright_above_hu - centre + width / 2) / width


SALIENCY = study.saliency
ATTRIBUTION_FAMILIES = {
    family: [m for m in (*SALIENCY.methods, *SALIENCY.costly_methods) if ATTRIBUTIONS[m] == family]
    for family in dict.fromkeys(ATTRIBUTIONS[m] for m in (*SALIENCY.methods, *SALIENCY.costly_methods))
}
COSTLY_FAMILIES = {ATTRIBUTIONS[method] for method in SALIENCY.costly_methods}
FAMILY_OPTIONS = {"smoothgrad": {"samples", "noise_level"}, "gradient_paths": {"steps"}}
COMMON_OPTIONS = {"alignment", "memory_gb"}
MAPS_OF = f"{DATASET}/saliency/{NETWORK}"
SCORES_OF = f"{DATASET}/scores/{NETWORK}"


def first_network(dataset):
    """The network that the costly methods explain and that is scored by masking: the first, trained, of the first seed."""
    plan = DATASETS[dataset]
    return {"architecture": plan.networks[0].architecture, "weights": "trained", "seed": plan.seeds[0]}


def families_of(dataset, network):
    """Families of methods that explain a network."""
    first = network == first_network(dataset)
    return [family for family in ATTRIBUTION_FAMILIES if first or family not in COSTLY_FAMILIES]


def methods_of(wildcards):
    """Methods that explain a network."""
    network = {name: wildcards[name] for name in ("architecture", "weights")} | {"seed": int(wildcards["seed"])}
    return [m for family in families_of(wildcards["dataset"], network) for m in ATTRIBUTION_FAMILIES[family]]


def maps_of(wildcards):
    """Paths of all maps of a network."""
    return [f"{MAPS_OF.format(**wildcards)}/{method}.npy" for method in methods_of(wildcards)]


def scores_of_first(dataset, name):
    """Path of a file of scores of the first network of a data set."""
    return f"{SCORES_OF.format(dataset=dataset, **first_network(dataset))}/{name}"


def map_scores(dataset):
    """Paths of the scores of all maps of a data set, one row per map."""
    located = [f"{SCORES_OF.format(dataset=dataset, **n)}/localisation.parquet" for n in networks(dataset)]
    return [*located, scores_of_first(dataset, "masking.parquet")]


def costs_of(dataset):
    """Paths of what the maps of the first network of a data set cost."""
    network = first_network(dataset)
    folder = MAPS_OF.format(dataset=dataset, **network)
    return [f"{folder}/{family}_cost.csv" for family in families_of(dataset, network)]


def first_seed(wildcards):
    """The seed whose network figures show."""
    return DATASETS[wildcards.dataset].seeds[0]


def trained(wildcards):
    """Wildcards of the trained network of an architecture that figures show."""
    return {**wildcards, "weights": "trained", "seed": first_seed(wildcards)}


def images_of(method, wildcards):
    """Which of the chosen images a method explains, as a pandas query; severities only for trained networks."""
    if method in SALIENCY.costly_methods:
        return "costly"
    return "row >= 0" if wildcards["weights"] == "trained" else "part == 'test'"


MAP_TABLES = (
    "pointing_game",
    "smoothing",
    "randomisation",
    "difference_of_means",
    "roc_auc",
    "region_dice",
    "relevance",
    "fidelity",
    "dose_response",
    "averaged",
    "agreement",
    *(["cascade"] if SALIENCY.cascade else []),
)
# Those of one pass whose maps lie on the cells of a layer.
LAYER_METHODS = [
    m for m in SALIENCY.methods if ATTRIBUTIONS[m] == "one_pass" and m not in ("gradient", "input_x_gradient")
]
ALIGNMENT = ("alignment",) if LAYER_METHODS else ()
SALIENCY_TABLES = ("saliency_checks", "classifier", *MAP_TABLES, *ALIGNMENT) if SALIENCY.methods else ()
PAGE_TABLES = ("classifier", *MAP_TABLES, *ALIGNMENT)
SCORE_FIGURES = (
    ("localisation", "map_roc", "region_dice", "fidelity", *(["cascade"] if SALIENCY.cascade else []))
    if SALIENCY.methods
    else ()
)
SCORE_TABLES = ("scores", "auc_by_severity", "confusion", "roc", "roc_band", "calibration", "comparison")
DATASET_FIGURES = ("examples", "split", *SCORE_FIGURES, *ALIGNMENT)
SEVERITY_FIGURES = ("severity", "auc_by_severity")
NETWORK_FIGURES = ("roc", "confusion", "calibration", "history", "embedding")
SALIENCY_FIGURES = ("saliency",) if study.saliency.methods else ()
OVERVIEW = {
    "scores": f"{CLASSIFICATION}/tables/scores.csv",
    "scores_over_seeds": f"{CLASSIFICATION}/tables/scores_over_seeds.csv",
    "comparison": f"{CLASSIFICATION}/tables/comparison.csv",
    "auc_by_severity": f"{CLASSIFICATION}/tables/auc_by_severity.csv",
    "findings": f"{CLASSIFICATION}/findings.md",
}
CLAIMED_TABLES = ("roc_auc", "region_dice", "fidelity", "difference_of_means", "randomisation")
COMPARISON = {name: f"{RESULTS}/tables/{name}.csv" for name in ("leaderboard", "trust", "claims", "published")} | {
    "findings": f"{RESULTS}/findings.md"
}
COMPARED = [*COMPARISON.values(), f"{RESULTS}/figures/trust.png"] if DATASETS and SALIENCY.methods else []
CLASSIFICATION_TABLES = [
    *expand(f"{RESULTS}/{{dataset}}/tables/{{table}}.csv", dataset=DATASETS, table=(*SCORE_TABLES, *SALIENCY_TABLES)),
    *([path for path in OVERVIEW.values() if path.endswith(".csv")] if DATASETS else []),
    *(path for path in COMPARED if path.endswith(".csv")),
]
CLASSIFICATION_FIGURES = [
    *expand(f"{RESULTS}/{{dataset}}/figures/{{figure}}.png", dataset=DATASETS, figure=DATASET_FIGURES),
    *expand(f"{RESULTS}/{{dataset}}/figures/{{figure}}.png", dataset=GRADED, figure=SEVERITY_FIGURES),
    *(
        f"{RESULTS}/{name}/figures/{n.architecture}/{figure}.png"
        for name, dataset in DATASETS.items()
        for n in dataset.networks
        for figure in (*NETWORK_FIGURES, *SALIENCY_FIGURES)
    ),
    *([f"{CLASSIFICATION}/figures/overview.png"] if DATASETS else []),
    *(path for path in COMPARED if path.endswith(".png")),
    *(expand(f"{RESULTS}/{{dataset}}/tables.html", dataset=DATASETS) if SALIENCY.methods else []),
]
CLASSIFIERS = [
    f"{RESULTS}/{name}/models/{NETWORK.format(**n)}/weights.safetensors" for name in DATASETS for n in networks(name)
]


def picture(name, category, folder=f"{DATASET}/figures"):
    """One figure as an output of a rule, with its caption in the report."""
    return report(f"{folder}/{name}.png", caption=f"../report/{name}.rst", category=category)


def tracked_dataset(name):
    """What the tracking stage needs of one data set: its configuration without the folder, networks and files."""
    return {
        "dataset": name,
        "config": plain(DATASETS[name], "path"),
        "models": [n | {"folder": f"{RESULTS}/{name}/models/{NETWORK.format(**n)}"} for n in networks(name)],
        "tables": [path for path in CLASSIFICATION_TABLES if path.startswith(f"{RESULTS}/{name}/")],
        "figures": [path for path in CLASSIFICATION_FIGURES if path.startswith(f"{RESULTS}/{name}/")],
    }
