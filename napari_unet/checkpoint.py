"""The state of a training run in one file: tensors and plain values, never code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from napari_unet.atomic import atomic_file
from napari_unet.run import BadInput

STATE = "state"  # the plain values, as the bytes of their JSON: a header would not hold them all


def write_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write everything, whole or not at all."""
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    plain[STATE] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    with atomic_file(path, overwrite=True) as temporary:
        safetensors.torch.save_file(plain, temporary)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_checkpoint` wrote."""
    try:
        tensors = safetensors.torch.load_file(path)
        state = json.loads(bytes(tensors.pop(STATE).tolist()))
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        state = None
    if not isinstance(state, dict):
        raise BadInput(f"{path} is no checkpoint of training; give another file.")
    return tensors, state
