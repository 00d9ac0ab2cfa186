"""Prediction: a generator that tiles an image of any size, joins the tiles and writes them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_unet.annotation import Region
from napari_unet.config import PredictConfig
from napari_unet.device import (
    Numerics,
    choose_device,
    choose_numerics,
    free_memory,
    ran_out_of_memory,
)
from napari_unet.library import Model
from napari_unet.models import Net
from napari_unet.normalise import Stats, measure, outside
from napari_unet.run import BadInput, Control, Event, Noticed, Predicted, Tiled
from napari_unet.tiling import Blender, Tile, plan_tiles

# Memory that the activations of one tile may take.
TILE_BYTES = {"cpu": 600 * 2**20, "mps": 2 * 2**30}
OVERLAP = 32  # pixels over which tiles are blended, for nets whose tiles cannot agree exactly


@dataclass
class Target:
    """Where the result goes: NumPy, zarr or anything that takes a region and an array."""

    labels: Any  # (*spatial), uint8
    probabilities: Any = None  # (classes, *spatial), float32
    uncertainty: Any = None  # (*spatial), float32


def predict(
    model: Model,
    image: Any,
    config: PredictConfig | None = None,
    control: Control | None = None,
    target: Target | None = None,
) -> Iterator[Event]:
    """Predict an image (C, *spatial), numpy or lazy; the last event holds the result.

    A 2-D model takes a stack (C, T, Z, Y, X) plane by plane. After a stop, tiles that were not
    reached hold 0.
    """
    config, control = config or PredictConfig(), control or Control()
    check_image(model, image)
    stats = measure(image)
    if outside(stats, list(model.card.seen)):
        yield Noticed(
            "range",
            f"The intensities of this image ({_range([stats])}) lie far from those that the model "
            f"was trained on ({_range(list(model.card.seen))}); check the mask with care.",
        )
    target = target or new_target(model, image.shape[1:], config)
    numerics = choose_numerics(choose_device(config.device), config.precision, model.card.net.ndim)
    runner = _Runner(model, numerics, config.flips)
    edge = config.tile or runner.tile_edge
    while True:
        try:
            yield from _all_planes(runner, image, stats, config, control, target, edge)
            break
        except RuntimeError as error:
            if not ran_out_of_memory(error):
                raise
        free_memory(numerics.device)
        edge //= 2
        if edge < 16:
            raise BadInput(
                f"There is not enough memory on {numerics.device} for even a small tile; close "
                "other programs or use another device."
            )
        yield Noticed("memory", f"Memory ran out; going on with tiles of {edge} pixels.")
    yield Predicted(target.labels, target.probabilities, target.uncertainty, control.stopped)


def new_target(model: Model, shape: tuple[int, ...], config: PredictConfig) -> Target:
    """Arrays in memory for the result that was asked for."""
    classes = len(model.card.classes)
    return Target(
        np.zeros(shape, np.uint8),
        np.zeros((classes, *shape), np.float32) if config.probabilities else None,
        np.zeros(shape, np.float32) if config.uncertainty else None,
    )


def check_image(model: Model, image: Any, what: str = "The image") -> None:
    """Refuse an image that the model cannot read."""
    net = model.card.net
    if image.shape[0] != net.in_channels:
        raise BadInput(
            f"{what} has {image.shape[0]} channel(s) but model '{model.card.name}' reads "
            f"{net.in_channels}; choose the channels that it was trained on, or another model."
        )
    if len(image.shape) - 1 < net.ndim:
        raise BadInput(
            f"{what} is a plane {image.shape[1:]} but model '{model.card.name}' reads volumes; "
            "give a stack, or a model trained on planes."
        )


def _range(seen: list[Stats]) -> str:
    return f"{min(min(s.low) for s in seen):g} to {max(max(s.high) for s in seen):g}"


def _all_planes(
    runner: _Runner,
    image: Any,
    stats: Stats,
    config: PredictConfig,
    control: Control,
    target: Target,
    edge: int,
) -> Iterator[Event]:
    ndim = runner.net.config.ndim
    lead = tuple(image.shape[1:-ndim])
    spatial = tuple(image.shape[-ndim:])
    tiles = runner.plan(spatial, edge, config.focus[-ndim:] if config.focus else None)
    total, done = len(tiles) * math.prod(lead), 0
    for plane in _planes(lead, config.focus):
        blender = Blender()
        for tile in tiles:
            control.wait_while_paused()
            if control.stopped:
                return
            pixels = np.asarray(image[(slice(None), *plane, *tile.read)])
            logits = runner.logits(stats.apply(pixels))
            inner = logits[(slice(None), *tile.inner)]
            if not runner.blends and target.probabilities is None and target.uncertainty is None:
                target.labels[(*plane, *tile.write)] = _labels_of_logits(inner)
            else:
                for region, values in blender.add(tile, _probabilities(inner)):
                    _write(target, plane, region, values)
            done += 1
            yield Tiled(done, total, (*(slice(p, p + 1) for p in plane), *tile.write))


def _planes(lead: tuple[int, ...], focus: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    planes = list(itertools.product(*map(range, lead)))
    if focus is not None and lead:
        middle = focus[: len(lead)]
        planes.sort(key=lambda p: math.dist(p, middle))
    return planes


def _labels_of_logits(logits: Tensor) -> np.ndarray:
    """The likeliest class of each pixel, straight from the logits."""
    if len(logits) == 1:
        return (logits[0] > 0).to(torch.uint8).cpu().numpy()
    return logits.argmax(0).to(torch.uint8).cpu().numpy()


def _probabilities(logits: Tensor) -> np.ndarray:
    """One probability for one class; background and all classes for more: (K, *spatial)."""
    logits = logits.float()
    p = logits.sigmoid() if len(logits) == 1 else logits.softmax(0)
    return p.cpu().numpy()


def _write(target: Target, plane: tuple[int, ...], region: Region, p: np.ndarray) -> None:
    place = (*plane, *region)
    binary = len(p) == 1
    target.labels[place] = p[0] > 0.5 if binary else p.argmax(0).astype(np.uint8)
    if target.probabilities is not None:
        target.probabilities[(slice(None), *place)] = p if binary else p[1:]
    if target.uncertainty is not None:
        every = np.concatenate([p, 1 - p]) if binary else p
        entropy = -(every * np.log(np.maximum(every, 1e-9))).sum(0)
        target.uncertainty[place] = np.clip(entropy / math.log(len(every)), 0, 1)


class _Runner:
    """A net on its device, in its number format, that turns pixels into logits."""

    def __init__(self, model: Model, numerics: Numerics, flips: bool) -> None:
        self.numerics = numerics
        layout = numerics.layout(model.card.net.ndim)
        net = copy.deepcopy(model.net)
        self.net: Net = net.to(numerics.device, memory_format=layout)
        self.flips = flips

    @property
    def blends(self) -> bool:
        return not self.net.tile_independent

    @property
    def tile_edge(self) -> int:
        """The edge of the largest tile whose activations fit in the memory meant for them."""
        device = self.numerics.device
        if device.type == "cuda":
            limit = torch.cuda.mem_get_info(device)[0] // 3
        else:
            limit = TILE_BYTES[device.type]
        size = 4 if self.numerics.dtype == torch.float32 else 2
        pixels = limit / (activations(self.net) * size)
        ndim = self.net.config.ndim
        return max(64, int(pixels ** (1 / ndim)) - 2 * max(self.net.halo))

    def plan(self, shape: tuple[int, ...], edge: int, focus: tuple[int, ...] | None) -> list[Tile]:
        n = len(shape)
        overlap = (min(OVERLAP, edge // 2) if self.blends else 0,) * n
        return plan_tiles(shape, (edge,) * n, self.net.halo, self.net.stride, overlap, focus)

    @torch.inference_mode()
    def logits(self, pixels: np.ndarray) -> Tensor:
        """Logits (K, *spatial) of normalised pixels (C, *spatial)."""
        x = torch.from_numpy(pixels)[None].to(self.numerics.device)
        if not self.flips:
            return self._forward(x)[0]
        axes = (-1, -2)
        mirrored = [(), *((a,) for a in axes), axes]
        return torch.stack([self._forward(x.flip(m))[0].flip(m) for m in mirrored]).mean(0)

    def _forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=self.numerics.layout(self.net.config.ndim))
        with self.numerics.autocast():
            out: Tensor = self.net(x)
        return out


def activations(net: Net) -> float:
    """Numbers per input pixel that are in memory at once, about half of all that are computed."""
    size = [2 * s for s in net.stride]
    counted = 0

    def count(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal counted
        counted += output.numel()

    twin = copy.deepcopy(net).to("meta")
    for module in twin.modules():
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            module.register_forward_hook(count)
    twin(torch.empty(1, net.config.in_channels, *size, device="meta"))
    return counted / math.prod(size)
