"""What lies in image files: every format, type and compression, and every way to be broken."""

import json
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_unet.formats import raw as raw_room
from napari_unet.formats import read_raw
from napari_unet.formats.raw import quiet
from napari_unet.run import BadInput

DTYPES = ("uint8", "uint16", "int16", "uint32", "float32", "float64")


def picture(dtype: str = "uint8", shape: tuple[int, ...] = (40, 30)) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


# ---- TIFF


@pytest.mark.parametrize(
    "compression", [None, "lzw", "zlib", "deflate", "zstd", "packbits", "lzma"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiff_of_every_type_and_lossless_compression(tmp_path, dtype, compression):
    data = picture(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression)

    raw = read_raw(tmp_path / "a.tif")

    np.testing.assert_array_equal(raw.data, data)
    assert (raw.data.dtype, raw.axes, raw.lossy) == (data.dtype, "YX", False)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiff_of_both_byte_orders_and_sizes(tmp_path, byteorder, bigtiff):
    data = picture("uint16")
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=byteorder, bigtiff=bigtiff)

    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").data, data)


@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000", "webp"])
def test_tiff_of_lossy_compressions(tmp_path, kind):
    y, x = np.indices((64, 64))
    data = np.stack([y * 2, x * 2, y + x], -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, compression=kind, photometric="rgb")

    raw = read_raw(tmp_path / "a.tif")

    assert raw.axes == "YXS"
    assert np.abs(raw.data.astype(int) - data).mean() < 8
    assert raw.lossy == (kind == "jpeg")


@pytest.mark.parametrize(
    ("shape", "options", "axes", "kept"),
    [
        ((40, 30, 3), {"photometric": "rgb"}, "YXS", (40, 30, 3)),
        ((3, 40, 30), {"photometric": "rgb", "planarconfig": "separate"}, "SYX", (3, 40, 30)),
        ((40, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "YXS", (40, 30, 3)),
        ((40, 30, 2), {"planarconfig": "contig", "extrasamples": ["unassalpha"]}, "YX", (40, 30)),
        ((7, 40, 30), {"photometric": "minisblack"}, "?YX", (7, 40, 30)),
        ((7, 40, 30), {"photometric": "minisblack", "metadata": None}, "?YX", (7, 40, 30)),
        ((7, 40, 30), {"metadata": {"axes": "ZYX"}}, "ZYX", (7, 40, 30)),
        ((7, 40, 30), {"imagej": True, "metadata": {"axes": "TYX"}}, "TYX", (7, 40, 30)),
        ((7, 2, 40, 30), {"ome": True, "metadata": {"axes": "ZCYX"}}, "ZCYX", (7, 2, 40, 30)),
        ((1, 40, 30), {"ome": True, "metadata": {"axes": "ZYX"}}, "YX", (40, 30)),
    ],
)
def test_tiff_axes_and_alpha(tmp_path, shape, options, axes, kept):
    data = picture("uint8", shape)
    tifffile.imwrite(tmp_path / "a.tif", data, **({"photometric": "minisblack"} | options))

    raw = read_raw(tmp_path / "a.tif")

    assert (raw.axes, raw.data.shape) == (axes, kept)
    colors = data[..., :3] if len(kept) == len(shape) and shape[-1] == 4 else data
    first = data.reshape(40, 30, -1)[..., 0] if len(kept) < len(shape) else colors
    np.testing.assert_array_equal(raw.data, first)


def test_tiff_palette_gives_colours_or_indices(tmp_path):
    colors = np.zeros((3, 256), np.uint16)
    colors[0, 1], colors[1, 2] = 0xFFFF, 0xFFFF
    data = picture() % 3
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="palette", colormap=colors)

    assert read_raw(tmp_path / "a.tif").data[0, :3].tolist() == [
        [0, 0, 0],
        [255, 0, 0],
        [0, 255, 0],
    ]
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif", as_mask=True).data, data)


def test_tiff_grey_palette_gives_grey(tmp_path):
    colors = np.tile(np.arange(255, -1, -1, dtype=np.uint16) * 257, (3, 1))
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="palette", colormap=colors)

    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").data, 255 - picture())


def test_tiff_of_one_bit(tmp_path):
    Image.fromarray(picture() > 100).save(tmp_path / "a.tif")

    np.testing.assert_array_equal(read_raw(tmp_path / "a.tif").data, picture() > 100)


@pytest.mark.parametrize(
    ("options", "spacing", "unit"),
    [
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeZ": 2.0,
                    "PhysicalSizeY": 0.5,
                    "PhysicalSizeX": 0.25,
                },
            },
            {"Z": 2.0, "Y": 0.5, "X": 0.25},
            "micrometer",
        ),
        (
            {
                "ome": True,
                "metadata": {"axes": "ZYX", "PhysicalSizeX": 3.0, "PhysicalSizeXUnit": "nm"},
            },
            {"X": 3.0},
            "nanometer",
        ),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeZ": 2.0,
                    "PhysicalSizeX": 5.0,
                    "PhysicalSizeXUnit": "nm",
                },
            },
            {"Z": 2000.0, "X": 5.0},
            "nanometer",
        ),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    "PhysicalSizeX": 3.0,
                    "PhysicalSizeXUnit": "reference frame",
                },
            },
            {"X": 3.0},
            "pixel",
        ),
        (
            {
                "imagej": True,
                "resolution": (4, 2),
                "metadata": {"axes": "ZYX", "spacing": 1.5, "unit": "um"},
            },
            {"Z": 1.5, "Y": 0.5, "X": 0.25},
            "micrometer",
        ),
        ({"resolution": (72, 72)}, {}, "pixel"),
    ],
)
def test_tiff_pixel_sizes(tmp_path, options, spacing, unit):
    tifffile.imwrite(
        tmp_path / "a.tif", picture("uint8", (7, 40, 30)), photometric="minisblack", **options
    )

    raw = read_raw(tmp_path / "a.tif")

    assert raw.spacing == pytest.approx(spacing)
    assert raw.unit == unit


@pytest.mark.parametrize(
    "options", [{}, {"tile": (64, 64)}, {"tile": (64, 64), "compression": "zlib"}]
)
def test_large_tiff_is_lazy(tmp_path, monkeypatch, options):
    data = picture("uint16", (500, 300))
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=">", **options)
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 1000)

    raw = read_raw(tmp_path / "a.tif")

    assert hasattr(raw.data, "dask")
    np.testing.assert_array_equal(raw.data[100:200, 50:60].compute(), data[100:200, 50:60])


def test_large_palette_tiff_is_lazy_and_coloured(tmp_path, monkeypatch):
    colors = np.zeros((3, 256), np.uint16)
    colors[0, 1] = 0xFFFF
    tifffile.imwrite(tmp_path / "a.tif", picture() % 2, photometric="palette", colormap=colors)
    eager = read_raw(tmp_path / "a.tif")
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 1000)

    raw = read_raw(tmp_path / "a.tif")

    assert raw.axes == eager.axes == "YXS"
    np.testing.assert_array_equal(raw.data.compute(), eager.data)


def test_a_really_large_tiff_is_opened_without_reading_it(tmp_path):
    tifffile.memmap(tmp_path / "a.tif", shape=(20000, 15000), dtype=np.uint8).flush()

    raw = read_raw(tmp_path / "a.tif")

    assert raw.data.shape == (20000, 15000)
    assert np.prod(raw.data.chunksize) <= 8 * 2**20
    assert raw.data[19990:, 14990:].compute().sum() == 0


def test_damage_in_a_lazy_tiff_is_told_when_it_is_met(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture("uint8", (256, 256)), tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + count] = b"\xaa" * count
    path.write_bytes(damaged)
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 1000)

    raw = read_raw(path)

    with pytest.raises(BadInput, match=r"a\.tif cannot be read, it is damaged"):
        raw.data.compute()


# ---- PNG, JPEG, BMP, GIF


@pytest.mark.parametrize(
    ("mode", "suffix", "axes", "dtype"),
    [
        ("1", "png", "YX", "bool"),
        ("1", "bmp", "YX", "bool"),
        ("L", "png", "YX", "uint8"),
        ("L", "bmp", "YX", "uint8"),
        ("L", "jpg", "YX", "uint8"),
        ("L", "gif", "YX", "uint8"),
        ("LA", "png", "YX", "uint8"),
        ("I;16", "png", "YX", "uint16"),
        ("RGB", "png", "YXS", "uint8"),
        ("RGB", "bmp", "YXS", "uint8"),
        ("RGB", "jpg", "YXS", "uint8"),
        ("RGBA", "png", "YXS", "uint8"),
        ("P", "png", "YXS", "uint8"),
        ("P", "gif", "YXS", "uint8"),
        ("CMYK", "jpg", "YXS", "uint8"),
    ],
)
def test_pictures_of_every_mode(tmp_path, mode, suffix, axes, dtype):
    path = tmp_path / f"a.{suffix}"
    colors = Image.fromarray(np.dstack([picture(), 250 - picture(), picture() // 2]))
    if mode == "I;16":
        Image.fromarray(picture("uint16") * 250).save(path)
    elif mode == "P":
        colors.quantize(16).save(path)
    else:
        colors.convert(mode).save(path)

    raw = read_raw(path)

    assert (raw.axes, raw.data.dtype) == (axes, dtype)
    assert raw.data.shape == ((40, 30, 3) if axes == "YXS" else (40, 30))
    assert raw.lossy == (suffix == "jpg")


def test_alpha_is_dropped_and_colours_stay(tmp_path):
    data = picture("uint8", (40, 30, 4))
    Image.fromarray(data).save(tmp_path / "a.png")

    np.testing.assert_array_equal(read_raw(tmp_path / "a.png").data, data[..., :3])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_them(tmp_path, channels):
    import imagecodecs

    data = (picture("uint16", (40, 30, channels)) * 257).squeeze()
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(data))

    raw = read_raw(tmp_path / "a.png")

    kept = data.reshape(40, 30, channels)[..., : {2: 1, 4: 3}.get(channels, channels)].squeeze()
    np.testing.assert_array_equal(raw.data, kept)


def test_png_palette_gives_indices_for_a_mask_and_grey_where_it_is_grey(tmp_path):
    image = Image.fromarray(picture() % 3)
    image.putpalette([0, 0, 0, 90, 90, 90, 200, 200, 200])
    image.save(tmp_path / "a.png")

    assert set(np.unique(read_raw(tmp_path / "a.png").data)) == {0, 90, 200}
    np.testing.assert_array_equal(read_raw(tmp_path / "a.png", as_mask=True).data, picture() % 3)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_bomb_is_refused_and_pillow_keeps_its_limit(tmp_path):
    (tmp_path / "a.png").write_bytes(png(100_000, 100_000))
    limit = Image.MAX_IMAGE_PIXELS

    with pytest.raises(BadInput, match="claims 100000 x 100000 pixels, too many to load whole"):
        read_raw(tmp_path / "a.png")

    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_picture_beyond_pillows_own_limit_is_read(tmp_path, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    assert read_raw(tmp_path / "a.png").data.shape == (40, 30)


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_an_animation_is_refused(tmp_path, suffix):
    frames = [Image.fromarray(picture() * 0 + i * 80) for i in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])

    with pytest.raises(BadInput, match="is an animation of 3 frames: save it as a TIFF stack"):
        read_raw(tmp_path / f"a.{suffix}")


# ---- npy


@pytest.mark.parametrize("dtype", [*DTYPES, "bool", "float16", ">u2", "int64"])
@pytest.mark.parametrize("limit", [0, raw_room.LAZY_BYTES])
def test_npy(tmp_path, monkeypatch, dtype, limit):
    monkeypatch.setattr(raw_room, "LAZY_BYTES", limit)
    np.save(tmp_path / "a.npy", picture(dtype))

    raw = read_raw(tmp_path / "a.npy")

    assert raw.axes is None
    assert hasattr(raw.data, "dask") == (limit == 0)
    np.testing.assert_array_equal(np.asarray(raw.data), picture(dtype))


# ---- zarr


def make_array(path, data, **options):
    array = zarr.create_array(path, shape=data.shape, dtype=data.dtype, chunks=(16, 16), **options)
    array[:] = data


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_array(tmp_path, version):
    make_array(tmp_path / "a.zarr", picture("uint16"), zarr_format=version)

    raw = read_raw(tmp_path / "a.zarr")

    assert hasattr(raw.data, "dask")
    np.testing.assert_array_equal(raw.data.compute(), picture("uint16"))


def test_warnings_are_as_they_were_when_all_have_read():
    before = list(warnings.filters)
    first, second = ExitStack(), ExitStack()

    first.enter_context(quiet)
    second.enter_context(quiet)
    first.close()
    warnings.warn("of a file that is still being read", stacklevel=1)  # would be an error
    second.close()

    assert warnings.filters == before
    with pytest.raises(UserWarning, match="heard again"):
        warnings.warn("heard again", stacklevel=1)


@pytest.mark.parametrize("first_to_end", ["reader", "other"])
def test_what_others_do_about_warnings_meanwhile_holds(first_to_end):
    """Another thread ignores warnings while a file is read; neither ends what the other began."""
    before = list(warnings.filters)
    reader, other = ExitStack(), ExitStack()
    reader.enter_context(quiet)
    other.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")

    (reader if first_to_end == "reader" else other).close()
    warnings.warn("still not heard", stacklevel=1)  # would be an error
    (other if first_to_end == "reader" else reader).close()

    assert warnings.filters == before


def test_warnings_are_as_they_were_after_many_read_at_once(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture())
    before = list(warnings.filters)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_raw, [tmp_path / "a.tif"] * 200))

    assert warnings.filters == before


def test_zarr_names_its_dimensions(tmp_path):
    make_array(tmp_path / "a.zarr", picture(), dimension_names=("z", "y"), zarr_format=3)

    assert read_raw(tmp_path / "a.zarr").axes == "ZY"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("inner", ["", "0/"])
def test_ome_zarr_takes_the_full_resolution(tmp_path, version, inner):
    scales = [
        {
            "axes": [
                {"name": "c", "type": "channel"},
                {"name": "y", "type": "space", "unit": "micrometer"},
                {"name": "x", "type": "space", "unit": "micrometer"},
            ],
            "datasets": [
                {
                    "path": name,
                    "coordinateTransformations": [{"type": "scale", "scale": [1, s, s]}],
                }
                for name, s in (("big", 0.5), ("small", 1.0))
            ],
        }
    ]
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group = root.create_group("0") if inner else root
    group.attrs.update(
        {"ome": {"multiscales": scales}} if version == 3 else {"multiscales": scales}
    )
    for name, n in (("big", 32), ("small", 16)):
        group.create_array(name, data=picture("uint8", (2, n, n)))

    raw = read_raw(tmp_path / "a.zarr")

    assert (raw.axes, raw.data.shape) == ("CYX", (2, 32, 32))
    assert raw.spacing["X"] == 0.5
    assert raw.unit == "micrometer"


def ome_group(group, axes: str, *transforms, unit: str = "micrometer", **of_all):
    """Make a group an image of one level."""
    group.create_array("a", data=picture("uint8", (2,) * (len(axes) - 2) + (40, 30)))
    units = {a: {"type": "space", "unit": unit} if a in "zyx" else {} for a in axes}
    group.attrs["multiscales"] = [
        {
            "axes": [{"name": a} | about for a, about in units.items()],
            "datasets": [{"path": "a", "coordinateTransformations": list(transforms)}],
        }
        | of_all
    ]


def test_ome_zarr_says_where_it_lies(tmp_path):
    ome_group(
        zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2),
        "czyx",
        {"type": "scale", "scale": [1, 3, 0.5, 0.25]},
        {"type": "translation", "translation": [0, 9, 10, -20]},
        coordinateTransformations=[
            {"type": "scale", "scale": [1, 1, 2, 2]},
            {"type": "translation", "translation": [0, 0, 1, 1]},
        ],
    )

    raw = read_raw(tmp_path / "a.zarr")

    assert raw.spacing == {"Z": 3, "Y": 1, "X": 0.5}
    assert raw.offset == {"Z": 9, "Y": 21, "X": -39}


def test_where_an_ome_zarr_lies_is_in_the_unit_of_its_pixels(tmp_path):
    path = tmp_path / "a.zarr"
    ome_group(
        zarr.open_group(path, mode="w", zarr_format=2),
        "yx",
        {"type": "scale", "scale": [500, 0.5]},
        {"type": "translation", "translation": [7000, 7]},
    )
    about = zarr.open_group(path).attrs["multiscales"]
    about[0]["axes"][0]["unit"] = "nanometer"
    zarr.open_group(path).attrs["multiscales"] = about

    raw = read_raw(path)

    assert (raw.unit, raw.spacing["Y"]) == ("micrometer", pytest.approx(0.5))
    assert raw.offset == pytest.approx({"Y": 7, "X": 7})


@pytest.mark.parametrize("version", [2, 3])
def test_further_images_in_one_zarr_are_told_of(tmp_path, version):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    for name in ("0", "1", "2"):
        ome_group(root.create_group(name), "yx", {"type": "scale", "scale": [1, 1]})
    root.create_group("OME")

    raw = read_raw(tmp_path / "a.zarr")

    following = tmp_path / "a.zarr" / "1"
    assert raw.note == (
        f"The file holds 3 images, of which the first is read; the next is {following}."
    )
    assert read_raw(following).note == ""


def test_zarr_group_of_one_array_is_that_array(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_array("only", data=picture())

    np.testing.assert_array_equal(read_raw(tmp_path / "a.zarr").data.compute(), picture())


def test_zarr_group_of_several_arrays_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name in "ab":
        group.create_array(name, data=picture())

    with pytest.raises(BadInput, match=r"several arrays or none \(a, b\): give one of them"):
        read_raw(tmp_path / "a.zarr")


def test_a_damaged_chunk_is_told_when_it_is_met(tmp_path):
    make_array(tmp_path / "a.zarr", picture(), zarr_format=3)
    (tmp_path / "a.zarr" / "c" / "1" / "1").write_bytes(b"rubbish")

    raw = read_raw(tmp_path / "a.zarr")

    with pytest.raises(BadInput, match=r"a\.zarr cannot be read, it is damaged"):
        raw.data.compute()


def test_zarr_without_any_chunk_is_a_blank_mask_but_no_image(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(40, 30), dtype="uint8", chunks=(16, 16))

    with pytest.raises(BadInput, match="holds no pixels, all its chunks are missing"):
        read_raw(tmp_path / "a.zarr")
    assert read_raw(tmp_path / "a.zarr", as_mask=True).data.compute().sum() == 0


# ---- what is broken, foreign or hostile


def good_files(folder):
    data = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    tifffile.imwrite(folder / "plain.tif", data)
    tifffile.imwrite(folder / "zlib.tif", data, compression="zlib")
    tifffile.imwrite(folder / "tiled.tif", data, tile=(16, 16), compression="lzw")
    stack = np.stack([data] * 5)
    tifffile.imwrite(folder / "pages.tif", stack, photometric="minisblack", metadata=None)
    tifffile.imwrite(folder / "imagej.tif", stack, imagej=True)
    tifffile.imwrite(folder / "ome.ome.tif", stack, photometric="minisblack", ome=True)
    np.save(folder / "a.npy", data)
    for name in ("a.png", "a.jpg", "a.bmp", "a.gif"):
        Image.fromarray(data).save(folder / name)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.95])
def test_whatever_is_cut_short_is_refused(tmp_path, share, capfd):
    for path in good_files(tmp_path):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

        with pytest.raises(BadInput) as refusal:
            read_raw(path)

        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_scrambled_is_read_or_refused(tmp_path, seed, capfd):
    rng = np.random.default_rng(seed)
    for path in good_files(tmp_path):
        scrambled = np.frombuffer(path.read_bytes(), np.uint8).copy()
        where = rng.integers(4, min(len(scrambled), 600), 12)
        scrambled[where] = rng.integers(0, 256, 12)
        path.write_bytes(scrambled.tobytes())

        with suppress(BadInput):
            np.asarray(read_raw(path).data)
    assert capfd.readouterr() == ("", "")


def write_pickle(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def write_zarr(path, text):
    path.mkdir()
    (path / "zarr.json").write_text(text)


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("missing.tif", lambda p: None, "does not exist: check the name"),
        ("empty.png", lambda p: p.write_bytes(b""), "is not an image of a kind read here"),
        ("text.tif", lambda p: p.write_text("hello"), "is not an image of a kind read here: save"),
        ("header.tif", lambda p: p.write_bytes(b"II*\0"), "cannot be read, it is damaged"),
        ("loop.tif", lambda p: p.write_bytes(b"II*\0\x04\0\0\0" * 9), "cannot be read, it is"),
        ("pickle.npy", write_pickle, "cannot be read, it is damaged"),
        ("script.png", lambda p: p.write_text("%!PS-Adobe-3.0 EPSF"), "not an image of a kind"),
        ("folder.tif", lambda p: p.mkdir(), "is a folder, not an image: give a file, a zarr or a"),
        ("json.zarr", lambda p: write_zarr(p, "{broken"), "cannot be read, it is damaged"),
        ("list.zarr", lambda p: write_zarr(p, "[]"), "cannot be read, it is damaged"),
        (
            "kind.zarr",
            lambda p: write_zarr(p, json.dumps({"zarr_format": 3, "node_type": "x"})),
            "cannot be read, it is damaged",
        ),
        (
            "escape.zarr",
            lambda p: write_zarr(
                p,
                json.dumps(
                    {
                        "zarr_format": 3,
                        "node_type": "group",
                        "attributes": {"ome": {"multiscales": [{"datasets": [{"path": "../x"}]}]}},
                    }
                ),
            ),
            "cannot be read, it is damaged",
        ),
    ],
)
def test_hostile_and_foreign_files_are_refused(tmp_path, name, write, sentence):
    path = tmp_path / name
    write(path)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadInput, match=sentence) as refusal:
            read_raw(path)

    assert str(refusal.value).startswith(str(path))


def test_a_tiff_that_claims_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[tag].overwrite(2**31)

    with pytest.raises(BadInput, match="damaged"):
        np.asarray(read_raw(path).data[:10, :10])


def test_of_a_set_of_ome_files_the_one_that_is_asked_for_is_read(tmp_path):
    """One image in each file, and the description of both in either."""
    images = [picture("uint8", (40, 30)), 255 - picture("uint8", (40, 30))]
    size = 'SizeX="30" SizeY="40" SizeZ="1" SizeC="1" SizeT="1" Type="uint8"'
    parts = [
        f'<Image ID="Image:{n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" {size} '
        f'PhysicalSizeX="{n + 1}" PhysicalSizeY="{n + 1}"><Channel ID="Channel:{n}:0"/>'
        f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="f_{n}.ome.tif">urn:uuid:{n}</UUID>'
        "</TiffData></Pixels></Image>"
        for n in range(2)
    ]
    about = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}">{}</OME>'
    )
    for n, image in enumerate(images):
        tifffile.imwrite(
            tmp_path / f"f_{n}.ome.tif", image, description=about.format(n, "".join(parts)),
            metadata=None, compression="zlib",
        )  # fmt: skip

    for n, image in enumerate(images):
        raw = read_raw(tmp_path / f"f_{n}.ome.tif")
        np.testing.assert_array_equal(raw.data, image)
        assert raw.spacing["X"] == n + 1
        assert raw.note == ""


def ome_set(folder, axis: str, n: int) -> list:
    """One image, of which each file holds the plane at one place along an axis."""
    sizes = {"X": 30, "Y": 40, "Z": 1, "C": 1, "T": 1} | {axis: n}
    said = " ".join(f'Size{a}="{size}"' for a, size in sizes.items())
    planes = "".join(
        f'<TiffData First{axis}="{i}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="f_{i}.ome.tif">urn:uuid:{i}</UUID></TiffData>'
        for i in range(n)
    )
    files = [folder / f"f_{i}.ome.tif" for i in range(n)]
    for i, file in enumerate(files):
        about = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{i}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            f'DimensionOrder="XYCZT" {said} Type="uint8">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(file, picture() + i, description=about, metadata=None)
    return files


@pytest.mark.parametrize("axis", ["C", "Z", "T"])
def test_a_set_of_ome_files_is_one_image(tmp_path, axis):
    files = ome_set(tmp_path, axis, 5)

    raw = read_raw(files[2])

    assert (raw.axes, raw.note) == (f"{axis}YX", "")
    np.testing.assert_array_equal(raw.data, [picture() + i for i in range(5)])


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("gone", [[0], [1, 2], [4]])
def test_planes_whose_files_are_missing_are_told_of(tmp_path, monkeypatch, gone, lazy):
    files = ome_set(tmp_path, "Z", 5)
    for i in gone:
        files[i].unlink()
    if lazy:
        monkeypatch.setattr(raw_room, "LAZY_BYTES", 100)

    raw = read_raw(files[3])

    assert raw.note == (
        f"It lacks {len(gone)} of its 5 planes and has zeros there: all files of its set must lie "
        "beside it."
    )
    assert [bool(np.asarray(plane).any()) for plane in raw.data] == [
        i not in gone for i in range(5)
    ]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_channel_whose_file_is_missing_is_not_blank(tmp_path, gone):
    files = ome_set(tmp_path, "C", 3)
    files[gone].unlink()

    with pytest.raises(BadInput, match=f"has nothing of channel {gone + 1} of 3.* into one folder"):
        read_raw(files[(gone + 1) % 3])


def test_further_images_in_one_ome_file_are_told_of(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for value in range(3):
            tiff.write(np.full((40, 30), value, np.uint8), metadata={"axes": "YX"})

    raw = read_raw(tmp_path / "a.ome.tif")

    assert raw.data.max() == 0
    assert raw.note == "The file holds 3 images, of which the first is read."
