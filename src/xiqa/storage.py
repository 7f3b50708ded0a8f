"""How much disk space a study needs, estimated from its configuration before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from xiqa.config import Cdmam, Config, Dataset, NetworkPlan, Saliency
from xiqa.plan import twin_images
from xiqa.registry import PUBLISHED_MAPS, WITHOUT_RELU, base_method

PARAMETERS: dict[str, int] = {
    "small_resnet": 308_958,
    "small_vgg": 99_247,
    "resnet34": 21_296_486,
    "resnet50": 23_559_031,
    "efficientnet_b0": 4_051_599,
    "vgg16": 134_267_586,
    "vgg19": 139_577_282,
    "resnet50v2": 23_543_667,
    "densenet121": 7_033_403,
    "xception": 20_865_042,
    "inception_v3": 21_823_616,
    "inception_resnet_v2": 54_369_710,
}
"""Architecture -> numbers in its weights file with its default options, one input channel and two outputs."""
TWIN_IMAGE_BYTES: dict[str, int] = {
    "object_cxr": 20_000,
    "lvot": 28_000,
    "brain_tumor": 120_000,
    "covid_cxr": 48_000,
    "ct_contrast": 103_000,
    "mri_quality": 18_000,
}
"""Format -> measured bytes of one simulated image in the real set's file format."""
# Measured in the default study; they are a small part of all.
FIGURES_OF_CDMAM, FIGURES_OF_NETWORK, FIGURES_OF_DATASET = 40_000_000, 2_500_000, 4_000_000
FLOAT32 = 4


class Storage(NamedTuple):
    """Bytes of one part of a study's results: those that stay, and those of files that are deleted again."""

    part: str
    kept: int
    temporary: int = 0


def storage(study: Config, images: Mapping[str, int] | None = None) -> list[Storage]:
    """Estimate what a study writes below its folder of results.

    Args:
        study: the configuration.
        images: name of a data set with a path -> how many images it has; 1000 where it is not told.

    Returns:
        One row per part. The study needs the sum of `kept` and `temporary`: not all temporary files exist at once, so
        that the estimate is on the safe side.
    """
    parts = [*_of_cdmam(study.cdmam)]
    for name, dataset in study.datasets.items():
        parts += _of_dataset(name, dataset, study.saliency, (images or {}).get(name, 1000))
    return parts


def _of_cdmam(cdmam: Cdmam) -> Iterator[Storage]:
    from xiqa.cdmam.phantom import GEOMETRIES
    from xiqa.cdmam.projection import frame_shape  # compiled code: loaded only where it is asked for

    geometry, numbers, size = GEOMETRIES[cdmam.geometry], cdmam.images, cdmam.sampling.size
    of_setting = numbers.no_margin + numbers.small_margins + numbers.large_margins
    fine_tuning = len(cdmam.recordings) or len(cdmam.standin_training_settings)
    recorded = numbers.recorded_in_all or numbers.recorded * fine_tuning
    of_group = {"ood": numbers.ood, "recorded_standin": numbers.recorded_standin}
    tested = sum(of_group.get(group, numbers.test) for group in cdmam.scenarios)
    tested += numbers.validation * len(cdmam.validation_settings)
    sampled = (len(cdmam.training_settings) * of_setting + recorded) * cdmam.sampling.samplings + tested
    yield Storage("CDMAM: sampled images", sampled * (2 * size**2 + 8 * size))

    channels, hidden = cdmam.network.channels, cdmam.network.hidden
    convolutions = sum(9 * a * b + 5 * b for a, b in zip((1, *channels), channels, strict=False))
    weights = convolutions + (channels[-1] * (size // 4) ** 2 + hidden + 2) * hidden + 25 * (hidden + 3)
    members = cdmam.training.members
    yield Storage("CDMAM: networks", members * weights * FLOAT32, 2 * members * weights * FLOAT32)

    pixels = []
    for group in (*cdmam.upsampling.groups, *(["recorded"] if cdmam.recordings else [])):
        detector = cdmam.standin_detector if group in ("recorded_standin", "recorded") else cdmam.detector
        # The images of a group have the margins in turn, beginning with another one in each group.
        first = list(cdmam.scenarios).index(group) if group in cdmam.scenarios else -1
        for number in range(cdmam.upsampling.images):
            margin_mm = cdmam.margins_mm[(first + number) % len(cdmam.margins_mm)]
            height, width = frame_shape(geometry, detector, margin_mm)
            pixels.append(height * width)
    rotated = max(pixels, default=0) if cdmam.checks.rotation else 0
    # Counts of two bytes; the structure and the visits, as labels, take a quarter of one.
    yield Storage("CDMAM: original images", 9 * sum(pixels) // 4 + rotated // 4, 2 * rotated)
    mapped = len(cdmam.upsampling.methods) * sum(pixels)
    shard = 12 + FLOAT32 * members
    # The map, and two measures of its quality for each block of 4 x 4 pixels.
    of_pixel = FLOAT32 * 9 / 8
    of_shards = shard * cdmam.upsampling.shards * (mapped + rotated)
    yield Storage("CDMAM: upsampled maps", round(of_pixel * mapped), of_shards + round(of_pixel * rotated))
    yield Storage("CDMAM: figures and tables", FIGURES_OF_CDMAM)


def _of_dataset(name: str, dataset: Dataset, saliency: Saliency, images: int) -> Iterator[Storage]:
    raw = 0
    if dataset.path is None:
        images = sum(twin_images(dataset))
        raw = images * TWIN_IMAGE_BYTES[dataset.format]
        if side_px := dataset.twin.side_px:
            from xiqa.datasets.twins.object_cxr import SIDE_PX  # draws images: loaded only where it is asked for

            raw = raw * side_px**2 // SIDE_PX**2
    yield Storage(f"{name}: simulated files", 0, raw)
    sides = [dataset.input_size, *([dataset.size] if dataset.sampling else [])]
    # Two bytes for each pixel, and a bit for that of the mask.
    prepared = sum(2 * side**2 + side * -(-side // 8) for side in sides)
    yield Storage(f"{name}: prepared images and masks", images * prepared)
    pixels = dataset.input_size**2
    if sampling := dataset.sampling:
        # The map, and two measures of its quality for each block of 4 x 4 pixels; shards have three numbers.
        mapped = len(sampling.methods) * sampling.images * dataset.size**2
        yield Storage(f"{name}: upsampled maps", FLOAT32 * 9 * mapped // 8, 3 * FLOAT32 * sampling.shards * mapped)

    networks = [(plan, state) for plan in dataset.networks for state in plan.states]
    weights = sum(PARAMETERS[plan.architecture] for plan, _ in networks) * FLOAT32 * len(dataset.seeds)
    yield Storage(f"{name}: networks", weights)

    graded = len(dataset.twin.severities) * saliency.severity_images if dataset.path is None else 0
    graded = 0 if dataset.task == "regression" else graded
    number = min(saliency.images, images)
    maps = {True: 0, False: 0}
    seeds, alone = len(dataset.seeds), dataset.members == 1
    kept = seeds if alone else 1  # the maps of an ensemble's other members are averaged and deleted
    for plan, state in networks:
        of_image = _methods(plan, saliency)
        maps[state == "trained"] += number * of_image * kept
        maps[False] += number * of_image * (seeds - kept) + (graded * of_image * seeds if state == "trained" else 0)
    costly = [m for methods in saliency.families.values() for m in methods if base_method(m) in saliency.costly_methods]
    every = [method for method in costly if base_method(method) in dataset.explain.every_network]
    others = len(networks) * seeds - 1
    maps[True] += min(saliency.costly_images, number) * len(costly)
    maps[alone] += min(saliency.costly_images, number) * others * len(every)
    if not alone:  # the mean of the members' maps, and their spread
        maps[True] += 2 * (number * _methods(dataset.networks[0], saliency) + saliency.costly_images * len(every))
    of_map = pixels * FLOAT32
    yield Storage(f"{name}: saliency maps", maps[True] * of_map, maps[False] * of_map)
    figures = FIGURES_OF_DATASET + FIGURES_OF_NETWORK * len(dataset.networks)
    yield Storage(f"{name}: figures and tables", figures)


def _methods(plan: NetworkPlan, saliency: Saliency) -> int:
    """How many methods explain every network of an architecture, the released forms of some of them included."""
    without = {"relu_backward", "relu_backward_smooth"} if plan.architecture in WITHOUT_RELU else set()
    asked = [m for family, methods in saliency.families.items() if family not in without for m in methods]
    released = [method for method in PUBLISHED_MAPS if method in (*saliency.methods, *saliency.costly_methods)]
    return sum(base_method(method) not in saliency.costly_methods for method in asked) + len(released)
