"""From the images of one exposure setting to its record: the one function of the command line and of Python."""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

import xiqa
from xiqa.cdmam.curve import CurveResult, smooth, standard_curve, thresholds
from xiqa.cdmam.dicom import SIMULATOR
from xiqa.cdmam.graded import COUNTED_PHANTOM, NOT_COUNTING_EQUIVALENT, graded_curve
from xiqa.cdmam.limits import NOT_DETERMINED, overall_verdict, verdicts
from xiqa.cdmam.phantom import Phantom, phantom
from xiqa.cdmam.reader import HIT
from xiqa.cdmam.registered import registration_warnings
from xiqa.provenance import git_commit
from xiqa.qc import record as r
from xiqa.qc.constancy import Constancy, constancy
from xiqa.qc.limits_file import load_limits
from xiqa.qc.load import CURVE_OF_RECORD, SAME_MAS, ReadImage, Setting

_PARTS = 16


@dataclass(frozen=True)
class Analysis:
    """One exposure setting, analysed.

    Attributes:
        setting: its images.
        curve: its curve, with what is known of each point.
        record: all of it as it is written to results.json.
    """

    setting: Setting
    curve: CurveResult
    record: r.Record

    @property
    def table(self) -> pd.DataFrame:
        """The curve as curve.csv has it: the columns of `CurveResult.table`, and each limit with its verdict."""
        table = self.curve.table.copy()
        for judged in self.record.limits:
            at = {point.diameter_mm: point for point in judged.at}
            table[f"{judged.limit}_um"] = [at[d].limit_um if d in at else math.nan for d in table["diameter_mm"]]
            table[f"{judged.limit}_verdict"] = [at[d].verdict if d in at else "" for d in table["diameter_mm"]]
        return table


def analyse(setting: Setting, options: r.Options, unread: Mapping[str, str] = MappingProxyType({})) -> Analysis:
    """Measure the curve of one exposure setting and hold it against limits.

    Args:
        setting: its images, of `xiqa.qc.load.settings_of`.
        options: how the curve is made.
        unread: files of images that were there and cannot be read -> why; the record names them.
    """
    known = _phantom_of(setting.images)
    options = _settled(options, known)
    curve = curve_of(setting.images, options)
    judged = verdicts(curve.table, options.limits.limits_um if options.limits else {})
    limits = tuple(_judged(name, rows) for name, rows in judged.groupby("limit", sort=False))
    record = r.Record(
        phantom=f"CDMAM {known.version}",
        exposure=_exposure(setting),
        verdict=next(
            (limit.verdict for limit in limits if options.limits and limit.limit == options.limits.decides),
            NOT_DETERMINED,
        ),
        limits=limits,
        iqf_inverse=iqf_inverse(curve),
        iqf_log_error=_iqf_log_error(setting.images, options),
        **_constancy(setting.images),
        curve=tuple(_points(curve)),
        psychometric=tuple(_psychometric(setting.images)),
        counting_equivalent=curve.counting_equivalent,
        warnings=(*_warnings(setting, curve, options), *_missing(unread)),
        images=tuple(_image(image, options) for image in setting.images),
        options=options,
        provenance=_provenance(setting.images),
    )
    return Analysis(setting, curve, record)


def _phantom_of(images: Sequence[ReadImage]) -> Phantom:
    versions = sorted({image.reading.version for image in images})
    if len(versions) > 1:
        raise ValueError(f"found images of CDMAM {' and '.join(versions)} in one setting, expected one phantom")
    return phantom(versions[0])


def _settled(options: r.Options, known: Phantom) -> r.Options:
    """What the options leave open, as it suits the phantom: the European limits are those of CDMAM 3.4.

    Raises:
        ValueError: limits or a human factor for a curve that stands for no counted one.
    """
    human = options.human or known.file.curve.human_multiplies.value
    limits = None if known.version != "3.4" and options.limits == load_limits() else options.limits
    if options.method == "graded" and known.version != COUNTED_PHANTOM:
        for name, given in (("limits", limits is not None), ("human", options.human is not None)):
            if given:
                raise ValueError(
                    f"{name}: found some with the method graded, expected none, for "
                    f"{NOT_COUNTING_EQUIVALENT.format(known.version)}; leave {name} out or use the method standard"
                )
        human = None
    return options.model_copy(update={"human": human, "limits": limits})


def curve_of(images: Sequence[ReadImage], options: r.Options, *, bootstrap: int | None = None) -> CurveResult:
    """The curve of some images by the method that the options name.

    Raises:
        ValueError: an image without graded signals, for the method `graded`.
    """
    draws = options.bootstrap if bootstrap is None else bootstrap
    if options.method == "graded":
        without = [image.file for image in images if image.graded is None]
        if without:
            raise ValueError(
                f"{few(without)}: found no disc that stands out, so that graded signals tell nothing; leave these "
                "images out or use the method standard"
            )
        return graded_curve(
            [image.graded for image in images if image.graded is not None],
            human=options.human or _phantom_of(images).file.curve.human_multiplies.value,
            draws=max(draws, 1),
            seed=options.seed,
        )
    return standard_curve(
        np.stack([image.reading.corner for image in images]),
        human=options.human,
        bootstrap=draws,
        seed=options.seed,
        version=images[0].reading.version,
    )


def iqf_inverse(curve: CurveResult) -> float:
    """Inverse image quality figure: 100 over the sum of threshold (µm) times diameter (mm) over all diameters."""
    return float(100 / (curve.table["cdc_um"] * curve.table["diameter_mm"]).sum())


def _iqf_log_error(images: Sequence[ReadImage], options: r.Options) -> float | None:
    """Standard error of the logarithm of the image quality figure, by leaving out parts of the images (jackknife)."""
    parts = min(len(images), _PARTS)
    if parts < 3:
        return None
    logs = [
        math.log(iqf_inverse(curve_of([i for k, i in enumerate(images) if k % parts != part], options, bootstrap=0)))
        for part in range(parts)
    ]
    return math.sqrt((parts - 1) * np.var(logs))


def _constancy(images: Sequence[ReadImage]) -> dict[str, float | None]:
    """Geometric means over images, and the standard errors of their logarithms."""
    found = [constancy(image.reading) for image in images]
    names = [*Constancy._fields, *(f"{name}_log_error" for name in Constancy._fields)]
    seen = [each for each in found if each is not None]
    if len(seen) < len(found):
        return dict.fromkeys(names)
    logs = np.log(seen)
    errors = logs.std(axis=0, ddof=1) / math.sqrt(len(logs)) if len(logs) > 2 else (None, None)
    return {
        name: None if value is None else float(value)
        for name, value in zip(names, (*np.exp(logs.mean(axis=0)), *errors), strict=True)
    }


def _points(curve: CurveResult) -> Iterable[r.Point]:
    names = ("known_place_um", "known_place_low_um", "known_place_high_um")
    places = [{name: _finite(getattr(curve, name)[k]) for name in names} for k in range(len(curve.table))]
    for row, side, beyond, known in zip(curve.table.itertuples(), curve.side, curve.extrapolated, places, strict=True):
        yield r.Point(
            diameter_mm=row.diameter_mm,
            t_auto_um=row.t_auto_um,
            t_human_um=row.t_human_um,
            cdc_um=row.cdc_um,
            ci_low_um=_finite(row.ci_low_um),
            ci_high_um=_finite(row.ci_high_um),
            censored=row.censored,
            side=side,
            extrapolated=beyond,
            single_source=getattr(row, "single_source", False),
            **known,
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _judged(name: str, rows: pd.DataFrame) -> r.Judged:
    at = [
        r.LimitAt(diameter_mm=row.diameter_mm, limit_um=row.limit_um, cdc_um=row.cdc_um, verdict=row.verdict)
        for row in rows.itertuples()
    ]
    return r.Judged(limit=name, verdict=overall_verdict(rows["verdict"]), at=tuple(at))


def _psychometric(images: Sequence[ReadImage]) -> Iterable[r.Psychometric]:
    known = _phantom_of(images)
    rate = np.mean([image.reading.corner == HIT for image in images], axis=0)
    smoothed, fitted = smooth(rate, version=known.version), thresholds(rate, version=known.version)
    for index, row in enumerate(known.curve_rows):
        there = known.present[row]
        yield r.Psychometric(
            diameter_mm=float(known.diameters_mm[row]),
            slope=float(fitted.slope),
            threshold_um=float(fitted.t_auto_um[index]),
            thickness_um=tuple(known.thicknesses_um[row, there].tolist()),
            hit_rate=tuple(rate[row, there].tolist()),
            smoothed=tuple(smoothed[row, there].tolist()),
        )


def _common(values: Iterable[Any]) -> Any:
    """The value that all share, None where they differ."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _exposure(setting: Setting) -> r.Exposure:
    headers = [image.header for image in setting.images]
    exposures = [header.exposure_mas for header in headers if header.exposure_mas is not None]
    dates = sorted(header.date for header in headers if header.date) or [""]

    def common(name: str) -> Any:
        return _common(getattr(header, name) for header in headers)

    return r.Exposure(
        name=setting.name,
        **{name: common(name) or "" for name in ("system", "serial_number", "station", "intensity_relationship")},
        **{name: common(name) for name in ("anode", "filter", "tube_voltage_kv", "pixel_mm", "frame")},
        exposure_mas=float(np.median(exposures)) if exposures else None,
        least_exposure_mas=min(exposures, default=None),
        largest_exposure_mas=max(exposures, default=None),
        for_presentation=any(header.for_presentation for header in headers),
        first_date=dates[0],
        last_date=dates[-1],
    )


def _matrix_rows(matrix: np.ndarray) -> tuple[str, ...]:
    return tuple("".join(".12"[max(value, 0)] for value in row) for row in matrix.tolist())


def _image(image: ReadImage, options: r.Options) -> r.ImageRecord:
    reading, placed = image.reading, image.reading.registration
    return r.ImageRecord(
        name=image.name,
        file=image.file,
        date=image.header.date,
        tube_voltage_kv=image.header.tube_voltage_kv,
        exposure_mas=image.header.exposure_mas,
        pixel_digest=image.pixel_digest,
        registration=r.Registration(
            origin_x_mm=placed.origin_mm[0],
            origin_y_mm=placed.origin_mm[1],
            **{
                name: getattr(placed, name)
                for name in r.Registration.model_fields
                if name not in ("origin_x_mm", "origin_y_mm", "displacement")
            },
            displacement=r.Displacement(**asdict(placed.displacement)) if placed.displacement else None,
        ),
        corner_hits=int((reading.corner == HIT).sum()),
        centre_hits=int((reading.centre == HIT).sum()),
        **(found._asdict() if (found := constancy(reading)) else dict.fromkeys(Constancy._fields)),
        corner=_matrix_rows(reading.corner),
        centre=_matrix_rows(reading.centre),
        cdc_um=tuple(curve_of([image], options, bootstrap=0).table["cdc_um"].tolist()),
        warnings=tuple(image_warnings(image)),
    )


def image_warnings(image: ReadImage) -> list[str]:
    """What is unusual about one image, in words without its name."""
    placed = image.reading.registration
    found = registration_warnings(placed)
    if placed.residual_mm > 0.1:
        found.append(f"the grid lines lie {placed.residual_mm:.2f} mm (rms) off a regular lattice, usual are 0.02 mm")
    return found


def _warnings(setting: Setting, curve: CurveResult, options: r.Options) -> list[str]:
    headers = [image.header for image in setting.images]
    found = [warning.message for warning in curve.warnings]
    if options.limits is None and curve.counting_equivalent:
        found.append("no limits are published for this phantom: there is no verdict unless --limits gives some")
    if any(header.system == SIMULATOR for header in headers):
        found.append("the images are simulated")
    if any(header.for_presentation for header in headers):
        found.append(
            "images were processed for viewing (FOR PRESENTATION): their thresholds are not those of the detector; "
            "export FOR PROCESSING images"
        )
    relationships = {header.intensity_relationship for header in headers} - {"", "LIN"}
    if relationships:
        kind = ", ".join(sorted(relationships))
        found.append(
            f"the counts are not linear in the exposure (pixel intensity relationship {kind}): compare them only with "
            "images of the same kind"
        )
    for words, values in (
        ("tube voltage (kV)", [header.tube_voltage_kv for header in headers]),
        ("target and filter", [f"{header.anode}/{header.filter}" for header in headers]),
        ("pixel size (mm)", [round(header.pixel_mm, 4) for header in headers]),
        ("system", [header.system for header in headers]),
    ):
        if len(set(values)) > 1:
            shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted_all(values))
            found.append(f"the images differ in {words}: {shown}; a curve holds for one setting")
    exposures = [header.exposure_mas for header in headers if header.exposure_mas is not None]
    if exposures and max(exposures) > SAME_MAS * min(exposures):
        found.append(f"the images differ in exposure: {min(exposures):g} to {max(exposures):g} mAs")
    if any(header.tube_voltage_kv is None or header.exposure_mas is None for header in headers):
        found.append("the headers do not give tube voltage and exposure of all images: settings may be mixed")
    dates = sorted({header.date for header in headers if header.date})
    if len(dates) > 1:
        found.append(f"the images are of {len(dates)} days, {dates[0]} to {dates[-1]}")
    if len(headers) < CURVE_OF_RECORD and curve.method == "standard":
        found.append(
            f"a curve by counting should rest on {CURVE_OF_RECORD} images or more, this one rests on {len(headers)}"
        )
    unusual: dict[str, tuple[list[str], str]] = {}
    for image in setting.images:
        for words in image_warnings(image):
            # What is said of several images is said once, with the numbers of the first.
            unusual.setdefault(re.sub(r"[-\d.]+", "", words), ([], words))[0].append(image.name)
    return found + [f"{few(names)}: {words}" for names, words in unusual.values()]


def _missing(unread: Mapping[str, str]) -> Iterable[str]:
    """What the record says of images that may belong to the setting and are not in the curve, by reason."""
    reasons: dict[str, list[str]] = {}
    for file, reason in unread.items():
        reasons.setdefault(reason.removeprefix(f"{file}: "), []).append(file)
    return [f"{few(files)}: not read, and in no curve: {reason}" for reason, files in reasons.items()]


def sorted_all(values: Iterable[Any]) -> list[Any]:
    """Different values in order, None last."""
    return sorted(set(values), key=lambda value: (value is None, value if value is not None else 0))


def few(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many there are beside them."""
    shown = ", ".join(list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _provenance(images: Sequence[ReadImage]) -> r.Provenance:
    digests = "\n".join(sorted(image.pixel_digest for image in images))
    return r.Provenance(
        xiqa_version=xiqa.__version__,
        commit=git_commit(),
        versions={"python": platform.python_version()}
        | {package: version(package) for package in ("numpy", "numba", "pydicom", "scipy")},
        analysed=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        images_digest=hashlib.sha256(digests.encode()).hexdigest(),
    )
