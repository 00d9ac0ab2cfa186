"""Time and peak memory of writing 20,000 x 20,000 pixels with 50,000 objects, format by format.

python benchmarks/exports.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr
from common import Target, elapsed, table, write_report
from memory import CHUNK, peak

FORMATS = (".geojson", ".coco.json", ".csv", ".ome.zarr", ".ome.tif")
CLASSES = ("tumour", "stroma", "lymphocyte")
LIMIT = 4000  # MB


def make_masks(folder: Path, size: int, count: int) -> int:
    """Write classes and numbered objects, chunk by chunk: ellipses, every fifth with a hole."""
    options = {"shape": (size, size), "chunks": (CHUNK, CHUNK)}
    classes = zarr.create_array(folder / "classes.zarr", dtype="uint8", **options)
    objects = zarr.create_array(folder / "objects.zarr", dtype="uint32", **options)
    random = np.random.default_rng(0)
    blocks = [(y, x) for y in range(0, size, CHUNK) for x in range(0, size, CHUNK)]
    number = 0
    for i, (y, x) in enumerate(blocks):
        height, width = min(CHUNK, size - y), min(CHUNK, size - x)
        wanted = count * (i + 1) // len(blocks) - number
        numbers = draw(random, height, width, wanted, number)
        number += wanted
        objects[y : y + height, x : x + width] = numbers
        classes[y : y + height, x : x + width] = np.where(numbers, numbers % len(CLASSES) + 1, 0)
    return number


def draw(random: np.random.Generator, height: int, width: int, n: int, last: int) -> np.ndarray:
    """A block with so many ellipses, each in a cell of a grid of its own."""
    numbers = np.zeros((height, width), np.uint32)
    side = int(np.ceil(np.sqrt(n)))
    cell = min(height, width) // side
    rows, columns = np.mgrid[:cell, :cell] - (cell - 1) / 2
    for i in range(n):
        angle = random.uniform(0, np.pi)
        long, short = cell / 2 * random.uniform(0.6, 1), cell / 2 * random.uniform(0.4, 0.6)
        along = rows * np.sin(angle) + columns * np.cos(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        distance = (along / long) ** 2 + (across / short) ** 2
        inside = (distance < 1) & ((distance > 0.1) | (i % 5 > 0))
        y, x = i // side * cell, i % side * cell
        numbers[y : y + cell, x : x + cell][inside] = last + i + 1
    return numbers


def export_one(folder: Path, suffix: str, with_objects: bool) -> None:
    """What the measured process does; it prints its figures."""
    from napari_unet.config import class_table
    from napari_unet.export import export_labels

    classes = zarr.open_array(folder / "classes.zarr", mode="r")
    objects = zarr.open_array(folder / "objects.zarr", mode="r") if with_objects else None
    file = folder / f"out{suffix}"
    before = peak()
    seconds = elapsed(
        lambda: export_labels(
            file, classes, classes=class_table(list(CLASSES)), objects=objects, overwrite=True
        )
    )
    files = [item for item in file.rglob("*") if item.is_file()] if file.is_dir() else [file]
    size = sum(item.stat().st_size for item in files) / 1e6
    print(json.dumps({"before": before, "peak": peak(), "seconds": seconds, "size": size}))


def measure(folder: Path, suffix: str, with_objects: bool) -> dict[str, float]:
    """The figures of a fresh process that writes one format."""
    child = [sys.executable, __file__, "--child", str(folder), suffix]
    child += ["--objects"] if with_objects else []
    done = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{suffix}: {found['peak']:.0f} MB, {found['seconds']:.0f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where there is room; default: temporary")
    parser.add_argument("--objects", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        export_one(Path(options.child[0]), options.child[1], options.objects)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        count = make_masks(folder, options.size, options.count)
        found = {
            f"{suffix}{', numbered objects' if objects else ''}": measure(folder, suffix, objects)
            for objects in (True, False)
            for suffix in FORMATS
        }
    rows = [
        (name, *(f"{v[key]:.0f}" for key in ("before", "peak", "seconds", "size")))
        for name, v in found.items()
    ]
    write_report(
        "exports",
        f"Writing {options.size:,} x {options.size:,} pixels with {count:,} objects from zarr",
        table(("format", "before, MB", "peak, MB", "seconds", "size, MB"), rows),
        {"runs": found, "size": options.size, "count": count},
        [Target(f"peak of {name}, MB", v["peak"], LIMIT, True) for name, v in found.items()],
    )


if __name__ == "__main__":
    main()
