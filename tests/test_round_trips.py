"""Every format written by us is read back by the library its users would use, and is the same."""

from __future__ import annotations

import csv
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scans import of_itk

from napari_unet.config import SegClass
from napari_unet.export import FORMATS, export_labels, format_of
from napari_unet.export.content import make_content, rgb
from napari_unet.export.dicom import write_dicom_seg
from napari_unet.io import Image, as_image
from napari_unet.run import BadInput

CLASSES = (
    SegClass(name="tumour", color="#d55e00"),
    SegClass(name='stroma "b"', color="#0072b2"),
    SegClass(name="Krebs, gro\u00df", color="#f0e442"),
)
MILLIMETERS = {"micrometer": 1e-3, "millimeter": 1.0, "pixel": 1.0}

# ---- what is written


@dataclass(frozen=True, eq=False)
class Scene:
    """A mask with its image, and perhaps numbered objects."""

    image: Image
    mask: np.ndarray
    objects: np.ndarray | None = None

    @property
    def pixels(self) -> np.ndarray:
        return self.mask if self.objects is None else self.objects

    @property
    def class_of(self) -> dict[int, SegClass]:
        """The class of each number in the pixels."""
        if self.objects is None:
            return dict(enumerate(CLASSES, 1))
        numbers = np.unique(self.objects[self.objects > 0])
        return {int(n): CLASSES[self.mask[self.objects == n][0] - 1] for n in numbers}

    @property
    def lps(self) -> np.ndarray:
        """From x, y, z to millimetres, worked out from the definition of `io.Affine`."""
        affine = self.image.affine
        if affine is None:
            steps = (1.0, *self.image.spacing)[-3:]
            scale = MILLIMETERS[self.image.unit]
            known = len(self.image.spacing)
            sizes = [s * (scale if i >= 3 - known else 1.0) for i, s in enumerate(steps)]
            return np.diag([*sizes[::-1], 1.0])
        a = np.asarray(affine)
        zyx_to_xyz = np.eye(4)[[2, 1, 0, 3]]
        return zyx_to_xyz @ a @ zyx_to_xyz


def blobs(*shape: int, holes: bool = False) -> np.ndarray:
    """Blobs of three classes, some at the border, some that touch at corners."""
    random = np.random.default_rng(1)
    from scipy import ndimage

    values = ndimage.gaussian_filter(random.random((3, *shape)), (0, *[1.5] * len(shape)))
    mask = np.where(values.max(axis=0) > 0.56, values.argmax(axis=0) + 1, 0).astype(np.uint8)
    mask[..., 0, 0], mask[..., 1, 1] = 1, 1
    if holes:
        mask[..., 10:24, 10:24], mask[..., 13:20, 13:20] = 1, 0
        mask[..., 15:18, 15:18], mask[..., 16, 16] = 2, 0  # an island with a hole in the hole
    return mask


def many(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """So many objects that touch each other, in three classes, every fourth with a hole."""
    objects = np.kron(np.arange(1, n + 1).reshape(15, -1), np.ones((6, 5), int)).astype(np.uint32)
    middle = (np.indices(objects.shape) % np.array([6, 5]).reshape(2, 1, 1) == 2).all(axis=0)
    objects[middle & (objects % 4 == 0)] = 0
    objects[objects > 0] *= 3  # numbers need not be without gaps
    mask = np.where(objects, objects // 3 % 3 + 1, 0).astype(np.uint8)
    return mask, objects


def grey(shape: tuple[int, ...], spacing: tuple[float, ...], unit: str) -> Image:
    pixels = np.random.default_rng(2).integers(0, 4000, shape).astype(np.uint16)
    axes = {2: "YX", 3: "ZYX"}[len(shape)]
    return replace(as_image(pixels, axes, "scan", spacing), unit=unit)


def rotated() -> tuple[tuple[float, ...], ...]:
    """A place askew in the patient, in numbers that 32 bits hold."""
    a, b = 0.3, -0.2
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = turn @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    full = np.eye(4)
    full[:3, :3], full[:3, 3] = turn * (3.0, 0.5, 0.75), (-80.25, 12.5, 40.125)
    return tuple(map(tuple, full.astype(np.float32).astype(float).tolist()))


def scenes() -> dict[str, Scene]:
    colors = as_image(np.zeros((40, 50, 3), np.uint8), "YXC", "slide", (0.25, 0.25))
    volume = grey((5, 30, 40), (2.0, 0.5, 0.25), "micrometer")
    mask, objects = many()
    return {
        "2-D": Scene(grey((40, 50), (0.5, 0.25), "micrometer"), blobs(40, 50)),
        "RGB source": Scene(replace(colors, unit="micrometer"), blobs(40, 50)),
        "3-D anisotropic": Scene(volume, blobs(5, 30, 40)),
        "rotated affine": Scene(
            replace(
                grey((5, 30, 40), (3.0, 0.5, 0.75), "millimeter"),
                affine=rotated(),
            ),
            blobs(5, 30, 40),
        ),
        "300 objects": Scene(grey(mask.shape, (0.5, 0.5), "micrometer"), mask, objects),
        "empty": Scene(grey((40, 50), (0.5, 0.25), "micrometer"), np.zeros((40, 50), np.uint8)),
        "classes with holes": Scene(grey((40, 50), (1.0, 1.0), "pixel"), blobs(40, 50, holes=True)),
    }


SCENES = scenes()

# ---- what comes back


@dataclass(eq=False)
class Back:
    """What a library found in a file; None where the format has no room for it."""

    pixels: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None  # in the unit of the image
    lps: np.ndarray | None = None
    names: dict[int, str] | None = None  # of each number
    colors: dict[int, tuple[int, ...]] | None = None
    tolerance: int = 0  # of colours
    others: list[Any] = field(default_factory=list)


def tif(path: Path, scene: Scene) -> Back:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        names = tiff.shaped_metadata[0].get("classes")
        spacing = None
        if scene.image.unit == "micrometer":
            assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
            spacing = tuple(1e4 / r for r in page.resolution[::-1])
        wanted = {int(n): name for n, name in names.items()} if names else None
        found = Back(tiff.asarray(), names=wanted)
    # Slices have no distance in a plain TIFF.
    assert spacing is None or spacing == pytest.approx(scene.image.spacing[-2:], rel=1e-6)
    return found


def ome_tif(path: Path, scene: Scene) -> Back:
    with tifffile.TiffFile(path) as tiff:
        about = tifffile.xml2dict(tiff.ome_metadata)["OME"]
        sizes = about["Image"]["Pixels"]
        assert tiff.series[0].axes == scene.image.axes[1:]
        spacing = None
        if scene.image.unit != "pixel":
            spacing = tuple(sizes[f"PhysicalSize{a}"] for a in scene.image.axes if a in "ZYX")
            unit = {"micrometer": "\u00b5m", "millimeter": "mm"}[scene.image.unit]
            assert sizes["PhysicalSizeXUnit"] == unit
        names = None
        if scene.objects is None:
            entries = about["StructuredAnnotations"]["MapAnnotation"]["Value"]["M"]
            names = {int(entry["K"]): entry["value"] for entry in entries}
        return Back(tiff.asarray(), spacing, names=names)


def png(path: Path, scene: Scene) -> Back:
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        colors = None
        if picture.mode == "P":
            table = np.reshape(picture.getpalette(), (-1, 3)).tolist()
            colors = {n: tuple(table[n]) for n in range(1, len(CLASSES) + 1)}
        return Back(np.array(picture), colors=colors)


def npy(path: Path, scene: Scene) -> Back:
    return Back(np.load(path))


def zarr(path: Path, scene: Scene) -> Back:
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    logging.getLogger("ome_zarr").setLevel(logging.ERROR)
    (node,) = Reader(parse_url(str(path)))()
    about = node.metadata
    assert [a["name"].upper() for a in about["axes"]] == list(scene.image.axes[1:])
    if scene.image.unit != "pixel":
        assert {a["unit"] for a in about["axes"]} == {scene.image.unit}
    scale = about["coordinateTransformations"][0][0]["scale"]
    classes = {n: entry["class"] for n, entry in about.get("properties", {}).items()}
    colors = {n: tuple(round(255 * c) for c in about["color"][n][:3]) for n in about["color"]}
    return Back(np.asarray(node.data[0]), tuple(scale), names=classes, colors=colors)


def nifti(path: Path, scene: Scene) -> Back:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(path)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    (extension,) = image.header.extensions
    labels = json.loads(extension.get_content())["labels"]
    assert image.header.get_intent()[0] == "label"
    known = scene.image.unit != "pixel"
    assert image.header.get_xyzt_units()[0] == ("mm" if known else "unknown")
    back = _by_itk(path, scene)
    assert np.array_equal(back.pixels, _flat(np.asarray(image.dataobj).T, scene))
    back.lps = lps
    return replace(back, names={n: name for name, n in labels.items()}, lps=lps)


def nrrd(path: Path, scene: Scene) -> Back:
    pynrrd = pytest.importorskip("nrrd")
    data, header = pynrrd.read(str(path))
    back = _by_itk(path, scene)
    assert np.array_equal(back.pixels, _flat(data.T, scene))
    assert header["space"] == "left-posterior-superior"
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = header["space directions"].T, header["space origin"]
    assert np.array_equal(lps, scene.lps), "a text holds all digits"
    return back


def plain_nrrd(path: Path, scene: Scene) -> Back:
    back = nrrd(path, scene)
    (notes,) = back.others
    return replace(back, names={int(n): v for n, v in json.loads(notes["label_names"]).items()})


def seg_nrrd(path: Path, scene: Scene) -> Back:
    back = nrrd(path, scene)
    (notes,) = back.others
    names, colors = {}, {}
    for i in range(sum(key.endswith("_LabelValue") for key in notes)):
        number = int(notes[f"Segment{i}_LabelValue"])
        names[number] = notes[f"Segment{i}_Name"]
        parts = notes[f"Segment{i}_Color"].split()
        colors[number] = tuple(round(255 * float(part)) for part in parts)
        assert notes[f"Segment{i}_Layer"] == "0"
    return replace(back, names=names, colors=colors)


def _flat(volume: np.ndarray, scene: Scene) -> np.ndarray:
    """A volume as it is; where the mask is a plane, the one that the volume has."""
    if scene.pixels.ndim == 2:
        (volume,) = volume
    return volume


def _by_itk(path: Path, scene: Scene) -> Back:
    itk = pytest.importorskip("SimpleITK")
    image = itk.ReadImage(str(path))
    pixels = _flat(itk.GetArrayFromImage(image), scene)
    notes = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    return Back(pixels, lps=of_itk(image), others=[notes])


def dicom(path: Path, scene: Scene) -> Back:
    highdicom = pytest.importorskip("highdicom")
    segmentation = highdicom.seg.segread(path)
    numbers = sorted(scene.class_of)
    volume = segmentation.get_volume(combine_segments=True, allow_missing_positions=True)
    found = np.array([0, *numbers])[volume.array]
    names, colors = {}, {}
    for number, i in zip(numbers, segmentation.segment_numbers, strict=True):
        about = segmentation.get_segment_description(i)
        names[number] = about.segment_label
        lab = about.RecommendedDisplayCIELabValue
        color = highdicom.color.CIELabColor.from_dicom_value(list(lab))
        colors[number] = color.to_rgb(clip=True)
    # Its volume holds the planes that have something in them, in an order of its own.
    inverse = np.linalg.inv(scene.lps)
    planes = np.zeros((scene.pixels.size // found[0].size, *found.shape[1:]), found.dtype)
    for k, plane in enumerate(found):
        x, y, z = volume.map_indices_to_reference(np.array([[k, 0, 0]]))[0]
        i, j, at, _ = inverse @ (x, y, z, 1)
        assert (i, j, at) == pytest.approx((0, 0, round(at)), abs=1e-5)
        planes[round(at)] = plane
    return Back(_flat(planes, scene), names=names, colors=colors, tolerance=1)


def geojson(path: Path, scene: Scene) -> Back:
    shapely = pytest.importorskip("shapely")
    items = json.loads(path.read_text(encoding="utf-8"))["features"]
    for item in items:
        shape = shapely.geometry.shape(item["geometry"])
        about, plane = item["properties"], item["geometry"].get("plane", {"z": 0})
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert about["objectType"] == ("annotation" if scene.objects is None else "detection")
        of, number = about["classification"], int(about.get("name", 0))
        item["drawn"] = (plane["z"], _inside(shape, scene), of["name"], of["color"], number)
        assert shape.area == item["drawn"][1].sum()
    return _drawn([item["drawn"] for item in items], scene)


def coco(path: Path, scene: Scene) -> Back:
    mask = pytest.importorskip("pycocotools.mask")
    from pycocotools.coco import COCO

    found = COCO(str(path))
    planes = scene.pixels.reshape(-1, *scene.pixels.shape[-2:])
    assert sorted(found.imgs) == list(range(1, len(planes) + 1))
    items = []
    for annotation in found.anns.values():
        pixels = found.annToMask(annotation).astype(bool)
        of = found.cats[annotation["category_id"]]
        runs = found.annToRLE(annotation)
        assert annotation["area"] == pixels.sum() == mask.area(runs)
        assert annotation["bbox"] == mask.toBbox(runs).tolist()
        plane = found.imgs[annotation["image_id"]].get("z", 0)
        items.append((plane, pixels, of["name"], of["color"], annotation["object"]))
    assert {c["id"]: c["name"] for c in found.cats.values()} == {
        n: c.name for n, c in enumerate(CLASSES, 1)
    }
    return _drawn(items, scene)


def rois(path: Path, scene: Scene) -> Back:
    roifile = pytest.importorskip("roifile")
    shapely = pytest.importorskip("shapely")
    from zipfile import ZipFile

    items = []
    if ZipFile(path).namelist():
        for roi in roifile.roiread(path):
            shape = shapely.Polygon()
            coordinates = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
            for ring in coordinates:
                shape = shape.symmetric_difference(shapely.Polygon(ring))
            number, name = roi.name.split("-", 1)
            if scene.image.axes == "CZYX":
                place, name = name.split("-", 1)
                assert place == f"z{roi.position:04d}"
            color = tuple(roi.stroke_color[1:])
            assert roi.stroke_color[0] == 255
            plane = max(roi.position - 1, 0)
            items.append((plane, _inside(shape, scene), name, color, int(number)))
    names = {c.name.replace('"', "_"): c.name for c in CLASSES}  # names of files in the zip
    return _drawn([(p, i, names[n], c, o) for p, i, n, c, o in items], scene)


def _inside(shape: Any, scene: Scene) -> np.ndarray:
    import shapely

    rows, columns = np.indices(scene.pixels.shape[-2:]) + 0.5
    return shapely.contains_xy(shape, columns, rows)


def _drawn(items: list[tuple[int, np.ndarray, str, Any, int]], scene: Scene) -> Back:
    """Outlines drawn again: pixels, and the class of each object where they are numbered."""
    pixels = np.zeros(scene.pixels.shape, int)
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    numbers = {c.name: n for n, c in enumerate(CLASSES, 1)}
    names, colors = {}, {}
    for plane, inside, name, color, number in items:
        assert not planes[plane][inside].any(), "no pixel is in two objects"
        shown = numbers[name] if scene.objects is None else number
        planes[plane][inside] = shown
        names[shown], colors[shown] = name, tuple(color)
    if not items:
        return Back(pixels)
    return Back(pixels, names=names, colors=colors)


def table(path: Path, scene: Scene) -> Back:
    from scipy import ndimage

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    objects = scene.objects
    if objects is None:
        objects, last = np.zeros(scene.mask.shape, int), 0
        for value in range(1, len(CLASSES) + 1):
            parts, n = ndimage.label(scene.mask == value, np.ones((3,) * scene.mask.ndim))
            objects[parts > 0] = parts[parts > 0] + last
            last += n
    assert len(rows) == len(np.unique(objects[objects > 0]))
    axes = scene.image.axes[1:].lower()
    intensities = np.asarray(scene.image.data).astype(float)
    for row in rows:
        first, last = ([int(row[f"bbox_{a}{end}"]) for a in axes] for end in "01")
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        # The number of the object that fills the box and has so many pixels of this class.
        here = [
            n
            for n in np.unique(objects[box])
            if n
            and (objects[box] == n).sum() == int(row["pixels"]) == (objects == n).sum()
            and _box(objects == n) == (first, last)
            and CLASSES[scene.mask[objects == n][0] - 1].name == row["class"]
        ]
        assert here
        if scene.objects is not None:
            assert here == [int(row["label"])]
        inside = objects == here[0]
        size = row["volume" if "z" in axes else "area"]
        spacing = scene.image.spacing
        assert row["unit"] == scene.image.unit
        assert float(size) == pytest.approx(inside.sum() * np.prod(spacing), rel=1e-6)
        for axis, index, step in zip(axes, np.nonzero(inside), spacing, strict=True):
            assert float(row[f"centroid_{axis}"]) == pytest.approx(index.mean() * step, rel=1e-6)
        for channel, values in enumerate(intensities):
            for name in ("mean", "min", "max"):
                wanted = getattr(values[inside], name)()
                assert float(row[f"{name}_{channel}"]) == pytest.approx(wanted, rel=1e-6)
    return Back()


def _box(inside: np.ndarray) -> tuple[list[int], list[int]]:
    places = np.nonzero(inside)
    return [int(p.min()) for p in places], [int(p.max()) + 1 for p in places]


READERS: dict[str, Callable[[Path, Scene], Back]] = {
    ".tif": tif,
    ".ome.tif": ome_tif,
    ".png": png,
    ".npy": npy,
    ".ome.zarr": zarr,
    ".zarr": zarr,
    ".nii.gz": nifti,
    ".nii": nifti,
    ".seg.nrrd": seg_nrrd,
    ".nrrd": plain_nrrd,
    ".dcm": dicom,
    ".geojson": geojson,
    ".coco.json": coco,
    ".roi.zip": rois,
    ".csv": table,
}
REFUSED = {
    (".png", "3-D anisotropic"): "PNG is flat",
    (".png", "rotated affine"): "PNG is flat",
    (".dcm", "RGB source"): "needs the DICOM series that the mask was made from",
}
# Names carry the number of the object where each number has a name of its own.
NUMBERED = (".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".dcm")


def make_series(folder: Path, scene: Scene) -> list[Path]:
    """A small DICOM series of the image's planes, where its affine says."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    planes = np.asarray(scene.image.data[0]).reshape(-1, *scene.mask.shape[-2:])
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    sizes = np.linalg.norm(scene.lps[:3, :3], axis=0)
    directions = scene.lps[:3, :3] / sizes
    files = []
    for k, plane in enumerate(planes):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientID, ds.PatientName, ds.Modality = "1", "Test", "CT"
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.StudyID = ""
        ds.StudyDate, ds.StudyTime, ds.ReferringPhysicianName = "20260101", "120000", ""
        ds.SeriesNumber, ds.InstanceNumber, ds.PositionReferenceIndicator = 3, k + 1, ""
        ds.ImageOrientationPatient = [float(v) for v in (*directions[:, 0], *directions[:, 1])]
        ds.ImagePositionPatient = [float(v) for v in (scene.lps @ (0, 0, k, 1))[:3]]
        ds.PixelSpacing, ds.SliceThickness = [float(sizes[1]), float(sizes[0])], float(sizes[2])
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.PixelData = plane.astype("<u2").tobytes()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        files.append(folder / f"{k:03d}.dcm")
        with warnings.catch_warnings():  # 1e-4 mm with all digits is longer than DICOM's 16 letters
            warnings.simplefilter("ignore")
            ds.save_as(files[-1], enforce_file_format=True)
    return files


def write(folder: Path, suffix: str, scene: Scene) -> Path:
    path = folder / f"mask{suffix}"
    if suffix == ".dcm" and scene.image.n_channels == 1:
        (folder / "series").mkdir()
        files = make_series(folder / "series", scene)
        content = make_content(path, scene.mask, scene.image, CLASSES, scene.objects)
        write_dicom_seg(path, content, overwrite=False, sources=files)
        return path
    return export_labels(path, scene.mask, scene.image, CLASSES, objects=scene.objects)


def test_every_format_is_in_the_table():
    assert {f.suffix for f in FORMATS} == READERS.keys()


# The libraries that read warn of what is theirs, such as names of numpy that are to go.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("suffix", READERS)
def test_what_is_written_comes_back(tmp_path, suffix, name):
    scene = SCENES[name]
    if library := format_of(f"mask{suffix}").needs:
        pytest.importorskip(library)
    if (suffix, name) in REFUSED:
        with pytest.raises(BadInput, match=REFUSED[suffix, name]):
            write(tmp_path, suffix, scene)
        assert not list(tmp_path.iterdir())
        return

    back = READERS[suffix](write(tmp_path, suffix, scene), scene)

    if back.pixels is not None:
        np.testing.assert_array_equal(back.pixels, scene.pixels)
    if back.spacing is not None:
        assert back.spacing == pytest.approx(scene.image.spacing, rel=1e-6)
    if back.lps is not None:
        np.testing.assert_allclose(back.lps, scene.lps, rtol=1e-6, atol=1e-6)
    present = {n: c for n, c in scene.class_of.items() if back.names and n in back.names}
    if back.names is not None:
        assert back.names.keys() >= set(np.unique(scene.pixels[scene.pixels > 0]).tolist())
        own = scene.objects is not None and suffix in NUMBERED
        wanted = {n: f"{c.name} {n}" if own else c.name for n, c in present.items()}
        assert back.names == wanted
    if back.colors is not None:
        for number, of in present.items():
            difference = np.subtract(back.colors[number], rgb(of.color))
            assert np.abs(difference).max() <= back.tolerance
