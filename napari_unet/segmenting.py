"""Pictures segmented one after another, wholly or in part, and classes parted into objects."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from napari_unet import heap
from napari_unet.annotation import Region, ends_of, left_out
from napari_unet.config import Frozen, PredictConfig, SegClass
from napari_unet.io import file_names
from napari_unet.pictures import Picture
from napari_unet.run import BadInput, Control, Event, Predicted
from napari_unet.tiling import zeros

if TYPE_CHECKING:
    from napari_unet.library import Model


# Memory that numbering objects takes for each pixel of a plane or volume, and parting them.
NUMBERED_BYTES, PARTED_BYTES = 35, 105


class ObjectConfig(Frozen):
    """How a mask of classes becomes objects."""

    split: bool = Field(True, description="Part objects that touch, at their necks")
    min_size: int | None = Field(
        None, ge=0, le=10**9, description="Drop objects with fewer pixels; none drops specks only"
    )
    fill_holes: int = Field(0, ge=0, le=10**9, description="Fill holes of up to so many pixels")


@dataclass(eq=False)
class Result:
    """What is known of one picture: arrays of its whole size, filled as far as was asked."""

    picture: Picture
    labels: np.ndarray  # (*spatial), uint8
    probabilities: np.ndarray | None = None  # (classes, *spatial), float32
    uncertainty: np.ndarray | None = None  # (*spatial), float32
    objects: np.ndarray | None = None  # (*spatial), uint32
    rims: np.ndarray | None = None  # (*spatial), bool, by a net that tells them
    smallest: int = 0  # pixels of small objects that the net learned from
    classes: tuple[SegClass, ...] = ()
    ndim: int = 2  # of the net that made it: whether planes or volumes have objects
    parts: list[Region] | None = None  # that were segmented; None for the whole

    @property
    def is_known(self) -> np.ndarray:
        """Which pixels were segmented; the labels of others are 0 as well."""
        if self.parts is None:
            return np.broadcast_to(True, self.labels.shape)
        known = np.zeros(self.labels.shape, bool)
        for region in self.parts:
            known[region] = True
        return known

    @property
    def is_whole(self) -> bool:
        """Whether all of the picture was segmented, at once or part after part."""
        return self.parts is None or not left_out(self.labels.shape, map(ends_of, self.parts))


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
    region: Region | None = None  # that was asked for; None for the whole


@dataclass(frozen=True)
class LeftOut(Event):
    """One of several images cannot be segmented; the others are."""

    name: str
    why: str


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
    """Segment regions of pictures into their results; what cannot be is told of at the end."""
    from napari_unet.library import chosen_model

    loaded, refused = chosen_model(model), list[BadInput]()
    with heap.kept():
        for task in tasks:
            try:
                if objects is not None:
                    check_room(task.result.picture, loaded.card.net.ndim, objects)
                yield from _segment_one(loaded, task, config, control)
                if objects is not None and not control.stopped:
                    part(task.result, objects, control)
            except BadInput as error:
                refused.append(error)
                yield LeftOut(task.result.picture.name, str(error))
                continue
            yield Segmented(task.result, control.stopped, task.region)
            if control.stopped:
                return
    _tell(refused, len(tasks))


def _tell(refused: list[BadInput], of: int) -> None:
    """One error for all that were left out."""
    if of > 1 and refused:
        count = f"{len(refused)} of {of} images {'was' if len(refused) == 1 else 'were'} left out"
        raise BadInput(f"{count}: {refused[0]}")
    if refused:
        raise refused[0]


def _segment_one(
    model: Model, task: Task, config: PredictConfig, control: Control
) -> Iterator[Event]:
    from napari_unet.inference import Target, check_image, predict

    result, picture = task.result, task.result.picture
    check_image(model, picture.pixels, f"'{picture.name}'")
    if result.classes and result.classes != model.card.classes:
        result.labels[:] = 0  # what another model saw elsewhere would be called otherwise now
        result.rims, result.parts = None, []
    result.classes = model.card.classes
    result.ndim, result.smallest = model.card.net.ndim, model.card.smallest
    _make_room(result, model, config)
    target = Target(result.labels, result.probabilities, result.uncertainty, result.rims)
    stats, region = picture.stats, task.region
    for event in predict(model, picture.pixels, config, control, target, stats, region):
        if not isinstance(event, Predicted):
            yield event
    if control.stopped:
        return
    if region is None:
        result.parts = None
    elif result.parts is not None:
        result.parts.append(region)


def _make_room(result: Result, model: Model, config: PredictConfig) -> None:
    shape, classes = result.picture.shape, len(model.card.classes)
    result.objects = None  # they are those of the labels that were
    if config.probabilities and (
        result.probabilities is None or len(result.probabilities) != classes
    ):
        result.probabilities = zeros((classes, *shape), np.float32)
    if config.uncertainty and result.uncertainty is None:
        result.uncertainty = zeros(shape, np.float32)
    if not model.card.rims:
        result.rims = None
    elif result.rims is None:
        result.rims = zeros(shape, np.bool_)
    if not config.probabilities:
        result.probabilities = None
    if not config.uncertainty:
        result.uncertainty = None


def check_room(picture: Picture, ndim: int, config: ObjectConfig) -> None:
    """Refuse a plane or volume whose objects take more memory to number than there is."""
    each = PARTED_BYTES if config.split else NUMBERED_BYTES
    need, there = each * math.prod(picture.shape[-ndim:]), heap.installed()
    if there is not None and need > there:
        size = " x ".join(map(str, picture.shape[-ndim:]))
        raise BadInput(
            f"Numbering the objects of '{picture.name}', {size} pixels, takes about "
            f"{need / 2**30:.1f} GiB of memory and this machine has {there / 2**30:.1f}; crop the "
            "image, or leave the objects out."
        )


def part(result: Result, config: ObjectConfig, control: Control | None = None) -> None:
    """Number the objects of a result, plane after plane or volume after volume, unless stopped."""
    from napari_unet.instances import split_objects

    ndim = result.ndim
    objects = zeros(result.labels.shape, np.uint32)
    p = result.probabilities
    foreground = p[0] if p is not None and len(p) == 1 else None
    known = result.picture.spacing  # of a series of planes, without the time between them
    spacing = known[-ndim:] if len(known) >= ndim else None
    least = config.min_size
    if least is None and result.smallest:
        least = result.smallest // 2
    last = 0
    for place in np.ndindex(*result.labels.shape[:-ndim]):
        if control is not None and control.stopped:
            return
        labels = result.labels[place]
        probability = None if foreground is None else foreground[place]
        rims = None if result.rims is None else result.rims[place]
        found = split_objects(
            labels, probability, least, config.fill_holes, config.split, spacing, rims
        )
        objects[place] = np.where(found > 0, found + np.uint32(last), 0)
        last = max(last, int(objects[place].max(initial=0)))
    result.objects = objects


def new_result(picture: Picture) -> Result:
    """A result without anything in it yet; on disk, without a name, where it is large."""
    return Result(picture, zeros(picture.shape, np.uint8), parts=[])


def parted(result: Result, config: ObjectConfig, control: Control | None = None) -> Iterator[Event]:
    """The objects of a result that is there already."""
    check_room(result.picture, result.ndim, config)
    part(result, config, control)
    yield Segmented(result, control is not None and control.stopped)


def segment_files(
    model: Model | str | Path,
    files: Path | list[tuple[str, Path]],
    out: Path,
    suffix: str,
    config: PredictConfig,
    control: Control,
    objects: ObjectConfig | None = None,
) -> Iterator[Event]:
    """Segment every image of a folder, or images by name, and write the masks into another."""
    from napari_unet.export import describe, export_labels
    from napari_unet.io import list_images, read_image, refuse_twins, stem
    from napari_unet.library import chosen_model

    loaded, refused = chosen_model(model), list[BadInput]()
    if isinstance(files, Path):
        refuse_twins(paths := list_images(files))
        files = [(stem(path), path) for path in paths]
    masks = _masks_of(files, out, suffix)
    with heap.kept():
        for done, ((name, path), file) in enumerate(zip(files, masks, strict=True), 1):
            try:
                image = read_image(path)
                describe(file, image.spatial_shape, image)  # what cannot be written is refused now
                picture = Picture(image.name, image.data, image.spacing, image.unit)
                result = new_result(picture)
                for event in segment(loaded, [Task(result)], config, control, objects):
                    if not isinstance(event, LeftOut):
                        yield event
                if control.stopped:
                    return
                export_labels(file, result.labels, image, result.classes, objects=result.objects)
            except BadInput as error:
                refused.append(error)
                yield LeftOut(name, str(error))
                continue
            yield Written(file, done, len(files))
    _tell(refused, len(files))


def _masks_of(files: list[tuple[str, Path]], out: Path, suffix: str) -> list[Path]:
    """Where the masks go; what is in the way is found out before the work, not after."""
    masks = [out / f"{name}.{suffix}" for name in file_names(name for name, _ in files)]
    for mask in masks:
        if mask.exists():
            raise BadInput(f"{mask} exists already; choose another folder for the masks.")
    return masks
