"""Peak resident memory while an image of 5,000 and of 20,000 squared is predicted, zarr to zarr.

python benchmarks/memory.py
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

from napari_unet.device import choose_numerics

CHUNK = 1000


def peak() -> float:
    """The most memory this process has held so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss it knows nothing of the process that started this one
        lines = status.read_text().splitlines()
        return next(int(s.split()[1]) * 1024 for s in lines if s.startswith("VmHWM")) / 1e6
    import resource  # which Windows lacks

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e6


def make_image(path: Path, size: int) -> None:
    """Write a large image chunk by chunk: noisy copies of a generated one."""
    from napari_unet.samples import cells

    image = zarr.create_array(path, shape=(1, size, size), chunks=(1, CHUNK, CHUNK), dtype="uint8")
    random = np.random.default_rng(0)
    block = cells(0, CHUNK)[0]
    for y in range(0, size, CHUNK):
        for x in range(0, size, CHUNK):
            turned = np.rot90(block, random.integers(4)) // 2
            noise = random.integers(0, 100, block.shape, dtype=np.uint8)
            height, width = min(CHUNK, size - y), min(CHUNK, size - x)
            image[0, y : y + height, x : x + width] = (turned + noise)[:height, :width]


def predict_one(image: Path, labels: Path, device: str, precision: str) -> None:
    """What the measured process does; it prints its figures."""
    from prediction_speed import random_model, run

    from napari_unet.config import PredictConfig

    pixels = zarr.open_array(image, mode="r")
    spatial = pixels.shape[1:]
    out = zarr.create_array(labels, shape=spatial, chunks=(CHUNK, CHUNK), dtype="uint8")
    model = random_model()
    before = peak()
    config = PredictConfig(device=device, precision=precision)
    seconds = elapsed(lambda: run(model, pixels, config, out))
    rate = pixels.size / seconds / 1e6
    print(json.dumps({"before": before, "peak": peak(), "seconds": seconds, "rate": rate}))


def measure(size: int, folder: Path, device: str, precision: str) -> dict[str, float]:
    """The figures of a fresh process that predicts one image."""
    image = folder / f"image{size}.zarr"
    make_image(image, size)
    child = [sys.executable, __file__, "--device", device, "--precision", precision]
    child += ["--child", str(image), str(folder / f"labels{size}.zarr")]
    done = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{size}: {found['peak']:.0f} MB, {found['rate']:.2f} Mpx/s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=[5_000, 20_000])
    parser.add_argument("--folder", type=Path, help="where there is room; default: temporary")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        predict_one(*map(Path, options.child), options.device, options.precision)
        return
    # Chosen once: two processes might choose differently, and each format has its own memory.
    precision = choose_numerics(options.device, options.precision).name
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = {
            size: measure(size, Path(folder), options.device, precision) for size in options.sizes
        }
    rows = [
        (
            f"{size:,} x {size:,}",
            *(f"{v[key]:.0f}" for key in ("before", "peak", "seconds")),
        )
        for size, v in found.items()
    ]
    small, large = (found[size]["peak"] for size in options.sizes)
    write_report(
        "memory",
        f"Peak resident memory of a process that predicts from zarr to zarr, {precision}",
        table(("image, uint8", "before, MB", "peak, MB", "seconds"), rows),
        {"runs": found, "precision": precision},
        [
            Target("peak of the large image / peak of the small one", large / small, 1.2, True),
            Target("peak of the large image, MB", large, 2000, True),
        ],
    )


if __name__ == "__main__":
    main()
