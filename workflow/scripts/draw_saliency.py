"""Draw what the saliency methods say about three test images of one network: rows chosen by rule, not by hand."""

import numpy as np
from sklearn.metrics import roc_auc_score

from xiqa.datasets.splits import explained_images
from xiqa.figures.attributions import plot_attributions
from xiqa.figures.style import data_of
from xiqa.files import read_array, read_table, write_figure
from xiqa.logs import log_to


def draw(paths: dict[str, str], paths_to_maps: list[str], methods: list[str], images: int, path_to_panel: str) -> None:
    """Show the first explained image, and those whose mask the methods find with median and with worst pixel AUC."""
    pixels, masks, table = read_array(paths["images"]), read_array(paths["masks"]), read_table(paths["table"])
    rows = explained_images(table, read_table(paths["split"])["part"].to_numpy(), images)
    maps = {method: read_array(path) for method, path in zip(methods, paths_to_maps, strict=True)}
    found = np.array([_pixel_auc(masks[row], [values[k] for values in maps.values()]) for k, row in enumerate(rows)])
    order = np.argsort(-np.nan_to_num(found, nan=0.5), kind="stable")
    shown = {"first": 0, "median": int(order[len(order) // 2]), "worst": int(order[-1])}
    titles = [
        f"{name}: {table['label_name'].iloc[rows[k]]}" + ("" if np.isnan(found[k]) else f"\npixel AUC {found[k]:.2f}")
        for name, k in shown.items()
    ]
    chosen = list(shown.values())
    write_figure(
        path_to_panel,
        plot_attributions(
            pixels[rows[chosen]], masks[rows[chosen]], {name: values[chosen] for name, values in maps.items()}, titles,
            data_of(table["data"]),
        ),
    )  # fmt: skip


def _pixel_auc(mask: np.ndarray, maps: list[np.ndarray]) -> float:
    """Mean over methods of the area under the ROC curve of |map| against the mask; NaN without a mask."""
    inside = np.asarray(mask, bool).ravel()
    if not inside.any() or inside.all():
        return float("nan")
    return float(np.mean([roc_auc_score(inside, np.abs(values).ravel()) for values in maps]))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"draw saliency of {snakemake.wildcards.dataset}"):
        draw(
            paths={name: path for name, path in snakemake.input.items() if name != "maps"},
            paths_to_maps=list(snakemake.input.maps),
            methods=snakemake.params.methods,
            images=snakemake.params.images,
            path_to_panel=snakemake.output.panel,
        )
