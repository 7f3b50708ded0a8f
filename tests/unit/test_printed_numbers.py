"""The check of printed numbers finds what is wrong and leaves what is right alone."""

import pandas as pd
import pytest
from matplotlib.figure import Figure
from printed_numbers import assert_drawn, assert_printed, drawn, numbers_in, texts_of

TABLE = pd.DataFrame(
    {"method": ["conv 1 of 7", "b"], "rmse_um": [0.01764, -0.1131], "share": [0.981, 1.0], "n": [24, 3]}
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scenario_1, #2, ResNet-18 and conv3x3 are names", []),
        ("0.30-0.50 and -0.5, +2 µm, (-3)", ["0.30", "0.50", "-0.5", "+2", "-3"]),
        ("1,961 tests, 5mm, 1.5e-05", ["1,961", "5", "1.5e-05"]),
        ("\N{MINUS SIGN}0.7 (95 % interval 0.1 to 0.2)", ["-0.7", "0.1", "0.2"]),
    ],
)
def test_numbers_are_read_as_they_are_printed(text, expected):
    assert [number for number, _ in numbers_in(text)] == expected


def test_percentages_are_recognised_in_ranges_too():
    assert [percent for _, percent in numbers_in("98-100 % of 3 maps, 4 to 5.5 per cent, 7 and 8 %")] == [
        True,
        True,
        False,
        True,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize("text", ["0.0176 µm", "0.018", "-0.113", "98 % of 24", "98.1 to 100 %", "conv 1 of 7: 3"])
def test_rounded_numbers_of_the_table_pass(text):
    assert_printed(text, TABLE)


@pytest.mark.parametrize("text", ["0.0177 µm", "0.113", "98 of 24", "97 %", "25", "conv 2 of 7", "0.9"])
def test_other_numbers_are_found(text):
    with pytest.raises(AssertionError, match="not in the tables"):
        assert_printed(["24 images", text], TABLE)


def test_counts_of_rows_and_fixed_words_are_given_by_the_test():
    assert_printed("In 2 of 12 diameters", TABLE, derived=[2], phrases=["of 12 diameters"])


def figure() -> Figure:
    shown = Figure()
    axes = shown.subplots()
    axes.plot(TABLE["rmse_um"], [0, 1], "o", label="RMSE 0.0176")
    axes.hlines([0], 100 * TABLE["share"][0], 100)
    axes.axvline(0.4)
    axes.set_yticks([0, 1], ["a (n = 24)", "b (n = 3)"])
    axes.set_title("largest 0.0176")
    shown.legend()
    return shown


def test_a_figure_is_read_without_the_ticks_of_its_scales():
    texts = texts_of(figure())
    assert {"a (n = 24)", "RMSE 0.0176", "largest 0.0176"} <= set(texts)
    assert_printed(texts, TABLE)
    assert_drawn(figure(), TABLE, along="x")


def test_a_point_elsewhere_is_found():
    shown = figure()
    shown.axes[0].scatter([0.02], [1])
    assert 0.02 in drawn(shown, "x")
    with pytest.raises(AssertionError, match=r"not in the tables given: \[0.02\]"):
        assert_drawn(shown, TABLE, along="x")
