"""What a study will cost, before it starts: how much work each stage has, and what that takes at measured rates.

Nothing here computes images or asks a network: `xiqa.rates` measures, this module counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from xiqa.config import Config, Dataset, NetworkPlan
from xiqa.datasets.designed import LADDER
from xiqa.registry import CONTROLS, MODULES, WITHOUT_RELU, base_method

Key = tuple[str, ...]
"""What a rate is of: the kind of work, and the data set, network or methods that it depends on."""

SPREAD = 1.5
"""An estimate is given as a range of this factor to both sides: docs/how-to/cost.md says how far estimates were off."""

GRADIENTS_OF = {"integrated_gradients": 25}
"""Gradients of the ensemble for one map of a sampled image, beside OMIG's steps; one for the others."""


class Work(NamedTuple):
    """Some jobs of one stage.

    Attributes:
        chain: "CDMAM" or "images": which part of a study the stage belongs to.
        stage: name of the stage, the same as that of its rule, or what several small ones are called together.
        jobs: how many jobs it has, each of which starts an interpreter.
        units: how much work they have in all.
        unit: what is counted, in the plural.
        rate: which rate, in seconds per unit; None: nothing but the starts of the jobs.
    """

    chain: str
    stage: str
    jobs: int
    units: float = 0
    unit: str = ""
    rate: Key | None = None


class Stage(NamedTuple):
    """A line of the plan: all work of one stage, in processor seconds."""

    chain: str
    stage: str
    jobs: int
    what: str
    seconds: float


def cdmam_work(config: Config, recordings: int = 0) -> list[Work]:
    """The work of the CDMAM chain.

    Args:
        config: the study.
        recordings: files in all folders of recordings.
    """
    cdmam = config.cdmam
    images, training, members = cdmam.images, cdmam.training, cdmam.training.members
    standins = () if cdmam.recordings else cdmam.standin_training_settings
    tuned = images.recorded_in_all or images.recorded * len(standins)
    trained = len(cdmam.training_settings)
    steps = [trained * images.no_margin, trained * images.small_margins, trained * images.large_margins]
    steps.append(recordings if cdmam.recordings else tuned)
    tested = {"ood": images.ood, "recorded_standin": images.recorded_standin}
    once = sum(tested.get(group, images.test) for group in cdmam.scenarios)
    once += len(cdmam.validation_settings) * images.validation
    simulated = trained + len(cdmam.standin_training_settings) + len(cdmam.validation_settings)
    readouts = simulated * cdmam.readout.images + len(cdmam.scenarios) * cdmam.readout.images_scenarios
    settings = simulated + len(cdmam.scenarios) + len(cdmam.recordings)
    passes = sum(epochs * sum(steps[: number + 1]) for number, epochs in enumerate(training.epochs))
    explain, upsampling = cdmam.explain, cdmam.upsampling
    groups = len(cdmam.test_groups)
    upsampled = len({*upsampling.groups, *(["recorded"] if cdmam.recordings else [])}) * upsampling.images
    of_map = {"omig": explain.omig.steps, **GRADIENTS_OF}
    found = [
        Work("CDMAM", "read_out", settings, readouts + recordings, "images simulated and read", ("read_out",)),
        Work(
            "CDMAM", "sample", settings, sum(steps) * cdmam.sampling.samplings + once, "sampled images", ("sample",)
        ),
        Work("CDMAM", "fit_curves", 2, settings, "curves", ("fit_curves",)),
        *(
            [Work("CDMAM", "sample: own labels", 0, sum(steps), "images simulated and read", ("read_out",))]
            if cdmam.readout.labels_per == "image"
            else []
        ),
        Work("CDMAM", "train", members, members * passes, "passes of images", ("train",)),
        *(
            Work(
                "CDMAM", "explain", 0, groups * explain.images * members * of_map.get(method, 1), "gradients",
                ("gradient",),
            )
            for method in explain.methods
            if not method.startswith("occlusion") and method not in CONTROLS
        ),
        Work("CDMAM", "explain", len({MODULES[method] for method in explain.methods})),
    ]  # fmt: skip
    if "omig" in explain.methods:
        gradients = groups * members * len(explain.c_values) * sum(explain.step_values)
        found.append(Work("CDMAM", "compare_omig_parameters", 1, gradients, "gradients", ("gradient",)))
    for number, method in enumerate(upsampling.methods):
        maps = upsampled + (number == 0 and cdmam.checks.rotation)
        gradients = maps * upsampling.draws * members * of_map.get(method, 1)
        jobs = maps * upsampling.shards
        found.append(Work("CDMAM", f"upsample {method}", jobs, gradients, "gradients", ("gradient",)))
    draws = 2 * 2 * (max(1, upsampling.draws // 4) + upsampling.draws // 2)
    found.append(Work("CDMAM", "compare_designs", 1, draws * members, "gradients", ("gradient",)))
    maps = len(upsampling.methods) * upsampled + cdmam.checks.rotation
    # Each map is merged and drawn, each image made, its visits counted, and checked (the rotated one is not); nine jobs
    # come once.
    small = 2 * maps + 3 * upsampled + 2 * cdmam.checks.rotation + 9
    pages = Work("CDMAM", "predictions, checks, tables, figures", small)
    if cdmam.latent:
        found.append(Work("CDMAM", "latent space", 1))
    if cdmam.concepts:
        found.append(Work("CDMAM", "concepts", 1, cdmam.concepts.images, "sampled images", ("sample",)))
    return [*found, pages]


def networks_of(dataset: Dataset) -> list[tuple[NetworkPlan, str, int]]:
    """Network, state and seed of everything that a data set explains."""
    return [(n, state, seed) for n in dataset.networks for state in n.states for seed in dataset.seeds]


def parts_of(dataset: Dataset, images: int) -> tuple[float, float, float]:
    """Images in training, validation and test of a set of so many, about."""
    split = dataset.split
    if split.sizes:
        shares = [split.sizes.get(part, 0) / sum(split.sizes.values()) for part in ("train", "validation", "test")]
    else:
        test = 1 / split.folds if split.folds else split.test
        shares = [1 - test - split.validation, split.validation, test]
    train, validation, test = (share * images for share in shares)
    return train, validation, test


def twin_images(dataset: Dataset) -> tuple[int, int]:
    """Images of a twin's main part, and of its dose-response part."""
    twin = dataset.twin
    if dataset.task == "regression":
        return twin.patients * twin.images_per_patient, 0
    graded = len(twin.severities) * twin.patients_per_severity * min(2, twin.images_per_patient)
    return twin.patients * twin.images_per_patient, graded


def image_work(config: Config, name: str, images: int | None = None) -> list[Work]:
    """The work of one data set of images.

    Args:
        config: the study.
        name: name of the data set.
        images: how many the folder of the real set has; None for a twin.
    """
    dataset, saliency = config.datasets[name], config.saliency
    main, graded = twin_images(dataset) if images is None else (images, 0)
    trained, validated, tested = parts_of(dataset, main)
    networks, levels = networks_of(dataset), len(dataset.twin.severities) if graded else 0
    first = (dataset.networks[0], "trained", dataset.seeds[0])
    explained = min(saliency.images, round(tested))
    costly = min(saliency.costly_images, explained)
    shown = explained + levels * min(saliency.severity_images, dataset.twin.patients_per_severity)
    found = [Work("images", "write_twin", 1, main + graded, "images", ("write_twin", name))] if images is None else []
    found.append(Work("images", "prepare", 1, main + graded, "images", ("prepare", name)))
    for network in dataset.networks:
        passes = dataset.training.epochs * (trained + validated / 3)  # without a gradient a pass is a third
        seeds = len(dataset.seeds)
        rate = ("train_network", name, network.architecture)
        found.append(Work("images", "train_network", seeds, seeds * passes, "passes of images", rate))
    for key in networks:
        network, state, _ = key
        scored = 0
        for family, methods in saliency.families.items():
            is_costly = base_method(methods[0]) in saliency.costly_methods
            no_relu = network.architecture in WITHOUT_RELU and base_method(family) == "relu_backward"
            every = base_method(methods[0]) in dataset.explain.every_network
            if (is_costly and key != first and not every) or no_relu:
                continue
            number = costly if is_costly else shown if state == "trained" else explained
            scored += number * len(methods)
            rate = ("explain", name, network.architecture, family)
            stage = "explain: costly methods" if is_costly else "explain: methods of few passes"
            found.append(Work("images", stage, 1, number, "images", rate))
        if saliency.families and dataset.task == "classification":
            found.append(Work("images", "score_localisation", 1, scored, "maps", ("score_localisation", name)))
    found += _upsampling(config, name)
    if dataset.counterfactuals:
        found.append(
            Work("images", "counterfactuals", 1, 4 * dataset.counterfactuals.images, "images", ("write_twin", name))
        )
    if (asked := dataset.concepts) is not None:
        rendered = asked.train_images + asked.test_images + len(LADDER) * asked.ladders
        found.append(Work("images", "concepts", 4, rendered, "images", ("write_twin", name)))
    seeds, architectures = len(dataset.seeds), len(dataset.networks)
    if dataset.task == "regression":
        # Splits, drawing, predictions, scores, report; choice of images, checks, shares, mean of the members.
        small = seeds + 1 + 2 * len(networks) - seeds * architectures + 2
        small += seeds + 2 + (dataset.members > 1) if saliency.families else 0
        return [*found, Work("images", "splits, predictions, tables, figures", small)]
    if saliency.families:
        families, no_relu = saliency.families, first[0].architecture in WITHOUT_RELU
        methods = sum(
            len(of_family)
            for family, of_family in families.items()
            if not (no_relu and base_method(family) == "relu_backward")
        )
        rate = ("score_fidelity", name, first[0].architecture)
        masked = methods * min(saliency.masking_images, costly)
        found.append(Work("images", "score_fidelity", 1, masked, "maps", rate))
    if saliency.cascade:
        rate = ("cascade", name, first[0].architecture)
        found.append(Work("images", "cascade_network", 1, costly, "images", rate))
    if saliency.families and set(families) & {"one_pass"}:
        rate = ("explain", name, first[0].architecture, "one_pass")
        found.append(Work("images", "compare_alignment", 1, 2 * explained, "images", rate))
    small = seeds + 2 + bool(graded) + bool(dataset.nearest_cases)  # split; drawing; scores; severity; cases
    small += 2 * len(networks) - seeds * architectures  # predict all, randomise those that are not trained
    small += architectures * (seeds + 1)  # embed, draw
    if saliency.families:
        small += seeds + architectures + 6  # choose, draw maps; five tables, one figure
    return [*found, Work("images", "splits, predictions, tables, figures", small)]


def _upsampling(config: Config, name: str) -> Iterator[Work]:
    """The work of upsampling the maps of large images: the draws of each map, its shards, their sum, and one page."""
    dataset = config.datasets[name]
    if (sampling := dataset.sampling) is None:
        return
    for method in sampling.methods:
        families = [family for family, methods in config.saliency.families.items() if method in methods]
        rate = ("explain", name, dataset.networks[0].architecture, families[0]) if families else None
        draws, jobs = sampling.images * sampling.draws, sampling.images * (sampling.shards + 1)
        yield Work("images", "upsample", jobs, draws, "maps of samplings", rate)
    yield Work("images", "splits, predictions, tables, figures", 1)


def work_of(config: Config, images: Mapping[str, int], recordings: int = 0, chains: Iterable[str] = ()) -> list[Work]:
    """All work of a study.

    Args:
        config: the study.
        images: number of images of each data set that is real.
        recordings: files in all folders of CDMAM recordings.
        chains: "CDMAM", "images"; empty: both.
    """
    chains = set(chains) or {"CDMAM", "images"}
    found = cdmam_work(config, recordings) if "CDMAM" in chains else []
    if "images" in chains and config.datasets:
        for name in config.datasets:
            found += image_work(config, name, images.get(name))
        if any(dataset.task == "classification" for dataset in config.datasets.values()):
            found.append(Work("images", "comparison of sets and methods", 1 + bool(config.saliency.families)))
    if chains == {"CDMAM", "images"}:
        found.append(Work("both", "tracking in MLflow", 1))
    return found


def stages(work: Iterable[Work], rates: Mapping[Key, float], start_s: float) -> list[Stage]:
    """One line per stage, in the order of the work.

    Args:
        work: from `work_of`.
        rates: processor seconds per unit.
        start_s: processor seconds that each job needs to start, and to read and write small files.
    """
    lines: dict[tuple[str, str], list[Work]] = {}
    for part in work:
        lines.setdefault((part.chain, part.stage), []).append(part)
    found = []
    for (chain, stage), parts in lines.items():
        units, unit = sum(part.units for part in parts), next((part.unit for part in parts if part.unit), "")
        seconds = sum(part.jobs * start_s + (part.units * rates[part.rate] if part.rate else 0) for part in parts)
        what = f"{units:,.0f} {unit}" if unit else ""
        found.append(Stage(chain, stage, sum(part.jobs for part in parts), what, seconds))
    return found


def minutes(seconds: float) -> str:
    """A time in minutes with the range in which it is expected: 12 (8 to 18)."""

    def told(value: float) -> str:
        return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"

    each = [seconds / 60, seconds / 60 / SPREAD, seconds / 60 * SPREAD]
    return "{} ({} to {})".format(*map(told, each)) if each[0] >= 0.1 else "less than 0.1"


def told(lines: Sequence[Stage], *, title: str, cores: int, rates_from: str, disk: str = "") -> str:
    """The plan as a text of one line per stage, with its total.

    Args:
        lines: from `stages`.
        title: what is planned.
        cores: jobs that run at the same time.
        rates_from: where the rates come from, in words.
        disk: what is known of the disk, in words.
    """
    width = max(len(line.stage) for line in lines)
    text = [f"{title}. {rates_from}", ""]
    text.append(f"{'stage':<{width}}  {'jobs':>5}  {'minutes of one processor':<26}  work")
    for line in lines:
        text.append(f"{line.stage:<{width}}  {line.jobs:>5}  {minutes(line.seconds):<26}  {line.what}".rstrip())
    whole, longest = sum(line.seconds for line in lines), max(line.seconds / max(line.jobs, 1) for line in lines)
    jobs = sum(line.jobs for line in lines)
    text.append(f"{'total':<{width}}  {jobs:>5}  {minutes(whole)}")
    wall = max(whole / cores, longest)
    plural = "cores" if cores > 1 else "core"
    text += ["", f"On {cores} {plural} of this machine, with nothing else on them: about {minutes(wall)} minutes."]
    return "\n".join([*text, *([disk] if disk else [])])


def longest_advice(lines: Sequence[Stage]) -> str:
    """What to shorten where one stage of the images takes more than half of the time and an hour; else nothing."""
    whole = sum(line.seconds for line in lines)
    line = max(lines, key=lambda line: line.seconds)
    advice = {
        "score_fidelity": "name fewer saliency.methods and costly_methods, or lower saliency.masking_images",
        "explain: costly methods": "name fewer saliency.costly_methods, or lower saliency.costly_images",
        "explain: methods of few passes": "lower saliency.images, or name fewer saliency.methods",
        "train_network": "lower training.epochs or size, or take a smaller network",
        "train": "lower cdmam.training.epochs or members",
        "upsample omig": "lower cdmam.upsampling.draws",
    }.get(line.stage)
    if advice is None or line.seconds < max(3600, whole / 2):
        return ""
    return f"Most of it is {line.stage}: to shorten it, {advice}."
