"""An annotation layer: its strokes, told by region, bulk acts that Ctrl+Z undoes, its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from napari_unet.annotation import Region
from napari_unet.config import BACKGROUND, UNLABELLED

ERASER = UNLABELLED


class Painting(QObject):
    """Watches one annotation layer; what is painted, undone or set by a script is told."""

    painted = Signal(object)  # Region, or None for anywhere
    picked = Signal(int)  # the label that is painted with, by whoever chose it

    def __init__(self, layer: Labels, parent: QObject) -> None:
        super().__init__(parent)
        self.layer = layer
        self._regions: list[Region | None] = []
        self._label = layer.selected_label
        self._depths = self._history_depths()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._on_timer_timeout)
        layer.events.paint.connect(self._on_layer_paint)
        layer.events.set_data.connect(self._on_layer_set_data)
        layer.events.data.connect(self._on_layer_data)
        layer.events.selected_label.connect(self._on_layer_selected_label)

    def close(self) -> None:
        """Watch no longer; what was not told of yet is told of."""
        self._timer.stop()
        self._on_timer_timeout()
        self.layer.events.paint.disconnect(self._on_layer_paint)
        self.layer.events.set_data.disconnect(self._on_layer_set_data)
        self.layer.events.data.disconnect(self._on_layer_data)
        self.layer.events.selected_label.disconnect(self._on_layer_selected_label)

    def _on_layer_selected_label(self) -> None:
        """It is told of also when only the colour of the label is another."""
        if self.layer.selected_label != self._label:
            self._label = self.layer.selected_label
            self.picked.emit(self._label)

    # --- strokes ---

    def _on_layer_paint(self, event: Any) -> None:
        self._depths = self._history_depths()
        self._tell(_region_of(event.value, self.layer.data.shape))

    def _on_layer_set_data(self) -> None:
        """Among other things, something was undone or done again: then the history moved."""
        before, self._depths = self._depths, self._history_depths()
        undone, redone = (now - then for now, then in zip(self._depths, before, strict=True))
        if redone > 0:
            self._tell(_region_of(self.layer._redo_history[-1], self.layer.data.shape))
        elif undone > 0 and redone < 0:
            self._tell(_region_of(self.layer._undo_history[-1], self.layer.data.shape))

    def _on_layer_data(self) -> None:
        self._tell(None)

    def _tell(self, region: Region | None) -> None:
        # napari tells of some edits before it makes them: they are read a moment later.
        self._regions.append(region)
        self._timer.start(0)

    def _on_timer_timeout(self) -> None:
        regions, self._regions = self._regions, []
        for region in [None] if None in regions else regions:
            self.painted.emit(region)

    def _history_depths(self) -> tuple[int, int]:
        return len(self.layer._undo_history), len(self.layer._redo_history)

    # --- bulk acts ---

    def complete(self, region: Region) -> None:
        """What is not labelled in a region is background."""
        part = self.layer.data[region]
        self.set(region, np.where(part == UNLABELLED, np.uint8(BACKGROUND), part))

    def clear(self, region: Region) -> None:
        self.set(region, np.zeros_like(self.layer.data[region]))

    def set(self, region: Region, values: np.ndarray) -> None:
        """Write values into a region, as one act that can be undone."""
        before = self.layer.data[region].copy()
        if np.array_equal(before, values):
            return
        # napari's public way to do so takes an index of 8 bytes per axis for every pixel.
        with self.layer.block_history():
            self.layer._save_history((region, before, values.astype(np.uint8)))
            self.layer.data[region] = values
        self.layer.refresh()

    def forget(self) -> None:
        """What was done so far cannot be undone any more."""
        self.layer._reset_history()
        self._depths = self._history_depths()

    # --- choosing what to paint ---

    def pick(self, label: int) -> None:
        """Paint with a class, with background, or erase."""
        if label == ERASER:
            self.layer.mode = "erase"
            return
        self.layer.selected_label = label
        if self.layer.mode not in ("paint", "fill", "polygon"):
            self.layer.mode = "paint"

    def bind_keys(self, pick: Callable[[int], None]) -> None:
        """1 to 9 pick a class, B background, E the eraser, while this layer is active."""
        keys = {str(n): n for n in range(1, 10)} | {"B": BACKGROUND, "E": ERASER}
        for key, label in keys.items():

            def press(_layer: Labels, label: int = label) -> None:
                pick(label)

            self.layer.bind_key(key, press, overwrite=True)


def _region_of(item: list[Any], shape: tuple[int, ...]) -> Region | None:
    """The box around all that one act of the undo history changed."""
    low, high = np.array(shape), np.zeros(len(shape), int)
    for atom in item:
        places = atom[0]  # slices, or an index array for each axis
        for axis, place in enumerate(places):
            if isinstance(place, slice):
                start, stop, _ = place.indices(shape[axis])
            elif np.size(place) == 0:
                continue
            else:
                start, stop = int(np.min(place)), int(np.max(place)) + 1
            low[axis], high[axis] = min(low[axis], start), max(high[axis], stop)
    if (low >= high).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
