"""Limits for the curve as a file: the European ones are packaged, local ones are the reader's own."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xiqa.cdmam.phantom import VERSIONS, phantom

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Limits(BaseModel):
    """Limits of the threshold gold thickness, and which of them the verdict is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="what the limits are called in every output")
    source: str = Field("", description="where they are from")
    decides: str = Field(description="the limit that the verdict and the exit code are about")
    limits_um: dict[str, dict[Positive, Positive]] = Field(
        min_length=1, description="name of the limit: {diameter in mm: largest threshold in µm}"
    )

    @model_validator(mode="after")
    def _fit(self) -> Limits:
        if self.decides not in self.limits_um:
            raise ValueError(f"decides: found {self.decides!r}, expected one of {sorted(self.limits_um)}")
        for name, limits in self.limits_um.items():
            known = sorted({d for version in VERSIONS for d in phantom(version).curve_diameters_mm.tolist()})
            unknown = sorted(set(limits) - set(known))
            if unknown or not limits:
                raise ValueError(
                    f"limits_um: {name}: found the diameters {unknown} mm, expected some of the curve's: "
                    f"{', '.join(f'{diameter:g}' for diameter in known)} mm"
                )
        return self


def load_limits(path: str | os.PathLike | None = None) -> Limits:
    """Read limits from a YAML file.

    Args:
        path: the file; None takes the packaged European limits, which show the form.

    Raises:
        ValueError: names the file and what is wrong in it.
    """
    place = Path(path) if path is not None else files("xiqa.qc") / "limits" / "european.yaml"
    try:
        return Limits.model_validate(yaml.safe_load(place.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(
            f"{place}: found no YAML ({' '.join(str(error).split())}), expected a file of limits"
        ) from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{place}: found limits that cannot be used: {faults}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{place}: found a file that is no text, expected YAML") from None
