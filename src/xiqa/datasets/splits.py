"""Division of a prepared set into training, validation and test: by patient, stratified by label, asserted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from xiqa.config import Split
from xiqa.seeds import stream_seed

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
UNUSED, SEVERITY = "unused", "severity"
"""Left out because it neighbours the test part; the dose-response images of a twin, which are only ever tested."""


def split_images(table: pd.DataFrame, split: Split, seed: int) -> pd.DataFrame:
    """Give every image its part.

    What belongs together is never divided: images of one patient (or proxy group), and exact duplicates under
    different patients, whose patients are then joined. The division depends on the order of the table and on the seed,
    not on the pseudonyms.

    Args:
        table: prepared table with image, patient, label, duplicate_of and part (the official part or "severity").
        split: shares or sizes, folds, gap, official or not.
        seed: seed of the training, which has a split of its own unless `split.seed` gives one for all.

    Returns:
        Table with image, part (train, validation, test, severity, unused) and group (number of what stays together).

    Raises:
        ValueError: a label is missing in a part, which says how many patients are found and needed; an official split
            divides a patient or has no test part; the sizes are not those of the set.
    """
    seed = seed if split.seed is None else split.seed
    group = groups_of(table) if split.by == "patient" else np.arange(len(table))
    part = table["part"].to_numpy(object, copy=True)
    free = np.flatnonzero(part != SEVERITY)
    # Dose-response images of a patient of the main parts (there should be none) would leak with their patient.
    if set(group[free]) & set(group[part == SEVERITY]):
        raise ValueError("patients of the dose-response part also have images in the main parts; write the twin again")
    if split.official:
        _check_official(part[free])
    elif split.sizes:
        part[free] = _divide_by_sizes(table["label"].to_numpy()[free], group[free], split, seed)
    else:
        part[free] = _divide(table["label"].to_numpy()[free], group[free], split, seed)
    divided = pd.DataFrame({"image": table["image"].to_numpy(), "part": part, "group": group})
    _assert_whole(divided)
    _assert_all_labels(table, divided, split, seed)
    return divided


def explained_images(
    table: pd.DataFrame, part: np.ndarray, *, images: int, costly_images: int, masking_images: int, severity_images: int
) -> pd.DataFrame:
    """Which images are explained: chosen by rule, spread over the patients, the same for all networks of a split.

    Args:
        table: prepared table; of a twin with has_defect, since an image without may carry a severity and a mask of an
            organ, and has no dose to respond to.
        part: (n,) part of each image.
        images: test images, shared equally by the classes; those with a mask come first.
        costly_images: how many of them, chosen likewise, the costly methods explain.
        masking_images: how many of those are scored by masking.
        severity_images: images with a defect and a mask at each severity of the dose-response part.

    Returns:
        One row per image: row (in the prepared table), image, part (test or severity), costly, masking.
    """
    test = _evenly_by_class(table, np.flatnonzero(part == "test"), images)
    costly = _evenly_by_class(table, test, costly_images)
    masking = _evenly_by_class(table, costly, masking_images)
    holds = table["has_mask"] & table["has_defect"] if "has_defect" in table else table["has_mask"]
    graded = np.flatnonzero((part == SEVERITY) & holds.to_numpy(bool))
    levels = table["severity"].to_numpy()[graded] if len(graded) else graded
    chosen = [_evenly(graded[levels == level], severity_images) for level in np.unique(levels)]
    rows = np.concatenate([test, *chosen]).astype(int)
    chosen = pd.DataFrame({"row": rows, "image": table["image"].to_numpy()[rows], "part": part[rows]})
    return chosen.assign(costly=np.isin(rows, costly), masking=np.isin(rows, masking))


def upsampled_images(chosen: pd.DataFrame, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of the explained test images in the order in which their maps are upsampled: those with a mask first.

    Args:
        chosen: from `explained_images`.
        masks: of all images, by row.
    """
    rows = chosen.query("part == 'test'")["row"].to_numpy()
    empty = np.array([not masks[row].any() for row in rows])
    return rows[np.argsort(empty, kind="stable")]


def reference_images(label: np.ndarray, divided: pd.DataFrame, number: int, seed: int) -> np.ndarray:
    """Training images that stand for all of them, such as the references of expected gradients.

    Each class has its share, and one at least; within a class patients come in random order, and none has a second
    image before each has one. Pseudonyms and the order of the files play no part in who is drawn.

    Args:
        label: (n,) labels.
        divided: the split, from `split_images`.
        number: how many images; all of the training part where it has fewer.
        seed: of the draw.

    Returns:
        Rows (m,) in rising order.
    """
    rng = np.random.default_rng(stream_seed(seed, "references"))
    rows = rng.permutation(np.flatnonzero(divided["part"] == "train"))
    drawn = pd.DataFrame({"row": rows, "label": label[rows], "group": divided["group"].to_numpy()[rows]})
    drawn["place_of_patient"] = rng.permutation(divided["group"].max() + 1)[drawn["group"]]
    drawn["image_of_patient"] = drawn.groupby(["label", "group"]).cumcount()
    drawn = drawn.sort_values(["image_of_patient", "place_of_patient"])
    classes = drawn.groupby("label")["row"]
    place, images = classes.cumcount(), classes.transform("size")
    drawn["share"] = ((place + 0.5) / images).where(place > 0, 0.0)
    return np.sort(drawn.nsmallest(number, "share")["row"].to_numpy())


def _evenly_by_class(table: pd.DataFrame, rows: np.ndarray, number: int) -> np.ndarray:
    label, masked = table["label"].to_numpy()[rows], table["has_mask"].to_numpy(bool)[rows]
    names = np.unique(label)
    chosen = []
    for share, name in zip(np.array_split(np.arange(number), len(names)), names, strict=True):
        first, rest = rows[(label == name) & masked], rows[(label == name) & ~masked]
        chosen += [_evenly(first, len(share)), _evenly(rest, len(share) - min(len(share), len(first)))]
    return np.sort(np.concatenate(chosen))


def _evenly(rows: np.ndarray, number: int) -> np.ndarray:
    number = min(number, len(rows))
    return rows[np.linspace(0, len(rows) - 1, number).round().astype(int)] if number else rows[:0]


def groups_of(table: pd.DataFrame) -> np.ndarray:
    """Number (n,) of what stays together: patients, joined where an image of one is an exact duplicate of another's."""
    group = pd.factorize(table["patient"])[0]
    place = dict(zip(table["image"], range(len(table)), strict=True))
    for index, original in enumerate(table["duplicate_of"]):
        if isinstance(original, str):
            old, new = group[index], group[place[original]]
            group[group == old] = new
    return pd.factorize(group)[0]


def _divide(label: np.ndarray, group: np.ndarray, split: Split, seed: int) -> np.ndarray:
    """Parts (n,) by shares or folds; with a gap, each fold is every k-th group, and its neighbours stay unused."""
    part = np.full(len(label), "train", object)
    folds = split.folds or 1
    shares = [1 / folds] * folds if split.folds else [1 - split.test, split.test]
    rng = np.random.default_rng(stream_seed(seed // folds, "division"))
    # Groups are numbered in the order of the table, which for proxy groups is the order of the files.
    in_order = split.gap and split.folds
    chosen = group % folds if in_order else _in_random_order(label, group, shares, rng)
    test = chosen == (seed % folds if split.folds else 1)
    part[test] = "test"
    if split.gap:
        near = np.unique(np.add.outer(np.unique(group[test]), np.arange(-split.gap, split.gap + 1)))
        part[~test & np.isin(group, near)] = UNUSED
    rest = part == "train"
    rng = np.random.default_rng(stream_seed(seed, "validation"))
    share = min(1.0, split.validation * len(label) / max(1, rest.sum()))
    validation = _in_random_order(label[rest], group[rest], [1 - share, share], rng) == 1
    part[np.flatnonzero(rest)[validation]] = "validation"
    return part


def _divide_by_sizes(label: np.ndarray, group: np.ndarray, split: Split, seed: int) -> np.ndarray:
    """Parts (n,) of exactly so many groups each, with labels as even as in `_divide`."""
    sizes = [split.sizes.get(part, 0) for part in PARTS]
    found, one = len(np.unique(group)), "images" if split.by == "image" else "patients"
    if sum(sizes) != found:
        expected = " + ".join(map(str, sizes))
        raise ValueError(
            f"split.sizes: found {found} {one} in the set (those who share an image count as one), expected "
            f"{expected} = {sum(sizes)} for {', '.join(PARTS)}; change them, or give the shares validation and test"
        )
    rng = np.random.default_rng(stream_seed(seed, "division"))
    shares = [size / found for size in sizes]
    return np.array(PARTS, object)[_in_random_order(label, group, shares, rng, sizes)]


def _in_random_order(
    label: np.ndarray,
    group: np.ndarray,
    shares: list[float],
    rng: np.random.Generator,
    sizes: list[int] | None = None,
) -> np.ndarray:
    """Number of the share (n,): group by group to where its labels are missing most, large groups first.

    With `sizes`, the groups that each share has in the end, a share that is full takes no more.
    """
    names, codes = np.unique(group, return_inverse=True)
    counts = np.zeros((len(names), label.max() + 1 if len(label) else 1))
    np.add.at(counts, (codes, label), 1)
    wanted = np.outer(shares, counts.sum(0))
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    chosen = np.empty(len(names), int)
    left = np.full(len(shares), len(names)) if sizes is None else np.array(sizes)
    for index in order:
        # The share whose distance to its target falls most; relative, so that a rare label weighs as a common one.
        gain = ((wanted**2 - (wanted - counts[index]) ** 2) / np.maximum(counts.sum(0), 1) ** 2).sum(1)
        chosen[index] = np.argmax(np.where(left > 0, gain / np.maximum(shares, 1e-12), -np.inf))
        wanted[chosen[index]] -= counts[index]
        left[chosen[index]] -= 1
    return chosen[codes]


def _check_official(part: np.ndarray) -> None:
    found = sorted({str(value) for value in part})
    if not set(found) <= set(PARTS) or not {"train", "test"} <= set(found):
        raise ValueError(
            f"split.official: found the parts {found}, expected train, test and maybe validation; set it to false "
            "where the set has no official split"
        )


def _assert_whole(divided: pd.DataFrame) -> None:
    """No group lies in two parts: the property that every score rests on."""
    torn = divided[divided["part"] != UNUSED].groupby("group")["part"].nunique()
    if (torn > 1).any():
        images = divided.loc[divided["group"] == torn.idxmax(), "image"].head(3).tolist()
        raise ValueError(
            f"a patient (or duplicates) would lie in two parts, such as the images {images}; the split is wrong"
        )


def patients_needed(split: Split) -> int:
    """Patients of each label with which every part surely has one, by the shares of the smallest part."""
    test = 1 / split.folds if split.folds else split.test
    shares = [share for share in (test, split.validation, 1 - test - split.validation) if share > 0]
    return math.ceil(1 / min(shares) - 1e-9)


def _assert_all_labels(table: pd.DataFrame, divided: pd.DataFrame, split: Split, seed: int) -> None:
    """Each part has images of each label: without them a network cannot learn it, and no score can be computed."""
    part = divided["part"].to_numpy()
    if split.official:
        asked = [name for name in PARTS if name != "validation" or (part == name).any()]
    else:
        validated = split.sizes.get("validation") if split.sizes else split.validation
        asked = [name for name in PARTS if name != "validation" or validated]
    names = (table["label_name"] if "label_name" in table else table["label"]).astype(str).to_numpy()
    missing = {name: sorted(set(names) - set(names[part == name])) for name in asked}
    if not any(missing.values()):
        return
    own, one = part != SEVERITY, "images" if split.by == "image" else "patients"
    per_label = divided[own].groupby(names[own])["group"].nunique()
    found = ", ".join(f"{label} {number}" for label, number in per_label.items())
    lacking = "; ".join(
        f"the {name} part has none of {', '.join(labels)}" for name, labels in missing.items() if labels
    )
    if split.official:
        advice = "set split.official to false where the set's own parts are not complete"
    elif split.sizes:
        advice = f"expected at least {len(asked)} of each label, and sizes that give each part some; change split.sizes"
    else:
        advice = (
            f"expected {patients_needed(split)} or more of each label for these shares of {', '.join(asked)}; add "
            f"{one}, or raise the smallest of split.validation and split.test (validation: 0 does without that part)"
        )
    raise ValueError(
        f"split, seed {seed}: too few {one} per label: found {divided['group'][own].nunique()} {one} ({found}), "
        f"and {lacking}; {advice}"
    )
