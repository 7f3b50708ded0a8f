"""Numbers that sentences and figures print or draw must be those of the tables they were made from.

    assert_printed(sentences, scores, derived=[3], phrases=["#1-#3"])
    assert_printed(texts_of(figure), table)
    assert_drawn(figure, table, along="x")

A test gives as few table rows as it can: a number is easily found by chance in a large table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

# A number that is no part of a name (conv3x3, scenario_1, ResNet-18, #2); a hyphen behind a digit separates a range.
_NUMBER = re.compile(r"(?<![\w.#])(?<![A-Za-z]-)(?:(?<![\w.)%])[-+])?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][-+]?\d+)?")
# The number is a percentage itself, or begins a range or list that ends as one ("3 to 5 %", "86 and 100 %").
_PERCENT = re.compile(r"(?:\s*(?:-|–|to|and|or|,)\s*[-+]?[\d.]+)*\s*(?:%|per cent|percent)")
# A tick of a scale: a plain number, or a power of ten.
_SCALE = re.compile(r"[-+\N{MINUS SIGN}]?[\d.]+(?:e[-+]?\d+)?|\$.*\$")
_EVERYWHERE = ("95 % interval", "95 % confidence interval", "95 % bootstrap interval", "± 1.96")


def numbers_in(text: str, phrases: Iterable[str] = ()) -> list[tuple[str, bool]]:
    """Numbers of a text as they are printed, each with whether it is a percentage.

    Args:
        text: sentence, legend, title; a true minus and a hyphen are the same.
        phrases: parts that are no results, taken out first.
    """
    for phrase in sorted({*phrases, *_EVERYWHERE}, key=len, reverse=True):
        # Whole words only: the name "a" is not taken out of "have".
        text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text)
    text = text.replace("\N{MINUS SIGN}", "-")
    return [(found[0], _PERCENT.match(text, found.end()) is not None) for found in _NUMBER.finditer(text)]


def texts_of(figure: Figure) -> list[str]:
    """Every text that a figure shows: titles, legends, notes, ticks that are names; not the numbers of scales."""
    figure.draw_without_rendering()
    scales = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = axis.get_ticklabels(which="both")
            scales |= {id(tick) for tick in ticks if _SCALE.fullmatch(tick.get_text())}
            scales.add(id(axis.get_offset_text()))
    shown = [text for text in figure.findobj(Text) if text.get_visible() and id(text) not in scales]
    return [text.get_text() for text in shown if text.get_text().strip()]


def assert_printed(
    texts: str | Iterable[str],
    *tables: pd.DataFrame | Iterable[float],
    derived: Iterable[float] = (),
    phrases: Iterable[str] = (),
) -> None:
    """Every number printed is, rounded as printed, a number of the tables; a percentage may be 100 times one.

    Args:
        texts: sentences, or `texts_of` a figure.
        tables: frames (their names are taken out of the texts first), or plain numbers.
        derived: numbers that are in no cell, such as counts of rows, worked out by the test.
        phrases: words with numbers that are no results ("12 diameters", "± 1.96"), taken out first.

    Raises:
        AssertionError: names each number that is not found, and its text.
    """
    values, names = _values(*tables, derived), set(phrases)
    for table in tables:
        if isinstance(table, pd.DataFrame):
            # Names of single letters would be taken out of words.
            names |= {
                name for column in table for name in table[column] if isinstance(name, str) and _NUMBER.search(name)
            }
    wrong = [
        f"{number} in: {text}"
        for text in ([texts] if isinstance(texts, str) else texts)
        for number, percent in numbers_in(text, names)
        if not _found(number, np.concatenate([values, 100 * values]) if percent else values)
    ]
    assert not wrong, "printed, but not in the tables given:\n" + "\n".join(wrong)


def assert_drawn(figure: Figure, *tables: pd.DataFrame | Iterable[float], along: str = "y", axes: int = 0) -> None:
    """Every marker, and both ends of every interval, lie at a number of the tables (or at 100 times one).

    Args:
        figure: the figure.
        tables: frames, or plain numbers.
        along: the axis on which the values are drawn, `x` or `y`.
        axes: number of the panel.
    """
    values = _values(*tables)
    values = np.concatenate([values, 100 * values])
    shown = drawn(figure, along, axes)
    assert len(shown), "nothing is drawn there"
    distance = np.abs(shown[:, None] - values).min(1)
    wrong = shown[distance > 1e-9 * np.maximum(1e-3, np.abs(shown))]
    assert not len(wrong), f"drawn, but not in the tables given: {wrong}"


def drawn(figure: Figure, along: str = "y", axes: int = 0) -> np.ndarray:
    """Places of markers and of interval ends on one axis of a panel; lines across the panel are left out."""
    panel, column = figure.axes[axes], "xy".index(along)
    places = []
    for line in panel.lines:
        # A line over the whole panel (axvline) is placed in the panel's own coordinates.
        if line.get_transform() == panel.transData and line.get_linestyle() != ":":
            places.append(np.asarray(line.get_xydata(), float)[:, column])
    for group in panel.collections:
        if isinstance(group, PathCollection):
            places.append(np.asarray(group.get_offsets(), float)[:, column])
        elif isinstance(group, LineCollection):
            # A point without an interval has an empty segment.
            places += [np.asarray(segment, float)[:, column] for segment in group.get_segments() if len(segment)]
    places = np.concatenate(places) if places else np.zeros(0)
    return places[np.isfinite(places)]


def _values(*tables: pd.DataFrame | Iterable[float]) -> np.ndarray:
    parts = [
        (table.select_dtypes("number") if isinstance(table, pd.DataFrame) else np.asarray(list(table), float))
        for table in tables
    ]
    values = np.concatenate([np.asarray(part, float).ravel() for part in parts])
    return values[np.isfinite(values)]


def _found(number: str, values: np.ndarray) -> bool:
    digits, _, exponent = number.replace(",", "").lower().partition("e")
    decimals = len(digits.partition(".")[2]) - int(exponent or 0)
    half = 0.5 * 10.0**-decimals
    return bool((np.abs(values - float(number.replace(",", ""))) <= half * (1 + 1e-6)).any())


def assert_short(told: Iterable[str | pd.DataFrame]) -> None:
    """A finding is one plain sentence of about 30 words with two ranges or intervals at most; lists are tables."""
    for text in (text for text in told if isinstance(text, str)):
        for sentence in re.split(r"(?<=\.) (?=[A-Z0-9])", text):
            assert len(sentence.split()) <= 32, sentence
            assert len(re.findall(r"\d[)%\s]* to [-+]?\d", sentence)) <= 2, sentence
