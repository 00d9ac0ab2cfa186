"""Masks and predictions taken over as annotation: which value is which class, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_unet.annotation import Region
from napari_unet.config import BACKGROUND, MAX_CLASSES, PALETTE, UNLABELLED, SegClass
from napari_unet.gui.placing import finest
from napari_unet.masks import Mapping, guess_mapping, mask_values
from napari_unet.run import BadInput

if TYPE_CHECKING:
    from napari_unet.gui.workspace import Workspace
    from napari_unet.segmenting import Result

HOWS = ("everything", "only confident parts", "within a rectangle")
OBJECTS = "objects"
SURE = 0.25  # uncertainty (0 to 1) up to which a prediction counts as confident


def suggest_mapping(work: Workspace, source: Labels) -> str:
    """The likeliest reading of a mask's values, such as "1=1, 128=2" or "objects"."""
    result = _result(work, source)
    if result is not None:
        return format_mapping(Mapping({n: n for n in range(1, 1 + len(result.classes))}))
    return format_mapping(guess_mapping(mask_values([_pixels(source)])))


def format_mapping(mapping: Mapping) -> str:
    """A mapping as a line of text that can be edited."""
    if mapping.objects:
        return OBJECTS
    return ", ".join(f"{value}={number}" for value, number in mapping.values.items() if value)


def parse_mapping(text: str) -> Mapping:
    """The mapping that a line of text says; the opposite of `format_mapping`."""
    if text.strip().lower() == OBJECTS:
        return Mapping({}, objects=True)
    try:
        pairs = [part.split("=") for part in text.split(",") if part.strip()]
        values = {int(value): int(number) for value, number in pairs}
    except ValueError:
        raise BadInput(
            f"'{text}' does not say which value is which class; write such as 1=1, 128=2, 255=0, "
            "or 'objects' if every value is one object."
        ) from None
    if not all(0 <= number <= MAX_CLASSES for number in values.values()):
        raise BadInput(f"Classes go from 1 to {MAX_CLASSES}, and 0 is background; mend '{text}'.")
    return Mapping({0: 0} | values)


def adopt(
    work: Workspace, source: Labels | None, mapping: Mapping, how: str, region: Region
) -> str:
    """Paint what a mask says where nothing is painted in a region; what was done, in a sentence."""
    if source is None:
        raise BadInput("There is no mask to take over; open one, or segment the image first.")
    painting, picture = work.annotate(), work.picture
    assert picture is not None
    result = _result(work, source)
    mask = _pixels(source) if result is None else result.labels
    if mask.shape != picture.shape:
        raise BadInput(
            f"'{source.name}' has the shape {mask.shape} but the image has {picture.shape}; choose "
            "a mask made on this image."
        )
    classes = mapping.apply(mask[region])
    values = np.where(classes == 0, np.uint8(BACKGROUND), classes).astype(np.uint8)
    if result is not None:
        values[(classes == 0) & ~result.is_known[region]] = UNLABELLED
    if how == HOWS[1]:
        values[_uncertainty(work)[region] > SURE] = UNLABELLED
    _make_room(work, int(classes.max(initial=0)))
    before = painting.layer.data[region].copy()
    values = np.where(before == UNLABELLED, values, before)
    painting.set(region, values)
    return f"{np.count_nonzero(values != before):,} pixels were taken over from '{source.name}'."


def _result(work: Workspace, source: Labels) -> Result | None:
    """What is known of a prediction for the image that is worked on, however it is shown."""
    image = work.image
    if image is None or work.layers.of(image, "prediction") is not source:
        return None
    return work.masks.of(image)


def _pixels(source: Labels) -> np.ndarray:
    return np.asarray(finest(source))


def _uncertainty(work: Workspace) -> np.ndarray:
    layer: Any = work.layers.of(work.image, "uncertainty") if work.image is not None else None
    if layer is None:
        raise BadInput(
            "How confident the prediction is is not known; segment the image with 'Uncertainty' "
            "ticked first."
        )
    return np.asarray(finest(layer))


def _make_room(work: Workspace, number: int) -> None:
    """Name as many classes as a mask holds."""
    classes = work.session.classes
    if number > len(classes):
        more = range(len(classes) + 1, number + 1)
        new = (SegClass(name=f"class {n}", color=PALETTE[(n - 1) % len(PALETTE)]) for n in more)
        work.session.classes = (*classes, *new)
