"""Pictures segmented in whole or in part, the objects in them, and folders of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow
from scipy import ndimage

from napari_unet import export
from napari_unet.cards import Card, library_folder
from napari_unet.config import NetConfig, PredictConfig, class_table
from napari_unet.inference import SHARED_EDGE, predict
from napari_unet.instances import split_objects
from napari_unet.io import read_image
from napari_unet.library import Model
from napari_unet.models import build
from napari_unet.pictures import Picture
from napari_unet.run import BadInput, Control, Event, Predicted, Tiled
from napari_unet.segmenting import (
    LeftOut,
    ObjectConfig,
    Result,
    Segmented,
    Task,
    Written,
    new_result,
    part,
    parted,
    segment,
    segment_files,
)

# Tiles so small that parts begin and end within them.
CONFIG = PredictConfig(device="cpu", precision="float32", tile=16)
ALL = CONFIG.model_copy(update={"probabilities": True, "uncertainty": True})
SPLIT, WHOLE = ObjectConfig(min_size=0), ObjectConfig(split=False, min_size=0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(ndim: int = 2, n_classes: int = 1, in_channels: int = 1, name: str = "m") -> Model:
    """A model whose net is torn between its classes, so that it says other things everywhere."""
    torch.manual_seed(0)
    # In planes it sees so far that some tiles are read only for what lies beside them.
    net = {"arch": "simple", "width": 4, "depth": 4 - ndim, "ndim": ndim}
    built = build(NetConfig(**net, n_classes=n_classes, in_channels=in_channels)).eval()
    weights = built.state_dict()
    with torch.no_grad():
        noise = torch.randn(1, in_channels, *(32,) * ndim)
        weights["last.bias"] -= built(noise).flatten(2).mean((0, 2))
    card = Card(name=name, net=built.config, classes=class_table(n_classes), axes="CYX")
    return Model(card, weights)


def make_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    """Smooth noise, brighter from one end to the other, so that no part has the whole's range."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = 40 + 150 * ndimage.gaussian_filter(noise, (0, *(1.5,) * (len(shape) - 1)))
    return (smooth + np.linspace(0, 150, shape[-1])).clip(0, 255).astype(np.uint8)


def make_result(*shape: int, channels: int = 1, name: str = "p") -> Result:
    return new_result(Picture(name, make_pixels(channels, *shape)))


def at_once(model: Model, pixels: np.ndarray, stats: Any = None) -> Predicted:
    """What the model makes of a whole image, in one tile."""
    config = ALL.model_copy(update={"tile": 4096})
    (*_, predicted) = predict(model, pixels, config, stats=stats)
    return predicted


def segmented(model: Model | str, *tasks: Task, config: PredictConfig = CONFIG, **more: Any) -> Any:
    """The events of segmenting, as a list."""
    return list(segment(model, list(tasks), config, Control(), **more))


def only(region: tuple[slice, ...], array: np.ndarray) -> np.ndarray:
    """The array in its region, and zeros around it."""
    out = np.zeros_like(array)
    out[(..., *region)] = array[(..., *region)]
    return out


def slices(*ends: tuple[int, int]) -> tuple[slice, ...]:
    return tuple(slice(*e) for e in ends)


class TestPart:
    @pytest.mark.parametrize("n_classes", [1, 3])
    @pytest.mark.parametrize(
        ("ndim", "shape", "region"),
        [
            (2, (50, 61), None),
            (2, (50, 61), slices((13, 37), (21, 61))),
            (2, (3, 50, 61), slices((1, 2), (0, 50), (0, 61))),
            (2, (2, 3, 50, 40), slices((1, 2), (0, 2), (9, 30), (5, 18))),
            (3, (12, 30, 32), None),
            (3, (12, 30, 32), slices((5, 6), (3, 25), (7, 31))),
            (3, (2, 12, 30, 32), slices((1, 2), (2, 9), (20, 21), (5, 30))),
        ],
    )
    def test_is_the_same_part_of_the_whole_and_nothing_else(self, ndim, shape, region, n_classes):
        model, result = make_model(ndim, n_classes), make_result(*shape)

        segmented(model, Task(result, region), config=ALL)

        region = region or tuple(slice(0, n) for n in shape)
        whole = at_once(model, result.picture.pixels)
        assert np.array_equal(result.labels, only(region, whole.labels))
        assert np.allclose(result.probabilities, only(region, whole.probabilities), atol=1e-5)
        assert np.allclose(result.uncertainty, only(region, whole.uncertainty), atol=1e-5)
        assert len(np.unique(whole.labels[region])) > 1

    def test_of_a_lazy_picture_is_all_that_is_read(self):
        reads = []

        class Lazy:
            pixels = make_pixels(1, 40, 300, 300)
            shape, dtype = pixels.shape, pixels.dtype

            def __getitem__(self, key: Any) -> np.ndarray:
                reads.append(self.pixels[key].size)
                return self.pixels[key]

        result = new_result(Picture("p", Lazy()))
        measured = result.picture.stats and sum(reads)

        part = Task(result, slices((7, 8), (100, 130), (50, 90)))
        segmented(make_model(), part, config=CONFIG.model_copy(update={"tile": None}))

        assert sum(reads) - measured < 70 * 80

    @pytest.mark.parametrize("tile", [4096, 128])
    def test_of_a_net_with_statistics_is_the_same_part_too(self, tile, monkeypatch):
        """Whether it is asked for the whole in one tile or in several."""
        monkeypatch.setitem(SHARED_EDGE, 2, 64)  # so that there are several windows in it
        torch.manual_seed(0)
        net = build(NetConfig(arch="compact", width=8, depth=2)).eval()
        weights = {k: 8 * v if k.startswith("last") else v for k, v in net.state_dict().items()}
        card = Card(name="m", net=net.config, classes=class_table(1), axes="CYX")
        model, config = Model(card, weights), ALL.model_copy(update={"tile": tile})
        part, whole = make_result(300, 200), make_result(300, 200)

        segmented(model, Task(part, slices((20, 61), (90, 133))), config=config)
        segmented(model, Task(whole), config=config)

        here = (..., slice(20, 61), slice(90, 133))
        assert np.allclose(part.probabilities[here], whole.probabilities[here], atol=1e-4)
        assert whole.probabilities[here].std() > 0.01

    def test_is_added_to_what_is_known_in_the_same_arrays(self):
        model, result = make_model(), make_result(40, 50)
        whole = at_once(model, result.picture.pixels)
        left, right = slices((0, 40), (0, 23)), slices((0, 40), (23, 50))

        segmented(model, Task(result, left), config=ALL)
        arrays = (result.labels, result.probabilities, result.uncertainty)
        segmented(model, Task(result, right), config=ALL)

        again = (result.labels, result.probabilities, result.uncertainty)
        assert all(a is b for a, b in zip(arrays, again, strict=True))
        assert np.array_equal(result.labels, whole.labels)
        assert np.allclose(result.probabilities, whole.probabilities, atol=1e-5)


class TestResult:
    @pytest.mark.parametrize("what", ["probabilities", "uncertainty"])
    def test_holds_no_more_than_was_asked_for(self, what):
        result = make_result(20, 24)
        config = CONFIG.model_copy(update={what: True})

        segmented(make_model(), Task(result), config=config)
        asked = {k for k in ("probabilities", "uncertainty") if getattr(result, k) is not None}
        segmented(make_model(), Task(result))

        assert asked == {what}
        assert getattr(result, what) is None

    def test_of_a_model_with_other_classes_has_room_for_them(self):
        result, model = make_result(20, 24), make_model(n_classes=3)
        segmented(make_model(), Task(result), config=ALL)

        segmented(model, Task(result), config=ALL)

        assert result.classes == model.card.classes
        whole = at_once(model, result.picture.pixels)
        assert np.array_equal(result.labels, whole.labels)
        assert np.allclose(result.probabilities, whole.probabilities, atol=1e-5)

    def test_forgets_the_objects_of_the_labels_before(self):
        result = make_result(20, 24)
        segmented(make_model(), Task(result), objects=SPLIT)
        before = result.objects

        segmented(make_model(), Task(result))

        assert before is not None
        assert result.objects is None


class TestSegment:
    def test_takes_several_pictures_one_after_another(self):
        model, first, second = make_model(), make_result(20, 40), make_result(3, 18, 30)

        events = segmented(model, Task(first), Task(second))

        done = [e for e in events if isinstance(e, Segmented)]
        assert [e.result for e in done] == [first, second]
        assert [e.stopped for e in done] == [False, False]
        for result in (first, second):
            whole = at_once(model, result.picture.pixels)
            assert np.array_equal(result.labels, whole.labels)

    def test_tells_of_each_tile_but_of_no_result_that_is_a_part(self):
        events = segmented(make_model(), Task(make_result(32, 32)))

        assert [type(e) for e in events] == [Tiled] * 4 + [Segmented]

    @pytest.mark.parametrize("as_path", [False, True])
    def test_loads_a_model_of_the_library(self, as_path, tmp_path, monkeypatch):
        monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path))
        model, result = make_model(), make_result(20, 24)
        place = model.save(library_folder() / "kept")

        segmented(place if as_path else "kept", Task(result))

        assert np.array_equal(result.labels, at_once(model, result.picture.pixels).labels)

    def test_keeps_what_was_done_when_it_is_stopped_and_begins_no_more(self):
        model, first, second = make_model(), make_result(32, 32), make_result(32, 32)
        whole = at_once(model, first.picture.pixels).labels
        control, events = Control(), []

        for event in segment(model, [Task(first), Task(second)], CONFIG, control, SPLIT):
            events.append(event)
            control.stop()

        tiled, last = events
        assert np.array_equal(first.labels, only(tiled.region, whole))
        assert first.labels.any()
        assert (last.result, last.stopped, first.objects) == (first, True, None)
        assert (second.classes, second.labels.any()) == ((), False)

    @pytest.mark.parametrize(
        ("model", "shape", "channels", "problem"),
        [
            ({}, (20, 24), 2, r"^'p' has 2 channel\(s\) but model 'm' reads 1"),
            ({"ndim": 3}, (20, 24), 1, r"^'p' is a plane .* model 'm' reads volumes"),
        ],
    )
    def test_refuses_a_picture_by_its_name_and_leaves_its_result(
        self, model, shape, channels, problem
    ):
        result = make_result(*shape, channels=channels)
        result.objects = objects = np.ones(shape, np.uint32)

        with pytest.raises(BadInput, match=problem):
            segmented(make_model(**model), Task(result))

        assert result.objects is objects


def drawn(labels: Any, probabilities: Any = None, spacing: tuple[float, ...] = ()) -> Result:
    """A result with these labels."""
    array = np.asarray(labels, np.uint8)
    return Result(Picture("p", np.zeros((1, *array.shape)), spacing), array, probabilities)


def objects_of(result: Result, config: ObjectConfig = WHOLE, ndim: int = 2) -> np.ndarray:
    result.ndim = ndim
    part(result, config)
    assert result.objects is not None
    return result.objects


def two_discs() -> np.ndarray:
    """Two discs that touch, one beside the other."""
    y, x = np.mgrid[:30, :50]
    return ((y - 15) ** 2 + (x - 14) ** 2 < 121) | ((y - 15) ** 2 + (x - 34) ** 2 < 121)


RING = np.zeros((9, 12), np.uint8)
RING[1:6, 1:6] = 1
RING[3, 2:4] = 0  # a hole of two pixels
RING[7, 9:12] = 1  # an object of three
STACK = np.stack([RING, 0 * RING, RING])
TALL = np.repeat(two_discs(), 4, axis=0)
THICK = np.stack([two_discs()] * 7)


class TestObjects:
    def test_of_planes_are_numbered_on_from_one_to_the_next(self):
        found = objects_of(drawn(STACK))

        assert np.array_equal(found, STACK * np.where(np.arange(12) < 8, 1, 2) + 2 * (found > 2))
        assert [np.unique(plane).tolist() for plane in found] == [[0, 1, 2], [0], [0, 3, 4]]

    def test_of_a_volume_go_through_its_planes(self):
        volume = np.stack([RING] * 3)

        found = objects_of(drawn(np.stack([volume, volume])), ndim=3)

        assert [np.unique(v).tolist() for v in found] == [[0, 1, 2], [0, 3, 4]]
        assert np.array_equal(found[1, 0], found[1, 2])

    @pytest.mark.parametrize(
        ("settings", "ring", "bar"),
        [
            ({}, 23, 3),
            ({"min_size": 3}, 23, 3),
            ({"min_size": 4}, 23, 0),
            ({"min_size": 24}, 0, 0),
            ({"fill_holes": 1}, 23, 3),
            ({"fill_holes": 2}, 25, 3),
            ({"fill_holes": 2, "min_size": 24}, 25, 0),
        ],
    )
    def test_lose_their_holes_and_are_dropped_where_small(self, settings, ring, bar):
        config = ObjectConfig(split=False, **settings)

        found = objects_of(drawn(STACK), config)

        for plane in (found[0], found[2]):
            assert np.count_nonzero(plane[:6, :6]) == ring
            assert np.count_nonzero(plane[7:, 8:]) == bar
        assert not found[1].any()

    @pytest.mark.parametrize(("config", "number"), [(SPLIT, 2), (WHOLE, 1)])
    def test_that_touch_are_parted_if_asked(self, config, number):
        assert objects_of(drawn(two_discs()), config).max() == number

    @pytest.mark.parametrize(
        ("classes", "numbers"), [(1, [2, 1]), (2, [1, 1])], ids=["one class", "two classes"]
    )
    def test_of_a_single_class_part_where_their_plane_is_unsure(self, classes, numbers):
        bars = np.zeros((2, 20, 60), np.uint8)
        bars[:, 5:15, 5:55] = 1
        sure = np.full((classes, *bars.shape), 0.9, np.float32)
        sure[0, 0, :, 26:34] = 0.1

        found = objects_of(drawn(bars, sure), SPLIT)

        assert [len(np.unique(plane)) - 1 for plane in found] == numbers

    @pytest.mark.parametrize(
        ("labels", "spacing", "used"),
        [
            (TALL, (), None),
            (TALL, (0.25, 1.0), (0.25, 1.0)),
            (TALL, (9.0, 0.25, 1.0), (0.25, 1.0)),
            (THICK, (1.0, 1.0), None),
            (THICK, (9.0, 1.0, 1.0), (9.0, 1.0, 1.0)),
            (THICK, (0.1, 9.0, 1.0, 1.0), (9.0, 1.0, 1.0)),
        ],
    )
    def test_are_measured_by_the_pixel_size_where_it_is_known(self, labels, spacing, used):
        found = objects_of(drawn(labels, spacing=spacing), SPLIT, labels.ndim)

        plainly = split_objects(labels)
        assert np.array_equal(found, split_objects(labels, spacing=used))
        assert np.array_equal(found, plainly) == (used is None)

    def test_come_with_the_labels_where_asked(self):
        result = make_result(2, 30, 40)

        segmented(make_model(), Task(result), objects=SPLIT)

        assert np.array_equal(result.objects, objects_of(drawn(result.labels), SPLIT))
        assert result.objects.max() > 1

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_are_of_planes_or_volumes_as_the_model_is(self, ndim):
        result = make_result(12, 30, 32)

        segmented(make_model(ndim), Task(result), objects=WHOLE)

        assert np.array_equal(result.objects, objects_of(drawn(result.labels), ndim=ndim))

    def test_of_what_is_there_already(self):
        result = drawn(STACK)

        (event,) = parted(result, WHOLE)

        assert (event.result, event.stopped) == (result, False)
        assert result.objects.max() == 4

    def test_stay_as_they_were_when_it_is_stopped(self):
        result, control = drawn(STACK), Control()
        before = objects_of(result)
        control.stop()

        (event,) = parted(result, ObjectConfig(min_size=9), control)

        assert event.stopped
        assert result.objects is before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, and what is none."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("a.tif", "b.png", "more/hidden.png")):
        Pillow.fromarray(make_pixels(1, 30, 40, seed=seed)[0]).save(folder / name)
    np.save(folder / "c.npy", make_pixels(1, 24, 20, seed=3)[0])
    (folder / "notes.txt").write_text("no image")
    (folder / ".d.png").write_bytes(b"")
    return folder


OME_SIZE = (4.0, 0.5)  # of a pixel, along Y and X


def save_ome(path: Path, pixels: np.ndarray) -> None:
    """A file that says how large its pixels are."""
    sizes = dict(zip(("PhysicalSizeY", "PhysicalSizeX"), OME_SIZE, strict=True))
    units = {f"{key}Unit": "µm" for key in sizes}
    tifffile.imwrite(path, pixels, metadata={"axes": "YX"} | sizes | units)


def of_folder(
    folder: Path, out: Path, suffix: str = "tif", n_classes: int = 1, **more: Any
) -> list[Event]:
    events = segment_files(
        make_model(n_classes=n_classes), folder, out, suffix, CONFIG, Control(), **more
    )
    return list(events)


def test_one_image_that_cannot_be_segmented_stops_no_others():
    tasks = [Task(make_result(30, 40, channels=c)) for c in (1, 2, 1)]
    events = segment(make_model(), tasks, CONFIG, Control())

    seen = []
    with pytest.raises(BadInput, match=r"1 of 3 images was left out: .* has 2 channel"):
        seen += events  # what came before the error is kept

    assert [type(e) for e in seen if not isinstance(e, Tiled)] == [Segmented, LeftOut, Segmented]
    assert tasks[2].result.labels.any()


def test_objects_that_memory_has_no_room_for_are_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("napari_unet.heap.installed", lambda: 100 * 40 * 50)
    large, small = make_result(40, 50, name="large"), make_result(30, 50, name="small")
    tasks = [Task(large), Task(small)]

    events = segment(make_model(), tasks, CONFIG, Control(), SPLIT)
    with pytest.raises(BadInput, match="1 of 2 images was left out: Numbering the objects of 'lar"):
        list(events)

    assert not large.labels.any()
    assert small.objects is not None
    segmented(make_model(), Task(large))
    assert large.labels.any(), "the mask alone has room"


def test_another_model_leaves_nothing_of_the_one_before_under_its_names():
    first, second, result = make_model(), make_model(), make_result(2, 30, 40)
    second.card = second.card.model_copy(update={"classes": class_table(["membrane"])})
    planes = [slices((z, z + 1), (0, 30), (0, 40)) for z in range(2)]

    segmented(first, Task(result, planes[0]))
    segmented(first, Task(result, planes[1]))
    assert result.labels[0].any()
    segmented(second, Task(result, planes[1]))

    assert not result.labels[0].any()
    assert result.labels[1].any()


class TestFolder:
    def test_a_damaged_file_is_left_out_and_told_of_at_the_end(self, folder, tmp_path):
        (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        out, seen = tmp_path / "masks", []
        events = segment_files(make_model(), folder, out, "tif", CONFIG, Control())

        with pytest.raises(BadInput, match=r"1 of 3 images was left out: .*b\.png"):
            seen += events

        assert sorted(p.name for p in out.iterdir()) == ["a.tif", "c.tif"]
        assert [e.name for e in seen if isinstance(e, LeftOut)] == ["b"]

    def test_a_mask_that_cannot_be_written_stops_no_others(self, folder, tmp_path, monkeypatch):
        def refuse(file, *arguments, **options):
            if file.stem == "a":
                raise BadInput("The disk is full.")
            return real(file, *arguments, **options)

        real = export.export_labels
        monkeypatch.setattr(export, "export_labels", refuse)

        with pytest.raises(BadInput, match="1 of 3 images was left out: The disk is full"):
            of_folder(folder, tmp_path / "masks")

        written = sorted(path.name for path in (tmp_path / "masks").iterdir())
        assert written == ["b.tif", "c.tif"]

    def test_every_image_of_it_gets_its_mask(self, folder, tmp_path):
        out = tmp_path / "new" / "masks"

        events = of_folder(folder, out, n_classes=3)

        names = ["a.tif", "b.tif", "c.tif"]
        written = [e for e in events if isinstance(e, Written)]
        assert written == [Written(out / name, i, 3) for i, name in enumerate(names, 1)]
        assert sorted(p.name for p in out.iterdir()) == names
        for name, (seed, *shape) in zip(
            names, ((0, 30, 40), (1, 30, 40), (3, 24, 20)), strict=True
        ):
            whole = at_once(make_model(n_classes=3), make_pixels(1, *shape, seed=seed))
            assert np.array_equal(tifffile.imread(out / name), whole.labels)
            assert whole.labels.any()

    def test_objects_are_written_where_asked(self, folder, tmp_path):
        of_folder(folder, tmp_path / "masks", objects=WHOLE)

        labels = at_once(make_model(), make_pixels(1, 30, 40)).labels
        expected = objects_of(drawn(labels))
        assert np.array_equal(tifffile.imread(tmp_path / "masks" / "a.tif"), expected)
        assert expected.max() > 1

    def test_masks_have_the_pixel_size_of_their_images(self, tmp_path):
        save_ome(tmp_path / "a.ome.tif", make_pixels(1, 20, 24)[0])

        of_folder(tmp_path, tmp_path / "masks", "ome.tif")

        mask = read_image(tmp_path / "masks" / "a.ome.tif")
        assert (mask.spacing, mask.unit) == (OME_SIZE, "micrometer")

    def test_objects_are_measured_by_the_pixel_size_of_their_images(self, tmp_path):
        pixels = make_pixels(1, 60, 80)
        save_ome(tmp_path / "a.ome.tif", pixels[0])

        of_folder(tmp_path, tmp_path / "masks", objects=SPLIT)

        labels, found = at_once(make_model(), pixels).labels, tmp_path / "masks" / "a.tif"
        assert np.array_equal(tifffile.imread(found), split_objects(labels, spacing=OME_SIZE))
        assert not np.array_equal(tifffile.imread(found), split_objects(labels))

    def test_masks_have_the_colours_of_the_classes(self, folder, tmp_path):
        model, classes = make_model(n_classes=2), class_table(8)[5:7]
        model.card = model.card.model_copy(update={"classes": classes})

        list(segment_files(model, folder, tmp_path / "masks", "png", CONFIG, Control()))

        with Pillow.open(tmp_path / "masks" / "a.png") as picture:
            palette = bytes(picture.getpalette()[3:9])
        assert palette == bytes.fromhex(classes[0].color[1:] + classes[1].color[1:])

    def test_names_that_would_clash_are_found_before_the_work(self, folder, tmp_path):
        np.save(folder / "a.npy", make_pixels(1, 20, 20)[0])

        with pytest.raises(BadInput, match=r"a\.npy and .*a\.tif are images of the same name"):
            of_folder(folder, tmp_path / "masks")

        assert not (tmp_path / "masks").exists()

    def test_images_of_a_project_that_some_disks_would_take_for_one_are_numbered(
        self, folder, tmp_path
    ):
        files = [("cell", folder / "a.tif"), ("Cell", folder / "a.tif"), ("a?", folder / "a.tif")]

        list(segment_files(make_model(), files, tmp_path / "m", "tif", CONFIG, Control()))

        assert {p.name for p in (tmp_path / "m").iterdir()} == {"cell.tif", "Cell 2.tif", "a_.tif"}

    @pytest.mark.parametrize("inside", [False, True])
    def test_nothing_is_overwritten(self, folder, tmp_path, inside):
        out = folder if inside else tmp_path
        (out / "b.png").write_bytes(before := (folder / "b.png").read_bytes())
        files = sorted(out.iterdir())

        with pytest.raises(BadInput, match=r"b\.png exists already; choose another folder"):
            of_folder(folder, out, "png")

        assert sorted(out.iterdir()) == files
        assert (out / "b.png").read_bytes() == before

    def test_a_mask_that_was_not_finished_is_not_written(self, folder, tmp_path):
        out, control, told = tmp_path / "masks", Control(), []

        for event in segment_files(make_model(), folder, out, "tif", CONFIG, control):
            told.append(event)
            if isinstance(event, Tiled) and any(isinstance(e, Written) for e in told):
                control.stop()

        assert [p.name for p in out.iterdir()] == ["a.tif"]
        assert isinstance(told[-1], Segmented)
        assert told[-1].stopped


@pytest.mark.parametrize(("least", "left"), [(None, 2), (0, 3), (60, 1)])
def test_what_is_far_smaller_than_what_was_learned_is_no_object(least, left):
    labels = np.zeros((40, 40), np.uint8)
    labels[2:12, 2:12], labels[20:27, 20:27], labels[30:33, 2:5] = 1, 1, 1
    result = drawn(labels)
    result.smallest = 80

    found = objects_of(result, ObjectConfig(min_size=least))

    assert len(np.unique(found)) - 1 == left
