"""Weights are read safely, adapted without changing what they compute, and downloaded whole or not at all."""

import hashlib
import http.server
import os
import pickle
import threading
import time

import pytest
import torch
from torch import nn

from xiqa import files
from xiqa.models import weights, zoo
from xiqa.models.torchvision_import import import_timm

SMALL = {"channels": 1, "outputs": 2, "seed": 1}


def randomised(architecture: str, **given) -> nn.Module:
    """A network with weights, statistics and shifts that are nowhere trivial."""
    net = zoo.build(architecture, **({"channels": 1, "outputs": 2, "seed": 7} | given)).eval()
    generator = torch.Generator().manual_seed(3)
    for name, tensor in net.state_dict().items():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + ("running_var" in name))
    return net


@pytest.fixture
def stored(tmp_path):
    """A file with the weights of a small network of three channels and five outputs, and the network."""
    net = randomised("small_resnet", channels=3, outputs=5)
    path = tmp_path / "small.safetensors"
    files.write_tensors(path, net.state_dict())
    return path, net


@pytest.mark.parametrize("architecture", ["small_resnet", "efficientnet_b0"])
def test_one_channel_gives_what_three_equal_ones_give(architecture, tmp_path):
    colour = randomised(architecture, channels=3)
    files.write_tensors(tmp_path / "colour.safetensors", colour.state_dict())
    grey = zoo.build(architecture, **SMALL).eval()
    text = weights.load_weights(grey, architecture, tmp_path / "colour.safetensors")
    assert "first convolution summed over 3 channels" in text
    x = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_classifier_of_another_size_stays_as_drawn(stored):
    path, net = stored
    before = zoo.build("small_resnet", **SMALL)
    after, text = weights.initial_state("small_resnet", **SMALL, weights=str(path))
    assert text.startswith(f"small.safetensors (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]})")
    assert text.endswith("; classifier random")
    assert torch.equal(after.fc.weight, before.fc.weight)
    assert torch.equal(after.stages[3][0].conv2.weight, net.stages[3][0].conv2.weight)


def test_file_of_the_same_network_is_taken_whole(stored):
    path, net = stored
    after, text = weights.initial_state("small_resnet", channels=3, outputs=5, seed=1, weights=str(path))
    assert "random" not in text
    assert all(torch.equal(a, b) for a, b in zip(after.state_dict().values(), net.state_dict().values(), strict=True))


def test_without_weights_all_is_drawn():
    net, text = weights.initial_state("small_resnet", **SMALL)
    assert text == "all weights random"
    assert torch.equal(net.fc.weight, zoo.build("small_resnet", **SMALL).fc.weight)


def test_semi_random_network_keeps_the_trained_backbone_only(tmp_path):
    trained = randomised("small_resnet")
    files.write_tensors(tmp_path / "weights.safetensors", trained.state_dict())
    net, text = weights.semi_random_state("small_resnet", **SMALL, trained=tmp_path / "weights.safetensors")
    assert text == "backbone from the trained network; classifier random"
    x = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(zoo.features(net.eval(), x), zoo.features(trained, x))
    for other in (trained, zoo.build("small_resnet", **SMALL)):
        # Uncorrelated with what training ended at and with what it began from.
        both = torch.stack([net.fc.weight.flatten(), other.fc.weight.flatten()])
        assert abs(torch.corrcoef(both)[0, 1]) < 4 / 256**0.5
    assert (net.fc.bias == 0).all()
    again, _ = weights.semi_random_state("small_resnet", **SMALL, trained=tmp_path / "weights.safetensors")
    assert torch.equal(net.fc.weight, again.fc.weight)


def test_semi_random_network_prefers_given_weights(stored, tmp_path):
    path, net = stored
    given = {"channels": 3, "outputs": 5, "seed": 1, "weights": str(path), "trained": tmp_path / "not there"}
    semi, text = weights.semi_random_state("small_resnet", **given)
    assert text.startswith("backbone from small.safetensors")
    assert text.endswith("; classifier random")
    assert torch.equal(semi.stem[0].weight, net.stem[0].weight)
    assert not torch.equal(semi.fc.weight, net.fc.weight)


def test_file_of_another_network_is_refused(stored):
    path, _ = stored
    with pytest.raises(ValueError, match=r"small.safetensors: .* do not fit small_resnet: .* missing, such as stages"):
        weights.initial_state("small_resnet", **SMALL, options={"blocks": 2}, weights=str(path))
    with pytest.raises(ValueError, match="of another shape, such as stages"):
        weights.initial_state("small_resnet", **SMALL, options={"width": 8}, weights=str(path))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_pth_files_are_read_however_they_are_wrapped(wrap, tmp_path):
    net = randomised("small_resnet")
    torch.save(wrap({f"module.{name}": tensor for name, tensor in net.state_dict().items()}), tmp_path / "a.pth")
    read = weights.read_weights(tmp_path / "a.pth")
    assert read.keys() == net.state_dict().keys()
    assert torch.equal(read["fc.weight"], net.fc.weight)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_executed(tmp_path):
    for name, write in (("zip.pth", torch.save), ("plain.pth", lambda o, p: p.write_bytes(pickle.dumps(o, 2)))):
        write({"fc.weight": Attack(tmp_path / "executed")}, tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: cannot be read as weights: .*expected tensors only"):
            weights.read_weights(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"<html>not found</html>", "cannot be read as weights"),
        ("a.pth", b"<html>not found</html>", "cannot be read as weights"),
        ("a.pth", b"", "cannot be read as weights"),
        ("a.h5", b"", "found suffix '.h5', expected .safetensors or .pth"),
    ],
)
def test_damaged_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        weights.read_weights(tmp_path / name)


def test_truncated_and_foreign_files_are_named(stored, tmp_path):
    (tmp_path / "half.safetensors").write_bytes(stored[0].read_bytes()[:-1000])
    torch.save(stored[1].state_dict(), tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-1000])
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("half.safetensors", "half.pth", "list.pth"):
        with pytest.raises(ValueError, match=name):
            weights.read_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.pth: found no such file"):
        weights.read_weights(tmp_path / "none.pth")


@pytest.mark.parametrize("architecture", ["resnet34", "densenet121", "inception_v3"])
def test_files_of_torchvision_give_the_same_network(architecture, tmp_path):
    import_timm()
    from torchvision import models

    auxiliary = {"transform_input": False, "init_weights": False} if architecture == "inception_v3" else {}
    with torch.device("meta"):
        theirs = getattr(models, architecture)(num_classes=2, **auxiliary)
    zoo.initialise(theirs.to_empty(device="cpu"), 3)
    tensors = theirs.state_dict()
    if architecture == "densenet121":
        # The names in the file that torchvision downloads; it renames them when it reads.
        for name in [name for name in tensors if "denselayer" in name]:
            tensors[name.replace("norm", "norm.").replace("conv", "conv.")] = tensors.pop(name)
        assert "features.denseblock1.denselayer1.norm.1.weight" in tensors
    torch.save(tensors, tmp_path / "theirs.pth")
    ours, text = weights.initial_state(
        architecture, channels=3, outputs=2, seed=0, weights=str(tmp_path / "theirs.pth")
    )
    assert "random" not in text
    x = torch.rand(1, 3, 96, 96)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
def test_names_and_shapes_of_torchvisions_vgg_are_understood(architecture):
    timm = import_timm()
    from torchvision import models

    with torch.device("meta"):
        theirs = getattr(models, architecture)().state_dict()
        ours = timm.create_model(architecture).state_dict()
    found = weights._timm_names(theirs, ours)
    assert {name: tensor.shape for name, tensor in found.items()} == {name: t.shape for name, t in ours.items()}


@pytest.mark.parametrize("name", [name for name, entry in zoo.TABLE.items() if entry.source])
def test_imagenet_weights_expect_the_input_that_timm_states(name):
    mean, sd = weights.pretrained_statistics(name)
    # In use are two: to -1..1, or by ImageNet's colours: means 0.485, 0.456, 0.406, deviations 0.229, 0.224, 0.225.
    published = name in ("resnet34", "resnet50", "efficientnet_b0", "vgg16", "vgg19", "densenet121")
    assert (mean, sd) == pytest.approx((0.449, 0.226) if published else (0.5, 0.5))


# Downloads


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server that answers as the Hugging Face Hub does: a redirection that states the checksum, then the file."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path.endswith("/resolve/main/model.safetensors"):
                self.send_response(302)
                self.send_header("Location", "/storage")
                if server.checksum:
                    self.send_header("X-Linked-ETag", f'"{server.checksum}"')
                self.end_headers()
            elif self.path.startswith("/storage"):
                self.send_response(200)
                self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
                self.send_header("Content-Length", str(len(server.content)))
                self.end_headers()
                self.wfile.write(server.content[: server.sent])
            elif self.path == "/silent":
                time.sleep(1)
            else:
                self.send_error(404)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.sent = asked, None
    files.write_tensors(tmp_path / "content.safetensors", {"fc.weight": torch.rand(30, 30)})
    server.content = (tmp_path / "content.safetensors").read_bytes()
    server.checksum = hashlib.sha256(server.content).hexdigest()
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.folder = tmp_path / "weights"
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(server.folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_is_checked_kept_and_not_repeated(hub):
    path = weights.imagenet_file("resnet34")
    assert path == hub.folder / "resnet34.safetensors"
    assert path.read_bytes() == hub.content
    assert weights.imagenet_file("resnet34") == path
    assert hub.asked == ["/timm/resnet34.tv_in1k/resolve/main/model.safetensors", "/storage"]
    assert [file.name for file in hub.folder.iterdir()] == ["resnet34.safetensors"]


@pytest.mark.parametrize("fault", ["other bytes", "cut off", "a page instead of weights"])
def test_faulty_download_is_refused_and_not_kept(hub, fault):
    if fault == "other bytes":
        hub.content = hub.content[:-1] + bytes([hub.content[-1] ^ 1])
        message = "found SHA-256 .*, expected " + hub.checksum
    elif fault == "cut off":
        hub.sent, message = 500, "found 500 bytes, expected"
    else:
        hub.content, hub.checksum, message = b"<html>please log in</html>", "", "cannot be read as weights"
    with pytest.raises(FileNotFoundError, match=message):
        weights.imagenet_file("resnet34")
    assert not list(hub.folder.iterdir())


def test_checksum_in_the_name_of_a_file_is_used(hub):
    path = hub.folder / "a.safetensors"
    weights.download(f"{hub.url}/storage", path, hub.checksum[:8])
    assert path.read_bytes() == hub.content
    with pytest.raises(ValueError, match="expected 0a1b2c"):
        weights.download(f"{hub.url}/storage", hub.folder / "b.safetensors", "0a1b2c")
    assert not (hub.folder / "b.safetensors").exists()


def test_the_one_file_outside_the_hub_states_its_checksum(monkeypatch, tmp_path):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    asked = []
    monkeypatch.setattr(weights, "download", lambda *given: asked.append(given))
    assert weights.imagenet_file("xception") == tmp_path / "xception.pth"
    ((url, path, checksum),) = asked
    assert url.startswith("https://github.com/")
    assert url.endswith(f"-{checksum}.pth")
    assert len(checksum) >= 8
    assert path == tmp_path / "xception.pth"


def test_without_a_connection_the_message_says_what_to_put_where(monkeypatch, tmp_path, hub):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        weights.initial_state("efficientnet_b0", **SMALL, weights="imagenet")
    assert time.monotonic() - began < 30  # on a busy machine; refused at once
    path = hub.folder / "efficientnet_b0.safetensors"
    url = "http://127.0.0.1:9/timm/efficientnet_b0.ra_in1k/resolve/main/model.safetensors"
    for part in (f"could not download {url}", f"put it at {path}", "XIQA_WEIGHTS", "set weights: none"):
        assert part in str(caught.value)


def test_silent_server_and_missing_file_do_not_hold_up(hub, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_S", 0.1)
    with pytest.raises(OSError, match="timed out"):
        weights.download(f"{hub.url}/silent", hub.folder / "a.pth")
    with pytest.raises(OSError, match="404"):
        weights.download(f"{hub.url}/other", hub.folder / "a.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_file_comes_before_any_connection(suffix, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv(weights.FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    theirs = randomised("efficientnet_b0", channels=3, outputs=10)
    path = tmp_path / "weights" / f"efficientnet_b0{suffix}"
    path.parent.mkdir()
    write = files.write_tensors if suffix == ".safetensors" else lambda path, tensors: torch.save(tensors, path)
    write(path, theirs.state_dict())
    net, text = weights.initial_state("efficientnet_b0", **SMALL, weights="imagenet")
    assert text.startswith(f"ImageNet weights: efficientnet_b0{suffix} (SHA-256 ")
    assert torch.equal(net.conv_head.weight, theirs.conv_head.weight)


def test_our_own_network_has_no_imagenet_weights(monkeypatch, tmp_path):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match="small_resnet: there are no ImageNet weights"):
        weights.initial_state("small_resnet", **SMALL, weights="imagenet")
