"""Scores that ask the network: images with channels, and a torch module in place of `predict`."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import long
from scipy import ndimage, special
from torch import nn

from xiqa.metrics import fidelity, insertion_deletion, road
from xiqa.metrics.maps.fidelity import fidelity_area, fidelity_ends
from xiqa.metrics.maps.road import linear_imputation

N, CHANNELS, HEIGHT, WIDTH, CLASSES = 3, 3, 12, 10, 4
LABELS = np.array([0, 3, 1])


def images_and_maps(dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.random((N, CHANNELS, HEIGHT, WIDTH)).astype(dtype), rng.normal(size=(N, HEIGHT, WIDTH))


def network(outputs=CLASSES, channels=CHANNELS, dtype=torch.float64, seed=0, tail=None):
    """Convolution, batch normalisation, dropout and a linear layer, in training mode as training leaves it."""
    torch.manual_seed(seed)
    body = [nn.Conv2d(channels, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(5 * (HEIGHT - 2) * (WIDTH - 2), outputs), *([tail] if tail else []))
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    return net.to(dtype)


def by_hand(net, outputs_to_probabilities=lambda z: special.softmax(z, axis=1)):
    """`predict` as a user writes it, in the dtype of the network and one image at a time."""
    net = copy.deepcopy(net).eval()
    dtype = next(net.parameters()).dtype

    def predict(images):
        x = torch.tensor(images if images.ndim == 4 else images[:, None]).to(dtype)
        with torch.no_grad():
            return outputs_to_probabilities(np.concatenate([net(one[None]).double().numpy() for one in x]))

    predict.dtype = np.float64  # the scores hand over float32, unless told that nothing may be lost
    return predict


def all_scores(images, maps, filling=None, labels=LABELS, **asked):
    """F of the probability and of the class, insertion, deletion, ROAD: (5, n)."""
    filling = images.mean((-2, -1)) if filling is None else filling
    of_fidelity = fidelity(images=images, labels=labels, maps=maps, replacement=filling, steps=8, **asked)
    both = insertion_deletion(images=images, labels=labels, maps=maps, steps=8, **asked)
    of_road = road(images=images, labels=labels, maps=maps, **asked)
    areas = [fidelity_area(curves) for curves in (of_fidelity.probability, of_fidelity.correct)]
    return np.stack([*areas, *both, of_road])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_gives_what_predict_written_by_hand_gives(dtype):
    images, maps = images_and_maps()
    net = network(dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(all_scores(images, maps, model=net), all_scores(images, maps, predict=by_hand(net)),
                               rtol=0, atol=tolerance)  # fmt: skip


@pytest.mark.parametrize(
    ("score", "kind"),
    [
        ("fidelity", np.float32),
        ("insertion", np.float64),
        ("deletion", np.float32),
        ("road", np.float64),
        long("fidelity", np.float64),
        long("insertion", np.float32),
        long("deletion", np.float64),
        long("road", np.float32),
    ],
)
def test_rgb_images_are_masked_in_all_channels_at_the_pixels_of_the_map(score, kind):
    """Against one loop per image, order, step and channel."""
    images, maps = images_and_maps(kind)
    net = network(dtype=torch.float64)
    predict = by_hand(net)
    steps, size = 6, HEIGHT * WIDTH
    values = np.random.default_rng(1).random((N, CHANNELS))  # another replacement for each channel
    filling = {"fidelity": values, "deletion": values, "insertion": ndimage.gaussian_filter(images, (0, 0, 2, 2))}

    def answer(image, label):
        return predict(image[None])[0][label]

    expected = []
    for image, label, saliency, i in zip(images, LABELS, maps, range(N), strict=True):
        order = np.argsort(-saliency.ravel())
        curves = []
        for sequence in (order, order[::-1]):
            curve = []
            for percent in range(10, 100, 10) if score == "road" else np.arange(steps + 1) / steps * 100:
                gone = sequence[: round(percent / 100 * size)]
                mask = np.zeros(size, bool)
                mask[gone] = True
                mask = mask.reshape(HEIGHT, WIDTH)
                changed = image.astype(np.float64)
                for channel in range(CHANNELS):
                    if score == "road":
                        changed[channel] = linear_imputation(image[channel], mask)
                    elif score == "insertion":
                        changed[channel] = np.where(mask, image[channel], filling[score][i, channel])
                    else:
                        changed[channel][mask] = filling[score][i, channel]
                curve.append(answer(changed, label))
            curves.append(np.array(curve))
        most, least = curves
        area = np.trapezoid(most, dx=1 / steps)
        expected.append({"fidelity": np.trapezoid(least, dx=1 / steps) - area, "insertion": area, "deletion": area,
                         "road": (least - most).mean() / 2}[score])  # fmt: skip
    given = {"images": images, "labels": LABELS, "maps": maps, "model": net}
    found = {
        "fidelity": lambda: fidelity_area(fidelity(**given, replacement=values, steps=steps).probability),
        "insertion": lambda: insertion_deletion(**given, steps=steps, blurred=filling["insertion"])[0],
        "deletion": lambda: insertion_deletion(**given, steps=steps, gray=values)[1],
        "road": lambda: road(**given, noise=0),
    }[score]()
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_grey_image_scores_the_same_in_one_channel_and_in_three(dtype):
    images, maps = images_and_maps()
    grey = images[:, 0]
    of_one = network(channels=1, dtype=dtype)
    of_three = network(channels=3, dtype=dtype)
    of_three.load_state_dict(of_one.state_dict() | {"0.weight": of_one[0].weight.expand(-1, 3, -1, -1) / 3})
    in_three = np.repeat(grey[:, None], 3, axis=1)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    expected = all_scores(grey, maps, model=of_one)
    np.testing.assert_allclose(all_scores(in_three, maps, model=of_three), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(all_scores(grey[:, None], maps, model=of_one), expected, rtol=0, atol=tolerance)


def test_replacements_of_all_kinds_mean_the_same():
    images, maps = images_and_maps()
    net, values = network(), np.linspace(0.1, 0.9, N)
    per_channel = np.repeat(values[:, None], CHANNELS, 1)
    whole = np.broadcast_to(per_channel[..., None, None], images.shape)
    expected = all_scores(images, maps, values, model=net)
    for same in (per_channel, whole):
        np.testing.assert_array_equal(all_scores(images, maps, same, model=net), expected)
    ends = fidelity_ends(images=images, labels=LABELS, replacement=per_channel, model=net)
    shared = fidelity(net, images, LABELS, maps, values, steps=8, ends=ends)
    np.testing.assert_allclose(fidelity_area(shared.probability), expected[0], atol=1e-12)
    with pytest.raises(
        ValueError, match=r"replacement: found \(3, 2\), expected \(3, 3, 12, 10\) or \(3,\) or \(3, 3\)"
    ):
        fidelity(net, images, LABELS, maps, np.zeros((N, 2)))
    with pytest.raises(ValueError, match=r"gray: found \(3, 2\), expected \(3,\) or \(3, 3\)"):
        insertion_deletion(net, images, LABELS, maps, gray=np.zeros((N, 2)))


class Squeezed(nn.Module):
    def forward(self, z):
        return z.squeeze()


@pytest.mark.parametrize("tail", [None, nn.Flatten(0), Squeezed()])
def test_one_logit_is_that_of_the_second_of_two_classes(tail):
    """(n, 1), (n,) and what `.squeeze()` makes of a single image; two logits -z/2 and z/2 say the same."""
    images, maps = images_and_maps()
    labels = np.array([1, 0, 1])
    one, two = network(outputs=1, tail=tail), network(outputs=2)
    state = one.state_dict()
    state["5.weight"] = torch.cat([-one[5].weight, one[5].weight]) / 2
    state["5.bias"] = torch.cat([-one[5].bias, one[5].bias]) / 2
    two.load_state_dict(state)
    expected = all_scores(images, maps, labels=labels, model=two)
    assert np.ptp(expected[0]) > 0
    for batch in (1, 64):  # with 1, the only image of a batch
        np.testing.assert_allclose(
            all_scores(images, maps, labels=labels, model=one, batch=batch), expected, atol=1e-12
        )


@pytest.mark.parametrize(
    ("outputs", "tail"), [(1, nn.Sigmoid()), (CLASSES, nn.Softmax(1)), (CLASSES, nn.LogSoftmax(1))]
)
def test_a_network_that_ends_in_probabilities_is_not_sent_through_a_softmax_again(outputs, tail):
    images, maps = images_and_maps()
    labels = LABELS if outputs > 1 else np.array([1, 0, 1])
    plain, ending = network(outputs), network(outputs, tail=nn.Sequential(tail, nn.Unflatten(1, (outputs, 1))))
    expected = all_scores(images, maps, labels=labels, model=plain)
    np.testing.assert_allclose(all_scores(images, maps, labels=labels, model=ending), expected, atol=1e-12)


class Unseen(nn.Module):
    """Probabilities from where autograd does not look."""

    @torch.no_grad()
    def forward(self, z):
        return z.softmax(1)


class Both(nn.Module):
    def forward(self, z):
        return {"logits": z, "features": z}


class Broken(nn.Module):
    def forward(self, z):
        return z * float("nan")


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (Both(), "found a dict as output, expected one tensor; give predict="),
        (nn.Unflatten(1, (2, CLASSES // 2)), r"found outputs \(\d+, 2, 2\) for \d+ images.*give predict="),
        (nn.Sigmoid(), "4 outputs of a sigmoid, which do not exclude each other.*give predict="),
        (Unseen(), "outputs that sum to 1, expected logits.*give predict="),
        (Broken(), "NaN or infinity in its output"),
        (nn.Flatten(0), r"found outputs \(\d+,\) for \d+ images.*give predict="),
    ],
)
def test_outputs_that_are_no_logits_of_classes_are_refused(tail, message):
    images, maps = images_and_maps()
    with pytest.raises(ValueError, match=message):
        road(images=images, labels=LABELS, maps=maps, model=network(tail=tail))


def test_segmentation_networks_and_wrong_channels_are_refused_with_what_to_do():
    images, maps = images_and_maps()
    segmentation = nn.Conv2d(CHANNELS, 2, 3, padding=1).double()
    with pytest.raises(
        ValueError, match=r"found outputs \(\d+, 2, 12, 10\).*one row of logits per image; give predict="
    ):
        insertion_deletion(images=images, labels=LABELS, maps=maps, model=segmentation)
    with pytest.raises(ValueError, match=r"failed on images \(\d+, 1, 12, 10\).*with its channels"):
        road(images=images[:, 0], labels=LABELS, maps=maps, model=network())
    last = np.moveaxis(images, 1, -1)
    with pytest.raises(ValueError, match=r"found images \(3, 12, 10, 3\).*expected \(n, h, w\) or \(n, c, h, w\)"):
        road(images=last, labels=LABELS, maps=maps, model=network())


def test_the_module_stays_as_it_is():
    """Mode of each part, flags, gradients, buffers, hooks and random numbers; also when the network raises."""
    images, maps = images_and_maps()
    net = network()
    net[3].eval()
    net[0].weight.requires_grad_(False)
    net[0].weight.grad = torch.ones_like(net[0].weight)
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    state, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    expected = all_scores(images, maps, predict=by_hand(net))
    for surroundings in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with surroundings:
            np.testing.assert_allclose(all_scores(images, maps, model=net), expected, atol=1e-12)
    with pytest.raises(ValueError, match="failed on images"):
        all_scores(images[:, :2], maps, model=net)
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == flags
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[5].weight.grad is None
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_in_half_precision_is_asked_in_its_own_dtype(dtype):
    images, maps = images_and_maps()
    net = network(dtype=dtype)
    expected = all_scores(images, maps, predict=by_hand(net))
    np.testing.assert_allclose(all_scores(images, maps, model=net), expected, atol=0.02)


def traced(net):
    return torch.jit.trace(copy.deepcopy(net).eval(), torch.zeros(1, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64))


def normalised(net):
    """Weight normalisation of the old kind keeps a weight with a history, which cannot be copied as it is."""
    nn.utils.weight_norm(net[5])
    net(torch.zeros(2, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64))
    return net.eval()


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*weight_norm")
@pytest.mark.parametrize("wrap", [nn.DataParallel, traced, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_and_compiled_modules(wrap):
    images, maps = images_and_maps()
    net = network()
    expected = all_scores(images, maps, predict=by_hand(net))
    np.testing.assert_allclose(all_scores(images, maps, model=wrap(net)), expected, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_networks_that_are_hard_to_copy_are_asked_or_refused():
    images, maps = images_and_maps()
    net = normalised(network())

    def predict(images):
        return special.softmax(net(torch.tensor(images).double()).detach().numpy(), 1)

    found = road(images, LABELS, maps, model=net)
    np.testing.assert_allclose(found, road(predict, images, LABELS, maps), atol=1e-6)
    net[1].running_mean = net[1].running_var = None
    with pytest.raises(ValueError, match="without running statistics"):
        road(images, LABELS, maps, model=net)


def test_tensors_are_taken_as_arrays_and_the_module_at_any_place():
    images, maps = images_and_maps()
    net = network()
    x = torch.tensor(images, requires_grad=True)
    labels, of_tensors = torch.tensor(LABELS), torch.tensor(maps)
    expected = road(by_hand(net), images, LABELS, maps)
    for found in (
        road(net, x, labels, of_tensors),
        road(x, labels, of_tensors, model=net),
        road(None, images, LABELS, maps, model=net),
        road(images, LABELS.tolist(), maps.tolist(), model=net),
        road(predict=net, images=images, labels=LABELS, maps=maps),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-12)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        return self.net(x.mul_(2).sub_(0.5))


def test_images_stay_as_they_are_when_a_network_works_in_place():
    images, maps = images_and_maps()
    net, before = InPlace(), images.copy()
    found = fidelity(images, LABELS, maps, np.zeros(N), model=net, steps=4)
    np.testing.assert_array_equal(images, before)
    expected = fidelity(2 * images - 0.5, LABELS, maps, np.full(N, -0.5), model=net.net, steps=4)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-12)


def test_predict_may_answer_with_a_tensor_that_has_a_history():
    images, maps = images_and_maps()
    net = network().eval()
    found = road(lambda x: net(torch.tensor(x, dtype=torch.float64)).softmax(1), images, LABELS, maps)
    np.testing.assert_allclose(found, road(net, images, LABELS, maps), atol=1e-6)


def test_one_of_predict_and_model_is_given():
    images, maps = images_and_maps()
    net = network()
    with pytest.raises(ValueError, match="found both predict and model"):
        road(by_hand(net), images, LABELS, maps, model=net)
    with pytest.raises(ValueError, match="found neither predict nor model"):
        road(images=images, labels=LABELS, maps=maps)
    with pytest.raises(ValueError, match="found a function as model"):
        road(images=images, labels=LABELS, maps=maps, model=by_hand(net))


def test_scores_do_not_import_torch_without_a_module():
    code = (
        "import sys, numpy as np; from xiqa.metrics import road, fidelity, insertion_deletion\n"
        "x = np.random.default_rng(0).random((2, 3, 8, 8)); y = np.array([0, 1])\n"
        "p = lambda x: np.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)\n"
        "road(p, x, y, x[:, 0]); fidelity(p, x, y, x[:, 0], np.zeros(2)); insertion_deletion(p, x, y, x[:, 0])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
