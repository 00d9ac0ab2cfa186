"""Moments at which strokes, keys or layers went astray once."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from conftest import TINY, answer, fill_disk, halves, saved

pytestmark = pytest.mark.gui


def test_a_label_that_is_no_class_is_not_painted_with(open_window, image):
    window = open_window(image)
    window.paint_both()
    said = []
    window.work.said.connect(said.append)

    window.annotation.selected_label = 3

    assert window.annotation.selected_label == 1
    assert said == ["3 is no class; add one in the table of classes first."]


def test_channels_that_cannot_be_learned_with_the_others_are_not_taken(open_window, image):
    window = open_window(image)
    window.viewer.add_image(255 - image, name="red")
    window.viewer.add_image(image[::-1], name="other")
    images = {layer.name: layer for layer in window.viewer.layers}
    for name in ("other", "im"):
        window.work.work_on(images[name], ())
        window.paint(1, slice(0, 4))

    channels = window.find("annotate.channels")
    row = next(i for i in range(channels.count()) if "red" in channels.item(i).text())
    channels.item(row).setCheckState(checked(True))

    assert "begin another project" in window.find("annotate.status").text()
    assert channels.item(row).checkState() == checked(False)
    window.paint(1, slice(10, 14))
    assert window.counts[1] == 3 * 4 * 96


def checked(on: bool):
    from qtpy.QtCore import Qt

    return Qt.CheckState.Checked if on else Qt.CheckState.Unchecked


def test_an_image_with_another_channel_stays_one_image_of_its_project(open_window, image):
    window = open_window(image)
    window.viewer.add_image(255 - image, name="red")
    im, red = window.viewer.layers["im"], window.viewer.layers["red"]
    window.work.work_on(im, ())
    window.paint(1, slice(0, 4))
    saved(window)
    project = window.work.keeping.project
    for channels, row in (((red,), 10), ((), 20)):
        window.work.work_on(im, channels)
        window.paint(1, slice(row, row + 4))
        saved(window)

    (card,) = project.images.values()
    (key,) = project.images
    assert card.channels == 1
    assert (project.sheets(key).read()[0] == 1).sum() == 12 * 96


def test_a_project_that_cannot_be_written_any_more_can_be_saved_as_another(
    three, monkeypatch, tmp_path, notified
):
    fill_disk(three, monkeypatch, notified)
    answer(monkeypatch, "ask_new_folder", tmp_path / "other")
    three.click("images.save_as")

    project = three.work.keeping.project
    assert project.folder == tmp_path / "other"
    saved(three)
    key = three.work.keeping.key_of(three.work.image)
    assert (project.sheets(key).read()[0] == 1).sum() == 6 * 96


@pytest.mark.parametrize("ends", ["with the window", "with another project"])
def test_what_is_painted_in_a_project_of_another_program_is_kept_elsewhere(
    open_window, image, tmp_path, notified, ends
):
    from napari_unet.io import as_image
    from napari_unet.project import create_project, open_project
    from napari_unet.records import recent

    first = create_project(tmp_path / "mine")
    first.add(as_image(image, name="im"))
    first.save()
    window = open_window()
    window.work.keeping.open(tmp_path / "mine")
    assert any("is open in another program" in said for said in notified)

    window.paint(1, slice(0, 3))
    if ends == "with the window":
        window.work.close()
    else:
        window.work.keeping.create(tmp_path / "next")

    rescued = open_project(next(place for place in recent() if place.parent != tmp_path))
    (key,) = rescued.images
    assert (rescued.annotation(key) == 1).sum() == 3 * 96
    rescued.close()
    first.close()


def test_a_project_is_learned_though_nothing_is_painted_on_what_is_open(
    three, open_window, tmp_path
):
    three.paint_both()
    three.click("images.next")
    saved(three)
    three.work.close()

    again = open_window()
    again.work.keeping.open(tmp_path / "mine")
    assert not any(again.counts)
    again.session.config = TINY
    again.until(lambda: again.find("train.start").isEnabled())
    again.click("train.start")
    again.learn()

    assert all(again.counts)
    again.stop()


def test_a_rectangle_goes_with_the_image_it_was_asked_for(three):
    three.paint(1, slice(0, 3))
    three.click("annotate.rectangle")
    rectangle = three.viewer.layers[-1]
    assert rectangle in three.viewer.layers

    three.click("images.next")

    assert rectangle not in three.viewer.layers


def test_a_project_that_is_dropped_while_training_is_refused_in_a_sentence(
    three, tmp_path, notified
):
    from napari_unet.project import create_project

    create_project(tmp_path / "other").close()
    three.paint_both()
    three.train()

    three.viewer.open(tmp_path / "other", plugin="napari-unet")

    assert any("Training is under way" in said for said in notified)
    three.stop()


def test_a_mask_of_other_classes_keeps_their_colours_and_names(open_window, image):
    from napari_unet.config import SegClass
    from napari_unet.gui.viewer import show_classes
    from napari_unet.showing import OURS

    window = open_window(image)
    colours = ("#ff0000", "#00ff00", "#0000ff")
    classes = tuple(SegClass(name=n, color=c) for n, c in zip("abc", colours, strict=True))
    layer = window.work.layers.result(window.work.image, "prediction", np.ones((64, 96), np.uint8))
    show_classes(layer, classes)

    window.session.classes = (SegClass(name="mine", color="#ffffff"),)

    assert [c["name"] for c in layer.metadata[OURS]["classes"]] == ["a", "b", "c"]


def test_a_boolean_image_is_learned(open_window):
    window = open_window(halves(64, 96) > 100)
    window.paint_both()
    window.train()
    window.stop()
    assert window.session.model is not None


def test_what_is_segmented_begins_where_it_is_looked_at(open_window, image, monkeypatch):
    window = open_window(image)
    window.paint_both()
    window.train()
    window.stop()
    from napari_unet.gui import segment

    seen, real = [], segment.segment

    def noted(model, tasks, config, *more):
        seen.append(config)
        return real(model, tasks, config, *more)

    monkeypatch.setattr(segment, "segment", noted)
    window.choose("segment.scope", "This image or slice")
    window.click("segment.run")
    window.until(lambda: window.find("segment.run").isEnabled())

    assert seen[0].focus == window.work.view.middle


def test_a_series_that_napari_has_read_is_written_as_one(open_window, tmp_path):
    from napari_unet.gui.placing import origin
    from napari_unet.io import viewed_image

    file = tmp_path / "series.tif"
    tifffile.imwrite(file, halves(5, 64, 96), imagej=True, metadata={"axes": "TYX"})
    window = open_window()
    (image,) = window.viewer.open(file, plugin="napari")

    assert origin(image) == {"axes": "CTYX"}
    image.data = image.data[:4]
    assert origin(image) == {}
    like = viewed_image(np.zeros((1, 5, 64, 96)), "im", (1.0, 0.5, 0.5), axes="CTYX")
    assert (like.axes, like.spacing) == ("CTYX", (0.5, 0.5))
