"""Who reads what, in which form and order: blinded cases, arms by Latin square, repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from xiqa.seeds import stream_seed

REPEATED = 0.1
"""Share of a reader's cases that are shown a second time, for the agreement of a reader with himself or herself."""
COLUMNS = ["reader", "position", "case", "arm", "repeat"]


def methods_of(*arms: str) -> list[str]:
    """The saliency methods whose maps arms show, each once, in their order: of "image+map:rise" it is rise."""
    parts = [part for arm in arms for part in arm.split("+") if part.startswith("map:")]
    return list(dict.fromkeys(part.removeprefix("map:") for part in parts))


def choose_cases(table: pd.DataFrame, number: int, seed: int) -> pd.DataFrame:
    """Choose cases: as even over the labels as there are, and as many patients as there are.

    Args:
        table: a row for each image that may be shown: image, patient, label_name.
        number: how many.
        seed: of the choice.

    Raises:
        ValueError: there are fewer.
    """
    if len(table) < number:
        raise ValueError(
            f"cases: found {len(table)} explained test images, expected {number}; ask for fewer with --cases"
        )
    shuffled = table.iloc[np.random.default_rng(stream_seed(seed, "cases")).permutation(len(table))]
    # The first image of each patient before any second one, the labels in turn.
    again = shuffled.groupby("patient", sort=False).cumcount()
    turn = shuffled.assign(again=again).groupby(["again", "label_name"], sort=False).cumcount()
    order = pd.DataFrame({"again": again, "turn": turn, "label": shuffled["label_name"]})
    return shuffled.loc[order.sort_values(["again", "turn", "label"], kind="stable").index[:number]]


def assign(cases: int, arms: Sequence[str], readers: int, seed: int) -> pd.DataFrame:
    """Assign arms and an order to the cases of each reader.

    Cases lie in as many groups as there are arms; reader r sees group g in arm g + r, so that each reader sees each
    case once, each arm equally often, and each case comes in every arm where there are as many readers. A tenth of the
    cases, in the same arm, comes again at the end of the order.

    Args:
        cases: number of cases.
        arms: names of the arms.
        readers: number of readers.
        seed: of groups and orders.

    Returns:
        A row for each reading: reader (from 1), position (from 1), case (from 0), arm, repeat.
    """
    group = np.random.default_rng(stream_seed(seed, "groups")).permutation(np.arange(cases) % len(arms))
    rows = []
    for reader in range(1, readers + 1):
        draw = np.random.default_rng(stream_seed(seed, "order", reader))
        order = draw.permutation(cases)
        again = draw.permutation(order[: max(1, cases // 2)])[: max(1, round(REPEATED * cases))]
        for position, case in enumerate([*order, *again], 1):
            arm = arms[(group[case] + reader - 1) % len(arms)]
            rows.append((reader, position, int(case), arm, position > cases))
    return pd.DataFrame(rows, columns=COLUMNS)


def blind_id(secret: str, case: int, arm: str) -> str:
    """The name under which a case appears in an arm; who does not have the key cannot compute it, nor read it back."""
    return hashlib.blake2b(f"{case} {arm}".encode(), digest_size=5, key=bytes.fromhex(secret)).hexdigest()


def secret_of(key: pd.DataFrame, told: Sequence[object], pictures: Sequence[bytes]) -> str:
    """SHA-256 of all that is shown and asked, and of the key: it differs between any two studies.

    Args:
        key: a row for each case: image, patient, truth, what the network said.
        told: task, network, classes, arms and whatever else the study is.
        pictures: the PNG of each case in each arm.
    """
    whole = hashlib.sha256("\n".join([key.to_csv(index=False), *map(repr, told)]).encode())
    for picture in pictures:
        whole.update(hashlib.sha256(picture).digest())
    return whole.hexdigest()


def digest_of(readings: pd.DataFrame, classes: Sequence[str]) -> str:
    """What tells the forms of one export from those of any other: 16 hexadecimal digits of SHA-256.

    The blind ids carry what is shown and asked into it.
    """
    told = readings[["reader", "position", "id"]].to_csv(index=False) + "\n".join(classes)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
