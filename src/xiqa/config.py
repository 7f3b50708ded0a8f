"""The typed configuration: the one place where keys, units, defaults and limits are defined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from xiqa.files import write_text

KEYS_HEADING = "## Every key"
Anode = Literal["Mo", "Rh", "W"]
Filter = Literal["Mo", "Rh", "Ag", "Al"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Method = Literal[
    "omig",
    "sensitivity",
    "input_x_gradient",
    "integrated_gradients",
    "occlusion_pixel",
    "occlusion_patch",
    "lrp",
    "control_uniform",
    "control_centre",
    "control_edge",
]
METHOD_FAMILY: dict[str, str] = {
    "omig": "omig",
    "sensitivity": "gradient",
    "input_x_gradient": "gradient",
    "integrated_gradients": "gradient",
    "occlusion_pixel": "occlusion",
    "occlusion_patch": "occlusion",
    "lrp": "lrp",
    "control_uniform": "controls",
    "control_centre": "controls",
    "control_edge": "controls",
}
METHOD_MODULES: dict[str, str] = {method: f"xiqa.saliency.{method}" for method in METHOD_FAMILY}
STEPS = ("no_margin", "small_margins", "large_margins", "recorded")
SIMULATED_GROUPS = ("scenario_1", "scenario_2", "scenario_3", "scenario_4", "ood", "recorded_standin")


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Readout(Section):
    """Full-frame images that are read out to give a setting its label."""

    images: int = Field(16, ge=2, description="images without margin per setting (16 or more for a label of record)")
    images_scenarios: int = Field(16, ge=2, description="the same for the test settings")
    bootstrap: int = Field(500, ge=20, description="bootstrap draws over images")
    human: Literal["contrast", "thickness"] = Field(
        "thickness", description="what the human-equivalent factor r(d) multiplies"
    )


class Images(Section):
    """How many images are simulated for training and testing."""

    no_margin: int = Field(ge=1, description="training images per training setting, step 1 (no margin)")
    small_margins: int = Field(ge=0, description="per training setting, step 2 (smaller margins)")
    large_margins: int = Field(ge=0, description="per training setting, step 3 (largest margins)")
    recorded: int = Field(ge=0, description="per stand-in training setting, step 4 (recorded or stand-in)")
    test: int = Field(ge=1, description="test images per scenario, spread over the margins")
    ood: int = Field(ge=1, description="out-of-distribution test images")
    recorded_standin: int = Field(ge=1, description="test images of the stand-in for recordings")


class Sampling(Section):
    """Downsampling to the network's input."""

    size: int = Field(250, ge=20, le=1000, description="rows and columns kept of each image")
    samplings: int = Field(4, ge=1, description="K: samplings stored per training image, rotated by epoch")


class Network(Section):
    """The network of table 2 of paper 000."""

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
    """OMIG, algorithm 1 of paper 000."""

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
    """Upsampling to full resolution, algorithm 2 of paper 000."""

    methods: tuple[Method, ...] = Field(("omig", "sensitivity"), description="methods that are upsampled")
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


class Cdmam(Section):
    """The chain of paper 000."""

    recordings: tuple[str, ...] = Field(
        (), description="folders of real CDMAM recordings, one folder per exposure setting"
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
    scenarios: dict[Literal[SIMULATED_GROUPS], Exposure] = Field(
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

    @field_validator("scenarios", mode="before")
    @classmethod
    def _without_those_set_to_null(cls, scenarios: Any) -> Any:
        """A study laid over the default leaves a test group out by setting it to null."""
        if not isinstance(scenarios, dict):
            return scenarios
        return {group: exposure for group, exposure in scenarios.items() if exposure is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Cdmam:
        margins = self.margins_mm
        if margins[0] != 0 or list(margins) != sorted(set(margins)):
            raise ValueError(f"margins_mm: found {list(margins)}, expected rising values that begin with 0")
        if self.small_margins > len(margins) - 1:
            raise ValueError(f"small_margins: found {self.small_margins}, at most {len(margins) - 1} margins are left")
        trained = {setting.name for setting in (*self.training_settings, *self.standin_training_settings)}
        tested = {setting.name for setting in self.scenarios.values()}
        if trained & tested:
            raise ValueError(f"settings {sorted(trained & tested)} are both in training and in a test group")
        groups = set(self.test_groups)
        if not set(self.upsampling.groups) <= groups:
            raise ValueError(f"upsampling.groups: found {self.upsampling.groups}, expected some of {sorted(groups)}")
        return self

    @property
    def test_groups(self) -> list[str]:
        """The test groups in the order of the paper."""
        return [*(g for g in SIMULATED_GROUPS if g in self.scenarios), *(["recorded"] if self.recordings else [])]


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
        "results", pattern=r"^results(/[a-z0-9_]+)?$", description="folder of all outputs: results or results/<name>"
    )
    seed: int = Field(0, ge=0, description="seed of everything random")
    compute: Compute = Compute()
    cdmam: Cdmam
    tracking: Tracking = Tracking()


def load_config(content: dict[str, Any]) -> Config:
    """Check a configuration and return it typed.

    Args:
        content: the parsed YAML.

    Raises:
        ValueError: one line per fault: the key's path, what was found, what is allowed.
    """
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
            default = "required" if field.is_required() else f"`{json.dumps(value)}`"
            lines.append(f"| `{path}` | {_kind(field)} | {default} | {field.description or ''} |")
            for part in get_args(kind):
                if isinstance(part, type) and issubclass(part, Section):
                    walk(part, f"{path}[].", None)

    walk(Config, "", None)
    return "\n".join(lines) + "\n"


def _kind(field) -> str:
    """A readable name of a field's type with its limits."""
    names = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    kind = field.annotation
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    text = ", ".join(f"`{choice}`" for choice in choices) or names.get(kind) or ""
    if not text:
        origin = get_origin(kind)
        text = "mapping" if origin is dict else "list" if origin is tuple else "number or nothing"
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
