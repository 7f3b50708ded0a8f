"""Where the numbers of a layer's output lie on the image (maps, channels last, tokens), and which layer is last."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

Reshape = Literal["channels_first", "channels_last", "tokens"] | Callable[[Tensor], Tensor] | None
"""(b, k, u, v); (b, u, v, k); (b, prefix + u · v, k); a function -> (b, k, u, v); None: found out, or refused."""

ASK = "say which with reshape='channels_first', 'channels_last', 'tokens', or a function output -> (n, k, u, v)"
_ON_MAPS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.PReLU)
PREFIXES = range(9)
"""How many tokens may stand in front of those of the image: class token, distillation token, registers."""


def name_of(model: nn.Module, layer: str | nn.Module) -> str:
    """The name of a layer in `working_copy(model)`, of a module of the model or of its name.

    Raises:
        ValueError: the model has no such layer.
    """
    names = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    if isinstance(layer, nn.Module):
        found = [name for name, module in names.items() if module is layer]
        if not found:
            raise ValueError(
                f"layers: found a {type(layer).__name__} that is not in the model, expected one of its own"
            )
        return plain_name(found[0])
    plain = {plain_name(name) for name in names}
    if not isinstance(layer, str) or not layer or plain_name(layer) not in plain:
        near = difflib.get_close_matches(str(layer), plain, 5) or sorted(plain)[-5:]
        raise ValueError(
            f"layers: found {layer!r}, expected a name of `model.named_modules()` or a module of the model, such as "
            f"{near}"
        )
    return plain_name(layer)


def plain_name(name: str) -> str:
    """The name of a module without the wrappers that `working_copy` takes off."""
    parts = name.split(".")
    kept = [part for part in (parts[1:] if parts[0] == "module" else parts) if part != "_orig_mod"]
    return ".".join(kept)


def as_maps(output: Any, reshape: Reshape, net: nn.Module, name: str, images: Tensor) -> Tensor:
    """The output of layer `name` for images (b, c, h, w), as maps (b, k, u, v) that share its memory where they can.

    Raises:
        ValueError: the output has another form, or could have several; the message says what to give.
    """
    if not isinstance(output, Tensor):
        tensors = [part for part in output if isinstance(part, Tensor)] if isinstance(output, tuple | list) else []
        if len(tensors) != 1:
            raise ValueError(
                f"layer {name}: found an output {type(output).__name__}, expected one tensor; name another"
            )
        output = tensors[0]
    n, (height, width) = len(images), images.shape[2:]
    kind = _kind(output, net, name, (height, width)) if reshape is None else reshape
    if callable(kind):
        maps = kind(output)
    elif kind == "channels_first":
        maps = output
    elif kind == "channels_last":
        maps = output.movedim(-1, 1) if output.ndim == 4 else output
    elif kind == "tokens":
        maps = _of_tokens(output, net, name, (height, width))
    else:
        raise ValueError(f"reshape: found {reshape!r}, expected channels_first, channels_last, tokens or a function")
    if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != n:
        found = f"{tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f"layer {name}: found {found}, expected maps ({n}, k, u, v); name another layer, or {ASK}")
    return maps


def last_spatial_layer(
    net: nn.Module, images: Tensor, reshape: Reshape = None, run: Callable[[Tensor, list], Any] | None = None
) -> str:
    """Name of the last layer with weights whose output has places: what Grad-CAM is usually taken at.

    Of a vision transformer of timm or torchvision it is the first normalisation of the last block: behind that block
    only the class token leads to the output.

    Args:
        net: network in evaluation mode.
        images: (1, c, h, w).
        reshape: see `Reshape`.
        run: how the network is called; empties the list, which its hooks fill, should it begin again.

    Raises:
        ValueError: there is no such layer.
    """
    for prefix, module in net.named_modules():
        norm = _last_norm_of_vit(module)
        if norm:
            return f"{prefix}.{norm}" if prefix else norm
    found: list[tuple[str, Any]] = []

    def keep(name: str) -> Callable:
        def hook(module, args, output):
            try:
                maps = as_maps(output, reshape, net, name, images)
            except (ValueError, RuntimeError, TypeError, IndexError):
                return
            if maps.shape[2] * maps.shape[3] > 1:
                found.append((name, output))

        return hook

    weighted = [
        (name, module) for name, module in net.named_modules() if name and any(True for _ in module.parameters())
    ]
    hooks = [module.register_forward_hook(keep(name)) for name, module in weighted]
    try:
        with torch.no_grad():
            output = run(images, found) if run else net(images)
    finally:
        for hook in hooks:
            hook.remove()
    names = [name for name, own in found if own is not output]
    called = [name for name, _ in found]
    once = [name for name in names if called.count(name) == 1]
    if not once:
        raise ValueError(
            f"layers: found no layer of {type(net).__name__} whose output is maps (n, k, u, v), expected "
            f"layers=['<name>'] of `model.named_modules()`, and {ASK}"
        )
    return once[-1]


def _kind(output: Tensor, net: nn.Module, name: str, size: tuple[int, int]) -> str:
    """The form of an output, where it is plain or of an architecture that is known.

    Raises:
        ValueError: it could be another.
    """
    windows = any("SwinTransformer" in type(module).__name__ for module in _around(net, name))
    if output.ndim == 4:
        if _gives_maps(net.get_submodule(name)):
            return "channels_first"
        if windows:
            return "channels_last"
        # Maps are stretched like the image. Where the first two axes fit better, they are rows and columns.
        if _stretch(output.shape[1:3], size) + 1e-9 < _stretch(output.shape[2:], size):
            raise ValueError(
                f"layer {name}: found {tuple(output.shape)} for images {size}, which looks like (n, u, v, k); {ASK}"
            )
        return "channels_first"
    if output.ndim == 3 and (windows or any(map(_is_vit, _around(net, name)))):
        return "tokens"
    raise ValueError(
        f"layer {name}: found {tuple(output.shape)}, expected maps (n, k, u, v); name another layer, or {ASK}"
    )


def _of_tokens(output: Tensor, net: nn.Module, name: str, size: tuple[int, int]) -> Tensor:
    """(b, prefix + u · v, k) -> (b, k, u, v)."""
    if output.ndim != 3:
        raise ValueError(f"layer {name}: found {tuple(output.shape)}, expected tokens (n, prefix + u · v, k)")
    tokens = output.shape[1]
    grids = {
        grid
        for module in _around(net, name)
        for grid in _grids_of_vit(module, size)
        if grid[0] + grid[1] * grid[2] == tokens
    }
    if not grids:
        grids = {
            (prefix, *grid)
            for prefix in PREFIXES
            for grid in _square_patches(size)
            if prefix + math.prod(grid) == tokens
        }
    if len(grids) != 1:
        raise ValueError(
            f"layer {name}: found {tokens} tokens for images {size}, expected those of one grid of square patches, "
            f"with up to {max(PREFIXES)} tokens in front (possible: {sorted(grids)}); give reshape= a function "
            "output -> (n, k, u, v)"
        )
    ((prefix, rows, columns),) = grids
    return output[:, prefix:].unflatten(1, (rows, columns)).movedim(-1, 1)


def _gives_maps(module: nn.Module) -> bool:
    """Whether all of a module with weights works on (n, k, u, v), or it is torchvision's way back to that."""
    if getattr(module, "dims", None) == [0, 3, 1, 2]:
        return True
    weighted = [part for part in module.modules() if part._parameters]
    return bool(weighted) and all(isinstance(part, _ON_MAPS) for part in weighted)


def _square_patches(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for side in range(1, min(size) + 1):
        if size[0] % side == size[1] % side == 0:
            yield size[0] // side, size[1] // side


def _stretch(sides: Iterable[int], size: tuple[int, int]) -> float:
    """How differently rows and columns are scaled: 0 for maps that are stretched like the image."""
    rows, columns = sides
    return abs(math.log(rows / size[0]) - math.log(columns / size[1]))


def _around(net: nn.Module, name: str) -> list[nn.Module]:
    """The modules that a layer lies in, and itself."""
    parts = name.split(".") if name else []
    return [net.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1)]


def _is_vit(module: nn.Module) -> bool:
    return bool(_last_norm_of_vit(module))


def _last_norm_of_vit(module: nn.Module) -> str:
    """Name of the first normalisation of the last block of a vision transformer; empty for other modules."""
    blocks = getattr(module, "blocks", None)
    if hasattr(module, "patch_embed") and hasattr(module, "num_prefix_tokens") and isinstance(blocks, nn.Sequential):
        return f"blocks.{len(blocks) - 1}.norm1" if hasattr(blocks[-1], "norm1") else ""
    layers = getattr(getattr(module, "encoder", None), "layers", None)
    if (
        type(module).__name__ == "VisionTransformer"
        and isinstance(layers, nn.Sequential)
        and hasattr(module, "conv_proj")
    ):
        return f"encoder.layers.{list(layers._modules)[-1]}.ln_1"
    return ""


def _grids_of_vit(module: nn.Module, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """(prefix, rows, columns) of the tokens of a vision transformer of timm or torchvision; none for other modules."""
    if not _is_vit(module):
        return []
    if hasattr(module, "conv_proj"):
        patch, prefix = module.conv_proj.kernel_size, 1
    else:
        patch, prefix = module.patch_embed.patch_size, module.num_prefix_tokens
    return [(prefix, *(-(-side // one) for side, one in zip(size, patch, strict=True)))]
