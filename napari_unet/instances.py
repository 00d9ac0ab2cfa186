"""From a mask of classes to separate objects, touching ones parted at their necks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SPECK = 0.1  # of the middle size; smaller ones are no objects
_NECK = 0.85  # a neck narrower than this share of the smaller side parts two objects
_SMOOTHING = 1.0  # pixels; takes the ripples of a pixelated outline out of the distances
_THINNEST = 1e-3


def split_objects(
    mask: np.ndarray,
    probability: np.ndarray | None = None,
    min_size: int | None = 0,
    fill_holes: int = 0,
    split: bool = True,
    spacing: Sequence[float] | None = None,
    rims: np.ndarray | None = None,
) -> np.ndarray:
    """Split a class mask into objects, numbered from 1, top left first, each class on its own.

    Holes up to `fill_holes` pixels are filled, objects under `min_size` pixels dropped, or if that
    is None those that are specks beside the others; the `probability` of the mask's foreground,
    and the `rims` that a net sees, if given, help to find where objects touch.
    """
    labels = np.zeros(mask.shape, np.uint32)
    for value in np.unique(mask[mask != 0]):
        region = _filled(mask == value, fill_holes) & ((mask == value) | (mask == 0))
        if not split:
            found = _components(region)
        elif rims is None:
            found = _parted(region, probability, spacing)
        else:
            found = _grown(_parted(region & ~rims, probability, spacing), region, spacing)
        found = _without_small(found, min_size)
        labels = np.where((labels == 0) & (found > 0), found + labels.max(), labels)
    return _in_reading_order(labels)


def _in_pixels(spacing: Sequence[float] | None) -> list[float] | None:
    """The steps of the axes in units of the smallest."""
    return [step / min(spacing) for step in spacing] if spacing else None


def _grown(seeds: np.ndarray, region: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """Seeds grown evenly over their region; a piece of it without any is an object as well."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    pieces, _ = ndimage.label(region, np.ones((3,) * region.ndim))
    empty = np.setdiff1d(pieces[region], pieces[seeds > 0])
    alone = np.isin(pieces, empty) & region
    seeds = np.where(alone, pieces + seeds.max(initial=0), seeds)
    outward = ndimage.distance_transform_edt(seeds == 0, sampling=_in_pixels(spacing))
    connected = np.ones((3,) * region.ndim)
    return watershed(outward, seeds, mask=region, connectivity=connected).astype(np.uint32)


def _components(region: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.label(region, np.ones((3,) * region.ndim))[0].astype(np.uint32)


def _parted(
    region: np.ndarray, probability: np.ndarray | None, spacing: Sequence[float] | None
) -> np.ndarray:
    """Flood the region from its thickest places; where floods meet, objects part."""
    from skimage.measure import label
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    # In logarithms a neck is measured against the object's own size, so nothing is to be set.
    height = np.log(_thickness(region, probability, spacing))
    lowered = reconstruction(height + np.log(_NECK), height)
    seeds = label(local_maxima(lowered), connectivity=region.ndim)
    parts = watershed(-height, seeds, mask=np.pad(region, 1), connectivity=region.ndim)
    return parts[(slice(1, -1),) * region.ndim].astype(np.uint32)


def _thickness(
    region: np.ndarray, probability: np.ndarray | None, spacing: Sequence[float] | None
) -> np.ndarray:
    """Measure how thick the region is at each pixel; a frame of background is added around it."""
    from scipy import ndimage

    region = np.pad(region, 1)
    distance = ndimage.distance_transform_edt(region, sampling=_in_pixels(spacing))
    thickness = ndimage.gaussian_filter(distance, _SMOOTHING)
    if probability is not None:
        padded = np.pad(probability.astype(float), 1, mode="edge")
        thickness = thickness * ndimage.gaussian_filter(padded, _SMOOTHING)
    return np.where(region, np.maximum(thickness, _THINNEST), _THINNEST / 1000)


def _filled(region: np.ndarray, fill_holes: int) -> np.ndarray:
    if fill_holes <= 0:
        return region
    from scipy import ndimage

    gaps = ndimage.label(~region)[0]
    small = np.bincount(gaps.ravel()) <= fill_holes
    small[0] = False
    small[_on_border(gaps)] = False  # a gap open to the outside is no hole
    return region | small[gaps]


def _on_border(gaps: np.ndarray) -> np.ndarray:
    faces = [np.take(gaps, end, axis) for axis in range(gaps.ndim) for end in (0, -1)]
    return np.unique(np.concatenate([face.ravel() for face in faces]))


def _without_small(labels: np.ndarray, min_size: int | None) -> np.ndarray:
    sizes = np.bincount(labels.ravel())
    least = _SPECK * _middle(sizes[1:]) if min_size is None else min_size
    return np.where((sizes < least)[labels], np.uint32(0), labels)


def _middle(sizes: np.ndarray) -> float:
    """The size at which half of all breadths is reached: neither specks nor one blob decide it."""
    ordered = np.sort(sizes[sizes > 0])
    breadths = np.cumsum(np.sqrt(ordered))
    return float(ordered[np.searchsorted(breadths, breadths[-1] / 2)]) if len(ordered) else 0.0


def _in_reading_order(labels: np.ndarray) -> np.ndarray:
    """Renumber objects without gaps by their first pixel."""
    values, first = np.unique(labels, return_index=True)
    values, first = values[values > 0], first[values > 0]
    table = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    table[values[np.argsort(first)]] = np.arange(1, len(values) + 1)
    return table[labels]
