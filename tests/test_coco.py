"""COCO's own letters and runs, as its own library makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_unet.export import export_labels
from napari_unet.export.coco import packed, run_lengths
from napari_unet.export.content import make_content
from napari_unet.export.runs import find_objects
from napari_unet.export.shapes import outlines


def lengths_down_columns(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, the first of zeros."""
    flat = np.concatenate([[0], mask.ravel(order="F")])
    changes = np.flatnonzero(np.diff(flat))
    return np.diff([0, *changes, mask.size]).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_runs_are_those_of_the_pixels_and_letters_those_of_pycocotools(seed):
    coder = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 40, 2))
    number = 1 + (random.random(shape) < 0.5)  # two objects that fill the image
    content = make_content(Path("a"), None, None, None, number)

    for outline in outlines(find_objects(content)):
        mask = (number == outline.item + 1).astype(np.uint8)
        found = run_lengths(outline, *shape)
        assert [n for n in found if n] == [n for n in lengths_down_columns(mask) if n]
        assert packed(found) == coder.encode(np.asfortranarray(mask))["counts"].decode()


# pycocotools has not yet learned numpy 2's `copy`.
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_large_object_is_packed_without_loss():
    coder = pytest.importorskip("pycocotools.mask")
    lengths = [0, 5, 10**6, 3, 17, 10**5, 1, 1, 2**20]
    size = [sum(lengths), 1]

    letters = packed(lengths)

    drawn = coder.decode({"size": size, "counts": letters.encode()})[:, 0]
    expected = np.repeat(np.arange(len(lengths)) % 2, lengths)
    assert np.array_equal(drawn, expected)


def test_polygons_for_what_is_whole_and_runs_for_what_has_holes(tmp_path):
    mask = np.zeros((9, 20), np.uint8)
    mask[1:6, 1:6], mask[3, 3] = 1, 0
    mask[1:3, 10:15] = 1

    path = export_labels(tmp_path / "a.json", mask)

    first, second = json.loads(path.read_text())["annotations"]
    assert first["segmentation"]["size"] == [9, 20]
    assert second["segmentation"] == [[10, 3, 10, 1, 15, 1, 15, 3]]


def test_objects_without_a_class_are_of_a_category_of_their_own(tmp_path):
    objects = np.array([[1, 0, 2]])
    mask = np.array([[1, 0, 0]])

    path = export_labels(tmp_path / "a.json", mask, objects=objects)

    found = json.loads(path.read_text())
    assert [c["name"] for c in found["categories"]] == ["foreground", "object"]
    assert [a["category_id"] for a in found["annotations"]] == [1, 2]
