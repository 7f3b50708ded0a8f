"""A record in a few lines of text, for the screen."""

from __future__ import annotations

from xiqa.qc.record import Judged, Record


def summary(record: Record) -> str:
    """What was found in one exposure setting: verdict, registration, curve against limits, warnings."""
    images = [image.registration for image in record.images]
    pitch, tilt = [i.pitch_mm for i in images], [i.angle_deg for i in images]
    cells = sum(row.count("1") + row.count("2") for row in record.images[0].corner)
    corner, centre = (
        100 * sum(hits) / len(images) / cells
        for hits in ([i.corner_hits for i in record.images], [i.centre_hits for i in record.images])
    )
    lines = [
        f"{record.exposure.name}, {record.phantom}: {len(images)} image{'s' * (len(images) > 1)}; "
        + (f"{record.options.limits.decides} limit {record.verdict}" if record.options.limits else "no verdict"),
        f"  grid pitch {min(pitch):.2f}-{max(pitch):.2f} mm, tilt {min(tilt):z.2f} to {max(tilt):z.2f}°, "
        f"lines within {max(i.residual_mm for i in images):.3f} mm (rms) of the lattice",
        f"  found: {corner:.1f} % of the corner discs, {centre:.1f} % of the central discs",
    ]
    for where, words in (("below", "below the thinnest disc"), ("above", "above the thickest disc")):
        if sizes := [f"{point.diameter_mm:.2f}" for point in record.curve if point.side == where]:
            measured = "" if all(not p.censored for p in record.curve if p.side == where) else ", not measured,"
            lines.append(f"  threshold {words}{measured} at {', '.join(sizes)} mm")
    lines += [f"  {judged_words(judged)}" for judged in record.limits]
    ratio = "" if record.contrast_to_noise is None else f", contrast-to-noise ratio {record.contrast_to_noise:.1f}"
    lines.append(f"  inverse image quality figure {record.iqf_inverse:.1f}{ratio}")
    lines += [f"  warning: {words}" for words in record.warnings]
    return "\n".join(lines)


def judged_words(judged: Judged) -> str:
    """The verdict on one limit, and at which diameters it is not met."""
    others = [
        f"{verdict} at {', '.join(f'{point.diameter_mm:.2f}' for point in judged.at if point.verdict == verdict)} mm"
        for verdict in ("exceeded", "not determined")
        if any(point.verdict == verdict for point in judged.at)
    ]
    return f"{judged.limit} limit {'; '.join(others) or 'met at ' + _sizes(judged)}"


def _sizes(judged: Judged) -> str:
    return ", ".join(f"{point.diameter_mm:.2f}" for point in judged.at) + " mm"
