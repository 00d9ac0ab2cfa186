"""The names and colours of what pixels hold: of each class, or of each numbered object."""

from __future__ import annotations

from dataclasses import dataclass

from napari_unet.config import PALETTE, SegClass
from napari_unet.export.content import Content
from napari_unet.export.runs import Objects, find_objects

OBJECT = "object"  # what an object without a class is called


@dataclass(frozen=True)
class Label:
    """A number that pixels hold; an object has a class only where it is known."""

    number: int
    name: str
    color: str
    of: SegClass | None


def labels_of(content: Content) -> list[Label]:
    """Every class, whether it is there or not, or every object that is there."""
    if content.objects is None:
        numbers = range(1, max(len(content.classes), content.highest) + 1)
        classes = [(i, content.class_of(i)) for i in numbers]
        return [Label(i, item.name, item.color, item) for i, item in classes]
    found = find_objects(content)
    pairs = dict(zip(found.numbers.tolist(), found.classes.tolist(), strict=True))
    return [_label(number, class_of(content, of)) for number, of in sorted(pairs.items())]


def class_of(content: Content, number: int) -> SegClass | None:
    """The class of a number, None for 0."""
    return content.class_of(number) if number else None


def item_class(content: Content, objects: Objects, item: int) -> SegClass | None:
    """The class of an object by its place in the list of objects."""
    return class_of(content, int(objects.classes[item]))


def _label(number: int, of: SegClass | None) -> Label:
    color = of.color if of else PALETTE[(number - 1) % len(PALETTE)]
    return Label(number, f"{of.name if of else OBJECT} {number}", color, of)
