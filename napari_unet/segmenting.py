"""Pictures segmented one after another, wholly or in part, and classes parted into objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from napari_unet.annotation import Region
from napari_unet.config import Frozen, PredictConfig, SegClass
from napari_unet.pictures import Picture
from napari_unet.run import Control, Event, Predicted
from napari_unet.tiling import zeros

if TYPE_CHECKING:
    from napari_unet.library import Model


class ObjectConfig(Frozen):
    """How a mask of classes becomes objects."""

    split: bool = Field(True, description="Part objects that touch, at their necks")
    min_size: int = Field(0, ge=0, le=10**9, description="Drop objects with fewer pixels")
    fill_holes: int = Field(0, ge=0, le=10**9, description="Fill holes of up to so many pixels")


@dataclass(eq=False)
class Result:
    """What is known of one picture: arrays of its whole size, filled as far as was asked."""

    picture: Picture
    labels: np.ndarray  # (*spatial), uint8
    probabilities: np.ndarray | None = None  # (classes, *spatial), float32
    uncertainty: np.ndarray | None = None  # (*spatial), float32
    objects: np.ndarray | None = None  # (*spatial), uint32
    classes: tuple[SegClass, ...] = ()


@dataclass(frozen=True, eq=False)
class Task:
    """A region of a picture to be segmented; None for the whole."""

    result: Result
    region: Region | None = None


@dataclass(frozen=True, eq=False)
class Segmented(Event):
    """One picture is done, as far as was asked."""

    result: Result
    stopped: bool


@dataclass(frozen=True)
class Written(Event):
    """The mask of one file is on disk."""

    path: Path
    done: int
    total: int


def segment(
    model: Model | str | Path,
    tasks: list[Task],
    config: PredictConfig,
    control: Control,
    objects: ObjectConfig | None = None,
) -> Iterator[Event]:
    """Segment regions of pictures into their results."""
    from napari_unet.library import load_model

    loaded = load_model(model) if isinstance(model, str | Path) else model
    for task in tasks:
        yield from _segment_one(loaded, task, config, control)
        if objects is not None and not control.stopped:
            part(task.result, objects, loaded.card.net.ndim)
        yield Segmented(task.result, control.stopped)
        if control.stopped:
            return


def _segment_one(
    model: Model, task: Task, config: PredictConfig, control: Control
) -> Iterator[Event]:
    from napari_unet.inference import Target, check_image, new_target, predict

    result, picture = task.result, task.result.picture
    check_image(model, picture.pixels, f"'{picture.name}'")
    result.classes = model.card.classes
    _make_room(result, len(result.classes), config)
    whole = tuple(slice(0, n) for n in picture.shape)
    region = task.region or whole
    read = _widened(region, picture.shape, model.net.halo)
    pixels = picture.pixels if read == whole else picture.pixels[(slice(None), *read)]
    inner = tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, read, strict=True)
    )
    direct = Target(
        result.labels[region],
        None if result.probabilities is None else result.probabilities[(slice(None), *region)],
        None if result.uncertainty is None else result.uncertainty[region],
    )
    target = direct if read == region else new_target(model, pixels.shape[1:], config)
    stats = picture.stats
    for event in predict(model, pixels, config, control, target, stats):
        if not isinstance(event, Predicted):
            yield event
    if target is not direct:
        _copy(target, direct, inner)


def _make_room(result: Result, classes: int, config: PredictConfig) -> None:
    shape = result.picture.shape
    if config.probabilities and (
        result.probabilities is None or len(result.probabilities) != classes
    ):
        result.probabilities = zeros((classes, *shape), np.float32)
    if config.uncertainty and result.uncertainty is None:
        result.uncertainty = zeros(shape, np.float32)
    if not config.probabilities:
        result.probabilities = None
    if not config.uncertainty:
        result.uncertainty = None


def _widened(region: Region, shape: tuple[int, ...], halo: tuple[int, ...]) -> Region:
    """A region with as much around it as the net sees."""
    lead = len(region) - len(halo)
    around = zip(region[lead:], shape[lead:], halo, strict=True)
    wide = (slice(max(0, r.start - h), min(n, r.stop + h)) for r, n, h in around)
    return (*region[:lead], *wide)


def _copy(source: Any, target: Any, inner: Region) -> None:
    target.labels[...] = source.labels[inner]
    if target.probabilities is not None:
        target.probabilities[...] = source.probabilities[(slice(None), *inner)]
    if target.uncertainty is not None:
        target.uncertainty[...] = source.uncertainty[inner]


def part(result: Result, config: ObjectConfig, ndim: int) -> None:
    """Number the objects of a result: of each plane for itself, or of each volume."""
    from napari_unet.instances import split_objects

    if result.objects is None:
        result.objects = np.zeros(result.labels.shape, np.uint32)
    p = result.probabilities
    foreground = p[0] if p is not None and len(p) == 1 else None
    spacing = result.picture.spacing[-ndim:] or None
    last = 0
    for place in np.ndindex(*result.labels.shape[:-ndim]):
        labels = result.labels[place]
        probability = None if foreground is None else foreground[place]
        found = split_objects(
            labels, probability, config.min_size, config.fill_holes, config.split, spacing
        )
        result.objects[place] = np.where(found > 0, found + np.uint32(last), 0)
        last = max(last, int(result.objects[place].max(initial=0)))


def new_result(picture: Picture) -> Result:
    """A result without anything in it yet; on disk, without a name, where it is large."""
    return Result(picture, zeros(picture.shape, np.uint8))


def parted(result: Result, config: ObjectConfig, ndim: int) -> Iterator[Event]:
    """The objects of a result that is there already."""
    part(result, config, ndim)
    yield Segmented(result, False)


def segment_folder(
    model: Model | str | Path,
    folder: Path,
    out: Path,
    suffix: str,
    config: PredictConfig,
    control: Control,
    objects: ObjectConfig | None = None,
) -> Iterator[Event]:
    """Segment every image of a folder, and write its mask into another."""
    from napari_unet.export import export_labels
    from napari_unet.io import list_images, read_image
    from napari_unet.library import load_model

    loaded = load_model(model) if isinstance(model, str | Path) else model
    paths = list_images(folder)
    for done, path in enumerate(paths, 1):
        image = read_image(path)
        picture = Picture(image.name, image.data, image.spacing, image.unit)
        result = new_result(picture)
        yield from segment(loaded, [Task(result)], config, control, objects)
        if control.stopped:
            return
        mask = result.labels if objects is None else result.objects
        classes = result.classes if objects is None else None
        file = export_labels(out / f"{image.name}.{suffix}", mask, image, classes)
        yield Written(file, done, len(paths))
