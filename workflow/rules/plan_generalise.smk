# What the study in which the shortcut cannot win makes: drawn settings, what is held out, and what determines each.
from xiqa.cdmam.phantom import GEOMETRIES

GENERAL = study.generalise
GENERALISE = f"{RESULTS}/generalise"
KINDS = ("sampled", "cells")
DRAWN = {}
if GENERAL.training_settings:
    # Loads compiled code: seconds that other studies need not wait at each start of Snakemake.
    from xiqa.cdmam.drawn import draw_settings

    for part, number in {
        "train": GENERAL.training_settings,
        "validation": GENERAL.validation_settings,
        "test": GENERAL.test_settings,
    }.items():
        DRAWN[part] = draw_settings(GENERAL.drawn, number, study.seed, part, cdmam.detector, GEOMETRIES[cdmam.geometry])
# Beside the held-out settings: another system, and what the drawn settings do not span.
APART = {
    group: (exposure, cdmam.standin_detector if group == "recorded_standin" else cdmam.detector)
    for group, exposure in cdmam.scenarios.items()
    if group in ("ood", "recorded_standin") and DRAWN
}
GENERAL_SETTINGS = {
    **{name: setting for part in DRAWN.values() for name, setting in part.items()},
    **APART,
}
GENERAL_PARTS = {part: list(settings) for part, settings in DRAWN.items()}
if DRAWN:
    GENERAL_PARTS["test"] += list(APART)
GENERAL_GROUPS = {name: name if name in APART else "drawn" for name in GENERAL_PARTS.get("test", [])}


def general_plan(setting):
    """Everything that determines what is made of one setting."""
    exposure, detector = GENERAL_SETTINGS[setting]
    return {
        "exposure": plain(exposure),
        "detector": plain(detector),
        "geometry": cdmam.geometry,
        "seed": study.seed,
        "images": GENERAL.images,
        "label_images": GENERAL.label_images if setting in GENERAL_GROUPS else 0,
        "margins_mm": list(GENERAL.margins_mm),
        "size": cdmam.sampling.size,
        "patch_px": GENERAL.cells.patch_px,
    }


def general_explained():
    """Images whose maps are made: as many of each group, from as many settings as there are."""
    images = []
    for group in dict.fromkeys(GENERAL_GROUPS.values()):
        names = [name for name, of_group in GENERAL_GROUPS.items() if of_group == group]
        for number in range(GENERAL.explained):
            setting, index = names[number % len(names)], number // len(names)
            facts = {"setting": setting, "index": index, "image": f"{setting}-{index}", "group": group}
            images.append({**general_plan(setting), **facts})
    return images


def general_models(kind):
    """Weights of all members of one kind of network."""
    return [f"{GENERALISE}/models/{kind}/member-{member}/weights.safetensors" for member in range(GENERAL.members)]


GENERAL_RESULTS = (
    [f"{GENERALISE}/tables/{name}.csv" for name in ("generalise", "scores", "calibration", "shares", "shares_summary")]
    + [f"{GENERALISE}/figures/generalise.png", f"{GENERALISE}/findings.md"]
    if DRAWN
    else []
)
