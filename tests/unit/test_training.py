"""Training learns, repeats byte by byte, survives `kill -9`, and stops early where it must."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from xiqa.config import Network, Training
from xiqa.models import training_loop
from xiqa.models.cdc_net import CDCNet
from xiqa.models.ensemble import load_ensemble, load_member, predict
from xiqa.models.training import (
    TrainingStep,
    data_digest,
    epoch_batches,
    learning_rate,
    pixels_of,
    train_member,
)
from xiqa.models.training_loop import input_statistics

SIZE = 20
NETWORK = Network(channels=(4, 4, 8), hidden=16)
TRAINING = Training(epochs=(3, 1, 1, 1), learning_rate=1e-3, batch_size=4, checkpoint_epochs=2)
OUTPUTS = ("weights.safetensors", "history.csv", "model.json")


def noisy_step(n: int, seed: int, name: str = "step", samplings: int = 2) -> TrainingStep:
    """Images whose noise decides their label, as in a phantom image without its phantom."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(5, 15, n)
    images = rng.normal(500, noise[:, None, None, None], (n, samplings, SIZE, SIZE))
    return TrainingStep(name, np.rint(images).astype(np.uint16), noise[:, None] / 50 * np.linspace(0.5, 2, 12))


def four_steps() -> list[TrainingStep]:
    return [noisy_step(n, seed, f"step_{seed}") for seed, n in enumerate((9, 4, 3, 3))]


def run(folder: Path, training: Training = TRAINING, **changes) -> Path:
    steps = changes.pop("steps", None) or four_steps()
    options = {"size": SIZE, "input_scale": (500.0, 10.0), "seed": 1, "member": 0, "folder": folder}
    network = NETWORK.model_copy(update={"dropout": changes.pop("dropout", 0.2)})
    return train_member(steps, network, training, **(options | changes))


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(autouse=True)
def _checkpoints_after_short_epochs(monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    return outputs(run(tmp_path_factory.mktemp("undisturbed")))


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_state(undisturbed, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(999)
        before = torch.get_rng_state()
        assert outputs(run(tmp_path)) == undisturbed
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", [{"seed": 2}, {"member": 1}])
def test_members_and_seeds_differ(undisturbed, tmp_path, change):
    assert outputs(run(tmp_path, **change))["weights.safetensors"] != undisturbed["weights.safetensors"]


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_training import run, training_loop
from pathlib import Path

training_loop.CHECKPOINT_SECONDS = 0.0

def progress(row):
    if row["epoch"] == 4:
        print("torch._dynamo" in sys.modules, flush=True)
        time.sleep(60)

run(Path({folder!r}), progress=progress)
"""


def test_a_training_killed_in_its_midst_continues_to_the_same_bytes(undisturbed, tmp_path):
    # Epoch 4 is not yet saved; the last checkpoint holds epoch 2.
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        # Epoch 4 of 6 is trained, and torch's compiler, whose loading takes more than a second, was not needed for it.
        assert process.stdout.readline() == "False\n"
        process.kill()
    assert (tmp_path / "checkpoint" / "state.safetensors").is_file()
    assert not (tmp_path / "weights.safetensors").exists()
    seen = []
    run(tmp_path, progress=lambda row: seen.append(row["epoch"]))
    assert seen == [3, 4, 5, 6]
    assert outputs(tmp_path) == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)


class Stop(Exception):
    """Ends a training from within."""


def stop_after(epoch: int):
    def progress(row):
        if row["epoch"] == epoch:
            raise Stop

    return progress


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_a_training_stopped_anywhere_continues_to_the_same_bytes(undisturbed, tmp_path, epoch):
    with pytest.raises(Stop):
        run(tmp_path, progress=stop_after(epoch))
    assert outputs(run(tmp_path)) == undisturbed


def test_a_checkpoint_of_another_training_is_not_used(undisturbed, tmp_path):
    with pytest.raises(Stop):
        run(tmp_path, TRAINING.model_copy(update={"learning_rate": 2e-3}), progress=stop_after(3))
    seen = []
    run(tmp_path, progress=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2, 3, 4, 5, 6]
    assert outputs(tmp_path) == undisturbed


def test_the_distance_of_checkpoints_changes_nothing(undisturbed, tmp_path):
    assert outputs(run(tmp_path, TRAINING.model_copy(update={"checkpoint_epochs": 50}))) == undisturbed


def test_history_and_description(tmp_path):
    validation = noisy_step(5, seed=9)
    steps = four_steps()
    run(tmp_path, steps=steps, validation=validation)
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history["step"]) == [1, 1, 1, 2, 3, 4]
    assert list(history["step_name"]) == ["step_0"] * 3 + ["step_1", "step_2", "step_3"]
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    ensemble = load_ensemble([tmp_path])
    assert (ensemble.mean, ensemble.sd) == (500.0, 10.0)
    # The last row's validation error is that of the network as it is loaded: nothing is lost in writing it.
    predicted = predict(ensemble, ensemble.normalise(validation.images[:, 0]))["predicted_um"]
    rmse = np.sqrt(np.mean((predicted - validation.labels_um) ** 2))
    assert history["validation_rmse_um"].iloc[-1] == pytest.approx(rmse, rel=1e-4)
    midpoint = np.sqrt(np.mean((predicted - validation.labels_um).mean(1) ** 2))
    assert history["validation_rmse_midpoint_um"].iloc[-1] == pytest.approx(midpoint, rel=1e-4)


def test_noise_is_learned_as_image_quality(tmp_path):
    steps = [noisy_step(96, seed=5, samplings=4)]
    training = Training(epochs=(12, 0, 0, 0), learning_rate=3e-3, batch_size=8, schedule="cosine")
    steps += [TrainingStep("none", steps[0].images[:0], steps[0].labels_um[:0])] * 3
    run(tmp_path, training, steps=steps)
    test = noisy_step(64, seed=6)
    ensemble = load_ensemble([tmp_path])
    predicted = predict(ensemble, ensemble.normalise(test.images[:, 0]))["predicted_um"]
    error = (predicted - test.labels_um).mean(1)
    reference = steps[0].labels_um.mean() - test.labels_um.mean(1)
    assert np.sqrt(np.mean(error**2)) < 0.5 * np.sqrt(np.mean(reference**2))


def test_first_filters_begin_blind_to_brightness(tmp_path):
    sums = {}
    for filters in ("zero_sum", "random"):
        run(tmp_path / filters, Training(epochs=(0, 0, 0, 0), first_filters=filters))
        sums[filters] = load_member(tmp_path / filters).conv1.weight.sum((1, 2, 3)).abs().min().item()
    assert sums["zero_sum"] < 1e-6 < sums["random"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_training_runs_on_a_gpu(tmp_path):
    run(tmp_path, device="cuda")
    losses = pd.read_csv(tmp_path / "history.csv")["nll"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert torch.isfinite(load_member(tmp_path)(torch.zeros(1, 1, SIZE, SIZE))[0]).all()


def test_the_learned_variance_is_what_the_images_do_not_explain(tmp_path):
    rng = np.random.default_rng(0)
    n = 200
    bright = np.arange(n) % 2
    residual = np.linspace(0.03, 0.1, 12) * rng.normal(size=(n, 12)).clip(-3, 3)
    images = np.broadcast_to((490 + 20 * bright)[:, None, None, None], (n, 1, SIZE, SIZE)).astype(np.uint16)
    steps = [TrainingStep("all", images, 0.6 + 0.4 * bright[:, None] + residual)]
    steps += [TrainingStep("none", images[:0], residual[:0])] * 3
    training = Training(epochs=(25, 0, 0, 0), learning_rate=3e-3, batch_size=20, schedule="cosine")
    # Without dropout, whose noise would count as unexplained.
    run(tmp_path, training, steps=steps, dropout=0)
    ensemble = load_ensemble([tmp_path])
    result = predict(ensemble, ensemble.normalise(images[:2, 0]))
    # The standard deviation of all labels is 0.2; what the brightness leaves open is at most half of it.
    np.testing.assert_allclose(result["aleatoric_um"][0], residual.std(0), rtol=0.1)
    np.testing.assert_allclose(result["predicted_um"].mean(1), [0.6, 1.0], atol=0.03)


def test_each_image_once_per_epoch_mirrored_with_the_sampling_of_the_epoch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2**14, (7, 3, SIZE, SIZE)).astype(np.uint16)
    labels = np.arange(7.0)[:, None] * np.ones(12)
    data = [TrainingStep("a", images[:4], labels[:4]), TrainingStep("b", images[4:], labels[4:])]
    mirrorings = set()
    for epoch in range(12):
        batches = list(epoch_batches(data, epoch, 3, np.random.default_rng(epoch), CDCNet.mirrored))
        assert sorted(len(counts) for counts, _ in batches) == [2, 2, 3]
        seen = []
        for counts, labels_um in batches:
            for image, label in zip(counts, labels_um[:, 0].astype(int), strict=True):
                original = images[label, epoch % 3]
                variants = {(a, b): original[::a, ::b] for a in (1, -1) for b in (1, -1)}
                matching = [key for key, variant in variants.items() if np.array_equal(variant, image)]
                assert len(matching) == 1
                mirrorings.add(matching[0])
                seen.append(label)
        assert sorted(seen) == list(range(7))
    assert len(mirrorings) == 4


def test_a_loss_that_is_no_number_stops_with_step_epoch_and_batch(tmp_path):
    steps = [
        TrainingStep(step.name, step.images.astype(np.float32), step.labels_um) for step in four_steps()
    ]  # recordings may be float
    steps[1].images[:] = np.nan
    with pytest.raises(FloatingPointError, match=r"step 2 \(step_1\), epoch 4, batch \d of 4"):
        run(tmp_path, steps=steps)
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 1, SIZE, SIZE - 1)), np.ones((2, 12)), "found images"),
        (np.zeros((2, 1, SIZE, SIZE)), np.ones((3, 12)), "found images"),
        (np.zeros((2, 1, SIZE, SIZE)), np.zeros((2, 12)), "above 0"),
        (np.zeros((2, 1, SIZE, SIZE)), np.full((2, 12), np.nan), "finite"),
    ],
)
def test_images_and_labels_must_fit(tmp_path, images, labels, message):
    steps = [*four_steps()[:3], TrainingStep("recorded", images, labels)]
    with pytest.raises(ValueError, match=f"recorded: .*{message}"):
        run(tmp_path, steps=steps)


def test_input_statistics_are_those_of_all_pixels():
    steps = four_steps()
    pixels = np.concatenate([step.images.ravel() for step in steps]).astype(float)
    mean, sd = input_statistics(pixels_of(steps))
    assert mean == pytest.approx(pixels.mean(), rel=1e-12)
    assert sd == pytest.approx(pixels.std(), rel=1e-9)


def test_the_digest_sees_one_pixel_and_one_label():
    steps = four_steps()
    before = data_digest(steps)
    assert data_digest(four_steps()) == before
    steps[2].images[1, 0, 3, 3] += 1
    changed = data_digest(steps)
    steps[2].labels_um[0, 11] += 1e-9
    assert len({before, changed, data_digest(steps)}) == 3


def test_learning_rate_schedule():
    cosine = Training(epochs=(4, 2, 2, 2), learning_rate=1e-3, schedule="cosine")
    assert [learning_rate(cosine, epoch) for epoch in (0, 5, 10)] == pytest.approx([1e-3, 5e-4, 0])
    warm = Training(epochs=(4, 2, 2, 2), learning_rate=1e-3, warmup_epochs=2)
    assert [learning_rate(warm, epoch) for epoch in (0, 1, 2, 9)] == pytest.approx([0, 5e-4, 1e-3, 1e-3])
