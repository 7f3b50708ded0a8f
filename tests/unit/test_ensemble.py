"""An ensemble predicts the mixture of its members: means, and variances that add."""

import numpy as np
import pytest
import torch

from xiqa import files
from xiqa.config import Network
from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import load_ensemble, load_member, predict

SIZE = 20


def write_member(folder, network=None, seed=0, **changes):
    network = network or Network(channels=(2, 2, 3), hidden=5)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = CDCNet(SIZE, network)
        net.set_targets(torch.rand(8, 12) + 0.1)
    files.write_tensors(folder / "weights.safetensors", net.state_dict())
    model = {"network": network.model_dump(mode="json"), "size": SIZE, "input_mean": 480.0, "input_sd": 60.0}
    files.write_json(folder / "model.json", model | {"training_data": "same"} | changes)
    return net


def constant_member(folder, mean_um: float, sd_um: float):
    """A member that answers with the same mean and standard deviation whatever it sees."""
    net = write_member(folder)
    with torch.no_grad():
        net.mean.weight.zero_()
        net.mean.bias.zero_()
        net.target_offset.fill_(mean_um)
        net.target_scale.fill_(2.0)
        net.log_variance.fill_(2 * np.log(sd_um / 2))
    files.write_tensors(folder / "weights.safetensors", net.state_dict())


def test_uncertainties_of_a_mixture(tmp_path):
    means, sds = np.array([0.2, 0.3, 0.7]), np.array([0.01, 0.04, 0.05])
    for number, (mean, sd) in enumerate(zip(means, sds, strict=True)):
        constant_member(tmp_path / str(number), mean, sd)
    result = predict(load_ensemble([tmp_path / str(n) for n in range(3)]), np.zeros((2, SIZE, SIZE), np.float32))
    np.testing.assert_allclose(result["predicted_um"], np.full((2, 12), means.mean()), rtol=1e-6)
    np.testing.assert_allclose(result["aleatoric_um"], np.sqrt(np.mean(sds**2)), rtol=1e-6)
    np.testing.assert_allclose(result["epistemic_um"], np.sqrt(np.mean(means**2) - means.mean() ** 2), rtol=1e-6)
    draws = np.random.default_rng(0).normal(means, sds, (200_000, 3))
    np.testing.assert_allclose(result["total_um"], draws.std(), rtol=0.01)
    assert result["member_um"].shape == (3, 2, 12)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-5), ("float64", 1e-12)])
def test_prediction_does_not_depend_on_the_batch_or_on_other_images(tmp_path, dtype, rtol):
    for number in range(2):
        write_member(tmp_path / str(number), seed=20 + number)
    ensemble = load_ensemble([tmp_path / "0", tmp_path / "1"])
    for member in ensemble.members:
        member.to(getattr(torch, dtype))
    x = np.random.default_rng(0).normal(size=(5, SIZE, SIZE)).astype(dtype)
    whole, parts = predict(ensemble, x), predict(ensemble, x, batch=2)
    alone = predict(ensemble, x[3:4, None])
    # How far members lie apart is as exact as they are, over that distance: two that hardly differ would tell nothing.
    assert (whole["epistemic_um"] > 0.02 * whole["predicted_um"]).all()
    for name in whole:
        np.testing.assert_allclose(whole[name], parts[name], rtol=rtol)
        np.testing.assert_allclose(whole[name][..., 3, :], alone[name][..., 0, :], rtol=rtol)


def test_a_loaded_member_is_the_written_one_and_asks_for_no_gradient(tmp_path):
    net = write_member(tmp_path, Network(channels=(2, 2, 3), hidden=5, variance="head", target="log")).eval()
    x = torch.ones(1, 1, SIZE, SIZE)
    member = load_member(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(member(x), net(x), strict=True))
    assert not any(parameter.requires_grad for parameter in member.parameters())
    assert not member.training


def test_counts_are_normalised_by_the_training_set(tmp_path):
    write_member(tmp_path)
    ensemble = load_ensemble([tmp_path])
    x = ensemble.normalise(np.array([[420, 480], [540, 600]], np.uint16))
    np.testing.assert_allclose(x, [[-1, 0], [1, 2]], atol=1e-6)
    assert x.dtype == np.float32


def test_members_of_different_data_are_refused(tmp_path):
    write_member(tmp_path / "0")
    write_member(tmp_path / "1", input_mean=500.0)
    with pytest.raises(ValueError, match=r"1: found input_mean 500\.0, expected 480\.0"):
        load_ensemble([tmp_path / "0", tmp_path / "1"])


def test_weights_of_another_network_are_refused(tmp_path):
    write_member(tmp_path)
    model = files.read_json(tmp_path / "model.json")
    model["network"]["hidden"] = 6
    files.write_json(tmp_path / "model.json", model)
    with pytest.raises(ValueError, match=r"weights\.safetensors: found other weights"):
        load_member(tmp_path)


def test_images_of_another_size_are_refused(tmp_path):
    write_member(tmp_path)
    with pytest.raises(ValueError, match=r"expected \(n, 20, 20\)"):
        predict(load_ensemble([tmp_path]), np.zeros((1, 21, 21), np.float32))


def test_no_member_is_no_ensemble():
    with pytest.raises(ValueError, match="at least one"):
        load_ensemble([])
