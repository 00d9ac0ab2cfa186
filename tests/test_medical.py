"""NIfTI and NRRD: the pixels and the place that other readers find, and what is refused."""

from __future__ import annotations

import gzip
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from scans import in_itk_order, of_itk

from napari_unet.formats import medical, read_raw
from napari_unet.formats import raw as raw_room
from napari_unet.io import list_images, read_image
from napari_unet.run import BadInput

nibabel = pytest.importorskip("nibabel")
nrrd = pytest.importorskip("nrrd")

# Tilted, flipped and with its axes in another order.
OBLIQUE = np.array(
    [
        [0.1, -1.2, 0.05, 30.25],
        [-0.7, 0.02, 0.3, -12.5],
        [0.2, 0.1, 2.9, 7.125],
        [0, 0, 0, 1],
    ]
)


def pixels(*shape: int, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape or (6, 8, 5)).astype(dtype)


def to_lps(affine: np.ndarray) -> np.ndarray:
    return np.diag([-1, -1, 1, 1]) @ affine


def write_nifti(file, data, affine=OBLIQUE, **header):
    image = nibabel.Nifti1Image(data, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, file)
    return file


# ---- NIfTI


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_nifti(tmp_path, suffix, dtype):
    data = pixels(dtype=dtype)
    file = write_nifti(tmp_path / f"a.{suffix}", data)

    image = read_image(file)

    np.testing.assert_array_equal(image.data[0], data.T)
    assert image.data.dtype == dtype
    assert (image.axes, image.unit, image.name) == ("CZYX", "millimeter", "a")
    np.testing.assert_array_equal(in_itk_order(image.affine), to_lps(nibabel.load(file).affine))
    lengths = np.linalg.norm(nibabel.load(file).affine[:3, :3], axis=0)
    np.testing.assert_allclose(image.spacing, lengths[::-1])


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", ["Nifti1", "Nifti2"])
def test_nifti_of_both_versions_and_byte_orders(tmp_path, suffix, order, version):
    header = getattr(nibabel, f"{version}Header")(endianness=order)
    file = tmp_path / f"a.{suffix}"
    nibabel.save(getattr(nibabel, f"{version}Image")(pixels(), OBLIQUE, header), file)

    image = read_image(file)

    np.testing.assert_array_equal(image.data[0], pixels().T)
    np.testing.assert_array_equal(in_itk_order(image.affine), to_lps(nibabel.load(file).affine))


def test_a_matrix_of_what_is_connected_is_no_image(tmp_path):
    image = nibabel.Nifti2Image(pixels(), OBLIQUE)
    image.header["intent_code"] = 3001  # that of CIFTI
    nibabel.save(image, tmp_path / "a.dconn.nii")

    with pytest.raises(BadInput, match="cannot be read"):
        read_image(tmp_path / "a.dconn.nii")


def test_the_affine_of_a_nifti_comes_back_bit_for_bit(tmp_path):
    file = write_nifti(tmp_path / "a.nii", pixels())

    ours = in_itk_order(read_image(file).affine)

    back = ours * np.array([[-1], [-1], [1], [1]])
    assert (back == nibabel.load(file).affine).all()


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_pixels_and_place_are_those_that_itk_finds(tmp_path, suffix, packed):
    sitk = pytest.importorskip("SimpleITK")
    theirs = sitk.GetImageFromArray(pixels())
    theirs.SetSpacing((0.5, 0.75, 2.5))
    theirs.SetOrigin((1.5, -20, 300))
    theirs.SetDirection((0.8, 0, -0.6, 0, -1, 0, -0.6, 0, -0.8))
    sitk.WriteImage(theirs, str(tmp_path / f"a.{suffix}"), packed)

    image = read_image(tmp_path / f"a.{suffix}")

    np.testing.assert_array_equal(image.data[0], sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(in_itk_order(image.affine), of_itk(theirs), atol=1e-6)
    assert image.unit == "millimeter"


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6, 8), "CYX"),
        ((6, 8, 1), "CZYX"),
        ((6, 8, 5), "CZYX"),
        ((6, 8, 5, 1), "CZYX"),
        ((6, 8, 5, 3), "CTZYX"),
        ((6, 8, 5, 1, 2), "CZYX"),
    ],
)
def test_axes_of_a_nifti(tmp_path, shape, axes):
    data = pixels(*shape)

    image = read_image(write_nifti(tmp_path / "a.nii", data))

    assert image.axes == axes
    channels = data.T if len(shape) == 5 else data.T[None]
    np.testing.assert_array_equal(image.data.ravel(), channels.ravel())
    assert (image.affine is None) == (len(shape) == 2)


def test_scaled_values_of_a_nifti(tmp_path):
    values = np.linspace(-3, 4, 240).reshape(6, 8, 5)
    image = nibabel.Nifti1Image(values, OBLIQUE)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")

    data = read_image(tmp_path / "a.nii").data[0]

    assert data.dtype == np.float32
    np.testing.assert_allclose(data, nibabel.load(tmp_path / "a.nii").get_fdata().T, rtol=1e-6)


def test_colours_of_a_nifti(tmp_path):
    colors = pixels(6, 8, 5, 3, dtype="uint8")
    packed = colors.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]

    image = read_image(write_nifti(tmp_path / "a.nii", packed))

    np.testing.assert_array_equal(image.data, colors.T)


def test_micrometres_are_read_as_millimetres(tmp_path):
    image = nibabel.Nifti1Image(pixels(), np.diag([500, 500, 2000, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")

    assert read_image(tmp_path / "a.nii").spacing == pytest.approx((2, 0.5, 0.5))


def test_a_large_nifti_is_read_where_it_is_looked_at(tmp_path, monkeypatch):
    data = pixels(6, 8, 5, 4)
    write_nifti(tmp_path / "a.nii", data)
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 100)

    lazy = read_image(tmp_path / "a.nii").data

    assert hasattr(lazy, "dask")
    np.testing.assert_array_equal(lazy[0, 1:3, 2, 1:, ::2].compute(), data.T[1:3, 2, 1:, ::2])


def test_an_affine_that_makes_no_volume_is_left_out(tmp_path):
    file = write_nifti(tmp_path / "a.nii", pixels())
    raw = bytearray(file.read_bytes())
    raw[280:328] = bytes(48)  # the matrix itself
    file.write_bytes(raw)

    image = read_image(file)

    assert image.affine is None
    assert image.unit == "millimeter"


def test_what_nibabel_mends_is_not_printed(tmp_path, capfd):
    file = write_nifti(tmp_path / "a.nii", pixels())
    raw = bytearray(file.read_bytes())
    raw[252:254] = struct.pack("<h", 81)  # no such code of how it lies
    file.write_bytes(raw)

    np.testing.assert_array_equal(read_image(file).data[0], pixels().T)

    assert capfd.readouterr() == ("", "")


# ---- NRRD


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "LAS"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32"])
def test_nrrd(tmp_path, encoding, space, dtype):
    data = pixels(dtype=dtype)
    header = {
        "space": space,
        "space directions": OBLIQUE[:3, :3].T,
        "space origin": OBLIQUE[:3, 3],
        "encoding": encoding,
    }
    nrrd.write(str(tmp_path / "a.nrrd"), data, header)

    image = read_image(tmp_path / "a.nrrd")

    np.testing.assert_array_equal(image.data[0], data.T)
    assert (image.axes, image.data.dtype) == ("CZYX", dtype)
    signs = {"RAS": [-1, -1, 1, 1], "LAS": [1, -1, 1, 1]}.get(space, [1, 1, 1, 1])
    np.testing.assert_array_equal(in_itk_order(image.affine), np.diag(signs) @ OBLIQUE)


@pytest.mark.parametrize(
    ("kind", "place", "axes", "turned"),
    [
        ("vector", 0, "CZYX", (0, 3, 2, 1)),
        ("RGB-color", 0, "CZYX", (0, 3, 2, 1)),
        ("list", 3, "CZYX", (3, 2, 1, 0)),
        ("time", 3, "CTZYX", (3, 2, 1, 0)),
    ],
)
def test_axes_of_an_nrrd_that_are_not_in_space(tmp_path, kind, place, axes, turned):
    shape = [6, 8, 5]
    shape.insert(place, 2)
    kinds, directions = ["domain"] * 3, [*np.diag([0.5, 0.75, 2.0])]
    kinds.insert(place, kind)
    directions.insert(place, np.full(3, np.nan))
    data = pixels(*shape, dtype="uint8")
    header = {"space": "LPS", "space directions": np.array(directions), "kinds": kinds}
    nrrd.write(str(tmp_path / "a.nrrd"), data, header)

    image = read_image(tmp_path / "a.nrrd")

    assert image.axes == axes
    assert image.spacing == (2.0, 0.75, 0.5)
    expected = data.transpose(turned)
    np.testing.assert_array_equal(image.data[0] if axes == "CTZYX" else image.data, expected)


def test_an_nrrd_with_pixel_sizes_alone(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), pixels(6, 8), {"spacings": [0.5, 0.75]})

    image = read_image(tmp_path / "a.nrrd")

    assert (image.axes, image.affine, image.spacing) == ("CYX", None, (0.75, 0.5))


@pytest.mark.parametrize(
    ("said", "spacing", "unit"),
    [
        ({"units": ["um", "um"]}, (0.75, 0.5), "micrometer"),
        ({"units": ["cm", "cm"]}, (0.75, 0.5), "centimeter"),
        ({"units": ["furlong", "furlong"]}, (0.75, 0.5), "pixel"),
        ({}, (0.75, 0.5), "millimeter"),
    ],
)
def test_pixel_sizes_of_an_nrrd_have_their_unit(tmp_path, said, spacing, unit):
    nrrd.write(str(tmp_path / "a.nrrd"), pixels(6, 8), {"spacings": [0.5, 0.75], **said})

    image = read_image(tmp_path / "a.nrrd")

    assert (image.spacing, image.unit) == (spacing, unit)


@pytest.mark.parametrize(
    ("said", "times"), [("cm", 10), ("micron", 1e-3), ("nm", 1e-6), ("furlong", None)]
)
def test_the_place_of_an_nrrd_is_in_millimetres_or_not_known(tmp_path, said, times):
    header = {
        "space": "LPS",
        "space directions": np.diag([0.5, 0.75, 2.0]),
        "space units": [said] * 3,
    }
    nrrd.write(str(tmp_path / "a.nrrd"), pixels(), header)

    image = read_image(tmp_path / "a.nrrd")

    if times is None:
        assert (image.affine, image.unit, image.spacing) == (None, "pixel", (2.0, 0.75, 0.5))
    else:
        assert image.spacing == pytest.approx((2 * times, 0.75 * times, 0.5 * times))
        assert image.unit == "millimeter"


def test_a_large_nrrd_is_read_where_it_is_looked_at(tmp_path, monkeypatch):
    data = pixels()
    nrrd.write(str(tmp_path / "a.nrrd"), data, {"encoding": "raw", "spacings": [1, 1, 1]})
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 100)

    lazy = read_image(tmp_path / "a.nrrd").data

    assert hasattr(lazy, "dask")
    np.testing.assert_array_equal(lazy[0, 2:, 3].compute(), data.T[2:, 3])


def test_a_header_and_the_file_beside_it(tmp_path):
    nrrd.write(str(tmp_path / "a.nhdr"), pixels(), {"encoding": "raw", "spacings": [1, 1, 1]})

    np.testing.assert_array_equal(read_image(tmp_path / "a.nhdr").data[0], pixels().T)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(BadInput, match=r"has its pixels in 'a\.raw', which is no file beside it"):
        read_image(tmp_path / "a.nhdr")


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/passwd", "LIST", "a%d.raw 1 3", ".."])
def test_a_header_does_not_reach_other_files(tmp_path, name):
    (tmp_path / "secret.raw").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a.nhdr"
    file.write_text(
        f"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 4 4\nencoding: raw\ndata file: {name}\n"
    )

    with pytest.raises(BadInput, match="which is no file beside it: put the two into one folder"):
        read_image(file)


# ---- what is refused


def nifti_that_claims(file, *shape: int):
    write_nifti(file.with_name("b.nii"), pixels(2, 2, 2, dtype="uint8"))
    raw = bytearray(file.with_name("b.nii").read_bytes())
    raw[40 : 40 + 2 * 8] = struct.pack("<8h", len(shape), *shape, *(1,) * (7 - len(shape)))
    file.write_bytes(gzip.compress(raw) if file.suffix == ".gz" else raw)


def nrrd_of(file, *lines: str, body: bytes = b""):
    plain = ("NRRD0004", "type: uint8", "dimension: 2", "sizes: 4 4", "encoding: raw")
    text = "\n".join([*(p for p in plain if not any(p[:5] == x[:5] for x in lines)), *lines])
    file.write_bytes(text.encode() + b"\n\n" + body)


def shortened(file, write, share):
    write()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])


@pytest.mark.parametrize(
    ("name", "spoil", "sentence"),
    [
        ("a.nii", lambda f: f.write_bytes(b""), "cannot be read"),
        ("a.nii", lambda f: f.write_bytes(b"\0" * 400), "cannot be read"),
        ("a.nii.gz", lambda f: f.write_bytes(b"no gzip at all"), "cannot be read"),
        ("a.nii", lambda f: shortened(f, lambda: write_nifti(f, pixels()), 0.7), "header claims"),
        ("a.nii.gz", lambda f: shortened(f, lambda: write_nifti(f, pixels()), 0.7), "cannot be"),
        ("a.nii", lambda f: shortened(f, lambda: write_nifti(f, pixels()), 0.1), "cannot be read"),
        ("a.nii", lambda f: nifti_that_claims(f, 32767, 32767, 32767), "claims"),
        ("a.nii.gz", lambda f: nifti_that_claims(f, 32767, 32767, 8), "its header claims"),
        ("a.nii", lambda f: nifti_that_claims(f, -3, 4, 5), "cannot be read|is empty"),
        ("a.nii", lambda f: nifti_that_claims(f, 0, 4, 5), "cannot be read"),
        ("a.nrrd", lambda f: nrrd_of(f, body=bytes(9)), "header claims 16 bytes of pixels"),
        ("a.nrrd", lambda f: nrrd_of(f, "sizes: 9999999 9999999"), "claims"),
        ("a.nrrd", lambda f: nrrd_of(f, "sizes: -4 4", body=bytes(16)), "cannot be read"),
        ("a.nrrd", lambda f: nrrd_of(f, "encoding: gzip", body=b"x" * 9), "cannot be read"),
        ("a.nrrd", lambda f: nrrd_of(f, "encoding: hex", body=b"00" * 16), "written as hex"),
        ("a.nrrd", lambda f: nrrd_of(f, "type: block", body=bytes(16)), "cannot be read"),
        ("a.nrrd", lambda f: nrrd_of(f, "line skip: 3", body=bytes(16)), "skips lines"),
        ("a.nrrd", lambda f: f.write_bytes(b"NRRD0009\n\n"), "cannot be read"),
    ],
)
def test_what_is_broken_or_hostile_is_refused_in_a_sentence(tmp_path, name, spoil, sentence, capfd):
    file = tmp_path / name
    spoil(file)

    with pytest.raises(BadInput, match=sentence) as refusal:
        read_image(file)

    assert str(refusal.value).startswith(str(file))
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [2**26, 2**26 + 1])
def test_a_header_without_end_is_not_read_for_ever(tmp_path, size):
    file = tmp_path / "a.nrrd"
    file.write_bytes(b"NRRD0004\n")
    with file.open("r+b") as stream:
        stream.truncate(size)

    with pytest.raises(BadInput, match="has no end"):
        read_image(file)


@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
@pytest.mark.parametrize("part", [1, 2, 3, 7, 2**20])
def test_an_empty_line_ends_a_header_wherever_it_lies(tmp_path, line, part, monkeypatch):
    nrrd_of(tmp_path / "a.nrrd", body=b"\n\n" + bytes(range(14)))
    head, body = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)
    (tmp_path / "a.nrrd").write_bytes(head.replace(b"\n", line) + line * 2 + body)
    monkeypatch.setattr(medical, "_PART", part)

    data = read_image(tmp_path / "a.nrrd").data

    assert data.tobytes() == body


@pytest.mark.parametrize(("suffix", "objects"), [(".seg.nrrd", 5000), (".nrrd", 60_000)])
def test_a_header_that_names_very_many_objects_is_read_back(tmp_path, suffix, objects):
    from napari_unet.export import export_labels

    numbers = np.arange(objects).reshape(100, -1)

    path = export_labels(tmp_path / f"a{suffix}", None, objects=numbers)

    np.testing.assert_array_equal(read_image(path).data[0, 0], numbers)
    with path.open("rb") as file:
        assert b"\n\n" not in file.read(2**20)


@pytest.mark.parametrize("packing", ["gzip", "bzip2"])
def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path, packing):
    import bz2

    bomb = bytes(2**27)
    packed = gzip.compress(bomb) if packing == "gzip" else bz2.compress(bomb)
    del bomb
    nrrd_of(tmp_path / "a.nrrd", f"encoding: {packing}", body=packed)

    tracemalloc.start()
    image = read_image(tmp_path / "a.nrrd")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert image.spatial_shape == (4, 4)
    assert peak < 2**25


@pytest.mark.parametrize("begins", [2**25, 0])
def test_what_is_appended_to_a_nifti_header_is_not_read(tmp_path, begins):
    file = nifti_with_extension(tmp_path / "a.nii.gz", 2**25, begins)

    tracemalloc.start()
    image = read_image(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert np.array_equal(image.data[0], pixels().T) == bool(begins)  # 0 is right after the header
    assert peak < 2**23


def test_pixels_that_begin_far_from_their_header_are_not_looked_for(tmp_path):
    file = nifti_with_extension(tmp_path / "a.nii.gz", 2**27, 2**27)

    with pytest.raises(BadInput, match=r"a\.nii\.gz .* claims that pixels begin at byte 134217728"):
        read_image(file)


def nifti_with_extension(file, size: int, begins: int):
    """Pixels after so many bytes of an extension, which the header may say to begin elsewhere."""
    raw = bytearray(write_nifti(file.with_name("b.nii"), pixels()).read_bytes())
    raw[108:112] = struct.pack("<f", begins)
    raw[348:352] = b"\1\0\0\0"
    extension = struct.pack("<2i", size - 352, 6) + bytes(size - 352 - 8)
    file.write_bytes(gzip.compress(raw[:352] + extension + raw[352:]))
    return file


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_what_unpacks_to_too_much_is_to_be_unpacked_first(tmp_path, name, monkeypatch):
    monkeypatch.setattr(medical, "_WHOLE_BYTES", 100)
    if name == "a.nrrd":
        nrrd.write(str(tmp_path / name), pixels(), {"encoding": "gzip"})
    else:
        write_nifti(tmp_path / name, pixels())

    with pytest.raises(BadInput, match=r"is compressed as one piece and unpacks to .* unpack it"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(("module", "name"), [("nibabel", "a.nii.gz"), ("nrrd", "a.nrrd")])
def test_without_the_library_a_sentence_says_how_to_get_it(tmp_path, module, name, monkeypatch):
    (tmp_path / name).write_bytes(b"NRRD0004\n")
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(BadInput, match=r"needs (nibabel|pynrrd): pip install"):
        read_raw(tmp_path / name)


def test_a_folder_lists_volumes_and_passes_by_what_is_none(tmp_path):
    write_nifti(tmp_path / "b.nii.gz", pixels())
    nrrd.write(str(tmp_path / "a.NRRD"), pixels())
    (tmp_path / "c.gz").write_bytes(b"x")

    assert [p.name for p in list_images(tmp_path)] == ["a.NRRD", "b.nii.gz"]
