"""The model file that MLflow logs for an ensemble: it loads the weights and predicts a CDC with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel


class EnsembleModel(PythonModel):
    """A deep ensemble as an MLflow model; the networks are loaded by the xiqa package, not unpickled."""

    def load_context(self, context: Any) -> None:
        """Load the members from the artifact folder `members`."""
        from xiqa.models.ensemble import load_ensemble

        self.ensemble = load_ensemble(sorted(Path(context.artifacts["members"]).iterdir()))

    def predict(self, context: Any, model_input: np.ndarray, params: dict | None = None) -> dict[str, np.ndarray]:
        """Predict contrast-detail curves.

        Args:
            context: unused here; MLflow hands it over.
            model_input: (n, s, s) float32 sampled images, normalised with the training set's mean and deviation.
            params: unused.

        Returns:
            predicted_um, aleatoric_um, epistemic_um: (n, 12) float64, thickness in µm for 1.00 ... 0.08 mm.
        """
        from xiqa.models.ensemble import predict

        found = predict(self.ensemble, np.asarray(model_input, dtype=np.float32))
        return {key: np.asarray(found[key], np.float64) for key in ("predicted_um", "aleatoric_um", "epistemic_um")}


mlflow.models.set_model(EnsembleModel())
