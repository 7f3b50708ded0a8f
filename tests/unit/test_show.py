"""`show`: what each panel of the figure holds, for every layout of maps and images, and what it leaves alone."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from xiqa.figures.show import show

N, HEIGHT, WIDTH = 2, 8, 12


@pytest.fixture
def images():
    return np.random.default_rng(0).random((N, HEIGHT, WIDTH))


@pytest.fixture
def signed():
    return np.random.default_rng(1).normal(size=(N, HEIGHT, WIDTH))


def panels(figure, columns, rows=N):
    """Axes of images and maps, (rows, columns), without the colour bars."""
    return np.array(figure.axes[: rows * columns]).reshape(rows, columns)


def shown(panel, layer=-1):
    return panel.images[layer].get_array()


def texts(figure):
    figure.savefig(io.BytesIO())  # what cannot be drawn fails here
    return [text.get_text() for axes in figure.axes for text in (axes.title, axes.yaxis.label, *axes.texts)]


def test_signed_maps_are_symmetric_around_zero_and_others_begin_at_zero(images, signed):
    signed[0, 0, 0] = 1e6  # an outlier must not hide the rest
    amount = np.abs(signed)
    figure = show({"gradient": signed, "grad_cam": amount, "my_method": -amount - 1}, images)
    assert [panel.get_title() for panel in panels(figure, 4)[0]] == ["image", "gradient", "Grad-CAM", "my method"]
    limit = np.percentile(amount, 99.5)
    for column, low, colours in ((1, -limit, "RdBu_r"), (2, 0, "cividis")):
        for row in range(N):
            drawn = panels(figure, 4)[row, column].images[0]
            assert drawn.get_clim() == pytest.approx((low, limit))
            assert drawn.cmap.name == colours
            np.testing.assert_array_equal(drawn.get_array(), (signed if low else amount)[row])
    low, high = panels(figure, 4)[0, 3].images[0].get_clim()
    assert low == -high < 0  # an occlusion map is signed, even where nothing in it is positive
    raised = np.linspace(0.5, 0.52, images.size).reshape(images.shape)  # RISE: a small part on a large constant
    assert panels(show(raised, images, percentile=100), 2)[0, 1].images[0].get_clim() == pytest.approx((0.5, 0.52))
    rounded = amount.copy()
    rounded[1, 2, 3] = -1e-12
    assert panels(show(rounded, images), 2)[0, 1].images[0].get_clim()[0] == 0


def test_the_bar_is_pointed_where_values_lie_beyond_it(images):
    ramp = np.linspace(0, 1, images.size).reshape(images.shape)
    assert [show(ramp, images, percentile=p).axes[-1].get_xlim()[1] for p in (100, 50)] == pytest.approx(
        [1, 0.5], abs=0.01
    )
    extends = [show(m, images, percentile=50).axes[-1]._colorbar.extend for m in (ramp, -ramp, ramp - 0.5)]
    assert extends == ["max", "min", "both"]
    assert show(ramp, images, percentile=100).axes[-1]._colorbar.extend == "neither"


@pytest.mark.parametrize("kind", ["array", "float32", "bfloat16", "with gradient", "list"])
def test_maps_and_images_of_every_kind_are_drawn_alike(images, signed, kind):
    change = {
        "array": lambda a: a,
        "float32": lambda a: torch.tensor(a, dtype=torch.float32),
        "bfloat16": lambda a: torch.tensor(a, dtype=torch.bfloat16),
        "with gradient": lambda a: torch.tensor(a, requires_grad=True),
        "list": lambda a: a.tolist(),
    }[kind]
    expected, found = (panels(show(m, i), 2) for m, i in ((signed, images), (change(signed), change(images))))
    for a, b in zip(expected.ravel(), found.ravel(), strict=True):
        np.testing.assert_allclose(shown(b), shown(a), atol=0.03 if kind == "bfloat16" else 1e-6)


@pytest.mark.parametrize("layout", ["grey", "one channel", "channels first", "channels last", "integers", "shifted"])
def test_images_of_every_layout_and_range(images, signed, layout):
    colours = np.random.default_rng(2).random((N, HEIGHT, WIDTH, 3))
    given, expected = {
        "grey": (images * 4000 - 1000, None),
        "one channel": (images[:, None] - 0.5, None),
        "channels first": (colours.transpose(0, 3, 1, 2), colours),
        "channels last": (colours, colours),
        "integers": (np.rint(colours * 255).astype(np.uint8), np.rint(colours * 255) / 255),
        "shifted": ((colours - 0.45) / 0.2, None),
    }[layout]
    for row, panel in enumerate(panels(show(signed, given), 2)[:, 0]):
        drawn = np.asarray(shown(panel))
        if expected is not None:
            np.testing.assert_allclose(drawn, expected[row])
            continue
        # One line for all pixels and channels of an image, clipped at its percentiles.
        original = colours[row] if layout == "shifted" else images[row]
        low, high = np.percentile(original, [0.5, 99.5])
        np.testing.assert_allclose(drawn, np.clip((original - low) / (high - low), 0, 1), atol=1e-9)


def test_a_square_image_of_three_rows_is_not_taken_for_channels():
    maps = np.arange(18.0).reshape(2, 3, 3)
    first, last = np.zeros((2, 3, 3, 3)), np.zeros((2, 3, 3, 1))
    first[:, 0] = 1  # red in every pixel
    assert (np.asarray(shown(panels(show(maps, first), 2)[0, 0])) == [1, 0, 0]).all()
    assert shown(panels(show(maps, last), 2)[0, 0]).shape == (3, 3)


@pytest.mark.parametrize(
    "image", [(HEIGHT, WIDTH), (1, HEIGHT, WIDTH), (3, HEIGHT, WIDTH), (HEIGHT, WIDTH, 3), (1, 3, HEIGHT, WIDTH)]
)
def test_a_single_map_needs_no_n(image, signed):
    figure = show(signed[0], np.random.default_rng(3).random(image), masks=signed[0] > 1, boxes=[[1, 2, 3, 4]])
    assert panels(figure, 2, rows=1).shape == (1, 2)
    np.testing.assert_array_equal(shown(panels(figure, 2, rows=1)[0, 1]), signed[0])


def test_maps_that_say_nothing_are_called_so(images, signed):
    signed[0], signed[1, 2, 3:5] = 0.25, np.nan
    lost = np.full_like(signed, np.inf)
    figure = show({"a": signed, "b": lost, "c": np.zeros_like(signed)}, images)
    written = ["".join(text.get_text() for text in panel.texts) for panel in panels(figure, 4).ravel()]
    assert written == ["", "constant", "not finite", "constant", "", "not finite: 2 pixels", "not finite", "constant"]
    hatched = [any(c.hatches[0] for c in p.collections if hasattr(c, "hatches")) for p in panels(figure, 4).ravel()]
    assert hatched == [False, False, True, False, False, True, True, False]
    np.testing.assert_array_equal(shown(panels(figure, 4)[1, 1]).mask, np.isnan(signed[1]))
    texts(figure)


def test_images_that_are_not_finite_are_drawn(images, signed):
    images[0, 0, 0], images[1] = np.nan, np.inf
    texts(show(signed, images))
    texts(show(signed, np.stack([images] * 3, 1)))


def test_masks_and_boxes_are_outlined_white_on_black_up_to_the_border(images, signed):
    masks = np.zeros((N, HEIGHT, WIDTH), bool)
    masks[0] = True  # the whole image still has an outline
    figure = show(signed, images, masks=torch.tensor(masks), boxes=[[], [[1, 2, 4, 7], [0, 0, 12, 8]]])
    for row in range(N):
        for panel in panels(figure, 2)[row]:
            lines = [path for c in panel.collections for path in c.get_paths() if len(path.vertices)]
            assert len(lines) == (2 if row == 0 else 0)  # white on black
            corners = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in panel.patches]
            assert corners == ([] if row == 0 else [(0.5, 1.5, 3, 5), (-0.5, -0.5, 12, 8)] * 2)
            assert panel.get_xlim() == (-0.5, WIDTH - 0.5)
            assert panel.get_ylim() == (HEIGHT - 0.5, -0.5)
    extent = panels(figure, 2)[0, 1].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([extent.min(0), extent.max(0)], [[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]])


def test_titles_opacity_and_colour_map(images, signed):
    figure = show(signed, images, titles=["first", "second"], opacity=0.4, colour_map="gray")
    assert {"first", "second", "map", "image"} <= set(texts(figure))
    overlaid = panels(figure, 2)[0, 1].images
    assert [one.get_alpha() for one in overlaid] == [None, 0.4]
    np.testing.assert_array_equal(overlaid[0].get_array(), shown(panels(figure, 2)[0, 0]))
    assert overlaid[1].cmap.name == "gray"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": {}}, "maps: found none"),
        ({"maps": np.zeros((N, 3, HEIGHT, WIDTH))}, r"maps : found \(2, 3, 8, 12\).*sum over channels"),
        (
            {"maps": {"a": np.zeros((N, 8, 12)), "b": np.zeros((N, 8, 8))}},
            r"maps of b: found \(2, 8, 8\), expected \(2, 8, 12\)",
        ),
        ({"images": np.zeros((3, HEIGHT, WIDTH))}, r"images: found \(3, 8, 12\).*as the maps \(2, 8, 12\)"),
        ({"images": np.zeros((N, 4, 4))}, r"images: found \(2, 4, 4\)"),
        ({"images": np.zeros((N, WIDTH, HEIGHT))}, r"images: found \(2, 12, 8\)"),
        ({"images": np.array([["a"]])}, "images: found"),
        ({"masks": np.zeros((1, HEIGHT, WIDTH))}, r"masks: found \(1, 8, 12\)"),
        ({"boxes": [[]]}, "boxes: found 1, expected a list of 2"),
        ({"boxes": [[1, 2, 3], []]}, r"boxes: found \(3,\).*x_min, y_min, x_max, y_max"),
        ({"titles": "ab"}, "titles: found 'ab', expected a list of 2"),
        ({"opacity": 2}, "opacity 2"),
        ({"percentile": 0}, "percentile 0"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message, images, signed):
    with pytest.raises(ValueError, match=message):
        show(**({"maps": signed, "images": images} | change))


def test_matplotlib_stays_as_it_is_and_a_notebook_gets_a_picture(images, signed):
    before = dict(matplotlib.rcParams)
    figure = show(signed, images)
    assert dict(matplotlib.rcParams) == before
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    code = (
        "import sys, numpy as np; from xiqa.figures.show import show\n"
        "show(np.ones((1, 4, 4)), np.ones((1, 4, 4)))._repr_png_()\n"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
