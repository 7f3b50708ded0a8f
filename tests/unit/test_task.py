"""What a network learns: losses against independent forms, predictions in the target's unit, ensembles."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from xiqa.models.model import Model, load_model, write_model
from xiqa.models.task import Classification, Regression, as_json, combined, from_json, task_of
from xiqa.models.zoo import build
from xiqa.saliency import attribute
from xiqa.saliency.of_model import explained_output, layers_of

DOSE = Regression(("target_dose", "target_noise"), (10.0, -2.0), (4.0, 0.5), ("mGy", ""))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_of_a_regression_is_the_gaussian_likelihood(dtype):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(7, 4, generator=generator, dtype=dtype)
    truth = torch.randn(7, 2, generator=generator, dtype=dtype)
    variance = torch.exp(10 * torch.tanh(output[:, 2:] / 10))
    expected = nn.GaussianNLLLoss(eps=1e-12)(output[:, :2], truth, variance)
    assert DOSE.loss(output, truth, torch.ones(2)).item() == pytest.approx(expected.item(), rel=1e-5)
    scores = DOSE.scores(output, truth, torch.ones(2))
    assert scores["rmse_over_sd"] == pytest.approx((output[:, :2] - truth).double().square().mean().sqrt().item())


def test_predictions_are_in_the_unit_of_the_target():
    found = DOSE.predictions(np.array([[0.5, -1.0, 0.0, np.log(4.0)]]))
    assert found["predicted_target_dose"] == pytest.approx([12.0])
    assert found["predicted_target_noise"] == pytest.approx([-2.5])
    assert found["aleatoric_target_dose"] == pytest.approx([4.0])
    assert found["aleatoric_target_noise"] == pytest.approx([0.5 * np.exp(5 * np.tanh(np.log(4) / 10))])


def test_targets_are_standardised_by_the_training_images_alone():
    table = pd.DataFrame({"target": [1.0, 3.0, 100.0], "label": [0, 1, 2]})
    task = task_of(table, np.array([0, 1]), one_output=False, units={"target": "mm"})
    assert (task.mean, task.sd, task.units) == ((2.0,), (1.0,), ("mm",))
    np.testing.assert_allclose(task.truth(table)[:, 0], [-1, 1, 98])
    with pytest.raises(ValueError, match="same value in all 1 training images"):
        task_of(table, np.array([0]), one_output=False, units={})
    with pytest.raises(ValueError, match="found \\['dosis'\\]"):
        task_of(table, np.array([0, 1]), one_output=False, units={"dosis": "mm"})


@pytest.mark.parametrize("task", [DOSE, Classification(("a", "b"), True)])
def test_a_model_is_read_as_it_was_written(task, tmp_path):
    net = build("small_resnet", channels=1, outputs=task.outputs, seed=0)
    write_model(tmp_path, Model(net, "small_resnet", {}, task, 1, 32, 0.1, 0.2), {"seed": 0})
    assert load_model(tmp_path, build).task == task == from_json(as_json(task))


def test_an_ensemble_has_the_mean_and_both_kinds_of_uncertainty():
    known = {"image": ["a", "b"], "target": [1.0, 2.0]}
    members = [
        pd.DataFrame(known | {"predicted_target": [1.0, 2.0], "aleatoric_target": [3.0, 0.1]}),
        pd.DataFrame(known | {"predicted_target": [3.0, 2.0], "aleatoric_target": [4.0, 0.1]}),
    ]
    found = combined(members)
    assert found["predicted_target"].tolist() == [2.0, 2.0]
    assert found["epistemic_target"].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(found["aleatoric_target"], [np.sqrt(12.5), 0.1])
    with pytest.raises(ValueError, match="different images"):
        combined([members[0], members[1].assign(image=["b", "a"])])
    classes = [pd.DataFrame({"image": ["a"], "probability_0": [p], "probability_1": [1 - p]}) for p in (0.2, 0.6)]
    found = combined(classes).iloc[0]
    assert found["probability_0"] == pytest.approx(0.4)
    each = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (0.4, 0.2, 0.6)]
    assert found["total_entropy"] == pytest.approx(each[0])
    assert found["aleatoric_entropy"] == pytest.approx((each[1] + each[2]) / 2)
    assert found["epistemic_entropy"] == pytest.approx(each[0] - (each[1] + each[2]) / 2)
    agreed = combined([classes[0], classes[0]]).iloc[0]
    assert agreed["epistemic_entropy"] == pytest.approx(0, abs=1e-12)


@pytest.fixture(scope="module")
def model():
    net = build("small_resnet", channels=1, outputs=4, seed=0).eval()
    return Model(net, "small_resnet", {}, DOSE, 1, 32, 0.5, 0.2)


@pytest.mark.parametrize(("target", "columns"), [("noise", [1]), ("target_dose", [0]), ("mean", [0, 1])])
def test_maps_of_a_regression_explain_the_target_in_its_direction(model, target, columns):
    images = np.random.default_rng(0).random((3, 32, 32)).astype(np.float32)
    maps = {}
    for direction in ("higher", "lower"):
        explain = {"target": target, "direction": direction, "explained_class": "true_class"}
        net, of, names = explained_output(model, images, np.arange(3), np.zeros(3, int), explain)
        assert names.tolist() == [f"{target}, {direction}"] * 3
        maps[direction] = attribute(net, model.inputs(images), of, "gradient")
    x = model.inputs(images).requires_grad_()
    expected = torch.autograd.grad(model.net(x)[:, columns].mean(1).sum(), x)[0][:, 0]
    torch.testing.assert_close(maps["higher"], expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(maps["lower"], -expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", ["lrp", "normgrad_conv1x1", "omig", "occlusion"])
def test_every_kind_of_method_passes_the_readout_of_a_regression(model, method):
    images = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    explain = {"target": "mean", "direction": "higher", "explained_class": "true_class"}
    net, of, _ = explained_output(model, images, np.arange(2), np.zeros(2, int), explain)
    options = layers_of(model) if method == "normgrad_conv1x1" else {}
    maps = attribute(net, model.inputs(images), of, method, **{k: v for k, v in options.items() if k == "layers"})
    assert maps.shape == (2, 32, 32)
    assert maps.isfinite().all()
    assert (maps.flatten(1).std(1) > 0).all()


def test_an_unknown_target_and_classes_of_a_regression_are_refused(model):
    with pytest.raises(ValueError, match="found 'dosis', expected mean or one of target_dose, target_noise"):
        DOSE.readout("dosis", lower=False)
    with pytest.raises(ValueError, match="has no classes"):
        _ = model.classes
