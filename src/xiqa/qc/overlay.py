"""Pictures of one CDMAM image: what was found where, and how grid and discs were placed; drawn fast, one per image."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from xiqa.cdmam.grid import in_frame
from xiqa.cdmam.phantom import CORNER_STEPS, Phantom, phantom
from xiqa.cdmam.reader import HIT, Registration
from xiqa.figures import style
from xiqa.qc.load import ReadImage

_FINE = 2  # lines are drawn this much larger and reduced, so that they are smooth
_LINE_PX = 22
ARROW_SCALE = 10
"""How much longer than in the image the displacement of the discs is drawn."""


def hit_map(image: ReadImage, canvas: Image.Image | None = None) -> Image.Image:
    """The image with a ring around each corner disc that was found, and a cross where it was missed.

    The disc of the cell is where ring and cross are; the central discs are not judged here. It is drawn upon `canvas`,
    which several pictures of an image share by copies; None: a new one.
    """
    canvas = canvas or _canvas(image.picture)
    draw = ImageDraw.Draw(canvas)
    hit = image.reading.corner == HIT
    for (i, j), centre in _cells(image, discs=True):
        x, y = _corner_disc(image, i, j, centre)
        radius = _FINE * max(_disc_radius(image, i), 5)
        if hit[i, j]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=style.SKY, width=3)
        else:
            arm = _FINE * 4
            for sign in (-1, 1):
                draw.line((x - arm, y - sign * arm, x + arm, y + sign * arm), fill=style.VERMILION, width=4)
    known = _phantom(image)
    found, cells = int(hit.sum()), int(known.present.sum())
    words = [(style.SKY, f"corner disc found ({found})"), (style.VERMILION, f"missed ({cells - found})")]
    if known.single_source.any():
        words.append(("white", f"{int(known.single_source.sum())} cells are known from one source alone"))
    return _captioned(canvas, words)


def grid_overlay(image: ReadImage, canvas: Image.Image | None = None) -> Image.Image:
    """The image with the fitted grid, the cell of the largest and thickest disc marked, and the discs' displacement."""
    canvas = canvas or _canvas(image.picture)
    draw = ImageDraw.Draw(canvas)
    placed = image.reading.registration
    known, (_, smaller, thicker) = _phantom(image), (_FINE * vector for vector in _frame(image))
    for _, centre in _cells(image):
        corners = [
            tuple(centre + (a * smaller + b * thicker) / 2) for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1), (-1, -1))
        ]
        draw.line(corners, fill=style.ORANGE, width=2)
    for k, words in _marked(known).items():
        _text(draw, dict(_cells(image))[k], words)
    words = [(style.ORANGE, f"grid, pitch {placed.pitch_mm:.2f} mm, tilt {placed.angle_deg:z.2f}°")]
    arrows = displacement_px(placed, known.version)
    if arrows is not None and placed.displacement is not None:
        for (i, j), centre in _cells(image):
            end = centre + _FINE * ARROW_SCALE * arrows[i, j] / image.picture_factor
            _arrow(draw, centre, end, style.SKY)
        words.append(
            (style.SKY, f"discs off the grid by up to {placed.displacement.largest_mm:.2f} mm (arrows × {ARROW_SCALE})")
        )
    return _captioned(canvas, words)


def image_pictures(image: ReadImage) -> dict[str, bytes]:
    """Both pictures of an image as PNG: "hits" and "grid"."""
    canvas = _canvas(image.picture)
    return {"hits": png(hit_map(image, canvas.copy())), "grid": png(grid_overlay(image, canvas))}


def displacement_px(placed: Registration, version: str = "3.4") -> np.ndarray | None:
    """Where the discs of each cell lie against the grid: (D, T, 2) x, y in pixels of the image; None: unknown."""
    if placed.displacement is None:
        return None
    return in_frame(np.asarray(placed.disc_frame_px) - placed.frame_px, *phantom(version).cell_places)


def lost_phantom(picture: np.ndarray, factor: int) -> Image.Image:
    """An image in which the phantom was not found, with a ruler in pixels of the image, to read corners from."""
    canvas = _canvas(picture)
    draw = ImageDraw.Draw(canvas)
    longest = max(picture.shape) * factor
    step = next(s for s in (100, 200, 250, 500, 1000, 2000, 2500, 5000, 10**9) if longest / s <= 12)
    for axis, side in enumerate(picture.shape[::-1]):
        for value in range(step, side * factor, step):
            place = _FINE * (value + 0.5) / factor - 0.5
            ends = [(place, 0), (place, canvas.height)] if axis == 0 else [(0, place), (canvas.width, place)]
            draw.line([tuple(end) for end in ends], fill=style.ORANGE, width=1)
            _text(draw, np.array((place, 24) if axis == 0 else (50, place)), str(value))
    return _captioned(canvas, [(style.ORANGE, "x (across) and y (down) in pixels of the image")])


def png(picture: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    stream = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        stream, "PNG", compress_level=4
    )  # a third of the time of the usual level, for a tenth of the room
    return stream.getvalue()


def _canvas(picture: np.ndarray) -> Image.Image:
    """A picture in grey to draw upon, `_FINE` times as large."""
    # The lines of the grid are darker than any disc: the grey of the background's noise tells how much is shown.
    middle, high = style.robust_limits(picture, 50, 99.5)
    low = max(float(picture.min()), middle - 6 * (high - middle))
    grey = Image.fromarray(np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.uint8))
    return grey.resize((_FINE * grey.width, _FINE * grey.height), Image.Resampling.BILINEAR).convert("RGB")


def _frame(image: ReadImage, discs: bool = False) -> np.ndarray:
    """The frame of the matrix, or of its discs, (3, 2) in pixels of the picture."""
    placed = image.reading.registration
    frame = np.array(placed.disc_frame_px if discs else placed.frame_px, float)
    frame[0] = (frame[0] + 0.5) / image.picture_factor - 0.5
    frame[1:] /= image.picture_factor
    return frame


def _cells(image: ReadImage, discs: bool = False):
    """Yield ((diameter index, thickness index), centre, or place of its disc, in pixels of the canvas) of each cell."""
    known = _phantom(image)
    centres = in_frame(_frame(image, discs), *known.cell_places)
    for i, j in zip(*np.nonzero(known.present), strict=True):
        yield (int(i), int(j)), _FINE * (centres[i, j] + 0.5) - 0.5


def _phantom(image: ReadImage) -> Phantom:
    return phantom(image.reading.version)


def _marked(known: Phantom) -> dict[tuple[int, int], str]:
    """Cells on which the overlay says how it understands the matrix: largest, smallest, thinnest and thickest."""
    if known.version == "3.4":
        return {(0, 5): "2.00 mm", (15, 11): "0.06 mm", (7, 0): "0.03 µm", (7, 15): "2.00 µm"}
    rows, columns = known.present.shape
    largest, smallest = (f"{known.diameters_mm[row]:.2f} mm" for row in (0, -1))
    middle = (rows // 2, columns // 2)
    return {
        (0, middle[1]): largest,
        (rows - 1, middle[1]): smallest,
        (middle[0], 0): "thinnest",
        (middle[0], columns - 1): "thickest",
    }


def _corner_disc(image: ReadImage, i: int, j: int, centre: np.ndarray) -> np.ndarray:
    _, smaller, thicker = _frame(image, discs=True)
    step = CORNER_STEPS[_phantom(image).corner_codes[i, j]]
    offset = image.reading.registration.eccentric_offset
    return centre + _FINE * offset * (step[0] * smaller + step[1] * thicker)


def _disc_radius(image: ReadImage, i: int) -> float:
    """Radius of the ring about a disc in pixels of the picture: a little larger than the disc."""
    size_mm = _phantom(image).diameters_mm[i] * image.reading.registration.magnification
    return 0.5 * size_mm / image.header.pixel_mm / image.picture_factor + 2


def _arrow(draw: ImageDraw.ImageDraw, start: np.ndarray, end: np.ndarray, colour: str) -> None:
    draw.line((*start, *end), fill=colour, width=3)
    along = end - start
    length = float(np.hypot(*along))
    if length > 6:
        along = along / length
        across = np.array([-along[1], along[0]])
        draw.polygon(
            [tuple(p) for p in (end + 4 * along, end - 6 * along + 5 * across, end - 6 * along - 5 * across)], colour
        )


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _text(draw: ImageDraw.ImageDraw, place: np.ndarray, words: str) -> None:
    """Words on a dark ground, which can be read on any image."""
    box = draw.textbbox(tuple(place), words, font=_font(24), anchor="mm")
    draw.rectangle((box[0] - 5, box[1] - 3, box[2] + 5, box[3] + 3), fill="#222222")
    draw.text(tuple(place), words, fill="white", font=_font(24), anchor="mm")


def _captioned(canvas: Image.Image, entries: Sequence[tuple[str, str]]) -> Image.Image:
    """Reduce what was drawn and put a legend below it, a line per entry."""
    small = canvas.reduce(_FINE)
    out = Image.new("RGB", (small.width, small.height + _LINE_PX * len(entries) + 8), "white")
    out.paste(small)
    draw = ImageDraw.Draw(out)
    for number, (colour, words) in enumerate(entries):
        middle = small.height + 4 + _LINE_PX * number + _LINE_PX // 2
        draw.rectangle((8, middle - 6, 20, middle + 6), fill=colour)
        draw.text((28, middle), words, fill="black", font=_font(15), anchor="lm")
    return out
