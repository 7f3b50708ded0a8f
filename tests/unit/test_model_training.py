"""Training of classifiers learns, repeats byte by byte, survives being stopped, and refuses what cannot be learnt."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from xiqa.config import Augmentation, ClassifierTraining
from xiqa.models import training_loop
from xiqa.models.model import Model, load_model, penultimate_features, predict, raw_outputs
from xiqa.models.model_training import (
    TrainingImages,
    best_epoch,
    computing_precision,
    data_digest,
    epoch_plan,
    learning_rate,
    train_model,
    weights_digest,
)
from xiqa.models.task import Classification, class_weights, probabilities, weighted_loss
from xiqa.models.training_loop import input_statistics

SIZE = 16
OUTPUTS = ("weights.safetensors", "history.csv", "model.json")
STILL = Augmentation(flip=False)
QUICK = ClassifierTraining(
    epochs=4, batch_size=8, learning_rate=0.01, precision="float32", augmentation={"flip": False, "rotate_deg": 5.0}
)


def build(architecture="tiny", *, channels=1, outputs=2, seed=0, options=None) -> nn.Sequential:
    """A small network with what differs between training and evaluation: batch normalisation and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.1), nn.Linear(96, outputs),
        )  # fmt: skip


def penultimate(net: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    return net[:-1](x)


def blobs(n: int = 60, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright blob: left (0), right (1), none (2)."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    images = rng.normal(0.4, 0.1, (n, SIZE, SIZE))
    for image, label in zip(images, labels, strict=True):
        row, column = rng.integers(3, 13), rng.integers(2, 6) + 8 * label
        if label < 2:
            image[row - 2 : row + 3, column - 2 : column + 3] += 0.4
    return images.astype(np.float16), labels


def run(folder: Path, training: ClassifierTraining = QUICK, *, data=None, net=None, classes=("left", "right"), **given):
    images, labels = blobs() if data is None else data
    n = len(images)
    outputs = 1 if training.one_output else len(classes)
    net = net or build(channels=given.get("channels", 1), outputs=outputs)
    rows = {"train_rows": np.arange(n - n // 3), "validation_rows": np.arange(n - n // 3, n)}
    rows |= {name: given.pop(name) for name in rows if name in given}
    task = Classification(tuple(classes), training.one_output)
    classifier = Model(net, "tiny", {}, task, given.pop("channels", 1), images.shape[1])
    options = {"seed": 1, "folder": folder}
    return train_model(classifier, TrainingImages(images, labels, **rows), training, **(options | given))


def with_(training: ClassifierTraining = QUICK, **changes) -> ClassifierTraining:
    return ClassifierTraining(**(training.model_dump() | changes))


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(autouse=True)
def _checkpoints_after_short_epochs(monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    return outputs(run(tmp_path_factory.mktemp("undisturbed")))


class Stop(Exception):
    """Ends a training from within."""


def stop_after(epoch: int):
    def progress(row):
        if row["epoch"] == epoch:
            raise Stop

    return progress


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"optimiser": "sgd", "learning_rate": 0.05},
        {"one_output": True, "precision": "bf16"},
        {"augmentation": {"flip": False, "rotate_deg": 10, "translate": 0.05, "scale": 0.1, "jitter": 0.2}},
    ],
)
def test_left_and_right_are_learnt(tmp_path, changes):
    run(tmp_path, with_(epochs=8, **changes), data=blobs(240))
    classifier = load_model(tmp_path, build)
    images, labels = blobs(100, seed=1)
    found = predict(classifier, images, np.arange(100))
    assert found.shape == (100, 2)
    assert (found.argmax(1) == labels).mean() > 0.95


def test_mirroring_takes_left_and_right_away_but_not_what_is_there(tmp_path):
    # With labels kept, mirrored images make left and right the same; the third class has no blob.
    run(tmp_path, with_(epochs=8, augmentation={"flip": True}), data=blobs(240, 3), classes=("left", "right", "none"))
    images, labels = blobs(150, 3, seed=1)
    found = predict(load_model(tmp_path, build), images, np.arange(150))
    assert ((found.argmax(1) == 2) == (labels == 2)).mean() > 0.95
    assert abs(found[labels < 2, 0] - found[labels < 2, 1]).mean() < 0.4


@pytest.mark.parametrize("channels", [1, 3])
def test_three_channels_hold_the_same_image(tmp_path, channels):
    images, _ = data = blobs()
    run(tmp_path, with_(epochs=1), data=data, channels=channels)
    classifier = load_model(tmp_path, build)
    x = classifier.inputs(images[:5])
    assert x.shape == (5, channels, SIZE, SIZE)
    assert x.dtype == torch.float32
    mean, sd = images[:40].astype(float).mean(), images[:40].astype(float).std()
    np.testing.assert_allclose(x.numpy(), np.repeat((images[:5, None] - mean) / sd, channels, 1), atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_state(undisturbed, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(999)
        before = torch.get_rng_state()
        assert outputs(run(tmp_path)) == undisturbed
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"workers": 0}, {"workers": 3}, {"checkpoint_epochs": 3}])
def test_threads_that_read_and_the_distance_of_checkpoints_change_nothing(undisturbed, tmp_path, changes):
    assert outputs(run(tmp_path, with_(**changes))) == undisturbed


def test_seeds_differ(undisturbed, tmp_path):
    assert outputs(run(tmp_path, seed=2))["weights.safetensors"] != undisturbed["weights.safetensors"]


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_training_stopped_anywhere_continues_to_the_same_bytes(undisturbed, tmp_path, epoch):
    with pytest.raises(Stop):
        run(tmp_path, progress=stop_after(epoch))
    assert not (tmp_path / "weights.safetensors").exists()
    seen = []
    run(tmp_path, progress=lambda row: seen.append(row["epoch"]))
    # The epoch that was under way is trained again.
    assert seen == list(range(epoch, 5))
    assert outputs(tmp_path) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)


def test_momentum_and_one_output_continue_too(tmp_path):
    training = with_(optimiser="sgd", one_output=True, schedule="inverse_time", decay=0.1, learning_rate=0.05)
    expected = outputs(run(tmp_path / "undisturbed", training))
    with pytest.raises(Stop):
        run(tmp_path / "stopped", training, progress=stop_after(3))
    assert outputs(run(tmp_path / "stopped", training)) == expected


@pytest.mark.parametrize(
    "first",
    [
        {"training": with_(learning_rate=0.02)},
        {"net": build(seed=5)},
        {"data": blobs(seed=3)},
        {"data": (blobs()[0], 1 - blobs()[1])},
        {"validation_rows": np.arange(40, 59)},
        {"seed": 2},
        {"classes": ("right", "left")},
    ],
)
def test_a_checkpoint_of_another_training_is_not_used(undisturbed, tmp_path, first):
    with pytest.raises(Stop):
        run(tmp_path, **first, progress=stop_after(3))
    assert (tmp_path / "checkpoint").is_dir()
    seen = []
    run(tmp_path, progress=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2, 3, 4]
    assert outputs(tmp_path) == undisturbed


def test_resuming_can_be_refused(undisturbed, tmp_path):
    with pytest.raises(Stop):
        run(tmp_path, progress=stop_after(3))
    seen = []
    run(tmp_path, resume=False, progress=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2, 3, 4]
    assert outputs(tmp_path) == undisturbed


def test_history_and_description_are_those_of_the_weights_kept(tmp_path):
    images, labels = data = blobs(90, 3, seed=7)
    run(tmp_path, with_(epochs=6, learning_rate=0.03), data=data, classes=("left", "right", "none"))
    history, model = pd.read_csv(tmp_path / "history.csv"), json.loads((tmp_path / "model.json").read_text())
    classifier = load_model(tmp_path, build)
    assert classifier.classes == ("left", "right", "none")
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert not any("second" in name for name in history)
    best = history.iloc[model["best_epoch"] - 1]
    rows = np.arange(60, 90)
    found = predict(classifier, images, rows)
    right = found.argmax(1) == labels[rows]
    assert best["validation_accuracy"] == pytest.approx(right.mean(), abs=1e-12)
    recalls = [right[labels[rows] == label].mean() for label in range(3)]
    assert best["validation_balanced_accuracy"] == pytest.approx(np.mean(recalls), abs=1e-12)
    weights = class_weights(labels[:60], 3)[labels[rows]]
    loss = -(weights * np.log(found[np.arange(30), labels[rows]])).mean()
    assert best["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert best["validation_balanced_accuracy"] == history["validation_balanced_accuracy"].max()
    assert model["training_data"] == data_digest(images, labels, np.arange(60))
    assert model["initial_weights"] == weights_digest(build(outputs=3))


def test_without_validation_the_last_epoch_is_kept(tmp_path):
    run(tmp_path, validation_rows=np.zeros(0, int))
    assert json.loads((tmp_path / "model.json").read_text())["best_epoch"] == 4
    assert "validation_loss" not in pd.read_csv(tmp_path / "history.csv")


def row(accuracy: float, loss: float) -> dict:
    return {"validation_balanced_accuracy": accuracy, "validation_loss": loss}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([row(0.5, 0.1), row(0.9, 0.7), row(0.8, 0.2)], 2),
        ([row(0.9, 0.5), row(0.9, 0.4), row(0.9, 0.6)], 2),
        ([row(0.9, 0.4), row(0.9, 0.4)], 1),
        ([{}, {}], 2),
    ],
)
def test_best_epoch_by_balanced_accuracy_then_loss_then_first(history, expected):
    assert best_epoch(history, Classification(("left", "right"))) == expected


def test_augmentation_and_order_touch_training_only(tmp_path):
    # With a learning rate near zero the weights stay; only training images differ between epochs.
    training = with_(learning_rate=1e-30, weight_decay=0.0, epochs=3, augmentation={"rotate_deg": 40, "jitter": 0.9})
    net = build()
    net[1].momentum, net[5].p = 0.0, 0.0
    run(tmp_path, training, net=net)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["validation_loss"].nunique() == 1
    assert history["loss"].nunique() == 3


def test_an_epoch_holds_each_image_once_in_an_order_of_its_own():
    rows = np.arange(100, 123)
    training = with_(augmentation={"rotate_deg": 10})
    plans = [epoch_plan(rows, training, 0, epoch) for epoch in (0, 1)]
    orders = [np.concatenate([part for part, _ in plan]) for plan in plans]
    assert all(sorted(order) == list(rows) for order in orders)
    assert not np.array_equal(*orders)
    # What happens to an image does not depend on the batch size.
    angles = [
        {row: change for part, changes in epoch_plan(rows, with_(training, batch_size=size), 0, 0)
         for row, change in zip(part, changes["rotate_deg"], strict=True)}
        for size in (4, 9)
    ]  # fmt: skip
    assert angles[0] == angles[1]


def test_class_weights_are_inverse_shares_with_mean_one():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    weights = class_weights(labels, 3)
    np.testing.assert_allclose(weights, [100 / 180, 100 / 90, 100 / 30])
    assert weights[labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(class_weights(np.array([0, 1, 1, 0]), 2), 1)
    with pytest.raises(ValueError, match=r"class \[1\]"):
        class_weights(np.array([0, 2, 2]), 3)


def test_loss_closed_form_and_one_output_is_two_outputs_with_the_first_at_zero():
    z, y = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1, 1, 0])
    weights = torch.tensor([0.5, 3.0])
    softplus = np.log1p(np.exp([-2.0, 1.0, 0.5]))  # -log of the probability of the right class
    expected = (np.array([3, 3, 0.5]) * softplus).sum() / 3
    assert weighted_loss(z[:, None], y, weights).item() == pytest.approx(expected, rel=1e-6)
    both = torch.stack([torch.zeros(3), z], 1)
    assert weighted_loss(both, y, weights).item() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(probabilities(z[:, None].numpy()), probabilities(both.numpy()), rtol=1e-12)
    np.testing.assert_allclose(probabilities(z[:, None].numpy())[:, 1], 1 / (1 + np.exp(-z.double().numpy())))


def test_probabilities_of_large_logits():
    found = probabilities(np.array([[1000.0, 0.0, 1000.0]]))
    np.testing.assert_allclose(found, [[0.5, 0, 0.5]])


def test_schedules():
    step = ClassifierTraining(preset="paper_ozer_object_cxr")
    rates = [learning_rate(step, epoch * 10 + 3, 10) for epoch in range(20)]
    np.testing.assert_allclose(rates, np.repeat([5e-3, 5e-4, 5e-5, 5e-6], 5))
    keras = ClassifierTraining(preset="paper_brima_2023")
    assert learning_rate(keras, 1234, 10) == pytest.approx(1e-3 / (1 + 3e-4 * 1234))
    cosine = with_(schedule="cosine", epochs=10, learning_rate=0.2)
    assert [learning_rate(cosine, batch, 7) for batch in (0, 35, 70)] == pytest.approx([0.2, 0.1, 0])
    constant = with_(schedule="constant", learning_rate=0.2)
    assert {learning_rate(constant, batch, 7) for batch in (0, 35, 70)} == {0.2}


def test_the_schedule_reaches_the_optimiser_batch_by_batch(tmp_path):
    # A linear network with weights at zero and plain SGD: each step is rate × gradient of a known batch.
    images, labels = data = blobs(16)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 2, bias=False))
    nn.init.zeros_(net[1].weight)
    training = with_(
        epochs=2, batch_size=8, optimiser="sgd", momentum=0.0, weight_decay=0.0, schedule="inverse_time", decay=1.0,
        learning_rate=0.1, class_weights=False, augmentation={"flip": False, "rotate_deg": 0},
    )  # fmt: skip
    run(tmp_path, training, data=data, net=net, train_rows=np.arange(16), validation_rows=np.zeros(0, int))
    x = images.reshape(16, -1).astype(np.float64)
    x = (x - x.mean()) / x.std()
    weight = np.zeros((2, SIZE**2))
    batches = [rows for epoch in (0, 1) for rows, _ in epoch_plan(np.arange(16), training, 1, epoch)]
    assert len(batches) == 4
    for rows, rate in zip(batches, (0.1, 0.1 / 2, 0.1 / 3, 0.1 / 4), strict=True):
        share = np.exp(x[rows] @ weight.T)
        share /= share.sum(1, keepdims=True)
        weight -= rate * (share - np.eye(2)[labels[rows]]).T @ x[rows] / 8
    np.testing.assert_allclose(net[1].weight.detach().numpy(), weight, atol=1e-5)


def test_precision_is_a_fact_of_the_machine():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert computing_precision("auto", "cpu") == ("bf16" if "avx512_bf16" in flags else "float32")
    assert computing_precision("float32", "cpu") == "float32"
    assert computing_precision("bf16", "cpu") == "bf16"


class Breaking(nn.Module):
    """Gives what is no number at its n-th batch of training."""

    def __init__(self, at: int, where: str):
        super().__init__()
        self.inner, self.at, self.where, self.calls = build(), at, where, 0

    def forward(self, x):
        self.calls += self.training
        if self.calls == self.at and self.training:
            if self.where == "loss":
                return self.inner(x) * float("nan")
            self.inner[1].running_var.fill_(float("nan"))  # evaluation breaks, the loss of training does not
        return self.inner(x)


@pytest.mark.parametrize(
    ("at", "where", "message"),
    [(8, "loss", "the loss is nan in epoch 2, batch 3 of 5"), (9, "variance", "no number after epoch 2")],
)
def test_what_is_no_number_stops_with_epoch_and_batch_and_leaves_no_output(tmp_path, at, where, message):
    with pytest.raises(FloatingPointError, match=message):
        run(tmp_path, net=Breaking(at, where))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_pixels_that_are_no_numbers_are_refused_before_training(tmp_path):
    images, labels = blobs()
    images[3, 4, 4] = np.nan
    with pytest.raises(ValueError, match="pixels that are no numbers"):
        run(tmp_path, data=(images, labels))


def test_the_last_batch_is_never_one_image(tmp_path):
    # 9 images in batches of 8; a network whose batch normalisation sees one value per image refuses single ones.
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    run(tmp_path, with_(epochs=1), net=net, train_rows=np.arange(9))
    assert (tmp_path / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("left",)}, "expected whole numbers from 0 to 0"),
        ({"classes": ("left", "right", "none")}, r"no training image of class \[2\]"),
        ({"net": build(outputs=3)}, "found 3 outputs, expected 2"),
        ({"net": build(outputs=1)}, "found 1 outputs, expected 2"),
        ({"data": (blobs()[0], blobs()[1] + 0.0)}, "whole numbers"),
        ({"data": (blobs()[0], blobs()[1][:-1])}, "found images"),
        ({"data": (blobs()[0][:, 1:], blobs()[1])}, "found images"),
        ({"validation_rows": np.arange(39, 50)}, "1 images both in training and validation"),
        ({"train_rows": np.arange(1)}, "at least 2"),
        ({"training": with_(one_output=True), "classes": ("a", "b", "c")}, "found 3 classes, expected 2"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_statistics_and_digest_are_those_of_the_rows():
    images, labels = blobs()
    rows = np.array([5, 3, 11])
    pixels = images[rows].astype(float)
    assert input_statistics(images[rows]) == pytest.approx((pixels.mean(), pixels.std()), rel=1e-9)
    before = data_digest(images, labels, rows)
    images[0], labels[0] = 0, 1 - labels[0]
    assert data_digest(images, labels, rows) == before
    images[11, 0, 0] += 0.5
    changed = data_digest(images, labels, rows)
    labels[11] = 1 - labels[11]
    assert len({before, changed, data_digest(images, labels, rows), data_digest(images, labels, rows[::-1])}) == 4


def test_predictions_and_features_do_not_depend_on_the_batch_size(tmp_path):
    images, labels = blobs(33)
    run(tmp_path, with_(epochs=2), data=(images, labels))
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    classifier = load_model(tmp_path, build)
    rows = np.array([30, 2, 2, 17, 9])
    found = predict(classifier, mapped, rows)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(1), 1)
    one_by_one = np.concatenate([predict(classifier, mapped, rows[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, found, atol=1e-5)
    np.testing.assert_allclose(predict(classifier, mapped, rows, batch_size=2), found, atol=1e-5)
    features = penultimate_features(classifier, mapped, rows, penultimate)
    np.testing.assert_allclose(
        penultimate_features(classifier, mapped, rows, penultimate, batch_size=2), features, atol=1e-5
    )
    # The last layer turns the features into the logits.
    last = classifier.net[-1]
    expected = features @ last.weight.numpy().T + last.bias.numpy()
    np.testing.assert_allclose(raw_outputs(classifier, mapped, rows), expected, atol=1e-5)


def test_a_classifier_refuses_other_weights_and_other_sizes(tmp_path):
    run(tmp_path, with_(epochs=1))
    classifier = load_model(tmp_path, build)
    assert not classifier.net.training
    assert not any(parameter.requires_grad for parameter in classifier.net.parameters())
    with pytest.raises(ValueError, match=r"expected \(n, 16, 16\)"):
        predict(classifier, np.zeros((2, 8, 8), np.float16), np.arange(2))
    with pytest.raises(ValueError, match=r"weights\.safetensors: found other weights"):
        load_model(tmp_path, lambda *_, **__: nn.Linear(2, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_training_runs_on_a_gpu(tmp_path):
    run(tmp_path, with_(epochs=8, precision="auto"), data=blobs(240), device="cuda")
    images, labels = blobs(100, seed=1)
    assert (predict(load_model(tmp_path, build), images, np.arange(100)).argmax(1) == labels).mean() > 0.95


def test_epochs_take_the_samplings_in_turn():
    others = [np.zeros((2, 4, 4)), np.ones((2, 4, 4))]
    data = TrainingImages(np.full((2, 4, 4), 2.0), np.array([0, 1]), np.arange(2), np.arange(0), others)
    assert [data.of_epoch(epoch)[0, 0, 0] for epoch in range(5)] == [2, 0, 1, 2, 0]
