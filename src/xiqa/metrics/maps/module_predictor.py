"""A torch module as what the scores ask: images as numpy arrays in, class probabilities out."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from xiqa.models.working_copy import working_copy

_INSTEAD = "give predict= instead, images -> class probabilities (b, k)"
# Steps that change the shape or the type of an output, but none of its values.
_PASSED_ON = {
    "View", "UnsafeView", "ReshapeAlias", "Alias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "ToCopy",
}  # fmt: skip


class ModulePredictor:
    """Images (b, h, w) or (b, c, h, w) -> class probabilities (b, k) in float64, of a module's logits.

    A copy in evaluation mode is asked, see `models.working_copy`, so that the mode, flags, buffers and gradients of the
    module itself stay as they are, also when several threads ask. Images take the device and the dtype of its weights.
    One logit z, (b,) or (b, 1), belongs to the second of two classes: 1 - sigmoid(z) and sigmoid(z). Several take the
    softmax, in float64. A module that ends in a softmax, or in a sigmoid with one output, gives probabilities already.

    Args:
        model: (b, c, h, w) -> (b,), (b, 1) or (b, k). Images without channels are given as (b, 1, h, w).

    Raises:
        ValueError: the module cannot be copied; later, it refuses the images, or its output is none of these.
    """

    dtype = np.float64
    """What the images are handed over in: they lose nothing on the way to a module in float64."""

    def __init__(self, model: nn.Module):
        self.name = type(model).__name__
        with torch.inference_mode(False):
            if isinstance(model, torch.jit.ScriptModule):
                self.net = copy.deepcopy(model).eval()
            else:
                self.net = working_copy(model, keep_half=True)
        weights = [one for one in (*self.net.parameters(), *self.net.buffers()) if one.is_floating_point()]
        self._like = weights[0] if weights else torch.empty(0)
        self._last: str | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities (b, k) of images (b, h, w) or (b, c, h, w)."""
        with torch.inference_mode(False), torch.no_grad():
            # A copy, because networks may work in place.
            x = torch.tensor(images, device=self._like.device, dtype=self._like.dtype)
            x = x[:, None] if x.ndim == 3 else x
            if self._last is None:
                self._last = self._last_function(x[:2])
            try:
                output = self.net(x)
            except RuntimeError as error:
                raise ValueError(
                    f"model: {self.name} failed on images {tuple(x.shape)} {x.dtype} ({error}); expected images as it "
                    "takes them: with its channels, of its size, and not too many at a time (batch=)"
                ) from error
            return self._probabilities(output, len(x))

    def _probabilities(self, output: Tensor, images: int) -> np.ndarray:
        if not isinstance(output, Tensor):
            raise ValueError(f"model: found a {type(output).__name__} as output, expected one tensor; {_INSTEAD}")
        shape = tuple(output.shape)
        if images == 1 and output.ndim < 2:
            output = output.reshape(1, -1)  # a network that ends in .squeeze() drops the only image
        elif output.ndim == 1:
            output = output[:, None]
        if output.ndim < 2 or len(output) != images or output.numel() != images * output.shape[1]:
            raise ValueError(
                f"model: found outputs {shape} for {images} images, expected (n,), (n, 1) or (n, k), one row of logits "
                f"per image; {_INSTEAD}"
            )
        values = output.reshape(images, -1).double()
        if not values.isfinite().all():
            raise ValueError("model: found NaN or infinity in its output, expected numbers; look at weights and images")
        one = values.shape[1] == 1
        if self._last == "Sigmoid" and not one:
            raise ValueError(
                f"model: found {values.shape[1]} outputs of a sigmoid, which do not exclude each other, expected "
                f"logits of classes; {_INSTEAD}"
            )
        if one:
            positive = values if self._last == "Sigmoid" else values.sigmoid()
            return torch.cat([1 - positive, positive], 1).cpu().numpy()
        if self._last == "Softmax":
            return (values / values.sum(1, keepdim=True)).cpu().numpy()
        if images > 1 and bool((values >= 0).all()) and torch.allclose(values.sum(1), values.new_ones(()), atol=1e-5):
            raise ValueError(f"model: found outputs that sum to 1, expected logits, not probabilities; {_INSTEAD}")
        return values.softmax(1).cpu().numpy()

    def _last_function(self, x: Tensor) -> str:
        """What made the values of the output, such as "Softmax"; "" where autograd did not see it."""
        try:
            with torch.enable_grad():
                step = getattr(self.net(x.detach().requires_grad_().clone()), "grad_fn", None)
        except RuntimeError:
            return ""
        while step is not None:
            name = step.name().partition("Backward")[0]
            if name not in _PASSED_ON:
                return name
            step = step.next_functions[0][0]
        return ""
