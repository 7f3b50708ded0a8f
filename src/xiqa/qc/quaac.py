"""Records as a QuAAC document (YAML), the exchange format of quality assurance data; each measurement is in it once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from xiqa.files import write_text
from xiqa.qc.record import Record
from xiqa.qc.trend import date_of

VERSION = "1.0"


def add_to_quaac(path: str | os.PathLike, records: Iterable[Record], performer: str, email: str) -> tuple[int, int]:
    """Write measurements into a QuAAC file; those that it already holds are left as they are.

    Args:
        path: the YAML file, new or of version 1.0.
        records: the records; a point of the curve is one measurement each, as is the image quality figure.
        performer, email: who measured.

    Returns:
        How many measurements were added, and how many were there.

    Raises:
        ValueError: a file that is no QuAAC document of this version.

    Reference: QuAAC data models 1.0 (quaac.readthedocs.io): entries are named by the MD5 of their JSON.
    """
    path = Path(path)
    content = _read(path) if path.exists() else {"datapoints": [], "equipment": [], "users": [], "attachments": []}
    entries = {kind: {entry["hash"]: entry for entry in content[kind]} for kind in ("datapoints", "equipment", "users")}
    there = {_identity(point) for point in content["datapoints"]}
    added = known = 0
    user = _digested({"name": performer, "email": email})
    for record in records:
        exposure = record.exposure
        system = _digested(
            {
                "name": exposure.station or exposure.system or "mammography system",
                "type": "mammography system",
                "serial_number": exposure.serial_number,
                "manufacturer": exposure.system,
                "model": exposure.system,
            }
        )
        phantom = _digested(
            {
                "name": record.phantom,
                "type": "phantom",
                "serial_number": "",
                "manufacturer": "",
                "model": record.phantom,
            }
        )
        for point in _points(record, *(_reference(entry) for entry in (user, system, phantom))):
            if _identity(point) in there:
                known += 1
                continue
            added += 1
            there.add(_identity(point))
            entries["datapoints"][point["hash"]] = point
            entries["equipment"] |= {system["hash"]: system, phantom["hash"]: phantom}
            entries["users"][user["hash"]] = user
    document = {
        "version": VERSION,
        **{kind: list(values.values()) for kind, values in entries.items()},
        "attachments": content["attachments"],
    }
    write_text(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return added, known


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    lists = {"datapoints", "equipment", "users", "attachments"}
    if not isinstance(content, dict) or content.get("version") != VERSION or not lists <= set(content):
        raise ValueError(f"{path}: found no QuAAC document of version {VERSION} (YAML); name another file")
    return content


def _digested(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry as the file has it: with its digest, and with blanks in its keys, which the digest does not have."""
    digest = hashlib.md5(json.dumps(entry, sort_keys=True).encode()).hexdigest()
    return {key.replace("_", " "): value for key, value in entry.items()} | {"hash": digest}


def _reference(entry: dict[str, Any]) -> str:
    """How a measurement names another entry."""
    return f"({entry['name']}) {entry['hash']}"


def _identity(point: dict[str, Any]) -> tuple:
    """What makes two measurements one: the same quantity from the same images in the same way."""
    parameters = point.get("parameters") or {}
    keys = ("images_digest", "method", "human_factor_multiplies")
    if not parameters.get("images_digest"):
        return (point.get("hash"),)
    return (point["name"], *(parameters.get(key) for key in keys))


def _points(record: Record, user: str, system: str, phantom: str) -> Iterable[dict[str, Any]]:
    """The measurements of a record."""
    chosen = record.options.limits
    limits = {
        at.diameter_mm: at.limit_um
        for judged in record.limits
        if chosen and judged.limit == chosen.decides
        for at in judged.at
    }
    exposure = record.exposure
    parameters = {
        "setting": exposure.name,
        "tube_voltage_kv": exposure.tube_voltage_kv,
        "exposure_mas": exposure.exposure_mas,
        "anode": exposure.anode,
        "filter": exposure.filter,
        "images": len(record.images),
        "method": record.options.method,
        "human_factor_multiplies": record.options.human,
        "limits": chosen.name if chosen else "none",
        "images_digest": record.provenance.images_digest,
    }
    quantities: list[tuple] = [("inverse image quality figure", record.iqf_inverse, "1/(µm mm)", None, {})]
    for name, value, unit in (
        ("contrast of the discs", record.disc_contrast, "counts"),
        ("contrast-to-noise ratio of the discs", record.contrast_to_noise, "1"),
    ):
        if value is not None:
            quantities.append((name, value, unit, None, {}))
    quantities += [
        (
            f"threshold gold thickness at {point.diameter_mm:.2f} mm",
            point.cdc_um,
            "µm",
            limits.get(point.diameter_mm),
            {"ci_low_um": point.ci_low_um, "ci_high_um": point.ci_high_um, "censored": point.censored},
        )
        for point in record.curve
    ]
    for name, value, unit, reference, further in quantities:
        entry = {
            "name": f"{record.phantom}: {name}",
            "perform_datetime": f"{date_of(record)}T00:00:00",
            "measurement_value": value,
            "measurement_unit": unit,
            "reference_value": reference,
            "description": f"xiqa {record.provenance.xiqa_version}, curve through human-equivalent thresholds",
            "procedure": "",
            "performer": user,
            "performer_comment": "",
            "primary_equipment": system,
            "reviewer": None,
            "parameters": {**parameters, **further},
            "ancillary_equipment": [phantom],
            "attachments": [],
        }
        yield _digested(entry)
