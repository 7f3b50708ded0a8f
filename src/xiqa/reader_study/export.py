"""Write a reader study: cases, pictures, one offline form for each reader, and the key apart from them."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from xiqa.datasets.base import classes_of
from xiqa.figures.style import AMOUNT_MAP, SIGNED_MAP, robust_limits, signed_limit
from xiqa.files import read_array, read_table, write_json, write_table, write_text
from xiqa.names import method_name
from xiqa.reader_study.plan import assign, blind_id, choose_cases, digest_of, methods_of, secret_of

STUDY_FILE, CASES_FILE, KEY_FOLDER, KEY_FILE = "study.json", "cases.csv", "key", "key.csv"
ANSWER_COLUMNS = ["digest", "reader", "position", "case", "answer", "confidence", "seconds"]
SIDE_PX = 384
"""Side to which small images are enlarged; the form enlarges without smoothing."""
OPACITY = 0.6
"""Of the strongest values of a map over the image."""
QUESTIONS = {
    "label": "What does the image show?",
    "network": "What will the network say of this image?",
}
"""What readers are asked: the truth, or forward simulation of the network (Doshi-Velez and Kim 2017)."""


class Material(NamedTuple):
    """What a study has to show.

    Attributes:
        cases: a row for each explained test image: image, patient, label_name, predicted, probability, row (in the
            prepared set).
        images: (n, size, size) prepared images.
        maps: method -> (cases, size, size).
        classes: names of the classes.
        network: architecture and seed that was explained.
        data: `simulated`, `real` or `mixed`.
        unforeseen: number of cases whose maps speak for another class than the network's: they were made for the label.
    """

    cases: pd.DataFrame
    images: np.ndarray
    maps: dict[str, np.ndarray]
    classes: list[str]
    network: str
    data: str
    unforeseen: int = 0


def material(folder: str | Path, methods: Sequence[str], architecture: str | None = None) -> Material:
    """Read what a finished study has of one data set.

    Args:
        folder: results/<data set>.
        methods: saliency methods whose maps are shown.
        architecture: of the network; None: the only one.

    Raises:
        ValueError: no such study, several networks and none named, a regression, or maps that were not made.
    """
    folder = Path(folder)
    networks = sorted(path.name for path in folder.glob("predictions/*") if (path / "trained").is_dir())
    if not networks:
        raise ValueError(
            f"{folder}: found no predictions, expected the results of a data set, such as results/brain_tumor"
        )
    if architecture is None and len(networks) > 1:
        raise ValueError(f"{folder}: found the networks {', '.join(networks)}; name one with --network")
    architecture = architecture or networks[0]
    if architecture not in networks:
        raise ValueError(f"network: found {architecture!r}, expected one of {', '.join(networks)}")
    seeds = sorted(
        int(path.stem.removeprefix("seed-")) for path in folder.glob(f"predictions/{architecture}/trained/seed-*")
    )
    seed = seeds[0]
    table = read_table(folder / "prepared/table.parquet")
    predictions = read_table(folder / f"predictions/{architecture}/trained/seed-{seed}.parquet").set_index("image")
    probabilities = predictions.filter(like="probability_")
    if probabilities.empty:
        raise ValueError(f"{folder}: found a regression, expected a classification: readers choose among classes")
    classes = classes_of(table)
    chosen = read_table(folder / f"explained/seed-{seed}.parquet")
    tested = chosen[chosen["part"] == "test"]
    costly = tested[tested["costly"].astype(bool)]
    maps, rows = {}, tested["row"].to_numpy()
    for method in methods:
        path = folder / f"saliency/{architecture}/trained/seed-{seed}/{method}.npy"
        if not path.is_file():
            made = sorted(other.stem for other in path.parent.glob("*.npy"))
            raise ValueError(f"{path}: there is no such map; made were {', '.join(made) or 'none'}")
        maps[method] = read_array(path)
        if len(maps[method]) == len(costly):
            rows = np.intersect1d(rows, costly["row"].to_numpy())
    places = {
        method: {row: k for k, row in enumerate((costly if len(of) == len(costly) else tested)["row"])}
        for method, of in maps.items()
    }
    cases = table.loc[rows, ["image", "patient", "label_name"]].assign(row=rows).reset_index(drop=True)
    given = probabilities.loc[cases["image"]].to_numpy()
    cases["predicted"] = np.array(classes)[given.argmax(1)]
    cases["probability"] = given.max(1)
    unforeseen = 0
    if methods:
        folder_of_maps = folder / f"saliency/{architecture}/trained/seed-{seed}"
        checks = [read_table(path) for path in sorted(folder_of_maps.glob("*_checks.csv"))]
        told = (
            pd.concat(checks).astype({"explained": str})
            if checks
            else pd.DataFrame(columns=["image", "method", "explained"])
        )
        own = told[told["method"].isin(methods)].merge(cases[["image", "predicted"]], on="image")
        unforeseen = own.loc[own["explained"] != own["predicted"], "image"].nunique()
    kept = {method: np.stack([maps[method][places[method][row]] for row in rows]) for method in maps}
    return Material(
        cases, read_array(folder / "prepared/images.npy"), kept, classes, f"{architecture}, seed {seed}",
        str(table["data"].iloc[0]), unforeseen,
    )  # fmt: skip


def export(
    found: Material, out: str | Path, *, arms: Sequence[str], task: str, cases: int, readers: int, seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:  # fmt: skip
    """Write a study into a folder.

    Args:
        found: what there is to show.
        out: an empty folder, or one that is not there.
        arms: "image", "prediction" (with its probability), "map:METHOD", or several joined by "+".
        task: key of `QUESTIONS`.
        cases: how many.
        readers: how many.
        seed: of all that is drawn.
        progress: told how many pictures are done.

    Returns:
        The readings, as cases.csv has them.

    Raises:
        ValueError: the folder holds files, an arm is unknown or names a map that was not read, or too few cases.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: found files, expected an empty folder; answers of an older study would be mixed in")
    for arm in arms:
        for part in arm.split("+"):
            if part not in ("image", "prediction") and part.removeprefix("map:") not in found.maps:
                known = ["image", "prediction", *(f"map:{method}" for method in found.maps)]
                raise ValueError(f"arm: found {part!r}, expected some of {', '.join(known)}, joined by +")
    if task == "network" and any("prediction" in arm for arm in arms):
        raise ValueError("arm: found a prediction, which is what readers are asked for; leave it out")
    chosen = choose_cases(found.cases, cases, seed)
    readings = assign(cases, arms, readers, seed)
    limits = robust_limits(np.asarray(found.images[chosen["row"].to_numpy()], np.float32))
    shown = list(dict.fromkeys(zip(readings["case"], readings["arm"], strict=True)))
    drawn = {}
    for case, arm in shown:
        drawn[case, arm] = picture(found, int(chosen.index[case]), chosen.iloc[case], arm, limits)
        progress(len(drawn), len(shown))
    facts = chosen.reset_index(drop=True)[["image", "patient", "label_name", "predicted", "probability"]]
    secret = secret_of(facts, [task, found.network, found.classes, list(arms), seed], [*drawn.values()])
    ids = {place: blind_id(secret, *place) for place in shown}
    readings["id"] = [ids[place] for place in zip(readings["case"], readings["arm"], strict=True)]
    digest = digest_of(readings, found.classes)
    pictures = {ids[place]: png for place, png in drawn.items()}
    words = {ids[case, arm]: _words(chosen.iloc[case], arm) for case, arm in shown}
    (out / "images").mkdir(parents=True, exist_ok=True)
    for name, png in pictures.items():
        (out / "images" / f"{name}.png").write_bytes(png)
    for reader, own in readings.groupby("reader"):
        write_text(out / f"reader-{reader}.html", _form(reader, own, found, task, digest, pictures, words))
    write_table(out / CASES_FILE, readings[["reader", "position", "id", "arm", "repeat"]])
    key = readings.join(facts, on="case")
    key["truth"] = key["label_name" if task == "label" else "predicted"]
    write_table(out / KEY_FOLDER / KEY_FILE, key)
    write_json(
        out / STUDY_FILE,
        {"digest": digest, "classes": found.classes, "task": task, "arms": list(arms), "readers": readers,
         "cases": cases, "network": found.network, "data": found.data, "seed": seed},
    )  # fmt: skip
    return readings


def picture(found: Material, place: int, case: pd.Series, arm: str, limits: tuple[float, float]) -> bytes:
    """The picture of a case in an arm as PNG without metadata: the image, and beside it each map over the image."""
    grey = (np.asarray(found.images[case["row"]], np.float32) - limits[0]) / (limits[1] - limits[0])
    grey = np.clip(grey, 0, 1)[..., None].repeat(3, axis=2)
    panels = [grey]
    for method in methods_of(arm):
        maps = found.maps[method]
        signed = bool((maps < 0).any())
        values = np.clip(maps[place] / signed_limit(maps), -1 if signed else 0, 1)
        colours = colormaps[SIGNED_MAP if signed else AMOUNT_MAP]((values + 1) / 2 if signed else values)[..., :3]
        alpha = OPACITY * (np.abs(values) if signed else np.sqrt(np.maximum(values, 0)))[..., None]
        panels.append(grey * (1 - alpha) + colours * alpha)
    pixels = np.rint(255 * np.concatenate(panels, axis=1)).astype(np.uint8)
    enlarged = max(1, SIDE_PX // len(pixels))
    stream = io.BytesIO()
    Image.fromarray(pixels.repeat(enlarged, 0).repeat(enlarged, 1)).save(stream, "png", optimize=True)
    return stream.getvalue()


def _words(case: pd.Series, arm: str) -> str:
    """What stands below a picture."""
    told = []
    for part in arm.split("+"):
        if part.startswith("map:"):
            told.append(f"Beside the image: the map of {method_name(part.removeprefix('map:'))} over it.")
        elif part == "prediction":
            name = case["predicted"].replace("_", " ")
            told.append(f"The network says: {name}, with a probability of {100 * case['probability']:.0f} %.")
    return " ".join(told)


def _form(
    reader: int, own: pd.DataFrame, found: Material, task: str, digest: str, pictures: dict[str, bytes],
    words: dict[str, str],
) -> str:  # fmt: skip
    """The form of one reader, with all its pictures in it."""
    study = {
        "digest": digest,
        "reader": int(reader),
        "classes": found.classes,
        "columns": ANSWER_COLUMNS,
        "cases": [
            {"position": int(position), "id": name, "words": words[name]}
            for position, name in zip(own["position"], own["id"], strict=True)
        ],
        "images": {
            name: f"data:image/png;base64,{base64.b64encode(pictures[name]).decode()}" for name in own["id"].unique()
        },
    }
    kind = "" if found.data == "real" else f" The images are {found.data}."
    texts = {
        "reader": str(reader),
        "title": "Reader study" + ("" if found.data == "real" else f" ({found.data} images)"),
        "intro": f"You are reader {reader}. You will see {len(own)} cases, one at a time. Answer both questions and go "
        "on with Enter; a break is possible at any time, on the same computer." + kind,
        "question": QUESTIONS[task],
    }
    page = files("xiqa.reader_study").joinpath("form.html").read_text(encoding="utf-8")
    for name, text in texts.items():
        page = page.replace("{{" + name + "}}", html.escape(text))
    return page.replace("{{study}}", json.dumps(study).replace("</", "<\\/"))
