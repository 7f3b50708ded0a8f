"""Cascading randomisation: a trained network whose blocks are drawn anew one after the other, from the output."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import nn

from xiqa.models.zoo import initialise


def cascade(net: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """The network with its last block drawn anew, then with its last two, and so on to the whole network.

    Args:
        net: trained; it stays as it is.
        seed: seed of the weights.

    Yields:
        Name of the block that was drawn last, and the network: the same one each time, changed in place.

    Reference: Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.1.
    """
    net = copy.deepcopy(net)
    for name, block in reversed(blocks(net)):
        initialise(block, seed, "cascade", name)
        yield name, net


def blocks(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Blocks with weights in the order of the network: its children; those that only line up others, by their parts."""
    found: list[tuple[str, nn.Module]] = []
    for name, child in net.named_children():
        parts = [(f"{name}.{part}", module) for part, module in child.named_children()]
        found += parts if isinstance(child, nn.Sequential) else [(name, child)]
    return [(name, block) for name, block in found if any(True for _ in block.parameters())]
