"""A training set out of images and their masks, complete or of strokes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_unet.annotation import TrainingSet
from napari_unet.config import BACKGROUND, MAX_CLASSES, UNLABELLED, class_table
from napari_unet.io import Image
from napari_unet.losses import border_weights
from napari_unet.masks import Mapping, fitted, mask_values, understand
from napari_unet.normalise import measure
from napari_unet.rims import object_rims
from napari_unet.run import BadInput

SMALLER = 5  # percent of objects that count as smaller than they are wanted


def make_training_set(
    pairs: Sequence[tuple[Image, np.ndarray]],
    *,
    sparse: bool = False,
    classes: Sequence[str] | None = None,
    mapping: Mapping | None = None,
    objects: bool | None = None,
    slices: bool = False,
    border: float = 0.0,
) -> tuple[TrainingSet, Mapping]:
    """A training set from images and masks, and how the values of the masks were understood."""
    if not pairs:
        raise BadInput("There is no image to train on; give at least one with its mask.")
    if sparse and (mapping or objects):
        raise BadInput(
            "Values of sparse masks are classes already, 0 is not labelled and 255 background; "
            "leave the mapping (or objects) out, or give complete masks."
        )
    pairs = [(image, fitted(mask, image.spatial_shape)) for image, mask in pairs]
    masks, named = [mask for _, mask in pairs], len(classes or ())
    if mapping is None:
        mapping = _strokes(masks) if sparse else understand(masks, objects, named)
    if mapping.objects and named > 1:
        raise BadInput(
            f"{named} class names were given, but objects are all of one class; give one name, or "
            "say which value is which class."
        )
    n = named or mapping.n_classes
    if n < mapping.n_classes:
        raise BadInput(
            f"{n} class name(s) were given but the masks hold {mapping.n_classes} classes "
            f"({mapping.describe()}); name them all."
        )
    images = [image for image, _ in pairs]
    # A single slice that has a place in the patient is a plane.
    stacks = any(image.spatial_shape[-3:-2] > (1,) for image in images)
    as_volumes = not slices and stacks and all("Z" in image.axes for image in images)
    first = pairs[0][0]
    training_set = TrainingSet(
        class_table(list(classes) if classes else n),
        3 if as_volumes else 2,
        first.spacing[-3:] if as_volumes else first.spacing[-2:],
        first.unit,
        rims=mapping.objects,
    )
    for image, mask in pairs:
        _add(training_set, image, mask, mapping, sparse, border)
    if mapping.objects:
        training_set.smallest = _smallest(masks, training_set.ndim)
    _refuse_nothing(training_set, mapping, sparse)
    return training_set, mapping


def _add(
    training_set: TrainingSet,
    image: Image,
    mask: np.ndarray,
    mapping: Mapping,
    sparse: bool,
    border: float,
) -> None:
    if mask.shape != image.spatial_shape:
        raise BadInput(
            f"The mask of '{image.name}' has shape {mask.shape} but its image has "
            f"{image.spatial_shape}; give a mask made on this image, or its axes."
        )
    lead = mask.ndim - training_set.ndim
    # Planes have the intensities of their stack, in training as in prediction.
    stats = measure(image.data) if lead else None
    for place in np.ndindex(mask.shape[:lead]):
        part = mask[place]
        if lead and sparse and not part.any():
            continue
        name = image.name + "".join(f"[{p}]" for p in place)
        values = part if sparse else mapping.apply(part)
        if training_set.rims:
            values[object_rims(part, training_set.spacing)] = training_set.n_values
        weights = border_weights(part, border) if border and mapping.objects else None
        pixels = image.data[(slice(None), *place)]
        training_set.add(name, pixels, values, complete=not sparse, weights=weights, stats=stats)


def _strokes(masks: Sequence[np.ndarray]) -> Mapping:
    """The classes of sparse masks, whose values are those of annotation already."""
    known = [v for v in mask_values(masks) if v not in (UNLABELLED, BACKGROUND)]
    if known and known[-1] > MAX_CLASSES:
        raise BadInput(
            f"A sparse mask holds the value {known[-1]}; give 0 for not labelled, 1..254 for "
            "classes and 255 for background."
        )
    return Mapping({v: v for v in known} or {1: 1})


def _smallest(masks: Sequence[np.ndarray], ndim: int) -> int:
    """The size that few objects fall below, in planes or in volumes."""
    parts = [mask[place] for mask in masks for place in np.ndindex(mask.shape[:-ndim])]
    sizes = [np.unique(part[part != 0], return_counts=True)[1] for part in parts]
    every = np.concatenate(sizes)
    return int(np.percentile(every, SMALLER)) if len(every) else 0


def _refuse_nothing(training_set: TrainingSet, mapping: Mapping, sparse: bool) -> None:
    """Refuse annotation that there is nothing to learn from."""
    counts = training_set.counts
    if sparse and not counts.any():
        raise BadInput(
            "Nothing is labelled in any of the masks; paint some pixels of each class and some "
            "background (255)."
        )
    if not sparse and not counts[1:].any():
        raise BadInput(
            f"The masks hold no class, all of them is background ({mapping.describe()}); paint "
            "at least one class, or say that the masks are sparse."
        )
