# What the classification studies make: data sets, networks, their states and seeds, tables and figures.
import hashlib

DATASETS = study.datasets
CLASSIFICATIONS = [name for name, dataset in DATASETS.items() if dataset.task == "classification"]
REGRESSIONS = [name for name, dataset in DATASETS.items() if dataset.task == "regression"]
# Twins have images of rising severity; real sets have not.
GRADED = [
    name
    for name in CLASSIFICATIONS
    if (d := DATASETS[name]).simulated and d.twin.severities and d.twin.patients_per_severity
]
DATASET = f"{RESULTS}/{{dataset}}"
NETWORK = "{architecture}/{weights}/seed-{seed}"
CLASSIFICATION = f"{RESULTS}/classification"


def code_of_format(script, module, dataset):
    """Digest of a stage that loads the module of a data set's format, which must exist before any job starts."""
    return code(script, module, entries=[dataset.format])


TWIN_CODE = {
    name: code_of_format("write_twin.py", f"xiqa.datasets.twins.{dataset.format}", dataset)
    for name, dataset in DATASETS.items()
    if dataset.path is None
}
READER_CODE = {
    name: code_of_format("prepare.py", reader_module(dataset.format), dataset) for name, dataset in DATASETS.items()
}


wildcard_constraints:
    dataset="|".join(DATASETS) or "none",
    architecture="[a-z0-9_]+",
    weights="trained|semi_random|fully_random",
    seed="[0-9]+",


def network(wildcards):
    """The configured network of a data set, by its architecture."""
    return next(n for n in DATASETS[wildcards.dataset].networks if n.architecture == wildcards.architecture)


def weights_file(wildcards):
    """The user's own file of initial weights: missing, it stops before any job; changed, it is learnt from again."""
    weights = network(wildcards).weights
    return [] if weights in ("none", "imagenet") else weights


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


# Keys of a data set that the prepared images do not depend on.
NOT_OF_IMAGES = (
    "twin", "split", "seeds", "members", "weights", "channels", "networks", "training", "bright_above_hu", "explain",
    "target_units",
)  # fmt: skip


def source(wildcards):
    """Everything that determines the prepared images of a data set."""
    dataset = DATASETS[wildcards.dataset]
    return {
        "folder": dataset.path or f"{RESULTS}/{wildcards.dataset}/raw",
        "files": listing(dataset.path) if dataset.path else None,
        "dataset": plain(dataset, *NOT_OF_IMAGES),
        "seed": study.seed,
    }


def bright_above(wildcards):
    """The threshold of the bright-pixel baseline on the prepared scale of 0 to 1."""
    dataset = DATASETS[wildcards.dataset]
    if dataset.bright_above_hu is None:
        return None
    centre, width = dataset.window_hu
    return (dataset.bright_above_hu - centre + width / 2) / width


def picture(name, folder=f"{DATASET}/figures"):
    """One figure as an output of a rule; the page of its data set shows it with its caption."""
    return f"{folder}/{name}.png"
