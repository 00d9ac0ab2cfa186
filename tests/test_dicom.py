"""DICOM: series in the order of their slices, with their place, and refused where it is unclear."""

from __future__ import annotations

import os
import shutil
import warnings

import numpy as np
import pytest
from scans import TILTED, in_itk_order, of_itk, volume, write_file, write_series

from napari_unet.formats import dicom
from napari_unet.formats import raw as raw_room
from napari_unet.formats.dicom import images_in, is_series, one_of_each, series_files
from napari_unet.io import list_images, read_image
from napari_unet.run import BadInput

pytest.importorskip("pydicom")


@pytest.mark.parametrize("along", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), TILTED])
def test_slices_are_ordered_by_where_they_lie(tmp_path, along):
    pixels = volume()
    files = write_series(tmp_path / "scan", pixels, along=along)

    image = read_image(tmp_path / "scan")

    np.testing.assert_array_equal(image.data[0], pixels)
    assert image.axes == "CZYX"
    assert image.spacing == pytest.approx((2.5, 0.5, 0.75))
    assert image.unit == "millimeter"
    assert image.path == tmp_path / "scan"
    assert series_files(tmp_path / "scan") == files
    assert files != sorted(files)
    x, y = np.array(along[:3]), np.array(along[3:])
    expected = np.eye(4)
    expected[:3] = np.stack([0.75 * x, 0.5 * y, 2.5 * np.cross(x, y), np.array([-10, 20, 5])], 1)
    np.testing.assert_allclose(in_itk_order(image.affine), expected, atol=1e-9)


@pytest.mark.parametrize("along", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), TILTED])
def test_pixels_and_place_are_those_that_itk_finds(tmp_path, along):
    sitk = pytest.importorskip("SimpleITK")
    tags = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    write_series(tmp_path / "scan", volume(), along=along, **tags)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "scan")))
    theirs = reader.Execute()

    image = read_image(tmp_path / "scan")

    np.testing.assert_array_equal(image.data[0], sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(in_itk_order(image.affine), of_itk(theirs), atol=1e-6)


def test_a_file_stands_for_its_series(tmp_path):
    files = write_series(tmp_path, volume())

    image = read_image(files[2])

    assert image.spatial_shape == (5, 8, 6)
    assert image.path == files[2]
    assert series_files(files[2]) == files


def test_of_several_series_the_largest_is_read_and_the_others_are_named(tmp_path):
    write_series(tmp_path, volume(3, 8, 6), series="1.2.3")
    large = write_series(tmp_path, volume(5, 8, 6), series="1.2.4")
    small = write_series(tmp_path, volume(2, 8, 6), series="1.2.5")

    image = read_image(tmp_path)

    assert image.spatial_shape == (5, 8, 6)
    assert "holds 3 series; the largest is read, 'series 1.2.4', 5 files" in image.note
    assert min(f.name for f in small) in image.note
    assert image.note in image.describe()
    assert series_files(tmp_path) == large
    assert read_image(small[0]).spatial_shape == (2, 8, 6)
    assert len(list_images(tmp_path)) == 3
    assert {read_image(p).spatial_shape[0] for p in list_images(tmp_path)} == {2, 3, 5}


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [
        ("1", "0", "int16"),
        ("1", "-1024", "int32"),
        ("0.5", "1", "float32"),
    ],
)
def test_values_are_those_that_the_scanner_measured(tmp_path, slope, intercept, dtype):
    pixels = volume()
    write_series(tmp_path / "a", pixels, RescaleSlope=slope, RescaleIntercept=intercept)

    data = read_image(tmp_path / "a").data[0]

    assert data.dtype == dtype
    np.testing.assert_allclose(data, pixels * float(slope) + float(intercept))


def test_twelve_bits_of_a_ct_stay_small(tmp_path):
    pixels = volume(dtype=np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": "1", "RescaleIntercept": "-1024"}
    write_series(tmp_path / "a", pixels, **tags)

    data = read_image(tmp_path / "a").data[0]

    assert data.dtype == np.int16
    np.testing.assert_array_equal(data, pixels.astype(int) - 1024)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.int16, -1)])
def test_where_white_is_0_an_image_is_inverted_and_a_mask_is_not(tmp_path, dtype, top):
    pixels = volume(dtype=dtype)
    write_series(tmp_path / "a", pixels, PhotometricInterpretation="MONOCHROME1")

    image = read_image(tmp_path / "a")
    mask = dicom.read_dicom(tmp_path / "a", as_mask=True)

    np.testing.assert_array_equal(image.data[0], top - pixels.astype(int))
    np.testing.assert_array_equal(mask.data, pixels)


def test_a_large_series_is_read_where_it_is_looked_at(tmp_path, monkeypatch):
    pixels = volume(9, 8, 6)
    write_series(tmp_path / "a", pixels, RescaleSlope="1", RescaleIntercept="-100")
    monkeypatch.setattr(raw_room, "LAZY_BYTES", 100)

    data = read_image(tmp_path / "a").data

    assert hasattr(data, "dask")
    np.testing.assert_array_equal(data[0, 3:5, 2:, 1:4].compute(), pixels[3:5, 2:, 1:4] - 100)
    np.testing.assert_array_equal(data[0, 4, 2].compute(), pixels[4, 2] - 100)


def test_slices_at_the_same_places_are_a_time_series(tmp_path):
    pixels = volume(3, 4, 8, 6)
    flat = pixels.reshape(12, 8, 6)
    folder = tmp_path / "a"
    for time in range(3):
        for z in range(4):
            file = folder / f"{z}{time}.dcm"
            folder.mkdir(exist_ok=True)
            write_file(
                file,
                flat[time * 4 + z],
                number=time * 4 + z,
                ImagePositionPatient=[0, 0, 3.0 * z],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )

    image = read_image(folder)

    assert image.axes == "CTZYX"
    np.testing.assert_array_equal(image.data[0], pixels)
    assert image.spacing == pytest.approx((3, 0.5, 0.75))
    assert series_files(folder)[5].name == "11.dcm"


def test_a_file_that_is_there_twice_counts_once(tmp_path):
    files = write_series(tmp_path, volume())
    shutil.copy(files[1], tmp_path / "copy of it.dcm")

    assert read_image(tmp_path).spatial_shape == (5, 8, 6)


def test_a_radiograph_is_a_plane(tmp_path):
    pixels = volume(8, 6, dtype=np.uint16)
    file = write_file(tmp_path / "a.dcm", pixels)
    write_file(tmp_path / "b.dcm", pixels, number=1)

    image = read_image(file)

    assert (image.axes, image.affine) == ("CYX", None)
    assert image.spacing == (0.5, 0.75)
    np.testing.assert_array_equal(image.data[0], pixels)
    assert images_in(tmp_path) == [tmp_path / "a.dcm", tmp_path / "b.dcm"]


def test_one_slice_keeps_its_place(tmp_path):
    write_series(tmp_path / "a", volume(1, 8, 6), along=TILTED, SliceThickness=4.0)

    image = read_image(tmp_path / "a")

    assert image.spatial_shape == (1, 8, 6)
    assert image.spacing == pytest.approx((4, 0.5, 0.75))


def test_colours_and_frames(tmp_path):
    colors = volume(8, 6, 3, dtype=np.uint8)
    film = volume(4, 8, 6, dtype=np.uint8)
    write_file(tmp_path / "a.dcm", colors)
    write_file(tmp_path / "b.dcm", film, NumberOfFrames=4, FrameTime=40)

    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").data, colors.transpose(2, 0, 1))
    assert read_image(tmp_path / "b.dcm").axes == "CTYX"
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm").data[0], film)


def test_frames_of_one_file_are_put_in_order(tmp_path):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(name: str, **values) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for key, value in values.items():
            setattr(inner, key, value)
        setattr(outer, name, Sequence([inner]))
        return outer

    pixels = volume(4, 8, 6)
    stored = [2, 0, 3, 1]  # frame k is slice stored[k]
    each = [group("PlanePositionSequence", ImagePositionPatient=[0, 0, 1.5 * z]) for z in stored]
    shared = group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.75], SliceThickness=9)
    shared.update(group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=1))
    file = write_file(
        tmp_path / "a.dcm",
        pixels[stored],
        NumberOfFrames=4,
        PixelSpacing=None,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(each),
    )

    image = read_image(file)

    np.testing.assert_array_equal(image.data[0], pixels * 2 + 1)
    assert image.spacing == pytest.approx((1.5, 0.5, 0.75))
    assert series_files(file) == [file]


# ---- what is refused


def missing(folder):
    write_series(folder, volume(7, 8, 6))[3].unlink()


def uneven(folder):
    write_series(folder, volume(5, 8, 6), heights=[0, 2, 4.3, 6, 8])


def doubled(folder):
    write_series(folder, volume(5, 8, 6), heights=[0, 2, 2, 4, 6])


def mixed_sizes(folder):
    write_series(folder, volume(4, 8, 6))
    write_file(
        folder / "x.dcm",
        volume(9, 6),
        number=9,
        ImagePositionPatient=[-10, 20, 15.0],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )


def mixed_angles(folder):
    write_series(folder, volume(4, 8, 6))
    write_file(
        folder / "x.dcm",
        volume(8, 6),
        number=9,
        ImagePositionPatient=[-10, 20, 15.0],
        ImageOrientationPatient=[*TILTED],
    )


def cut_short(folder):
    file = write_series(folder, volume(4, 8, 6))[2]
    file.write_bytes(file.read_bytes()[:-40])


def cut_in_the_header(folder):
    file = write_series(folder, volume(4, 8, 6))[2]
    file.write_bytes(file.read_bytes()[:200])


def odd_lengths(folder):
    """Rows that take three bytes instead of two."""
    for file in write_series(folder, volume(3, 8, 6)):
        rows = b"\x28\0\x10\0US"
        data = file.read_bytes()
        file.write_bytes(data.replace(rows + b"\x02\0\x08\0", rows + b"\x03\0\x08\0\0"))


def bad_place(folder):
    write_series(folder, volume(4, 8, 6), PixelSpacing=[0, 0.5])


def no_volume(folder):
    write_series(folder, volume(4, 8, 6), along=(1, 0, 0, 1, 0, 0))


def only_a_note(folder):
    folder.mkdir()
    report = "1.2.840.10008.5.1.4.1.1.88.11"
    write_file(folder / "a.dcm", volume(8, 6), Rows=None, kind=report)


def unknown_packing(folder):
    folder.mkdir()
    write_file(folder / "a.dcm", volume(8, 6))
    data = (folder / "a.dcm").read_bytes()
    plain, packed = b"\x14\0" + b"1.2.840.10008.1.2.1\0", b"\x18\0" + b"1.2.840.10008.1.2.4.100\0"
    (folder / "a.dcm").write_bytes(data.replace(plain, packed))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (missing, "lacks slices between .* which are 5 mm apart and others 2.5 mm: get the"),
        (uneven, "has slices that are between 1.7 and 2.3 mm apart: make them even"),
        (doubled, "has more slices at some places than at others: move aside"),
        (mixed_sizes, "has slices of different sizes .8 x 6 x 1, 9 x 6 x 1.: keep those of one"),
        (mixed_angles, "has slices at different angles, such as x.dcm and"),
        (cut_short, "6_1.2.3.dcm cannot be read, it is damaged"),
        (cut_in_the_header, "6_1.2.3.dcm cannot be read, .* .it ends before its pixels"),
        (odd_lengths, "cannot be read, it is damaged or not an image .Expected total bytes"),
        (bad_place, "cannot be read, it is damaged or not an image .its geometry"),
        (no_volume, "cannot be read, it is damaged or not an image .its geometry"),
        (only_a_note, "holds DICOM files but no images: give a folder with a series"),
        (unknown_packing, "is compressed as MPEG.*: pip install pylibjpeg"),
    ],
)
def test_what_is_no_regular_series_is_refused_in_a_sentence(tmp_path, spoil, sentence):
    folder = tmp_path / "scan"
    spoil(folder)

    with pytest.raises(BadInput, match=sentence) as refusal:
        read_image(folder)

    assert "\n" not in str(refusal.value)


def test_a_sentence_about_a_series_names_the_file_that_was_given(tmp_path):
    files = write_series(tmp_path, volume(7, 8, 6))
    files[3].unlink()

    with pytest.raises(BadInput, match=f"The series of {files[0]} lacks slices between"):
        read_image(files[0])


def test_what_pydicom_only_warns_of_is_not_shown(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path, volume(), series=f"1.{'3' * 65}")  # longer than is allowed

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list_images(tmp_path) == [tmp_path]
        assert read_image(tmp_path).spatial_shape == (5, 8, 6)


def test_a_claim_of_very_many_frames_is_refused_before_they_are_counted(tmp_path):
    file = write_file(tmp_path / "a.dcm", volume(8, 6), NumberOfFrames=2_000_000_000)

    with pytest.raises(BadInput, match="claims 2000000000 frames"):
        read_image(file)


def test_a_deflated_file_is_not_unpacked(tmp_path):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    bomb = np.zeros((3000, 3000), np.uint8)
    file = write_file(tmp_path / "a.dcm", bomb, syntax=DeflatedExplicitVRLittleEndian)

    with pytest.raises(BadInput, match="is DICOM that is deflated: save it without"):
        read_image(file)


def test_without_pydicom_a_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    write_series(tmp_path / "a", volume())
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)

    with pytest.raises(BadInput, match=r"needs pydicom: pip install \"napari-unet\[formats\]\""):
        read_image(tmp_path / "a")


# ---- among other files


def test_files_of_a_broken_series_are_kept_to_be_told_of(tmp_path):
    scan = sorted(write_series(tmp_path, volume(), heights=[0, 1, 2.5, 6, 8]))

    assert one_of_each(scan) == scan


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_no_series(tmp_path):
    file = write_series(tmp_path, volume(1, 8, 6))[0]
    file.chmod(0)

    assert not is_series(tmp_path)


def test_all_files_of_a_series_are_one_image(tmp_path):
    scan = sorted(write_series(tmp_path / "a", volume()))
    other = sorted(write_series(tmp_path / "a", volume(2, 8, 6), series="9.9"))
    text = tmp_path / "b.txt"
    text.write_text("hello")

    assert one_of_each([*scan, text, *other, tmp_path]) == [scan[0], text, other[0], tmp_path]


def test_a_folder_of_slices_is_one_image_whatever_lies_beside_them(tmp_path):
    write_series(tmp_path, volume())
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    np.save(tmp_path / "preview.npy", volume(8, 6))

    assert list_images(tmp_path) == [tmp_path]


def test_series_in_folders_and_pictures_are_listed_side_by_side(tmp_path):
    write_series(tmp_path / "1.2.840.5", volume())
    np.save(tmp_path / "b.npy", volume(8, 6))
    (tmp_path / "empty").mkdir()

    found = list_images(tmp_path)

    assert found == [tmp_path / "1.2.840.5", tmp_path / "b.npy"]
    assert read_image(found[0]).name == "1.2.840.5"


def test_colours_of_a_palette_are_refused_in_a_sentence(tmp_path):
    write_file(tmp_path / "a.dcm", volume(1, 20, 30)[0], PhotometricInterpretation="PALETTE COLOR")

    with pytest.raises(BadInput, match="colours of a palette, which are not read here"):
        read_image(tmp_path / "a.dcm")
