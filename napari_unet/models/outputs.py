"""Probabilities instead of logits, for programs that do not know how the network was trained."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from napari_unet.config import NetConfig
from napari_unet.models import Net, build


def with_probabilities(net: Net) -> Net:
    """Let the network give probabilities, one for a single class, else background and each."""

    def probabilities(_net: Any, _inputs: Any, logits: Tensor) -> Tensor:
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)

    net.register_forward_hook(probabilities)
    return net


def network(**settings: Any) -> Net:
    """Make a network that gives probabilities, with random weights, from all of its settings."""
    return with_probabilities(build(NetConfig(**settings)))
