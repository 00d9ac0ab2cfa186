"""A model as a package of the BioImage Model Zoo, which is a zip of ours at the same time."""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from napari_unet import __version__
from napari_unet.atomic import atomic_file
from napari_unet.cards import CARD, PREVIEW, README, WEIGHTS, now
from napari_unet.config import Credits
from napari_unet.library import Model, zip_folder
from napari_unet.models import Net
from napari_unet.models.outputs import network, with_probabilities
from napari_unet.normalise import measure
from napari_unet.optional import optional
from napari_unet.run import BadInput
from napari_unet.sharing.onnx import INPUT, OPSET, OUTPUT, output_names, write_onnx
from napari_unet.sharing.readme import package_readme
from napari_unet.sharing.source import network_source
from napari_unet.sharing.trial import Axis, axes_of, draw_cover, trial_image

DESCRIPTION = "bioimageio.yaml"
SOURCE, STATE, ONNX = "network.py", "weights.pt", "network.onnx"
TRIAL, ANSWER, COVER = "test-input.npy", "test-output.npy", "cover.png"
# What a model may not be called there.
ODD = re.compile(r"[^A-Za-z0-9_+\- ()]+")
SHORTEST_NAME, LONGEST_NAME = 5, 64
EPSILON = 1e-12  # added to an image's range by others, in place of our least range
PUBLICATIONS = {
    "10.1007/978-3-319-24574-4_28": "Ronneberger et al., U-Net: Convolutional Networks for "
    "Biomedical Image Segmentation, 2015",
    "10.1007/978-3-030-00889-5_1": "Zhou et al., UNet++: A Nested U-Net Architecture for Medical "
    "Image Segmentation, 2018",
}


def write_package(
    model: Model, path: Path, credits: Credits | None = None, overwrite: bool = False
) -> Path:
    """Write a bioimage.io package: PyTorch and ONNX weights, test images, and our own files."""
    spec, v0_5 = (
        optional(module, "Writing a bioimage.io package", "models")
        for module in ("bioimageio.spec", "bioimageio.spec.model.v0_5")
    )
    people = _credited(v0_5, model, credits or Credits())
    with (
        atomic_file(path, overwrite) as temporary,
        # Its files must lie somewhere until they are packed; the place of the result has room.
        TemporaryDirectory(prefix=".", dir=temporary.parent) as place,
    ):
        folder = Path(place).resolve() / "package"
        axes = _write_files(model, folder)
        # The specification's own packing would read all files and leave closing them to chance.
        with spec.ValidationContext(root=folder, perform_io_checks=False):
            description = _described(v0_5, model, axes, people, folder)
            spec.save_bioimageio_yaml_only(description, folder / DESCRIPTION)
        zip_folder(folder, temporary)
    return path


def _write_files(model: Model, folder: Path) -> list[Axis]:
    """Everything that a package holds, but its description."""
    net = with_probabilities(copy.deepcopy(model.net).float().cpu())
    axes = axes_of(model.card, net)
    Model(model.card, model.weights, model.preview).save(folder)  # the model given stays as it is
    (folder / README).write_text(package_readme(model.card, net, axes), encoding="utf-8")
    (folder / SOURCE).write_text(network_source(), encoding="utf-8")
    torch.save(dict(net.state_dict()), folder / STATE)
    write_onnx(model, folder / ONNX)
    _write_trial(model, net, axes, folder)
    return axes


def _write_trial(model: Model, net: Net, axes: list[Axis], folder: Path) -> None:
    image = trial_image(model.card, axes)
    pixels = measure(image, *model.card.percentiles).apply(image)
    with torch.inference_mode():
        answer = net(torch.from_numpy(pixels)[None])
    np.save(folder / TRIAL, image[None])
    np.save(folder / ANSWER, answer.numpy())
    draw_cover(folder / COVER, pixels, answer[0].numpy(), model.card.outputs)


def _credited(v0_5: Any, model: Model, credits: Credits) -> dict[str, Any]:
    """Who made the model and what to cite, checked before the work rather than after."""
    first, nested = PUBLICATIONS
    dois = [*credits.cite, nested if model.card.net.arch == "nested" else first]
    try:
        return {
            "authors": [v0_5.Author(name=name) for name in credits.authors],
            "cite": [v0_5.CiteEntry(text=PUBLICATIONS.get(doi, doi), doi=doi) for doi in dois],
            "license": v0_5.LicenseId(credits.license) if credits.license else None,
        }
    except ValidationError as error:
        raise BadInput(
            f"bioimage.io does not take '{error.errors()[0]['input']}'; give names without "
            "slashes, a licence such as CC-BY-4.0 and DOIs such as 10.1000/182."
        ) from None


def _described(
    v0_5: Any, model: Model, axes: list[Axis], people: dict[str, Any], folder: Path
) -> Any:
    """The description that becomes bioimageio.yaml, checked as the specification asks."""
    card = model.card
    return v0_5.ModelDescr(
        name=_name(card.name),
        description=_summary(model),
        version=str(card.current.number) if card.current else None,
        timestamp=card.current.created if card.current else now(),
        documentation=_file(v0_5, folder / README),
        covers=[_file(v0_5, folder / (PREVIEW if model.preview else COVER))],
        attachments=[_file(v0_5, folder / name) for name in (CARD, WEIGHTS)],
        tags=_tags(model),
        inputs=[_input(v0_5, model, axes, folder)],
        outputs=[_output(v0_5, model, axes, folder)],
        weights=_weights(v0_5, model, folder),
        **people,
    )


def _file(v0_5: Any, path: Path) -> Any:
    return v0_5.FileDescr(**_source(path))


def _source(path: Path) -> dict[str, str]:
    return {"source": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _name(name: str) -> str:
    plain = " ".join(ODD.sub(" ", name).split())[:LONGEST_NAME]
    return plain if len(plain) >= SHORTEST_NAME else f"{plain} U-Net".strip()


def _summary(model: Model) -> str:
    net = model.card.net
    names = ", ".join(c.name for c in model.card.classes)
    what = "planes" if net.ndim == 2 else "volumes"
    return (
        f"A {net.ndim}-D U-Net ({net.arch}) that segments {what} of {net.in_channels} channel(s) "
        f"into: {names}. Trained in napari-unet."
    )[:1024]


def _tags(model: Model) -> list[str]:
    arch = "unet++" if model.card.net.arch == "nested" else "unet"
    return ["napari-unet", arch, f"{model.card.net.ndim}d", "semantic-segmentation", "pytorch"]


def _input(v0_5: Any, model: Model, axes: list[Axis], folder: Path) -> Any:
    channels = [f"channel {n}" for n in range(1, model.card.net.in_channels + 1)]
    spatial = [
        v0_5.SpaceInputAxis(
            id=axis.name,
            size=v0_5.ParameterizedSize(min=axis.least, step=axis.step),
            scale=axis.scale,
            unit=axis.unit,
            concatenable=axis.halo > 0,
        )
        for axis in axes
    ]
    return v0_5.InputTensorDescr(
        id=INPUT,
        description="The image, as it is",
        axes=[v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=channels), *spatial],
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=_file(v0_5, folder / TRIAL),
        preprocessing=_preparation(v0_5, model, axes),
    )


def _preparation(v0_5: Any, model: Model, axes: list[Axis]) -> list[Any]:
    """What `normalise` does, in the words of the specification."""
    low, high = model.card.percentiles
    percentiles = v0_5.ScaleRangeKwargs(
        axes=[axis.name for axis in axes], min_percentile=low, max_percentile=high, eps=EPSILON
    )
    return [
        v0_5.ScaleRangeDescr(kwargs=percentiles),
        v0_5.ScaleLinearDescr(kwargs=v0_5.ScaleLinearKwargs(gain=2, offset=-1)),
        v0_5.ClipDescr(kwargs=v0_5.ClipKwargs(min=-4, max=4)),
    ]


def _output(v0_5: Any, model: Model, axes: list[Axis], folder: Path) -> Any:
    channels = output_names(model.card)
    spatial = [
        (v0_5.SpaceOutputAxisWithHalo if axis.halo else v0_5.SpaceOutputAxis)(
            id=axis.name,
            size=v0_5.SizeReference(tensor_id=INPUT, axis_id=axis.name),
            scale=axis.scale,
            unit=axis.unit,
            **({"halo": axis.halo} if axis.halo else {}),
        )
        for axis in axes
    ]
    return v0_5.OutputTensorDescr(
        id=OUTPUT,
        description="The probability of each class",
        axes=[v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=channels), *spatial],
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        test_tensor=_file(v0_5, folder / ANSWER),
    )


def _weights(v0_5: Any, model: Model, folder: Path) -> Any:
    version = re.match(r"[\d.]+", torch.__version__)
    architecture = v0_5.ArchitectureFromFileDescr(
        **_source(folder / SOURCE),
        callable=network.__name__,
        kwargs=model.card.net.model_dump(mode="json"),
    )
    return v0_5.WeightsDescr(
        pytorch_state_dict=v0_5.PytorchStateDictWeightsDescr(
            **_source(folder / STATE),
            architecture=architecture,
            pytorch_version=version[0] if version else torch.__version__,
            comment=f"Trained in napari-unet {__version__}",
        ),
        onnx=v0_5.OnnxWeightsDescr(
            **_source(folder / ONNX), opset_version=OPSET, parent="pytorch_state_dict"
        ),
    )
