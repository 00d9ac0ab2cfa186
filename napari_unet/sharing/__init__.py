"""Models to others: as a folder or zip of ours, a bioimage.io package, or an ONNX file."""

from __future__ import annotations

from pathlib import Path

from napari_unet.config import Credits
from napari_unet.library import Model, check_place, load_model
from napari_unet.run import BadInput
from napari_unet.suffixes import ONNX, PACKAGE


def export_model(
    model: str | Path | Model,
    path: str | Path,
    version: int | None = None,
    overwrite: bool = False,
    credits: Credits | None = None,
) -> Path:
    """Copy a model, checked, to be given away, in the format that the name of the file asks for.

    A name that ends in .onnx or .bioimageio.zip is for other programs; .zip or a folder is ours.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise BadInput(f"{path} exists already; give another place.")
    model = model if isinstance(model, Model) else load_model(model, version)
    name = path.name.lower()
    if credits is not None and not name.endswith(PACKAGE):
        raise BadInput(
            f"{path} has no room for authors, licence and citations; end its name in {PACKAGE}."
        )
    if name.endswith(ONNX):
        from napari_unet.sharing.onnx import write_onnx

        return write_onnx(model, path, overwrite)
    if name.endswith(PACKAGE):
        from napari_unet.sharing.bioimage import write_package

        check_place(path)
        return write_package(model, path, credits, overwrite)
    return Model(model.card, model.weights, model.preview).save(path)
