"""Reader of the user's own images: any folder with a CSV table; and the reading of such tables for other readers."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from xiqa.config import Dataset
from xiqa.datasets.base import Box, DataError, Loaded, Record, Records, faults_named
from xiqa.datasets.images import load_image, read_mask
from xiqa.datasets.limits import with_rules
from xiqa.datasets.paths import checked, inside

EDGES = ("x_min", "y_min", "x_max", "y_max")
COLUMNS = ("image", "label", "patient or group")
TARGET = "target"
"""Column of the only target; the columns of several begin with it and an underscore."""
MISSING = ("", "na", "n/a", "nan", "null", "-", "?")
NO_PATIENT = (*MISSING, "none", "unknown")
PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
Rows = list[tuple[int, dict[str, str] | DataError]]
"""Number and cells of each row of a table, or what is wrong with it; 2 is the first row below the heading, as in a
spreadsheet."""


@with_rules
def read(folder: Path, dataset: Dataset) -> Records:
    """List the images of a table.

    Columns (in any order and case):

    - `image`: path inside the folder.
    - `label`: name of the class. `dataset.classes` gives their order; without it they are sorted, numbers as numbers.
      For `task: regression` instead `target`, or several columns `target_*`: numbers that are predicted.
    - `patient`: id of the patient; or, in a set without such ids, `group`: what keeps images together that belong
      together. Tables made from it then say "proxy".
    - `mask` (may be empty): path inside the folder. An empty cell says that nobody has drawn one, an all-black file
      that there is nothing to see.
    - `mask_*` (may be empty): paths of further masks, one column for each named structure, such as `mask_lungs` or
      `mask_text`: tables then say which share of a map lies on each.
    - `mask_values` (may be empty): which values of this mask are inside, as the key of the same name says.
    - `x_min`, `y_min`, `x_max`, `y_max` (may be empty): a box in pixels, its end exclusive; or `boxes`:
      "x_min y_min x_max y_max; ..." for any number of them.
    - `part` (may be empty): train, validation or test.
    - A further column is kept if its name begins with `header_` (what a shortcut may use, such as `header_scanner`) or
      `keep_`. All others stay out of the results: they may say who the patient is.

    An image is named `row-000012` after its row (the heading is row 1), since file names of one's own images may hold
    a patient's name and this name stands in every table and figure. Errors, though, name files: rename such files.

    Args:
        folder: the data folder.
        dataset: `table` names the CSV inside the folder; `classes` gives the order of the labels.

    Raises:
        DataError: there is no such table, columns are missing, there are fewer than two labels, or two that differ in
            case only; a target is no number, or all images have the same.
    """
    table = folder / dataset.table
    if not table.is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("*.csv"))) or "none"
        raise DataError(table, f"is no file; CSV tables in the folder: {found}; set `table` to yours")
    regression = dataset.task == "regression"
    rows = read_rows(table, tuple(name for name in COLUMNS if not (regression and name == "label")))
    classes = () if regression else tuple(_label(name) for name in dataset.classes) or _classes(table, rows)
    cells = [row for _, row in rows if not isinstance(row, DataError)]
    heading = cells[0] if cells else {}
    kept = [name for name in heading if name.startswith(("header_", "keep_"))]
    further = {name: _all_numbers(row[name] for row in cells) for name in kept}
    targets = _targets(table, heading, cells) if regression else ()
    structures = tuple(name for name in heading if name.startswith("mask_") and name != "mask_values")
    listed: set[Path] = set()
    yield from records(rows, partial(_record, folder, table, classes, targets, structures, further, listed))


def read_rows(table: Path, columns: Sequence[str]) -> Rows:
    """Read a CSV as people's programs write them.

    Commas, semicolons, tabs or bars separate; UTF-8, UTF-16 or Windows-1252; a byte-order mark, Excel's `sep=` line,
    spaces around cells and empty lines are passed over. Names of columns lose their case, and spaces and hyphens in
    them become underscores.

    Args:
        table: the file.
        columns: what must be there; "a or b" asks for one of two.

    Returns:
        For each row its number and cells, or a DataError where it has more or fewer cells than the heading.

    Raises:
        DataError: the file cannot be read as a table, has no rows, or lacks columns.
    """
    text = re.sub(r"^sep=.*\r?\n", "", _text(table), flags=re.IGNORECASE)

    def parse(separator: str) -> Iterator[list[str]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        return ([cell.strip() for cell in row] for row in reader)

    def heading_of(separator: str) -> list[str]:
        return [re.sub(r"[\s-]+", "_", name.casefold()) for name in next(parse(separator), [])]

    def present(heading: list[str]) -> int:
        return sum(any(name in heading for name in column.split(" or ")) for column in columns)

    try:
        separator = max(",;\t|", key=lambda sign: (present(heading_of(sign)), len(heading_of(sign))))
        heading, body = heading_of(separator), list(parse(separator))[1:]
    except csv.Error as error:
        raise DataError(table, f"cannot be read as CSV ({error}); save it again as CSV UTF-8") from error
    named = [name for name in heading if name]
    if present(heading) < len(columns) or len(set(named)) < len(named):
        found = ", ".join(named) or "none"
        raise DataError(table, f"found columns {found}; expected, each once, {', '.join(columns)}; rename yours")
    numbered = [(number, row) for number, row in enumerate(body, 2) if any(row)]
    if not numbered:
        raise DataError(table, "found no rows below the heading, expected one for each image")
    return [(number, _cells(table, number, heading, row)) for number, row in numbered]


def records(rows: Rows, make: Callable[[int, dict[str, str]], Record | None]) -> Records:
    """Make a record of each row of a table.

    Args:
        rows: from `read_rows`.
        make: gives the record of a row, or None for a row that is no part of the study; raises DataError.
    """
    for number, row in rows:
        if isinstance(row, DataError):
            row.row = number
            yield row
            continue
        try:
            with faults_named(f"row {number}"):
                record = make(number, row)
        except DataError as fault:
            fault.row = number
            yield fault
            continue
        if record is not None:
            yield replace(record, row=number)


def _text(table: Path) -> str:
    content = checked(table, table).read_bytes()
    if content.startswith(b"PK"):
        raise DataError(table, "is a spreadsheet, expected text; save it as CSV UTF-8")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _cells(table: Path, number: int, heading: list[str], row: list[str]) -> dict[str, str] | DataError:
    # A separator too many at the end of a row is common and harmless; a cell too few is not.
    if len(row) < len(heading) or any(row[len(heading) :]):
        problem = f"row {number}: found {len(row)} cells, expected {len(heading)} as in the heading"
        return DataError(table, f"{problem}; put quotes around cells that hold the separator")
    return dict(zip(heading, row, strict=False))


def _record(
    folder: Path,
    table: Path,
    classes: tuple[str, ...],
    targets: tuple[str, ...],
    structures: tuple[str, ...],
    further: dict[str, bool],
    listed: set[Path],
    number: int,
    row: dict[str, str],
) -> Record:
    refuse = partial(_fault, table, number)
    grouping = "patient" if "patient" in row else "group"
    if row["image"].casefold() in MISSING:
        raise refuse("column image is empty, expected a file name")
    path = inside(folder, row["image"], table)
    if path.resolve() in listed:
        raise refuse(f"'{row['image']}' is listed again, expected one row for each image; put its boxes in one row")
    listed.add(path.resolve())
    if row[grouping].casefold() in NO_PATIENT:
        advice = "give one; in a set without patient ids name the column group, and what keeps images together"
        raise refuse(f"column {grouping} is empty for '{row['image']}', expected an id; {advice}")
    label = "" if targets else _label(row["label"])
    if not targets and label not in classes:
        raise refuse(f"found label '{label}' of '{row['image']}', expected one of {', '.join(classes)}")
    values = {name: _number(row[name]) for name in targets}
    if faulty := [name for name, value in values.items() if not math.isfinite(value)]:
        raise refuse(f"found '{row[faulty[0]]}' in {faulty[0]} of '{row['image']}', expected a number")
    part = row.get("part", "").casefold()
    if part not in PARTS and part not in MISSING:
        raise refuse(f"found part '{part}', expected train, validation or test")
    mask = row.get("mask", "")
    mask_path = None if mask.casefold() in MISSING else inside(folder, mask, table)
    mask_values = None if row.get("mask_values", "").casefold() in MISSING else row["mask_values"]
    boxes = _boxes(row, refuse)
    named = {name: inside(folder, row[name], table) for name in structures if row[name].casefold() not in MISSING}
    return Record(
        image=f"row-{number:06d}",
        patient=row[grouping],
        label=0 if targets else classes.index(label),
        label_name=label,
        files=(path, *([] if mask_path is None else [mask_path]), *named.values()),
        load=partial(_load, path, mask_path, mask_values, boxes, named, refuse),
        grouping="patient" if grouping == "patient" else "proxy",
        part=PARTS.get(part),
        structures=tuple(name.removeprefix("mask_") for name in structures),
        targets=values,
        extra={name: _number(row[name]) if numbers else row[name] for name, numbers in further.items()},
    )


def _fault(table: Path, number: int, problem: str) -> DataError:
    return DataError(table, f"row {number}: {problem}")


def _load(
    path: Path,
    mask_path: Path | None,
    mask_values: str | None,
    boxes: tuple[Box, ...],
    named: dict[str, Path],
    refuse: Callable[[str], DataError],
) -> Loaded:
    loaded = load_image(path)
    height, width = loaded.pixels.shape
    for x_min, y_min, x_max, y_max in boxes:
        if min(x_min, y_min) < 0 or x_max > width or y_max > height:
            box = f"{x_min:g} {y_min:g} {x_max:g} {y_max:g}"
            raise refuse(f"box {box} leaves the image {path.name} of {width} columns and {height} rows")
    mask = None if mask_path is None else read_mask(mask_path, loaded, mask_values)
    # That somebody drew a mask can betray the label.
    header = loaded.header | {"has_mask": float(mask is not None)}
    structures = {
        name.removeprefix("mask_"): read_mask(mask_file, loaded, mask_values) for name, mask_file in named.items()
    }
    return replace(loaded, mask=mask, boxes=boxes, structures=structures, header=header)


def _boxes(row: dict[str, str], refuse: Callable[[str], DataError]) -> tuple[Box, ...]:
    edges = [row.get(name, "") for name in EDGES]
    texts = [] if all(edge.casefold() in MISSING for edge in edges) else [edges]
    if row.get("boxes", "").casefold() not in MISSING:
        texts += [re.split(r"[\s,]+", text.strip(" []()")) for text in row["boxes"].split(";") if text.strip()]
    boxes = []
    for text in texts:
        box = tuple(_number(edge) for edge in text)
        # Written so that NaN, for what is no number, fails too.
        if not (len(box) == 4 and box[0] < box[2] and box[1] < box[3] and all(map(math.isfinite, box))):
            raise refuse(f"found box '{' '.join(text)}', expected x_min y_min x_max y_max with min below max")
        boxes.append(box)
    return tuple(boxes)


def _number(text: str) -> float:
    """A number, also with a decimal comma; NaN for what is none."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _all_numbers(texts: Iterable[str]) -> bool:
    texts = [text for text in texts if text.casefold() not in MISSING]
    return bool(texts) and not any(math.isnan(_number(text)) for text in texts)


def _targets(table: Path, heading: Iterable[str], cells: Sequence[dict[str, str]]) -> tuple[str, ...]:
    """Columns of the targets."""
    names = tuple(name for name in heading if name == TARGET or name.startswith(f"{TARGET}_"))
    if not names or (TARGET in names and len(names) > 1):
        found = ", ".join(names) or "none"
        raise DataError(
            table, f"found the columns {found}; task: regression needs target, or several target_*; rename yours"
        )
    for name in names:
        if len({_number(row[name]) for row in cells}) < 2:
            raise DataError(table, f"column {name}: found the same value in all rows; there is nothing to learn")
    return names


def _label(text: str) -> str:
    """A label as text; 1.0, which programs write for 1 in a column with gaps, is 1."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text.strip())


def _classes(table: Path, rows: Rows) -> tuple[str, ...]:
    found = {_label(row["label"]) for _, row in rows if not isinstance(row, DataError)}
    found = {name for name in found if name.casefold() not in MISSING}
    names = sorted(found)
    if _all_numbers(names):
        names.sort(key=_number)
    if len(names) < 2 or len({name.casefold() for name in names}) < len(names):
        listed = ", ".join(f"'{name}'" for name in names) or "none"
        raise DataError(table, f"found labels {listed}; expected two or more that differ in more than case")
    return tuple(names)
