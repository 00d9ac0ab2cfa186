"""Megapixels per second of our whole prediction, beside the bare forward pass and the rivals.

python benchmarks/prediction_speed.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import torch
import zarr
from common import Target, elapsed, interleave, medians, ratio, table, write_report
from training_speed import usual_grain

from napari_unet import heap
from napari_unet.adviser import TOGETHER
from napari_unet.cards import Card
from napari_unet.config import NetConfig, PredictConfig, class_table
from napari_unet.device import Numerics, choose_numerics, synchronise
from napari_unet.inference import Target as Output
from napari_unet.inference import predict
from napari_unet.library import Model
from napari_unet.models import build
from napari_unet.samples import cells, volume

CHUNK = {2: 512, 3: 64}
CANDIDATES = {2: (256, 512, 1024, 2048), 3: (64, 96, 128)}  # edges of tiles for the bare pass


def random_model(ndim: int = 2, arch: str = "compact", share: float = TOGETHER) -> Model:
    """A model with random weights, which is as fast as a trained one, with a classifier's share."""
    net = build(NetConfig(arch=arch, ndim=ndim, grain=usual_grain(arch), pixels=share)).eval()
    axes = "CYX" if ndim == 2 else "CZYX"
    card = Card(name="random", net=net.config, classes=class_table(1), axes=axes)
    return Model(card, net.state_dict())


def repeated(block: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image (1, *shape) made of copies of a block."""
    times = [-(-n // b) for n, b in zip(shape, block.shape, strict=True)]
    return np.tile(block, times)[tuple(map(slice, shape))][None]


def run(model: Model, image: Any, config: PredictConfig, labels: Any = None) -> None:
    """Predict a whole image, into memory if no place is given."""
    target = None if labels is None else Output(labels)
    with heap.kept():
        for _ in predict(model, image, config, target=target):
            pass


def tiles_of(model: Model, image: np.ndarray, config: PredictConfig) -> Counter[tuple[int, ...]]:
    """The shapes that the engine passes to the net, and how often."""
    seen: Counter[tuple[int, ...]] = Counter()

    def note(_net: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen[tuple(inputs[0].shape[2:])] += 1

    hook = model.net.register_forward_pre_hook(note)  # the engine's copy of the net has it too
    run(model, image, config)
    hook.remove()
    return seen


def forward(net: torch.nn.Module, x: torch.Tensor, numerics: Numerics) -> None:
    """One pass in the engine's number format."""
    with torch.inference_mode(), numerics.autocast():
        net(x)
    synchronise(numerics.device)


def bare(
    model: Model, numerics: Numerics, shapes: list[tuple[int, ...]]
) -> tuple[tuple[int, ...], Callable[[], float]]:
    """The bare forward pass on tiles of the shape that suits it best: the shape, and its Mpx/s."""
    layout = numerics.layout(model.card.net.ndim)
    net = build(model.card.net).eval().to(numerics.device, memory_format=layout)

    def batch(shape: tuple[int, ...]) -> torch.Tensor:
        x = torch.rand(1, 1, *shape, device=numerics.device)
        return x.contiguous(memory_format=layout)

    def seconds_per_pixel(x: torch.Tensor, pixels: float) -> float:
        passes = max(1, round(pixels / x.numel()))
        with heap.kept():  # as in prediction
            time = elapsed(lambda: [forward(net, x, numerics) for _ in range(passes)])
        return time / passes / x.numel()

    largest = max(np.prod(shape) for shape in shapes)
    tried = {}
    for shape in shapes:
        x = batch(shape)
        forward(net, x, numerics)
        tried[shape] = min(seconds_per_pixel(x, largest) for _ in range(3))
    best = min(tried, key=lambda shape: tried[shape])
    resident = batch(best)
    print("bare, Mpx/s: " + ", ".join(f"{s} {1e-6 / t:.2f}" for s, t in tried.items()))
    return best, lambda: 1e-6 / seconds_per_pixel(resident, 4 * largest)


def store(folder: Path, name: str, shape: tuple[int, ...], chunk: int) -> zarr.Array:
    """A new uint8 zarr array in chunks of this edge."""
    chunks = tuple(min(n, chunk) for n in shape)
    return zarr.create_array(folder / name, shape=shape, chunks=chunks, dtype="uint8")


def ours(
    model: Model, image: np.ndarray, config: PredictConfig, folder: Path
) -> dict[str, Callable[[], float]]:
    """Our prediction into memory, and from zarr into zarr."""
    ndim = image.ndim - 1
    stored = store(folder, f"image{ndim}", image.shape, CHUNK[ndim])
    stored[:] = image
    labels = store(folder, f"labels{ndim}", image.shape[1:], CHUNK[ndim])
    pixels = image.size / 1e6
    return {
        "ours": lambda: pixels / elapsed(lambda: run(model, image, config)),
        "ours, zarr": lambda: pixels / elapsed(lambda: run(model, stored, config, labels)),
    }


def slow_nets(edge: int, numerics: Numerics) -> dict[str, Callable[[], float]]:
    """The textbook net on one tile, MONAI's in one pass and by its sliding window."""
    device = numerics.device
    plain = Numerics(device, torch.float32, channels_last=False)
    tile = torch.rand(1, 1, edge, edge, device=device)
    image = torch.rand(1, 1, 2 * edge, 2 * edge, device=device)
    textbook = rivals.TextbookUNet().to(device).eval()
    monai = rivals.basic_unet(1).to(device).eval()

    def windows() -> None:
        rivals.monai_windows(monai, image)
        synchronise(device)

    return {
        "textbook": lambda: tile.numel() / 1e6 / elapsed(lambda: forward(textbook, tile, plain)),
        "MONAI": lambda: image.numel() / 1e6 / elapsed(windows),
        "MONAI, one pass": lambda: (
            image.numel() / 1e6 / elapsed(lambda: forward(monai, image, plain))
        ),
    }


def measure(
    ndim: int, shape: tuple[int, ...], options: argparse.Namespace, folder: Path
) -> tuple[dict[str, list[float]], str]:
    """Rates of everything on images of so many axes, and a line about the tiles."""
    config = PredictConfig(device=options.device, precision=options.precision)
    numerics = choose_numerics(options.device, options.precision, ndim)
    model = random_model(ndim, options.arch)
    block = cells(0, 1024)[0] if ndim == 2 else (volume(0, (32, 128, 128))[0] >> 8).astype("uint8")
    image = repeated(block, shape)
    tiles = tiles_of(model, image, config)
    usual = max(tiles, key=lambda shape: tiles[shape] * np.prod(shape))
    fitting = [(edge,) * ndim for edge in CANDIDATES[ndim] if edge <= max(shape)]
    shapes = list(dict.fromkeys([usual, *fitting]))
    best, bare_rate = bare(model, numerics, shapes)
    rates = ours(model, image, config, folder) | {"bare": bare_rate}
    if ndim == 2:
        alone = random_model(ndim, options.arch, share=0.0)
        rates["net alone"] = lambda: image.size / 1e6 / elapsed(lambda: run(alone, image, config))
        rates["net alone, bare"] = bare(alone, numerics, shapes)[1]
        rates |= slow_nets(options.rival_edge, numerics)
    first = interleave({"ours, a single image": rates["ours"]}, options.rounds)
    slow = [name for name in rates if name.startswith(("MONAI", "textbook"))]
    with heap.kept():  # from one to the next, as over a folder of images
        found = first | interleave(rates, options.rounds, slow)
    read = sum(np.prod(tile) * times for tile, times in tiles.items()) / np.prod(shape)
    about = (
        f"{ndim}-D: {'x'.join(map(str, shape))} pixels in {tiles.total()} tiles, most of "
        f"{'x'.join(map(str, usual))}; with their halos {read:.2f} times the image passes the net. "
        f"Bare: resident tiles of {'x'.join(map(str, best))}, the fastest of those tried. "
        f"{numerics.name}, {'channels last' if numerics.channels_last else 'contiguous'}."
    )
    return found, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--edge", type=int, default=4096, help="of the 2-D image")
    parser.add_argument("--rival-edge", type=int, default=512, help="of the textbook net's tile")
    parser.add_argument("--volume", type=int, nargs=3, default=[64, 256, 256])
    parser.add_argument("--arch", default="compact")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flat, about_flat = measure(2, (options.edge,) * 2, options, Path(folder))
        deep, about_deep = measure(3, tuple(options.volume), options, Path(folder))
    rows = [
        (f"{ndim}-D", name, f"{medians(found)[name]:.3g}", f"{min(v):.3g} to {max(v):.3g}")
        for ndim, found in ((2, flat), (3, deep))
        for name, v in found.items()
    ]
    body = table(("", "what", "Mpx/s, median", "range"), rows)
    targets = [
        Target("2-D, ours / bare", ratio(flat, "ours", "bare"), 0.9),
        Target("2-D, ours from zarr to zarr / bare", ratio(flat, "ours, zarr", "bare"), 0.9),
        Target("2-D, net alone / bare", ratio(flat, "net alone", "net alone, bare"), 0.9),
        Target("2-D, ours / textbook", ratio(flat, "ours", "textbook"), 20),
        Target("2-D, ours / MONAI with its sliding window", ratio(flat, "ours", "MONAI"), 5),
        Target("3-D, ours / bare", ratio(deep, "ours", "bare"), 0.8),
        Target("3-D, ours from zarr to zarr / bare", ratio(deep, "ours, zarr", "bare"), 0.8),
    ]
    write_report(
        "prediction_speed",
        "Prediction speed",
        "\n\n".join([body, about_flat, about_deep]),
        {"2-D": flat, "3-D": deep},
        targets,
    )


if __name__ == "__main__":
    main()
