"""What a project costs: a stroke on a large annotation, and the opening of many images.

python benchmarks/projects.py [--size 10000] [--images 500]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import Target, elapsed, table, write_report

from napari_unet.io import as_image
from napari_unet.project import create_project, open_project
from napari_unet.run import Control

STROKES = 20
BRUSH = 40  # pixels across
FEW = 10  # images, to compare with many
MB = 2**20


def paint(folder: Path, size: int) -> dict[str, float]:
    """Strokes on a large annotation: what each costs whoever paints, and until it is on disk."""
    project = create_project(folder)
    key = project.add(as_image(np.zeros((64, 64), np.uint8), name="large"), shape=(size, size))
    project.save()
    labels = np.zeros((size, size), np.uint8)
    project.hold(key, labels)
    control = Control()
    thread = threading.Thread(target=lambda: list(project.saving(control)))
    thread.start()
    told, saved, written = [], [], []
    random = np.random.default_rng(0)
    for _ in range(STROKES):
        y, x = random.integers(0, size - 400, 2)
        region = slice(int(y), int(y) + BRUSH), slice(int(x), int(x) + 400)
        before = sheets(folder)
        labels[region] = 1
        start = time.perf_counter()
        project.paint(key, region)
        told.append(time.perf_counter() - start)
        while not project.is_saved:
            time.sleep(0.005)
        saved.append(time.perf_counter() - start)
        after = sheets(folder)
        written.append(sum(n for file, (n, when) in after.items() if before.get(file) != (n, when)))
    control.stop()
    thread.join()
    return {
        "told": 1000 * max(told),
        "saved": statistics.median(saved),
        "written": max(written) / MB,
    }


def sheets(folder: Path) -> dict[Path, tuple[int, int]]:
    """The files of what is painted: their size, and when they were written."""
    found = ((f, f.stat()) for f in folder.rglob("*.tif"))
    return {f: (s.st_size, s.st_mtime_ns) for f, s in found}


def fill(folder: Path, images: int) -> None:
    """A project with so many painted images."""
    project = create_project(folder)
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8)
    for number in range(images):
        key = project.add(as_image(pixels, name=f"image {number}"))
        labels = np.zeros((256, 256), np.uint8)
        labels[:40] = 1
        project.hold(key, labels)
        project.paint(key)
    project.close()


def opening(folder: Path) -> dict[str, float]:
    """In a process of its own: how long it takes to open, and what memory it takes then."""
    found = subprocess.run(
        [sys.executable, __file__, "--open", folder], capture_output=True, text=True, check=True
    )
    return json.loads(found.stdout)


def open_and_look(folder: Path) -> None:
    import psutil

    before = psutil.Process().memory_info().rss
    seconds = elapsed(lambda: open_project(folder))
    project = open_project(folder)
    for key in list(project.images)[:FEW]:
        project.read(key)
        project.annotation(key)
    print(
        json.dumps({"seconds": seconds, "mb": (psutil.Process().memory_info().rss - before) / MB})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--open", type=Path, help="only open this project, and say what it took")
    arguments = parser.parse_args()
    if arguments.open:
        open_and_look(arguments.open)
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        stroke = paint(place / "large", arguments.size)
        for images in (FEW, arguments.images):
            fill(place / str(images), images)
        few, many = opening(place / str(FEW)), opening(place / str(arguments.images))
    rows = [
        ("a stroke, for whoever paints, ms (worst)", f"{stroke['told']:.2f}"),
        ("a stroke, until it is on disk, s (median)", f"{stroke['saved']:.2f}"),
        ("a stroke, written, MB (largest)", f"{stroke['written']:.3f}"),
        (f"open {FEW} images, s", f"{few['seconds']:.2f}"),
        (f"open {arguments.images} images, s", f"{many['seconds']:.2f}"),
        (f"memory with {FEW} images, MB", f"{few['mb']:.0f}"),
        (f"memory with {arguments.images} images, MB", f"{many['mb']:.0f}"),
    ]
    write_report(
        "projects",
        f"A stroke on {arguments.size:,} x {arguments.size:,}, and many images",
        table(("", "measured"), rows),
        {"stroke": stroke, "few": few, "many": many},
        [
            Target("a stroke, for whoever paints, ms", stroke["told"], 50, at_most=True),
            Target("a stroke, until it is on disk, s", stroke["saved"], 2, at_most=True),
            Target("a stroke, written, MB", stroke["written"], 1, at_most=True),
            Target(f"open {arguments.images} images, s", many["seconds"], 2, at_most=True),
            Target("memory of many images, MB more", many["mb"] - few["mb"], 10, at_most=True),
        ],
    )


if __name__ == "__main__":
    main()
