"""The Models dock: what it lists, what its buttons do to the library, and what it says."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from napari_unet.cards import (
    Card,
    Version,
    library_folder,
    list_models,
    read_card,
)
from napari_unet.config import NetConfig, class_table

pytestmark = pytest.mark.gui

DAYS = "2025-07-{:02d}T12:00:00+00:00"


@pytest.fixture(autouse=True)
def _own_library(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))


def card_of(name: str, classes: list[str], versions: int = 1) -> Card:
    return Card(
        name=name,
        net=NetConfig(width=4, depth=2, n_classes=len(classes)),
        classes=class_table(classes),
        axes="CYX",
        spacing=(0.5, 0.25),
        unit="micrometer",
        images={"a": "0" * 64},
        labelled=(1200, 34),
        versions=tuple(
            Version(number=n, created=DAYS.format(n), steps=n, seconds=n, dice=n / 8)
            for n in range(1, versions + 1)
        ),
    )


def put(name: str, classes: list[str] | None = None, versions: int = 1) -> Path:
    """A model in the library that can be looked at, but has no weights to load."""
    folder = library_folder() / name
    folder.mkdir(parents=True)
    for file, text in card_of(name, classes or ["cell"], versions).files().items():
        (folder / file).write_bytes(text)
    return folder


def put_sound(folder: Path, name: str = "cells", versions: int = 1) -> Path:
    """A model with weights, anywhere."""
    import torch

    from napari_unet.library import Model
    from napari_unet.models import build

    torch.manual_seed(0)
    for number in range(1, versions + 1):
        card = card_of(name, ["cell"], number)
        folder = Model(card, build(card.net).state_dict()).save(folder)
    return folder


def picture(color: str, width: int = 60, height: int = 40) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return file.getvalue()


class Driver:
    """A dock on screen, used as a person would."""

    def __init__(self, qtbot, viewer) -> None:
        from napari_unet.gui.models import ModelsDock
        from napari_unet.gui.workspace import Workspace

        self.qtbot = qtbot
        self.session = Workspace.of(viewer).session
        self.dock = ModelsDock(viewer)
        qtbot.addWidget(self.dock)
        self.dock.resize(320, 600)
        self.dock.show()
        qtbot.waitExposed(self.dock)

    def find(self, name: str):
        from qtpy.QtWidgets import QWidget

        found = self.dock.findChild(QWidget, f"unet.models.{name}")
        assert found is not None, name
        return found

    @property
    def list(self):
        return self.find("list")

    def rows(self) -> list[str]:
        items = map(self.list.item, range(self.list.count()))
        return [item.text() for item in items if not item.isHidden()]

    def row(self, name: str):
        """The middle of a row."""
        item = self.list.item(self.rows().index(name))
        return self.list.visualItemRect(item).center()

    def pick(self, name: str) -> None:
        from qtpy.QtCore import Qt

        viewport = self.list.viewport()
        self.qtbot.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=self.row(name))

    def click(self, name: str) -> None:
        from qtpy.QtCore import Qt

        self.qtbot.mouseClick(self.find(name), Qt.MouseButton.LeftButton)

    def press(self, key: str) -> None:
        from qtpy.QtCore import Qt

        self.qtbot.keyClick(self.list, getattr(Qt.Key, f"Key_{key}"))

    def type_name(self, name: str) -> None:
        """Over the old name, in the list."""
        from qtpy.QtCore import Qt

        editor = self.find("name")
        self.qtbot.keyClicks(editor, name)
        self.qtbot.keyClick(editor, Qt.Key.Key_Return)

    @property
    def current(self) -> str:
        return self.list.currentItem().text()

    @property
    def said(self) -> str:
        return self.find("status").text() if self.find("status").isVisible() else ""

    @property
    def card(self) -> str:
        return self.find("card").text()

    def enabled(self) -> set[str]:
        names = ("use", "compare", "rename", "duplicate", "delete", "import", "export")
        return {name for name in names if self.find(name).isEnabled()}

    def in_use(self) -> tuple[str, int] | None:
        """Name and version of the model that the docks work with."""
        model = self.session.model
        return None if model is None else (model.card.name, model.card.current.number)


@pytest.fixture
def open_dock(qtbot, make_napari_viewer):
    return lambda: Driver(qtbot, make_napari_viewer())


@pytest.fixture
def trash(monkeypatch, tmp_path) -> Path:
    """A trash that is a folder."""

    def move(path: Path) -> Path:
        return path.rename(tmp_path / "trash" / path.name)

    (tmp_path / "trash").mkdir()
    monkeypatch.setattr("napari_unet.gui.models.move_to_trash", move)
    return tmp_path / "trash"


# ---- what is shown


def test_an_empty_library_says_what_to_do(open_dock):
    dock = open_dock()

    assert dock.find("empty").isVisible()
    assert dock.find("empty").text() == (
        "No models yet. Train one in the Train dock, or import one."
    )
    assert dock.enabled() == {"import"}
    assert not dock.find("card").isVisible()
    assert dock.said == ""


def test_models_are_listed_by_name_and_one_is_chosen(open_dock):
    for name in ("Nuclei", "cells", "Membranes"):
        put(name)

    dock = open_dock()

    assert dock.rows() == ["cells", "Membranes", "Nuclei"]
    assert dock.current == "cells"
    assert not dock.find("empty").isVisible()
    assert not dock.find("filter").isVisible()
    assert dock.enabled() == {"use", "compare", "rename", "duplicate", "delete", "import", "export"}


def test_the_card_of_the_chosen_model_is_shown(open_dock):
    put("cells")
    put("tissue", ["gland <i>", "stroma"])

    dock = open_dock()
    dock.pick("tissue")

    for part in (
        "<b>tissue</b>",
        "gland &lt;i&gt;",
        "stroma",
        "#e69f00",
        "#56b4e9",
        "compact, width 4, depth 2",
        "1 image, 1,234 pixels painted",
        "0.5 x 0.25 micrometer",
    ):
        assert part in dock.card


def test_versions_are_offered_newest_first(open_dock):
    put("cells", versions=3)

    dock = open_dock()

    versions = dock.find("version")
    assert [versions.itemText(i) for i in range(versions.count())] == [
        "Version 3, Dice 0.375, 3 Jul 2025",
        "Version 2, Dice 0.250, 2 Jul 2025",
        "Version 1, Dice 0.125, 1 Jul 2025",
    ]
    assert "3 steps in 3 s" in dock.card
    versions.setCurrentIndex(2)
    assert "1 step in 1 s" in dock.card


def test_a_date_that_is_none_is_called_unknown(open_dock):
    card = card_of("cells", ["cell"])
    version = card.versions[0].model_copy(update={"created": "long ago", "dice": None})
    folder = put("cells")
    (folder / "model.json").write_text(
        card.model_copy(update={"versions": (version,)}).model_dump_json(), encoding="utf-8"
    )

    dock = open_dock()

    assert dock.find("version").currentText() == "Version 1, not judged, unknown date"


def test_a_model_without_versions_offers_none(open_dock):
    put("cells", versions=0)

    dock = open_dock()

    assert not dock.find("version").isVisible()
    assert "use" in dock.enabled()


def colors_in(widget, rect=None) -> set[str]:
    """The colours that fill a good part of what is seen."""
    image = widget.grab(rect or widget.rect()).toImage()
    seen = [
        image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())
    ]
    return {color for color in set(seen) if seen.count(color) > len(seen) / 100}


def test_the_preview_is_seen_in_the_list_and_over_the_card(open_dock):
    (put("cells") / "preview.png").write_bytes(picture("#123456"))

    dock = open_dock()

    item = dock.list.visualItemRect(dock.list.item(0))
    assert "#123456" in colors_in(dock.list.viewport(), item)
    assert dock.find("preview").isVisible()
    assert "#123456" in colors_in(dock.find("preview"))


@pytest.mark.parametrize(
    "preview", [None, b"GIF89a", b"\x89PNG\r\n\x1a\ndamaged", picture("#123456", 5000, 1)]
)
def test_without_a_sound_preview_the_colours_of_the_classes_are_seen(open_dock, preview):
    folder = put("tissue", ["gland", "stroma"])
    if preview is not None:
        (folder / "preview.png").write_bytes(preview)

    dock = open_dock()

    item = dock.list.visualItemRect(dock.list.item(0))
    assert {"#e69f00", "#56b4e9"} <= colors_in(dock.list.viewport(), item)
    assert not dock.find("preview").isVisible()


def test_a_damaged_model_is_listed_with_the_reason(open_dock, trash):
    (put("broken") / "model.json").write_text("{")
    put("cells")

    dock = open_dock()
    dock.pick("broken")

    assert "model.json that is not JSON" in dock.card
    assert dock.enabled() == {"import", "delete"}
    dock.click("delete")
    assert dock.rows() == ["cells"]


def test_the_name_of_a_damaged_model_cannot_be_edited(open_dock):
    from qtpy.QtWidgets import QLineEdit

    (put("broken") / "model.json").write_text("{")
    dock = open_dock()

    dock.press("F2")

    assert dock.dock.findChild(QLineEdit, "unet.models.name") is None


def test_many_models_can_be_filtered_by_name_and_class(open_dock, qtbot):
    for number in range(8):
        put(f"series {number}")
    put("tissue", ["Gland"])
    dock = open_dock()
    field = dock.find("filter")
    assert field.isVisible()

    qtbot.keyClicks(field, "7")
    assert dock.rows() == ["series 7"]
    assert dock.current == "series 7"
    field.clear()
    qtbot.keyClicks(field, "gland")
    assert dock.rows() == ["tissue"]
    qtbot.keyClicks(field, "x")
    assert dock.rows() == []
    assert dock.find("empty").text() == "No model has 'glandx' in its name or classes."
    assert dock.enabled() == {"import"}


def test_a_library_that_cannot_be_read_is_told(open_dock, monkeypatch):
    def refuse():
        from napari_unet.run import BadInput

        raise BadInput("models cannot be read (Permission denied); check its permissions.")

    monkeypatch.setattr("napari_unet.gui.shelf.list_models", refuse)

    assert "Permission denied" in open_dock().said


# ---- the library changes


def test_what_others_do_to_the_library_is_seen(open_dock, qtbot):
    dock = open_dock()

    put("first")  # where there was no library yet
    qtbot.waitUntil(lambda: dock.rows() == ["first"])
    put("second")
    qtbot.waitUntil(lambda: dock.rows() == ["first", "second"])


def test_the_choice_stays_while_the_list_changes(open_dock):
    put("cells")
    put("nuclei", versions=3)
    dock = open_dock()
    dock.pick("nuclei")
    dock.find("version").setCurrentIndex(1)

    put("a new one")
    dock.dock.refresh()

    assert dock.rows() == ["a new one", "cells", "nuclei"]
    assert dock.current == "nuclei"
    assert dock.find("version").currentData() == 2


def test_it_is_up_to_date_when_it_comes_to_the_front(open_dock):
    dock = open_dock()
    dock.dock.hide()

    put("cells")
    dock.dock.show()

    assert dock.rows() == ["cells"]


# ---- what can be done


def test_the_chosen_model_and_version_are_used(open_dock, qtbot):
    put("cells")
    put_sound(library_folder() / "nuclei", "nuclei", versions=3)
    dock = open_dock()
    dock.pick("nuclei")

    dock.click("use")
    qtbot.waitUntil(lambda: dock.in_use() == ("nuclei", 3))
    dock.find("version").setCurrentIndex(2)
    dock.press("Return")
    qtbot.waitUntil(lambda: dock.in_use() == ("nuclei", 1))

    assert dock.said == "'nuclei', version 1, is the model in use."


def test_a_double_click_uses_a_model(open_dock, qtbot):
    from qtpy.QtCore import Qt

    put("cells")
    put_sound(library_folder() / "nuclei", "nuclei")
    dock = open_dock()
    dock.pick("nuclei")

    viewport = dock.list.viewport()
    qtbot.mouseDClick(viewport, Qt.MouseButton.LeftButton, pos=dock.row("nuclei"))

    qtbot.waitUntil(lambda: dock.in_use() == ("nuclei", 1))


@pytest.mark.parametrize("way", ["click", "press"])
def test_a_model_is_renamed_in_the_list(open_dock, qtbot, way):
    put("cells", versions=2)
    put("nuclei")
    dock = open_dock()
    dock.pick("cells")

    if way == "click":
        dock.click("rename")
    else:
        dock.press("F2")
    dock.type_name("zebra")

    qtbot.waitUntil(lambda: dock.rows() == ["nuclei", "zebra"])
    assert dock.said == "'cells' is called 'zebra' now."
    assert dock.current == "zebra"
    assert list(list_models()) == ["nuclei", "zebra"]
    assert read_card(library_folder() / "zebra").name == "zebra"


@pytest.mark.parametrize(
    ("name", "said"),
    [("nuclei", "has a model named 'nuclei' already"), ("a/b", "'a/b' cannot be a name")],
)
def test_a_name_that_cannot_be_is_refused_and_the_old_one_stays(open_dock, qtbot, name, said):
    put("cells")
    put("nuclei")
    dock = open_dock()
    dock.pick("cells")

    dock.click("rename")
    dock.type_name(name)

    qtbot.waitUntil(lambda: said in dock.said)
    assert dock.rows() == ["cells", "nuclei"]
    assert list(list_models()) == ["cells", "nuclei"]


def test_a_change_of_the_library_does_not_end_the_typing(open_dock, qtbot):
    put("cells")
    dock = open_dock()
    dock.click("rename")

    put("other")
    qtbot.wait(400)
    assert dock.rows() == ["cells"]
    dock.type_name("mine")

    qtbot.waitUntil(lambda: dock.rows() == ["mine", "other"])


def test_a_copy_is_made_and_chosen(open_dock):
    put("cells", versions=2)
    put("zebra")
    dock = open_dock()
    dock.pick("cells")

    dock.click("duplicate")

    assert dock.rows() == ["cells", "cells 2", "zebra"]
    assert dock.current == "cells 2"
    assert dock.said == "'cells 2' is a copy of 'cells'."


@pytest.mark.parametrize("way", ["click", "press"])
def test_a_deleted_model_goes_to_the_trash(open_dock, trash, way):
    for name in ("a", "b", "c"):
        put(name)
    dock = open_dock()
    dock.pick("b")

    if way == "click":
        dock.click("delete")
    else:
        dock.press("Delete")

    assert dock.rows() == ["a", "c"]
    assert dock.current == "c"
    assert dock.said == f"'b' is in the trash and can be restored from there: {trash / 'b'}"
    assert read_card(trash / "b").name == "b"


def test_without_a_trash_a_model_is_kept(open_dock, monkeypatch):
    folder = put("cells")
    monkeypatch.setattr("napari_unet.gui.models.move_to_trash", lambda path: None)
    dock = open_dock()

    dock.click("delete")

    assert dock.said == f"There is no trash here, so 'cells' is kept; its folder is {folder}"
    assert dock.rows() == ["cells"]
    assert folder.is_dir()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have one trash")
def test_the_trash_of_the_system_takes_a_model(open_dock, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    put("cells")
    dock = open_dock()

    dock.click("delete")

    assert dock.rows() == []
    place = Path(dock.said.partition(": ")[2])
    assert place.is_relative_to(tmp_path)
    assert read_card(place).name == "cells"


def test_a_model_that_is_gone_is_told(open_dock):
    import shutil

    folder = put("cells")
    dock = open_dock()
    shutil.rmtree(folder)

    dock.click("duplicate")

    assert dock.said == "The library has no model named 'cells'; it may have been renamed."
    assert dock.rows() == []


# ---- to and from elsewhere


@pytest.mark.parametrize("asked", ["model.zip", "model/model.json", "model"])
def test_a_model_is_imported_beside_one_of_its_name(open_dock, monkeypatch, tmp_path, asked):
    put("cells")
    put_sound(tmp_path / asked.partition("/")[0])
    monkeypatch.setattr("napari_unet.gui.models.ask_model", lambda parent: tmp_path / asked)
    dock = open_dock()

    dock.click("import")

    assert dock.rows() == ["cells", "cells 2"]
    assert dock.current == "cells 2"
    assert dock.said == "'cells 2' is in the list now."


def test_what_is_no_model_is_not_imported(open_dock, monkeypatch, tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"PK")
    monkeypatch.setattr("napari_unet.gui.models.ask_model", lambda parent: tmp_path / "photos.zip")
    dock = open_dock()

    dock.click("import")

    assert "photos.zip is neither a model folder nor a sound zip" in dock.said
    assert dock.rows() == []


def drag(dock: Driver, *paths: Path, drop: bool) -> bool:
    """Drag files over the list, as another program would; whether they are welcome there."""
    from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
    from qtpy.QtGui import QDragEnterEvent, QDropEvent
    from qtpy.QtWidgets import QApplication

    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, left, none = (
        Qt.DropAction.CopyAction,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    target = dock.find("empty") if dock.list.isHidden() else dock.list.viewport()
    enter = QDragEnterEvent(QPoint(20, 20), copy, data, left, none)
    QApplication.sendEvent(target, enter)
    if drop:
        QApplication.sendEvent(target, QDropEvent(QPointF(20, 20), copy, data, left, none))
    return enter.isAccepted()


@pytest.mark.parametrize("full", [False, True])
def test_folders_and_zips_can_be_dropped_on_the_list(open_dock, tmp_path, full):
    if full:
        put("other")
    folder = put_sound(tmp_path / "one", "one")
    zipped = put_sound(tmp_path / "two.zip", "two")
    dock = open_dock()

    welcome = drag(dock, folder, zipped, drop=True)

    assert welcome
    assert dock.rows() == ["one", *["other"] * full, "two"]


def test_other_files_are_not_welcome(open_dock, tmp_path):
    (tmp_path / "photo.png").touch()

    assert not drag(open_dock(), tmp_path / "photo.png", drop=False)


@pytest.mark.parametrize("asked", ["given.zip", "given"])
def test_a_model_is_exported_to_a_zip(open_dock, monkeypatch, tmp_path, asked):
    from napari_unet.library import load_model

    put_sound(library_folder() / "cells")
    answer = tmp_path / asked, ".zip"
    monkeypatch.setattr("napari_unet.gui.models.ask_export", lambda parent, name: answer)
    dock = open_dock()

    dock.click("export")

    assert dock.said == f"'cells', version 1, is saved in {tmp_path / 'given.zip'}"
    assert load_model(tmp_path / "given.zip").card.name == "cells"


def test_an_export_replaces_only_what_the_dialog_asked_about(open_dock, monkeypatch, tmp_path):
    put_sound(library_folder() / "cells")
    given = put_sound(tmp_path / "given.zip", "earlier")
    before = given.read_bytes()
    asked = [(tmp_path / "given", ".zip"), (given, ".zip")]
    monkeypatch.setattr("napari_unet.gui.models.ask_export", lambda parent, name: asked.pop(0))
    dock = open_dock()

    dock.click("export")
    assert "given.zip exists already" in dock.said
    assert given.read_bytes() == before

    dock.click("export")
    assert "is saved in" in dock.said
    assert given.read_bytes() != before


@pytest.mark.parametrize(
    ("asked", "kind", "made"),
    [
        ("cells", "ONNX", "cells.onnx"),
        ("cells.zip", "ONNX", "cells.onnx"),  # the name that the dialog proposed
        ("cells.onnx", "For napari-unet", "cells.onnx"),
        ("cells.v2", "For the BioImage", "cells.v2.bioimageio.zip"),
        ("cells.bioimageio.zip", "For napari-unet", "cells.bioimageio.zip"),
        ("cells.ZIP", "For napari-unet", "cells.ZIP"),
    ],
)
def test_the_dialog_and_the_name_say_which_format_is_exported(
    open_dock, monkeypatch, tmp_path, asked, kind, made
):
    from qtpy.QtWidgets import QFileDialog

    def answer(parent, title, start, kinds):
        return str(tmp_path / asked), next(k for k in kinds.split(";;") if k.startswith(kind))

    put_sound(library_folder() / "cells")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    monkeypatch.setattr(
        "napari_unet.sharing.export_model", lambda model, path, *args, **more: path.touch()
    )
    dock = open_dock()

    dock.click("export")

    assert dock.said == f"'cells', version 1, is saved in {tmp_path / made}"
    assert (tmp_path / made).exists()


@pytest.mark.parametrize("button", ["import", "export"])
def test_a_dialog_that_is_cancelled_changes_nothing(open_dock, monkeypatch, button):
    from qtpy.QtWidgets import QFileDialog

    put("cells")
    for name in ("getOpenFileName", "getSaveFileName"):
        monkeypatch.setattr(QFileDialog, name, lambda *args: ("", ""))
    dock = open_dock()

    dock.click(button)

    assert dock.said == ""
    assert dock.rows() == ["cells"]


# ---- how it sits in the window


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_fits_a_narrow_column(open_dock, qtbot, theme):
    from napari.qt import get_stylesheet

    put("a model with a name that is much too long for one line of so narrow a column", ["cell"])
    dock = open_dock()

    dock.dock.setStyleSheet(get_stylesheet(theme))
    dock.dock.say("A sentence of more than one line, which says what came of what was asked for.")

    assert dock.dock.minimumSizeHint().width() <= 320
    for name in ("use", "compare", "rename", "duplicate", "delete", "import", "export"):
        button = dock.find(name)
        qtbot.waitUntil(lambda b=button: b.width() >= b.sizeHint().width())


def test_opening_it_does_not_import_torch():
    script = "import sys; import napari_unet.gui.models; print('torch' in sys.modules)"

    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert said.split() == ["False"]


def test_what_has_a_second_opinion_says_so():
    from napari_unet.gui.about import _facts

    card = card_of("cells", ["cell"], 1)
    assert "Second opinion" not in _facts(card, None)
    net = card.net.model_copy(update={"pixels": 0.5})
    assert "50%" in _facts(card.model_copy(update={"net": net}), None)["Second opinion"]
