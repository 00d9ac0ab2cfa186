"""NIfTI: a mask lies where its image does, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.export import export_labels
from napari_unet.export.nifti import lps_matrix, to_ras
from napari_unet.io import Affine, Image, as_image

SHAPE = (4, 5, 6)


def source(path: Path, affine: np.ndarray, qform: bool = False) -> Image:
    """An image read from a NIfTI that says its place in one of two ways."""
    nibabel = pytest.importorskip("nibabel")
    nifti = nibabel.Nifti1Image(np.zeros(SHAPE[::-1], np.float32), affine)
    if qform:
        nifti.set_sform(None, 0)
        nifti.set_qform(affine, 2)
    nibabel.save(nifti, path)
    known = nibabel.load(path).affine
    return replace(as_image(np.zeros(SHAPE), "ZYX"), path=path, affine=in_our_order(known))


def in_our_order(ras: np.ndarray) -> Affine:
    """Worked out by hand: signs of x and y flipped, then rows and columns in the order z, y, x."""
    lps = ras.copy()
    lps[:2] = -lps[:2]
    return tuple(map(tuple, lps[[2, 1, 0, 3]][:, [2, 1, 0, 3]].tolist()))


def askew(seed: int, sheared: bool) -> np.ndarray:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn[:, 0] *= np.linalg.det(turn)
    affine[:3, :3] = turn @ np.diag(random.uniform(0.3, 3, 3))
    if sheared:
        affine[0, 1] += 0.4
    affine[:3, 3] = random.uniform(-100, 100, 3)
    return affine


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("said", ["sform", "sheared sform", "qform"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_affine_of_a_nifti_comes_back_bit_for_bit(tmp_path, seed, said, suffix):
    nibabel = pytest.importorskip("nibabel")
    image = source(tmp_path / f"a{suffix}", askew(seed, "sheared" in said), said == "qform")

    path = export_labels(tmp_path / f"b{suffix}", np.ones(SHAPE, np.uint8), image)

    before, after = nibabel.load(image.path), nibabel.load(path)
    assert after.affine.tobytes() == before.affine.tobytes()
    assert after.header.get_qform(coded=True)[1] == before.header.get_qform(coded=True)[1]
    assert after.get_data_dtype() == np.uint8
    assert np.asarray(after.dataobj).all()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"another")])
def test_a_mask_lies_in_its_place_also_where_its_source_is_gone(tmp_path, spoil):
    nibabel = pytest.importorskip("nibabel")
    image = source(tmp_path / "a.nii", askew(0, sheared=False))
    before = nibabel.load(image.path).affine
    spoil(image.path)

    path = export_labels(tmp_path / "b.nii", np.ones(SHAPE, np.uint8), image)

    np.testing.assert_allclose(nibabel.load(path).affine, before, atol=1e-5)


def test_what_is_said_of_the_pixels_of_a_source_is_not_said_of_its_mask(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([2.0, 2, 2, 1])
    nifti = nibabel.Nifti1Image(np.zeros(SHAPE[::-1], np.int16), affine)
    nifti.header.set_slope_inter(2.0, -1024.0)
    nifti.header["cal_max"] = 900
    nibabel.save(nifti, tmp_path / "a.nii")
    image = replace(
        as_image(np.zeros(SHAPE), "ZYX"), path=tmp_path / "a.nii", affine=in_our_order(affine)
    )

    path = export_labels(tmp_path / "b.nii", np.full(SHAPE, 3), image)

    mask = nibabel.load(path)
    assert np.unique(mask.get_fdata()).tolist() == [3]
    assert mask.header["cal_max"] == 0


def place(n: int, **of_image: Any) -> np.ndarray:
    from napari_unet.export.content import make_content

    image = as_image(np.zeros((3,) * n), "TZYX"[-n:] if n < 4 else "TZYX")
    content = make_content(
        Path("a"), np.ones((3,) * n, int), replace(image, **of_image), None, None
    )
    return lps_matrix(content)


def test_without_an_affine_the_pixel_size_is_taken_in_millimetres():
    spacing = {"spacing": (2.0, 0.5, 0.25), "unit": "micrometer"}

    assert place(3, **spacing).tolist() == np.diag([0.00025, 0.0005, 0.002, 1]).tolist()
    assert place(3, spacing=(2.0, 0.5, 0.25)).tolist() == np.diag([0.25, 0.5, 2, 1]).tolist()
    assert place(4, **spacing).tolist() == place(3, **spacing).tolist()


@pytest.mark.parametrize(
    ("unit", "millimeters"),
    [("nm", 5e-6), ("nanometer", 5e-6), ("cm", 50.0), ("angstrom", 5e-7), ("inch", 127.0)],
)
def test_a_pixel_is_as_large_in_millimetres_as_in_its_unit(unit, millimeters):
    found = place(2, spacing=(5.0, 5.0), unit=unit)

    assert found.diagonal() == pytest.approx([millimeters, millimeters, 1, 1])


@pytest.mark.parametrize(("unit", "said"), [("micrometer", "mm"), ("pixel", "unknown")])
def test_sizes_without_a_unit_are_not_said_to_be_in_millimetres(tmp_path, unit, said):
    nibabel = pytest.importorskip("nibabel")
    like = replace(as_image(np.zeros(SHAPE), "ZYX"), unit=unit)

    path = export_labels(tmp_path / "a.nii", np.ones(SHAPE, np.uint8), like)

    assert nibabel.load(path).header.get_xyzt_units()[0] == said


def test_a_plane_is_a_volume_one_pixel_deep():
    affine = ((0.5, 0.1, 7.0), (-0.1, 0.25, 8.0), (0.0, 0.0, 1.0))

    found = place(2, affine=affine)

    wanted = [[0.25, -0.1, 0, 8], [0.1, 0.5, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert found.tolist() == wanted


def test_only_signs_change_on_the_way_to_nifti():
    lps = np.random.default_rng(0).normal(size=(4, 4))

    assert np.array_equal(to_ras(lps), lps * np.array([[-1], [-1], [1], [1]]))
    assert to_ras(to_ras(lps)).tobytes() == lps.tobytes()
