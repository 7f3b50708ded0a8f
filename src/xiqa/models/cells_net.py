"""A network that sees the full resolution where the discs lie, and shares its weights over all cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, CELL_PRESENT, DIAMETERS_MM, THICKNESSES_UM
from xiqa.config import CellsNetwork
from xiqa.models.cdc_net import N_OUTPUTS, CurveOutputs

ATTENUATION_PER_UM = 0.19
"""Gold in beams of mammography, per µm: how the weights of the thicknesses begin."""


class CellsNet(CurveOutputs):
    """A convolutional encoder of each place, compared within cells, pooled over each diameter's thicknesses.

    What a reader looks at is built in, what is seen there is learnt. The image is standardised by its own empty places,
    cell by cell in brightness and as a whole in noise, so that neither gain nor offset matters. An encoder of two
    convolutions gives each place its features. In each cell the mean of both places with a disc less that of both empty
    ones is the signal; the difference of the empty ones shows the noise that the same features see. Templates of each
    diameter combine features; signals are added up over the thicknesses of a diameter with learned weights that begin
    as the contrast of gold. The logarithms of both, signal and noise, of a diameter and its neighbours give the
    threshold.

    Args:
        size: rows and columns of the mosaic (`xiqa.cdmam.cells.mosaic_pixels`), 32 patches.
        network: sizes.

    Attributes:
        cells: (k, 2) int64 block of each cell in the mosaic.
        diameters, thicknesses: (k,) int64: diameter and thickness index of each cell. Cells may stand in any order.

    Raises:
        ValueError: the mosaic is not of 32 patches.
    """

    def __init__(self, size: int, network: CellsNetwork | None = None):
        network = network or CellsNetwork()
        super().__init__(network.target)
        rows = len(CELL_PRESENT)
        if size != 2 * rows * network.patch_px:
            raise ValueError(
                f"size: found {size}, expected {2 * rows * network.patch_px}: {2 * rows} patches of {network.patch_px}"
            )
        self.size, self.network = size, network
        first, second = network.channels
        self.conv1 = nn.Conv2d(1, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.features = nn.Linear(second * (network.patch_px // 4) ** 2, network.features)
        self.templates = nn.Parameter(torch.randn(rows, network.features, network.templates) / network.features**0.5)
        contrast = 1 - torch.exp(-ATTENUATION_PER_UM * torch.tensor(THICKNESSES_UM, dtype=torch.float32))
        self.weights = nn.Parameter(contrast / contrast.square().mean().sqrt())
        self.hidden = nn.Conv1d(2 * network.templates, network.hidden, 3, padding=1)
        self.of_diameter = nn.Parameter(torch.zeros(network.hidden, rows))
        self.straight = nn.Conv1d(2 * network.templates, 1, 3, padding=1)
        self.bent = nn.Conv1d(network.hidden, 1, 1)
        self.log_variance = nn.Parameter(torch.zeros(N_OUTPUTS))
        places = torch.tensor(CELL_PRESENT).nonzero()
        self.register_buffer("cells", places)
        self.register_buffer("diameters", places[:, 0].clone())
        self.register_buffer("thicknesses", places[:, 1].clone())
        first_output = list(DIAMETERS_MM).index(CDC_DIAMETERS_MM[0])
        self.outputs = slice(first_output, first_output + N_OUTPUTS)

    def patches(self, x: Tensor) -> Tensor:
        """The places of all cells: x (n, 1, size, size) -> (n, k, 4, patch, patch); 0 and 3 hold a disc."""
        patch = self.network.patch_px
        blocks = x.reshape(len(x), -1, 2, patch, self.size // (2 * patch), 2, patch).permute(0, 1, 4, 2, 5, 3, 6)
        return blocks[:, self.cells[:, 0], self.cells[:, 1]].flatten(2, 3)

    def encode(self, patches: Tensor) -> Tensor:
        """Features of places: (m, patch, patch) -> (m, features). The same weights for all."""
        maps = functional.avg_pool2d(functional.relu(self.conv1(patches[:, None])), 2)
        maps = functional.avg_pool2d(functional.relu(self.conv2(maps)), 2)
        return self.features(maps.flatten(1))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised mean and log variance, both (n, 12), of mosaics (n, 1, size, size)."""
        patches = self.patches(x)
        empty = patches[:, :, 1:3]
        patches = patches - empty.mean((2, 3, 4), keepdim=True)
        sd = patches[:, :, 1:3].square().mean((1, 2, 3, 4), keepdim=True).sqrt()
        patches = patches / (sd + 1e-6)
        encoded = self.encode(patches.flatten(0, 2)).unflatten(0, patches.shape[:3])
        signal = (encoded[:, :, 0] + encoded[:, :, 3] - encoded[:, :, 1] - encoded[:, :, 2]) / 2
        noise = (encoded[:, :, 1] - encoded[:, :, 2]) / 2**0.5
        templates = self.templates[self.diameters]
        signal, noise = (torch.einsum("nkf,kfg->nkg", part, templates) for part in (signal, noise))
        weights = self.weights[self.thicknesses]
        signal = self._over_thicknesses(signal * weights[:, None]) / self._over_thicknesses(
            weights.square()[None, :, None]
        )
        noise = self._over_thicknesses(noise.square()) / self._over_thicknesses(torch.ones_like(noise[:1, :, :1]))
        # Where nothing is seen the sum over some 13 cells is noise of about this size.
        logs = torch.cat([torch.log(signal.square() + noise / 16 + 1e-8), torch.log(noise + 1e-8)], 2).transpose(1, 2)
        hidden = functional.relu(self.hidden(logs) + self.of_diameter)
        hidden = functional.dropout(hidden, self.network.dropout, self.training)
        mean = (self.straight(logs) + self.bent(hidden))[:, 0, self.outputs]
        return mean, self.log_variance.expand_as(mean)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance in target units, both (n, 12), of mosaics x (n, 1, size, size); see `CDCNet`."""
        return self.in_target_units(*self.heads(x))

    def mirrored(self, image, down: bool, right: bool):
        """A mosaic (size, size) with every place mirrored in itself: cells stay where they are."""
        patch = self.network.patch_px
        places = image.reshape(self.size // patch, patch, self.size // patch, patch)
        return places[:, :: -1 if down else 1, :, :: -1 if right else 1].reshape(image.shape)

    def _over_thicknesses(self, values: Tensor) -> Tensor:
        """Sums (n, 16, g) over the cells of each diameter of values (n, k, g)."""
        sums = values.new_zeros(len(values), len(self.templates), values.shape[2])
        return sums.index_add(1, self.diameters, values)
