"""Prediction: a generator that tiles an image of any size and writes each tile as it is done."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
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
    room_for,
)
from napari_unet.library import Model
from napari_unet.models import Net
from napari_unet.models.nested import NestedUNet
from napari_unet.models.pixels import HIDDEN
from napari_unet.normalise import Stats, measure, outside
from napari_unet.rims import without_rims
from napari_unet.run import BadInput, Control, Event, Noticed, Predicted, Tiled
from napari_unet.tiling import Tile, fit_edges, plan_tiles, spread_windows, widened, zeros

# Memory that the activations of one tile may take; of a CUDA GPU, a third of what is free.
# In a volume halos weigh more than anything; in a plane, smaller activations are sooner in place.
TILE_BYTES = {2: 600 * 10**6, 3: 1200 * 10**6}
# A net with statistics of its tile takes them from so many windows of this edge of a large image.
SHARED_WINDOWS, SHARED_EDGE, SHARED_MARGIN = 4, {2: 512, 3: 64}, 0.125


@dataclass
class Target:
    """Where the result goes: NumPy, zarr or anything that takes a region and an array."""

    labels: Any  # (*spatial), uint8
    probabilities: Any = None  # (classes, *spatial), float32
    uncertainty: Any = None  # (*spatial), float32
    rims: Any = None  # (*spatial), bool: where the net that tells them sees objects end


def predict(
    model: Model,
    image: Any,
    config: PredictConfig | None = None,
    control: Control | None = None,
    target: Target | None = None,
    stats: Stats | None = None,
    region: Region | None = None,
) -> Iterator[Event]:
    """Predict an image (C, *spatial), numpy or lazy; the last event holds the result.

    A 2-D model takes a stack (C, T, Z, Y, X) plane by plane. After a stop, tiles that were not
    reached hold 0. `stats` are the intensities of the whole of which the image is a part. Of a
    `region` (*spatial) only that is predicted, and is what it would be in the whole.
    """
    config, control = config or PredictConfig(), control or Control()
    check_image(model, image)
    stats = stats or measure(image, *model.card.percentiles)
    if outside(stats, list(model.card.seen)):
        yield Noticed(
            "range",
            f"The intensities of this image ({_range([stats])}) are unlike those of any image that "
            f"the model was trained on (all together {_range(list(model.card.seen))}); check the "
            "mask with care.",
        )
    target = target or new_target(model, image.shape[1:], config)
    ndim = model.card.net.ndim
    numerics = choose_numerics(choose_device(config.device, ndim), config.precision, ndim)
    with room_for(f"model '{model.card.name}' on {numerics.device}"):
        runner = _Runner(model, numerics, config)
    region = region or tuple(slice(0, n) for n in image.shape[1:])
    while True:
        try:
            yield from _all_planes(runner, image, stats, config, control, target, region)
            break
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
        free_memory(numerics.device)
        runner.halvings += 1
        edge = max(runner.edges(region[-ndim:], image.shape[-ndim:]))
        if edge < 16:
            raise BadInput(
                f"There is not enough memory on {numerics.device} for even a small tile; close "
                "other programs or use another device."
            )
        yield Noticed("memory", f"Memory ran out; going on with tiles of {edge} pixels.")
    yield Predicted(
        target.labels, target.probabilities, target.uncertainty, control.stopped, target.rims
    )


def new_target(model: Model, shape: tuple[int, ...], config: PredictConfig) -> Target:
    """Arrays for the result that was asked for: in memory, or on disk where they are large."""
    classes = len(model.card.classes)
    return Target(
        zeros(shape, np.uint8),
        zeros((classes, *shape), np.float32) if config.probabilities else None,
        zeros(shape, np.float32) if config.uncertainty else None,
        zeros(shape, np.bool_) if model.card.rims else None,
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
    region: Region,
) -> Iterator[Event]:
    ndim, spatial = runner.ndim, tuple(image.shape[-runner.ndim :])
    focus = config.focus if len(config.focus or ()) == len(region) else None  # or it is another's
    halo, stride, inside = runner.net.halo, runner.net.stride, region[-ndim:]
    edges, first = runner.edges(inside, spatial), focus and focus[-ndim:]
    tiles = plan_tiles(spatial, edges, halo, stride, first, inside)
    planes = _planes(region[:-ndim], focus)
    total, done = len(tiles) * len(planes), 0
    for plane in planes:

        def read(part: Region, plane: tuple[int, ...] = plane) -> np.ndarray:
            return stats.apply(np.asarray(image[(slice(None), *plane, *part)]))

        net = runner.net_for(spatial, tiles, read)
        for tile in tiles:
            control.wait_while_paused()
            if control.stopped:
                return
            logits = runner.logits(net, read(tile.read))[(slice(None), *tile.inner)]
            place = (*plane, *tile.write)
            if runner.rims:
                logits, rims = without_rims(logits)
                if target.rims is not None:
                    target.rims[place] = rims.cpu().numpy()
            _write(target, place, logits)
            done += 1
            yield Tiled(done, total, (*(slice(p, p + 1) for p in plane), *tile.write))


def _planes(lead: Region, focus: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    planes = list(itertools.product(*(range(s.start, s.stop) for s in lead)))
    if focus is not None and lead:
        middle = focus[: len(lead)]
        planes.sort(key=lambda p: math.dist(p, middle))
    return planes


def _write(target: Target, place: tuple[Any, ...], logits: Tensor) -> None:
    """Everything that was asked for, from the logits (K, *spatial) of one tile."""
    binary = len(logits) == 1
    labels = logits[0] > 0 if binary else logits.argmax(0)
    target.labels[place] = labels.to(torch.uint8).cpu().numpy()
    if target.probabilities is None and target.uncertainty is None:
        return
    p = logits.float().sigmoid() if binary else logits.float().softmax(0)
    if target.probabilities is not None:
        target.probabilities[(slice(None), *place)] = (p if binary else p[1:]).cpu().numpy()
    if target.uncertainty is not None:
        every = torch.cat([p, 1 - p]) if binary else p
        entropy = torch.special.entr(every).sum(0) / math.log(len(every))
        target.uncertainty[place] = entropy.clamp(0, 1).cpu().numpy()


class _Runner:
    """A net on its device, in its number format, that turns pixels into logits."""

    def __init__(self, model: Model, numerics: Numerics, config: PredictConfig) -> None:
        self.numerics = numerics
        self.net: Net = numerics.place(copy.deepcopy(model.net))
        self.flips, self.rims, self._tile = config.flips, model.card.rims, config.tile
        self.halvings = 0  # of the edges of tiles, when memory ran out
        if config.head is not None:
            if not isinstance(self.net, NestedUNet):
                raise BadInput(f"Model '{model.card.name}' has one head; choose none.")
            self.net.head = config.head
        self._most = self._room() / memory_per_pixel(self.net, numerics)  # pixels of a tile

    @property
    def ndim(self) -> int:
        return self.net.config.ndim

    def edges(self, region: Region, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The edges of the largest tiles that fit in the memory, or those that were asked for."""
        read = widened(region, shape, self.net.halo, self.net.stride)
        edges = fit_edges(tuple(s.stop - s.start for s in read), self.net.halo, self._most)
        if self._tile:
            edges = (self._tile,) * self.ndim
        pairs = zip(edges, region, strict=True)
        return tuple(max(1, min(e, s.stop - s.start) // 2**self.halvings) for e, s in pairs)

    def _room(self) -> float:
        """Bytes that the activations of a tile may take."""
        device = self.numerics.device
        if device.type != "cuda":
            return TILE_BYTES[self.ndim]
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (torch.cuda.mem_get_info(device)[0] + unused) / 3

    @torch.inference_mode()
    def net_for(
        self, shape: tuple[int, ...], tiles: list[Tile], read: Callable[[Region], np.ndarray]
    ) -> Net:
        """The net for one plane or volume: tiles share their statistics, those of the whole."""
        whole = tuple(slice(0, n) for n in shape)
        if self.net.tile_independent or [tile.read for tile in tiles] == [whole]:
            return self.net
        net, windows = copy.deepcopy(self.net), [whole]
        if any(n > edge for n, edge in zip(shape, self.edges(whole, shape), strict=True)):
            windows = spread_windows(shape, SHARED_EDGE[self.ndim], SHARED_WINDOWS, SHARED_MARGIN)
        with self.numerics.autocast():
            net.share_statistics(self.numerics.send(read(window)) for window in windows)
        return net

    @torch.inference_mode()
    def logits(self, net: Net, pixels: np.ndarray) -> Tensor:
        """Logits (K, *spatial) of normalised pixels (C, *spatial)."""
        x = self.numerics.send(pixels)
        mirrored = [(), (-1,), (-2,), (-1, -2)] if self.flips else [()]
        total: Tensor | None = None
        for axes in mirrored:
            flipped = x.flip(axes).contiguous(memory_format=self._layout) if axes else x
            with self.numerics.autocast():
                out: Tensor = net(flipped)
            out = out[0].flip(axes) if axes else out[0]
            total = out if total is None else total + out
        assert total is not None
        return total / len(mirrored) if self.flips else total

    @property
    def _layout(self) -> torch.memory_format:
        return self.numerics.layout(self.ndim)


def memory_per_pixel(net: Net, numerics: Numerics) -> float:
    """Bytes that a prediction needs at once for each pixel."""
    size = 4 if numerics.dtype == torch.float32 else 2
    filters = 0.0
    if net.pixels is not None:  # it comes before the net, and leaves little
        values = net.pixels.mean.numel()
        filters = values * 3 * 4  # in float32, three times while they are put in order
        if numerics.device.type != "cpu":  # where all pixels pass at once
            filters += size * (values + 2 * HIDDEN)
    return max(0 if net.config.pixels == 1 else size * activations(net), filters)


@torch.inference_mode()
def activations(net: Net) -> float:
    """Numbers per input pixel that are in memory at once, about half of all that are computed."""
    edges = [2 * s for s in net.stride]
    coarser = [n // grain for n, grain in zip(edges, net.grain, strict=True)]
    counted = 0

    def count(_module: Any, _inputs: Any, output: Any) -> None:
        nonlocal counted
        counted += output.numel()

    # A few pixels are sooner computed than PyTorch has loaded what it needs to only follow shapes.
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.modules.conv._ConvNd)]
    hooks = [m.register_forward_hook(count) for m in convolutions]
    device = next(net.parameters()).device
    net.heads(torch.zeros(1, net.config.in_channels, *coarser, device=device))
    for hook in hooks:
        hook.remove()
    interpolated = 2 * net.config.n_logits if net.config.grain > 1 else 0  # in float32
    return counted / math.prod(edges) + interpolated
