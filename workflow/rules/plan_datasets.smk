# What the data sets of images make: networks, their states and seeds, maps, scores, tables and figures.

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
    name: code_of_format("data/write_twin.py", f"xiqa.datasets.twins.{dataset.format}", dataset)
    for name, dataset in DATASETS.items()
    if dataset.path is None
}
READER_CODE = {
    name: code_of_format("data/prepare.py", reader_module(dataset.format), dataset)
    for name, dataset in DATASETS.items()
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


# Which saliency methods explain which networks on which images, and what becomes of their maps.
SALIENCY = study.saliency
ATTRIBUTION_FAMILIES = SALIENCY.families
COSTLY_FAMILIES = {
    f for f, methods in ATTRIBUTION_FAMILIES.items() if base_method(methods[0]) in SALIENCY.costly_methods
}
SMOOTH_OPTIONS = {"smooth_samples": SALIENCY.samples, "smooth_noise_level": SALIENCY.noise_level}
FAMILY_OPTIONS = {
    "smoothgrad": {"samples", "noise_level"},
    "gradient_paths": {"steps", "baseline"},
    "guided_ig": {"baseline"},
    "xrai": {"steps"},
}
COMMON_OPTIONS = {"alignment", "memory_gb"}
RELEASED = [method for method in PUBLISHED_MAPS if method in (*SALIENCY.methods, *SALIENCY.costly_methods)]
MAPS_OF = f"{DATASET}/saliency/{NETWORK}"
SCORES_OF = f"{DATASET}/scores/{NETWORK}"


def entries_of(*methods):
    """The entries of these methods in the tables of all: their own, of what they are variants, of their parts."""
    names = {*methods, *map(base_method, methods)}
    return {*names, *(source for name in names for source in PUBLISHED_MAPS.get(name, ()))}


def first_network(dataset):
    """The network that the costly methods explain and that is scored by masking: the first, trained, of the first seed."""
    plan = DATASETS[dataset]
    return {"architecture": plan.networks[0].architecture, "weights": "trained", "seed": plan.seeds[0]}


def sampling_of(dataset, *keys):
    """How the large images of a data set are sampled; nothing where networks see all of them."""
    sampling = DATASETS[dataset].sampling
    return {key: getattr(sampling, key) for key in keys} if sampling else {}


def families_of(dataset, network):
    """Families of methods that explain a network."""
    wanted = {method_of(method).module for method in DATASETS[dataset].explain.every_network}
    left_out = set() if network == first_network(dataset) else COSTLY_FAMILIES - wanted
    if network["architecture"] in WITHOUT_RELU:
        left_out = left_out | {"relu_backward", "relu_backward_smooth"}
    return [family for family in ATTRIBUTION_FAMILIES if family not in left_out]


def what_is_explained(wildcards):
    """Which output of the networks of a data set the maps explain."""
    return {
        "explained_class": SALIENCY.explained_class,
        **plain(DATASETS[wildcards.dataset].explain, "every_network"),
    }


def methods_of(wildcards):
    """Methods that explain a network."""
    network = {name: wildcards[name] for name in ("architecture", "weights")} | {"seed": int(wildcards["seed"])}
    return [m for family in families_of(wildcards["dataset"], network) for m in ATTRIBUTION_FAMILIES[family]]


def maps_of(wildcards):
    """Paths of all maps of a network."""
    return [f"{MAPS_OF.format(**wildcards)}/{method}.npy" for method in methods_of(wildcards)]


def published_maps_of(wildcards):
    """Paths of the maps of a network as Özer released them, which rest on those of one pass."""
    network = {name: wildcards[name] for name in ("architecture", "weights")} | {"seed": int(wildcards["seed"])}
    made = RELEASED if "one_pass" in families_of(wildcards["dataset"], network) else []
    return [f"{MAPS_OF.format(**wildcards)}/published/{method}.npy" for method in made]


def scores_of_first(dataset, name):
    """Path of a file of scores of the first network of a data set."""
    return f"{SCORES_OF.format(dataset=dataset, **first_network(dataset))}/{name}"


def map_scores(dataset):
    """Paths of the scores of all maps of a data set, one row per map."""
    located = [f"{SCORES_OF.format(dataset=dataset, **n)}/localisation.parquet" for n in networks(dataset)]
    return [*located, scores_of_first(dataset, "masking.parquet")]


def pointing_games(dataset):
    """Paths of the Pointing Game of all maps of a data set against boxes, in our scoring and in that of Özer."""
    return [f"{SCORES_OF.format(dataset=dataset, **n)}/pointing_game.parquet" for n in networks(dataset)]


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


def has_published_signs(wildcards):
    """Whether our maps explain (2 label - 1) z of the one output z, so that the signs of Brocki 2022 are known."""
    return DATASETS[wildcards.dataset].training.one_output and SALIENCY.explained_class == "true_class"


def images_of(method):
    """Which of the chosen images the maps of a method show, as a pandas query."""
    return "costly" if base_method(method) in SALIENCY.costly_methods else "part == 'test'"


def severity_maps_of(wildcards):
    """Paths of the maps of images of rising severity, which the methods of low cost make for trained networks."""
    made = methods_of(wildcards) if wildcards["weights"] == "trained" else []
    return [f"{MAPS_OF.format(**wildcards)}/severity/{method}.npy" for method in made if images_of(method) != "costly"]


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
    m for m in SALIENCY.methods if method_of(m).module == "one_pass" and m not in ("gradient", "input_x_gradient")
]
ALIGNMENT = ("alignment",) if LAYER_METHODS else ()
SHARES = ("structure_share", "structure_share_summary")
SALIENCY_TABLES = ("saliency_checks", "classifier", *MAP_TABLES, *SHARES, *ALIGNMENT) if SALIENCY.methods else ()
REGRESSION_TABLES = ("scores", "comparison", *(("saliency_checks", *SHARES) if SALIENCY.methods else ()))
ENSEMBLE_MAPS = f"{DATASET}/saliency/{{architecture}}/trained/ensemble"
PAGE_TABLES = ("classifier", *MAP_TABLES, *ALIGNMENT)
SCORE_FIGURES = (
    ("localisation", "map_roc", "region_dice", "fidelity", *(["cascade"] if SALIENCY.cascade else []))
    if SALIENCY.methods
    else ()
)
SALIENCY_FIGURES = ("saliency",) if SALIENCY.methods else ()
CLAIMED_TABLES = ("roc_auc", "region_dice", "fidelity", "difference_of_means", "randomisation")
COMPARISON = {name: f"{RESULTS}/tables/{name}.csv" for name in ("leaderboard", "trust", "claims", "published")} | {
    "findings": f"{RESULTS}/findings.md"
}
COMPARED = [*COMPARISON.values(), f"{RESULTS}/figures/trust.png"] if CLASSIFICATIONS and SALIENCY.methods else []


ENSEMBLES = [name for name, dataset in DATASETS.items() if dataset.members > 1]


def maps_of_members(dataset, architecture):
    """Maps of all members of an ensemble, of each method that explains every one of them: method -> paths."""
    of_seeds = [
        [{"dataset": dataset, "architecture": architecture, "weights": "trained", "seed": str(seed)}]
        for seed in DATASETS[dataset].seeds
    ]
    shared = [m for m in methods_of(of_seeds[0][0]) if all(m in methods_of(names) for (names,) in of_seeds)]
    return {m: [f"{MAPS_OF.format(**names)}/{m}.npy" for (names,) in of_seeds] for m in shared}


def structure_maps(dataset):
    """Maps of the first trained network of a data set and of its ensemble, whose shares on the masks are tabulated."""
    first = {"dataset": dataset, **first_network(dataset)}
    groups = [
        (f"seed {first['seed']}", method, f"{MAPS_OF.format(**first)}/{method}.npy") for method in methods_of(first)
    ]
    if DATASETS[dataset].members > 1:
        folder = ENSEMBLE_MAPS.format(**first)
        groups += [("ensemble", m, f"{folder}/{m}.npy") for m in maps_of_members(dataset, first["architecture"])]
    return [{"group": group, "method": m, "path": path, "images": images_of(m)} for group, m, path in groups]


def shown_members(dataset):
    """Mean and spread of the ensemble's maps that a figure shows: those of its costly methods, else of the gradient."""
    if DATASETS[dataset].members == 1 or not SALIENCY.methods:
        return {}
    first = {"dataset": dataset, **first_network(dataset)}
    folder = ENSEMBLE_MAPS.format(**first)
    costly = [m for m in maps_of_members(dataset, first["architecture"]) if images_of(m) == "costly"]
    parts = {"": "", ", spread over members": "spread/"}
    return {f"{m}{end}": f"{folder}/{part}{m}.npy" for m in costly for end, part in parts.items()}


def regression_figures(dataset):
    """Figures of a regression: name -> path."""
    names = ["predictions", "shortcuts", "history"]
    names += ["structure_share"] if SALIENCY.methods else []
    names += ["ensemble_maps"] if shown_members(dataset) else []
    return {name: picture(name).format(dataset=dataset) for name in names}


# Maps of large images, upsampled: of the first network, by number among the explained test images.
UPSAMPLED_SETS = [name for name, dataset in DATASETS.items() if dataset.sampling]
UPSAMPLED_OF = f"{DATASET}/upsampled/{{method}}/{{index}}"


def upsampled_maps(dataset):
    """Method and number of all upsampled maps of a data set."""
    sampling = DATASETS[dataset].sampling
    return [(method, number) for method in sampling.methods for number in range(sampling.images)]


# Concepts: asked of the trained network and its random states, of the first seed.
CONCEPT_SETS = [name for name, dataset in DATASETS.items() if dataset.concepts]
DESIGNED = f"{DATASET}/concepts/designed"
CONCEPT_TABLES = (
    "measure_correlations",
    "concept_effects",
    "concept_agreement",
    "concept_ladders",
    "bottleneck_scores",
    "bottleneck_curves",
)
CONCEPT_FIGURES = ("concept_effects", "concept_ladders", "bottleneck_curves")
COUNTERFACTUAL_SETS = [name for name, dataset in DATASETS.items() if dataset.counterfactuals]


def rendering_code(script, name):
    """Digest of a stage that renders images of a twin anew."""
    form = DATASETS[name].format
    return code(script, f"xiqa.datasets.twins.{form}", reader_module(form), entries=[form])


DESIGN_CODE = {name: rendering_code("concepts/design_set.py", name) for name in CONCEPT_SETS}
COUNTERFACTUAL_CODE = {name: rendering_code("concepts/score_counterfactuals.py", name) for name in COUNTERFACTUAL_SETS}


def weights_of_first(dataset):
    """Path of the weights of the first network of a data set."""
    return f"{RESULTS}/{dataset}/models/{NETWORK.format(**first_network(dataset))}/weights.safetensors"


CASE_SETS = [name for name, dataset in DATASETS.items() if dataset.nearest_cases]


def concept_networks(dataset):
    """Networks of the first seed of a data set, whose concepts are asked for."""
    return [n for n in networks(dataset) if n["seed"] == DATASETS[dataset].seeds[0]]


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
    *(f"{RESULTS}/{name}/tables/upsampled.csv" for name in UPSAMPLED_SETS),
    *expand(f"{RESULTS}/{{dataset}}/tables/{{table}}.csv", dataset=CONCEPT_SETS, table=CONCEPT_TABLES),
    *expand(
        f"{RESULTS}/{{dataset}}/tables/{{table}}.csv",
        dataset=COUNTERFACTUAL_SETS,
        table=("counterfactuals", "counterfactual_scores"),
    ),
    *expand(
        f"{RESULTS}/{{dataset}}/tables/{{table}}.csv", dataset=CASE_SETS, table=("nearest_cases", "nearest_scores")
    ),
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
    *(f"{RESULTS}/{name}/figures/upsampled_maps.png" for name in UPSAMPLED_SETS),
    *expand(f"{RESULTS}/{{dataset}}/figures/{{figure}}.png", dataset=CONCEPT_SETS, figure=CONCEPT_FIGURES),
    *expand(f"{RESULTS}/{{dataset}}/figures/nearest_cases.png", dataset=CASE_SETS),
    *expand(f"{RESULTS}/{{dataset}}/figures/counterfactuals.png", dataset=COUNTERFACTUAL_SETS),
]
# The main figures of a data set, in the order of its page.
PAGE_FIGURES = (
    "examples",
    "roc",
    "severity",
    "auc_by_severity",
    "saliency",
    "localisation",
    "fidelity",
    "upsampled_maps",
)


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
