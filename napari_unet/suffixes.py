"""How the names of files that are written end, and what such files are called."""

from __future__ import annotations

# Without who writes them, so that a dialog or --help need not wait for that.
MASKS = {
    ".tif": "TIFF",
    ".ome.tif": "OME-TIFF",
    ".png": "PNG",
    ".npy": "NumPy",
    ".ome.zarr": "OME-Zarr",
    ".zarr": "Zarr",
    ".nii.gz": "NIfTI, compressed",
    ".nii": "NIfTI",
    ".seg.nrrd": "3D Slicer segmentation",
    ".nrrd": "NRRD",
    ".dcm": "DICOM segmentation",
    ".geojson": "GeoJSON for QuPath",
    ".coco.json": "COCO",
    ".roi.zip": "ImageJ ROIs",
    ".csv": "Table of measurements",
}

ZIP, PACKAGE, ONNX = ".zip", ".bioimageio.zip", ".onnx"
MODELS = {
    ZIP: "For napari-unet",
    PACKAGE: "For the BioImage Model Zoo and napari-unet",
    ONNX: "ONNX, for programs without PyTorch",
}
