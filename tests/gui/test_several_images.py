"""Several images, layers and projects at once: none is taken for another, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from conftest import TINY, add, answer, fill_disk, halves, saved

from napari_unet.config import BACKGROUND, class_table
from napari_unet.live import Seen
from napari_unet.pictures import Picture, View
from napari_unet.showing import OURS

pytestmark = pytest.mark.gui


def reopened(window, open_window, monkeypatch, folder):
    """The project in another window, with its first image open."""
    saved(window)
    window.work.close()
    again = open_window()
    again.click("column.images.toggle")
    answer(monkeypatch, "ask_folder", folder)
    again.click("images.open")
    return again


def key_of(window, name: str) -> str:
    images = window.work.keeping.project.images
    return next(key for key, card in images.items() if card.name == name)


# ---- what is painted


def test_a_class_that_is_painted_on_images_not_open_is_asked_for(
    three, open_window, monkeypatch, tmp_path
):
    from qtpy.QtWidgets import QMessageBox

    three.session.classes = class_table(["cell", "gland"])
    three.paint_both()
    three.click("images.next")
    three.paint(2, slice(0, 5))
    three.click("images.before")
    window = reopened(three, open_window, monkeypatch, tmp_path / "mine")
    assert window.counts[2] == 0
    asked = []

    def no(_parent, _title, question):
        asked.append(question)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", no)
    window.press("2")
    window.click("annotate.remove")

    assert [c.name for c in window.session.classes] == ["cell", "gland"]
    assert "perhaps more in images that are not open" in asked[0]
    project = window.work.keeping.project
    assert (project.annotation(key_of(window, "im1")) == 2).sum() == 5 * 96


def test_an_annotation_that_napari_converts_stays_one(three):
    three.paint(1, slice(0, 5))
    three.paint(BACKGROUND, slice(9, 12))

    converted = three.annotation.data.astype(np.int64)
    converted[20], converted[21] = 256, -1
    three.annotation.data = converted
    saved(three)
    three.paint(1, slice(30, 31))
    saved(three)
    three.click("images.next")
    three.click("images.before")

    assert three.annotation.data.dtype == np.uint8
    assert three.counts == (3 * 96, 6 * 96)
    assert not three.annotation.data[20:22].any()


def test_the_next_image_is_painted_with_the_same_class(three):
    three.session.classes = class_table(["cell", "gland"])
    three.paint_both()
    three.press("2")
    three.click("images.next")
    three.click("annotate.new")
    assert three.annotation.selected_label == 2

    three.press("B")
    three.click("images.before")

    assert three.find("annotate.classes").parent().current() == BACKGROUND
    assert three.annotation.selected_label == BACKGROUND


def test_a_label_chosen_in_naparis_own_controls_is_chosen_in_the_table(three):
    three.session.classes = class_table(["cell", "gland"])
    three.paint_both()

    three.annotation.selected_label = 2

    assert three.find("annotate.classes").parent().current() == 2


@pytest.mark.parametrize("button", ["complete", "clear", "rectangle"])
def test_what_cannot_be_done_to_planes_while_volumes_are_learned_is_said(three, button, notified):
    three.paint_both()
    three.session.volumes = True

    three.click(f"annotate.{button}")

    assert "untick 3-D" in three.text("annotate.status")
    assert notified == []


def test_images_follow_one_another_and_change_roles_while_volumes_are_learned(three, notified):
    three.paint_both()
    three.session.volumes = True
    keeping = three.work.keeping

    keeping.change(keeping.key_of(three.work.image), role="hold out")
    three.click("images.next")

    assert three.work.image.name == "im1"
    assert notified == []
    three.session.volumes = False
    three.click("images.before")
    assert three.counts == (64 * 32, 64 * 32)


# ---- which image it is


def two_channels(tmp_path) -> None:
    for number in range(2):
        pixels = np.stack([halves(64, 96), 255 - halves(64, 96)])
        tifffile.imwrite(tmp_path / f"two{number}.tif", pixels, metadata={"axes": "CYX"})


def test_an_image_whose_first_axis_is_channels_stays_so_when_it_is_shown_again(
    open_window, monkeypatch, tmp_path
):
    two_channels(tmp_path)
    window = open_window()
    window.click("column.images.toggle")
    answer(monkeypatch, "ask_new_folder", tmp_path / "mine")
    answer(monkeypatch, "ask_images", sorted(tmp_path.glob("two*.tif")))
    window.click("images.new")
    add(window)
    window.click("images.next")
    assert window.work.picture.n_channels == 2
    window.paint_both()

    window.work.keeping.show(key_of(window, "two0"))

    assert window.work.picture.n_channels == 2
    assert window.counts == (64 * 32, 64 * 32)


def test_channels_that_were_ticked_stay_so_when_another_image_was_chosen(open_window, image):
    window = open_window(image)
    window.viewer.add_image(255 - image, name="second")
    other = window.viewer.add_image(np.zeros((10, 10)), name="other")
    first, second = window.viewer.layers["im"], window.viewer.layers["second"]
    window.work.work_on(first, (second,))
    window.paint_both()

    window.viewer.layers.selection.active = other
    window.viewer.layers.selection.active = first

    assert window.work.channels == (second,)
    assert window.work.picture.n_channels == 2
    assert window.counts == (64 * 32, 64 * 32)


def test_images_of_one_name_are_learned_beside_each_other(
    three, open_window, monkeypatch, tmp_path
):
    three.paint_both()
    three.click("images.next")
    window = reopened(three, open_window, monkeypatch, tmp_path / "mine")
    folder = tmp_path / "others"
    folder.mkdir()
    tifffile.imwrite(folder / "im0.tif", halves(40, 60))
    window.viewer.open(folder / "im0.tif", plugin="napari")
    window.paint_both()
    painted = window.annotation

    window.train()

    assert window.session.counts == (64 * 32 + 40 * 20, 64 * 32 + 40 * 20)
    window.paint(1, slice(0, 2))
    window.stop()
    assert window.session.counts[1] > 64 * 32 + 40 * 20
    assert window.annotation is painted


def test_what_is_left_of_an_image_is_not_that_of_another_file(tmp_path):
    from napari.components import ViewerModel  # without a window, as napari 0.9 draws this badly

    from napari_unet.gui.viewer import Layers

    viewer = ViewerModel()
    layers, classes = Layers(viewer), class_table(1)

    def opened(folder: str):
        about = {OURS: {"path": tmp_path / folder / "im.tif"}}
        return viewer.add_image(halves(64, 96), name="im", metadata=about)

    def annotation(image):
        picture = layers.picture(image)
        return layers.annotate(image, picture, classes, lambda *_: None)

    first = annotation(opened("first"))
    viewer.layers.remove("im")
    second = annotation(opened("second"))
    viewer.layers.remove("im")

    assert second is not first
    assert annotation(opened("first")) is first


def test_results_lie_over_an_image_that_was_moved(open_window, image):
    window = open_window(image)
    layers, mask = window.work.layers, np.zeros((64, 96), np.uint8)
    layers.result(window.work.image, "prediction", mask, window.session.classes)

    window.work.image.scale = (3, 3)
    window.work.image.translate = (7, 1)
    layer = layers.result(window.work.image, "prediction", mask, window.session.classes)

    assert np.allclose(layer.data_to_world((1, 1)), window.work.image.data_to_world((1, 1)))


# ---- while something runs


def test_no_run_starts_by_itself_while_a_project_is_closed(three, monkeypatch, tmp_path):
    three.paint_both()
    three.click("images.next")
    three.paint_both()
    three.session.config = TINY
    three.click("train.auto")
    three.paint(1, slice(0, 3))
    three.until(lambda: three.session.training)
    three.learn()
    three.stop()
    answer(monkeypatch, "ask_new_folder", tmp_path / "another")

    three.click("images.new")

    assert not three.session.training
    assert three.session.pictures == {}


def test_an_image_that_was_taken_out_while_it_was_worked_on_is_not_told_of(three):
    key = key_of(three, "im1")
    three.work.keeping.remove(key)

    three.work.keeping.change(key, exported="2026-01-01")

    assert [card.name for card in three.work.keeping.project.images.values()] == ["im0", "im2"]


def test_a_picture_that_cannot_be_drawn_costs_no_model(three):
    class Gone:
        shape, dtype = (1, 64, 96), np.dtype(np.uint8)

        def __getitem__(self, _place):
            raise KeyError("the file is gone")

    three.paint_both()
    three.train()
    view = View(Picture("gone", Gone()), (slice(0, 64), slice(0, 96)), (0, 1))
    three.work._seen = Seen(1, view, np.zeros((64, 96), np.uint8), 0.1)
    three.work._timer.stop()
    three.session.look.on = False
    three.stop()

    assert three.work.kept_as == "mine"


def test_two_comparisons_do_not_meet(open_window, image, monkeypatch):
    window = open_window(image)
    window.paint_both()
    window.train()
    window.stop()
    window.open("Models")
    window.until(lambda: window.find("models.compare").isEnabled())

    window.click("models.compare")
    window.click("models.compare")

    assert "compared already" in window.text("models.status")
    window.until(lambda: "im: difference" in window.names())
    assert {"im: in use", "im: other"} <= set(window.names())
    assert "im: mask" not in window.names()


def test_a_volume_that_is_looked_at_from_the_side_has_a_preview():
    from io import BytesIO

    from PIL import Image

    from napari_unet.gui.preview import draw_preview

    picture = Picture("volume", np.zeros((1, 8, 40, 30), np.uint8))
    view = View(picture, (slice(0, 8), slice(0, 40), slice(5, 6)), (0, 1))

    drawn = draw_preview(view, np.ones((8, 40, 1), np.uint8), class_table(1))

    assert Image.open(BytesIO(drawn)).size == (40, 8)


def test_a_project_that_goes_on_as_another_learns_each_image_once(three, monkeypatch, tmp_path):
    three.paint_both()
    three.click("images.next")
    three.paint_both()
    answer(monkeypatch, "ask_new_folder", tmp_path / "copied")
    three.click("images.save_as")

    three.train()
    assert set(three.session.pictures) == {"im0", "im1"}
    three.stop()
    three.click("images.before")
    three.paint(0)

    assert three.counts == (64 * 32, 64 * 32), "of the other one"
    assert three.work.keeping.project.folder == tmp_path / "copied"


def test_an_image_that_is_learned_and_then_opened_as_a_file_is_learned_once(three, files):
    three.paint_both()
    three.click("images.next")
    assert set(three.session.pictures) == {"im0"}

    three.viewer.open(str(files[0]), plugin="napari")
    three.viewer.layers.selection.active = three.viewer.layers["im0"]
    three.click("annotate.new")

    assert len(three.session.pictures) == 1
    assert three.counts == (64 * 32, 64 * 32)


def test_a_class_that_is_added_is_painted_with(three):
    three.paint_both()
    three.press("1")

    three.click("annotate.add")

    assert three.find("annotate.classes").parent().current() == 2
    assert three.annotation.selected_label == 2


def test_the_wheel_scrolls_the_column_and_changes_nothing_in_it(three):
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    three.paint_both()
    three.open("Models")
    for name in ("segment.scope", "train.start_from", "images.recent", "annotate.image"):
        box = three.find(name)
        before, there = box.currentIndex(), QPointF(5, 5)
        turn = QWheelEvent(
            there, QPointF(box.mapToGlobal(QPoint(5, 5))), QPoint(), QPoint(0, -240),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        box.clearFocus()
        QApplication.sendEvent(box, turn)
        assert box.currentIndex() == before, name


def test_strokes_lie_on_an_image_that_was_moved(open_window, image):
    window = open_window(image)
    window.paint_both()

    window.work.image.scale = (2, 2)
    window.work.image.translate = (3, 4)

    place = window.annotation.data_to_world((5, 6))
    assert np.allclose(place, window.work.image.data_to_world((5, 6)))


# ---- what a mask says


def a_stack(open_window):
    window = open_window(np.stack([halves(64, 96)] * 3))
    window.paint_both()
    window.train()
    window.learn(30)
    window.stop()
    return window


def test_what_was_not_segmented_is_not_taken_over_as_background(open_window):
    window = a_stack(open_window)
    window.viewer.dims.set_current_step(0, 1)
    window.choose("segment.scope", "This image or slice")
    window.click("segment.run")
    window.until(lambda: window.find("segment.run").isEnabled())
    window.annotation.data[:] = 0
    window.find("annotate.adopting").setValue(True)
    window.choose("annotate.source", "im: mask")

    window.click("annotate.adopt")

    painted = window.annotation.data
    assert (painted[1] > 0).all()
    assert not painted[[0, 2]].any()


def test_objects_are_taken_over_as_their_classes(open_window, image):
    window = open_window(image)
    window.paint_both()
    window.train()
    window.learn(30)
    window.stop()
    window.click("segment.run")
    window.until(lambda: window.find("segment.run").isEnabled())
    blobs = window.viewer.layers["im: mask"].data
    blobs[:] = 0
    for place in range(5):
        blobs[10 * place : 10 * place + 7, 10:20] = 1
    window.choose("segment.objects", "Separate objects")
    window.until(lambda: window.viewer.layers["im: mask"].data.max() == 5)
    window.until(lambda: window.find("segment.run").isEnabled())
    window.annotation.data[:] = 0
    window.find("annotate.adopting").setValue(True)
    window.choose("annotate.source", "im: mask")
    assert window.text("annotate.mapping") == "1=1"

    window.click("annotate.adopt")

    assert len(window.session.classes) == 1
    assert set(np.unique(window.annotation.data)) == {1, BACKGROUND}


def test_whole_planes_are_not_meant_where_none_is_shown(open_window):
    window = open_window(np.stack([halves(64, 96)] * 3))
    window.paint(1, slice(0, 1), slice(0, 5))
    window.viewer.dims.order = (1, 0, 2)

    window.click("annotate.complete")

    assert "from the side; show its planes" in window.text("annotate.status")
    assert window.counts == (0, 5 * 96)


def test_what_was_segmented_in_part_is_known_to_be_when_it_is_opened_again(
    open_window, monkeypatch, tmp_path
):
    window = a_stack(open_window)
    answer(monkeypatch, "ask_new_folder", tmp_path / "mine")
    window.click("column.images.toggle")
    window.click("images.save_as")
    window.viewer.dims.set_current_step(0, 2)
    window.choose("segment.scope", "This image or slice")
    window.click("segment.run")
    project = window.work.keeping.project
    window.until(lambda: project.images[key_of(window, "im")].mask is not None)
    assert window.work.masks.of(window.work.image).parts is not None

    again = reopened(window, open_window, monkeypatch, tmp_path / "mine")
    again.until(lambda: again.work.masks.of(again.work.image) is not None)

    known = again.work.masks.of(again.work.image).is_known
    assert known.all((1, 2)).tolist() == [False, False, True]


def test_what_cannot_be_saved_at_the_end_is_kept_elsewhere(three, monkeypatch, notified):
    from napari_unet.project import open_project
    from napari_unet.records import recent

    folder = three.work.keeping.project.folder
    fill_disk(three, monkeypatch, notified)
    three.work.close()

    rescued = open_project(recent()[0])
    assert rescued.folder != folder
    key = next(k for k, card in rescued.images.items() if card.painted)
    assert (rescued.annotation(key) == 1).sum() == 6 * 96
    assert any("What could not be saved" in said for said in notified)
    rescued.close()
