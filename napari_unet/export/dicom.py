"""DICOM-SEG: masks of a DICOM series, as clinical systems show them over it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet import __version__
from napari_unet.atomic import atomic_file
from napari_unet.export.content import Content, rgb
from napari_unet.export.labels import Label, labels_of
from napari_unet.formats.dicom import is_dicom, is_one_file, is_series, series_files
from napari_unet.optional import optional
from napari_unet.run import BadInput

_MOST = 65535  # segments
# Those who take names out of files take the fields out too, which have to be there, if empty.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_LONGEST = 64  # letters of a label


def write_dicom_seg(
    path: Path, content: Content, overwrite: bool, sources: list[Path] | None = None
) -> None:
    """Write a segment for each class or object; `sources` are the image's files, plane by plane."""
    if sources is None:
        check_series(path, content)
        assert content.image is not None
        assert content.image.path is not None
        sources = series_files(content.image.path)
    headers = _headers(path, content, sources)
    labels = labels_of(content)
    if not 0 < len(labels) <= _MOST:
        raise BadInput(
            f"{path} would hold {len(labels)} segments, DICOM has 1 to {_MOST}: "
            "choose .nii.gz or .tif."
        )
    with atomic_file(path, overwrite) as temporary:
        try:
            segmentation = _segmentation(content, headers, labels)
        except (ValueError, AttributeError, TypeError, KeyError) as error:  # of what they lack
            reason = str(error).splitlines()[0].rstrip(".")
            raise BadInput(
                f"{path} cannot be made of its DICOM series ({reason}): choose .nii.gz or .nrrd."
            ) from error
        segmentation.save_as(temporary)


def _segmentation(content: Content, headers: list[Any], labels: list[Label]) -> Any:
    highdicom = optional("highdicom", "A DICOM segmentation")
    return highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=_segment_numbers(content, labels),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(i, label) for i, label in enumerate(labels, 1)],
        series_instance_uid=highdicom.UID(),
        series_number=int(headers[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="napari-unet",
        manufacturer_model_name="napari-unet",
        software_versions=__version__,
        device_serial_number="1",
        content_label="SEGMENTATION",
    )


def check_series(path: Path, content: Content) -> None:
    """Refuse a mask of anything but a DICOM series that has a file for each plane."""
    source = content.image.path if content.image else None
    if source is None or not (is_series(source) if source.is_dir() else is_dicom(source)):
        raise BadInput(
            f"{path} needs the DICOM series that the mask was made from: "
            "give it as the image, or choose .nii.gz or .nrrd."
        )
    if is_one_file(source, content.planes):
        raise BadInput(_of_frames(path, source))
    if "T" in content.axes:
        raise BadInput(f"{path} cannot hold time points: choose .nii.gz, .nrrd or .zarr.")


def _of_frames(path: Path, source: Path) -> str:
    return (
        f"{path} cannot be made of {source}, whose planes are frames of one file: segmentations "
        "are written for series with a file for each plane; choose .nii.gz or .nrrd."
    )


def _headers(path: Path, content: Content, files: list[Path]) -> list[Any]:
    """The headers of the source files, which must be those of the mask's planes."""
    pydicom = optional("pydicom", str(path))
    if len(files) == 1 < content.planes:
        raise BadInput(_of_frames(path, files[0]))
    if len(files) != content.planes:
        raise BadInput(
            f"{path} would hold {content.planes} planes, but its DICOM series has {len(files)} "
            "files: give the series the mask was made from."
        )
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    for header, file in zip(headers, files, strict=True):
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
        if "SliceThickness" not in header and content.image is not None:
            header.SliceThickness = round(content.image.spacing[0], 6)
        if (header.Rows, header.Columns) != content.shape[-2:]:
            raise BadInput(
                f"{path} would have planes of {content.shape[-2:]}, but {file.name} has "
                f"{(header.Rows, header.Columns)}: give the series the mask was made from."
            )
    return headers


def _segment_numbers(content: Content, labels: list[Label]) -> np.ndarray:
    """The mask, renumbered without gaps, as DICOM wants its segments."""
    data = np.asarray(content.data).reshape(-1, *content.shape[-2:])
    numbers = np.array([0, *(label.number for label in labels)])
    kind = np.uint8 if len(labels) <= 255 else np.uint16
    return np.searchsorted(numbers, data).astype(kind)


def _segment(number: int, label: Label) -> Any:
    highdicom, codes = import_module("highdicom"), import_module("pydicom.sr.codedict").codes
    # What the tissue is, nobody has said in codes: the name tells it in words.
    tissue = codes.SCT.Tissue
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="napari-unet", version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.name[:_LONGEST],
        segmented_property_category=tissue,
        segmented_property_type=tissue,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=highdicom.UID(),
        tracking_id=label.name[:_LONGEST],
        display_color=highdicom.color.CIELabColor.from_rgb(*rgb(label.color)),
    )
