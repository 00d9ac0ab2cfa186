"""The Models dock: the library as a list, with a preview and card, and what can be done with
each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import napari
from qtpy.QtCore import QFile, QFileSystemWatcher, QMimeData, Qt, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QGridLayout,
    QLabel,
    QLineEdit,
    QListWidgetItem,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_unet.cards import (
    CARD,
    duplicate_model,
    free_name,
    is_zip,
    library_folder,
    model_folder,
    rename_model,
)
from napari_unet.gui.about import About, Entry
from napari_unet.gui.comparing import Comparison
from napari_unet.gui.dialogs import ask_export, ask_model
from napari_unet.gui.parts import follow
from napari_unet.gui.shelf import ENTRY, Shelf, entries
from napari_unet.gui.workspace import Workspace
from napari_unet.run import BadInput
from napari_unet.suffixes import ONNX, PACKAGE

Done = tuple[str, str | None]  # what came of it, and the name of the model to choose then

MANY = 8  # models, beyond which they can be filtered
SETTLE_MS = 150  # in which the library no longer changes, before it is read again
IMPORT_TIP = "Copy a model to this list; a .zip or a folder can also be dropped on it"
GIVE_TIP = "Save this version to give away: for napari-unet, the BioImage Model Zoo or as ONNX"
NONE_YET = "No models yet. Train one in the Train dock, or import one."


def move_to_trash(path: Path) -> Path | None:
    """Where in the system's trash a folder is now; None if there is no trash for it."""
    file = QFile(str(path))
    return Path(file.fileName()) if file.moveToTrash() else None


class ModelsDock(QWidget):
    """The models of this user: look at them, choose one, and keep order."""

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._work = Workspace.of(napari_viewer)
        self.setAcceptDrops(True)
        self._filter = QLineEdit(self)
        self._shelf = Shelf(self)
        self._empty = _sentence("unet.models.empty", self)
        self._about = About(self)
        self._buttons = _Buttons(self)
        self._comparison = Comparison(self._work, self.say, self)
        self._status = _sentence("unet.models.status", self)
        self._watcher = QFileSystemWatcher(self)
        self._timer = QTimer(self)
        self._lay_out()
        self._connect()

    def refresh(self, name: str | None = None) -> None:
        """Read the library again; the model of this name is chosen, or the one that was."""
        if self._shelf.is_editing():
            self._timer.start()
            return
        current = self._shelf.current()
        models = self._read()
        self._shelf.put(models, name or (current.name if current else None))
        self._filter.setVisible(len(models) > MANY)
        if len(models) <= MANY:
            self._filter.clear()
        self._show_matches()
        self._watch()

    def say(self, sentence: str) -> None:
        """Tell what came of what the user asked for."""
        self._status.setText(sentence)
        self._status.setVisible(bool(sentence))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _dropped(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        event.acceptProposedAction()
        for path in _dropped(event.mimeData()):
            self._import(path)

    # --- how it is put together ---

    def _lay_out(self) -> None:
        self._filter.setObjectName("unet.models.filter")
        self._filter.setPlaceholderText("Filter by name or class")
        self._filter.setClearButtonEnabled(True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget(self)
        self._pages.addWidget(self._shelf)
        self._pages.addWidget(self._empty)
        column = QVBoxLayout(self)
        column.addWidget(self._filter)
        column.addWidget(self._pages, 1)
        column.addWidget(self._about)
        column.addWidget(self._buttons)
        column.addWidget(self._status)
        self._status.hide()

    def _connect(self) -> None:
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self._on_timer_timeout)
        self._watcher.directoryChanged.connect(self._on_watcher_directory_changed)
        self._filter.textChanged.connect(self._show_matches)
        self._shelf.currentItemChanged.connect(self._show_current)
        self._shelf.itemChanged.connect(self._on_shelf_item_changed)
        buttons = self._buttons
        self._shelf.itemDoubleClicked.connect(buttons.use.click)
        self._shelf.asked.connect(self._on_shelf_asked)
        follow(self, self._work.session.model_changed, self._on_session_model_changed)
        buttons.use.clicked.connect(self._on_use_clicked)
        buttons.compare.clicked.connect(self._on_compare_clicked)
        buttons.rename.clicked.connect(self._on_rename_clicked)
        buttons.duplicate.clicked.connect(self._on_duplicate_clicked)
        buttons.delete.clicked.connect(self._on_delete_clicked)
        buttons.take.clicked.connect(self._on_import_clicked)
        buttons.give.clicked.connect(self._on_export_clicked)

    # --- what is shown ---

    def _read(self) -> list[Entry]:
        try:
            return entries()
        except BadInput as error:
            self.say(str(error))
            return []

    def _show_matches(self) -> None:
        text = self._filter.text().strip()
        left = self._shelf.show_matches(text)
        self._empty.setText(f"No model has '{text}' in its name or classes." if text else NONE_YET)
        self._pages.setCurrentIndex(0 if left else 1)
        self._show_current()

    def _show_current(self) -> None:
        entry = self._shelf.current()
        self._about.put(entry)
        self._buttons.allow(entry)

    def _watch(self) -> None:
        """Hear of changes to the library, or of its first model where there is none yet."""
        folder = library_folder()
        nearest = str(next(p for p in (folder, *folder.parents) if p.is_dir()))
        before = self._watcher.directories()
        if before != [nearest]:
            if before:
                self._watcher.removePaths(before)
            self._watcher.addPath(nearest)

    def _on_watcher_directory_changed(self) -> None:
        self._timer.start()

    def _on_timer_timeout(self) -> None:
        self.refresh()

    # --- what can be done ---

    def _attempt(self, act: Callable[[], Done]) -> None:
        """Do something, show what came of it, and say so, or why it could not be."""
        name = None
        with _patience():
            try:
                sentence, name = act()
            except BadInput as error:
                sentence = str(error)
            self.refresh(name)
        self.say(sentence)

    def _on_use_clicked(self) -> None:
        name, version = self._chosen()
        self._work.use(name, version)

    def _on_compare_clicked(self) -> None:
        try:
            self._comparison.start(*self._chosen())
        except BadInput as error:
            self.say(str(error))

    def _on_session_model_changed(self) -> None:
        model = self._work.session.model
        if model is not None:
            version = model.card.current.number if model.card.current else None
            self.say(f"'{model.card.name}'{_of(version)} is the model in use.")

    def _on_shelf_asked(self, what: str) -> None:
        button = self._buttons.use if what == "use" else self._buttons.delete
        button.click()  # does nothing while it is disabled

    def _on_rename_clicked(self) -> None:
        self._shelf.setFocus()
        self._shelf.editItem(self._shelf.currentItem())

    def _on_shelf_item_changed(self, item: QListWidgetItem) -> None:
        entry: Entry = item.data(ENTRY)
        new = item.text().strip()
        with signals_blocked(self._shelf):
            try:
                if new != entry.name:
                    rename_model(entry.name, new)
                    item.setData(ENTRY, replace(entry, name=new))
                    self.say(f"'{entry.name}' is called '{new}' now.")
            except BadInput as error:
                self.say(str(error))
            item.setText(item.data(ENTRY).name)
        self.refresh()

    def _on_duplicate_clicked(self) -> None:
        name, _ = self._chosen()

        def act() -> Done:
            copy = duplicate_model(name, free_name(name)).name
            return f"'{copy}' is a copy of '{name}'.", copy

        self._attempt(act)

    def _on_delete_clicked(self) -> None:
        name, _ = self._chosen()

        def act() -> Done:
            folder = model_folder(name)
            place = move_to_trash(folder)
            if place is None:
                return f"There is no trash here, so '{name}' is kept; its folder is {folder}", name
            return f"'{name}' is in the trash and can be restored from there: {place}", None

        self._attempt(act)

    def _on_import_clicked(self) -> None:
        path = ask_model(self)
        if path is not None:
            self._import(path.parent if path.name == CARD else path)

    def _import(self, path: Path) -> None:
        def act() -> Done:
            from napari_unet.library import import_model

            name = import_model(path, numbered=True).name
            return f"'{name}' is in the list now.", name

        self._attempt(act)

    def _on_export_clicked(self) -> None:
        name, version = self._chosen()
        answer = ask_export(self, name)
        if answer is None:
            return
        asked, path = answer[0], _with_suffix(*answer)

        def act() -> Done:
            from napari_unet.sharing import export_model

            # The dialog has asked whether to replace what is there, but only for that name.
            export_model(model_folder(name), path, version, overwrite=path == asked)
            return f"'{name}'{_of(version)} is saved in {path}", name

        self._attempt(act)

    def _chosen(self) -> tuple[str, int | None]:
        entry = self._shelf.current()
        assert entry is not None, "the buttons are disabled then"
        return entry.name, self._about.version()


class _Buttons(QWidget):
    """What can be done with a model."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self.use = self._add("use", "Use", "Segment with this version, and train from it (Enter)")
        self.compare = self._add(
            "compare", "Compare", "Show on the open image where this and the model in use differ"
        )
        self.rename = self._add("rename", "Rename", "Change the name, in the list (F2)")
        self.duplicate = self._add("duplicate", "Duplicate", "Copy this model with all versions")
        self.take = self._add("import", "Import…", IMPORT_TIP)
        self.give = self._add("export", "Export…", GIVE_TIP)
        self.delete = self._add("delete", "Delete", "Move this model to the trash (Delete key)")

    def allow(self, entry: Entry | None) -> None:
        """Enable what can be done with this model."""
        sound = entry is not None and not isinstance(entry.card, str)
        for button in (self.use, self.compare, self.rename, self.duplicate, self.give):
            button.setEnabled(sound)
        self.delete.setEnabled(entry is not None)

    def _add(self, name: str, text: str, tip: str) -> QPushButton:
        button = QPushButton(text, self)
        button.setObjectName(f"unet.models.{name}")
        button.setToolTip(tip)
        self._grid.addWidget(button, *divmod(self._grid.count(), 3))
        return button


def _sentence(name: str, parent: QWidget) -> QLabel:
    label = QLabel(parent)
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _with_suffix(path: Path, suffix: str) -> Path:
    """A file's name with the suffix of the format chosen, unless it names another of its own."""
    if path.name.lower().endswith((suffix, PACKAGE, ONNX)):
        return path
    stem = path.stem if is_zip(path) else path.name
    return path.with_name(stem + suffix)


def _of(version: int | None) -> str:
    return "" if version is None else f", version {version},"


def _dropped(data: QMimeData | None) -> list[Path]:
    """The folders and zips among what is dragged here."""
    urls = data.urls() if data is not None else []
    paths = [Path(url.toLocalFile()) for url in urls if url.isLocalFile()]
    return [path for path in paths if path.is_dir() or is_zip(path)]


@contextmanager
def _patience() -> Iterator[None]:
    """The pointer that says that something takes a moment."""
    QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
    try:
        yield
    finally:
        QApplication.restoreOverrideCursor()
