"""The Images dock: the project, its images, how far each is, and the way from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path

import napari
from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLineEdit,
    QMenu,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_unet.gui.dialogs import ask_folder, ask_images, ask_new_folder
from napari_unet.gui.keeping import BEFORE, NEXT
from napari_unet.gui.parts import beside, combo, follow, named, push, text
from napari_unet.gui.workspace import Workspace
from napari_unet.records import ImageCard, recent, title
from napari_unet.run import BadInput

IMAGE, STATE, PAINTED, DICE, ROLE, NOTE = range(6)  # columns
HEADS = ("Image", "State", "Painted", "Dice", "Used to", "Note")
DICE_TIP = (
    "How well the model trained last does on what was held out of this image: 0 to 1; empty where "
    "nothing was held out of it"
)
ROLES = {"both": "learn and judge", "train": "learn", "hold out": "judge"}
NAME_LETTERS, ROWS_SHOWN = 22, 6
KEY = Qt.ItemDataRole.UserRole
NO_PROJECT = (
    "What you paint is kept in a project by itself, from the first stroke on. Give it a name with "
    "Save as, or open another one."
)


class ImagesDock(QWidget):
    """The images of the project that is open."""

    def __init__(self, napari_viewer: napari.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._work = Workspace.of(napari_viewer)
        self._keeping = self._work.keeping
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._on_keeping_opened()
        self._fill()

    # --- widgets ---

    def _make_widgets(self) -> None:
        self._name = text("images.project")
        self._new = push("New ...", "images.new", "Begin an empty project in a new folder")
        self._open = push("Open ...", "images.open", "Open a project's folder")
        self._save = push(
            "Save as ...", "images.save_as", "Give it a name and a place; go on there"
        )
        self._recent = combo("images.recent", "Projects that were open lately")
        self._filter = named(QLineEdit(), "images.filter", "Show only those with this in a column")
        self._filter.setPlaceholderText("Filter by name, state or note")
        self._filter.setClearButtonEnabled(True)
        self._table = named(QTreeWidget(), "images.table", "Double-click opens an image")
        self._table.setHeaderLabels(HEADS)
        self._table.headerItem().setToolTip(DICE, DICE_TIP)
        self._table.setRootIsDecorated(False)
        self._table.setUniformRowHeights(True)
        self._table.setSortingEnabled(True)
        self._table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self._table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        side = 2 * self.fontMetrics().height()
        self._table.setIconSize(QSize(side, side))
        header = self._table.header()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(IMAGE, QHeaderView.ResizeMode.Interactive)
        header.resizeSection(IMAGE, NAME_LETTERS * self.fontMetrics().averageCharWidth())
        self._table.setMinimumHeight(ROWS_SHOWN * (side + 4))
        self._table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self._files = push("Add files ...", "images.add", "Take images into the project")
        self._folder = push("Add folder ...", "images.add_folder", "Take in all images of a folder")
        self._show = push("Show", "images.show", "Open the chosen image (Enter)")
        self._before = push(
            "Previous", "images.before", f"The image before ({BEFORE} on the canvas)"
        )
        self._next = push("Next", "images.next", f"The next image ({NEXT} on the canvas)")
        self._remove = push("Take out", "images.remove", "Take the chosen image out of the project")
        self._locate = push("Locate ...", "images.locate", "Say where a missing image is now")
        self._status = text("images.status")

    def _lay_out(self) -> None:
        outer = QVBoxLayout(self)
        outer.addWidget(self._name)
        outer.addLayout(beside(self._new, self._open, self._save))
        outer.addWidget(self._recent)
        outer.addWidget(self._filter)
        outer.addWidget(self._table, 1)
        outer.addLayout(beside(self._files, self._folder))
        outer.addLayout(beside(self._before, self._next, self._show))
        outer.addLayout(beside(self._remove, self._locate))
        outer.addWidget(self._status)

    def _connect(self) -> None:
        for button, act in (
            (self._new, self._on_new_clicked),
            (self._open, self._on_open_clicked),
            (self._save, self._on_save_clicked),
            (self._files, self._on_files_clicked),
            (self._folder, self._on_folder_clicked),
            (self._show, self._on_show_clicked),
            (self._before, partial(self._keeping.step, -1)),
            (self._next, partial(self._keeping.step, 1)),
            (self._remove, self._on_remove_clicked),
            (self._locate, self._on_locate_clicked),
        ):
            button.clicked.connect(partial(self._attempt, act))
        self._recent.activated.connect(self._on_recent_activated)
        self._filter.textChanged.connect(self._on_filter_changed)
        self._table.itemActivated.connect(self._on_table_item_activated)
        self._table.itemChanged.connect(self._on_table_item_changed)
        self._table.customContextMenuRequested.connect(self._on_table_menu_asked)
        self._table.currentItemChanged.connect(self._refresh_buttons)
        follow(self, self._keeping.opened, self._on_keeping_opened)
        follow(self, self._keeping.changed, self._fill)
        follow(self, self._keeping.told, self._on_keeping_told)
        follow(self, self._work.image_changed, self._on_image_changed)

    # --- what is asked ---

    def _attempt(self, act: Callable[[], str | None], _checked: bool = False) -> None:
        """Do what was asked, and say what came of it, or why it could not be."""
        try:
            said = act()
        except BadInput as error:
            said = str(error)
        self._status.setText(said or "")
        self._fill()

    def _on_new_clicked(self) -> None:
        folder = ask_new_folder(self, "A new project")
        if folder is not None:
            self._keeping.create(folder)

    def _on_open_clicked(self) -> None:
        folder = ask_folder(self, "A project's folder")
        if folder is not None:
            self._keeping.open(folder)

    def _on_save_clicked(self) -> None:
        folder = ask_new_folder(self, "Save the project as")
        if folder is not None:
            self._keeping.save_as(folder)

    def _on_recent_activated(self) -> None:
        folder = self._recent.currentData()
        if folder is not None:
            self._attempt(partial(self._keeping.open, folder))

    def _on_files_clicked(self) -> str:
        return self._add(ask_images(self))

    def _on_folder_clicked(self) -> str:
        folder = ask_folder(self, "A folder of images")
        return self._add([] if folder is None else [folder])

    def _add(self, files: list[Path]) -> str:
        if not files:
            return ""
        self._keeping.add(files)
        return "Adding images ..."

    def _on_show_clicked(self) -> None:
        self._keeping.show(self._chosen())

    def _on_remove_clicked(self) -> str:
        key = self._chosen()
        name = self._cards()[key].name
        self._keeping.remove(key)
        return f"'{name}' is out of the project; its strokes are set aside in the project's folder."

    def _on_locate_clicked(self) -> str | None:
        key = self._chosen()
        if self._cards()[key].path.endswith(".zarr"):
            place = ask_folder(self, "Where this image is now")
        else:
            place = next(iter(ask_images(self)), None)
        return None if place is None else self._keeping.locate(key, place)

    def _chosen(self) -> str:
        item = self._table.currentItem()
        if item is None:
            raise BadInput("Choose an image in the table first.")
        return str(item.data(IMAGE, KEY))

    def _on_table_item_activated(self, item: QTreeWidgetItem, column: int) -> None:
        if column == NOTE:
            self._table.editItem(item, NOTE)
        else:
            self._attempt(partial(self._keeping.show, item.data(IMAGE, KEY)))

    def _on_table_item_changed(self, item: QTreeWidgetItem, column: int) -> None:
        if column == NOTE:
            self._keeping.change(item.data(IMAGE, KEY), note=item.text(NOTE))

    def _on_table_menu_asked(self, place: QPoint) -> None:
        """What an image is used for is chosen where it is said."""
        item = self._table.itemAt(place)
        if item is None:
            return
        menu = QMenu(self)
        for role, words in ROLES.items():
            change = partial(self._keeping.change, item.data(IMAGE, KEY), role=role)
            menu.addAction(f"Use it to {words}", partial(self._attempt, change))
        self._offer_generations(menu, item.data(IMAGE, KEY))
        menu.exec(self._table.viewport().mapToGlobal(place))

    def _offer_generations(self, menu: QMenu, key: str) -> None:
        """How the image was painted at earlier times; Ctrl+Z goes back from there."""
        times = self._keeping.generations(key)
        earlier = menu.addMenu("As it was painted on ...")
        earlier.setEnabled(bool(times))
        for time in times:
            act = partial(self._attempt, partial(self._keeping.restore, key, time))
            earlier.addAction(f"{time.astimezone():%d %b %Y, %H:%M}", act)

    # --- what is shown ---

    def _cards(self) -> dict[str, ImageCard]:
        project = self._keeping.project
        return {} if project is None else project.images

    def _on_image_changed(self) -> None:
        """The row of the image that is shown is the chosen one."""
        self._fill()
        shown = self._keeping.key_of(self._work.image)
        for row in range(self._table.topLevelItemCount()):
            item = self._table.topLevelItem(row)
            if item.data(IMAGE, KEY) == shown:
                self._table.setCurrentItem(item)

    def _fill(self) -> None:
        if self._table.state() == QAbstractItemView.State.EditingState:
            return
        chosen = self._table.currentItem()
        key = chosen.data(IMAGE, KEY) if chosen is not None else None
        shown = self._keeping.key_of(self._work.image)
        place = self._table.verticalScrollBar().value()
        with signals_blocked(self._table):
            self._table.clear()
            for each, card in self._cards().items():
                item = self._row(each, card, bold=each == shown)
                self._table.addTopLevelItem(item)
                if each == (key or shown):
                    self._table.setCurrentItem(item)
        self._table.verticalScrollBar().setValue(place)
        self._on_filter_changed()
        self._refresh_buttons()

    def _row(self, key: str, card: ImageCard, bold: bool) -> QTreeWidgetItem:
        total = 1
        for n in card.shape:
            total *= n
        painted = f"{100 * card.labelled / total:.1f} %" if card.painted else ""
        dice = "" if card.dice is None else f"{card.dice:.2f}"
        item = QTreeWidgetItem([card.name, card.state, painted, dice, ROLES[card.role], card.note])
        item.setData(IMAGE, KEY, key)
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
        font = item.font(IMAGE)
        font.setBold(bold)
        item.setFont(IMAGE, font)
        project = self._keeping.project
        if project is not None:
            item.setIcon(IMAGE, QIcon(str(project.thumbnail(key))))
            item.setToolTip(IMAGE, escape(str(project.file(key))))
        return item

    def _on_keeping_opened(self) -> None:
        name = self._keeping.name
        self._name.setText(f"Project: {name}" if name else NO_PROJECT)
        self._recent.clear()
        self._recent.addItem("Recent projects", None)
        for folder in recent():
            self._recent.addItem(title(folder), folder)

    def _on_keeping_told(self, sentence: str) -> None:
        self._status.setText(sentence)

    def _on_filter_changed(self) -> None:
        wanted = self._filter.text().casefold()
        for row in range(self._table.topLevelItemCount()):
            item = self._table.topLevelItem(row)
            words = " ".join(item.text(c) for c in range(len(HEADS))).casefold()
            item.setHidden(wanted not in words)

    def _refresh_buttons(self) -> None:
        cards, chosen = self._cards(), self._table.currentItem() is not None
        for button in (self._show, self._remove, self._locate):
            button.setEnabled(chosen)
        for button in (self._before, self._next):
            button.setEnabled(len(cards) > 1)
