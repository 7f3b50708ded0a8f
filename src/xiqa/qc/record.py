"""What a record of quality assurance holds: the schema of results.json, which is versioned and documented from here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from xiqa.files import write_text
from xiqa.qc.limits_file import Limits

SCHEMA_VERSION: Literal["1.0"] = "1.0"
"""Raised at the first place where an old file can no longer be read as what it says, else at the second."""
DISCLAIMER = "For research and quality assurance. Not a medical device: no diagnosis may rest on it."

Verdict = Literal["met", "exceeded", "not determined"]
Side = Literal["", "below", "above"]
Human = Literal["thickness", "contrast"]
Method = Literal["standard", "graded"]


class Part(BaseModel):
    """What all parts of the record share: no further keys, and nothing that changes after it was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(Part):
    """How the curve was made."""

    method: Method = Field("standard", description="`standard` counts hits as the field does; `graded` uses signals")
    human: Human | None = Field(
        None,
        description="what the human-equivalent factor r(d) multiplies; null, before: what suits the phantom; null, "
        "after: nothing, the curve has no human factor",
    )
    bootstrap: int = Field(500, ge=0, description="draws for the intervals: over images, or (`graded`) of thresholds")
    seed: int = Field(0, ge=0, description="seed of the draws")
    limits: Limits | None = Field(description="what the curve is held against; null: none are known for the phantom")


class Exposure(Part):
    """The exposure setting, from the headers of the images."""

    name: str = Field(description="name of the setting")
    system: str = Field(description="manufacturer and model; empty where the headers do not say, as for all texts here")
    serial_number: str = Field(description="serial number of the device")
    station: str = Field(description="name of the station")
    anode: str | None = Field(description="anode material; null where the headers do not say or differ")
    filter: str | None = Field(description="filter material, likewise")
    tube_voltage_kv: float | None = Field(description="tube voltage in kV, likewise")
    exposure_mas: float | None = Field(description="median current-exposure time product in mAs")
    least_exposure_mas: float | None = Field(description="smallest of the images in mAs")
    largest_exposure_mas: float | None = Field(description="largest of the images in mAs")
    pixel_mm: float | None = Field(description="pixel size on the detector in mm")
    for_presentation: bool = Field(description="whether the images were processed for viewing")
    intensity_relationship: str = Field(description="of the counts to the exposure, such as LIN or LOG")
    frame: int | None = Field(description="which of several frames, counted from 1")
    first_date: str = Field(description="date of the first image, YYYY-MM-DD")
    last_date: str = Field(description="date of the last image, YYYY-MM-DD")


class Point(Part):
    """The curve at one diameter."""

    diameter_mm: float = Field(description="disc diameter in mm")
    t_auto_um: float = Field(description="threshold of the automated reading in µm; its bound where `censored`")
    t_human_um: float = Field(description="human-equivalent threshold in µm")
    cdc_um: float = Field(description="the smooth curve in µm: what is held against limits")
    ci_low_um: float | None = Field(description="lower end of its 95 % interval in µm; null where there is none")
    ci_high_um: float | None = Field(description="upper end in µm; null where there is none, or no bound is known")
    censored: bool = Field(description="only a bound of the threshold is known")
    side: Side = Field(description="where the threshold lies outside the phantom's discs: below the thinnest, or above")
    extrapolated: bool = Field(description="cdc_um lies outside the range in which the phantom has discs")
    single_source: bool = Field(False, description="what the phantom holds there is known from one source alone")
    known_place_um: float | None = Field(
        description="threshold in µm of the observer who knows each disc's place; null where it is not measured, as by "
        "`standard`"
    )
    known_place_low_um: float | None = Field(description="lower end of its 95 % interval in µm")
    known_place_high_um: float | None = Field(description="upper end of its 95 % interval in µm")


class Psychometric(Part):
    """The psychometric fit of one diameter: p = 0.25 + 0.75 / (1 + exp(-f (C - C_T))), C = ln(1 - exp(-0.19 t))."""

    diameter_mm: float = Field(description="disc diameter in mm")
    slope: float = Field(description="f")
    threshold_um: float = Field(description="thickness at 62.5 % correct in µm, held to the phantom's range")
    thickness_um: tuple[float, ...] = Field(description="gold thickness of each cell in µm")
    hit_rate: tuple[float, ...] = Field(description="fraction of images in which the corner disc was found")
    smoothed: tuple[float, ...] = Field(description="the same, smoothed over neighbouring cells: what was fitted")


class LimitAt(Part):
    """A limit at one diameter."""

    diameter_mm: float = Field(description="disc diameter in mm")
    limit_um: float = Field(description="the limit in µm")
    cdc_um: float = Field(description="the curve in µm")
    verdict: Verdict = Field(
        description="met: the whole interval lies at the limit or below; exceeded: all of it lies above; else not "
        "determined"
    )


class Judged(Part):
    """The verdict on one limit."""

    limit: str = Field(description="name of the limit")
    verdict: Verdict = Field(description="exceeded where it is exceeded anywhere, met where it is met everywhere")
    at: tuple[LimitAt, ...] = Field(description="the limit at each of its diameters")


class Displacement(Part):
    """Where the discs lie against the grid, from an affine fit to those that are visible."""

    shift_x_mm: float = Field(description="shift to the right in mm on the detector")
    shift_y_mm: float = Field(description="shift down in mm on the detector")
    rotation_deg: float = Field(description="turn about the matrix centre, clockwise, in degrees")
    scale: float = Field(description="distance of the discs from the matrix centre over that of their cells")
    skew: float = Field(description="half the relative difference between the largest and the smallest such ratio")
    largest_mm: float = Field(description="largest distance of a central disc from the centre of its cell in mm")
    residual_mm: float = Field(description="distance of single discs from this map along an axis, rms, in mm")
    standard_error_mm: float = Field(description="largest standard error of a disc's place by this map in mm")
    discs: int = Field(description="discs located one by one, of two for each cell")


class Registration(Part):
    """Where the phantom lies in an image."""

    origin_x_mm: float = Field(description="matrix centre from the image's left edge in mm")
    origin_y_mm: float = Field(description="matrix centre from the image's upper edge in mm")
    angle_deg: float = Field(description="tilt against the nominal stand, clockwise, in degrees")
    orientation: int = Field(description="quarter turns counter-clockwise, plus 4 where mirrored left-right before")
    pitch_mm: float = Field(description="pitch of the grid on the detector in mm")
    residual_mm: float = Field(
        description="distance of the grid lines from the fitted lattice, root mean square, in mm"
    )
    eccentric_offset: float = Field(description="place of the eccentric discs as a fraction of the cell")
    magnification: float = Field(description="size of the discs on the detector over their nominal size")
    discs_dark: bool = Field(description="whether the discs are darker than the background")
    discs_visible: bool = Field(description="whether enough discs were seen to settle the orientation")
    displacement: Displacement | None = Field(None, description="where the discs lie against the grid, where measured")


class ImageRecord(Part):
    """One image."""

    name: str = Field(description="its name in the other results")
    file: str = Field(description="its path in the folder that was given")
    date: str = Field(description="date of the exposure, YYYY-MM-DD")
    tube_voltage_kv: float | None = Field(description="tube voltage in kV")
    exposure_mas: float | None = Field(description="current-exposure time product in mAs")
    pixel_digest: str = Field(description="SHA-256 of the pixels: the same image in another file has the same")
    registration: Registration = Field(description="where the phantom lies")
    corner_hits: int = Field(description="corner discs found, of the phantom's cells")
    centre_hits: int = Field(description="central discs found, of the phantom's cells")
    disc_contrast: float | None = Field(None, description="as in the record, of this image alone")
    contrast_to_noise: float | None = Field(description="likewise")
    corner: tuple[str, ...] = Field(description="a row per diameter: 1 hit, 2 miss, . no cell; thicknesses rise")
    centre: tuple[str, ...] = Field(description="the same of the central discs")
    cdc_um: tuple[float, ...] = Field(description="the curve from this image alone in µm, at the diameters of `curve`")
    warnings: tuple[str, ...] = Field(description="what is unusual about the image")


class Provenance(Part):
    """What made the record, and when."""

    xiqa_version: str = Field(description="version of xiqa")
    commit: str = Field(description="git commit of its code, or `unknown`")
    versions: dict[str, str] = Field(description="versions of Python and of what the numbers rest on")
    analysed: str = Field(description="when, UTC")
    images_digest: str = Field(description="SHA-256 of the images' digests in order: equal for equal sets of images")


class Record(Part):
    """One exposure setting, measured once."""

    schema_version: Literal["1.0"] = Field(SCHEMA_VERSION, description="version of this schema")
    disclaimer: str = Field(DISCLAIMER, description="what the record may be used for")
    phantom: str = Field("CDMAM 3.4", description="the phantom")
    exposure: Exposure = Field(description="the exposure setting")
    verdict: Verdict = Field(description="the verdict on the limit that decides")
    limits: tuple[Judged, ...] = Field(description="the verdict on each limit")
    iqf_inverse: float = Field(
        description="inverse image quality figure 100 / Σ cdc_um × diameter_mm over all diameters; larger is better"
    )
    iqf_log_error: float | None = Field(
        description="standard error of its logarithm, by leaving out images; null for fewer than 3"
    )
    disc_contrast: float | None = Field(
        None,
        description="counts by which a disc that lets nothing through would differ from its background, mean over "
        "images: it goes with the dose, for control charts; null where the discs do not stand out",
    )
    disc_contrast_log_error: float | None = Field(
        None, description="standard error of its logarithm, from the spread between images; null for fewer than 3"
    )
    contrast_to_noise: float | None = Field(
        description="contrast of the discs over the noise under a disc of their size, mean over images; no physical "
        "ratio, but it follows the dose closely: for control charts; null where the discs do not stand out"
    )
    contrast_to_noise_log_error: float | None = Field(description="standard error of its logarithm, likewise")
    curve: tuple[Point, ...] = Field(description="the curve, from the largest diameter on")
    counting_equivalent: bool = Field(
        True,
        description="whether the curve is that of counted hits; false: t_auto_um, t_human_um and cdc_um are thresholds "
        "of the observer who knows each disc's place, without human factor, for which no limits hold",
    )
    psychometric: tuple[Psychometric, ...] = Field(description="the psychometric fit of each diameter")
    warnings: tuple[str, ...] = Field(description="what makes the record doubtful, in words")
    images: tuple[ImageRecord, ...] = Field(min_length=1, description="the images")
    options: Options = Field(description="how the curve was made")
    provenance: Provenance = Field(description="what made the record, and when")

    def to_json(self) -> str:
        """The text of results.json."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: str | os.PathLike) -> Record:
    """Read a results.json.

    Raises:
        ValueError: no record, or of another version of the schema; names the file.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{path}: found schema version {version}, expected {SCHEMA_VERSION}; run xiqa read on the images again"
            )
        return Record.model_validate(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: found no JSON, expected a results.json of xiqa read") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path}: found a record that does not fit the schema ({place}: {first['msg']}), expected a results.json "
            "of xiqa read; was it edited?"
        ) from None


# ---------------------------------------------------------------------------------------------------------------------
# The schema in words


def write_documents(root: str | os.PathLike) -> None:
    """Write docs/reference/record.md and docs/reference/record.schema.json below the project's root."""
    schema = json.dumps(Record.model_json_schema(), indent=1, ensure_ascii=False)
    write_text(Path(root) / "docs/reference" / "record.schema.json", schema + "\n")
    write_text(Path(root) / "docs/reference" / "record.md", document())


def document() -> str:
    """The page that explains results.json, key by key."""
    lines = [
        "# results.json",
        "",
        "`xiqa read` writes one `results.json` for each exposure setting. This page and the JSON schema",
        "([record.schema.json](record.schema.json)) are made from `xiqa.qc.record`; `make schema` writes them again.",
        f"The version of the schema is {SCHEMA_VERSION}. A record holds nothing about a patient.",
        "",
    ]
    for part in _parts(Record):
        lines += [
            f"## {part.__name__}",
            "",
            (part.__doc__ or "").strip(),
            "",
            "| Key | Type | Meaning |",
            "|---|---|---|",
        ]
        for name, field in part.model_fields.items():
            lines.append(f"| `{name}` | {_type_words(field)} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def _parts(part: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all that it is made of, outermost first, each once."""
    found = [part]
    for model in found:
        for field in model.model_fields.values():
            found += [inner for inner in _models(field.annotation) if inner not in found]
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _type_words(field: FieldInfo) -> str:
    """The type of a key, in words."""
    kind = field.annotation
    words = str(kind) if get_args(kind) else getattr(kind, "__name__", str(kind))
    for model in _models(field.annotation):
        words = words.replace(f"{model.__module__}.{model.__qualname__}", model.__name__)
    words = (
        words.replace("typing.", "").replace("tuple[", "list of [").replace(", ...]", "]").replace("NoneType", "null")
    )
    return words.replace("|", "or").replace(" None", " null")
