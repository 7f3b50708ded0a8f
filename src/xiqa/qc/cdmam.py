"""The analysis in Python, by the verbs that physicists know: load, analyze, plot, results, publish."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from xiqa.cdmam.folder import find_all
from xiqa.qc.analysis import Analysis, analyse
from xiqa.qc.limits_file import Limits, load_limits
from xiqa.qc.load import Found, Unread, keep_each_once, read_recording, settings_of
from xiqa.qc.record import Options, Record
from xiqa.qc.summary import summary


class CDMAM:
    """The images of one exposure setting of the CDMAM phantom, and what they say of the system.

    Args:
        places: folders with DICOM images, or single files.
        pixel_mm: pixel size on the detector in mm, where the files are wrong.
        frame: which frame of several, counted from 1.
        version: version of the phantom, "3.4" or "4.0"; None: what the grid shows.
        corners_px, orientation: where the grid is not found, see `xiqa.qc.load.read_recording`.
        skip_unreadable: leave out what cannot be read (see `left_out`) instead of raising.

    Attributes:
        left_out: file -> why it was left out.

    Raises:
        ValueError: an image that cannot be read, or none.

    Example:
        >>> c = CDMAM("images")  # doctest: +SKIP
        >>> c.analyze()  # doctest: +SKIP
        >>> print(c.results())  # doctest: +SKIP
        >>> c.publish_pdf("qa.pdf")  # doctest: +SKIP
    """

    def __init__(
        self,
        *places: str | os.PathLike,
        pixel_mm: float | None = None,
        frame: int | None = None,
        version: str | None = None,
        corners_px: np.ndarray | None = None,
        orientation: int | None = None,
        skip_unreadable: bool = False,
    ):
        images = find_all(places)
        how: dict[str, Any] = {"pixel_mm": pixel_mm, "frame": frame, "version": version}
        how |= {"corners_px": corners_px, "orientation": orientation}
        results = [
            read_recording(path, name, images.shown[path], graded=True, **how)
            for path, name in zip(images.paths, images.names, strict=True)
        ]
        unread = [result for result in results if isinstance(result, Unread)]
        if unread and (not skip_unreadable or len(unread) == len(results)):
            raise ValueError(unread[0].reason)
        found: Found = keep_each_once(images, results)
        self._images, self.left_out, self._unread = found.images, found.left_out, found.unread
        self._analysis: Analysis | None = None

    @property
    def settings(self) -> list[str]:
        """Names of the exposure settings of the images, from their headers."""
        return [setting.name for setting in settings_of(self._images)]

    def analyze(
        self,
        *,
        setting: str | None = None,
        one_setting: bool = False,
        limits: str | os.PathLike | Limits | None = None,
        **options: Any,
    ) -> CDMAM:
        """Measure the contrast-detail curve and hold it against limits.

        Args:
            setting: the exposure setting, of `settings`; needed where there are several.
            one_setting: take all images as one setting, whatever their headers say.
            limits: a file of limits, or limits; None: the European limits.
            options: further options of `xiqa.qc.record.Options`: method, human, bootstrap, seed.

        Raises:
            ValueError: several settings and none named, or no such setting.
        """
        settings = {one.name: one for one in settings_of(self._images, one=one_setting)}
        if setting is None and len(settings) == 1:
            setting = next(iter(settings))
        if setting not in settings:
            found = "several settings" if setting is None else f"setting {setting!r}"
            raise ValueError(f"found {found}, expected one of {', '.join(settings)}; name it: analyze(setting=...)")
        if not isinstance(limits, Limits):
            limits = load_limits(limits)
        self._analysis = analyse(settings[setting], Options(limits=limits, **options), self._unread)
        return self

    def results(self) -> str:
        """What was found, in a few lines."""
        return summary(self._analysed().record)

    def results_data(self, as_dict: bool = False) -> Record | dict[str, Any]:
        """What was found, as `xiqa.qc.record.Record` or as the dictionary that results.json holds."""
        record = self._analysed().record
        return record.model_dump(mode="json") if as_dict else record

    def plot_curve(self) -> Figure:
        """The contrast-detail diagram with the limits."""
        from xiqa.qc.files import curve_figure

        return curve_figure(self._analysed())

    def plot_analyzed_image(self, image: int = 0) -> Figure:
        """One image, with what was found in it beside the grid that was fitted.

        Args:
            image: its number in `results_data().images`.
        """
        from xiqa.qc.figures import plot_pictures
        from xiqa.qc.overlay import grid_overlay, hit_map

        chosen = self._analysed().setting.images[image]
        return plot_pictures([hit_map(chosen), grid_overlay(chosen)], chosen.name)

    def publish_pdf(self, filename: str | os.PathLike) -> None:
        """Write the record as PDF."""
        from xiqa.qc.files import publish

        publish(Path(filename), self._analysed())

    def _analysed(self) -> Analysis:
        if self._analysis is None:
            raise ValueError("found images that were not analysed, expected a call of analyze() before")
        return self._analysis
