"""The typed configuration: the one place where keys, units, defaults and limits are defined."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema, to_json

from xiqa.files import write_text
from xiqa.registry import (
    ARCHITECTURES,
    CONTROLS,
    LAYOUTS,
    MEASURES,
    METHODS,
    OF_ENSEMBLES,
    OF_TRANSFORMERS,
    WITH_OFFICIAL_PARTS,
    WITH_TARGETS,
    WITH_TWIN,
    added,
    layout_of,
    method_of,
)

KEYS_HEADING = "## Every key"
NUMBER = r"-?[0-9]+([.][0-9]+)?"
MASK_VALUES = rf"^(auto|nonzero|> *{NUMBER}|((#[0-9a-fA-F]{{6}}|{NUMBER})([ ,;]+|$))+)$"
"""What `mask_values` can be, see `xiqa.datasets.masks`."""
Anode = Literal["Mo", "Rh", "W"]
Filter = Literal["Mo", "Rh", "Ag", "Al"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Shift = Annotated[float, Field(ge=-1, le=1)]
Interval = tuple[float, float]
Place = TypeVar("Place", str, str | None)


@dataclass(frozen=True)
class OneOf:
    """Marks a text that must be one of `names`, or an entry that another package adds to a group of entry points."""

    names: Collection[str]
    group: str = ""

    def __get_pydantic_core_schema__(self, source: type[str], handler: GetCoreSchemaHandler) -> CoreSchema:
        literal = core_schema.literal_schema(list(self.names))

        def check(value: Any, own: ValidatorFunctionWrapHandler) -> Any:
            try:
                return own(value)
            except ValidationError:
                if isinstance(value, str) and value in added(self.group):
                    return value
                raise

        return core_schema.no_info_wrap_validator_function(check, literal) if self.group else literal


Method = Annotated[str, OneOf(OF_ENSEMBLES)]
Attribution = Annotated[str, OneOf(METHODS, "xiqa.methods")]
Architecture = Annotated[str, OneOf(ARCHITECTURES)]
DatasetFormat = Annotated[str, OneOf(LAYOUTS, "xiqa.readers")]
STEPS = ("no_margin", "small_margins", "large_margins", "recorded")
SIMULATED_GROUPS = ("scenario_1", "scenario_2", "scenario_3", "scenario_4", "ood", "recorded_standin")


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values never change after reading."""

    # Defaults go through the same validators as what is given: a ~ in them means the home folder, too.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Exposure(Section):
    """One exposure setting of a mammography system."""

    tube_voltage_kv: float = Field(ge=22, le=35, description="tube voltage in kV")
    exposure_mas: float = Field(gt=0, le=500, description="current-exposure time product in mAs")
    noise_level: float | None = Field(
        None, gt=0, le=200, description="standard deviation in counts of the white noise (`published` noise only)"
    )
    anode: Anode = Field("Mo", description="anode material")
    filter: Filter = Field("Mo", description="filter material")
    noise: Literal["published", "physical"] = Field(
        "published", description="noise model: of the paper's simulator, or quantum + electronic + structure"
    )

    @model_validator(mode="after")
    def _noise_level_belongs_to_published(self) -> Exposure:
        if (self.noise == "published") != (self.noise_level is not None):
            raise ValueError("noise: published needs noise_level; noise: physical follows the dose and takes none")
        return self

    @property
    def name(self) -> str:
        """A file-name-safe name that says what the setting is."""
        level = f"-noise_{self.noise_level:g}" if self.noise_level is not None else "-physical"
        return f"{self.anode}_{self.filter}-{self.tube_voltage_kv:g}_kv-{self.exposure_mas:g}_mas{level}".lower()


class Detector(Section):
    """The detector and the projection onto it."""

    pixel_mm: float = Field(0.06, ge=0.05, le=0.1, description="pixel size in mm")
    blur_px: float = Field(0.7, ge=0, le=3, description="standard deviation of the detector's Gaussian blur in pixels")
    scatter_to_primary: float = Field(0.18, ge=0, le=2, description="scatter-to-primary ratio (SPR)")
    noise_filter_px: float = Field(
        0.55, ge=0, le=3, description="standard deviation in pixels of the Gaussian filter on the noise"
    )
    heel: float = Field(0.0, ge=0, le=0.5, description="heel effect: relative loss of signal across the long side")
    focal_spot_mm: float = Field(0.0, ge=0, le=1, description="focal spot size in mm (0: point source)")
    tilt_deg: float = Field(0.0, ge=-3, le=3, description="turn of the phantom on the detector in degrees")
    writing: bool = Field(True, description="print the writing beside the grid")
    disc_shift_mm: tuple[Shift, Shift] = Field(
        (0.0, 0.0), description="shift of all discs against the grid, right and down, in mm on the detector"
    )
    disc_rotation_deg: float = Field(
        0.0,
        ge=-1,
        le=1,
        description="turn of all discs about the matrix centre against the grid, clockwise, in degrees",
    )
    disc_scale: float = Field(
        1.0, ge=0.98, le=1.02, description="distance of the discs from the matrix centre over that of their cells"
    )
    disc_skew: float = Field(
        0.0, ge=-0.02, le=0.02, description="stretch of the discs' places along one diagonal, shrinkage along the other"
    )


class Drawn(Section):
    """Ranges from which exposure settings and detectors are drawn, each quantity independently of all others."""

    beams: tuple[tuple[Anode, Filter], ...] = Field(
        (("Mo", "Mo"), ("Mo", "Rh"), ("Rh", "Rh"), ("W", "Rh"), ("W", "Ag")),
        min_length=1,
        description="anode and filter, drawn as pairs",
    )
    tube_voltage_kv: Interval = Field((25.0, 32.0), description="tube voltage in kV")
    exposure_mas: Interval = Field(
        (30.0, 120.0), description="current-exposure time product in mAs, on a log scale: here it is the gain alone"
    )
    relative_noise: Interval = Field(
        (0.012, 0.04), description="noise level over the background's mean counts, on a log scale"
    )
    scatter_to_primary: Interval = Field((0.05, 0.8), description="scatter-to-primary ratio")
    blur_px: Interval = Field((0.4, 1.1), description="standard deviation of the detector's blur in pixels")
    noise_filter_px: Interval = Field((0.3, 1.0), description="standard deviation of the noise filter in pixels")


class Readout(Section):
    """Full-frame images that are read out to give a setting its label."""

    images: int = Field(16, ge=2, description="images without margin per setting (16 or more for a label of record)")
    images_scenarios: int = Field(16, ge=2, description="the same for the test settings")
    bootstrap: int = Field(500, ge=20, description="bootstrap draws over images")
    labels: Literal["graded", "standard"] = Field(
        "graded",
        description="how the curve is measured that labels a setting's images: from graded signals, in which no "
        "threshold is censored, or by counting hits as the paper does",
    )
    labels_per: Literal["setting", "image"] = Field(
        "setting",
        description="what has a label of its own: each setting, whose training images share the curve of its "
        "read-outs, or each training image, read in full before it is sampled (labels: graded only). Test images have "
        "the label of their setting either way",
    )
    human: Literal["contrast", "thickness"] = Field(
        "thickness", description="what the human-equivalent factor r(d) multiplies"
    )

    @model_validator(mode="after")
    def _one_image_is_not_counted(self) -> Readout:
        if self.labels_per == "image" and self.labels != "graded":
            raise ValueError(
                "labels_per: found image with labels: standard, expected labels: graded, since counting needs many "
                "images for a curve; change one of the two"
            )
        return self


class Images(Section):
    """How many images are simulated for training and testing."""

    no_margin: int = Field(ge=1, description="training images per training setting, step 1 (no margin)")
    small_margins: int = Field(ge=0, description="per training setting, step 2 (smaller margins)")
    large_margins: int = Field(ge=0, description="per training setting, step 3 (largest margins)")
    recorded: int = Field(ge=0, description="per recorded or stand-in training setting, step 4")
    recorded_in_all: int | None = Field(
        None, ge=1, description="step 4: how many in all, shared evenly by the settings, instead of `recorded` for each"
    )
    test: int = Field(ge=1, description="test images per scenario, spread over the margins")
    ood: int = Field(ge=1, description="out-of-distribution test images")
    recorded_standin: int = Field(ge=1, description="test images of the stand-in for recordings")
    validation: int = Field(12, ge=1, description="images per validation setting, spread over the margins")


class Sampling(Section):
    """Downsampling to the network's input."""

    size: int = Field(250, ge=20, le=1000, description="rows and columns kept of each image")
    samplings: int = Field(4, ge=1, description="K: samplings stored per training image, rotated by epoch")


class Network(Section):
    """The network of table 2 of Amanova 2022."""

    channels: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (8, 16, 32), description="filters of the three convolutions"
    )
    hidden: int = Field(512, ge=4, description="width of the two fully connected layers")
    hidden_activation: Literal["relu", "none"] = Field(
        "relu", description="activation behind the fully connected layers"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout rate behind the first fully connected layer")
    variance: Literal["homoscedastic", "head"] = Field(
        "homoscedastic", description="one learned variance per output, or a second output head"
    )
    target: Literal["linear", "log"] = Field("linear", description="targets in µm, or their logarithm")


class CellsNetwork(Section):
    """The network that sees the full resolution at the places of the discs."""

    patch_px: int = Field(24, ge=8, le=64, multiple_of=4, description="side of the square cut out at each place")
    channels: tuple[PositiveInt, PositiveInt] = Field((8, 16), description="filters of the two convolutions")
    features: int = Field(24, ge=1, description="features of a place")
    templates: int = Field(6, ge=1, description="combinations of the features, of each diameter its own")
    hidden: int = Field(32, ge=1, description="width of the layer over the diameters")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate behind that layer")
    target: Literal["linear", "log"] = Field("log", description="targets in µm, or their logarithm")


class Training(Section):
    """Training of the deep ensemble."""

    members: int = Field(3, ge=1, description="M: members of the ensemble")
    epochs: tuple[int, int, int, int] = Field(
        description="epochs of the four steps: no margin, smaller margins, largest margins, recorded"
    )
    learning_rate: float = Field(1e-5, gt=0, lt=1, description="Adam's learning rate")
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate over the epochs")
    warmup_epochs: int = Field(0, ge=0, description="epochs over which the learning rate rises from 0")
    first_filters: Literal["zero_sum", "random"] = Field(
        "zero_sum", description="filters of the first convolution at the start: shifted to sum to zero, or as drawn"
    )
    variance_rate: float = Field(
        100.0, gt=0, description="learning rate of the homoscedastic log variance over that of the network"
    )
    batch_size: int = Field(50, ge=1, description="images per batch")
    weight_decay: float = Field(1e-4, ge=0, description="L2 regularisation")
    checkpoint_epochs: int = Field(5, ge=1, description="epochs between checkpoints of a running training")


class Omig(Section):
    """OMIG, algorithm 1 of Amanova 2022."""

    c: float = Field(1.0, gt=0, description="length of the path, on the normalised input")
    steps: int = Field(50, ge=1, description="L: steps along the path")
    outlier_z: float = Field(3.0, gt=0, description="t: gradient components beyond this Z-score are set to zero")


class Explain(Section):
    """Explanations of sampled images."""

    methods: tuple[Method, ...] = Field(description="saliency methods")
    images: int = Field(1, ge=1, description="sampled images explained per test group")
    omig: Omig = Omig()
    c_values: tuple[float, ...] = Field((0.1, 1.0, 10.0), description="values of c compared (figure 14)")
    step_values: tuple[int, ...] = Field((10, 50), description="values of L compared (figure 14)")


class Upsampling(Section):
    """Upsampling to full resolution, algorithm 2 of Amanova 2022."""

    methods: tuple[Method, ...] = Field(("omig", "gradient"), description="methods that are upsampled")
    groups: tuple[str, ...] = Field(
        ("scenario_1", "recorded_standin", "scenario_4"), description="test groups whose images are upsampled"
    )
    images: int = Field(1, ge=1, description="upsampled images per group")
    draws: int = Field(5000, ge=1, description="N: samplings per image")
    shards: int = Field(1, ge=1, description="jobs that share the draws of one image")
    batch: int = Field(32, ge=1, description="samplings explained at once")
    without_replacement: bool = Field(
        True, description="draw rows and columns without replacement across draws: equal visits"
    )


class Checks(Section):
    """Checks of the explanations."""

    samplings: int = Field(16, ge=1, description="fresh samplings over which the midpoint of an image is averaged")
    rotation: bool = Field(True, description="explain an image rotated by 90° (figure 7)")


class Latent(Section):
    """Cells of the phantom in the latent space of a β-VAE: which code stands for which property?"""

    cells: int = Field(3000, ge=400, description="cells that the autoencoder is trained on")
    test_cells: int = Field(1000, ge=200, description="others, on which codes are scored; half of them for forests")
    codes: int = Field(6, ge=2, le=32, description="numbers that describe a cell")
    beta: float = Field(4.0, gt=0, description="weight of the divergence from the standard normal distribution")
    variance: float = Field(
        0.3, gt=0, description="variance σ² of a pixel's error, in variances of the images; β means nothing without it"
    )
    epochs: int = Field(15, ge=1, description="passes over the cells")
    batches: int = Field(200, ge=40, description="batches of 32 cells with one property fixed, for the FactorVAE score")


class CurveConcepts(Section):
    """Whether the predicted curve follows noise, exposure, tube voltage and blur as it should."""

    images: int = Field(
        300, ge=40, description="sampled images, their factors drawn independently within the training settings"
    )
    permutations: int = Field(999, ge=0, description="permutations of each factor")


class Cdmam(Section):
    """The chain of Amanova 2022."""

    recordings: tuple[str, ...] = Field(
        (), description="folders of real CDMAM recordings, one folder per exposure setting"
    )
    recordings_split: dict[Literal["train", "test"], Annotated[int, Field(ge=1)]] = Field(
        {}, description="a single folder: recordings in training and test, {train: 48, test: 24}; {}: every second one"
    )
    geometry: Literal["standard_reader", "ptb"] = Field("standard_reader", description="geometry preset")
    margins_mm: tuple[Annotated[float, Field(ge=0, le=60)], ...] = Field(
        min_length=1, description="margins around the phantom's matrix in mm, rising, first 0"
    )
    small_margins: int = Field(ge=0, description="how many of the margins after the first are the smaller ones")
    detector: Detector = Detector()
    standin_detector: Detector = Detector(heel=0.08, tilt_deg=0.6, focal_spot_mm=0.3, pixel_mm=0.07)
    training_settings: tuple[Exposure, ...] = Field(min_length=2, description="exposure settings of the training grid")
    standin_training_settings: tuple[Exposure, ...] = Field(description="settings of the stand-in used for training")
    validation_settings: tuple[Exposure, ...] = Field(
        (),
        description="settings that calibrate the uncertainty, neither trained nor tested: none, or at least 2",
    )
    scenarios: dict[Annotated[str, OneOf(SIMULATED_GROUPS)], Exposure] = Field(
        description="exposure setting of each test group; null leaves one out"
    )
    readout: Readout = Readout()
    images: Images
    sampling: Sampling = Sampling()
    network: Network = Network()
    training: Training
    explain: Explain
    upsampling: Upsampling = Upsampling()
    checks: Checks = Checks()
    concepts: CurveConcepts | None = Field(
        None,
        description="which properties of the exposure the curve follows, beside the physics; nothing: not asked. "
        "Settings with `published` noise and one beam only",
    )
    latent: Latent | None = Field(
        None, description="a β-VAE of single cells, beside PCA and supervised codes; nothing: not asked"
    )

    @field_validator("scenarios", mode="before")
    @classmethod
    def _without_those_set_to_null(cls, scenarios: Any) -> Any:
        return without_nulls(scenarios)

    @model_validator(mode="after")
    def _consistent(self) -> Cdmam:
        margins = self.margins_mm
        if margins[0] != 0 or list(margins) != sorted(set(margins)):
            raise ValueError(f"margins_mm: found {list(margins)}, expected rising values that begin with 0")
        if self.small_margins > len(margins) - 1:
            raise ValueError(f"small_margins: found {self.small_margins}, at most {len(margins) - 1} margins are left")
        trained = {setting.name for setting in (*self.training_settings, *self.standin_training_settings)}
        tested = {setting.name for setting in self.scenarios.values()}
        validated = {setting.name for setting in self.validation_settings}
        if trained & tested:
            raise ValueError(f"settings {sorted(trained & tested)} are both in training and in a test group")
        if self.recordings_split and set(self.recordings_split) != {"train", "test"}:
            raise ValueError(f"recordings_split: found {self.recordings_split}, expected both train and test")
        if self.recordings_split and len(self.recordings) > 1:
            raise ValueError(
                f"recordings_split: found {len(self.recordings)} folders of recordings, which are divided by folder; "
                "leave it out, or name one folder"
            )
        if validated & (trained | tested):
            raise ValueError(
                f"validation_settings: found {sorted(validated & (trained | tested))} in training or in a test group "
                "too, expected settings of their own"
            )
        if len(validated) == 1:
            raise ValueError("validation_settings: found one, expected none or at least 2; add one, or leave it out")
        groups = set(self.test_groups)
        if not set(self.upsampling.groups) <= groups:
            raise ValueError(f"upsampling.groups: found {self.upsampling.groups}, expected some of {sorted(groups)}")
        return self

    @property
    def test_groups(self) -> list[str]:
        """The test groups in the order of the paper."""
        return [*(g for g in SIMULATED_GROUPS if g in self.scenarios), *(["recorded"] if self.recordings else [])]


class Generalise(Section):
    """The study in which the shortcut cannot win: settings drawn independently, and two kinds of networks."""

    training_settings: int = Field(0, ge=0, description="drawn settings that are trained on; 0: no such study")
    validation_settings: int = Field(8, ge=2, description="drawn settings that calibrate the uncertainty")
    test_settings: int = Field(12, ge=1, description="drawn settings that are held out")
    drawn: Drawn = Drawn()
    images: int = Field(16, ge=2, description="images per setting: read for its label, trained on or tested")
    label_images: int = Field(
        32, ge=2, description="further images per test setting, whose curve is the truth; the others are not in it"
    )
    margins_mm: tuple[Annotated[float, Field(ge=0, le=60)], ...] = Field(
        (0.0, 6.0, 12.0), min_length=1, description="margins around the phantom, one image after the other"
    )
    members: int = Field(3, ge=1, description="members of each ensemble")
    sampled: Network = Network(target="log")
    sampled_training: Training = Training(epochs=(12, 0, 0, 0), learning_rate=3e-4, schedule="cosine", batch_size=25)
    cells: CellsNetwork = CellsNetwork()
    cells_training: Training = Training(epochs=(8, 0, 0, 0), learning_rate=1e-2, schedule="cosine", batch_size=4)
    explained: int = Field(6, ge=1, description="images per test group whose OMIG maps are made")
    samplings: int = Field(4, ge=1, description="samplings of each of them that the sampled network explains")


WeightState = Literal["trained", "semi_random", "fully_random"]
# Settings of the papers by name; keys given beside `preset` override them.
TRAINING_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {},
    "paper_ozer_object_cxr": {
        "optimiser": "sgd", "learning_rate": 0.005, "momentum": 0.9, "schedule": "step", "step_epochs": 5,
        "step_factor": 0.1, "epochs": 20, "batch_size": 16, "weight_decay": 0.0, "class_weights": False,
        "augmentation": {"flip": True, "rotate_deg": 10.0, "translate": 0.05, "scale": 0.1, "jitter": 0.2},
    },
    "paper_ozer_lvot": {
        "optimiser": "sgd", "learning_rate": 0.0002, "momentum": 0.9, "schedule": "constant", "epochs": 60,
        "batch_size": 64, "weight_decay": 0.0005, "class_weights": False,
        "augmentation": {"flip": True, "rotate_deg": 10.0, "translate": 0.05, "scale": 0.1, "jitter": 0.2},
    },
    "paper_brima_2023": {
        "optimiser": "sgd", "learning_rate": 0.001, "momentum": 0.939, "schedule": "inverse_time", "decay": 3e-4,
        "epochs": 20, "batch_size": 32, "weight_decay": 0.0, "augmentation": {"flip": False},
    },
    "paper_brocki_2022": {
        "optimiser": "adam", "learning_rate": 0.001, "schedule": "constant", "epochs": 20, "batch_size": 32,
        "weight_decay": 0.0, "one_output": True, "augmentation": {"flip": False},
    },
}  # fmt: skip


class Twin(Section):
    """The simulated stand-in that is written where no real folder is configured."""

    patients: int = Field(200, ge=10, description="simulated patients of the main parts")
    images_per_patient: int = Field(3, ge=1, description="images (frames, slices) of each patient")
    severities: tuple[Annotated[float, Field(gt=0, le=2)], ...] = Field(
        (0.1, 0.25, 0.5, 1.0), description="levels of the dose-response part; 1 is the strength of the main parts"
    )
    patients_per_severity: int = Field(
        40, ge=0, description="simulated patients for each level of severity, never trained on"
    )
    side_px: int | None = Field(
        None, ge=144, le=2048, description="`object_cxr`: rows and columns of the images that are written; null: 288"
    )


class Split(Section):
    """How patients are divided; an official split of the set can replace it."""

    by: Literal["patient", "image"] = Field(
        "patient", description="what is never divided; image: leakage, to show what it does, and labelled so"
    )
    official: bool = Field(False, description="use the set's own parts where it has them")
    validation: Fraction = Field(0.15, description="share of patients in validation")
    test: Fraction = Field(0.25, description="share of patients in the test part")
    sizes: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=0)]] = Field(
        {}, description="patients in each part, exactly, instead of shares: {train: 551, validation: 69, test: 70}"
    )
    seed: int | None = Field(
        None, ge=0, description="seed of one split for all trainings, whose seeds then vary the weights only"
    )
    folds: int = Field(
        0,
        ge=0,
        le=20,
        description="cross-validation: seed k tests fold k modulo folds of division k // folds; 0: one split",
    )
    gap: int = Field(
        0,
        ge=0,
        description="proxy groups beside a test group left out of training; fold k is then every folds-th group",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Split:
        given = [name for name in ("official", "folds", "sizes") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"found {' and '.join(given)}, expected one of them; each of them fixes the parts")
        if self.sizes and not (self.sizes.get("train") and self.sizes.get("test")):
            raise ValueError(f"sizes: found {self.sizes}, expected 1 or more in train and in test; add what is missing")
        shares = [name for name in ("validation", "test") if getattr(self, name) != Split.model_fields[name].default]
        if self.sizes and shares:
            raise ValueError(f"found sizes and the share {shares[0]}, expected one of them; take the share out")
        if self.seed is not None and given and given != ["sizes"]:
            raise ValueError(f"found seed and {given[0]}, which leaves nothing to draw once for all; take the seed out")
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on; keep them below 1")
        return self


class Augmentation(Section):
    """Random changes of training images."""

    flip: bool = Field(True, description="mirror left-right at random")
    rotate_deg: float = Field(0.0, ge=0, le=45, description="largest rotation in degrees")
    translate: float = Field(0.0, ge=0, le=0.5, description="largest shift as a share of the size")
    scale: float = Field(0.0, ge=0, le=0.5, description="largest relative change of size")
    jitter: float = Field(0.0, ge=0, le=1, description="largest relative change of brightness and contrast")


class ClassifierTraining(Section):
    """Training of a classifier."""

    preset: Annotated[str, OneOf(TRAINING_PRESETS)] = Field(
        "quick", description="named settings of a paper; keys beside it override them"
    )
    epochs: int = Field(12, ge=1, description="passes over the training images")
    batch_size: int = Field(32, ge=2, description="images per batch")
    optimiser: Literal["sgd", "adam"] = Field("adam", description="SGD with momentum, or Adam")
    learning_rate: float = Field(2e-3, gt=0, lt=1, description="learning rate at the start")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(1e-4, ge=0, description="L2 regularisation")
    schedule: Literal["constant", "step", "cosine", "inverse_time"] = Field(
        "cosine", description="learning rate over the epochs"
    )
    step_epochs: int = Field(5, ge=1, description="epochs between two steps of the `step` schedule")
    step_factor: float = Field(0.1, gt=0, le=1, description="factor of the learning rate at each step")
    decay: float = Field(0.0, ge=0, description="`inverse_time`: the rate is divided by 1 + decay × batches so far")
    class_weights: bool = Field(True, description="weigh classes by the inverse of their share in training")
    one_output: bool = Field(False, description="two classes: one output neuron with a sigmoid (Brocki 2022)")
    augmentation: Augmentation = Augmentation()
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="bf16 mixed precision; auto: where the processor computes in it"
    )
    workers: int = Field(1, ge=0, description="threads that read images ahead; 0: none")
    checkpoint_epochs: int = Field(1, ge=1, description="epochs between checkpoints, which are 10 s apart at least")

    @model_validator(mode="before")
    @classmethod
    def _on_top_of_a_preset(cls, content: Any) -> Any:
        """Lay the keys that are given over those of the preset."""
        if not isinstance(content, dict):
            return content
        preset = TRAINING_PRESETS.get(content.get("preset", "quick"), {})
        merged = preset | content
        if isinstance(content.get("augmentation"), dict):
            merged["augmentation"] = preset.get("augmentation", {}) | content["augmentation"]
        return merged


def expanded(path: Place) -> Place:
    """A path with its $VARIABLES and ~ in place.

    Raises:
        ValueError: a variable is not set.
    """
    found = path and os.path.expanduser(os.path.expandvars(path))
    if found and "$" in found:
        raise ValueError(f"found '{path}', whose variable is not set; export it, or write the folder")
    return found


class NetworkPlan(Section):
    """One architecture that is trained on a data set."""

    architecture: Architecture = Field("small_resnet", description="name of the network")
    weights: str = Field(
        "none", min_length=1, description="initial weights: none, imagenet, or the path of a .safetensors or .pth file"
    )
    channels: Literal[1, 3] = Field(1, description="input channels; three hold the same grey image")
    states: tuple[WeightState, ...] = Field(
        ("trained",), description="states to make: trained, semi_random, fully_random"
    )
    options: dict[str, bool | int] = Field(
        {}, description="options of the architecture, such as first_pooling: false for small_resnet"
    )

    _expand_weights = field_validator("weights")(expanded)

    @model_validator(mode="after")
    def _consistent(self) -> NetworkPlan:
        if self.weights == "imagenet" and ARCHITECTURES[self.architecture].options:
            raise ValueError(f"weights: there are none of ImageNet for {self.architecture}; set none, or a path")
        if self.weights not in ("none", "imagenet") and not self.weights.endswith((".safetensors", ".pth")):
            expected = "none, imagenet, or the path of a .safetensors or .pth file"
            raise ValueError(f"weights: found '{self.weights}', expected {expected}")
        known = ARCHITECTURES[self.architecture].options
        if not set(self.options) <= set(known):
            found = f"options: found {sorted(self.options)}"
            raise ValueError(f"{found}, {self.architecture} knows {sorted(known) or 'none'}; leave out the others")
        return self


class ExplainedOutput(Section):
    """Which number a map explains where a network predicts numbers."""

    target: str = Field(
        "mean", min_length=1, description="regression: the target that is explained, or mean: the mean of all of them"
    )
    direction: Literal["higher", "lower"] = Field(
        "higher", description="regression: whether maps show what speaks for a higher or for a lower value"
    )
    every_network: tuple[Attribution, ...] = Field(
        (), description="some of saliency.costly_methods: of every network of this data set, not of the first alone"
    )


class RandomPixels(Section):
    """Large images of which networks see random rows and columns, and whose maps are upsampled (Amanova 2022)."""

    size: int = Field(ge=16, le=2048, description="rows and columns that are drawn at random of each prepared image")
    samplings: int = Field(
        4, ge=1, description="samplings of each training image; epochs take them in turn. Tests see the first"
    )
    methods: tuple[Attribution, ...] = Field(
        ("gradient",), description="methods whose maps are upsampled to the prepared size; of layers and controls none"
    )
    images: int = Field(2, ge=1, description="explained test images with upsampled maps")
    draws: int = Field(400, ge=2, description="samplings per image whose maps are added up")
    shards: int = Field(1, ge=1, description="jobs that share the draws of one image")
    batch: int = Field(32, ge=1, description="samplings explained at once")

    @field_validator("methods")
    @classmethod
    def _of_pixels(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        known = [name for name in methods if name in METHODS]
        if refused := [name for name in known if METHODS[name].at_layers or METHODS[name].control]:
            raise ValueError(f"found {refused[0]}, expected methods with a value for each pixel of the network's input")
        if "expected_gradients" in methods:
            raise ValueError("found expected_gradients, which wants reference images, expected methods that need none")
        return methods


class Concepts(Section):
    """What networks know of noise, sharpness and severity, asked on images that are rendered for it."""

    train_images: int = Field(300, ge=20, description="designed images of training patients: directions are fitted")
    test_images: int = Field(300, ge=20, description="designed images of test patients: effects are told of them")
    ladders: int = Field(10, ge=0, description="test patients whose image is rendered at rising severities")
    measures: tuple[Annotated[str, OneOf(MEASURES)], ...] = Field(
        ("noise", "spectral_slope", "contrast_to_noise"),
        description="measures of image quality that are concepts beside severity, noise and blur "
        "(docs/reference/concepts.md)",
    )
    permutations: int = Field(
        1999,
        ge=0,
        description="permutations of each concept: corrected for 40 effects, 999 are the fewest that can tell",
    )


class Counterfactuals(Section):
    """The image that would have been decided otherwise, by an autoencoder, beside the one that is rendered so."""

    epochs: int = Field(40, ge=1, description="passes of the autoencoder over the training images")
    feature_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the explained network's features in the autoencoder's loss; 0: gray values alone",
    )
    images: int = Field(30, ge=6, description="test images, one of each patient, whose decision is changed")


class Dataset(Section):
    """A set of images with labels or targets: how it is read, divided and learnt."""

    format: DatasetFormat = Field(description="layout of the files")
    task: Literal["classification", "regression"] = Field(
        "classification",
        description="what is learnt: the class of an image, or its targets (columns `target` or `target_*`), numbers",
    )
    target_units: dict[str, str] = Field(
        {}, description="regression: unit of each target, as figures print it, such as {severity: 1, dose: mGy}"
    )
    members: int = Field(
        1,
        ge=1,
        le=100,
        description="members of a deep ensemble: with one seed s, trainings of seeds s, s + 1, ... on the split of s",
    )
    explain: ExplainedOutput = ExplainedOutput()
    path: str | None = Field(
        None, description="folder of the real data, with $VARIABLES and ~; nothing: its simulated twin is written"
    )
    table: str = Field("images.csv", description="`folder` only: the table inside the folder")
    classes: tuple[str, ...] = Field((), description="class names in the order of their labels; empty: the format's")
    size: int = Field(96, ge=16, le=2048, description="side of the prepared square images in pixels")
    sampling: RandomPixels | None = Field(
        None, description="for large images: networks see random rows and columns of the prepared image, not all"
    )
    fit: Literal["stretch", "pad"] = Field(
        "stretch", description="how an image that is not square becomes square: stretched, or padded with its minimum"
    )
    intensity: Literal["full_scale", "percentiles", "window"] = Field(
        "full_scale",
        description="what becomes 0 to 1: the file type's range, each image's 0.5th to 99.5th percentile, or a window",
    )
    window_hu: tuple[float, float] | None = Field(
        None, description="`window`: its centre and width in Hounsfield units (or in the file's own unit)"
    )
    bright_above_hu: float | None = Field(
        None, description="`window`: the share of pixels above it is a baseline of its own for two classes"
    )
    tolerance_width: int = Field(
        224, ge=1, description="width in pixels at which the tolerance of the Pointing Game is 15 px; it scales with it"
    )
    mask_of: str | None = Field(
        None,
        min_length=1,
        description="what the masks show: defect (which decides the label), or an organ such as lungs; nothing: as the "
        "format says",
    )
    masked_with: dict[str, Fraction] | None = Field(
        None, description="class name -> prepared value that takes its evidence away; nothing: the blurred image"
    )
    slices: Literal["two", "all"] = Field("two", description="`ct_contrast`: slices taken from each series")
    largest_image_mb: int = Field(
        1024,
        ge=1,
        description="largest image or volume that a file may claim or unpack to, in MB (10⁶ bytes) of stored values; "
        "beyond it the file is a fault",
    )
    mask_values: str = Field(
        "auto",
        pattern=MASK_VALUES,
        description="which values of a mask are inside: auto (docs/reference/formats.md), nonzero, values such as "
        "`44 104` or `#ff0000`, or a level such as `> 0.5`",
    )
    follow_links: bool = Field(
        False, description="read files that links in `path` lead to, if they lie in one of `link_roots`"
    )
    link_roots: tuple[str, ...] = Field(
        (), description="`follow_links`: folders outside `path` in which files may lie, with $VARIABLES and ~"
    )
    on_fault: Literal["stop", "skip"] = Field("stop", description="a faulty file stops, or is skipped and listed")
    twin: Twin = Twin()
    split: Split = Split()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,),
        min_length=1,
        description="seeds of the trainings; each has its own split, unless split.seed or official gives one for all",
    )
    weights: str | None = Field(None, min_length=1, description="initial weights of the networks that name none")
    channels: Literal[1, 3] | None = Field(None, description="input channels of the networks that name none")
    networks: tuple[NetworkPlan, ...] = Field((NetworkPlan(),), description="networks that are trained")
    training: ClassifierTraining = ClassifierTraining()
    counterfactuals: Counterfactuals | None = Field(
        None,
        description="classifications of simulated twins: images that would be decided otherwise; nothing: not asked",
    )
    concepts: Concepts | None = Field(
        None, description="classifications of simulated twins: which concepts the networks use; nothing: not asked"
    )
    nearest_cases: int | None = Field(
        None, ge=1, le=20, description="classifications: nearest training cases of each test image; nothing: not asked"
    )

    _expand_path = field_validator("path")(expanded)

    @property
    def simulated(self) -> bool:
        """Whether the images are a twin's: where no folder is configured, whatever files a folder holds."""
        return self.path is None

    @property
    def input_size(self) -> int:
        """Side of the images that networks see, in pixels."""
        return self.size if self.sampling is None else self.sampling.size

    @field_validator("link_roots")
    @classmethod
    def _expand_roots(cls, roots: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(expanded, roots))

    @model_validator(mode="after")
    def _consistent(self) -> Dataset:
        if self.follow_links != bool(self.link_roots):
            raise ValueError(
                "follow_links: true needs link_roots, the folders that links may lead to, and these need follow_links"
            )
        if (self.intensity == "window") != (self.window_hu is not None):
            raise ValueError("intensity: window needs window_hu: [centre, width]; the others take none")
        if self.bright_above_hu is not None and self.window_hu is None:
            raise ValueError("bright_above_hu needs intensity: window")
        if self.path is None and not layout_of(self.format).twin:
            raise ValueError(
                f"format: {self.format} needs path: the folder of your images (simulated twins: {', '.join(WITH_TWIN)})"
            )
        if self.twin.side_px and self.format != "object_cxr":
            raise ValueError("twin.side_px: only the twin of object_cxr is written in another size; leave it out")
        self._check_task()
        expected = layout_of(self.format).classes
        classes = len(self.classes) or expected
        if self.classes and expected and classes != expected:
            raise ValueError(f"classes: found {len(self.classes)}, expected {expected} as format: {self.format} has")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: found {list(self.classes)}, expected each once")
        if self.training.one_output and classes not in (2, 0):
            raise ValueError(f"training.one_output needs two classes; found {classes}")
        if self.masked_with and self.classes and set(self.masked_with) != set(self.classes):
            raise ValueError(f"masked_with: found {list(self.masked_with)}, expected each of {list(self.classes)}")
        if self.split.official and not layout_of(self.format).official_parts:
            raise ValueError(
                f"split.official: the files of format: {self.format} name no parts, those of "
                f"{' and '.join(WITH_OFFICIAL_PARTS)} do; set it to false, and give shares or sizes"
            )
        made = self.twin.patients * (self.twin.images_per_patient if self.split.by == "image" else 1)
        if self.simulated and self.split.sizes and sum(self.split.sizes.values()) != made:
            raise ValueError(f"split.sizes: found {sum(self.split.sizes.values())} in all, but the twin has {made}")
        names = [network.architecture for network in self.networks]
        if len(set(names)) < len(names):
            raise ValueError(f"networks: found {names}, expected each architecture once; another dataset can vary it")
        if any("trained" not in network.states for network in self.networks):
            raise ValueError("networks: states must hold trained; the others are compared with it")
        for name in names:
            if self.input_size < (smallest_px := ARCHITECTURES[name].smallest_px):
                raise ValueError(f"size: found {self.input_size} px, {name} needs {smallest_px} px or more; raise it")
        if self.sampling and names and not ARCHITECTURES[names[0]].relu:
            for method in self.sampling.methods:
                if method in METHODS and METHODS[method].needs == "relu":
                    raise ValueError(f"sampling.methods: {method} changes ReLUs, and {names[0]} has none; leave it out")
        if self.input_size > self.size:
            raise ValueError(f"sampling.size: found {self.input_size}, expected at most the prepared size, {self.size}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: found {list(self.seeds)}, expected each once")
        return self

    def _check_task(self) -> None:
        regression = self.task == "regression"
        if regression and not layout_of(self.format).targets:
            raise ValueError(f"task: regression needs format: {' or '.join(WITH_TARGETS)}; found {self.format}")
        if self.format == "mri_quality" and not regression:
            raise ValueError("task: format: mri_quality has a target and no classes; set task: regression")
        own = {"classes": self.classes, "masked_with": self.masked_with, "bright_above_hu": self.bright_above_hu}
        if regression and (given := [name for name, value in own.items() if value]):
            raise ValueError(f"{', '.join(given)}: a regression has no classes; leave it out")
        if regression and self.training.one_output:
            raise ValueError("training.one_output: a regression has no classes; set it to false")
        if not regression and (
            self.target_units or self.explain.model_copy(update={"every_network": ()}) != ExplainedOutput()
        ):
            raise ValueError(
                "target_units, explain.target and explain.direction belong to task: regression; leave them out"
            )
        if self.counterfactuals and (regression or not self.simulated or self.size % 8):
            raise ValueError(
                "counterfactuals: true ones are rendered for classifications of simulated twins, at a size that is a "
                "multiple of 8; leave it out for a regression and for real images"
            )
        if self.concepts and (regression or not self.simulated):
            raise ValueError(
                "concepts: designed images are rendered for classifications of simulated twins; leave it out for a "
                "regression and for your own images"
            )
        if self.nearest_cases and regression:
            raise ValueError("nearest_cases: they vote for a class, which a regression has not; leave it out")
        if self.members > 1 and (len(self.seeds) != self.members or self.split.folds):
            raise ValueError(
                f"members: found {self.members} with seeds {list(self.seeds)} and {self.split.folds} folds; an "
                "ensemble has one split: give one seed and no folds"
            )


class Saliency(Section):
    """How the classifiers are explained and their maps scored, on all data sets."""

    methods: tuple[Attribution, ...] = Field(
        (), description="saliency methods (docs/reference/methods.md) of every network in every state; empty: none"
    )
    images: int = Field(
        96, ge=1, description="test images explained of each network: as many of each class, those with a mask first"
    )
    costly_methods: tuple[Attribution, ...] = Field(
        (), description="further methods, of the trained first network and first seed of each data set"
    )
    costly_images: int = Field(16, ge=1, description="how many of the images the costly methods explain")
    masking_images: int = Field(16, ge=1, description="how many of those are scored by masking their pixels")
    severity_images: int = Field(
        0, ge=0, description="twins: images at each severity that trained networks explain, for the dose-response"
    )
    alignment: Literal["published", "centred"] = Field(
        "published", description="how maps of layers lie on the image; centred: where the strides have their cells"
    )
    explained_class: Literal["true_class", "predicted_class"] = Field(
        "true_class", description="the class that maps speak for: of the label, or the one that the network predicts"
    )
    samples: int = Field(15, ge=1, description="noisy copies of SmoothGrad and of smooth variants")
    noise_level: float = Field(0.15, ge=0, description="noise of those copies over the image's range")
    smooth_methods: tuple[Attribution, ...] = Field(
        (), description="some of both lists: their smooth variants too, `<method>_smooth`, means over noisy copies"
    )
    xrai_top_percent: float | None = Field(
        None, gt=0, lt=100, description="`xrai_fast_top` too: `xrai_fast` of which this best share of pixels is kept"
    )
    baseline: Literal["minimum", "zero"] = Field(
        "minimum",
        description="black of integrated_gradients and guided_ig: each image's minimum, or 0 on the prepared scale",
    )
    steps: int = Field(25, ge=1, description="gradients on each path of integrated gradients, those of XRAI too")
    memory_gb: float = Field(0.75, gt=0, description="bound on the memory of a batch; larger ones are split")
    fidelity_steps: int = Field(40, ge=2, description="steps in which pixels are masked; 40: 2.5 % each")
    masking_precision: Literal["float32", "bf16"] = Field(
        "float32", description="of the network while pixels are masked; bf16: about twice as fast, not exact"
    )
    cascade: tuple[Attribution, ...] = Field(
        (), description="some of `methods`: their maps while layers are randomised one after the other"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Saliency:
        if found := {*self.methods, *self.costly_methods} & set(OF_TRANSFORMERS):
            raise ValueError(
                f"{sorted(found)}: no network of a study has attention; leave them out, and explain your own "
                "transformer with xiqa.saliency.attribute"
            )
        families = {method_of(method).module for method in self.methods}
        torn = [method for method in self.costly_methods if method_of(method).module in families]
        if torn:
            raise ValueError(
                f"costly_methods: {torn} come from the same passes as some of methods; put them into methods as well"
            )
        if not set(self.cascade) <= set(self.methods):
            raise ValueError(f"cascade: found {list(self.cascade)}, expected some of methods")
        asked = (*self.methods, *self.costly_methods)
        if not set(self.smooth_methods) <= set(asked) - set(CONTROLS):
            raise ValueError(
                f"smooth_methods: found {list(self.smooth_methods)}, expected some of methods and costly_methods, "
                f"without {', '.join(CONTROLS)}"
            )
        if self.xrai_top_percent and "xrai_fast" not in asked:
            raise ValueError("xrai_top_percent needs xrai_fast among methods or costly_methods; add it")
        return self

    @property
    def families(self) -> dict[str, list[str]]:
        """Jobs that make maps: family -> its methods, which share passes; smooth variants have their own families."""
        found: dict[str, list[str]] = {}
        for method in (*self.methods, *self.costly_methods):
            found.setdefault(_family(method), []).append(method)
        if self.xrai_top_percent:
            found["xrai"].append("xrai_fast_top")
        for method in self.smooth_methods:
            found.setdefault(f"{_family(method)}_smooth", []).append(f"{method}_smooth")
        return found


def _family(method: str) -> str:
    """The module that makes a method's maps, as names of files and rules have it."""
    return method_of(method).module.replace(".", "_")


class Tracking(Section):
    """MLflow."""

    experiment: str = Field("xiqa", min_length=1, description="name of the MLflow experiment")
    log_model: bool = Field(True, description="log the ensemble as an MLflow model")


class Compute(Section):
    """What the jobs may use."""

    threads: int = Field(1, ge=1, description="threads per job; results are equal only for equal threads")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where networks run")
    gradient: Literal["auto", "fast", "plain"] = Field(
        "auto", description="compiled or plain-torch gradient of the ensemble midpoint"
    )


class Config(Section):
    """One study."""

    study: str = Field(pattern=r"^[a-z0-9_]+$", description="name of the study")
    results: str = Field(
        "results",
        min_length=1,
        description="folder of all outputs, in the project or anywhere else, with $VARIABLES and ~",
    )
    seed: int = Field(0, ge=0, description="seed of everything random")
    pseudonym_key: str = Field(
        "~/.config/xiqa/pseudonym_key",
        description="file of the secret behind the pseudonyms of real patients, outside the results, with $VARIABLES "
        "and ~; made where it is missing, and only its owner may read it",
    )
    compute: Compute = Compute()
    cdmam: Cdmam
    generalise: Generalise = Generalise()
    datasets: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Dataset] = Field(
        {}, description="classification studies by name; null leaves one out"
    )
    saliency: Saliency = Saliency()
    tracking: Tracking = Tracking()

    _expand_key = field_validator("pseudonym_key")(expanded)

    @field_validator("results")
    @classmethod
    def _a_folder_of_its_own(cls, results: str) -> str:
        folder = os.path.normpath(expanded(results))
        if set(folder) & set("{}*?\n") or folder in (".", "..", "/"):
            raise ValueError(
                f"found '{results}', expected a folder that holds nothing else, such as results/mine or "
                "/scratch/me/study, without any of { } * ?"
            )
        return folder

    @field_validator("datasets")
    @classmethod
    def _with_folders_of_their_own(cls, datasets: dict[str, Dataset]) -> dict[str, Dataset]:
        own = {"cdmam", "classification", "tables", "figures", "logs", "benchmarks", "tracking", "mlflow"}
        if taken := own & set(datasets):
            raise ValueError(f"{sorted(taken)} are folders of the results already; choose another name")
        return datasets


def laid_over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """A study laid over another one, as Snakemake does it: mappings are merged, everything else is replaced."""
    both = {
        name: laid_over(base[name], value) if isinstance(value, dict) and isinstance(base.get(name), dict) else value
        for name, value in top.items()
    }
    return base | both


def own_images_alone(content: dict[str, Any]) -> bool:
    """Whether every data set of a study is a folder of one's own images: config/own_images.yaml is then laid under it.

    Args:
        content: the parsed YAML of the study laid over config/config.yaml.
    """
    datasets = without_nulls(content.get("datasets") or {})
    folders = [isinstance(dataset, dict) and dataset.get("format") == "folder" for dataset in datasets.values()]
    return bool(folders) and all(folders)


def without_nulls(mapping: Any) -> Any:
    """A study laid over the default leaves an entry of a mapping out by setting it to null."""
    if not isinstance(mapping, dict):
        return mapping
    return {name: value for name, value in mapping.items() if value is not None}


def with_shared_keys(dataset: Any) -> Any:
    """A data set whose weights and channels stand in each of its networks that names none itself.

    The members of an ensemble become seeds: as many trainings on the split of the first one.
    """
    if not isinstance(dataset, dict) or not isinstance(plans := dataset.get("networks", [{}]), list):
        return dataset
    shared = {name: dataset[name] for name in ("weights", "channels") if dataset.get(name) is not None}
    dataset = dataset | {"networks": [shared | plan if isinstance(plan, dict) else plan for plan in plans]}
    members, seeds, split = dataset.get("members", 1), dataset.get("seeds", [0]), dataset.get("split", {})
    if isinstance(members, int) and members > 1 and isinstance(seeds, list) and len(seeds) == 1:
        one_split = {} if split.get("official") or split.get("folds") else {"seed": seeds[0]}
        dataset |= {"seeds": [seeds[0] + member for member in range(members)], "split": one_split | split}
    return dataset


def load_config(content: dict[str, Any]) -> Config:
    """Check a configuration and return it typed.

    Args:
        content: the parsed YAML.

    Raises:
        ValueError: one line per fault: the key's path, what was found, what is allowed.
    """
    if "datasets" in content:
        datasets = without_nulls(content["datasets"])
        if isinstance(datasets, dict):
            datasets = {name: with_shared_keys(dataset) for name, dataset in datasets.items()}
        content = content | {"datasets": datasets}
    try:
        return Config.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            path = ".".join(str(part) for part in fault["loc"]) or "(top level)"
            found = fault["input"] if not isinstance(fault["input"], dict) else "a mapping"
            lines.append(f"  {path}: found {found!r}: {fault['msg']}")
        raise ValueError(
            "the configuration has faults (config/README.md lists each key):\n" + "\n".join(lines)
        ) from None


def json_schema() -> str:
    """The JSON schema of the configuration, as stored in workflow/schemas/config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def key_table() -> str:
    """Every key with its type, default and meaning, as Markdown: the body of config/README.md."""
    lines = ["| Key | Value | Default | Meaning |", "|---|---|---|---|"]

    def walk(model: type[Section], prefix: str, defaults: Section | None) -> None:
        for name, field in model.model_fields.items():
            kind, path = field.annotation, f"{prefix}{name}"
            value = getattr(defaults, name) if defaults is not None else field.default
            if isinstance(kind, type) and issubclass(kind, Section):
                walk(kind, f"{path}.", None if field.is_required() else value)
                continue
            default = "required" if field.is_required() else f"`{to_json(value).decode()}`"
            lines.append(f"| `{path}` | {_kind(field)} | {default} | {field.description or ''} |")
            for part in get_args(kind):
                if isinstance(part, type) and issubclass(part, Section):
                    walk(part, f"{path}{'' if NoneType in get_args(kind) else '[]'}.", None)

    walk(Config, "", None)
    return "\n".join(lines) + "\n"


def _kind(field: FieldInfo) -> str:
    """A readable name of a field's type with its limits."""
    names = {float: "number", int: "whole number", str: "text", bool: "true or false", dict: "mapping", tuple: "list"}

    def name_of(kind: Any) -> str:
        if get_origin(kind) is Literal:
            return ", ".join(f"`{choice}`" for choice in get_args(kind))
        if get_origin(kind) in (Union, UnionType):
            return " or ".join(name_of(part) for part in get_args(kind) if part is not NoneType) + " or nothing"
        return names.get(get_origin(kind) or kind, "mapping")

    named = next((limit for limit in field.metadata if isinstance(limit, OneOf)), None)
    text = ", ".join(f"`{name}`" for name in named.names) if named else name_of(field.annotation)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{sign} {value:g}" for limit in field.metadata for name, sign in signs.items()
              if (value := getattr(limit, name, None)) is not None]  # fmt: skip
    return text + (f" ({', '.join(limits)})" if limits else "")


def write_documents(root: str) -> None:
    """Write the JSON schema and the table of keys below `root`, the folder of the project."""
    write_text(f"{root}/workflow/schemas/config.schema.json", json_schema())
    readme = Path(root, "config/README.md")
    head = readme.read_text(encoding="utf-8").split(KEYS_HEADING)[0] if readme.exists() else ""
    write_text(readme, f"{head}{KEYS_HEADING}\n\n{key_table()}")
