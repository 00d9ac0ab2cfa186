"""A model as one ONNX file, for programs that run networks without PyTorch."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from napari_unet.atomic import atomic_file
from napari_unet.cards import Card
from napari_unet.library import Model
from napari_unet.models import Net
from napari_unet.models.outputs import with_probabilities
from napari_unet.optional import optional
from napari_unet.run import BadInput

OPSET = 18  # of 2022: the first in which every layer of ours exists, and old enough for most
INPUT, OUTPUT = "input", "probabilities"
MOST_BYTES = 2**31 - 2**24  # protobuf's limit for one file, less what is no weight


def write_onnx(model: Model, path: Path, overwrite: bool = False) -> Path:
    """Write the network as ONNX: normalised pixels in, probabilities out, any size it can halve."""
    for library in ("onnx", "onnxscript"):
        optional(library, "Writing ONNX", "models")
    if sum(w.numel() * w.element_size() for w in model.weights.values()) > MOST_BYTES:
        raise BadInput(
            f"{path} cannot hold a network of more than 2 GB; export it to a .zip instead."
        )
    program = _exported(with_probabilities(copy.deepcopy(model.net)))
    program.model.doc_string = describe_tensors(model.card)
    program.model.metadata_props["napari_unet"] = model.card.model_dump_json()
    with atomic_file(path, overwrite) as temporary:
        program.save(temporary, external_data=False)
    return path


def describe_tensors(card: Card) -> str:
    """What goes into the network and what comes out of it, in sentences."""
    low, high = card.percentiles
    spatial = "Y, X" if card.net.ndim == 2 else "Z, Y, X"
    out = ", ".join(output_names(card))
    return (
        f"Input: images (N, C, {spatial}), float32, each channel of each image brought to the "
        f"scale on which its percentile {low:g} is -1 and its percentile {high:g} is 1, then "
        f"clipped to -4 and 4. Output: probabilities (N, K, {spatial}) of {out}."
    )


def output_names(card: Card) -> list[str]:
    """What the channels of the output are: one class alone, or the background and the classes."""
    names = [c.name for c in card.outputs]
    return names if len(names) == 1 else ["background", *names]


def _exported(net: Net) -> Any:
    net = net.float().cpu().eval()
    # Two pixels at the coarsest level: one would be taken for a constant.
    example = torch.zeros(2, net.config.in_channels, *(2 * step for step in net.stride))
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    for axis, step in enumerate(net.stride):
        steps = torch.export.Dim(f"steps{axis}", min=1)
        dims[2 + axis] = step * steps if step > 1 else steps
    with _quiet():
        return torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(dims,),
            opset_version=OPSET,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter says of its own insides and of torchvision's absence."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
