"""Real scans, slides and odd files, where they are at hand: each opens, or says why not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from scans import in_itk_order, of_itk

from napari_unet.formats.dicom import series_files
from napari_unet.io import list_images, read_image
from napari_unet.masks import read_mask
from napari_unet.run import BadInput

SERIES = {
    "series_flair_280x320": (22, 320, 280),
    "series_hippocrop": (32, 51, 35),
    "series_t1post_512": (22, 512, 512),
}
SLIDES = {
    "slides/tcga-cr-7395-01a-01-ts1.svs": ((3, 3567, 4443), 1, "pixel"),
    "slides/cmu-1-small-region.svs": ((3, 2967, 2220), 0, "micrometer"),
    "slides/kidney-48-5.tif": ((3, 901, 1493), 0, "pixel"),
    "slides/small_vectra.qptiff": ((3, 1440, 1920), 0, "micrometer"),
    "slides/smalltif.tif": ((1, 480, 640), 0, "pixel"),
    "slides/small_HE_levels.tiff": ((3, 250, 300), 3, "pixel"),
    "odd_formats/lzw_rgb_image.tif": ((3, 584, 565), 0, "pixel"),
}
MASKS = {
    "lzw_rgb_colour_mask.tif": ((1024, 996), 4),
    "mask.gif": ((584, 565), 255),
    "one_bit_mask.png": ((478, 432), 1),
    "grey_alpha_mask.png": ((1801, 1901), 255),
    "rgba_colour_cropped_mask.png": ((302, 556), 1),
    "jpeg_mask_with_ringing.jpg": ((522, 775), 1),
}


@pytest.mark.parametrize(("name", "shape"), SERIES.items())
def test_a_dicom_series_is_what_itk_reads(real_data, name, shape):
    sitk = pytest.importorskip("SimpleITK")
    pytest.importorskip("pydicom")
    folder = real_data / "dicom_mr_series" / name
    reader = sitk.ImageSeriesReader()
    files = reader.GetGDCMSeriesFileNames(str(folder))
    reader.SetFileNames(files)
    theirs = reader.Execute()

    image = read_image(folder)

    assert image.spatial_shape == shape
    assert series_files(folder) == [Path(f) for f in files]
    np.testing.assert_array_equal(image.data[0], sitk.GetArrayFromImage(theirs))
    # As a share of the distance between two slices: directions are rounded to six digits.
    apart = np.abs(in_itk_order(image.affine) - of_itk(theirs)).max() / max(image.spacing)
    assert apart < 1e-6


def test_a_folder_of_series_lists_each(real_data):
    pytest.importorskip("pydicom")

    assert {p.name for p in list_images(real_data / "dicom_mr_series")} >= set(SERIES)


def test_nifti_volumes_are_what_nibabel_reads(real_data):
    nibabel = pytest.importorskip("nibabel")
    volumes = list_images(real_data / "hippocampus_mr_3d" / "images")

    assert len(volumes) == 30
    for path in volumes:
        image, theirs = read_image(path), nibabel.load(path)
        np.testing.assert_array_equal(image.data[0], np.asarray(theirs.dataobj).T)
        lps = np.diag([-1, -1, 1, 1]) @ theirs.affine
        np.testing.assert_allclose(in_itk_order(image.affine), lps, atol=1e-6)
        assert read_mask(path.parents[1] / "masks" / path.name).shape == image.spatial_shape


@pytest.mark.parametrize(("name", "expected"), SLIDES.items())
def test_slides_open(real_data, name, expected):
    shape, levels, unit = expected

    image = read_image(real_data / "wsi_and_formats" / name)

    assert (image.data.shape, len(image.coarser), image.unit) == (shape, levels, unit)
    middle = tuple(slice(n // 2, n // 2 + 64) for n in image.spatial_shape)
    assert np.asarray(image.data[(slice(None), *middle)]).std() > 0


@pytest.mark.parametrize("name", [name for name in SLIDES if name.endswith("svs")])
def test_slides_are_what_openslide_reads(real_data, name):
    openslide = pytest.importorskip("openslide")
    slide = openslide.OpenSlide(str(real_data / "wsi_and_formats" / name))
    corner = tuple(n // 3 for n in slide.dimensions)

    image = read_image(real_data / "wsi_and_formats" / name)

    ours = image.data[:, corner[1] : corner[1] + 300, corner[0] : corner[0] + 200]
    theirs = np.asarray(slide.read_region(corner, 0, (200, 300)))[..., :3]
    np.testing.assert_array_equal(ours.transpose(1, 2, 0), theirs)


def test_a_corrupt_slide_is_refused_in_a_sentence(real_data):
    pytest.importorskip("openslide")

    with pytest.raises(BadInput, match=r"corrupt_broken\.svs cannot be read, it is damaged"):
        read_image(real_data / "wsi_and_formats" / "odd_formats" / "corrupt_broken.svs")


def test_a_slide_of_dicom_that_lacks_what_it_has_to_say_is_refused(real_data):
    pytest.importorskip("pydicom")
    pytest.importorskip("openslide")

    with pytest.raises(BadInput, match=r"small_dicom\.dcm cannot be read"):
        read_image(real_data / "wsi_and_formats" / "slides" / "small_dicom.dcm")


@pytest.mark.parametrize(("name", "expected"), MASKS.items())
def test_odd_masks_open(real_data, name, expected):
    mask = read_mask(real_data / "wsi_and_formats" / "odd_formats" / name)

    assert (mask.shape, int(mask.max())) == expected


def test_large_photographs_open(real_data):
    photographs = list_images(real_data / "isic2017_derm_large" / "images")

    assert len(photographs) == 9
    for path in photographs:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_image(path).n_channels == 3
