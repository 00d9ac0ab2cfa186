"""What the user is asked for in dialogs of the system: files and folders."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_unet.cards import CARD

FORMATS = {
    "TIFF (*.tif)": ".tif",
    "OME-TIFF with pixel size (*.ome.tif)": ".ome.tif",
    "PNG (*.png)": ".png",
    "NumPy (*.npy)": ".npy",
    "Zarr (*.zarr)": ".zarr",
}
MODEL_FORMATS = {
    "For napari-unet (*.zip)": ".zip",
    "For the BioImage Model Zoo and napari-unet (*.bioimageio.zip)": ".bioimageio.zip",
    "ONNX, for programs without PyTorch (*.onnx)": ".onnx",
}


def ask_model(parent: QWidget) -> Path | None:
    """A model's zip or card, as the user chooses in a dialog; None if they cancel."""
    title = f"A model: a .zip file, or the {CARD} in its folder"
    chosen, _ = QFileDialog.getOpenFileName(parent, title, "", f"Models (*.zip {CARD})")
    return Path(chosen) if chosen else None


def ask_export(parent: QWidget, name: str) -> tuple[Path, str] | None:
    """Where to export a model, and the suffix of its format; None if they cancel."""
    start = str(Path.home() / f"{name}.zip")
    title, kinds = "Export the model", ";;".join(MODEL_FORMATS)
    found, chosen = QFileDialog.getSaveFileName(parent, title, start, kinds)
    return (Path(found), MODEL_FORMATS.get(chosen, ".zip")) if found else None


def ask_folder(parent: QWidget, title: str) -> Path | None:
    """A folder that the user chooses in a dialog; None if they cancel."""
    found = QFileDialog.getExistingDirectory(parent, title)
    return Path(found) if found else None


def ask_new_folder(parent: QWidget, title: str) -> Path | None:
    """The name and place of a folder to be made, as the user gives it; None if they cancel."""
    found, _ = QFileDialog.getSaveFileName(parent, title, str(Path.home() / "my project.unet"))
    return Path(found) if found else None


def ask_images(parent: QWidget) -> list[Path]:
    """Image files that the user chooses in a dialog; none if they cancel."""
    found, _ = QFileDialog.getOpenFileNames(parent, "Images")
    return [Path(path) for path in found]


def ask_file(parent: QWidget, name: str) -> Path | None:
    """Where to write a mask, as the user chooses in a dialog; None if they cancel."""
    found, chosen = QFileDialog.getSaveFileName(parent, "Export the mask", name, ";;".join(FORMATS))
    if not found:
        return None
    known = any(found.lower().endswith(suffix) for suffix in FORMATS.values())
    return Path(found if known else found + FORMATS[chosen])
