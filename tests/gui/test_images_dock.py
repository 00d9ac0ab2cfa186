"""The Images dock: what is painted is kept, projects open again, one image follows the other."""

from __future__ import annotations

import threading
from datetime import timedelta

import numpy as np
import pytest
import tifffile
from conftest import add, answer, halves, saved

from napari_unet.cards import library_folder, list_models
from napari_unet.config import BACKGROUND, class_table
from napari_unet.library import load_model
from napari_unet.project import open_project
from napari_unet.records import recent
from napari_unet.run import BadInput, Control
from napari_unet.segmenting import Segmented, new_result

pytestmark = pytest.mark.gui


def rows(window) -> list[list[str]]:
    table = window.find("images.table")
    items = [table.topLevelItem(row) for row in range(table.topLevelItemCount())]
    return [[item.text(c) for c in range(6)] for item in items if not item.isHidden()]


def test_what_is_painted_is_in_a_scratch_project_without_being_asked(open_window, image):
    window = open_window(image)
    assert recent() == []

    window.click("annotate.new")
    window.annotation.brush_size = 1
    window.draw((10, 10), (10, 30))
    saved(window)

    (folder,) = recent()
    copy = open_project(folder)
    (key,) = copy.images
    assert copy.read_only, "it is open here"
    assert np.array_equal(copy.annotation(key), window.annotation.data)
    assert np.array_equal(copy.read(key).data[0], image)


def test_an_undone_stroke_is_undone_on_disk(open_window, image):
    window = open_window(image)
    window.click("annotate.new")
    window.draw((10, 10), (10, 30))
    saved(window)

    window.undo()
    saved(window)

    project = window.work.keeping.project
    assert not project.sheets(next(iter(project.images))).read()[0].any()


def test_files_are_added_and_strangers_left_out(three, files, monkeypatch):
    (files[0].parent / "notes.tif").write_text("not an image")
    answer(monkeypatch, "ask_folder", files[0].parent)

    add(three, "images.add_folder")

    assert three.text("images.project") == "Project: mine"
    assert [row[0] for row in rows(three)] == ["im0", "im1", "im2", "im0 2", "im1 2", "im2 2"]
    said = three.text("images.status")
    assert said.startswith("3 images added. Left out: ")
    assert "notes.tif is not an image of a kind read here" in said


def slow_reading(monkeypatch) -> tuple[threading.Event, threading.Event]:
    """When the first file is about to be read, and what all wait for."""
    from napari_unet.gui import adding

    began, go = threading.Event(), threading.Event()
    read = adding.read_image

    def slow(path):
        began.set()
        assert go.wait(30), "the window waited for it"
        return read(path)

    monkeypatch.setattr(adding, "read_image", slow)
    return began, go


def test_the_window_goes_on_while_files_are_read(three, files, monkeypatch):
    _, go = slow_reading(monkeypatch)
    answer(monkeypatch, "ask_images", files)
    three.click("images.add")
    said, before = three.text("images.status"), len(rows(three))
    three.click("images.next")
    shown = three.work.image.name
    go.set()
    three.until(lambda: "added." in three.text("images.status"))

    assert (said, before, shown) == ("Adding images ...", 3, "im1")
    assert three.text("images.status") == "3 images added."
    assert len(rows(three)) == 6


def test_files_that_are_still_read_do_not_come_into_another_project(
    three, files, monkeypatch, tmp_path
):
    began, go = slow_reading(monkeypatch)
    answer(monkeypatch, "ask_images", files)
    three.click("images.add")
    assert began.wait(30)
    answer(monkeypatch, "ask_new_folder", tmp_path / "other")
    three.click("images.new")
    go.set()
    three.until(lambda: "added." in three.text("images.status"))

    assert three.text("images.project") == "Project: other"
    assert three.text("images.status").startswith("0 images added. The rest was left when another")
    assert rows(three) == []


def test_files_wait_while_memory_is_full(files):
    from napari_unet.gui.adding import Read, read_all

    room, control = threading.Event(), Control()
    read = read_all(files, lambda: not room.is_set(), control)
    threading.Timer(0.3, room.set).start()

    assert isinstance(next(read), Read)
    assert room.is_set(), "it came before there was room"

    room.clear()
    threading.Timer(0.3, control.stop).start()
    assert list(read) == []


def test_a_folder_without_images_is_told_of(three, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    answer(monkeypatch, "ask_folder", tmp_path / "empty")

    add(three, "images.add_folder")

    said = three.text("images.status")
    assert said.startswith("0 images added. Left out: ")
    assert "empty holds no images" in said


def test_one_image_follows_the_other_and_all_are_learned(three):
    for name in ("im0", "im1", "im2"):
        assert three.work.image.name == name
        three.paint_both()
        three.click("images.next")
    assert three.work.image.name == "im0"
    assert three.names() == ["im0", "im0: annotation"]

    counts = three.counts
    three.train()
    assert set(three.session.pictures) == {"im0", "im1", "im2"}
    three.stop()
    saved(three)

    assert counts == (3 * 64 * 32, 3 * 64 * 32)
    assert [row[1] for row in rows(three)] == ["trained on"] * 3
    assert [row[2] for row in rows(three)] == ["66.7 %"] * 3


def test_a_project_is_opened_as_it_was_left(three, open_window, tmp_path, monkeypatch):
    three.paint(1, slice(0, 5))
    three.click("images.next")
    three.paint(BACKGROUND, slice(3, 9))
    painted = three.annotation.data.copy()
    saved(three)
    three.work.close()

    again = open_window()
    again.click("column.images.toggle")
    answer(monkeypatch, "ask_folder", tmp_path / "mine")
    again.click("images.open")
    again.wait(0.1)

    assert again.names() == ["im1", "im1: annotation"]
    assert np.array_equal(again.annotation.data, painted)
    again.click("images.before")
    assert np.unique(again.annotation.data[:5]).tolist() == [1]


def test_a_project_that_is_open_elsewhere_is_read_only_and_says_so(
    three, open_window, tmp_path, monkeypatch, notified
):
    three.paint(1, slice(0, 5))
    saved(three)

    second = open_window()
    second.click("column.images.toggle")
    answer(monkeypatch, "ask_folder", tmp_path / "mine")
    second.click("images.open")

    assert any("is open in another program" in said for said in notified)
    second.paint(1)
    saved(three)
    assert three.work.keeping.project.images.keys() == second.work.keeping.project.images.keys()
    key = three.work.keeping.key_of(three.work.image)
    assert three.work.keeping.project.sheets(key).read()[0].sum() == 5 * 96


def test_a_scratch_project_gets_a_name(open_window, image, tmp_path, monkeypatch):
    window = open_window(image)
    window.click("column.images.toggle")
    window.paint(1, slice(0, 5))
    saved(window)
    answer(monkeypatch, "ask_new_folder", tmp_path / "named")

    window.click("images.save_as")
    window.paint(1, slice(5, 9))
    saved(window)

    copy = open_project(tmp_path / "named")
    (key,) = copy.images
    assert copy.card.name == "named"
    assert copy.annotation(key).sum() == 9 * 96
    assert window.text("images.project") == "Project: named"


def test_a_project_whose_image_was_moved_opens_and_says_so(three, files, open_window, notified):
    folder = three.work.keeping.project.folder
    three.work.close()
    files[0].rename(files[0].with_name("moved.tif"))
    again = open_window()

    again.work.keeping.open(folder)

    assert len(again.work.keeping.project.images) == 3
    assert "im0.tif; say where it is now" in notified[-1]


def test_a_missing_image_is_located_by_its_pixels(three, files, monkeypatch):
    three.click("images.next")
    saved(three)
    files[0].rename(files[0].with_name("moved.tif"))
    answer(monkeypatch, "ask_images", [files[1]])
    table = three.find("images.table")
    table.setCurrentItem(table.topLevelItem(0))

    three.click("images.show")
    assert "im0.tif; say where it is now" in three.text("images.status")
    three.click("images.locate")
    assert "is another image than 'im0' was" in three.text("images.status")
    answer(monkeypatch, "ask_images", [files[0].with_name("moved.tif")])
    three.click("images.locate")
    three.click("images.show")

    assert three.work.image.name == "im0"


def test_a_disk_that_fails_is_told_of_once(three, notified, monkeypatch):
    from napari_unet.run import BadInput

    monkeypatch.setattr("napari_unet.project.AGAIN_SECONDS", 0.05)
    project = three.work.keeping.project
    saved(three)

    def fail(*args):
        raise BadInput("The disk is full.")

    monkeypatch.setattr(project, "_write", fail)
    three.paint(1)
    three.until(lambda: notified)
    three.wait(0.5)
    monkeypatch.undo()
    saved(three)

    assert len(notified) == 1
    assert "Not saved: The disk is full. Go on painting" in notified[0]
    assert project.sheets(three.work.keeping.key_of(three.work.image)).read()[0].all()


def test_an_earlier_state_is_painted_again_and_can_be_undone(three, monkeypatch):
    monkeypatch.setattr("napari_unet.sheets.APART", timedelta(0))
    three.paint(1, slice(0, 5))
    saved(three)
    three.wait(1.1)  # generations are told apart by the second
    three.paint(BACKGROUND, slice(0, 9))
    saved(three)
    keeping = three.work.keeping
    key = keeping.key_of(three.work.image)
    time, _before_the_first = keeping.generations(key)

    keeping.restore(key, time)

    assert np.unique(three.annotation.data[:5]).tolist() == [1]
    assert not three.annotation.data[5:].any()
    assert three.undo() == (9 * 96, 0)


def test_notes_and_roles_are_kept(three, tmp_path):
    table = three.find("images.table")
    table.topLevelItem(1).setText(5, "blurred")
    keeping = three.work.keeping
    key = next(k for k, c in keeping.project.images.items() if c.name == "im2")
    keeping.change(key, role="hold out")
    saved(three)

    assert [row[4:] for row in rows(three)] == [
        ["learn and judge", ""],
        ["learn and judge", "blurred"],
        ["judge", ""],
    ]
    first, second, third = open_project(tmp_path / "mine").images.values()
    assert (first.note, second.note) == ("", "blurred")
    assert (first.role, third.role) == ("both", "hold out")


def test_the_filter_leaves_what_it_says(three, qtbot):
    qtbot.keyClicks(three.find("images.filter"), "im1")

    assert [row[0] for row in rows(three)] == ["im1"]


def test_keys_go_from_image_to_image(three):
    for key, name in (("Down", "im1"), ("Up", "im0"), ("Up", "im2")):
        three.press(key, "AltModifier")
        assert three.work.image.name == name


def test_another_project_brings_its_own_images_and_classes(three, tmp_path, monkeypatch):
    three.paint(1, slice(0, 5))
    three.session.classes = class_table(["cell", "gland"])
    saved(three)
    answer(monkeypatch, "ask_new_folder", tmp_path / "other")

    three.click("images.new")
    assert rows(three) == []
    assert three.counts == (0, 0, 0)
    answer(monkeypatch, "ask_folder", tmp_path / "mine")
    three.session.classes = class_table(1)
    three.click("images.open")

    assert [c.name for c in three.session.classes] == ["cell", "gland"]
    assert three.counts == (0, 5 * 96, 0)
    assert open_project(tmp_path / "other").images == {}


def test_a_run_is_copied_as_a_script(three, tmp_path):
    from qtpy.QtWidgets import QApplication

    three.paint_both()
    three.train()
    three.stop()
    three.until(lambda: three.find("train.copy").isVisible())

    three.click("train.copy")

    script = QApplication.clipboard().text()
    assert "import napari_unet as nu" in script
    assert f"{str(tmp_path / 'mine')!r}" in script
    assert "width=4" in script


def test_removing_a_class_renumbers_images_that_are_not_open(three):
    three.session.classes = class_table(["cell", "gland"])
    three.paint(1, slice(0, 5))
    three.paint(2, slice(5, 9))
    three.click("images.next")
    three.paint(2, slice(0, 3))

    three.work.remove_class(1)
    saved(three)

    assert three.counts == (0, 7 * 96)
    project = three.work.keeping.project
    first, second, _ = (project.sheets(key).read()[0] for key in project.images)
    assert np.unique(first[:5]).tolist() == [0]
    assert np.unique(first[5:9]).tolist() == [1]
    assert np.unique(second[:3]).tolist() == [1]


def test_an_image_to_judge_by_is_not_trained_on(three):
    three.paint_both()
    three.click("images.next")
    three.paint_both()
    three.work.keeping.change(three.work.keeping.key_of(three.work.image), role="hold out")

    three.train()
    three.until(lambda: three.session.progress.dice is not None)
    three.stop()

    assert three.session.progress.held_out == 2 * 64 * 32


def test_deleting_the_annotation_layer_loses_nothing(three):
    three.paint(1, slice(0, 5))
    three.viewer.layers.remove("im0: annotation")
    assert three.counts == (0, 0)

    three.click("annotate.new")

    assert three.annotation.data.sum() == 5 * 96
    three.paint(1, slice(5, 6))
    saved(three)
    assert len(three.work.keeping.project.images) == 3


def test_a_project_without_a_lock_is_not_painted_on_in_silence(
    three, open_window, tmp_path, monkeypatch
):
    three.wait(0)
    answer(monkeypatch, "ask_folder", tmp_path / "mine")

    three.click("images.open")

    assert "'mine' is open already." in three.text("images.status")
    assert not three.work.keeping.project.read_only


def test_a_layer_of_a_file_that_was_painted_before_brings_its_strokes(three, files):
    three.paint(1, slice(0, 5))
    three.click("images.next")
    three.viewer.open(str(files[0]), plugin="napari")
    three.viewer.layers.selection.active = three.viewer.layers["im0"]

    three.click("annotate.new")

    assert three.annotation.data.sum() == 5 * 96
    assert len(three.work.keeping.project.images) == 3


def test_script_text_in_names_is_shown_as_it_is(open_window, image):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QLabel

    name = "<img src='file:///etc/hostname'><script>alert(1)</script><b>x"
    window = open_window(image, name=name)
    window.click("column.images.toggle")
    window.session.classes = class_table([name])
    window.paint_both()
    window.until(lambda: len(rows(window)) == 1)

    assert rows(window)[0][0] == name
    labels = window.window.findChildren(QLabel)
    ours = [label for label in labels if label.objectName().startswith("unet.")]
    assert len(ours) > 5
    assert {label.textFormat() for label in ours} == {Qt.TextFormat.PlainText}


def test_others_that_were_moved_along_are_found_with_the_first(three, files, tmp_path, monkeypatch):
    three.click("images.next")
    saved(three)
    files[0].parent.rename(tmp_path / "elsewhere")
    answer(monkeypatch, "ask_images", [tmp_path / "elsewhere" / "im0.tif"])
    table = three.find("images.table")
    table.setCurrentItem(table.topLevelItem(0))

    three.click("images.locate")

    assert three.text("images.status").endswith("elsewhere now; so are 2 more.")


@pytest.mark.parametrize(("button", "ask"), [("open", "ask_folder"), ("new", "ask_new_folder")])
def test_a_folder_that_will_not_do_changes_nothing(three, files, monkeypatch, button, ask):
    answer(monkeypatch, ask, files[0].parent)
    before = three.names(), rows(three)

    three.click(f"images.{button}")

    assert three.text("images.status")
    assert (three.names(), rows(three)) == before
    assert three.text("images.project") == "Project: mine"


def test_what_was_painted_last_is_offered_to_an_empty_viewer(open_window, image):
    window = open_window(image, name="slide")
    window.paint(1, slice(0, 5))
    saved(window)
    window.work.close()

    again = open_window()
    assert again.text("annotate.go_on").startswith("Go on with 'slide', ")
    again.click("annotate.go_on")

    assert again.names() == ["slide", "slide: annotation"]
    assert again.annotation.data.sum() == 5 * 96


def test_an_image_of_another_kind_gets_no_layer_to_paint_on(three, files):
    three.paint(1, slice(0, 5))
    three.viewer.add_image(np.stack([halves(64, 96)] * 3, -1), name="color", rgb=True)

    three.click("annotate.new")

    assert "color: annotation" not in three.names()
    assert "begin another project" in three.text("annotate.status")


def test_a_project_with_other_settings_keeps_its_classes(three, tmp_path, monkeypatch):
    three.session.classes = class_table(["cell", "gland"])
    three.session.config = three.session.config.model_copy(update={"width": 8})
    saved(three)
    answer(monkeypatch, "ask_new_folder", tmp_path / "other")
    three.click("images.new")
    three.session.classes = class_table(1)
    three.session.config = three.session.config.model_copy(update={"width": 4})
    answer(monkeypatch, "ask_folder", tmp_path / "mine")

    three.click("images.open")
    saved(three)

    assert [c.name for c in three.session.classes] == ["cell", "gland"]
    assert three.session.config.width == 8
    card = open_project(tmp_path / "mine").card
    assert [c.name for c in card.classes] == ["cell", "gland"]
    assert card.training["width"] == 8


@pytest.fixture
def segmented(three):
    """The first of three images painted, learned and segmented; its mask is kept."""
    three.paint_both()
    three.train()
    three.learn(30)
    three.stop()
    three.click("segment.run")
    three.until(lambda: project_of(three).mask is not None)
    return three


def project_of(window):
    """What the project knows of its first image."""
    return next(iter(window.work.keeping.project.images.values()))


def test_a_mask_is_there_again_when_its_image_is(segmented):
    mask = segmented.viewer.layers["im0: mask"].data.copy()
    assert 0 < mask.sum() < mask.size

    segmented.click("images.next")
    assert "im0: mask" not in segmented.names()
    segmented.click("images.before")
    segmented.until(lambda: "im0: mask" in segmented.names())

    assert np.array_equal(segmented.viewer.layers["im0: mask"].data, mask)
    assert segmented.find("segment.export").isEnabled()
    assert project_of(segmented).mask.model == "mine"
    assert rows(segmented)[0][1] == "predicted"


def test_a_project_that_was_moved_brings_its_masks_and_its_model(
    segmented, open_window, tmp_path, monkeypatch
):
    mask = segmented.viewer.layers["im0: mask"].data.copy()
    segmented.choose("train.start_from", "The model in use")
    segmented.train()
    segmented.stop()
    saved(segmented)
    segmented.work.close()
    (tmp_path / "mine").rename(tmp_path / "moved")
    (tmp_path / "pictures").rename(tmp_path / "moved" / "pictures")
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "another home"))

    again = open_window()
    again.click("column.images.toggle")
    answer(monkeypatch, "ask_folder", tmp_path / "moved")
    again.click("images.open")
    again.until(lambda: again.session.model is not None)

    assert again.session.model.card.name == "mine"
    assert [v.number for v in again.session.model.card.versions] == [1, 2]
    answer(monkeypatch, "ask_images", [tmp_path / "moved" / "pictures" / "im0.tif"])
    again.find("images.table").setCurrentItem(again.find("images.table").topLevelItem(0))
    again.click("images.locate")
    again.click("images.show")
    again.until(lambda: "im0: mask" in again.names())
    assert np.array_equal(again.viewer.layers["im0: mask"].data, mask)


def test_all_of_the_project_is_segmented_and_each_mask_kept(segmented, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_unet.gui.segment.ask_folder", lambda *_: tmp_path / "masks")
    segmented.choose("segment.scope", "All of the project")
    segmented.click("segment.run")
    segmented.until(lambda: "3 of 3" in segmented.text("segment.status"))
    segmented.until(lambda: [row[1] for row in rows(segmented)] == ["exported"] * 3)

    segmented.click("images.next")
    segmented.until(lambda: "im1: mask" in segmented.names())

    written = tifffile.imread(tmp_path / "masks" / "im1.tif")
    assert np.array_equal(segmented.viewer.layers["im1: mask"].data, written)


def test_the_score_of_an_image_to_judge_by_is_in_its_row(three):
    for _ in range(2):
        three.paint_both()
        three.click("images.next")
    three.work.keeping.change(list(three.work.keeping.project.images)[1], role="hold out")

    three.train()
    three.stop()

    score = three.session.model.card.held_out["im1"]
    assert [row[3] for row in rows(three)] == ["", f"{score:.2f}", ""]


def test_masks_of_a_project_are_written_as_the_files_that_were_chosen(
    segmented, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_unet.gui.segment.ask_folder", lambda *_: tmp_path / "out")
    assert not segmented.find("segment.format").isVisible()
    segmented.choose("segment.scope", "All of the project")
    segmented.choose("segment.format", "GeoJSON")

    segmented.click("segment.run")
    segmented.until(lambda: "3 of 3" in segmented.text("segment.status"))

    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == [
        f"im{n}.geojson" for n in range(3)
    ]


def test_a_run_that_was_cancelled_leaves_the_masks_that_are_kept(segmented, tmp_path, monkeypatch):
    mask = segmented.viewer.layers["im0: mask"].data.copy()

    def cancelled(*_: object):
        picture = segmented.work.picture
        yield Segmented(new_result(picture), stopped=True)

    monkeypatch.setattr("napari_unet.gui.segment.segment_files", cancelled)
    monkeypatch.setattr("napari_unet.gui.segment.ask_folder", lambda *_: tmp_path / "masks")
    segmented.choose("segment.scope", "All of the project")
    segmented.click("segment.run")
    segmented.until(lambda: segmented.find("segment.run").isEnabled())
    segmented.wait(0.2)

    key = next(iter(segmented.work.keeping.project.images))
    assert np.array_equal(segmented.work.keeping.project.read_mask(key)[0], mask)


def test_part_of_an_image_that_is_segmented_anew_keeps_the_rest(segmented):
    """The mask is not read yet when it is asked for a part."""
    mask = segmented.viewer.layers["im0: mask"].data.copy()
    segmented.click("images.next")
    key = next(iter(segmented.work.keeping.project.images))
    segmented.work.masks.recall = lambda *_: None
    segmented.work.keeping.show(key)

    result = segmented.work.masks.begin(segmented.work.image, segmented.work.picture)

    assert np.array_equal(result.labels, mask)


def test_a_model_is_in_the_library_though_the_project_cannot_take_it(three, notified, monkeypatch):
    def full(*_: object) -> None:
        raise BadInput("the disk is full")

    monkeypatch.setattr("napari_unet.project.Project.keep_model", full)
    three.paint_both()

    three.train()
    three.stop()

    assert set(list_models()) == {"mine"}
    assert "the disk is full" in notified


def test_another_model_of_the_same_name_is_not_taken_for_the_projects(
    segmented, open_window, tmp_path, monkeypatch
):
    weights = segmented.session.model.card.current.sha256
    saved(segmented)
    segmented.work.close()
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "another home"))
    other = load_model(tmp_path / "mine" / "models" / "mine")
    other.weights = {k: v + 1 for k, v in other.weights.items()}
    other.save(library_folder() / "mine")

    for _ in range(2):  # and not once more each time
        again = open_window()
        again.work.keeping.open(tmp_path / "mine")
        again.until(lambda window=again: window.session.model is not None)
        assert again.session.model.card.name == "mine 2"
        assert again.session.model.card.current.sha256 == weights
        again.work.close()
    assert set(list_models()) == {"mine", "mine 2"}
