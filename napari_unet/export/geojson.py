"""GeoJSON as QuPath has it: a feature for each object and plane, with its class and colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.atomic import atomic_file
from napari_unet.config import SegClass
from napari_unet.export.content import Content, rgb
from napari_unet.export.labels import item_class
from napari_unet.export.runs import find_objects
from napari_unet.export.shapes import Outline, Polygon, outlines


def write_geojson(path: Path, content: Content, overwrite: bool) -> None:
    """Write numbered objects as detections, or the parts of classes as annotations."""
    with atomic_file(path, overwrite) as temporary, temporary.open("w", encoding="utf-8") as file:
        objects = find_objects(content)
        file.write('{"type": "FeatureCollection", "features": [')
        for i, outline in enumerate(outlines(objects)):
            number = None if content.objects is None else int(objects.numbers[outline.item])
            of = item_class(content, objects, outline.item)
            file.write(",\n" if i else "\n")
            file.write(json.dumps(_feature(outline, number, of, content)))
        file.write("\n]}\n")


def _feature(
    outline: Outline, number: int | None, of: SegClass | None, content: Content
) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation" if number is None else "detection"}
    if number is not None:
        properties["name"] = str(number)
    if of is not None:
        properties["classification"] = {"name": of.name, "color": list(rgb(of.color))}
    return {"type": "Feature", "geometry": _geometry(outline, content), "properties": properties}


def _geometry(outline: Outline, content: Content) -> dict[str, Any]:
    polygons = [_closed(polygon) for polygon in outline.polygons]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": polygons[0]}
    if len(polygons) > 1:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    if len(content.shape) > 2:
        place = content.plane(outline.plane)
        geometry["plane"] = {"c": -1, "z": place.get("Z", 0), "t": place.get("T", 0)}
    return geometry


def _closed(polygon: Polygon) -> list[list[list[int]]]:
    return [np.concatenate([ring, ring[:1]]).tolist() for ring in polygon]
