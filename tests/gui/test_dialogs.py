"""The dialog that exports a mask: all formats, the last one again, what will be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gui


@pytest.fixture
def show(qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the dialog for a mask of 20 x 30 pixels with two classes, in an empty folder."""
    from qtpy.QtWidgets import QLabel, QWidget

    from napari_unet.export import describe
    from napari_unet.gui.dialogs import ExportDialog

    folder = tmp_path / "masks"
    folder.mkdir()
    parent = QWidget()
    qtbot.addWidget(parent)

    monkeypatch.setattr(Path, "home", lambda: folder)

    def one() -> Any:
        dialog = ExportDialog(parent, "im-mask", lambda path: describe(path, (5, 20, 30)))
        dialog.about = dialog.findChild(QLabel, "unet.segment.about")
        return dialog

    return one


def choose(dialog: Any, suffix: str) -> None:
    name = next(f for f in dialog.nameFilters() if f.endswith(f"(*{suffix})"))
    dialog.selectNameFilter(name)
    dialog.filterSelected.emit(name)


def test_every_format_can_be_chosen_and_says_what_it_will_hold(show):
    from napari_unet.export import FORMATS

    dialog = show()
    lines = {}
    for file_format in FORMATS:
        choose(dialog, file_format.suffix)
        lines[file_format.suffix] = dialog.about.text()
        assert dialog.path().name == f"im-mask{file_format.suffix}"

    assert lines[".npy"] == "uint8, ZYX 5 x 20 x 30, about 3 kB, one file"
    assert "PNG is flat" in lines[".png"]
    assert lines[".geojson"] == "outlines of each connected part, ZYX 5 x 20 x 30, one file"


def test_the_last_format_and_folder_are_remembered(show, tmp_path):
    first = show()
    choose(first, ".geojson")
    first.setDirectory(str(tmp_path))
    first.accept()

    again = show()

    assert again.path() == tmp_path / "im-mask.geojson"
    assert again.about.text().startswith("outlines")


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_file_that_is_there_is_replaced_only_if_the_user_says_so(show, monkeypatch, answer):
    from qtpy.QtWidgets import QMessageBox

    asked = []
    button = getattr(QMessageBox.StandardButton, answer)
    monkeypatch.setattr(QMessageBox, "question", lambda *told: asked.append(told[2]) or button)
    dialog = show()
    choose(dialog, ".geojson")
    dialog.path().write_text("there already")

    dialog.accept()

    assert asked == ["im-mask.geojson exists already. Replace it?"]
    assert dialog.result() == int(answer == "Yes")
