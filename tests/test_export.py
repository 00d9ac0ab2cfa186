"""Masks and probabilities leave as files other programs open, whole or not at all."""

import errno
import gzip
import json
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow
from scans import TILTED, in_itk_order, volume, write_file, write_series

from napari_unet.config import class_table
from napari_unet.export import describe, export_labels, export_probabilities, raster
from napari_unet.formats.dicom import series_files
from napari_unet.io import Image, as_image, read_image
from napari_unet.masks import read_mask
from napari_unet.run import BadInput

OTHERS = (".nii.gz", ".nrrd", ".seg.nrrd", ".geojson", ".coco.json", ".roi.zip", ".csv")
STACKS = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".npy", ".zarr")


def names_in(folder: Path) -> list[str]:
    return [item.name for item in folder.iterdir()]


def needs(name: str) -> None:
    """Skip where the library that writes a format is not installed."""
    for suffix, library in ((".nii.gz", "nibabel"), (".nii", "nibabel"), (".roi.zip", "roifile")):
        if name.endswith(suffix):
            pytest.importorskip(library)
    if name.endswith(".dcm"):
        pytest.importorskip("highdicom")


def labels(*shape: int, highest: int = 3) -> np.ndarray:
    mask = np.random.default_rng(0).integers(0, 4, shape).astype(np.int64)
    mask.flat[0] = highest
    return mask


def image(*shape: int) -> Image:
    axes = {2: "YX", 3: "ZYX", 4: "TZYX"}[len(shape)]
    plain = as_image(
        np.zeros(shape, np.uint8), axes, spacing=(2.0, 0.5, 0.25)[-min(len(shape), 3) :]
    )
    return Image(plain.data, plain.axes, "a", axes, plain.spacing, "micrometer")


@pytest.mark.parametrize("suffix", [*STACKS, ".png"])
@pytest.mark.parametrize("wrap", [np.asarray, da.asarray])
@pytest.mark.parametrize("like", [None, image(50, 40)])
def test_a_mask_comes_back_as_it_left(tmp_path, suffix, wrap, like):
    mask = labels(50, 40)

    path = export_labels(tmp_path / f"a{suffix}", wrap(mask), like)

    assert path == tmp_path / f"a{suffix}"
    np.testing.assert_array_equal(read_mask(path), mask)
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", STACKS)
@pytest.mark.parametrize("shape", [(5, 50, 40), (3, 5, 50, 40)])
def test_stacks_come_back_as_they_left(tmp_path, suffix, shape):
    path = export_labels(tmp_path / f"a{suffix}", labels(*shape), like=image(*shape))

    np.testing.assert_array_equal(read_mask(path), labels(*shape))


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32"), (2**32 - 1, "uint32")],
)
def test_the_smallest_type_that_holds_all_labels(tmp_path, suffix, highest, dtype):
    path = export_labels(tmp_path / f"a{suffix}", labels(50, 40, highest=highest))

    assert read_mask(path).dtype == dtype
    assert read_mask(path).max() == highest


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_axes_and_pixel_size_are_those_of_the_image(tmp_path, suffix):
    path = export_labels(tmp_path / f"a{suffix}", labels(5, 50, 40), like=image(5, 50, 40))

    back = read_image(path)

    assert (back.axes, back.spacing, back.unit) == ("CZYX", (2.0, 0.5, 0.25), "micrometer")


@pytest.mark.parametrize("export", [export_labels, export_probabilities])
def test_a_zarr_lies_where_its_image_does(tmp_path, export):
    like = replace(image(5, 1100, 40), offset=(0.0, 10.5, -3.25))
    shape = (5, 1100, 40) if export is export_labels else (1, 5, 1100, 40)

    path = export(tmp_path / "a.zarr", np.zeros(shape, np.uint8), like)

    assert read_image(path).offset == like.offset
    (about,) = zarr.open_group(path, mode="r").attrs["multiscales"]
    assert len(about["datasets"]) > 1
    for level in about["datasets"]:  # each has kept the first pixel
        _, move = level["coordinateTransformations"]
        assert move == {
            "type": "translation",
            "translation": [0.0] * (len(shape) - 2) + [10.5, -3.25],
        }


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
@pytest.mark.parametrize(("unit", "named"), [("nm", "nanometer"), ("centimeter", "centimeter")])
def test_a_unit_comes_back_by_its_full_name(tmp_path, suffix, unit, named):
    like = replace(image(50, 40), unit=unit)

    path = export_labels(tmp_path / f"a{suffix}", labels(50, 40), like)

    back = read_image(path)
    assert (back.spacing, back.unit) == ((0.5, 0.25), named)
    if suffix == ".ome.tif":
        with tifffile.TiffFile(path) as tiff:
            pixels, length = tiff.pages[0].tags["XResolution"].value
        per_centimeter = {"nanometer": 4e7, "centimeter": 4.0}[named]
        assert pixels / length == pytest.approx(per_centimeter)


def test_a_plain_tiff_keeps_its_axes(tmp_path):
    like = as_image(np.zeros((5, 50, 40)), "TYX")

    path = export_labels(tmp_path / "a.tif", labels(5, 50, 40), like)

    assert read_image(path).axes == "CTYX"


def test_tiffs_are_compressed_and_large_ones_tiled(tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "_TILED_FROM", 1000)
    mask = labels(2, 1300, 700)

    path = export_labels(tmp_path / "a.tif", da.asarray(mask, chunks=300), overwrite=False)

    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].tile == (256, 256)
        assert tiff.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        np.testing.assert_array_equal(tiff.asarray(), mask)


@pytest.mark.parametrize(
    ("suffix", "shape", "count"),
    [
        (".tif", (2100, 2300), 3),
        (".ome.tif", (2100, 2300), 3),
        (".ome.tif", (2, 2100, 2300), 3),
        (".tif", (2, 2100, 2300), 1),  # programs would take its levels for further stacks
    ],
)
def test_large_tiffs_have_smaller_levels(tmp_path, suffix, shape, count):
    mask = np.zeros(shape, np.uint8)
    mask[..., 100:1500, 300:2290] = 2

    path = export_labels(tmp_path / f"a{suffix}", da.from_array(mask, chunks=700))

    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert len(tiff.series) == 1
        shapes = [(2100, 2300), (1050, 1150), (525, 575)]
        assert [level.shape[-2:] for level in levels] == shapes[:count]
        for k, level in enumerate(levels):
            np.testing.assert_array_equal(level.asarray(), mask[..., :: 2**k, :: 2**k])


def test_large_zarrs_have_smaller_levels(tmp_path):
    mask = np.zeros((2, 1101, 2049), np.uint16)
    mask[:, 100:900, 300:2049] = 300
    like = image(2, 1101, 2049)

    path = export_labels(tmp_path / "a.ome.zarr", da.from_array(mask, chunks=700), like)

    group = zarr.open_group(path, mode="r")
    (about,) = group.attrs["multiscales"]
    assert [level["path"] for level in about["datasets"]] == ["0", "1", "2"]
    for k, level in enumerate(about["datasets"]):
        np.testing.assert_array_equal(group[level["path"]][:], mask[:, :: 2**k, :: 2**k])
        scale = level["coordinateTransformations"][0]["scale"]
        assert scale == [2.0, 0.5 * 2**k, 0.25 * 2**k]


@pytest.mark.parametrize("suffix", OTHERS)
@pytest.mark.parametrize("numbered", [True, False])
def test_a_lazy_mask_is_written_as_one_in_memory(tmp_path, suffix, numbered):
    needs(suffix)
    mask = labels(2, 1100, 40) * (np.indices((2, 1100, 40)).sum(axis=0) % 7 > 3)
    numbers = mask * 1000 if numbered else None
    lazy = [None if a is None else da.from_array(a, chunks=(1, 500, 30)) for a in (mask, numbers)]

    plain = export_labels(tmp_path / f"plain{suffix}", mask, objects=numbers)
    other = export_labels(tmp_path / f"lazy{suffix}", lazy[0], objects=lazy[1])

    if suffix == ".roi.zip":
        archives = [zipfile.ZipFile(path) for path in (plain, other)]
        files = [{name: one.read(name) for name in one.namelist()} for one in archives]
        assert files[0] == files[1]
    elif suffix == ".nii.gz":
        assert gzip.decompress(plain.read_bytes()) == gzip.decompress(other.read_bytes())
    else:
        assert plain.read_bytes() == other.read_bytes()


def film() -> np.ndarray:
    """A pixel in every plane of a volume over time: 2 times, 3 slices."""
    mask = np.zeros((2, 3, 5, 6), np.uint8)
    for t, z in np.ndindex(2, 3):
        mask[t, z, t, z] = 1
    return mask


def test_outlines_say_their_time_and_slice(tmp_path):
    for suffix in (".geojson", ".coco.json"):
        export_labels(tmp_path / f"a{suffix}", film())

    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    found = json.loads((tmp_path / "a.coco.json").read_text())
    images = {image["id"]: (image["t"], image["z"]) for image in found["images"]}
    places = [images[annotation["image_id"]] for annotation in found["annotations"]]
    corners = [annotation["bbox"][:2] for annotation in found["annotations"]]
    assert [f["geometry"]["plane"] for f in features] == [
        {"c": -1, "z": z, "t": t} for t, z in np.ndindex(2, 3)
    ]
    assert [f["geometry"]["coordinates"][0][0] for f in features] == [
        [z, t + 1] for t, z in np.ndindex(2, 3)
    ]
    assert places == list(np.ndindex(2, 3))
    assert corners == [[z, t] for t, z in np.ndindex(2, 3)]


def test_regions_of_imagej_lie_in_their_time_and_slice(tmp_path):
    roifile = pytest.importorskip("roifile")

    path = export_labels(tmp_path / "a.roi.zip", film())

    found = [(r.t_position - 1, r.z_position - 1, r.left, r.top) for r in roifile.roiread(path)]
    assert found == [(t, z, z, t) for t, z in np.ndindex(2, 3)]


def test_time_is_the_last_axis_of_medical_formats(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nrrd = pytest.importorskip("nrrd")

    files = [export_labels(tmp_path / f"a{suffix}", film()) for suffix in (".nii", ".nrrd")]

    for data in (np.asarray(nibabel.load(files[0]).dataobj), nrrd.read(str(files[1]))[0]):
        assert data.shape == (6, 5, 3, 2)
        np.testing.assert_array_equal(data.T, film())


def test_a_nrrd_says_which_axis_is_time_and_itk_reads_it(tmp_path):
    nrrd, itk = pytest.importorskip("nrrd"), pytest.importorskip("SimpleITK")

    path = export_labels(tmp_path / "a.nrrd", film())

    assert nrrd.read_header(str(path))["labels"] == ["x", "y", "z", "time"]
    found = itk.GetArrayFromImage(itk.ReadImage(str(path)))  # times are the components of a voxel
    np.testing.assert_array_equal(np.moveaxis(found, -1, 0), film())


def test_objects_need_no_classes(tmp_path):
    numbers = np.array([[7, 0, 9]])

    path = export_labels(tmp_path / "a.geojson", None, objects=numbers)

    found = [f["properties"] for f in json.loads(path.read_text())["features"]]
    assert found == [{"objectType": "detection", "name": n} for n in ("7", "9")]


def test_names_of_classes_are_enough(tmp_path):
    mask = np.array([[0, 1, 2]])

    named, known = (
        export_labels(tmp_path / f"{name}.geojson", mask, classes=classes).read_text()
        for name, classes in (
            ("named", ["nucleus", "gland"]),
            ("known", class_table(["nucleus", "gland"])),
        )
    )

    assert "nucleus" in named
    assert named == known


@pytest.mark.parametrize(("highest", "kind"), [(254, "annotation"), (255, "detection")])
def test_more_numbers_than_there_can_be_classes_are_objects(tmp_path, highest, kind):
    path = export_labels(tmp_path / "a.geojson", np.array([[1, 0, highest]]))

    found = json.loads(path.read_text())["features"]
    assert [f["properties"]["objectType"] for f in found] == [kind] * 2


def test_png_shows_the_classes_in_their_colours(tmp_path):
    classes = class_table(["nucleus", "gland", "stroma"])

    export_labels(tmp_path / "a.png", np.array([[0, 1], [2, 3]]), classes=classes)

    with Pillow.open(tmp_path / "a.png") as picture:
        shown = np.asarray(picture.convert("RGB")).reshape(4, 3).tolist()
    wanted = [list(bytes.fromhex(c.color[1:])) for c in classes]
    assert shown == [[0, 0, 0], *wanted]


@pytest.mark.parametrize("shape", [(1, 50, 40), (1, 1, 50, 40)])
def test_a_png_takes_a_stack_of_one_plane(tmp_path, shape):
    mask = labels(*shape)

    path = export_labels(tmp_path / "a.png", mask, image(*shape))

    with Pillow.open(path) as picture:
        np.testing.assert_array_equal(np.array(picture), mask.reshape(50, 40))
    assert describe("a.png", shape, image(*shape)).startswith("uint8, ")


def test_png_of_many_labels_is_grey_of_16_bits(tmp_path):
    export_labels(tmp_path / "a.png", labels(50, 40, highest=1000))

    with Pillow.open(tmp_path / "a.png") as picture:
        assert picture.mode == "I;16"
    assert read_mask(tmp_path / "a.png").max() == 1000


def test_zarr_is_ome_zarr_that_others_read(tmp_path):
    export_labels(tmp_path / "a.zarr", labels(5, 50, 40), like=image(5, 50, 40))

    group = zarr.open_group(tmp_path / "a.zarr", mode="r")

    assert group.attrs["multiscales"][0]["version"] == "0.4"
    assert group["0"].shape == (5, 50, 40)


@pytest.mark.parametrize("suffix", STACKS)
@pytest.mark.parametrize("shape", [(50, 40), (5, 50, 40)])
def test_probabilities_are_float32_with_classes_first(tmp_path, suffix, shape):
    values = np.random.default_rng(0).random((3, *shape))

    path = export_probabilities(tmp_path / f"a{suffix}", values, like=image(*shape))

    axes = "CYX" if len(shape) == 2 else "CZYX"
    back = read_image(path, axes=axes)
    assert (back.axes, back.data.dtype) == (axes, np.float32)
    np.testing.assert_array_equal(np.asarray(back.data), values.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "mask", "options", "sentence"),
    [
        ("a.jpg", labels(9, 9), {}, r"a\.jpg is of no kind written here: end its name in \.tif"),
        ("a", labels(9, 9), {}, "is of no kind written here"),
        ("a.png", labels(3, 9, 9), {}, "cannot hold a stack, PNG is flat: choose"),
        ("a.png", labels(9, 9, highest=70000), {}, "cannot hold labels above 65535: choose"),
        ("a.tif", labels(9, 9, highest=2**40), {}, "cannot hold the labels 0 to 1099511627776"),
        ("a.tif", labels(9, 9, highest=-1), {}, "cannot hold the labels -1 to 3"),
        ("a.tif", np.zeros((9, 9)), {}, "is to hold labels, not float64: give an integer mask"),
        ("a.tif", labels(9), {}, "give 2 to 4 spatial axes"),
        ("a.tif", np.zeros((0, 9), int), {}, "give 2 to 4 spatial axes"),
        ("a.tif", labels(9, 9), {"like": image(9, 8)}, r"but its image a has \(9, 8\)"),
        ("a.csv", labels(9, 9), {"objects": labels(9, 8)}, "give arrays of one shape"),
        ("a.csv", None, {}, "there are none: give a mask or objects"),
        ("a.csv", None, {"objects": np.ones((9, 9))}, "is to hold labels, not float64"),
        ("a.seg.nrrd", labels(2, 3, 9, 9), {}, "cannot hold time points: choose"),
        ("a.roi.zip", np.zeros((1, 40000), int), {}, "regions beyond pixel 32767"),
        ("a.nii", np.zeros((1, 40000), int), {}, "cannot hold 40000 pixels along an axis"),
        ("a.dcm", labels(9, 9), {"like": image(9, 9)}, "needs the DICOM series"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(
    tmp_path, name, mask, options, sentence
):
    needs(name)

    with pytest.raises(BadInput, match=sentence):
        export_labels(tmp_path / name, mask, **options)

    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("suffix", "library"),
    [(".nii", "nibabel"), (".dcm", "highdicom"), (".roi.zip", "roifile")],
)
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, suffix, library):
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / f"a{suffix}"

    for act in (lambda: export_labels(path, labels(9, 9)), lambda: describe(path, (9, 9))):
        with pytest.raises(BadInput, match=rf'needs {library}: pip install "napari-unet\[form'):
            act()


@pytest.mark.parametrize(
    ("name", "shape", "options", "line"),
    [
        ("a.npy", (22, 320, 280), {}, "uint8, ZYX 22 x 320 x 280, about 2.0 MB, one file"),
        ("a.tif", (30, 40), {"objects": 300}, "uint16, YX 30 x 40, about 1 kB, one file"),
        (
            "a.ome.zarr",
            (20000, 20000),
            {"highest": 70000},
            "uint32, YX 20000 x 20000, 6 levels, about 0.2 GB, one folder",
        ),
        (
            "a.geojson",
            (20000, 20000),
            {"objects": 50000},
            "outlines of 50,000 objects, YX 20000 x 20000, about 0.1 GB, one file",
        ),
        ("a.csv", (9, 9), {}, "measurements of each connected part, YX 9 x 9, one file"),
        ("a.npy", (5, 9, 9), {"like": as_image(np.zeros((5, 9, 9)), "TYX")}, "uint8, TYX 5 x 9"),
    ],
)
def test_what_will_be_written_is_told_in_a_line(name, shape, options, line):
    assert describe(name, shape, **options).startswith(line)


def test_what_will_be_refused_is_told_beforehand():
    with pytest.raises(BadInput, match="PNG is flat"):
        describe("a.png", (5, 20, 30))


@pytest.mark.parametrize("one_file", [False, True], ids=["folder", "one of its files"])
def test_a_mask_of_a_tilted_series_lies_on_its_source(tmp_path, one_file):
    """Each segment frame names the file that it lies on; NIfTI has the matrix of the series."""
    highdicom = pytest.importorskip("highdicom")
    nibabel = pytest.importorskip("nibabel")
    study = {"StudyInstanceUID": "1.2", "FrameOfReferenceUID": "1.4", "Modality": "MR"}
    files = write_series(tmp_path / "in", volume(3, 9, 7), along=TILTED, **study)
    source = read_image(files[1] if one_file else tmp_path / "in")
    mask = np.zeros((3, 9, 7), np.uint8)
    mask[0, 2, 3], mask[1, 4:6, 1], mask[2, 8, 6] = 1, 2, 1

    export_labels(tmp_path / "a.dcm", mask, source, class_table(["node", "vessel"]))
    export_labels(tmp_path / "a.nii", mask, source)

    read = highdicom.seg.segread(tmp_path / "a.dcm")
    assert [s.SegmentLabel for s in read.SegmentSequence] == ["node", "vessel"]
    planes = [pydicom_uid(file) for file in series_files(tmp_path / "in")]
    back = read.get_pixels_by_source_instance(planes, combine_segments=True)
    assert np.array_equal(back, mask)
    to_ras = np.diag([-1.0, -1, 1, 1]) @ in_itk_order(source.affine)
    assert np.allclose(nibabel.load(tmp_path / "a.nii").affine, to_ras, atol=1e-6)


@pytest.mark.parametrize("one_file", [False, True], ids=["folder", "its file"])
def test_a_dicom_file_of_frames_is_refused_beforehand(tmp_path, one_file):
    pytest.importorskip("highdicom")
    (tmp_path / "in").mkdir()
    file = write_file(tmp_path / "in" / "a.dcm", volume(4, 8, 6), NumberOfFrames=4)
    source = read_image(file if one_file else file.parent)
    sentence = "whose planes are frames of one file: .*; choose .nii.gz or .nrrd"

    with pytest.raises(BadInput, match=sentence):
        describe(tmp_path / "b.dcm", (4, 8, 6), source)
    with pytest.raises(BadInput, match=sentence):
        export_labels(tmp_path / "b.dcm", labels(4, 8, 6), source)


def test_a_file_of_frames_among_others_is_refused_when_it_is_written(tmp_path):
    pytest.importorskip("highdicom")
    write_file(tmp_path / "a.dcm", volume(4, 8, 6), NumberOfFrames=4)
    for number in range(1, 5):
        write_file(tmp_path / f"{number}.dcm", volume(8, 6), number=number)
    source = replace(image(4, 8, 6), path=tmp_path)

    with pytest.raises(BadInput, match=r"a\.dcm, whose planes are frames of one file"):
        export_labels(tmp_path / "b.dcm", labels(4, 8, 6), source)


def test_a_dicom_series_in_time_is_refused_beforehand(tmp_path):
    pytest.importorskip("highdicom")
    for number, (time, z) in enumerate(np.ndindex(2, 3)):
        place = {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        write_file(tmp_path / f"{time}{z}.dcm", volume(8, 6), number=number, **place)
    source = read_image(tmp_path)

    with pytest.raises(BadInput, match="cannot hold time points: choose"):
        describe(tmp_path / "b.dcm", source.spatial_shape, source)


def pydicom_uid(file: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def test_probabilities_do_not_fit_a_png(tmp_path):
    with pytest.raises(BadInput, match="is of no kind written here"):
        export_probabilities(tmp_path / "a.png", np.zeros((2, 9, 9)))


@pytest.mark.parametrize("suffix", OTHERS)
def test_other_formats_are_not_overwritten_unasked(tmp_path, suffix):
    needs(suffix)
    path = export_labels(tmp_path / f"a{suffix}", labels(50, 40))
    before = path.read_bytes()

    with pytest.raises(BadInput, match="exists already"):
        export_labels(path, labels(50, 40) * 0)
    assert path.read_bytes() == before

    export_labels(path, labels(50, 40) * 0, overwrite=True)
    assert path.read_bytes() != before
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [*STACKS, ".png"])
def test_nothing_is_overwritten_unasked(tmp_path, suffix):
    path = export_labels(tmp_path / f"a{suffix}", labels(50, 40))

    with pytest.raises(BadInput, match="exists already"):
        export_labels(path, labels(50, 40) * 0)
    np.testing.assert_array_equal(read_mask(path), labels(50, 40))

    export_labels(path, labels(50, 40) * 0, overwrite=True)
    assert read_mask(path).max() == 0


@pytest.mark.parametrize("suffix", [*STACKS, ".png", *OTHERS])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch, suffix):
    needs(suffix)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(BadInput, match="could not be written: the disk is full"):
        export_labels(tmp_path / f"a{suffix}", labels(50, 40))

    assert names_in(tmp_path) == []


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".npy", ".png"])
def test_a_file_that_may_not_grow_is_told_and_leaves_nothing(tmp_path, suffix):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    mask = np.random.default_rng(0).integers(0, 255, (600, 600)).astype(np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(BadInput, match="could not be written"):
            export_labels(tmp_path / f"a{suffix}", mask)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert names_in(tmp_path) == []
