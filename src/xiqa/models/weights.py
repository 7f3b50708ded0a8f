"""Initial weights and states of a network: files read safely, downloaded once, adapted, drawn anew."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from xiqa import files
from xiqa.models.torchvision_import import import_timm
from xiqa.models.zoo import TABLE, build, classifier, initialise

LOG = logging.getLogger(__name__)
FOLDER_VARIABLE = "XIQA_WEIGHTS"
TIMEOUT_S = 10.0
RANDOM_CLASSIFIER = "; classifier random"
# Torchvision's names -> timm's: the fully connected layers of VGG, and DenseNet's layers as its old files have them.
_RENAMED = {
    r"^classifier\.0\.": "pre_logits.fc1.",
    r"^classifier\.3\.": "pre_logits.fc2.",
    r"^classifier\.6\.": "head.fc.",
    r"(denselayer\d+\.(?:norm|conv))\.([12])\.": r"\1\2.",
}


def initial_state(
    architecture: str,
    *,
    channels: int,
    outputs: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
    weights: str = "none",
) -> tuple[nn.Module, str]:
    """The network that training starts from; with `weights="none"` it is the state `fully_random` too.

    Args:
        architecture: name of the network; `channels`, `outputs`, `seed` and `options` as for `xiqa.models.zoo.build`.
        channels: input channels.
        outputs: logits.
        seed: seed of all that is drawn.
        options: options of the architecture.
        weights: none, imagenet, or the path of a file.

    Returns:
        The network, and a text that says where its weights come from.

    Raises:
        ValueError: the file cannot be read, or belongs to another network.
        FileNotFoundError: there is no such file, and none can be downloaded; says what to put where.
    """
    net = build(architecture, channels=channels, outputs=outputs, seed=seed, options=options)
    if weights == "none":
        return net, "all weights random"
    if weights == "imagenet":
        return net, "ImageNet weights: " + load_weights(net, architecture, imagenet_file(architecture))
    return net, load_weights(net, architecture, weights)


def semi_random_state(
    architecture: str,
    *,
    channels: int,
    outputs: int,
    seed: int,
    options: Mapping[str, Any] | None = None,
    weights: str = "none",
    trained: str | os.PathLike,
) -> tuple[nn.Module, str]:
    """A network whose backbone has learnt and whose classifier has not.

    Args:
        architecture: arguments as for `initial_state`.
        channels: input channels.
        outputs: logits.
        seed: seed of the classifier; its draw is not the one that training started from, because a trained backbone
            has adapted to that.
        options: options of the architecture.
        weights: the backbone's source, unless it is "none".
        trained: weights file of the trained network, the backbone's source for `weights="none"`.

    Returns:
        The network, and a text that says where its backbone comes from.

    Raises:
        ValueError: as for `initial_state`.
        FileNotFoundError: as for `initial_state`.

    Reference: Özer, section 4.4 (backbone from ImageNet).
    """
    given: dict[str, Any] = {"channels": channels, "outputs": outputs, "seed": seed, "options": options}
    net, source = initial_state(architecture, **given, weights=os.fspath(trained) if weights == "none" else weights)
    if weights == "none":
        source = "the trained network"
    initialise(classifier(net, architecture), seed, "fresh classifier", architecture)
    return net, f"backbone from {source.removesuffix(RANDOM_CLASSIFIER)}{RANDOM_CLASSIFIER}"


def load_weights(net: nn.Module, architecture: str, path: str | os.PathLike) -> str:
    """Load a file into a network of timm's names, or of torchvision's where `docs/reference/networks.md` says so.

    Weights for three channels are summed in the first convolution for a network of one: both then give the same for
    one image and its three equal copies. A classifier of another size, or none in the file, leaves the network's own.

    Args:
        net: network made by `xiqa.models.zoo.build`.
        architecture: its name.
        path: .safetensors, or .pth with tensors only.

    Returns:
        A text: the file's name, its SHA-256, and what was adapted.

    Raises:
        ValueError: the file cannot be read, or belongs to another network.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    own, notes = net.state_dict(), ""
    tensors = _timm_names(read_weights(path), own)
    first = next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)) + ".weight"
    if own[first].shape[1] == 1 and first in tensors and tensors[first].shape[1] == 3:
        tensors[first] = tensors[first].sum(1, keepdim=True)
        notes += "; first convolution summed over 3 channels"
    last = TABLE[architecture].classifier
    if f"{last}.weight" not in tensors or tensors[f"{last}.weight"].shape != own[f"{last}.weight"].shape:
        tensors |= {name: tensor for name, tensor in own.items() if name.startswith(f"{last}.")}
        notes += RANDOM_CLASSIFIER
    # Counters of batches, which files of old torch versions lack.
    tensors = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")} | tensors
    wrong = {
        "missing": own.keys() - tensors.keys(),
        "unknown": tensors.keys() - own.keys(),
        "of another shape": {n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape},
    }
    if any(wrong.values()):
        found = "; ".join(f"{len(names)} {kind}, such as {min(names)}" for kind, names in wrong.items() if names)
        raise ValueError(
            f"{path}: found tensors that do not fit {architecture}: {found}; expected all of this architecture, named "
            "as in timm; look at architecture, options and channels"
        )
    net.load_state_dict(tensors)
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{path.name} (SHA-256 {digest[:12]}){notes}"


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or .pth file; nothing in it is executed.

    Args:
        path: the file; a .pth may hold the tensors under `state_dict` or `model`, and names that begin with `module.`.

    Raises:
        ValueError: the file has another suffix, is damaged, or holds something else than tensors.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no such file, expected weights (.safetensors or .pth)")
    if path.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"{path}: found suffix '{path.suffix}', expected .safetensors or .pth")
    try:
        if path.suffix == ".safetensors":
            return files.read_tensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path}: cannot be read as weights: {reason}; expected tensors only; download it again, or save the "
            "network's state_dict as .safetensors"
        ) from None
    for key in ("state_dict", "model"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{path}: found no dictionary of tensors; save the network's state_dict as .safetensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def imagenet_file(architecture: str) -> Path:
    """The file with ImageNet weights: from the local folder, or downloaded into it.

    The folder is `weights` in the working directory, or what the environment variable XIQA_WEIGHTS names. The Hugging
    Face Hub is asked where HF_ENDPOINT says.

    Raises:
        ValueError: there are no such weights for the architecture.
        FileNotFoundError: no file, and no download; says what to put where.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE, "weights"))
    for suffix in (".safetensors", ".pth"):
        if (path := folder / f"{architecture}{suffix}").is_file():
            return path
    configuration = _pretrained(architecture)
    if configuration.hf_hub_id:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        url, sha256 = f"{endpoint}/{configuration.hf_hub_id}/resolve/main/model.safetensors", ""
    else:
        # Files outside the Hub carry the beginning of their checksum in their name.
        url, sha256 = configuration.url, re.findall(r"-([0-9a-f]+)\.pth$", configuration.url)[0]
    path = folder / f"{architecture}{Path(url).suffix}"
    try:
        download(url, path, sha256)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise FileNotFoundError(
            f"{path}: found no ImageNet weights for {architecture}, and could not download {url} ({error}); download "
            f"it where there is internet and put it at {path} ({FOLDER_VARIABLE} names another folder), or set "
            "weights: none"
        ) from None
    return path


def download(url: str, path: str | os.PathLike, sha256: str = "") -> None:
    """Download a file of weights, whole and checked, or not at all; one try, and seconds of patience.

    Args:
        url: where from.
        path: where to.
        sha256: first digits of its checksum; the server's own statement (Hugging Face's X-Linked-ETag) is used too.

    Raises:
        OSError: the server cannot be reached or has no such file.
        ValueError: the file is not complete, has another checksum, or holds no weights.
    """
    path, statements, digest = Path(path), _Statements(), hashlib.sha256()
    LOG.info("downloading %s to %s", url, path)
    # Several jobs may ask for the same file at the same time.
    mine = path.with_stem(f"{path.stem}-{os.getpid()}")
    with files.atomic_path(mine) as temporary:
        with (
            urllib.request.build_opener(statements).open(url, timeout=TIMEOUT_S) as answer,
            open(temporary, "wb") as stream,
        ):
            statements.read(answer.headers)
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                stream.write(chunk)
            length = answer.headers.get("Content-Length", stream.tell())
            if int(length) != stream.tell():
                raise ValueError(f"found {stream.tell()} bytes, expected {length}")
        for expected in filter(None, (sha256, statements.sha256)):
            if not digest.hexdigest().startswith(expected):
                raise ValueError(f"found SHA-256 {digest.hexdigest()}, expected {expected}")
        read_weights(temporary)
    os.replace(mine, path)


def pretrained_statistics(architecture: str) -> tuple[float, float]:
    """Mean and standard deviation of the input (image in 0..1) that the ImageNet weights were made for.

    A gray image has one mean and one standard deviation: where the colours have their own, theirs are averaged.

    Raises:
        ValueError: there are no such weights for the architecture.
    """
    configuration = _pretrained(architecture)
    return sum(configuration.mean) / 3, sum(configuration.std) / 3


class _Statements(urllib.request.HTTPRedirectHandler):
    """Follows redirections, and keeps the checksum that an answer on the way states."""

    sha256 = ""

    def read(self, headers: http.client.HTTPMessage) -> None:
        etag = headers.get("X-Linked-ETag", "").strip('"')
        self.sha256 = etag if re.fullmatch("[0-9a-f]{64}", etag) else self.sha256

    def redirect_request(self, request, answer, code, message, headers, url):
        self.read(headers)
        return super().redirect_request(request, answer, code, message, headers, url)


def _pretrained(architecture: str):
    source = TABLE[architecture].source
    if not source:
        raise ValueError(f"{architecture}: there are no ImageNet weights for it; set weights: none, or a path")
    return import_timm().get_pretrained_cfg(source)


def _timm_names(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under timm's names and in its shapes, without the auxiliary classifier of Inception."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RENAMED.items():
            name = re.sub(pattern, replacement, name)
        if name in own and tensor.ndim == 2 and own[name].ndim == 4 and tensor.numel() == own[name].numel():
            tensor = tensor.reshape(own[name].shape)
        if not name.startswith("AuxLogits."):
            renamed[name] = tensor
    return renamed
