"""The manifest holds what it promises: it is where it should be, and every command answers."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from napari_unet import hooks
from napari_unet.formats import SCANS
from napari_unet.masks import read_mask
from napari_unet.run import BadInput

ROOT = Path(__file__).parents[1]
REAL = ROOT / "napari_unet" / "napari.yaml"
MANIFEST = yaml.safe_load(REAL.read_text(encoding="utf-8"))
COMMANDS = {c["id"]: c["python_name"] for c in MANIFEST["contributions"]["commands"]}
SAMPLES = [sample["command"] for sample in MANIFEST["contributions"]["sample_data"]]
GENERATED = SAMPLES[:3]  # with true masks; the others are photographs


def _resolve(command: str) -> Any:
    module, _, name = COMMANDS[command].partition(":")
    return getattr(importlib.import_module(module), name)


def _of(kind: str) -> list[dict[str, Any]]:
    contributions = MANIFEST["contributions"].get(kind)
    return contributions if isinstance(contributions, list) else []


@pytest.mark.skipif(sys.platform == "win32", reason="git writes a link as a text file there")
def test_the_manifest_at_the_top_is_a_link_to_the_real_one() -> None:
    link = ROOT / "napari.yaml"

    assert link.is_symlink()
    assert link.readlink() == Path("napari_unet/napari.yaml")


def test_npe2_accepts_the_manifest() -> None:
    npe2 = pytest.importorskip("npe2")

    manifest = npe2.PluginManifest.from_file(REAL)

    assert manifest.name == "napari-unet"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_resolves(command: str) -> None:
    if COMMANDS[command].startswith("napari_unet.gui"):
        pytest.importorskip("qtpy")

    assert callable(_resolve(command))


def test_every_contribution_names_a_known_command() -> None:
    kinds = MANIFEST["contributions"].keys() - {"commands"}
    used = {item["command"] for kind in kinds for item in _of(kind) if "command" in item}

    assert used == COMMANDS.keys()


def test_the_manifest_claims_scans_and_slides_and_nothing_else() -> None:
    patterns = {p for reader in _of("readers") for p in reader["filename_patterns"]}

    assert patterns == {f"*{suffix}" for suffix in SCANS} | {"*project.json", "*.unet"}


@pytest.mark.parametrize("command", GENERATED)
def test_a_generated_sample_is_an_image_and_its_mask(command: str) -> None:
    (image, about_image, first), (mask, about_mask, second) = _resolve(command)()

    assert (first, second) == ("image", "labels")
    assert about_image["name"] != about_mask["name"]
    assert image.shape[-1] == 3 if about_image.get("rgb") else image.shape == mask.shape
    assert image.shape[: mask.ndim] == mask.shape
    assert np.issubdtype(mask.dtype, np.integer)
    assert mask.min() == 0 < mask.max()


@pytest.mark.parametrize("command", SAMPLES)
def test_a_sample_opens_as_layers(command: str) -> None:
    layers = pytest.importorskip("napari.layers")

    opened = [layers.Layer.create(*layer_data) for layer_data in _resolve(command)()]

    expected = ["image", "labels"] if command in GENERATED else ["image"]
    assert [layer._type_string for layer in opened] == expected
    assert [layer.visible for layer in opened] == [True, False][: len(opened)]


def test_an_empty_viewer_offers_every_sample() -> None:
    keys = [sample["key"] for sample in _of("sample_data")]

    assert list(hooks.SAMPLES) == keys


@pytest.mark.parametrize("command", SAMPLES)
def test_a_sample_is_the_same_every_time(command: str) -> None:
    once, again = _resolve(command)(), _resolve(command)()

    for (left, *_), (right, *_) in zip(once, again, strict=True):
        np.testing.assert_array_equal(left, right)


# ---- labels that napari's own dialog writes

WRITTEN = [suffix for writer in _of("writers") for suffix in writer["filename_extensions"]]
CLASSES = [{"name": "cell", "color": "#d55e00"}, {"name": "gland", "color": "#0072b2"}]


def blobs() -> np.ndarray:
    """Two objects of 12 and 6 pixels; the second is class 2 or object 2."""
    data = np.zeros((20, 30), np.uint8)
    data[2:5, 2:6], data[10:12, 20:23] = 1, 2
    return data


@pytest.mark.parametrize("suffix", WRITTEN)
def test_what_napari_writes_for_us_is_written(tmp_path: Path, suffix: str) -> None:
    library = {".nii": "nibabel", ".nii.gz": "nibabel", ".roi.zip": "roifile"}.get(suffix)
    if library:
        pytest.importorskip(library)
    path = str(tmp_path / f"labels{suffix}")

    assert [hooks.write_labels(path, blobs(), {}) for _ in range(2)] == [[path], [path]]

    assert [item.name for item in tmp_path.iterdir()] == [f"labels{suffix}"]


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".png", ".npy"])
def test_what_napari_writes_itself_is_left_to_it(suffix: str) -> None:
    assert suffix not in WRITTEN


@pytest.mark.parametrize("suffix", WRITTEN)
def test_npe2_finds_our_writer(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    npe2 = pytest.importorskip("npe2")
    plugins = npe2.PluginManager()
    plugins.register(npe2.PluginManifest.from_file(REAL))

    writer, path = plugins.get_writer(f"a{suffix}", ["labels"])

    assert (writer.command, path) == ("napari-unet.write_labels", f"a{suffix}")
    assert plugins.get_writer(f"a{suffix}", ["image"])[0] is None


@pytest.mark.parametrize("role", [None, "annotation", "prediction"])
def test_a_layer_is_written_with_its_classes_or_as_objects(tmp_path: Path, role: str) -> None:
    data = blobs()
    data[15:18, 5:9] = 255 if role == "annotation" else 0
    about = {} if role is None else {"napari_unet": {"role": role, "classes": CLASSES}}

    hooks.write_labels(str(tmp_path / "a.geojson"), data, {"metadata": about})

    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    found = [feature["properties"] for feature in features]
    if role is None:
        assert [(f["objectType"], f["name"]) for f in found] == [
            ("detection", "1"),
            ("detection", "2"),
        ]
    else:
        assert [f["classification"]["name"] for f in found] == ["cell", "gland"]


def test_a_layer_has_the_pixel_size_and_the_place_that_are_known_of_it(tmp_path: Path) -> None:
    layers = pytest.importorskip("napari.layers")
    nibabel = pytest.importorskip("nibabel")
    place = ((2.0, 0, 0, 5), (0, 0, 0.5, 6), (0, -0.5, 0, 7), (0, 0, 0, 1))
    data, about = np.ones((2, 3, 4), np.uint8), {"affine": place, "path": None}
    layer = layers.Labels(data, scale=(3, 0.5, 0.25), translate=(1, 2, 3), units="mm")

    affines = []
    for shape in ((2, 3, 4), (9, 9, 9)):
        layer.metadata["napari_unet"] = about | {"shape": shape}
        path = hooks.write_labels(str(tmp_path / "a.nii"), *layer.as_layer_data_tuple()[:2])
        affines.append(nibabel.load(*path).affine.tolist())

    known, other = affines
    assert known == [[0, 0.5, 0, -7], [-0.5, 0, 0, -6], [0, 0, 2, 5], [0, 0, 0, 1]]
    assert other == [[-0.25, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".nii.gz", ".nrrd"])
def test_painted_background_stays_in_what_holds_numbers(tmp_path: Path, suffix: str) -> None:
    if suffix in (".nii.gz", ".nrrd"):
        pytest.importorskip({".nii.gz": "nibabel", ".nrrd": "nrrd"}[suffix])
    data = blobs()
    data[15:18, 5:9] = 255
    about = {"napari_unet": {"role": "annotation", "classes": CLASSES}}

    hooks.write_labels(str(tmp_path / f"a{suffix}"), data, {"metadata": about})

    np.testing.assert_array_equal(read_mask(tmp_path / f"a{suffix}").squeeze(), data)


def test_a_zarr_that_was_not_written_here_is_not_replaced(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.open_group(str(tmp_path / "raw.zarr"), mode="w").create_array(
        "0", shape=(9, 9), dtype="u2"
    )

    with pytest.raises(BadInput, match="was not written here: choose another name"):
        hooks.write_labels(str(tmp_path / "raw.zarr"), blobs(), {})

    assert zarr.open_group(str(tmp_path / "raw.zarr"), mode="r")["0"].dtype == np.uint16
