"""The headless API: train, predict, load and export with one call each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from napari_unet import heap, sharing
from napari_unet.annotation import TrainingSet
from napari_unet.config import (
    Credits,
    Frozen,
    PredictConfig,
    TrainConfig,
)
from napari_unet.export import export_labels, export_nnunet
from napari_unet.inference import Target, check_image
from napari_unet.inference import predict as predict_events
from napari_unet.io import Image, as_image, read_image
from napari_unet.library import Model, load_model
from napari_unet.masks import MANY_VALUES, mask_values, read_masks
from napari_unet.project import open_project
from napari_unet.run import BadInput, Control, Event, Predicted, Rested, Trained
from napari_unet.session import Session
from napari_unet.teaching import make_training_set
from napari_unet.training import ONLY_HELD_OUT
from napari_unet.training import train as train_events

__all__ = ["export_labels", "export_model", "export_nnunet", "load_model", "predict", "train"]

Watch = Callable[[Event], None]
Settings = TypeVar("Settings", bound=Frozen)


def train(
    images: Any,
    masks: Any = None,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    sparse: bool = False,
    arch: str = "compact",
    init: str | Path | Model = "auto",
    device: str = "auto",
    seed: int = 0,
    classes: Sequence[str] | None = None,
    objects: bool | None = None,
    slices: bool = False,
    axes: str | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> Model:
    """Train a model on images and their masks: arrays, paths, or lists of them; or on a project.

    Masks are complete, 0 for background; with `sparse`, 0 is not labelled and 255 is background.
    `objects` says whether mask values are objects or classes. `slices` trains a 2-D net on the
    planes of stacks. `axes` are those of the images, such as "ZYX". `settings` are those of
    `TrainConfig`. With neither seconds nor steps, training goes on until it no longer improves.
    """
    own = {"seconds": seconds, "steps": steps, "arch": arch, "device": device, "seed": seed}
    config = make_settings(TrainConfig, own | settings)
    start, control = first_weights(init), Control()
    if masks is None:
        if sparse or classes or objects is not None or slices or axes:
            raise BadInput(
                "A project says itself what is painted in it; leave sparse, classes, objects, "
                "slices and axes out."
            )
        if not isinstance(images, str | Path):
            raise BadInput("Images were given without masks; give a mask for each, or a project.")
        training_set = project_set(Path(images))
        return finish(train_events(config, training_set, control, start=start), control, watch)
    pairs = _load_pairs(_listed(images), _listed(masks), axes)
    training_set, mapping = make_training_set(
        pairs, sparse=sparse, classes=classes, objects=objects, slices=slices, border=config.border
    )
    doubtful = mapping.objects and objects is None and not classes
    if doubtful and len(mask_values(mask for _, mask in pairs)) <= MANY_VALUES:
        warnings.warn(
            "The values of the masks are taken for objects of one class; give objects=True if they "
            "are, or objects=False if each is a class.",
            stacklevel=2,
        )
    return finish(train_events(config, training_set, control, start=start), control, watch)


def project_set(folder: Path) -> TrainingSet:
    """All that is painted in a project."""
    project = open_project(folder, mend=False)
    session = Session()
    try:
        session.open(project)
        for key in [key for key, card in project.images.items() if card.painted]:
            session.learn(project, key)
        problems = project.problems
    finally:
        project.close()
    if problems:
        raise BadInput(" ".join(problems))
    if session.training_set is None:
        raise BadInput(f"Nothing is painted in the project {folder}; paint some strokes first.")
    return session.training_set


def make_settings(kind: type[Settings], values: dict[str, Any], prefix: str = "") -> Settings:
    """Settings from their values; a wrong one is told in a sentence, with a prefix to its name."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = prefix + str(first["loc"][0])
        name = name.replace("_", "-") if prefix else name
        raise BadInput(f"{name} {first['input']}: {first['msg'].lower()}.") from None


def finish(events: Iterable[Event], control: Control, watch: Watch | None) -> Model:
    """Run training to its end, which is where it first rests; the model it made."""
    model: Model | None = None
    for event in events:
        if watch is not None:
            watch(event)
        if isinstance(event, Rested):
            if not event.step:
                raise BadInput(ONLY_HELD_OUT)
            control.stop()
        if isinstance(event, Trained):
            model = event.model
    assert model is not None  # the last event of training holds it
    return model


def predict(
    model: Model | str | Path,
    image: Any,
    *,
    axes: str | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
    watch: Watch | None = None,
    **settings: Any,
) -> Any:
    """The mask of an image: 0 for background, 1..N for the classes, in the order [T], [Z], Y, X.

    With `probabilities` or `uncertainty` a tuple: the mask, then what was asked for.
    """
    model = model if isinstance(model, Model) else load_model(model)
    own = {"probabilities": probabilities, "uncertainty": uncertainty}
    config = make_settings(PredictConfig, own | settings)
    if not isinstance(image, Image):
        image = _load_image(image, axes or _axes_for(image, model), "image")
    check_image(model, image.data, f"Image '{image.name}'")
    with heap.kept():
        result = finish_prediction(predict_events(model, image.data, config), watch)
    extras = [result.probabilities] * probabilities + [result.uncertainty] * uncertainty
    return (result.labels, *extras) if extras else result.labels


def finish_prediction(events: Iterable[Event], watch: Watch | None) -> Target:
    """Run a prediction to its end; what it made."""
    for event in events:
        if watch is not None:
            watch(event)
        if isinstance(event, Predicted):
            return Target(event.labels, event.probabilities, event.uncertainty, event.rims)
    raise AssertionError("a prediction ends with its result")


def export_model(
    model: Model | str | Path, path: str | Path, *, overwrite: bool = False, **credits: Any
) -> Path:
    """Write a model to be given away: a folder or .zip, .bioimageio.zip, or .onnx.

    `credits` are those of `Credits`, for .bioimageio.zip: `authors`, `license`, `cite`.
    """
    given = make_settings(Credits, credits) if credits else None
    return sharing.export_model(model, path, overwrite=overwrite, credits=given)


def first_weights(init: str | Path | Model) -> Model | None:
    """The model that training starts from; None for random weights."""
    if isinstance(init, Model):
        return init
    if init in ("auto", "random"):
        return None
    if init == "starter":
        raise BadInput("No starter weights come with this version; use auto or random.")
    return load_model(init)


def _listed(what: Any) -> list[Any]:
    if isinstance(what, list | tuple):
        return list(what)
    return [what]


def _load_pairs(
    images: list[Any], masks: list[Any], axes: str | None
) -> list[tuple[Image, np.ndarray]]:
    """Images with their masks, each in the order of our axes."""
    if len(images) != len(masks):
        raise BadInput(
            f"{len(images)} images were given with {len(masks)} masks; "
            "give one mask for each image."
        )
    # Where axes are given, what is wrong with them is said before masks are read by them.
    known = [axes is not None or isinstance(i, str | Path) for i in images]
    images = [
        _load_image(i, axes, f"image {n}") if is_known else i
        for n, (i, is_known) in enumerate(zip(images, known, strict=True), 1)
    ]
    affines = [i.affine if isinstance(i, Image) else None for i in images]
    pairs = zip(images, read_masks(masks, axes, affines), strict=True)
    return [
        (_load_image(i, axes or _axes_beside(i, m.shape), f"image {n}"), m)
        for n, (i, m) in enumerate(pairs, 1)
    ]


def _load_image(image: Any, axes: str | None, name: str) -> Image:
    if isinstance(image, Image):
        return image
    if isinstance(image, str | Path):
        return read_image(image, axes)
    return replace(as_image(image, axes, name), name=name)


def _axes_beside(image: Any, mask: tuple[int, ...]) -> str | None:
    """The axes of an array whose mask has this shape; None if the array itself must say."""
    shape = getattr(image, "shape", None)
    if shape is None or not 2 <= len(mask) <= 4:
        return None
    spatial = {2: "YX", 3: "ZYX", 4: "TZYX"}[len(mask)]
    if shape == mask:
        return spatial
    fitting = [(shape[:-1], spatial + "C"), (shape[1:], "C" + spatial)]
    found = [axes for part, axes in fitting if part == mask]
    return found[0] if len(found) == 1 else None


def _axes_for(image: Any, model: Model) -> str | None:
    """The axes of an array that is what the model reads, no more and no less."""
    shape = getattr(image, "shape", None)
    net = model.card.net
    spatial = "YX" if net.ndim == 2 else "ZYX"
    if shape is None:
        return None
    if len(shape) == net.ndim and net.in_channels == 1:
        return spatial
    if len(shape) == net.ndim + 1 and shape[-1] == net.in_channels:
        return spatial + "C"
    if len(shape) == net.ndim + 1 and shape[0] == net.in_channels:
        return "C" + spatial
    return None
