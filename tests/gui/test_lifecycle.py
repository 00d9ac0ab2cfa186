"""What comes, goes and breaks while training is under way: nothing of it loses the work."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import TINY, halves

from napari_unet import training
from napari_unet.cards import list_models, read_card
from napari_unet.config import BACKGROUND
from napari_unet.project import open_project
from napari_unet.run import Control, Event

pytestmark = pytest.mark.gui

THIRDS = (64 * 32, 64 * 32)  # pixels that `paint_both` paints on the image of these tests
SMALLER = (48, 60)


@pytest.fixture
def learning(open_window, image) -> Any:
    """A window in which training is under way."""
    window = open_window(image)
    window.paint_both()
    window.train()
    return window


def engines() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("napari-unet")]


# ---- layers and images


@dataclass
class Mishap:
    """What somebody does to the layers, and what training knows of the strokes after it."""

    act: Callable[[Any], None]
    counts: tuple[int, int] = THIRDS
    says: str = ""


def annotation_deleted(window: Any) -> None:
    window.viewer.layers.remove("im: annotation")


def annotation_renamed(window: Any) -> None:
    window.viewer.layers["im: annotation"].name = "mine"


def annotation_replaced(window: Any) -> None:
    data = np.zeros((64, 96), np.uint8)
    data[:2, :3], data[5:8, :5] = 1, BACKGROUND
    window.viewer.layers["im: annotation"].data = data


def annotation_reshaped(window: Any) -> None:
    window.viewer.layers["im: annotation"].data = np.ones(SMALLER, np.uint8)


def image_renamed(window: Any) -> None:
    window.viewer.layers["im"].name = "other"


def image_replaced(window: Any) -> None:
    window.viewer.layers["im"].data = 255 - halves(64, 96)


def image_reshaped(window: Any) -> None:
    window.viewer.layers["im"].data = halves(*SMALLER)


def image_removed(window: Any) -> None:
    window.viewer.add_image(halves(64, 96), name="second")
    window.viewer.layers.remove("im")


def all_removed(window: Any) -> None:
    window.viewer.layers.clear()
    window.wait(0.1)  # napari itself crashes when it goes on before it has drawn
    window.viewer.add_image(halves(64, 96), name="im")


NO_LONGER = "no longer has the shape of its image"
MISHAPS = [
    Mishap(annotation_deleted, (0, 0)),
    Mishap(annotation_renamed),
    Mishap(annotation_replaced, (15, 6)),
    Mishap(annotation_reshaped, (0, 0), NO_LONGER),
    Mishap(image_renamed),
    Mishap(image_replaced),
    Mishap(image_reshaped, (0, 0), NO_LONGER),
    Mishap(image_removed, (0, 0)),
    Mishap(all_removed, (0, 0)),
]


@pytest.mark.parametrize("mishap", MISHAPS, ids=lambda m: m.act.__name__)
def test_training_outlives_what_happens_to_its_layers(learning, notified, mishap):
    window = learning

    mishap.act(window)

    assert window.counts == mishap.counts
    assert mishap.says in window.text("annotate.status")
    if not any(mishap.counts):
        window.until(lambda: window.phase == "resting")
    window.paint_both()
    edges = window.work.image.data.shape
    assert window.counts == (edges[0] * (edges[1] // 3),) * 2
    window.learn()
    window.until(lambda: window.work.layers.live() is not None)
    window.stop()
    assert list(list_models()) == ["im"]
    assert notified == []


def test_another_image_is_painted_and_seen_while_training(learning):
    window = learning
    window.until(lambda: "live" in window.names())

    window.viewer.add_image(255 - halves(64, 96), name="second", translate=(0, 100))
    window.viewer.reset_view()
    window.paint_both()

    assert window.counts == tuple(2 * n for n in THIRDS)
    live = window.viewer.layers["live"]
    window.until(lambda: live.data_to_world((0, 0))[1] >= 99)
    window.choose("annotate.image", "im")
    window.until(lambda: live.data_to_world((0, 0))[1] < 1)
    window.stop()


def test_deleting_the_live_overlay_switches_it_off(learning):
    window = learning
    window.until(lambda: "live" in window.names())

    window.viewer.layers.remove("live")
    window.learn(20)

    assert not window.find("train.live").isChecked()
    assert "live" not in window.names()
    window.click("train.live")
    window.until(lambda: "live" in window.names())
    window.stop()


def test_the_live_overlay_comes_back_after_all_layers_were_removed(learning):
    window = learning
    window.until(lambda: "live" in window.names())

    all_removed(window)

    assert window.find("train.live").isChecked()
    window.paint_both()
    window.until(lambda: "live" in window.names())
    window.stop()


def test_training_goes_on_in_a_3d_display(open_window):
    window = open_window(halves(4, 64, 96))
    window.paint_both()
    window.train()
    window.until(lambda: "live" in window.names())

    window.viewer.dims.ndisplay = 3
    window.learn(20)
    window.viewer.dims.ndisplay = 2
    window.viewer.dims.set_current_step(0, 3)

    live = window.viewer.layers["live"]
    window.until(lambda: live.data_to_world((0, 0, 0))[0] == 3)
    window.stop()


# ---- classes


def learned_classes(window: Any) -> int:
    """How many classes the model in training tells apart."""
    newest = window.session.newest
    return 0 if newest is None else len(newest.card.classes)


def test_a_class_comes_and_goes_while_training(learning, notified):
    window = learning

    window.click("annotate.add")
    window.until(lambda: learned_classes(window) == 2)
    window.paint(2, slice(0, 10), slice(40, 50))
    assert window.counts == (*THIRDS, 100)
    window.learn()
    window.find("annotate.classes").parent().setCurrent(1)
    window.click("annotate.remove")
    window.until(lambda: learned_classes(window) == 1)
    assert window.counts == (THIRDS[0], 100)
    window.stop()

    assert [len(card.classes) for card in list_models().values()] == [1]
    assert notified == []


def test_other_axes_while_training_begin_it_anew(open_window, notified):
    window = open_window(np.stack([halves(64, 96)] * 3))
    window.paint_both()
    window.train()

    for ndim in (3, 2):
        window.session.volumes = ndim == 3
        window.until(lambda n=ndim: window.session.newest.card.net.ndim == n, seconds=60)
    window.stop()

    assert notified == []


# ---- docks


def test_the_train_dock_is_closed_and_opened_while_training(open_window, image):
    window = open_window(image, "Train")
    window.paint_both()
    window.train()

    window.close_docks("Train")
    window.learn()
    window.open("Train")

    assert "Learning from 1 image" in window.text("train.status")
    assert window.enabled("train.start", "train.pause", "train.stop") == {"pause", "stop"}
    window.stop()
    window.until(lambda: window.find("train.keep").isVisible())
    assert window.find("train.keep").currentData() == "best"


def test_a_dock_opened_after_a_run_knows_it(open_window, image):
    window = open_window(image, "Train")
    window.paint_both()
    window.train()
    window.stop()

    window.close_docks("Train")
    window.open("Train")

    assert [window.find("train.keep").itemData(i) for i in range(2)] == ["best", "last"]
    assert window.find("train.start_from").value() == "in use"


@pytest.mark.parametrize("held", [False, True])
def test_closed_docks_are_not_missed(open_window, image, notified, held):
    names = ("Annotate", "Train", "Segment", "Models")
    window = open_window(image)
    inside = [window.find(f"{name.lower()}.status").parentWidget() for name in names[:3]]
    window.find("train.auto").setChecked(True)
    for name in names:
        window.open(name)
    if not held:  # by Python, when Qt has let them go
        inside.clear()

    gc.disable()  # which may come late
    window.close_docks("Workspace", *names)
    gc.enable()
    with pytest.raises(LookupError):
        window.find("train.start")
    window.paint_both()
    assert not window.session.training  # whoever ticked "Start by itself" has closed it
    window.work.start_training()
    window.learn()
    window.session.classes = (*window.session.classes, window.session.classes[0])
    window.until(lambda: window.session.training and window.session.progress.step > 3)
    window.viewer.layers["im"].name = "new"
    window.viewer.layers.remove("im: annotation")
    window.work.stop_training()
    window.until(lambda: not window.session.training)

    assert "im" in list_models()
    assert notified == []
    assert len(inside) == 3 * held


@pytest.mark.parametrize("dock", ["Segment", "Workspace"])
def test_training_goes_on_when_the_dock_it_waits_for_is_closed(open_window, image, notified, dock):
    window = open_window(image, dock)
    window.paint_both()
    window.session.config = TINY
    window.work.start_training()
    window.until(lambda: window.session.newest is not None)

    window.click("segment.run")
    phase = window.phase
    window.close_docks(dock)

    assert phase == "paused"
    window.learn()
    assert notified == []


# ---- viewers


def test_closing_the_viewer_keeps_what_was_learned(learning):
    folder = learning.work.keeping.project.folder
    learning.viewer.close()
    learning.wait(0.05)

    ((name, card),) = list_models().items()
    assert card.current.steps >= 3
    project = open_project(folder)
    assert read_card(project.model_folder(name)).current.steps == card.current.steps
    assert project.card.model == name
    project.close()
    assert engines() == []


def test_closing_waits_for_a_last_look_that_takes_long(open_window, image, monkeypatch):
    from napari_unet.gui import jobs

    finish = training._Run.finish

    def slow(run, *others):
        time.sleep(1)
        yield from finish(run, *others)

    monkeypatch.setattr(jobs, "LAST_SECONDS", 0.01)  # for all that is no training
    monkeypatch.setattr(training._Run, "finish", slow)
    window = open_window(image)
    window.paint_both()
    window.train()

    window.viewer.close()
    window.wait(0.05)

    assert len(list_models()) == 1


def test_two_viewers_do_not_disturb_each_other(open_window, image):
    first, second = open_window(image), open_window(255 - image)
    for window in (first, second):
        window.paint_both()
        window.train()

    first.paint(1, slice(0, 4))
    first.stop()

    assert second.counts == THIRDS
    second.learn()
    assert engines().count("napari-unet training") == 1
    second.stop()


# ---- faults


def test_a_fault_of_a_thread_is_told_once(open_window, image, notified, monkeypatch):
    from napari._qt.dialogs.qt_notification import NapariQtNotification
    from qtpy.QtWidgets import QApplication, QPushButton

    def broken(*_: Any, **__: Any) -> Any:
        yield from ()
        raise RuntimeError("out of ink\nand paper")

    monkeypatch.setattr("napari_unet.training.train", broken)
    window = open_window(image)
    window.paint_both()

    window.click("train.start")
    window.until(lambda: not window.session.training)
    window.wait(0.2)

    (told,) = notified
    assert "fault of napari-unet: out of ink. What was painted" in told
    assert told == window.text("train.status")
    assert window.enabled("train.start", "train.pause", "train.stop") == {"start"}
    (popup,) = window.window.findChildren(NapariQtNotification)
    (copy,) = [b for b in popup.findChildren(QPushButton) if b.text() == "Copy details"]
    copy.click()
    assert "RuntimeError: out of ink\nand paper" in QApplication.clipboard().text()


@dataclass(frozen=True)
class Counted(Event):
    threads: int


def test_a_job_has_all_threads_though_another_computes_with_one(open_window):
    """PyTorch gives a new thread as many as were set last, in whichever thread."""
    import torch

    from napari_unet.threads import one_thread

    def with_one() -> None:
        with one_thread():
            inside.set()
            done.wait(30)

    def count() -> Iterator[Event]:
        yield Counted(torch.get_num_threads())

    window = open_window()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    inside, done, found = threading.Event(), threading.Event(), []
    other = threading.Thread(target=with_one)
    other.start()
    try:
        assert inside.wait(30)
        window.work.jobs.start("counting", count(), Control(), found.append)
        window.until(lambda: found)
    finally:
        done.set()
        other.join()
        torch.set_num_threads(before)
    assert found == [Counted(2)]
