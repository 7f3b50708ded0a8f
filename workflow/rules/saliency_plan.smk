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
