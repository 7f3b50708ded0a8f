"""Deep ensemble: loading its members, predicting curves with aleatoric and epistemic uncertainty."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from xiqa import files
from xiqa.config import CellsNetwork, Network
from xiqa.models.cdc_net import CDCNet
from xiqa.models.cells_net import CellsNet

MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Ensemble:
    """Trained members, and the input normalisation that they share.

    Attributes:
        members: networks in evaluation mode, without gradients of their parameters.
        mean: mean of the training images in counts.
        sd: standard deviation of the training images in counts.
    """

    members: list[CDCNet] | list[CellsNet]
    mean: float
    sd: float

    @property
    def size(self) -> int:
        """Rows and columns of the input."""
        return self.members[0].size

    def normalise(self, counts: np.ndarray) -> np.ndarray:
        """Counts of any shape -> network input, float32: (counts - mean) / sd."""
        return normalise(counts, self.mean, self.sd)


def normalise(counts: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Counts of any shape -> network input, float32: (counts - mean) / sd."""
    return (np.asarray(counts, np.float32) - np.float32(mean)) * np.float32(1 / sd)


def build_member(size: int, network: Network | CellsNetwork) -> CDCNet | CellsNet:
    """A network with initial weights, of the kind that its configuration describes."""
    return CellsNet(size, network) if isinstance(network, CellsNetwork) else CDCNet(size, network)


def load_member(folder: str | os.PathLike) -> CDCNet | CellsNet:
    """Load one trained network from its folder (model.json, weights.safetensors).

    Returns:
        The network in evaluation mode; its parameters ask for no gradient.

    Raises:
        ValueError: the weights do not belong to the network that model.json describes.
    """
    folder = Path(folder)
    model = files.read_json(folder / MODEL_FILE)
    kind = CellsNetwork if "patch_px" in model["network"] else Network
    with _without_initial_weights():
        member = build_member(model["size"], kind(**model["network"]))
    member.to_empty(device="cpu")
    try:
        # Copied, not taken over: results may depend in their last bit on how the weights are aligned in memory.
        member.load_state_dict(files.read_tensors(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise ValueError(
            f"{folder / WEIGHTS_FILE}: found other weights than {MODEL_FILE} beside it describes; train again: {error}"
        ) from None
    return member.eval().requires_grad_(False)


def load_ensemble(folders: Sequence[str | os.PathLike]) -> Ensemble:
    """Load a deep ensemble, one folder per member.

    Raises:
        ValueError: no folder is given, or the members differ in size, target or input normalisation.
    """
    if not folders:
        raise ValueError("an ensemble needs at least one member's folder, found none")
    models = [files.read_json(Path(folder) / MODEL_FILE) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        for key in ("size", "input_mean", "input_sd", "training_data"):
            if model[key] != models[0][key]:
                raise ValueError(
                    f"{folder}: found {key} {model[key]}, expected {models[0][key]} as in {folders[0]}; "
                    "train all members on the same data"
                )
    return Ensemble([load_member(folder) for folder in folders], models[0]["input_mean"], models[0]["input_sd"])


@contextlib.contextmanager
def _without_initial_weights() -> Iterator[None]:
    """Layers begin empty: no time and no random numbers are spent on weights that are about to be replaced."""
    with (
        patch.object(torch.nn.Linear, "reset_parameters", lambda layer: None),
        patch.object(torch.nn.Conv2d, "reset_parameters", lambda layer: None),
    ):
        yield


@torch.no_grad()
def predict(ensemble: Ensemble, x: np.ndarray, batch: int = 32) -> dict[str, np.ndarray]:
    """Predict contrast-detail curves with their uncertainty.

    Args:
        ensemble: trained members.
        x: (n, s, s) or (n, 1, s, s) float32, normalised sampled images.
        batch: images computed at once.

    Returns:
        Arrays in µm, float64: `predicted_um` (n, 12), the mean over members; `aleatoric_um` (n, 12), the root of the
        mean over members of their variance; `epistemic_um` (n, 12), the standard deviation of the members' means
        (population form); `total_um` (n, 12), the root of the sum of squares of both; `member_um` (M, n, 12), the
        members' means.

    Raises:
        ValueError: x does not have the members' input size.

    Reference: Lakshminarayanan et al. 2017; Amanova et al. 2022, section 2.2.
    """
    size = ensemble.size
    if x.shape[-2:] != (size, size) or x.ndim not in (3, 4):
        raise ValueError(f"x: found shape {x.shape}, expected (n, {size}, {size})")
    x = x.reshape(-1, 1, size, size)
    means = np.empty((len(ensemble.members), len(x), 12))
    variances = np.empty_like(means)
    for index, member in enumerate(ensemble.members):
        dtype, device = member.target_scale.dtype, member.target_scale.device
        for start in range(0, len(x), batch):
            part = torch.tensor(x[start : start + batch], dtype=dtype, device=device)
            mean_um, variance_um2 = member.predict_um(part)
            means[index, start : start + batch] = mean_um.cpu().numpy()
            variances[index, start : start + batch] = variance_um2.cpu().numpy()
    aleatoric = np.sqrt(variances.mean(0))
    epistemic = means.std(0)
    return {
        "predicted_um": means.mean(0),
        "aleatoric_um": aleatoric,
        "epistemic_um": epistemic,
        "total_um": np.hypot(aleatoric, epistemic),
        "member_um": means,
    }
