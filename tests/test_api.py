"""Arrays, paths and lists of them, and every kind of image, in one call each."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

import napari_unet
from napari_unet import api
from napari_unet.annotation import TrainingSet
from napari_unet.config import BACKGROUND, PredictConfig, TrainConfig, class_table
from napari_unet.instances import split_objects
from napari_unet.io import as_image, read_image
from napari_unet.library import Model, load_model
from napari_unet.pictures import Picture
from napari_unet.rims import object_rims
from napari_unet.run import BadInput, Control, Predicted, Started, Stepped, Tiled, Trained
from napari_unet.samples import cells, tissue, volume
from napari_unet.segmenting import ObjectConfig, Task, new_result, segment

TINY = {"steps": 3, "width": 4, "depth": 2, "precision": "float32"}
FAST = {"precision": "float32"}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(images, masks, **settings) -> Model:
    return napari_unet.train(images, masks, **TINY | settings)


def predict(model, image, **settings):
    return napari_unet.predict(model, image, **FAST | settings)


def strokes(truth: np.ndarray) -> np.ndarray:
    """Rows of the truth, background painted as 255."""
    out = np.zeros_like(truth)
    rows = np.where(truth == 0, np.uint8(BACKGROUND), truth)[..., ::8, :]
    out[..., ::8, :] = rows
    return out


# ---- train


def test_the_front_door_has_the_api():
    assert set(napari_unet.__all__) <= set(dir(napari_unet))
    assert napari_unet.train.__module__ == "napari_unet.api"
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = napari_unet.tarin


def test_arrays_paths_and_lists_give_the_same_model(tmp_path):
    image, mask = cells(0, 64)
    Pillow.fromarray(image).save(tmp_path / "image.png")
    Pillow.fromarray(mask).save(tmp_path / "mask.png")

    models = [
        train(image, mask),
        train([image], [mask]),
        train((image,), (mask.astype(bool),)),
        train(image, mask.astype(np.float64)),
        train(tmp_path / "image.png", tmp_path / "mask.png"),
        train([str(tmp_path / "image.png")], [mask]),
        train(read_image(tmp_path / "image.png"), mask),
    ]

    for model in models[1:]:
        assert all(torch.equal(models[0].weights[k], model.weights[k]) for k in model.weights)


def test_one_seed_gives_the_same_bits_and_another_does_not():
    pair = cells(0, 64)

    first, again, other = train(*pair, seed=1), train(*pair, seed=1), train(*pair, seed=2)

    assert all(torch.equal(first.weights[k], again.weights[k]) for k in first.weights)
    assert not all(torch.equal(first.weights[k], other.weights[k]) for k in first.weights)


def test_steps_are_cut_short_by_seconds_only_where_they_are_given():
    assert train(*cells(0, 64)).card.training["seconds"] is None
    assert train(*cells(0, 64), seconds=20).card.training["seconds"] == 20


def test_it_learns():
    image, mask = cells(0, 128)

    model = train(image, mask, steps=80, width=8, patch=64, batch=4)
    found = predict(model, image)

    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.7


@pytest.mark.parametrize("channels_first", [False, True])
def test_colour_images(channels_first):
    image, mask = tissue(0, 64)
    image = np.moveaxis(image, -1, 0) if channels_first else image

    model = train(image, mask, classes=["nucleus", "gland"])

    assert model.card.net.in_channels == 3
    assert [c.name for c in model.card.classes] == ["nucleus", "gland"]
    found = predict(model, image)
    assert found.shape == mask.shape
    assert found.max() <= 2


def test_images_of_many_channels():
    image = np.random.default_rng(0).random((7, 40, 48))
    mask = (image[3] > 0.5).astype(np.uint8)

    model = train(image, mask)

    assert model.card.net.in_channels == 7
    assert predict(model, image).shape == (40, 48)


def test_images_of_different_sizes():
    model = train([cells(0, 64)[0], cells(1, 96)[0]], [cells(0, 64)[1], cells(1, 96)[1]])

    assert set(model.card.images) == {"image 1", "image 2"}


def test_a_volume_trains_a_net_of_volumes_unless_slices_are_asked_for():
    image, mask = volume(0, (8, 32, 32))

    solid, flat = train(image, mask), train(image, mask, slices=True)

    assert (solid.card.net.ndim, flat.card.net.ndim) == (3, 2)
    assert solid.card.axes == "CZYX"
    assert len(flat.card.images) == 8
    for model in (solid, flat):
        assert predict(model, as_image(image, "ZYX")).shape == mask.shape


def test_planes_without_strokes_are_left_out_of_slices():
    image, mask = volume(0, (6, 32, 32))
    painted = np.zeros_like(mask)
    painted[2] = strokes(np.maximum(mask[2], mask.max(0)))

    model = train(image, painted, sparse=True, slices=True)

    assert list(model.card.images) == ["image 1[2]"]


def test_a_series_of_volumes():
    image, mask = volume(0, (4, 32, 32))

    model = train(np.stack([image] * 2), np.stack([mask] * 2))

    assert model.card.net.ndim == 3
    assert len(model.card.images) == 2


def test_sparse_masks_are_strokes():
    image, truth = cells(0, 64)

    model = train(image, strokes(truth), sparse=True)

    background, cell = model.card.labelled
    assert background + cell == 64 * 8
    assert train(image, truth).card.labelled == ((truth == 0).sum(), truth.sum())


def test_pixel_size_is_that_of_the_images(tmp_path):
    image, mask = volume(0, (4, 32, 32))
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "v.ome.tif", image, metadata={"axes": "ZYX", **sizes})

    model = train(tmp_path / "v.ome.tif", mask)

    assert (model.card.spacing, model.card.unit) == ((2.0, 0.5, 0.5), "micrometer")


# ---- what mask values mean


def test_what_could_be_objects_or_classes_is_told_of():
    mask = np.zeros((40, 40), np.uint8)
    for number in range(1, 5):
        mask[number * 8 : number * 8 + 4, 4:36] = number
    image = np.random.default_rng(0).normal(size=(40, 40))

    with pytest.warns(UserWarning, match="taken for objects of one class; give objects=True"):
        model = train(image, mask, steps=1)
    assert model.card.rims
    assert train(image, mask, steps=1, classes=["nucleus"]).card.rims, "without a warning"
    assert not train(image, mask, steps=1, objects=False).card.rims


def test_the_axes_of_an_image_can_be_said():
    image = np.random.default_rng(0).normal(size=(24, 32, 24))
    mask = np.zeros((32, 24), np.uint8)
    mask[:9] = 1

    assert train(image, mask, steps=1, axes="CYX").card.net.in_channels == 24
    with pytest.raises(BadInput, match="its image has"):
        train(image, mask, steps=1, axes="YXC")


def test_an_image_whose_axes_fit_its_mask_in_two_ways_is_refused():
    image = np.random.default_rng(0).normal(size=(24, 24, 24))

    with pytest.raises(BadInput, match="can be read in more than one way"):
        train(image, np.ones((24, 24), np.uint8), steps=1)


def test_training_on_objects_with_a_border():
    mask = np.zeros((64, 64), np.uint16)
    mask[5:30, 5:30], mask[5:30, 32:60] = 1, 2

    model = train(cells(0, 64)[0], mask, objects=True, border=5)

    assert len(model.card.classes) == 1


# ---- start from a model


def test_training_goes_on_from_a_model_or_its_path(tmp_path):
    image, mask = cells(0, 64)
    first = train(image, mask, seed=3)

    from_model = train(image, mask, init=first, rate=1e-9)
    from_path = train(image, mask, init=first.save(tmp_path / "m"), rate=1e-9)

    assert all(torch.equal(from_model.weights[k], from_path.weights[k]) for k in first.weights)
    net = {k: v for k, v in first.weights.items() if not k.startswith("pixels.")}
    change = max((from_model.weights[k] - v).abs().max() for k, v in net.items())
    assert change < 1e-5


def test_a_model_of_one_class_is_a_start_for_two():
    first = train(*cells(0, 64))
    image, mask = tissue(0, 64)

    model = train(image[..., 0], mask, init=first)

    assert len(model.card.classes) == 2


# ---- predict


def test_a_prediction_has_what_was_asked_for():
    image, mask = tissue(0, 64)
    model = train(image, mask)

    labels, probabilities, uncertainty = predict(model, image, probabilities=True, uncertainty=True)

    assert labels.dtype == np.uint8
    assert probabilities.shape == (2, 64, 64)
    assert uncertainty.shape == (64, 64)
    background = 1 - probabilities.sum(0)
    np.testing.assert_array_equal(
        labels, np.concatenate([background[None], probabilities]).argmax(0)
    )
    _, alone = predict(model, image, uncertainty=True)
    np.testing.assert_allclose(alone, uncertainty, atol=1e-6)


def test_arrays_paths_and_images_give_the_same_mask(tmp_path):
    image, mask = cells(0, 64)
    model = train(image, mask)
    Pillow.fromarray(image).save(tmp_path / "image.png")
    model.save(tmp_path / "model")

    masks = [
        predict(model, image),
        predict(model, image[None]),
        predict(model, image, axes="YX"),
        predict(model, tmp_path / "image.png"),
        predict(str(tmp_path / "model"), str(tmp_path / "image.png")),
        predict(model, read_image(tmp_path / "image.png")),
    ]

    assert masks[0].shape == (64, 64)
    for other in masks[1:]:
        np.testing.assert_array_equal(masks[0], other)


def test_a_stack_is_predicted_plane_by_plane():
    image, mask = cells(0, 64)
    model = train(image, mask)

    found = predict(model, np.stack([image, image[::-1]]), axes="TYX")

    # The stack has one range of intensities, so a pixel on the brink may differ.
    assert (found[0] == predict(model, image)).mean() > 0.99
    assert (found[1] == predict(model, image[::-1])).mean() > 0.99


# ---- watch, export


def test_watch_gets_every_event_in_order():
    image, mask = cells(0, 64)
    events = []

    model = train(image, mask, watch=events.append)
    predict(model, image, watch=events.append)

    kinds = [type(e) for e in events]
    assert kinds[0] is Started
    assert [e.step for e in events if isinstance(e, Stepped)] == [1, 2, 3]
    done = kinds.index(Trained)
    assert events[done].model is model
    assert set(kinds[done + 1 : -1]) == {Tiled}
    assert kinds[-1] is Predicted


def test_labels_are_exported_like_an_image_or_its_path(tmp_path):
    mask = np.eye(30, dtype=np.uint8)
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "like.ome.tif", mask, metadata={"axes": "YX", **sizes})
    like = read_image(tmp_path / "like.ome.tif")

    for number, given in enumerate((like, str(tmp_path / "like.ome.tif"))):
        path = napari_unet.export_labels(tmp_path / f"{number}.ome.tif", mask, like=given)
        assert read_image(path).spacing == (0.25, 0.5)


# ---- objects


def touching(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright field parted by faint lines into objects that touch, and their numbers."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((96, 96), np.uint16)
    rows, columns = (np.cumsum(rng.integers(12, 20, 4)) + 10 for _ in range(2))
    for number, (r, c) in enumerate(np.ndindex(3, 3), 1):
        objects[rows[r] : rows[r + 1], columns[c] : columns[c + 1]] = 10 * number
    lines = object_rims(objects) & (objects > 0)
    image = 40 + 120 * (objects > 0) - 40 * lines + rng.normal(0, 4, objects.shape)
    return image.clip(0, 255).astype(np.uint8), objects


def test_a_net_that_learned_objects_parts_those_that_touch(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unet.judging.LEAST_OF_CLASS", 1)  # the images are small
    pairs = [touching(seed) for seed in range(3)]
    model = train(*map(list, zip(*pairs, strict=True)), objects=True, steps=250, width=8)

    assert model.card.rims
    assert len(model.card.classes) == 1
    assert model.card.current.dice > 0.9, "judged by objects, and not by rims apart"
    again = load_model(model.save(tmp_path / "m"))
    image, truth = touching(9)
    mask, probability = predict(again, image, probabilities=True)
    assert set(np.unique(mask)) == {0, 1}
    assert probability.shape == (1, 96, 96)
    assert np.array_equal(mask > 0, probability[0] > 0.5)
    result = new_result(Picture("im", image[None]))
    list(segment(again, [Task(result)], PredictConfig(), Control(), ObjectConfig()))
    assert result.objects.max() == 9
    assert split_objects(result.labels).max() < 9
    assert model.card.smallest == np.percentile(
        np.concatenate([np.unique(m[m > 0], return_counts=True)[1] for _, m in pairs]), 5
    )
    overlaps = [np.bincount(result.objects[truth == n]).max() for n in range(10, 100, 10)]
    assert sum(overlaps) > 0.8 * (truth > 0).sum()


def test_a_model_of_objects_goes_on_with_strokes(tmp_path):
    image, objects = touching(0)
    first = train(image, objects, objects=True, steps=2)
    strokes = np.where(objects > 0, 1, 255).astype(np.uint8)

    second = train(image, strokes, sparse=True, init=first, steps=2)

    assert not second.card.rims
    assert second.card.net.n_classes == 1


def test_as_many_outputs_that_mean_other_things_are_not_taken_over():
    """Objects and their rims are not two classes."""
    image, objects = touching(0)
    first = train(image, objects, objects=True, steps=2, grain=1)
    two = np.where(objects > 40, 2, objects > 0).astype(np.uint8)

    options = {"steps": 1, "rate": 1e-9, "grain": 1}
    net, fresh = (train(image, two, init=init, **options) for init in (first, "random"))

    last = [k for k in net.weights if k.startswith("last")]
    assert last
    assert all(torch.allclose(net.weights[k], fresh.weights[k], atol=1e-3) for k in last)


def test_a_version_that_told_other_things_apart_can_be_gone_back_to(tmp_path):
    image, objects = touching(0)
    first = train(image, objects, objects=True, steps=2)
    first.save(tmp_path / "m")
    second = train(image, objects > 0, init=first, steps=2)
    second.save(tmp_path / "m")
    third = train(image, objects > 0, init=load_model(tmp_path / "m"), steps=2)
    third.save(tmp_path / "m")

    versions = [load_model(tmp_path / "m", number) for number in (1, 2, 3)]

    assert [m.card.rims for m in versions] == [True, False, False]
    for loaded, made in zip(versions, (first, second, third), strict=True):
        assert np.array_equal(predict(loaded, image), predict(made, image))
    assert load_model(tmp_path / "m").card.versions[0].rims
    versions[0].save(tmp_path / "m")  # back to it, as the newest
    assert load_model(tmp_path / "m").card.rims
    assert not load_model(tmp_path / "m", 3).card.rims


# ---- masks beside their images


@pytest.mark.parametrize("as_files", [False, True])
def test_the_axes_of_images_are_those_of_their_masks(tmp_path, as_files):
    image, truth = volume(0, (8, 16, 32))
    image, truth = image.transpose(2, 1, 0), truth.transpose(2, 1, 0)
    if as_files:
        np.save(tmp_path / "a.npy", image)
        np.save(tmp_path / "m.npy", truth)
        image, truth = tmp_path / "a.npy", tmp_path / "m.npy"

    model = train(image, truth, axes="XYZ", patch=16)

    assert model.card.net.ndim == 3
    assert sum(model.card.labelled) == 8 * 16 * 32


@pytest.mark.parametrize("given", [{"sparse": True}, {"classes": ["a"]}, {"slices": True}])
def test_what_is_said_of_masks_is_refused_for_a_project(tmp_path, given):
    with pytest.raises(BadInput, match="A project says itself what is painted in it"):
        napari_unet.train(tmp_path, **given)


def test_with_nothing_but_what_is_to_judge_no_model_is_made():
    training_set = TrainingSet(class_table(1))
    mask = np.where(np.eye(64), 1, 255).astype(np.uint8)
    training_set.add("a", np.zeros((1, 64, 64), np.uint8), mask, role="hold out")
    control = Control()
    events = api.train_events(TrainConfig(device="cpu"), training_set, control)

    with pytest.raises(BadInput, match="let an image be learned from"):
        api.finish(events, control, None)


def test_images_without_masks_are_refused_in_a_sentence():
    with pytest.raises(BadInput, match="without masks"):
        napari_unet.train([np.zeros((8, 8))])
