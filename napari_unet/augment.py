"""Batches made various on the training device: one warp, then light, noise and blur."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ELASTIC_CELL = 16  # pixels between control points of the elastic field


@dataclass(frozen=True)
class Warp:
    """The geometry of a batch: for each patch a matrix from patch to image offsets, and a bend."""

    matrices: np.ndarray  # (B, ndim, ndim)
    bend: np.ndarray  # (B,) standard deviation of the elastic displacement, in pixels
    patch: tuple[int, ...]

    @property
    def crop(self) -> tuple[int, ...]:
        """The smallest crop that every warped patch fits in, rounded up to limit its variety."""
        half = np.abs(self.matrices) @ (np.array(self.patch) / 2)
        reach = half.max(0) + 2.5 * self.bend.max() + 1
        return tuple(int(math.ceil(2 * r / 16) * 16) for r in reach)


def draw_warp(
    rng: np.random.Generator,
    batch: int,
    patch: tuple[int, ...],
    strength: float,
    spacing: tuple[float, ...] = (),
) -> Warp:
    """Rotation, flips, scale, stretch and bend; volumes turn only where voxels are cubic."""
    ndim = len(patch)
    spacing = spacing or (1.0,) * ndim
    matrices = np.empty((batch, ndim, ndim))
    for b in range(batch):
        scale = math.exp(rng.uniform(-1, 1) * 0.25 * strength)
        stretch = np.exp(rng.uniform(-1, 1, ndim) * 0.1 * strength)
        flips = rng.choice([-1.0, 1.0], ndim) if strength else np.ones(ndim)
        matrices[b] = _rotation(rng, spacing, strength) @ np.diag(scale * stretch * flips)
    bend = rng.uniform(0, 3 * strength, batch) * (rng.random(batch) < 0.5)
    return Warp(matrices, bend if ndim == 2 else bend / 2, patch)


def _rotation(rng: np.random.Generator, spacing: tuple[float, ...], strength: float) -> np.ndarray:
    out = np.eye(len(spacing))
    if not strength:
        return out
    for i in range(len(spacing)):
        for j in range(i + 1, len(spacing)):
            if max(spacing[i], spacing[j]) > 1.5 * min(spacing[i], spacing[j]):
                continue
            angle = rng.uniform(-math.pi, math.pi)
            turn = np.eye(len(spacing))
            turn[i, i] = turn[j, j] = math.cos(angle)
            turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
            out = out @ turn
    return out


def warp_grid(
    warp: Warp, crop: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    """Where each patch pixel lies in its crop, for grid_sample: (B, *patch, ndim), x first."""
    ndim, patch = len(warp.patch), warp.patch
    points = [max(2, round(p / ELASTIC_CELL) + 1) for p in patch]
    axes = [
        torch.linspace(-(p - 1) / 2, (p - 1) / 2, n, device=device)
        for p, n in zip(patch, points, strict=True)
    ]
    control = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # (ndim, *points), offsets
    matrices = torch.as_tensor(warp.matrices, dtype=torch.float32, device=device)
    field = torch.einsum("bij,j...->bi...", matrices, control)
    if warp.bend.any():
        noise = torch.randn(field.shape, generator=generator, device=device).clamp_(-2.5, 2.5)
        bend = torch.as_tensor(warp.bend, dtype=torch.float32, device=device)
        field = field + noise * bend.view(-1, *[1] * (ndim + 1))
    # Crop and patch have pixel n // 2 in common; the middle of the patch lies there, or, if its
    # edge is even, half a pixel before: so a patch that is not warped needs no interpolation.
    middles = [c // 2 - p // 2 + (p - 1) / 2 for c, p in zip(crop, patch, strict=True)]
    middle, size = (
        torch.tensor(n, dtype=torch.float32, device=device).view(1, -1, *[1] * ndim)
        for n in (middles, crop)
    )
    field = ((field + middle + 0.5) * 2 / size - 1).flip(1)
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    field = field.contiguous(memory_format=layout)
    mode = "bilinear" if ndim == 2 else "trilinear"
    grid = F.interpolate(field, size=patch, mode=mode, align_corners=True)
    return grid.movedim(1, -1)


def warp_batch(
    images: Tensor, labels: Tensor, weights: Tensor | None, grid: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Crops sampled at the grid: images and weights smoothly, labels by the nearest pixel."""
    out = F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)
    nearest = F.grid_sample(labels[:, None].float(), grid, "nearest", "zeros", align_corners=False)
    if weights is not None:
        weights = F.grid_sample(weights[:, None], grid, "bilinear", "border", align_corners=False)[
            :, 0
        ]
    return out, nearest[:, 0].to(torch.uint8), weights


def vary_light(
    images: Tensor, strength: float, generator: torch.Generator, rng: np.random.Generator
) -> Tensor:
    """Gamma, contrast and brightness, partly per channel; then noise, blur or low resolution."""
    if not strength:
        return images
    batch, channels = images.shape[:2]
    one = (batch,) + (1,) * (images.ndim - 1)
    each = (batch, channels) + (1,) * (images.ndim - 2)

    def random(shape: tuple[int, ...], spread: float) -> Tensor:
        values = torch.rand(shape, generator=generator, device=images.device)
        return (2 * values - 1) * (spread * strength)

    if rng.random() < 0.5:
        positive = (images * 0.5 + 0.5).clamp_(1e-3, 2)
        images = positive.pow_(random(one, 0.3).exp_()).mul_(2).sub_(1)
    gain = random(one, 0.2)
    shift = random(one, 0.2)
    if channels > 1:
        gain = gain + random(each, 0.1)
        shift = shift + random(each, 0.1)
    images = torch.addcmul(shift, images, gain.exp_())
    chosen = rng.random(3)
    if chosen[0] < 0.3:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        images = torch.addcmul(images, noise, random(one, 0.15).abs_())
    for chance, soften in ((chosen[1], _blur), (chosen[2], _low_resolution)):
        if chance < 0.3:
            some = int(rng.integers(batch))
            images[some : some + 1] = soften(images[some : some + 1], rng)
    return images


def _blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    radius, sigma = 2, rng.uniform(0.5, 1.2)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels, ndim = image.shape[1], image.ndim - 2
    conv = F.conv2d if ndim == 2 else F.conv3d
    # Along the last two axes only: volumes are blurred by their optics within the plane.
    for axis in range(ndim - 2, ndim):
        shape = [1] * ndim
        shape[axis] = -1
        weight = kernel.view(1, 1, *shape).expand(channels, 1, *kernel.view(*shape).shape)
        pad = [0, 0] * ndim
        pad[2 * (ndim - 1 - axis)] = pad[2 * (ndim - 1 - axis) + 1] = radius
        image = conv(F.pad(image, pad, mode="replicate"), weight, groups=channels)
    return image


def _low_resolution(image: Tensor, rng: np.random.Generator) -> Tensor:
    factor = float(rng.uniform(0.5, 1))
    size = image.shape[2:]
    small = [max(1, round(n * factor)) if i >= len(size) - 2 else n for i, n in enumerate(size)]
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(F.interpolate(image, size=small, mode="area"), size=size, mode=mode)
