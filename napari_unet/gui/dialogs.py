"""What the user is asked for in dialogs of the system: files and folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QFileDialog, QLabel, QMessageBox, QWidget

from napari_unet.cards import CARD, library_folder
from napari_unet.gui.parts import named
from napari_unet.run import BadInput
from napari_unet.suffixes import MASKS, MODELS, ZIP

MODEL_FORMATS = {f"{name} (*{suffix})": suffix for suffix, name in MODELS.items()}
_LAST_FORMAT, _LAST_FOLDER = "export/format", "export/folder"
_YES = QMessageBox.StandardButton.Yes


def ask_model(parent: QWidget) -> Path | None:
    """A model's zip or card, as the user chooses in a dialog; None if they cancel."""
    title = f"A model: a .zip file, or the {CARD} in its folder"
    chosen, _ = QFileDialog.getOpenFileName(parent, title, "", f"Models (*.zip {CARD})")
    return Path(chosen) if chosen else None


def ask_export(parent: QWidget, name: str) -> tuple[Path, str] | None:
    """Where to export a model, and the suffix of its format; None if they cancel."""
    start = str(Path.home() / f"{name}{ZIP}")
    title, kinds = "Export the model", ";;".join(MODEL_FORMATS)
    found, chosen = QFileDialog.getSaveFileName(parent, title, start, kinds)
    return (Path(found), MODEL_FORMATS.get(chosen, ZIP)) if found else None


def ask_folder(parent: QWidget, title: str) -> Path | None:
    """A folder that the user chooses in a dialog; None if they cancel."""
    found = QFileDialog.getExistingDirectory(parent, title)
    return Path(found) if found else None


def ask_new_folder(parent: QWidget, title: str) -> Path | None:
    """The name and place of a folder to be made, as the user gives it; None if they cancel."""
    found, _ = QFileDialog.getSaveFileName(parent, title, str(Path.home() / "my project.unet"))
    return Path(found) if found else None


def ask_images(parent: QWidget) -> list[Path]:
    """Image files that the user chooses in a dialog; none if they cancel."""
    found, _ = QFileDialog.getOpenFileNames(parent, "Images")
    return [Path(path) for path in found]


def ask_file(
    parent: QWidget, name: str, describe: Callable[[Path], str] | None = None
) -> Path | None:
    """Where to write a mask, as the user chooses in a dialog; None if they cancel.

    The dialog shows what `describe` says of the file that is chosen at the moment.
    """
    dialog = ExportDialog(parent, name, describe or (lambda _path: ""))
    chosen = dialog.path() if dialog.exec() else None
    dialog.deleteLater()
    return chosen


class ExportDialog(QFileDialog):
    """A dialog that saves a mask in any format, and says in a line what the file will hold."""

    def __init__(self, parent: QWidget, name: str, describe: Callable[[Path], str]) -> None:
        super().__init__(parent, "Export the mask")
        self._suffixes = {f"{kind} (*{suffix})": suffix for suffix, kind in MASKS.items()}
        self._describe = describe
        file = library_folder().parent / "window.ini"
        self._settings = QSettings(str(file), QSettings.Format.IniFormat)
        self._about = named(QLabel(), "segment.about")
        self._about.setWordWrap(True)
        # The system's own dialog has no room for a line, and asks about the name without suffix.
        self.setOption(QFileDialog.Option.DontUseNativeDialog)
        self.setOption(QFileDialog.Option.DontConfirmOverwrite)
        self.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        self.setDirectory(str(self._settings.value(_LAST_FOLDER) or Path.home()))
        self.setNameFilters(list(self._suffixes))
        self.selectFile(name)
        self.layout().addWidget(self._about, self.layout().rowCount(), 0, 1, -1)
        self.filterSelected.connect(self._on_choice_changed)
        self.currentChanged.connect(self._on_choice_changed)
        last = self._settings.value(_LAST_FORMAT)
        if last in self._suffixes:
            self.selectNameFilter(last)
        self._on_choice_changed()

    def path(self) -> Path:
        """The file, with the suffix of the format that is chosen if it has none that is known."""
        from napari_unet.export import is_known

        found = self.selectedFiles()[0]
        return Path(found if is_known(found) else found + self._suffix)

    @property
    def _suffix(self) -> str:
        return self._suffixes[self.selectedNameFilter()]

    def _on_choice_changed(self, _chosen: str = "") -> None:
        try:
            self._about.setText(self._describe(Path(self.path().name)))
        except BadInput as error:
            self._about.setText(str(error))

    def accept(self) -> None:
        """Ask whether to replace what is there; remember folder and format."""
        path = self.path()
        if path.exists():
            question = f"{path.name} exists already. Replace it?"
            if QMessageBox.question(self, self.windowTitle(), question) != _YES:
                return
        self._settings.setValue(_LAST_FORMAT, self.selectedNameFilter())
        self._settings.setValue(_LAST_FOLDER, str(path.parent))
        super().accept()
