"""What every benchmark shares: image sets and their splits, timing, and the report it leaves."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_name("results")

# What counts as foreground in the mask files of each set; the rest is background.
SETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "isbi2012_em": lambda mask: mask == 0,  # membranes are black
    "dsb2018_fluo": lambda mask: mask > 0,
    "dsb2018_he": lambda mask: mask > 0,
    "usiigaci_phase": lambda mask: mask > 0,
    "wbc_smear": lambda mask: mask > 0,  # cytoplasm and nucleus
    "axon_sem": lambda mask: mask == 2,  # 1 is myelin
    "ham10000_derm": lambda mask: mask > 0,
}
UNSEEN = 6  # images to test on


@dataclass(frozen=True)
class Item:
    """One annotated image: YX or YXC, and its mask of 0 and 1."""

    name: str
    image: np.ndarray
    mask: np.ndarray
    group: str


def read(path: Path) -> np.ndarray:
    """The pixels of one file, whatever its format."""
    if path.suffix in {".tif", ".tiff"}:
        import tifffile

        return tifffile.imread(path)
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)


def plain(image: np.ndarray) -> np.ndarray:
    """The image without alpha, and with one channel where its channels repeat one another."""
    if image.ndim == 2:
        return image
    color = image[..., : image.shape[-1] - (image.shape[-1] in {2, 4})]
    grey = (color == color[..., :1]).all()
    return np.ascontiguousarray(color[..., 0] if grey else color)


def load_set(data: Path, name: str) -> list[Item]:
    """Every annotated image of a set, in the order of their names."""
    groups = json.loads((data / name / "meta.json").read_text()).get("groups", {})
    masks = {path.stem: path for path in (data / name / "masks").iterdir()}
    items = []
    for path in sorted((data / name / "images").iterdir()):
        image, mask = plain(read(path)), SETS[name](read(masks[path.stem])).astype(np.uint8)
        if image.shape[:2] != mask.shape:
            raise SystemExit(f"{path.name} and its mask differ in size")
        items.append(Item(path.stem, image, mask, groups.get(path.stem, path.stem)))
    return items


def split(name: str, items: Sequence[Item], k: int, seed: int) -> tuple[list[Item], list[Item]]:
    """Choose k images to learn from and six unseen ones, which share no specimen with them."""
    random = np.random.default_rng([seed, k])
    if name == "isbi2012_em":  # neighbouring slices show the same cells: keep six slices between
        seen = sorted(random.choice(12, k, replace=False))
        unseen = np.linspace(18, 29, UNSEEN).round().astype(int)
        return [items[i] for i in seen], [items[i] for i in unseen]
    for _ in range(1000):  # until enough are left beside the animals learned from
        order = [items[i] for i in random.permutation(len(items))]
        train, rest = order[:k], order[k:]
        if name == "axon_sem":
            animals = {item.group for item in train}
            rest = [item for item in rest if item.group not in animals]
        if len(rest) >= UNSEEN:
            return train, rest[:UNSEEN]
    raise SystemExit(f"{name} has too few images to learn from {k} and test on {UNSEEN}")


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    """Twice the overlap over the sum of the areas; 1 where both are empty."""
    a, b = predicted > 0, true > 0
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


# -- timing ------------------------------------------------------------------------------------


def elapsed(work: Callable[[], Any]) -> float:
    """Seconds one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleave(
    rates: dict[str, Callable[[], float]], rounds: int, rare: Sequence[str] = (), every: int = 3
) -> dict[str, list[float]]:
    """Measure each rate in turn, round after round, so that a drift of the machine meets all.

    A first turn of each is thrown away; those named in `rare` are slow and run every third round.
    """
    for measure in rates.values():
        measure()
    found: dict[str, list[float]] = {name: [] for name in rates}
    for i in range(rounds):
        for name, measure in rates.items():
            if name not in rare or i % every == 0:
                found[name].append(measure())
        print(f"round {i + 1}/{rounds}: " + ", ".join(f"{n} {v[-1]:.3f}" for n, v in found.items()))
    return found


def medians(found: dict[str, list[float]]) -> dict[str, float]:
    """The middle value of each list."""
    return {name: statistics.median(values) for name, values in found.items()}


def ratio(found: dict[str, list[float]], over: str, under: str) -> float:
    """The middle ratio of two rates, round by round where both ran in every round."""
    a, b = found[over], found[under]
    if len(a) == len(b):
        return statistics.median(x / y for x, y in zip(a, b, strict=True))
    return statistics.median(a) / statistics.median(b)


# -- reports -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A figure and what it has to be."""

    text: str
    value: float
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def line(self) -> str:
        sign = "at most" if self.at_most else "at least"
        return f"{self.text}: {self.value:.3g}, wanted {sign} {self.bound:g}" + (
            "" if self.met else " -- MISSED"
        )


def processor() -> str:
    """The name the processor gives itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and version of those packages that are installed."""
    for name in packages:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    packages = ["napari-unet", "torch", "monai", "scikit-image", "scikit-learn", "numpy", "zarr"]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": dict(versions(packages)),
        "commit": commit(),
    }


def commit() -> str | None:
    """The last commit of the package, where it is a checkout."""
    where = ["git", "-C", str(RESULTS.parents[1]), "log", "-1", "--format=%h", "napari_unet"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(where, capture_output=True, check=True, text=True).stdout.strip()
    return None


def measured(records: Iterable[dict[str, Any]]) -> str:
    """When each method was measured, in a sentence."""
    days: dict[str, set[str]] = {}
    for record in records:
        days.setdefault(record["method"], set()).add(record["machine"]["date"][:10])
    spans = (f"{m} {' to '.join(sorted({min(d), max(d)}))}" for m, d in days.items())
    return f"Measured: {', '.join(spans)}."


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_report(
    name: str,
    title: str,
    body: str,
    figures: dict[str, Any],
    targets: Sequence[Target],
    folder: Path = RESULTS,
) -> None:
    """Print the report, and leave it as NAME.md and NAME.json in the folder of results."""
    folder.mkdir(parents=True, exist_ok=True)
    where = machine()
    facts = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    text = "\n\n".join(
        [
            f"# {title}",
            body,
            "\n".join(f"- {target.line()}" for target in targets) or "No target.",
            f"{where['cpu']}, {where['cores']} cores, {where['threads']} threads"
            + (f", {where['gpu']}" if where["gpu"] else "")
            + f"; {where['system']}; {facts}; {where['date']}.",
        ]
    )
    verdicts = [{**asdict(target), "met": target.met} for target in targets]
    record = {"machine": where, "targets": verdicts, **figures}
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\n{text}")
