"""Write the masks of images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.cli.parts import (
    INTERRUPTED,
    command,
    flags,
    report_as_json,
    say,
    settings,
    stops_on_interrupt,
    tell_left_out,
    tell_problems,
)
from napari_unet.cli.targets import check_targets, names_in
from napari_unet.run import BadInput, Control, Event, Noticed, Tiled
from napari_unet.suffixes import MASKS

if TYPE_CHECKING:
    from napari_unet.io import Image
    from napari_unet.library import Model


PREDICT_FLAGS = ("tile", "head", "flips", "device", "precision", "probabilities", "uncertainty")
FORMATS = tuple(suffix[1:] for suffix in MASKS)


def add_predict(commands: Any) -> None:
    """Offer the command `predict`."""
    from napari_unet.config import PredictConfig

    parser = command(commands, "predict", _predict, "Write the masks of images.")
    parser.add_argument("model", help="A model folder, a zip of one, or a name in the library")
    parser.add_argument("images", type=Path, help="An image, a folder of images, or a project")
    parser.add_argument(
        "--out", type=Path, required=True,
        help="Folder for the masks; for one image also a file such as mask.geojson",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, metavar="NAME",
        help=f"File format of masks: {', '.join(FORMATS)} (default tif)",
    )  # fmt: skip
    parser.add_argument("--instances", action="store_true", help="Number separate objects")
    parser.add_argument("--axes", help="Axes of the images if they cannot be told, such as ZYX")
    parser.add_argument("--overwrite", action="store_true", help="Replace masks that are there")
    flags(parser, PredictConfig, PREDICT_FLAGS)
    parser.add_argument("--json", action="store_true", help="Print every event as a line of JSON")


def _predict(arguments: argparse.Namespace) -> int:
    from napari_unet import heap
    from napari_unet.config import PredictConfig
    from napari_unet.library import load_model

    config = settings(PredictConfig, arguments, PREDICT_FLAGS)
    model = load_model(arguments.model)
    sources = _sources(arguments.images, arguments.axes)
    one_file = _one_file(len(sources), arguments)
    outputs = [_outputs(source, arguments, one_file) for source in sources]
    targets = [file for files in outputs for file in files.values()]
    check_targets(targets, [source.file for source in sources], arguments.overwrite)
    control, refused = Control(), 0
    with stops_on_interrupt(control), heap.kept():
        for source, files in zip(sources, outputs, strict=True):
            try:
                _predict_one(model, source.read(), config, control, files, arguments)
            except BadInput as error:
                if len(sources) == 1:
                    raise
                say(f"{source.called} is left out: {error}")
                refused += 1
            if control.stopped:
                before = f"the masks of the images before {source.called}"
                say(f"Stopped; {before} are in {arguments.out}")
                return INTERRUPTED
    return _sum_up(arguments, outputs, one_file, refused)


def _sum_up(
    arguments: argparse.Namespace,
    outputs: list[dict[str, Path]],
    one_file: Path | None,
    refused: int,
) -> int:
    """Say where what was written is; whether all of it is there."""
    if refused == len(outputs):
        raise BadInput("No mask was written: none of the images could be segmented.")
    say(f"The mask{' is' if one_file else 's are'} in {arguments.out.resolve()}")
    for what in ("probabilities", "uncertainty"):
        if what in outputs[0]:
            say(f"Folder of the {what}: {outputs[0][what].parent.resolve()}")
    return tell_left_out(refused, len(outputs))


def _one_file(images: int, arguments: argparse.Namespace) -> Path | None:
    """The file for the mask of one image, if --out names one and not a folder."""
    from napari_unet.export import format_of, is_known
    from napari_unet.formats import SUFFIXES, is_zarr

    out: Path = arguments.out
    if not is_known(out) and out.suffix.lower() in SUFFIXES and not out.is_dir():
        format_of(out)  # a picture of a kind that no mask is written as is no folder either
    if not is_known(out) or (out.is_dir() and not is_zarr(out)):
        return None
    if images > 1:
        raise BadInput(f"{out} is one file, but there are {images} images; give a folder.")
    if arguments.format and format_of(f".{arguments.format}") is not format_of(out):
        raise BadInput(f"{out} is not of the format {arguments.format}; give one or the other.")
    return out


@dataclass(frozen=True)
class _Source:
    """An image to be segmented, in a file or of a project."""

    called: str
    name: str  # of the files that are made of it
    file: Path
    read: Callable[[], Image]


def _sources(path: Path, axes: str | None) -> list[_Source]:
    """The images at a path, or of a project."""
    from napari_unet.io import list_images, read_image, refuse_twins, stem
    from napari_unet.records import is_project

    if is_project(path):
        return _sources_of_project(path, axes)
    paths = list_images(path)
    refuse_twins(paths)
    return [_Source(p.name, stem(p), p, partial(read_image, p, axes)) for p in paths]


def _sources_of_project(folder: Path, axes: str | None) -> list[_Source]:
    """The images of a project, as they are called and read in it."""
    from napari_unet.project import open_project

    if axes:
        raise BadInput("--axes is about images in files; a project says itself what they are.")
    project = open_project(folder, mend=False)
    tell_problems(project)
    if not project.images:
        raise BadInput(f"{folder} has no images; add some first.")
    names = names_in(project)
    return [
        _Source(card.name, names[key], project.file(key), partial(project.read, key))
        for key, card in project.images.items()
    ]


def _outputs(
    source: _Source, arguments: argparse.Namespace, one_file: Path | None
) -> dict[str, Path]:
    """The files that will be written for an image."""
    from napari_unet.export import format_of
    from napari_unet.io import stem

    name = stem(one_file) if one_file else source.name
    out = one_file.parent if one_file else arguments.out
    labels = one_file or out / f"{name}.{arguments.format or 'tif'}"
    files, kind = {"labels": labels}, format_of(labels)
    for what in ("probabilities", "uncertainty"):
        if getattr(arguments, what):
            # In folders of their own, or they would be taken for masks of other images.
            files[what] = out / what / f"{name}{kind.suffix if kind.floats else '.tif'}"
    return files


def _predict_one(
    model: Model,
    image: Image,
    config: Any,
    control: Control,
    files: dict[str, Path],
    arguments: argparse.Namespace,
) -> None:
    from napari_unet.export import describe, export_labels, export_probabilities
    from napari_unet.inference import check_image
    from napari_unet.pictures import Picture
    from napari_unet.segmenting import ObjectConfig, Task, new_result, segment

    check_image(model, image.data, str(image.path))
    describe(files["labels"], image.spatial_shape, image)  # what cannot be written is refused now
    result = new_result(Picture(image.name, image.data, image.spacing, image.unit))
    objects = ObjectConfig() if arguments.instances else None
    report = report_as_json if arguments.json else _PredictReport(image.name)
    for event in segment(model, [Task(result)], config, control, objects):
        report(event)
    if control.stopped:
        return
    if not result.labels.any():
        say(f"{image.name}: none of the classes was found in it.")
    replace = arguments.overwrite
    export_labels(files["labels"], result.labels, image, result.classes, replace, result.objects)
    if result.probabilities is not None:
        export_probabilities(files["probabilities"], result.probabilities, image, replace)
    if result.uncertainty is not None:
        export_probabilities(files["uncertainty"], result.uncertainty[None], image, replace)
    if arguments.json:
        written = {"event": "written", "image": image.name, "path": str(files["labels"])}
        print(json.dumps(written), flush=True)


class _PredictReport:
    """One image's prediction as a bar on a terminal."""

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self.name = name
        self.bar = tqdm(desc=name, unit=" tiles", disable=None, leave=False)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Tiled):
            self.bar.total = event.total
            self.bar.update(event.done - self.bar.n)
            if event.done == event.total:
                self.bar.close()
        elif isinstance(event, Noticed):
            self.bar.clear()
            say(f"{self.name}: {event.message}")
