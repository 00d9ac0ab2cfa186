"""The one place that touches a viewer's layers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import napari
import numpy as np
from napari.layers import Image, Labels, Layer, Shapes
from napari.utils.colormaps import DirectLabelColormap
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet.annotation import Region
from napari_unet.config import BACKGROUND, SegClass
from napari_unet.gui.placing import (
    at_step,
    covered,
    file_of,
    matrix_of,
    matrix_of_part,
    picture_of,
    place_of,
    put_over,
    pyramid,
    shape_of,
    zoom_of,
)
from napari_unet.io import Image as Pixels
from napari_unet.live import Seen
from napari_unet.pictures import Picture, View, numbered
from napari_unet.records import ImageCard
from napari_unet.run import BadInput
from napari_unet.showing import OURS, origin_of

LIVE = "live"
RECTANGLE = "drag a rectangle (Escape: none)"
MOST_PAINTED = 2**31  # pixels of an annotation, which lies in memory
OPACITY = {"annotation": 0.7, "prediction": 0.4}


class Layers:
    """A viewer's layers as the docks see them: images, annotations, results, the live overlay."""

    changed = Signal()  # layers came, went, were renamed or made active
    gone = Signal(object)  # a layer was removed
    replaced = Signal(object)  # an image's pixels are others now

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.taken: Callable[[], set[str]] = set  # names that no other picture may have
        self.hiding = False  # whether it is we who take the live overlay away
        self._pictures: dict[tuple[Any, ...], Picture] = {}
        self._names: WeakKeyDictionary[Image, str] = WeakKeyDictionary()  # when last looked at
        self._classes: list[dict[str, Any]] = []  # in whose colours layers are
        layers = viewer.layers.events
        layers.inserted.connect(self._on_layers_inserted)
        layers.removed.connect(self._on_layers_removed)
        layers.reordered.connect(self._on_layers_changed)
        viewer.layers.selection.events.active.connect(self._on_layers_changed)
        for layer in viewer.layers:
            self._listen(layer)

    # --- what is there ---

    def images(self) -> list[Image]:
        """Images to paint on or segment, in the order of the layer list from the top."""
        return [
            layer
            for layer in reversed(self.viewer.layers)
            if isinstance(layer, Image) and role_of(layer) is None
        ]

    def masks(self) -> list[Labels]:
        """Labels that could be taken over as annotation."""
        return [
            layer
            for layer in reversed(self.viewer.layers)
            if isinstance(layer, Labels) and role_of(layer) in (None, "truth", "prediction", LIVE)
        ]

    def active_image(self) -> Image | None:
        """The image that is selected, or that of the selected labels."""
        layer = self.viewer.layers.selection.active
        if isinstance(layer, Image) and role_of(layer) is None:
            return layer
        named = image_of(layer) if layer is not None else None
        return next((i for i in self.images() if i.name == named), None)

    def siblings(self, image: Image) -> list[Image]:
        """Other images of the same shape and place, which could be further channels."""
        return [
            other
            for other in self.images()
            if other is not image
            and not (image.rgb or other.rgb)
            and shape_of(other) == shape_of(image)
            and np.allclose(matrix_of(other), matrix_of(image))
        ]

    def of(self, image: Image, role: str) -> Any:
        """The layer that holds an image's annotation, prediction or the like."""
        return next((layer for layer in self._over(image) if role_of(layer) == role), None)

    def _over(self, image: Image) -> Iterator[Layer]:
        """Our layers that lie on an image; what another file's left behind is not its own."""
        file = file_of(image)
        for layer in self.viewer.layers:
            own = image_of(layer) == image.name
            if own and len({layer.metadata[OURS].get("file"), file} - {None}) < 2:
                yield layer

    def picture(self, image: Image, others: Sequence[Image] = (), leading: bool = False) -> Picture:
        """An image, with further ones as channels, as the engine reads it; the same each time."""
        key = (image, tuple(others), leading)
        if key not in self._pictures:
            taken = {p.name for p in self._pictures.values()} | self.taken()
            self._pictures[key] = picture_of(numbered(image.name, taken), image, others, leading)
        return self._pictures[key]

    # --- what is made ---

    def annotate(
        self,
        image: Image,
        picture: Picture,
        classes: tuple[SegClass, ...],
        recall: Callable[[Image, Picture], np.ndarray | None],
    ) -> Labels:
        """The image's annotation layer, selected; one that is made holds what is recalled."""
        layer = self.of(image, "annotation")
        if layer is None:
            if np.prod(picture.shape, dtype=float) > MOST_PAINTED:
                raise BadInput(
                    f"'{image.name}' is too large to be painted on as a whole; crop the part that "
                    "is to be painted."
                )
            labels = recall(image, picture)
            data = np.zeros(picture.shape, np.uint8) if labels is None else labels
            layer = self._labels(image, "annotation", data)
            show_classes(layer, classes)
        self.viewer.layers.selection.active = layer
        return layer

    def result(
        self,
        image: Image,
        role: str,
        data: np.ndarray,
        classes: tuple[SegClass, ...] | None = None,
        contour: int = 0,
    ) -> Layer:
        """Show a result of an image in the layer for that role, the same one each time."""
        layer = self.of(image, role)
        if layer is not None and layer.ndim != data.ndim:
            self._remove(layer)
            layer = None
        shown = pyramid(data)
        if layer is None and role in ("probability", "uncertainty"):
            layer = self._image(image, role, shown)
        elif layer is None:
            layer = self._labels(image, role, shown)
        elif layer.data is not data:
            layer.data = shown
        put_over(layer, image)
        if isinstance(layer, Labels):
            layer.contour = contour
            if classes:
                show_classes(layer, classes)
            else:
                show_objects(layer)
        return layer

    def _labels(self, image: Image, role: str, data: Any) -> Labels:
        name = "mask" if role == "prediction" else role
        layer = Labels(
            data,
            name=f"{image.name}: {name}",
            opacity=OPACITY.get(role, 0.5),
            # What is known of the image's file and place is known of its labels too.
            metadata={OURS: {**image.metadata.get(OURS, {}), **_belonging(image, role)}},
            **place_of(image, data if isinstance(data, np.ndarray) else data[0]),
        )
        return self._add(layer, image)

    def _image(self, image: Image, role: str, data: Any) -> Image:
        layer = Image(
            data,
            name=f"{image.name}: {role}",
            colormap="viridis" if role == "probability" else "magma",
            blending="additive",  # where it is low, nothing is to be seen
            opacity=0.6,
            contrast_limits=(0, 1),
            metadata={OURS: _belonging(image, role)},
            **place_of(image, data if isinstance(data, np.ndarray) else data[0]),
        )
        return self._add(layer, image)

    def _add(self, layer: Any, image: Image) -> Any:
        """Add a layer, under the annotation if it is not one; what was selected stays so."""
        active = self.viewer.layers.selection.active
        annotation = self.of(image, "annotation")
        layers = self.viewer.layers
        layers.insert(len(layers) if annotation is None else layers.index(annotation), layer)
        if active is not None:
            layers.selection.active = active
        return layer

    def _remove(self, *layers: Layer) -> None:
        """Take layers away without a pause of the window."""
        # At each, napari searches all objects for rubbish: a third of a second with PyTorch loaded.
        gc.freeze()
        try:
            for layer in layers:
                self.viewer.layers.remove(layer)
        finally:
            gc.unfreeze()

    def color(self, classes: tuple[SegClass, ...]) -> None:
        """Show annotations and the live overlay in the colours of the classes; predictions, too,
        where it is their classes that have other colours or names now.
        """
        before, self._classes = self._classes, [item.model_dump() for item in classes]
        for layer in self.viewer.layers:
            theirs = role_of(layer) == "prediction" and len(before) == len(classes)
            same = theirs and layer.metadata[OURS].get("classes") == before
            if role_of(layer) in ("annotation", LIVE) or same:
                show_classes(layer, classes)

    # --- the live overlay ---

    def view(self, image: Image, picture: Picture, leading: bool = False) -> View | None:
        """What of an image is on the screen; None if nothing is, or it is looked at in 3-D."""
        if self.viewer.dims.ndisplay != 2 or image not in self.viewer.layers:
            return None
        drop = int(leading)
        low, high = (image.corner_pixels + np.array([[0], [1]])) * zoom_of(image)
        point = image.world_to_data(self.viewer.dims.point[-image.ndim :])
        offset = self.viewer.dims.ndim - image.ndim
        shown = [axis - offset for axis in self.viewer.dims.displayed]
        region = []
        for axis, n in enumerate(picture.shape):
            if axis + drop in shown:
                start = int(np.clip(low[axis + drop], 0, n))
                stop = int(np.clip(high[axis + drop], 0, n))
            else:
                start = int(np.clip(round(point[axis + drop]), 0, n - 1))
                stop = start + 1
            region.append(slice(start, stop))
        axes = tuple(sorted(axis - drop for axis in shown))
        if len(axes) != 2 or axes[0] < 0 or any(r.stop <= r.start for r in region):
            return None
        return at_step(View(picture, tuple(region), axes))

    def here(self, image: Image, picture: Picture, ndim: int, leading: bool = False) -> Region:
        """The plane that is looked at, or the volume: the last so many axes whole."""
        point = image.world_to_data(self.viewer.dims.point[-image.ndim :])[int(leading) :]
        lead = len(picture.shape) - ndim
        shown = [axis - self.viewer.dims.ndim for axis in self.viewer.dims.displayed]
        if lead and shown != [-2, -1]:
            raise BadInput(
                "The image is shown in 3-D or from the side; show its planes to say which is meant."
            )
        planes = (
            int(np.clip(round(p), 0, n - 1))
            for p, n in zip(point[:lead], picture.shape[:lead], strict=True)
        )
        whole = (slice(0, n) for n in picture.shape[lead:])
        return (*(slice(p, p + 1) for p in planes), *whole)

    def show_live(self, seen: Seen, image: Image, classes: tuple[SegClass, ...]) -> None:
        """Lay what was seen over its image, where it was seen."""
        if image not in self.viewer.layers:
            return
        matrix = matrix_of_part(image, seen.view)
        layer = self.live()
        if layer is None or layer.ndim != seen.labels.ndim:
            self.hide_live()
            layer = Labels(
                seen.labels,
                name="live",
                opacity=OPACITY["prediction"],
                affine=matrix,
                units=image.units[-seen.labels.ndim :],
                metadata={OURS: {"role": LIVE, "image": image.name}},
            )
            layer.colormap = label_colors(classes)
            layer.editable = False
            self._add(layer, image)
            return
        layer.metadata[OURS]["image"] = image.name
        layer.data = seen.labels
        if not np.array_equal(np.asarray(layer.affine.affine_matrix), matrix):
            layer.affine = matrix

    def live(self) -> Labels | None:
        """The live overlay, if there is one."""
        return next((layer for layer in self.viewer.layers if role_of(layer) == LIVE), None)

    def hide_live(self) -> None:
        layer = self.live()
        if layer is not None:
            self.hiding = True
            self._remove(layer)
            self.hiding = False

    # --- what the user is asked for ---

    def drag_rectangle(self, labels: Labels, done: Callable[[Region], None]) -> None:
        """Let the user drag a rectangle, and tell which region of the labels it covers."""
        names = ("scale", "translate", "rotate", "shear", "affine", "units")
        place = {name: getattr(labels, name) for name in names}
        layer = Shapes(ndim=labels.ndim, name=RECTANGLE, edge_color="white", **place)
        layer.metadata[OURS] = {"role": "rectangle", "image": image_of(labels)}
        self._remove(*(o for o in self.viewer.layers if role_of(o) == "rectangle"))
        self.viewer.add_layer(layer)
        layer.mode = "add_rectangle"

        def finish() -> None:
            region = covered(layer.data[-1], labels.data.shape) if layer.data else None
            if layer in self.viewer.layers:
                self._remove(layer)
            if labels not in self.viewer.layers:
                return
            self.viewer.layers.selection.active = labels
            if region is not None:
                done(region)

        # napari still works on the shape while it tells of it.
        later = partial(QTimer.singleShot, 0, finish)
        layer.events.data.connect(lambda event: event.action == "added" and later())
        layer.bind_key("Escape", lambda _layer: later(), overwrite=True)

    def make(self, pixels: Pixels, card: ImageCard) -> Image:
        """An image of a project as it was shown when it was taken in."""
        color, leading = card.shown == "rgb", card.shown == "leading"
        levels = [
            np.moveaxis(level, 0, -1) if color else level if leading else level[0]
            for level in (pixels.data, *pixels.coarser)
        ]
        matrix = np.array(card.matrix) if card.matrix else None
        if leading and matrix is not None:
            wide = np.eye(len(matrix) + 1)  # first an axis of channels
            wide[1:, 1:] = matrix
            matrix = wide
        units = (card.unit,) * (levels[0].ndim - color)
        return Image(
            levels if pixels.coarser else levels[0],
            name=card.name,
            rgb=color,
            multiscale=bool(pixels.coarser),
            affine=matrix,
            units=units,
            metadata={OURS: origin_of(pixels)},
        )

    def open(self, image: Image) -> None:
        """Show an image as a whole."""
        self.viewer.add_layer(image)
        self.viewer.layers.selection.active = image
        self.viewer.reset_view()

    def close(self, image: Image) -> None:
        """Take an image away, with all that lies on it."""
        if image in self.viewer.layers:
            mine = [layer for layer in self.viewer.layers if image_of(layer) == image.name]
            self._remove(*mine, image)

    def bind_key(self, keys: str, act: Callable[[], None]) -> None:
        """Have keys on the canvas do something, whatever layer is active."""
        self.viewer.bind_key(keys, lambda _viewer: act(), overwrite=True)

    def open_sample(self, key: str) -> None:
        """Open one of our sample images."""
        self.viewer.open_sample("napari-unet", key)

    # --- what happens to layers ---

    def _listen(self, layer: Layer) -> None:
        layer.events.name.connect(self._on_layers_changed)
        if isinstance(layer, Image) and role_of(layer) is None:
            layer.events.data.connect(self._on_image_data)
            for way in ("scale", "translate", "rotate", "shear", "affine"):
                getattr(layer.events, way).connect(self._on_image_moved)
            self._names[layer] = layer.name

    def _on_layers_inserted(self, event: Any) -> None:
        self._listen(event.value)
        self.changed.emit()

    def _on_layers_removed(self, event: Any) -> None:
        self._forget(event.value)
        self.gone.emit(event.value)
        self.changed.emit()

    def _on_layers_changed(self) -> None:
        self._follow_names()
        self.changed.emit()

    def _follow_names(self) -> None:
        """Layers of a renamed image go on belonging to it."""
        for image in self.images():
            before, self._names[image] = self._names.get(image), image.name
            if before == image.name:
                continue
            for layer in self.viewer.layers:
                if role_of(layer) and image_of(layer) == before:
                    layer.metadata[OURS]["image"] = image.name

    def _on_image_data(self, event: Any) -> None:
        self._forget(event.source)
        self.replaced.emit(event.source)

    def _on_image_moved(self, event: Any) -> None:
        """What lies on an image goes with it; the live overlay comes anew by itself."""
        image = event.source
        for layer in self._over(image) if image in self.viewer.layers else ():
            if role_of(layer) != LIVE:
                put_over(layer, image)

    def _forget(self, layer: Layer) -> None:
        self._pictures = {
            k: v for k, v in self._pictures.items() if layer is not k[0] and layer not in k[1]
        }


def _belonging(image: Image, role: str) -> dict[str, Any]:
    """What a layer remembers of the image that it lies on."""
    return {"role": role, "image": image.name, "file": file_of(image)}


def role_of(layer: Layer) -> str | None:
    """What a layer of ours is for; None for the user's own."""
    role: str | None = layer.metadata.get(OURS, {}).get("role")
    return role


def image_of(layer: Layer) -> str | None:
    """The name of the image that a layer of ours lies on."""
    name: str | None = layer.metadata.get(OURS, {}).get("image")
    return name


def label_colors(classes: tuple[SegClass, ...]) -> DirectLabelColormap:
    """The colours of the class table; unlabelled is clear, painted background grey."""
    colors: dict[int | None, str] = {None: "transparent", 0: "transparent", BACKGROUND: "#b0b0b0"}
    colors |= {number: c.color for number, c in enumerate(classes, 1)}
    return DirectLabelColormap(color_dict=colors)


def show_classes(layer: Labels, classes: tuple[SegClass, ...]) -> None:
    """Give a layer the colours of its classes, and note them for whoever writes it to a file."""
    layer.colormap = label_colors(classes)
    layer.metadata[OURS]["classes"] = [item.model_dump() for item in classes]


def show_objects(layer: Labels) -> None:
    """Give a layer colours that tell neighbouring objects apart."""
    from napari.utils.colormaps import label_colormap

    layer.colormap = label_colormap()
    layer.metadata[OURS].pop("classes", None)
