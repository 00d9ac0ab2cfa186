"""Readers for napari: which files and folders are ours, and the layers they become."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scans import TILTED, volume, write_file, write_series

from napari_unet.hooks import read_images, read_project
from napari_unet.run import BadInput


@pytest.fixture
def folder(tmp_path):
    """One of each, and what is not ours."""
    pytest.importorskip("pydicom")
    import zarr

    write_series(tmp_path / "series", volume(), along=TILTED)
    write_file(tmp_path / "no suffix", volume(8, 6))
    zarr.create_array(tmp_path / "a.zarr", data=volume(8, 6))
    zarr.create_group(tmp_path / "b.ome.zarr").create_array("0", data=volume(8, 6))
    np.save(tmp_path / "a.npy", volume(8, 6))
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    for name in ("a.nii", "A.NII.GZ", "a.nrrd", "a.svs", "a.mrxs"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("empty", "a.unet", "scans.unet"):
        (tmp_path / name).mkdir()
    (tmp_path / "a.unet" / "project.json").write_text(json.dumps({}))
    write_series(tmp_path / "scans.unet", volume())
    (tmp_path / "scans.unet" / "project.json").write_text(json.dumps({}))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("series", "image"),
        ("no suffix", "image"),
        ("b.ome.zarr", "image"),
        ("a.nii", "image"),
        ("A.NII.GZ", "image"),
        ("a.nrrd", "image"),
        ("a.svs", "image"),
        ("a.mrxs", "image"),
        ("a.zarr", None),
        ("a.npy", None),
        ("a.tif", None),
        ("empty", None),
        ("missing", None),
        ("a.unet", "project"),
        ("scans.unet", "project"),
        ("scans.unet/project.json", "project"),
    ],
)
def test_a_path_is_a_project_an_image_or_for_others(folder, name, ours):
    path = str(folder / name)

    assert (read_project(path) is not None) == (ours == "project")
    assert (read_images(path) is not None) == (ours == "image")
    assert (read_images([path]) is not None) == (ours == "image")


def test_a_series_becomes_a_layer_with_scale_place_and_units(folder):
    path = str(folder / "series")

    ((data, about, kind),) = read_images(path)(path)

    assert (kind, about["name"]) == ("image", "series")
    np.testing.assert_array_equal(data, volume())
    assert about["scale"] == pytest.approx((2.5, 0.5, 0.75))
    assert about["units"] == ("millimeter",) * 3
    assert about["affine"].shape == (4, 4)
    assert about["metadata"]["napari_unet"]["affine"] is not None


def test_what_else_lies_in_a_folder_is_told(folder):
    write_series(folder / "series", volume(2, 8, 6), series="9.9")
    path = str(folder / "series")

    with pytest.warns(UserWarning, match="holds 2 series; the largest is read"):
        read_images(path)(path)


def test_what_cannot_be_read_says_so_when_it_is_read(folder):
    path = str(folder / "a.svs")

    with pytest.raises(BadInput, match=r"a\.svs cannot be read|is not an image"):
        read_images(path)(path)


@pytest.mark.parametrize("name", ["series", "b.ome.zarr"])
def test_layers_can_be_made_of_it(folder, name):
    layers = pytest.importorskip("napari.layers")
    path = str(folder / name)

    opened = [layers.Layer.create(*layer) for layer in read_images(path)(path)]

    assert [layer._type_string for layer in opened] == ["image"]


@pytest.mark.parametrize(
    "name",
    ["a.nii", "a.NII.GZ", "a.nrrd", "a.nhdr", "a.dcm", "a.svs", "a.ndpi", "a.mrxs", "a.qptiff"],
)
def test_the_manifest_offers_us_for_scans_and_slides_but_not_for_pictures(name):
    npe2 = pytest.importorskip("npe2")
    from pathlib import Path

    import napari_unet

    manager = npe2.PluginManager()
    manager.register(
        npe2.PluginManifest.from_file(Path(napari_unet.__file__).parent / "napari.yaml")
    )

    def commands(path: str) -> set[str]:
        return {reader.command for reader in manager.iter_compatible_readers([path])}

    assert commands(name) == {"napari-unet.read_images"}
    assert not commands("a.tif") | commands("a.png") | commands("a.npy")
