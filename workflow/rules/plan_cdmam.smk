# What the CDMAM chain makes: settings, images, members, maps, tables and figures, and what determines each.
from pathlib import Path

from xiqa.cdmam.samples import even_shares, parts_of_recordings

# name -> (exposure, detector, images to read out)
SIMULATED = {
    **{s.name: (s, cdmam.detector, cdmam.readout.images) for s in cdmam.training_settings},
    **{s.name: (s, cdmam.standin_detector, cdmam.readout.images) for s in cdmam.standin_training_settings},
    **{s.name: (s, cdmam.detector, cdmam.readout.images) for s in cdmam.validation_settings},
    **{
        group: (
            exposure,
            cdmam.standin_detector if group == "recorded_standin" else cdmam.detector,
            cdmam.readout.images_scenarios,
        )
        for group, exposure in cdmam.scenarios.items()
    },
}
RECORDED = {f"recording_{number}": folder for number, folder in enumerate(cdmam.recordings, 1)}
FINE_TUNING = list(RECORDED) or [s.name for s in cdmam.standin_training_settings]
TRAINING_SETTINGS = [*(s.name for s in cdmam.training_settings), *FINE_TUNING]
VALIDATION_SETTINGS = [s.name for s in cdmam.validation_settings]
# Not trained on: their curves are fitted apart from those of the training settings.
UNTRAINED = [*cdmam.scenarios, *VALIDATION_SETTINGS]
CURVE_FIT = {
    "human": cdmam.readout.human,
    "bootstrap": cdmam.readout.bootstrap,
    "labels": cdmam.readout.labels,
    "seed": study.seed,
}

OWN_LABELS = {"own_labels": cdmam.readout.human} if cdmam.readout.labels_per == "image" else {}


def recorded_images(setting):
    """The DICOM images of one folder of recordings, in the order of their names."""
    from xiqa.cdmam.folder import find_images

    folder = Path(RECORDED[setting])
    files = [str(path) for path in find_images(folder).paths]
    if len(files) < 2:
        raise ValueError(
            f"{folder}: found {len(files)} files, expected the DICOM files of one exposure setting (16 or more)"
        )
    return files


def simulation(setting):
    """Everything that determines the images of one simulated setting."""
    exposure, detector, readouts = SIMULATED[setting]
    return {
        "exposure": plain(exposure),
        "detector": plain(detector),
        "geometry": cdmam.geometry,
        "seed": study.seed,
        "readouts": readouts,
    }


def sampling_plan(setting):
    """Which images of a setting are sampled: their step or group, margin, and samplings per image."""
    images, margins = cdmam.images, list(cdmam.margins_mm)
    small = 1 + cdmam.small_margins
    if setting in cdmam.scenarios:
        number = {"ood": images.ood, "recorded_standin": images.recorded_standin}.get(setting, images.test)
        # Each group begins with another margin: its first images are the ones that are shown and explained.
        first = list(cdmam.scenarios).index(setting) % len(margins)
        part, counts, samplings = "test", {"test": (number, margins[first:] + margins[:first])}, 1
    elif setting in VALIDATION_SETTINGS:
        part, counts, samplings = "validation", {"validation": (images.validation, margins)}, 1
    elif setting in {s.name for s in cdmam.standin_training_settings}:
        part, counts, samplings = "train", {"recorded": (images_recorded(setting), margins)}, cdmam.sampling.samplings
    else:
        part, samplings = "train", cdmam.sampling.samplings
        counts = {
            "no_margin": (images.no_margin, margins[:1]),
            "small_margins": (images.small_margins, margins[1:small]),
            "large_margins": (images.large_margins, margins[small:]),
        }
    rows = [
        {"step": step, "margin_mm": chosen[number % len(chosen)]}
        for step, (count, chosen) in counts.items()
        for number in range(count if chosen else 0)
    ]
    return {"part": part, "samplings": samplings, "rows": rows, **(OWN_LABELS if part == "train" else {})}


def recording_part(setting):
    """The part of a folder of recordings: split by setting; a single setting is split by image, as in the paper."""
    if len(RECORDED) == 1:
        split = cdmam.recordings_split or "by_image"
        parts_of_recordings(len(recorded_images(setting)), split)  # sizes that do not fit stop before any job
        return split
    return "test" if list(RECORDED).index(setting) % 3 == 0 else "train"


def images_recorded(setting):
    """Training images of a recorded setting, or of a stand-in: those configured for each, or its share of all."""
    if cdmam.images.recorded_in_all is None:
        return cdmam.images.recorded
    trained = [name for name in FINE_TUNING if name in SIMULATED or recording_part(name) != "test"]
    shares = dict(zip(trained, even_shares(cdmam.images.recorded_in_all, len(trained)), strict=True))
    return shares.get(setting, 0)


MEMBERS = list(range(cdmam.training.members))
MODELS = expand(f"{CDMAM}/models/member-{{member}}/weights.safetensors", member=MEMBERS)
TEST_SETS = [*cdmam.scenarios, *RECORDED]

EXPLAIN = cdmam.explain
UPSAMPLING = cdmam.upsampling
ENSEMBLE = {"threads": study.compute.threads, "device": study.compute.device, "backend": study.compute.gradient}
FAMILIES = {
    family: [method for method in EXPLAIN.methods if MODULES[method] == family]
    for family in dict.fromkeys(MODULES[method] for method in EXPLAIN.methods)
}
# The first images of each test group are explained; the recordings' images lie with their settings.
EXPLAINED_SETS = [s for s in TEST_SETS if s in SIMULATED or recording_part(s) != "train"]
# Recordings are upsampled whether or not the configuration names them: they are what their owner wants to see.
UPSAMPLED_GROUPS = dict.fromkeys([*UPSAMPLING.groups, *(["recorded"] if RECORDED else [])])
UPSAMPLED = [f"{group}-{number}" for group in UPSAMPLED_GROUPS for number in range(UPSAMPLING.images)]
ROTATED = [f"{UPSAMPLED[0] if 'recorded_standin-0' not in UPSAMPLED else 'recorded_standin-0'}-rotated"]
ROTATED = ROTATED if cdmam.checks.rotation else []
NOT_ROTATED = ".+(?<!-rotated)"
FIRST_METHOD = UPSAMPLING.methods[0]
# The rotated image is explained by the first method only.
MAPS = [(method, image) for method in UPSAMPLING.methods for image in UPSAMPLED] + [
    (FIRST_METHOD, image) for image in ROTATED
]


def options(method):
    """The options of one method; what is wiped out, and where paths begin, is the mean of the training images, 0."""
    own = {
        "omig": plain(EXPLAIN.omig),
        "occlusion": {"patch": 20, "stride": 10},
        # Logarithms of thresholds near 1 µm are near 0: the usual stabiliser would take part of their relevance.
        "lrp": {"epsilon": 1e-9},
    }
    return own.get(method, {}) | {"baseline": 0.0}


def original_source(wildcards):
    """Recordings are read from their files; simulated originals need no input."""
    return [path for s in RECORDED for path in recorded_images(s)] if wildcards.image.startswith("recorded-") else []


def original_params(wildcards):
    """What determines one original image."""
    group, number, *rotated = wildcards.image.split("-")
    if group == "recorded":
        return {"recorded": number, "parts": {s: recording_part(s) for s in RECORDED}, "rotated": bool(rotated)}
    row = sampling_plan(group)["rows"][int(number)]
    return {**simulation(group), "margin_mm": row["margin_mm"], "index": int(number), "rotated": bool(rotated)}


def curve_design():
    """Everything that determines the images on which the concepts of the curve are asked for."""
    return {
        "exposures": [plain(s) for s in cdmam.training_settings],
        "detector": plain(cdmam.detector),
        "geometry": cdmam.geometry,
        "human": cdmam.readout.human,
        "images": cdmam.concepts.images if cdmam.concepts else 0,
        "seed": study.seed,
    }


FIGURES = f"{CDMAM}/figures"
IMAGE_FIGURES = {
    "sampled": f"{FIGURES}/figure_01_sampled_images.png",
    "phantom": f"{FIGURES}/figure_08_phantom.png",
    "margin": f"{FIGURES}/figure_09_margin_and_maps.png",
}
PREDICTION_FIGURES = {
    "cdc": f"{FIGURES}/curves_read_out.png",
    "history": f"{FIGURES}/training_history.png",
    "curves": f"{FIGURES}/figure_02a_predicted_curves.png",
    "errors": f"{FIGURES}/figure_02b_error_against_uncertainty.png",
    "coverage": f"{FIGURES}/coverage.png",
    "calibration": f"{FIGURES}/uncertainty_by_diameter.png",
    "shortcut": f"{FIGURES}/shortcut.png",
    "curve_methods": f"{FIGURES}/curve_methods.png",
}
MAP_FIGURES = {"maps": f"{FIGURES}/figure_03_sampled_maps.png"}
if "omig" in EXPLAIN.methods:
    MAP_FIGURES["omig_parameters"] = f"{FIGURES}/figure_14_omig_parameters.png"
CHECK_FIGURES = {
    "curves": f"{FIGURES}/figure_13_modified_curves.png",
    "midpoints": f"{FIGURES}/modified_midpoints.png",
    "shares": f"{FIGURES}/structure_share.png",
    "designs": f"{FIGURES}/upsampling_designs.png",
}
# Figures 4-6 are upsampled OMIG maps, 7 the rotated image, 12 the gradient maps: one file per map here.
UPSAMPLED_FIGURES = [f"{FIGURES}/upsampled/{method}_{image}.png" for method, image in MAPS]
CDMAM_FIGURES = [
    *IMAGE_FIGURES.values(),
    *PREDICTION_FIGURES.values(),
    *MAP_FIGURES.values(),
    *UPSAMPLED_FIGURES,
    *CHECK_FIGURES.values(),
    *([f"{FIGURES}/curve_concepts.png"] if cdmam.concepts else []),
    *([f"{FIGURES}/latent_traversals.png"] if cdmam.latent else []),
]
CDMAM_TABLES = expand(
    f"{CDMAM}/tables/{{table}}.csv",
    table=[
        "cdc",
        "cdc_variation",
        "predictions",
        "prediction_scores",
        "prediction_scores_by_diameter",
        "uncertainty_dependence",
        "curve_methods",
        "uncertainty_calibration",
        "modified_image",
        "modified_image_summary",
        "structure_share",
        "structure_share_summary",
        "upsampling",
        "upsampling_designs",
        *(["omig_parameters"] if "omig" in EXPLAIN.methods else []),
        *(["concept_effects", "concept_agreement"] if cdmam.concepts else []),
        *(["latent_scores", "latent_factors", "latent_history"] if cdmam.latent else []),
    ],
)


def captions(figures):
    """Captions of figures by the names of their files; upsampled maps share one."""
    found = {}
    for stem in (Path(figure).stem for figure in figures):
        name = "upsampled" if stem.startswith(tuple(f"{method}_" for method in UPSAMPLING.methods)) else stem
        found[stem] = " ".join(Path(f"{PROJECT}/workflow/report/{name}.rst").read_text(encoding="utf-8").split())
    return found
