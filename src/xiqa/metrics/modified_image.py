"""Does adding an explanation to its image lower the predicted curve, and by more than controls do?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.statistics import FEWEST_PATIENTS, median_interval, proportion_interval

ENOUGH_FOR_A_TEST = FEWEST_PATIENTS
REFERENCE_FORM = "visit_normalised"


def summarise_modified_images(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of images whose midpoint falls, with its exact interval, and the median change, per method and form.

    Args:
        rows: rows of modified_image.csv: image, group, method, form, midpoint_before_um, midpoint_after_um; the first
            method's visit-normalised form is what the others are compared with.

    Returns:
        One row per group (and `all`), method and form: n (images), lowered (images), lowered_share with _low and
        _high, median_change_um with _low and _high (below 0: better predicted quality), median_change_percent (of the
        image's own midpoint before), and p_value: one-sided
        Wilcoxon signed-rank test that the reference lowers the midpoint by more on the same images (NaN for the
        reference itself and below 6 images, where no result could be significant).

    Reference: Amanova et al. 2022, figure 13; Clopper and Pearson 1934; Wilcoxon 1945.
    """
    change_um = rows["midpoint_after_um"] - rows["midpoint_before_um"]
    rows = rows.assign(change_um=change_um, change_percent=100 * change_um / rows["midpoint_before_um"])
    reference = rows["method"].iloc[0], REFERENCE_FORM
    summary = []
    for group, of_group in [("all", rows), *rows.groupby("group", sort=False)]:
        by_kind = dict(list(of_group.groupby(["method", "form"], sort=False)))
        best = by_kind[reference].set_index("image")["change_um"]
        for (method, form), part in by_kind.items():
            change = part.set_index("image")["change_um"]
            lowered, n = int((change < 0).sum()), len(change)
            low, high = proportion_interval(lowered, n)
            median_low, median_high = median_interval(change)
            difference = (best - change).dropna()
            tested = (method, form) != reference and len(difference) >= ENOUGH_FOR_A_TEST and difference.any()
            summary.append(
                {
                    "group": group, "method": method, "form": form, "n": n, "lowered": lowered,
                    "lowered_share": lowered / n, "lowered_share_low": low, "lowered_share_high": high,
                    "median_change_um": change.median(), "median_change_low_um": median_low,
                    "median_change_high_um": median_high, "median_change_percent": part["change_percent"].median(),
                    "p_value": _p_value(difference) if tested else np.nan,
                }
            )  # fmt: skip
    return pd.DataFrame(summary)


def _p_value(difference: pd.Series) -> float:
    from scipy.stats import wilcoxon  # a second to import: only where there is something to test

    return float(wilcoxon(difference, alternative="less").pvalue)
