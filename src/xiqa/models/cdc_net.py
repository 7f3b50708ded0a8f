"""The network of Amanova 2022 (table 2) that predicts a contrast-detail curve from a sampled phantom image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from xiqa.config import Network

N_OUTPUTS = 12


class CurveOutputs(nn.Module):
    """What all networks share that predict a curve: 12 outputs, standardised by the training labels.

    The heads work in standardised target units (zero mean, unit spread over the training labels); the buffers
    `target_offset` and `target_scale`, both (12,) float32, carry them back: target = offset + scale * raw. The target
    is the threshold gold thickness in µm (`target == "linear"`) or its natural logarithm (`"log"`).
    """

    def __init__(self, target: str):
        super().__init__()
        self.target = target
        self.register_buffer("target_offset", torch.zeros(N_OUTPUTS))
        self.register_buffer("target_scale", torch.ones(N_OUTPUTS))

    def in_target_units(self, mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance in target units from the standardised ones, all (n, 12)."""
        return self.target_offset + self.target_scale * mean, log_variance + 2 * torch.log(self.target_scale)

    def to_um(self, mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean in µm and variance in µm², both (n, 12), from what `forward` returned.

        For the logarithmic target the mean in µm is exp(mean), the median of the log-normal distribution, and the
        variance follows by error propagation to first order: exp(mean)² · variance of the logarithm.
        """
        if self.target == "linear":
            return mean, torch.exp(log_variance)
        return torch.exp(mean), torch.exp(2 * mean + log_variance)

    def predict_um(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean in µm and variance in µm², both (n, 12), of x (n, 1, size, size)."""
        return self.to_um(*self.forward(x))

    def set_targets(self, labels_um: Tensor) -> None:
        """Set the standardisation of the outputs from the training labels.

        Args:
            labels_um: (n, 12) threshold gold thicknesses in µm. An output that never varies keeps the scale 1.
        """
        targets = self.to_target(labels_um).double()
        spread = targets.std(0, correction=0)
        # Below float32 resolution a spread is rounding of equal labels, not variation.
        spread = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
        self.target_offset.copy_(targets.mean(0))
        self.target_scale.copy_(spread)

    def to_target(self, labels_um: Tensor) -> Tensor:
        """Labels in µm -> target units."""
        return labels_um if self.target == "linear" else torch.log(labels_um)


class CDCNet(CurveOutputs):
    """Three convolutions, two fully connected layers, 12 means and 12 variances.

    Args:
        size: rows and columns of the square input image.
        network: widths, dropout, form of the variance, activation, target.

    Raises:
        ValueError: the image is too small for the two poolings.

    Reference: Amanova et al. 2022, table 2 (appendix C); the variance as in section 2.2: one learned variance per
    output (`"homoscedastic"`, the text), or a second output head (`"head"`, the table).
    """

    def __init__(self, size: int = 250, network: Network | None = None):
        network = network or Network()
        super().__init__(network.target)
        if size < 4:
            raise ValueError(f"size: found {size}, expected at least 4 pixels, the two poolings divide by 4")
        self.size = size
        self.network = network
        first, second, third = network.channels
        self.conv1 = nn.Conv2d(1, first, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, third, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(third)
        self.fc1 = nn.Linear(third * (size // 2 // 2) ** 2, network.hidden)
        self.fc2 = nn.Linear(network.hidden, network.hidden)
        self.mean = nn.Linear(network.hidden, N_OUTPUTS)
        if network.variance == "homoscedastic":
            self.log_variance = nn.Parameter(torch.zeros(N_OUTPUTS))
        else:
            self.log_variance_head = nn.Linear(network.hidden, N_OUTPUTS)

    def features(self, x: Tensor) -> Tensor:
        """The three convolutional blocks: x (n, 1, size, size) -> (n, channels[2], size // 4, size // 4)."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        x = functional.max_pool2d(functional.relu(self.bn2(self.conv2(x))), 2)
        return functional.relu(self.bn3(self.conv3(x)))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised mean and log variance, both (n, 12), from `features` flattened to (n, fc1.in_features)."""
        hidden = functional.dropout(self._activate(self.fc1(features)), self.network.dropout, self.training)
        hidden = self._activate(self.fc2(hidden))
        mean = self.mean(hidden)
        if self.network.variance == "homoscedastic":
            return mean, self.log_variance.expand_as(mean)
        return mean, self.log_variance_head(hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance in target units.

        Args:
            x: (n, 1, size, size) float, normalised by the mean and standard deviation of the training set.

        Returns:
            mean (n, 12) and log variance (n, 12): µm and log µm² for the linear target, log µm and the logarithm of
            the variance of log µm for the logarithmic one.
        """
        return self.in_target_units(*self.heads(self.features(x).flatten(1)))

    @staticmethod
    def mirrored(image, down: bool, right: bool):
        """An image (size, size) mirrored up-down and left-right, as asked."""
        return image[:: -1 if down else 1, :: -1 if right else 1]

    def _activate(self, x: Tensor) -> Tensor:
        return functional.relu(x) if self.network.hidden_activation == "relu" else x


def gaussian_nll(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of a Gaussian, over images and outputs, with its constant.

    Args:
        mean: (n, 12) predicted means.
        log_variance: (n, 12) logarithms of the predicted variances, in the squared unit of `mean`.
        target: (n, 12) in the unit of `mean`.

    Returns:
        Scalar.

    Reference: Lakshminarayanan et al. 2017, equation 1.
    """
    squared = (target - mean) ** 2 * torch.exp(-log_variance)
    return 0.5 * (squared + log_variance + math.log(2 * math.pi)).mean()


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what `conv` and then `norm` do in evaluation mode."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = 0 if conv.bias is None else conv.bias
    return conv.weight * factor[:, None, None, None], (bias - norm.running_mean) * factor + norm.bias


def folded_convolutions(member: CDCNet) -> list[tuple[Tensor, Tensor]]:
    """Folded weight (out, in, 3, 3) and bias (out,) of the three convolutions of a member in evaluation mode."""
    return [fold(member.conv1, member.bn1), fold(member.conv2, member.bn2), fold(member.conv3, member.bn3)]
