"""How fast this machine is: each kind of work of a study, measured for about a second on a little of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import time
from ast import literal_eval
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from xiqa.cdmam.curve import fit_curve
from xiqa.cdmam.graded import measure_visible
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, CELL_PRESENT, GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import frame_shape, simulate, simulate_sampled
from xiqa.config import Config, NetworkPlan
from xiqa.datasets.base import DataError, Record
from xiqa.datasets.limits import Reading, reading
from xiqa.datasets.prepare import FILES, prepare
from xiqa.datasets.sampling import draw_indices
from xiqa.files import PackedMasks, read_array, read_table
from xiqa.metrics.maps.fidelity import fidelity
from xiqa.metrics.maps.insertion_deletion import insertion_deletion
from xiqa.metrics.maps.localisation import curves_of_maps, scores_of_maps
from xiqa.metrics.maps.map_similarity import rank_correlation, structural_similarity
from xiqa.metrics.maps.road import road
from xiqa.models.cascade import cascade
from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import Ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.models.model import Model, predictor
from xiqa.models.model_training import TrainingImages, train_model
from xiqa.models.task import Classification, Regression, Task
from xiqa.models.training import TrainingStep, train_member
from xiqa.models.zoo import build, cam_layer, multi_layers
from xiqa.plan import Key
from xiqa.registry import base_method, reader_module
from xiqa.saliency.attribution import attribute_many, known_options

ENOUGH_S = 0.3
"""A measurement is repeated until it took so long, in seconds."""

PASS_S = 0.02
"""Networks with a slower pass are not asked for thousands of passes: a small network tells how many a method needs."""

EXAMPLES, EXPLAINED, COSTLY = 6, 8, 2
"""Images that are read of each set, explained by methods of few passes, and by costly ones."""

LOAD = "import matplotlib.figure, numpy, os, pandas, resource, torch"
DRAW = """
figure = matplotlib.figure.Figure(figsize=(7.2, 4), layout="constrained")
for axes in figure.subplots(2, 4).flat:
    axes.plot([0, 1], [0, 1], label="a line")
    axes.legend()
figure.savefig("figure.png", dpi=200)
"""
"""What nearly every job does: it has the libraries loaded, and many draw."""


class Examples(NamedTuple):
    """A few images of a data set: (n, size, size) in 0 to 1 with their masks, and what each cost, in seconds."""

    images: np.ndarray
    masks: np.ndarray
    write_s: float
    prepare_s: float


class Rates:
    """Processor seconds per unit of each kind of work of a study, measured when first asked for.

    Processor time hardly depends on what else runs on the machine. On a CUDA device the clock on the wall counts.

    Args:
        config: the study.
        told: called with the name of what is measured next.
    """

    def __init__(self, config: Config, told: Callable[[str], None] = lambda name: None):
        self.config, self.told = config, told
        self.clock = time.perf_counter if config.compute.device == "cuda" else time.process_time
        self._known: dict[Key, float] = {}
        self._examples: dict[str, Examples] = {}

    def of(self, keys: Iterable[Key]) -> dict[Key, float]:
        """Rates of some kinds of work (see `plan.Work.rate`), in seconds per unit."""
        torch.set_num_threads(self.config.compute.threads)
        for key in keys:
            if key not in self._known:
                self.told(" ".join(key))
                self._known[key] = getattr(self, f"_{key[0]}")(*key[1:])
        return dict(self._known)

    @cached_property
    def start_s(self) -> float:
        """Processor seconds of a job that does nothing but start and draw, the smaller of two.

        With one thread, on Linux, jobs are copies of a process that has loaded the libraries (workflow/warm_start.py).
        """
        self.told("starts of jobs")
        warm = self.config.compute.threads == 1 and sys.platform == "linux"
        copied = f"{LOAD}\nif os.fork():\n    print(os.wait3(0)[2][:2])\nelse:\n" + indent(DRAW, "    ")
        whole = f"{LOAD}\n{DRAW}\nprint(resource.getrusage(resource.RUSAGE_SELF)[:2])"
        with tempfile.TemporaryDirectory() as folder:
            each = [
                sum(literal_eval(subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True)))
                for code in 2 * [copied if warm else whole]
            ]
        return min(each)

    def _seconds(self, run: Callable[[], object], warm: bool = True) -> float:
        """Seconds of one call: the least of several, which in all take `ENOUGH_S` at least."""
        if warm:
            run()
        each: list[float] = []
        while sum(each) < ENOUGH_S and len(each) < 20:
            start = self.clock()
            run()
            each.append(self.clock() - start)
        return min(each)

    # CDMAM ------------------------------------------------------------------------------------------------------------

    @cached_property
    def _exposure(self) -> tuple:
        cdmam = self.config.cdmam
        return cdmam.training_settings[0], cdmam.detector, GEOMETRIES[cdmam.geometry]

    def _read_out(self) -> float:
        exposure, detector, geometry = self._exposure

        def run() -> None:
            image = simulate(exposure, detector, geometry, margin_mm=0.0, seed=0, index=0)
            reading = read_image(image.counts, detector.pixel_mm, name="rate")
            measure_visible(image.counts, detector.pixel_mm, reading, "rate")

        return self._seconds(run)

    def _sample(self) -> float:
        exposure, detector, geometry = self._exposure
        margin_mm = self.config.cdmam.margins_mm[len(self.config.cdmam.margins_mm) // 2]
        size, rng = self.config.cdmam.sampling.size, np.random.default_rng(0)
        chosen = draw_indices(frame_shape(geometry, detector, margin_mm), size, rng)
        return self._seconds(lambda: simulate_sampled(exposure, detector, geometry, margin_mm, 0, 0, *chosen))

    def _fit_curves(self) -> float:
        readout, rng = self.config.cdmam.readout, np.random.default_rng(0)
        # Large and thick discs are seen, the others guessed: the fit then takes its usual number of steps.
        visible = np.subtract.outer(np.arange(16), np.arange(16)) < 2
        seen = rng.random((readout.images, 16, 16)) < 0.25 + 0.75 * visible
        detections = np.where(CELL_PRESENT, np.where(seen, 1, 2), -1).astype(np.int8)
        return self._seconds(
            lambda: fit_curve(detections, human=readout.human, bootstrap=readout.bootstrap, seed=0), warm=False
        )

    def _train(self) -> float:
        cdmam, rng = self.config.cdmam, np.random.default_rng(0)
        training = cdmam.training.model_copy(update={"epochs": (3, 0, 0, 0), "checkpoint_epochs": 100})
        size, number = cdmam.sampling.size, 2 * training.batch_size
        step = TrainingStep(
            "rate", rng.integers(1, 4000, (number, 1, size, size)).astype(np.uint16),
            rng.uniform(0.05, 1, (number, len(CDC_DIAMETERS_MM))),
        )  # fmt: skip
        ends = []
        with tempfile.TemporaryDirectory() as folder:
            train_member(
                [step] * 4, cdmam.network, training, size=size, input_scale=(2000.0, 1000.0), seed=0, member=0,
                folder=folder, threads=self.config.compute.threads, device=self.config.compute.device,
                progress=lambda row: ends.append(self.clock()),
            )  # fmt: skip
        return float(np.diff(ends).min()) / number

    def _gradient(self) -> float:
        cdmam, compute = self.config.cdmam, self.config.compute
        size, batch = cdmam.sampling.size, min(cdmam.upsampling.batch, cdmam.upsampling.draws, 16)
        member = CDCNet(size, cdmam.network).eval().requires_grad_(False)
        target = MidpointGradient(
            Ensemble([member], 0.0, 1.0), backend=compute.gradient, device=compute.device, threads=compute.threads
        )
        x = np.random.default_rng(0).normal(size=(batch, size, size)).astype(np.float32)
        return self._seconds(lambda: target.gradient(x)) / batch

    # Images -----------------------------------------------------------------------------------------------------------

    def examples(self, name: str) -> Examples:
        """A few images of a data set, read and prepared as its stages do it; a twin's are written first."""
        if name not in self._examples:
            with tempfile.TemporaryDirectory() as folder:
                self._examples[name] = self._made(name, Path(folder))
        return self._examples[name]

    def _made(self, name: str, folder: Path) -> Examples:
        dataset, raw, written_s = self.config.datasets[name], folder / "raw", 0.0
        reader = importlib.import_module(reader_module(dataset.format))
        if dataset.path is None:
            twin = importlib.import_module(f"xiqa.datasets.twins.{dataset.format}")
            # As few as a twin may have: with fewer a set's own parts would be empty.
            few = dataset.twin.model_copy(update={"patients": 10, "patients_per_severity": 0})
            raw.mkdir()
            start = self.clock()
            twin.write(raw, few, 0, lambda *told: None)
            written_s = self.clock() - start
        facts = read_table(raw / "twin.csv") if dataset.path is None else None
        paths = {name: folder / file for name, file in FILES.items()}
        with reading(Reading(dataset.largest_image_mb)):
            listed = (r for r in reader.read(Path(dataset.path or raw), dataset) if not isinstance(r, DataError))
            records = list(islice(listed, EXAMPLES if facts is None else None))
            start = self.clock()
            prepare(
                records, dataset.model_copy(update={"on_fault": "skip"}), facts=facts, key=b"rate", paths=paths,
                progress=lambda *told: None,
            )  # fmt: skip
            prepared_s = self.clock() - start
        images, masks = np.array(read_array(paths["images"])), PackedMasks(paths["masks"])[:]
        return Examples(images, masks, written_s / len(images), prepared_s / len(images))

    def _write_twin(self, name: str) -> float:
        return self.examples(name).write_s

    def _prepare(self, name: str) -> float:
        return self.examples(name).prepare_s

    def _repeated(self, name: str, number: int) -> np.ndarray:
        """The examples of a set, over and over, as an array of so many."""
        images = self.examples(name).images
        return images[np.arange(number) % len(images)]

    def _network(self, name: str, architecture: str) -> Model:
        dataset = self.config.datasets[name]
        found = [n for n in dataset.networks if n.architecture == architecture]
        network = found[0] if found else NetworkPlan(architecture=architecture)
        task: Task
        if dataset.task == "regression":
            task = Regression(("target",), (0.0,), (1.0,), ("",))
        else:
            classes = tuple(map(str, range(max(2, len(dataset.classes)))))
            task = Classification(classes, dataset.training.one_output)
        net = build(architecture, channels=network.channels, outputs=task.outputs, seed=0, options=network.options)
        return Model(net.eval(), architecture, network.options, task, network.channels, dataset.input_size, 0.5, 0.25)

    def _train_network(self, name: str, architecture: str) -> float:
        dataset, classifier = self.config.datasets[name], self._network(name, architecture)
        batch = max(2, min(dataset.training.batch_size, int(1 / self._pass_s(name, architecture))))
        number, ends = batch if batch < dataset.training.batch_size else 3 * batch, []
        training = dataset.training.model_copy(
            update={"epochs": 3 if number > batch else 2, "batch_size": batch, "checkpoint_epochs": 100}
        )
        truth = np.arange(number) % 2
        if not isinstance(classifier.task, Classification):
            truth = truth[:, None].astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            train_model(
                classifier, TrainingImages(self._repeated(name, number), truth, np.arange(number), np.arange(0)),
                training, seed=0, folder=folder, weights_source="rate", threads=self.config.compute.threads,
                device=self.config.compute.device,
                progress=lambda row: ends.append(self.clock()),
            )  # fmt: skip
        return float(np.diff(ends).min()) / number

    def _pass_s(self, name: str, architecture: str) -> float:
        """Seconds of a forward and a backward pass of one image, of several at once."""
        key = ("pass", str(self.config.datasets[name].input_size), architecture)
        if key not in self._known:
            classifier = self._network(name, architecture)
            x = classifier.inputs(self._repeated(name, 4))
            seconds = self._seconds(lambda: attribute_many(classifier.net, x, 0, ["gradient"]))
            self._known[key] = seconds / len(x)
        return self._known[key]

    def _explain(self, name: str, architecture: str, family: str) -> float:
        """Seconds of the maps of a family of one image; see `PASS_S` for slow networks."""
        saliency, size = self.config.saliency, str(self.config.datasets[name].input_size)
        methods, costly = saliency.families[family], family not in ("one_pass", "relu_backward", "controls")
        # The same network on images of the same size: data sets need not be told apart.
        key = ("maps", size, architecture, family)
        if key in self._known:
            return self._known[key]
        slow = costly and self._pass_s(name, architecture) > PASS_S
        classifier = self._network(name, "small_resnet" if slow else architecture)
        x = classifier.inputs(self._repeated(name, COSTLY if costly else EXPLAINED))
        asked = list(dict.fromkeys(map(base_method, methods)))
        options = saliency.model_dump(include={"alignment", "memory_gb", "samples", "noise_level", "steps"})
        options |= {
            "layers": [cam_layer(classifier.architecture)], "multi_layers": list(multi_layers(classifier.architecture)),
            "references": classifier.inputs(self._repeated(name, EXPLAINED)),
        }  # fmt: skip
        options = known_options(asked, options)
        if family.endswith("_smooth"):
            options |= {"smooth_samples": saliency.samples}
        run = lambda: attribute_many(classifier.net, x, 0, asked, **options)  # noqa: E731
        seconds = self._seconds(run, warm=not costly) / len(x)
        if slow:
            seconds *= self._pass_s(name, architecture) / self._pass_s(name, "small_resnet")
        self._known[key] = seconds
        return seconds

    def _maps(self, name: str) -> np.ndarray:
        """Maps (n, h, w) as smooth and signed as maps are."""
        images = self._repeated(name, 2)
        noise = np.random.default_rng(0).normal(size=images.shape)
        return ndimage.gaussian_filter(noise, (0, 2, 2))

    def _score_fidelity(self, name: str, architecture: str) -> float:
        """Seconds of all scores by masking of one map in both forms."""
        classifier, images = self._network(name, architecture), self._repeated(name, 1).astype(np.float64)
        classifier.net.to(self.config.compute.device)
        saliency = self.config.saliency
        predict = predictor(classifier, saliency.masking_precision)
        given = {"predict": predict, "images": images, "labels": np.zeros(1, int), "maps": self._maps(name)[:1]}
        blurred = ndimage.gaussian_filter(images, (0, 5, 5))

        def run() -> None:
            for _ in ("signed", "absolute"):
                fidelity(**given, replacement=blurred, steps=saliency.fidelity_steps)
            insertion_deletion(**given, blurred=blurred, steps=20)
            road(**given)

        return self._seconds(run)

    def _score_localisation(self, name: str) -> float:
        """Seconds of the scores of one map in both forms; the segments of its image are few and shared."""
        masks, maps = self.examples(name).masks, self._maps(name)
        # Maps of images without ground truth have no scores, and cost little.
        share = max(0.1, (masks > 0).any((1, 2)).mean())
        masks = masks[np.argsort(-masks.sum((1, 2)))[np.arange(len(maps)) % len(masks)]] > 0
        within = [np.ones(maps.shape[1:], bool)] * len(maps)

        def run() -> None:
            scores_of_maps(maps, masks, tolerance_px=4.0, within=within)
            curves_of_maps(maps, masks, tolerance_px=4.0, segments=[None] * len(maps), signs=None)

        return share * self._seconds(run) / len(maps)

    def _cascade(self, name: str, architecture: str) -> float:
        """Seconds of one image in all states of a network whose blocks are randomised one after the other."""
        methods, classifier = self.config.saliency.cascade, self._network(name, architecture)
        x = classifier.inputs(self._repeated(name, EXPLAINED))
        options = known_options(
            methods,
            {
                "layers": [cam_layer(architecture)],
                "multi_layers": list(multi_layers(architecture)),
                "alignment": self.config.saliency.alignment,
            },
        )
        blocks = sum(1 for _ in cascade(classifier.net, 0))
        first, second = self._maps(name)
        maps_s = self._seconds(lambda: attribute_many(classifier.net, x, 0, methods, **options)) / len(x)

        def likeness() -> None:
            rank_correlation(first, second)
            rank_correlation(first, second, absolute=True)
            structural_similarity(first, second)

        return (blocks + 1) * maps_s + blocks * len(methods) * self._seconds(likeness)


def images_in(config: Config) -> dict[str, int]:
    """How many images each real data set lists; nothing is opened that its reader need not open for a list.

    Raises:
        DataError: a folder or its table cannot be read.
    """
    found = {}
    for name, dataset in config.datasets.items():
        if dataset.path is not None:
            reader = importlib.import_module(reader_module(dataset.format))
            with reading(Reading(dataset.largest_image_mb)):
                found[name] = sum(isinstance(record, Record) for record in reader.read(Path(dataset.path), dataset))
    return found
