"""Whole slides and pyramids: the main image and its levels, read where they are looked at."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tifffile
import zarr
from scans import write_file

from napari_unet.formats import raw as raw_room
from napari_unet.formats import read_raw
from napari_unet.io import list_images, read_image
from napari_unet.run import BadInput

APERIO = "Aperio Image Library v11.2.1\r\n1000x700 (256x256) JPEG/RGB Q=90|AppMag = 20|MPP = 0.25"


def tissue(height: int = 700, width: int = 1000, dtype: str = "uint8") -> np.ndarray:
    """Colours that change slowly, so that JPEG keeps them."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 200, y % 150, (x + y) % 220], -1).astype(dtype)


def write_slide(file, description: str = APERIO, **options):
    """A pyramid as a scanner writes it: tiles, a thumbnail among the levels, a coarser level."""
    tiles = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(tissue(), description=description, **(tiles | options))
        tiff.write(tissue()[::10, ::10], photometric="rgb", description=description, metadata=None)
        small = np.ascontiguousarray(tissue()[::4, ::4])
        tiff.write(small, description=description, **(tiles | options))
    return file


@pytest.fixture
def openslide():
    return pytest.importorskip("openslide")


def test_a_slide_has_its_levels_its_pixel_size_and_the_pixels_that_openslide_reads(
    tmp_path, openslide
):
    file = write_slide(tmp_path / "a.svs")

    image = read_image(file)

    assert (image.axes, image.unit, image.spacing) == ("CYX", "micrometer", (0.25, 0.25))
    assert image.spatial_shape == (700, 1000)
    assert [level.shape for level in image.coarser] == [(3, 175, 250)]
    assert hasattr(image.data, "dask")
    slide = openslide.OpenSlide(str(file))
    for number, level in enumerate((image.data, *image.coarser)):
        whole = slide.read_region((0, 0), number, slide.level_dimensions[number])
        np.testing.assert_array_equal(level.transpose(1, 2, 0), np.asarray(whole)[..., :3])


@pytest.mark.parametrize(
    "part",
    [
        np.s_[:, 300:420, 250:260],
        np.s_[0, 5, 7],
        np.s_[:, ::3, 900::7],
        np.s_[1, -4:, 3],
        np.s_[:, 8:8, :],
    ],
)
def test_any_part_of_a_slide_can_be_read(tmp_path, openslide, part):
    image = read_image(write_slide(tmp_path / "a.svs"))
    whole = np.asarray(image.data)

    np.testing.assert_array_equal(np.asarray(image.data[part]), whole[part])


def test_without_openslide_a_slide_that_is_a_tiff_is_read_all_the_same(tmp_path, monkeypatch):
    file = write_slide(tmp_path / "a.svs")
    monkeypatch.setitem(sys.modules, "openslide", None)

    image = read_image(file)

    assert image.spatial_shape == (700, 1000)
    assert image.spacing == (0.25, 0.25)
    assert image.unit == "micrometer"


@pytest.mark.parametrize("name", ["a.mrxs", "a.vms"])
def test_without_openslide_other_slides_say_how_to_get_it(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"\xff\xd8\xff")
    monkeypatch.setitem(sys.modules, "openslide", None)

    with pytest.raises(BadInput, match=r"is a whole slide and needs openslide: pip install"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.svs", "a.ndpi", "a.mrxs", "a.scn"])
@pytest.mark.parametrize("content", [b"", b"IJrEnonsense" * 50, b"\xff\xd8\xff\xe0", b"II*\0\x08"])
def test_what_is_no_slide_is_refused_in_a_sentence(tmp_path, openslide, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadInput, match=r"cannot be read|not an image of a kind") as refusal:
        read_image(tmp_path / name)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_slide_that_is_cut_short_is_refused_or_told_when_it_is_met(tmp_path, openslide, share):
    file = write_slide(tmp_path / "a.svs")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(BadInput, match="cannot be read, it is damaged"):
        np.asarray(read_image(file).data)


def test_damage_within_a_slide_is_told_when_it_is_met(tmp_path, openslide):
    file = write_slide(tmp_path / "a.svs")
    with tifffile.TiffFile(file) as tiff:
        offset, count = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    damaged = bytearray(file.read_bytes())
    damaged[offset : offset + count] = b"\xaa" * count
    file.write_bytes(damaged)

    image = read_image(file)

    with pytest.raises(BadInput, match=r"a\.svs cannot be read, it is damaged"):
        np.asarray(image.data)


def test_absurd_tiles_are_refused_before_openslide_sees_them(tmp_path, openslide):
    file = write_slide(tmp_path / "a.svs")
    with tifffile.TiffFile(file, mode="r+") as tiff:
        tiff.pages[2].tags["TileLength"].overwrite(2**30)

    with pytest.raises(BadInput, match=r"a\.svs cannot be read, .* .it claims tiles of"):
        read_image(file)


def test_absurd_tiles_of_dicom_are_refused_before_openslide_sees_them(tmp_path, openslide):
    pytest.importorskip("pydicom")
    file = write_dicom_slide(tmp_path / "a.dcm", Rows=60_000, Columns=60_000)

    with pytest.raises(BadInput, match=r"a\.dcm cannot be read, .* .it claims tiles of"):
        read_image(file)


# ---- DICOM


WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def write_dicom_slide(file, **tags):
    """Tiles of 64 pixels in rows, as far as the last."""
    from pydicom.dataset import Dataset

    sizes, shared = Dataset(), Dataset()
    sizes.PixelSpacing = [0.0005, 0.00025]
    shared.PixelMeasuresSequence = [sizes]
    tiles = tissue(704, 1024).reshape(11, 64, 16, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    about = {
        "kind": WHOLE_SLIDE,
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "NumberOfFrames": len(tiles),
        "TotalPixelMatrixRows": 700,
        "TotalPixelMatrixColumns": 1000,
        "DimensionOrganizationType": "TILED_FULL",
        "SharedFunctionalGroupsSequence": [shared],
        "PixelSpacing": None,
    }
    return write_file(file, tiles, **(about | tags))


@pytest.mark.parametrize("given", ["file", "folder"])
def test_a_slide_of_dicom(tmp_path, openslide, given):
    pytest.importorskip("pydicom")
    (tmp_path / "slide").mkdir()
    file = write_dicom_slide(tmp_path / "slide" / "a.dcm")

    image = read_image(file if given == "file" else file.parent)

    assert image.spacing == pytest.approx((0.5, 0.25))
    assert image.unit == "micrometer"
    np.testing.assert_array_equal(
        image.data[:, 60:200, 600:].compute(), tissue()[60:200, 600:].transpose(2, 0, 1)
    )


def test_a_slide_of_dicom_that_lacks_what_it_has_to_say_is_refused(tmp_path, openslide):
    pytest.importorskip("pydicom")
    file = write_dicom_slide(tmp_path / "a.dcm", ImageType=None)

    with pytest.raises(BadInput, match=r"a\.dcm cannot be read, .* .OpenSlide says: "):
        read_image(file)


# ---- TIFF


def test_a_pyramid_of_stains_keeps_their_values_and_its_levels(tmp_path):
    stains = np.random.default_rng(0).integers(0, 60_000, (4, 512, 768)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.qptiff", ome=True) as tiff:
        options = {"tile": (128, 128), "photometric": "minisblack"}
        metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tiff.write(stains, subifds=2, metadata=metadata, **options)
        for step in (2, 4):
            tiff.write(stains[:, ::step, ::step], subfiletype=1, **options)

    image = read_image(tmp_path / "a.qptiff")

    assert (image.axes, image.data.dtype, image.spacing) == ("CYX", "uint16", (0.5, 0.5))
    assert [level.shape for level in image.coarser] == [(4, 256, 384), (4, 128, 192)]
    np.testing.assert_array_equal(image.data[:, 100:300, 5:9].compute(), stains[:, 100:300, 5:9])
    np.testing.assert_array_equal(image.coarser[1].compute(), stains[:, ::4, ::4])


def test_levels_of_a_pyramid_with_alpha_lose_it_as_well(tmp_path):
    opaque = np.dstack([tissue(512, 512), np.full((512, 512), 255, np.uint8)])
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        options = {"tile": (128, 128), "photometric": "rgb", "extrasamples": ["unassalpha"]}
        tiff.write(opaque, subifds=1, **options)
        tiff.write(np.ascontiguousarray(opaque[::2, ::2]), subfiletype=1, **options)

    image = read_image(tmp_path / "a.tif")

    assert image.data.shape == (3, 512, 512)
    assert [level.shape for level in image.coarser] == [(3, 256, 256)]


def test_a_file_of_a_pyramid_is_closed_with_its_last_level(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        options = {"tile": (128, 128), "compression": "zlib"}
        tiff.write(tissue(512, 512)[..., 0], subifds=1, **options)
        tiff.write(tissue(256, 256)[..., 0], subfiletype=1, **options)

    level = read_image(tmp_path / "a.tif").coarser[0]

    np.testing.assert_array_equal(level[0].compute(), tissue(256, 256)[..., 0])


@pytest.mark.parametrize("first", ["thumbnail", "image"])
def test_of_an_image_and_its_thumbnail_the_image_is_read(tmp_path, first):
    image, thumbnail = tissue(300, 400, "uint16")[..., 0], tissue(30, 40)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for name in [first, *({"thumbnail", "image"} - {first})]:
            if name == "image":
                tiff.write(image, metadata=None)
            else:
                tiff.write(thumbnail, photometric="rgb", metadata=None)

    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").data, image)


@pytest.mark.parametrize(("per_centimetre", "size"), [(20_000, 0.5), (28.35, None)])
def test_pixels_in_a_centimetre_count_where_they_are_not_those_of_paper(
    tmp_path, per_centimetre, size
):
    options = {
        "tile": (128, 128),
        "resolution": (per_centimetre, per_centimetre),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
    }
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(tissue(512, 512)[..., 0], subifds=1, **options)
        tiff.write(tissue(256, 256)[..., 0], subfiletype=1, **options)

    raw = read_raw(tmp_path / "a.tif")

    assert raw.spacing == ({} if size is None else pytest.approx({"Y": size, "X": size}))
    assert raw.unit == ("pixel" if size is None else "micrometer")


# ---- OME-Zarr


def write_ome_zarr(path, version: int, data: np.ndarray, extra: float | None = None):
    steps = (1, 2)
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 2.0, 0.5 * s, 0.25 * s]},
                {"type": "translation", "translation": [0, 0, 0, 0]},
            ],
        }
        for i, s in enumerate(steps)
    ]
    kinds = {"c": {"type": "channel"}} | {a: {"type": "space", "unit": "micrometer"} for a in "zyx"}
    scales = {"datasets": datasets, "axes": [{"name": n} | kind for n, kind in kinds.items()]}
    if extra:
        whole = {"type": "scale", "scale": [1, extra, extra, extra]}
        scales["coordinateTransformations"] = [whole]
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == 4 else 3)
    for i, step in enumerate(steps):
        group.create_array(str(i), data=data[..., ::step, ::step], chunks=(1, 1, 32, 32))
    group.attrs.update(
        {"multiscales": [scales]}
        if version == 4
        else {"ome": {"version": "0.5", "multiscales": [scales]}}
    )
    return path


@pytest.mark.parametrize("version", [4, 5])
def test_ome_zarr_offers_its_levels(tmp_path, version):
    data = np.random.default_rng(0).integers(0, 9, (2, 3, 64, 96)).astype(np.uint8)

    image = read_image(write_ome_zarr(tmp_path / "a.ome.zarr", version, data))

    assert (image.axes, image.spacing, image.name) == ("CZYX", (2, 0.5, 0.25), "a")
    np.testing.assert_array_equal(image.data.compute(), data)
    np.testing.assert_array_equal(image.coarser[0].compute(), data[..., ::2, ::2])


def test_a_scale_of_all_levels_counts_as_well(tmp_path):
    data = np.ones((1, 3, 64, 96), np.uint8)

    image = read_image(write_ome_zarr(tmp_path / "a.zarr", 4, data, extra=10.0))

    assert image.spacing == (20, 5, 2.5)
    assert image.coarser[0].shape == (1, 3, 32, 48)


@pytest.mark.parametrize("version", [4, 5])
def test_a_plate_asks_for_one_field_and_that_is_read(tmp_path, version):
    def note(group, **values):
        group.attrs.update(values if version == 4 else {"ome": values})

    data = np.ones((1, 1, 32, 32), np.uint8)
    kind = 2 if version == 4 else 3
    plate = zarr.open_group(tmp_path / "p.zarr", mode="w", zarr_format=kind)
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}, {"path": "A/2"}]
    note(plate, plate={"wells": wells, "rows": [], "columns": []})
    note(plate.create_group("A/1"), well={"images": [{"path": "0"}, {"path": "1"}]})
    write_ome_zarr(tmp_path / "p.zarr" / "A" / "1" / "0", version, data)

    with pytest.raises(BadInput, match=r"p\.zarr holds 2 wells: give one field, such as") as told:
        read_image(tmp_path / "p.zarr")
    field = str(told.value).rpartition(" such as ")[2].rstrip(".")
    assert read_image(field).spatial_shape == (1, 32, 32)[-2:]
    with pytest.raises(BadInput, match=r"holds 2 fields of a well: give one field, such as"):
        read_image(tmp_path / "p.zarr" / "A" / "1")


def test_a_folder_lists_slides(tmp_path):
    write_slide(tmp_path / "a.svs")
    write_ome_zarr(tmp_path / "b.ome.zarr", 5, np.ones((1, 1, 32, 32), np.uint8))
    (tmp_path / "c.mrxs").write_bytes(b"\xff\xd8")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "Slidedat.ini").write_text("")

    assert [p.name for p in list_images(tmp_path)] == ["a.svs", "b.ome.zarr", "c.mrxs"]


def test_a_large_pyramid_is_opened_without_reading_it(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 1)
    file = write_slide(tmp_path / "a.tif", description="scanner")

    image = read_image(file)

    assert hasattr(image.data, "dask")
    assert image.data[:, 100:110, 100:110].compute().shape == (3, 10, 10)


@pytest.mark.usefixtures("openslide")
def test_of_a_canvas_that_is_empty_for_the_most_part_only_what_was_scanned_is_read():
    from napari_unet.formats.slides import _Level

    canvas = np.random.default_rng(0).integers(0, 255, (80, 100, 4)).astype(np.uint8)
    canvas[..., 3] = 255

    class Slide:
        """What OpenSlide tells of a slide of MIRAX: where on the canvas it was scanned."""

        level_dimensions = ((100, 80), (50, 40))
        level_downsamples = (1.0, 2.0)

        def __init__(self):
            bounds = {"x": 20, "y": 10, "width": 60, "height": 40}
            self.properties = {f"openslide.bounds-{n}": str(v) for n, v in bounds.items()}

        def read_region(self, corner, level, size):
            step, (x, y), (width, height) = 2**level, corner, size
            return canvas[y : y + step * height : step, x : x + step * width : step]

    scanned = canvas[10:50, 20:80, :3]
    for level, step in ((0, 1), (1, 2)):
        array = _Level(Slide(), level)
        assert array.shape == (40 // step, 60 // step, 3)
        np.testing.assert_array_equal(array[:], scanned[::step, ::step])
        np.testing.assert_array_equal(array[3:9, 5:7, 1], scanned[::step, ::step][3:9, 5:7, 1])
