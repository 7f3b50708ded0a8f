"""The network of the cells: exact gradient, weights shared, cells in any order, gain and offset without effect."""

import dataclasses

import numpy as np
import pytest
import torch
from saliency_targets import explain

from xiqa.cdmam.phantom import CELL_PRESENT, DIAMETERS_MM, THICKNESSES_UM
from xiqa.config import CellsNetwork, Training
from xiqa.models.cells_net import CellsNet
from xiqa.models.ensemble import Ensemble, load_ensemble, predict
from xiqa.models.midpoint import MidpointGradient
from xiqa.models.training import TrainingStep, train_member

SMALL = CellsNetwork(patch_px=8, channels=(3, 4), features=5, templates=2, hidden=4)
SIZE = 256


def build(seed=0, network=SMALL):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CellsNet(SIZE, network).double()
        net.of_diameter.data.normal_()
        net.set_targets(torch.rand(6, 12, dtype=torch.float64) + 0.1)
        return net.eval().requires_grad_(False)


def mosaics(n, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, 1, SIZE, SIZE)))


def test_places_of_a_cell_are_its_quadrants_row_by_row():
    image = torch.zeros(SIZE, SIZE)
    i, j = 5, 9
    for place, (a, b) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        image[i * 16 + a * 8, j * 16 + b * 8 : j * 16 + b * 8 + 8] = place + 1
    patches = build().patches(image[None, None])[0]
    assert patches.shape == (205, 4, 8, 8)
    index = int(np.flatnonzero((np.argwhere(CELL_PRESENT) == (i, j)).all(1))[0])
    assert patches[index, :, 0].tolist() == [[place + 1.0] * 8 for place in range(4)]
    assert not patches[:, :, 1:].any()
    assert patches[:, :, 0].sum() == 80


def test_the_gradient_is_that_of_central_differences():
    ensemble = Ensemble([build(0), build(1)], 0.0, 1.0)
    target = MidpointGradient(ensemble, dtype=torch.float64)
    assert target.backend == "plain"
    x = mosaics(1)[:, 0].numpy()
    gradients = target.member_gradients(x)[1]
    for seed in range(3):
        direction = np.random.default_rng(seed + 10).normal(size=x.shape)
        step = 1e-7  # a larger one crosses kinks of ReLU
        numeric = (target.member_values(x + step * direction) - target.member_values(x - step * direction)) / (2 * step)
        np.testing.assert_allclose((gradients * direction).sum((2, 3)), numeric, rtol=1e-5)
    single = MidpointGradient(Ensemble([net.float() for net in ensemble.members], 0.0, 1.0))
    np.testing.assert_allclose(single.member_gradients(x)[1], gradients, atol=2e-4 * np.abs(gradients).max())


def test_places_without_a_cell_do_not_matter():
    target = MidpointGradient(Ensemble([build()], 0.0, 1.0), dtype=torch.float64)
    gradient = target.gradient(mosaics(1)[:, 0].numpy())[0].reshape(16, 16, 16, 16)
    seen = np.abs(gradient).max((1, 3)) > 0
    np.testing.assert_array_equal(seen, CELL_PRESENT)


def test_all_cells_share_their_weights():
    net = build()
    same = torch.randn(8, 8, dtype=torch.float64)
    encoded = net.encode(same.expand(7, 8, 8))
    torch.testing.assert_close(encoded, encoded[:1].expand_as(encoded))
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert not [shape for shape in shapes.values() if 205 in shape or 820 in shape]


def test_cells_may_stand_in_any_order():
    net, x = build(), mosaics(2)
    expected = net.predict_um(x)[0]
    order = torch.tensor(np.random.default_rng(1).permutation(205))
    for name in ("cells", "diameters", "thicknesses"):
        setattr(net, name, getattr(net, name)[order])
    torch.testing.assert_close(net.predict_um(x)[0], expected, rtol=1e-12, atol=0)
    # Cells moved to other blocks of the mosaic, with what is known of them.
    blocks = np.random.default_rng(2).permutation(256)
    cells = x.reshape(2, 16, 16, 16, 16).permute(0, 1, 3, 2, 4).reshape(2, 256, 16, 16)
    moved = torch.empty_like(cells)
    moved[:, torch.tensor(blocks)] = cells
    moved = moved.reshape(2, 16, 16, 16, 16).permute(0, 1, 3, 2, 4).reshape(x.shape)
    places = torch.tensor(blocks)[net.cells[:, 0] * 16 + net.cells[:, 1]]
    net.cells = torch.stack([places // 16, places % 16], 1)
    torch.testing.assert_close(net.predict_um(moved)[0], expected, rtol=1e-12, atol=0)


def test_gain_and_offset_change_nothing_but_noise_does():
    net, x = build(), 20 * mosaics(1)
    expected = net.predict_um(x)[0]
    torch.testing.assert_close(net.predict_um(3 * x + 700)[0], expected, rtol=1e-6, atol=0)
    brighter = x.reshape(1, 1, 16, 16, 16, 16) + torch.randn(16, 1, 16, 1, dtype=torch.float64) * 50
    torch.testing.assert_close(net.predict_um(brighter.reshape(x.shape))[0], expected, rtol=1e-6, atol=0)
    assert (net.predict_um(x + 20 * mosaics(1, 5))[0] - expected).abs().max() > 1e-4


def test_mirrored_places_stay_in_their_cells():
    net = build()
    image = np.arange(SIZE**2, dtype=float).reshape(SIZE, SIZE)
    np.testing.assert_array_equal(net.mirrored(image, True, False)[8:16, 24:32], image[8:16, 24:32][::-1])
    np.testing.assert_array_equal(net.mirrored(image, False, True)[8:16, 24:32], image[8:16, 24:32][:, ::-1])
    np.testing.assert_array_equal(net.mirrored(net.mirrored(image, True, True), True, True), image)


def test_a_mosaic_of_other_patches_is_refused():
    with pytest.raises(ValueError, match="size: found 320, expected 256: 32 patches of 8"):
        CellsNet(320, SMALL)


def toy(n, seed):
    """Mosaics whose discs are squares of the contrast of gold, drawn with gain and offset; thresholds by the noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 16, 2, 8, 16, 2, 8))
    level = rng.uniform(0.5, 4, n)
    contrast = 1 - np.exp(-0.19 * THICKNESSES_UM)
    half = np.maximum(1, np.rint(DIAMETERS_MM / 0.25)).astype(int).clip(max=4)
    for i in range(16):
        inside = slice(4 - half[i], 4 + half[i])
        for a in (0, 1):
            x[:, i, a, inside, :, a, inside] -= (60 / level[:, None] * contrast)[:, None, :, None]
    counts = rng.uniform(20, 60, n)[:, None, None] * (x.reshape(n, SIZE, SIZE) + rng.uniform(30, 60, (n, 1, 1)))
    return counts.astype(np.float32), level[:, None] * np.linspace(0.05, 0.4, 12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    counts, labels = toy(32, 0)
    step = TrainingStep("drawn", counts[:, None], labels)
    training = Training(epochs=(3, 3, 3, 3), batch_size=4, learning_rate=2e-2)
    steps = [step, *(dataclasses.replace(step, images=counts[:0, None], labels_um=labels[:0]) for _ in range(3))]
    mean, sd = float(counts.mean()), float(counts.std())
    train_member(steps, SMALL, training, size=SIZE, input_scale=(mean, sd), seed=0, member=0, folder=folder)
    return [folder]


def test_training_loading_and_predicting_are_those_of_the_other_network(trained):
    ensemble = load_ensemble(trained)
    counts, labels = toy(12, 1)
    predicted = predict(ensemble, ensemble.normalise(counts))["predicted_um"]
    error = np.abs(predicted / labels - 1).mean()
    constant = np.abs(np.exp(np.log(labels).mean(0)) / labels - 1).mean()
    assert error < 0.15
    assert error < constant / 3


def test_omig_lowers_the_midpoint_and_lies_on_discs_and_empty_places(trained):
    ensemble = load_ensemble(trained)
    target = MidpointGradient(ensemble)
    x = ensemble.normalise(toy(1, 2)[0])
    change = explain(target, x, "omig", c=100.0, steps=5)
    assert change.shape == x.shape
    assert target.value(x + change)[0] < target.value(x)[0]
    by_place = np.abs(change).reshape(16, 2, 8, 16, 2, 8).sum((0, 2, 3, 5))
    assert by_place.min() > 0
