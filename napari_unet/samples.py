"""Made-up microscope pictures with true masks: something to try everything on, offline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Sample = tuple[np.ndarray, np.ndarray]


def cells(seed: int, size: int = 256) -> Sample:
    """Paint fluorescent nuclei, some touching, some faint, in haze and uneven light."""
    rng = np.random.default_rng(seed)
    shape = (size, size)
    objects, labels = _blobs(rng, shape, count=round(size * size / 1500), radius=(7, 14))
    brightness = rng.uniform(0.28, 1.0, labels.max() + 1)[labels]
    texture = 0.75 + 0.5 * _noise(rng, shape, 2.5)
    light = _blur(objects * brightness * texture, 1.2)
    haze, _ = _blobs(rng, shape, count=round(size * size / 6000), radius=(12, 24))
    light += 0.75 * _blur(haze.astype(float), 7)
    light += 0.10 + 0.30 * _noise(rng, shape, size / 5)
    light *= 0.35 + 0.65 * _vignette(rng, shape)
    photons = rng.poisson(np.maximum(light, 0) * 60) / 60
    return _to_uint8(photons + rng.normal(0, 0.02, shape), 1.35), objects.astype(np.uint8)


def tissue(seed: int, size: int = 256) -> Sample:
    """Paint a stained section: 1 purple nuclei, in stroma and along the rim of 2 glands."""
    rng = np.random.default_rng(seed)
    shape = (size, size)
    gland, rim = _glands(rng, shape)
    ring = (gland > 0) & (rim < 9)
    nuclei, labels = _nuclei(rng, shape, ring, gland)
    stain = 0.55 + 0.45 * rng.random(labels.max() + 1)[labels]
    eosin = 0.30 + 0.35 * _fibres(rng, shape)
    eosin = np.where(gland > 0, 0.30 + 0.12 * _noise(rng, shape, 2), eosin)
    lumen = _blur(((gland > 0) & (rim > 20)).astype(float), 1.5)
    eosin = eosin * (1 - 0.9 * lumen) * (0.8 + 0.4 * _noise(rng, shape, size / 6))
    chromatin = 0.7 + 0.6 * _noise(rng, shape, 1.2)
    hematoxylin = _blur(nuclei * stain * chromatin, 0.8) + 0.12 * _noise(rng, shape, 4)
    mask = np.where(nuclei, 1, np.where(gland > 0, 2, 0)).astype(np.uint8)
    return _stained(rng, hematoxylin, eosin), mask


def volume(seed: int, shape: tuple[int, int, int] = (24, 96, 96)) -> Sample:
    """Paint a stack of fluorescent nuclei whose light fades and blurs with depth."""
    rng = np.random.default_rng(seed)
    count = max(1, round(np.prod(shape) / 6000))
    objects, labels = _blobs(rng, shape, count, radius=(5, 9), flat=0.6)
    brightness = rng.uniform(0.4, 1.0, labels.max() + 1)[labels]
    light = objects * brightness * (0.75 + 0.5 * _noise(rng, shape, 2))
    light = _blur(light, (1.6, 1.0, 1.0)) + 0.15 * _blur(light, (5, 6, 6))
    depth = np.linspace(1.0, 0.55, shape[0])[:, None, None]
    light = light * depth + 0.06 + 0.08 * _noise(rng, shape, 12)
    counts = rng.poisson(np.maximum(light, 0) * 120) * 25 + rng.normal(200, 30, shape)
    return np.clip(counts, 0, 65535).astype(np.uint16), objects.astype(np.uint8)


SAMPLES: dict[str, Callable[[int], Sample]] = {"cells": cells, "tissue": tissue, "volume": volume}


# ---- shapes


def _blobs(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    count: int,
    radius: tuple[float, float],
    flat: float = 1.0,
    overlap: float = 0.25,
) -> tuple[np.ndarray, np.ndarray]:
    """Wobbly ellipses that may touch; where they overlap, the later one is cut."""
    labels = np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        center = rng.uniform(0, shape)
        radii = rng.uniform(*radius) * rng.uniform(0.75, 1.25, len(shape))
        if len(shape) == 3:
            radii[0] *= flat
        _draw(labels, number, center, radii, rng, overlap=overlap)
    return labels > 0, labels


def _draw(
    labels: np.ndarray,
    number: int,
    center: np.ndarray,
    radii: np.ndarray,
    rng: np.random.Generator,
    free: np.ndarray | None = None,
    overlap: float = 0.25,
) -> None:
    """Draw one object unless too large a part of it would lie upon others or where none may be."""
    reach = int(np.ceil(radii.max() * 1.4))
    low = np.maximum(center.astype(int) - reach, 0)
    high = np.minimum(center.astype(int) + reach + 1, labels.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    steps = np.ogrid[box]
    offsets = [s - c for s, c in zip(steps, center, strict=True)]
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    y, x = offsets[-2], offsets[-1]
    offsets[-2] = y * np.cos(turn) + x * np.sin(turn)
    offsets[-1] = x * np.cos(turn) - y * np.sin(turn)
    wobble = 1.0 if len(radii) == 3 else 1 + 0.10 * np.cos(3 * np.arctan2(y, x) + phase)
    inside = sum((o / r) ** 2 for o, r in zip(offsets, radii, strict=True)) < wobble
    inside = np.broadcast_to(inside, labels[box].shape)
    taken = labels[box] > 0
    if free is not None:
        taken = taken | ~free[box]
    if (inside & taken).sum() <= overlap * inside.sum():
        labels[box][inside & ~taken] = number


def _glands(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a few large rounds and tell how deep inside them each pixel lies."""
    from scipy import ndimage

    size = shape[0]
    _, labels = _blobs(rng, shape, 6, (size * 0.10, size * 0.19), overlap=0.0)
    ripple = _noise(rng, shape, 5) - 0.5
    depth = sum(
        ndimage.distance_transform_edt(labels == value) for value in np.unique(labels[labels > 0])
    )
    depth = np.asarray(depth + 8 * ripple)
    gland = (depth > 2) & (labels > 0)
    return gland, np.where(gland, depth, 0)


def _nuclei(
    rng: np.random.Generator, shape: tuple[int, int], ring: np.ndarray, gland: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei in a row along the rim of each gland, and scattered slim ones between glands."""
    labels = np.zeros(shape, np.int32)
    number = 0
    for place, free, pixels_each, radii in (
        (ring, gland, 40, (5.0, 3.6)),
        (~gland, ~gland, 240, (5.5, 2.4)),
    ):
        spots = np.argwhere(place)
        for center in rng.permutation(spots)[: len(spots) // pixels_each]:
            number += 1
            _draw(labels, number, center, np.array(radii) * rng.uniform(0.8, 1.3, 2), rng, free)
    return labels > 0, labels


# ---- light


def _blur(values: np.ndarray, sigma: float | tuple[float, ...]) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(np.asarray(values, float), sigma)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Smooth noise from 0 to 1."""
    noise = _blur(rng.normal(size=shape), sigma)
    low, high = np.percentile(noise, (1, 99))
    return np.clip((noise - low) / (high - low), 0, 1)


def _fibres(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Wavy bands, as collagen looks in a section."""
    rows, columns = np.indices(shape)
    angle = rng.uniform(0, np.pi)
    along = rows * np.cos(angle) + columns * np.sin(angle)
    bend = 40 * _noise(rng, shape, 18)
    bands = 0.5 + 0.5 * np.sin((along + bend) / 2.6)
    return 0.6 * bands * _noise(rng, shape, 6) + 0.4 * _noise(rng, shape, 1.5)


def _vignette(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Light that falls off from a spot off the centre."""
    rows, columns = np.indices(shape) / np.array(shape).reshape(2, 1, 1)
    y, x = rng.uniform(0.25, 0.75, 2)
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.25)


def _stained(rng: np.random.Generator, hematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """White light through two dyes, by the law of Beer and Lambert."""
    purple, pink = np.array([0.95, 1.10, 0.42]), np.array([0.10, 0.95, 0.45])
    density = hematoxylin[..., None] * purple + eosin[..., None] * pink
    light = 0.96 * np.exp(-density) + rng.normal(0, 0.012, density.shape)
    return _to_uint8(light, 1.0)


def _to_uint8(values: np.ndarray, white: float) -> np.ndarray:
    return np.clip(values / white * 255, 0, 255).astype(np.uint8)
