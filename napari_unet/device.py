"""Which device computes, in which number format: measured, not assumed; and what to do if
not a GPU.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_unet.run import BadInput
from napari_unet.threads import one_thread

# A faster format must be clearly faster, or chance would choose and equal seeds would differ.
CLEARLY = 1.15
SELF_TEST_ROUNDS, LEAST_ROUNDS = 8, 2
SELF_TEST_SECONDS = 0.5  # after which the least will do
HOPELESS = 3.0  # times the seconds of a small step in plain float32; a full one is not tried then


@dataclass(frozen=True)
class Numerics:
    """Number format and memory layout of a net's arithmetic on one device."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    @property
    def name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def scaled(self) -> bool:
        """Whether gradients need a scaler, as float16's do."""
        return self.dtype == torch.float16

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def place(self, net: Any) -> Any:
        """A net moved to the device, its weights laid out for it."""
        return net.to(self.device, memory_format=self.layout(net.config.ndim))

    def send(self, pixels: np.ndarray) -> Tensor:
        """An image (C, *spatial) on the device, as a batch of one in the layout nets read."""
        batch = torch.from_numpy(pixels)[None].to(self.device)
        return batch.contiguous(memory_format=self.layout(pixels.ndim - 1))

    def layout(self, ndim: int) -> torch.memory_format:
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if ndim == 2 else torch.channels_last_3d


def choose_device(name: str = "auto", ndim: int = 2) -> torch.device:
    """The device of this name; auto takes a GPU if there is one that can do it."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        # Metal cannot sample volumes at arbitrary places in all releases of PyTorch.
        metal = torch.backends.mps.is_available() and ndim == 2
        return torch.device("mps" if metal else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(
            f"There is no device '{name}'; give auto, cpu, cuda, cuda:1 or mps."
        ) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise BadInput(f"Device '{name}' is not supported; give auto, cpu, cuda, cuda:1 or mps.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(f"Device '{name}' cannot be used: {why_no_gpu()}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadInput(
            f"Device '{name}' cannot be used: this machine or PyTorch build has no Metal."
        )
    return device


def choose_numerics(device: str | torch.device, precision: str = "auto", ndim: int = 2) -> Numerics:
    """The format that a short self-test of the device finds fastest, or the one asked for."""
    device = choose_device(device) if isinstance(device, str) else device
    if precision == "auto":
        return _fastest(str(device), ndim)
    return Numerics(device, getattr(torch, precision), _likes_channels_last(device, ndim))


def _likes_channels_last(device: torch.device, ndim: int) -> bool:
    return (
        device.type == "cuda"
        or (device.type == "cpu" and ndim == 2)
        or _fastest(str(device), ndim).channels_last
    )


@lru_cache
def _fastest(device: str, ndim: int) -> Numerics:
    with one_thread():  # so that a busy machine does not disturb the comparison
        timings = self_test(device, ndim)
    plain = Numerics(torch.device(device), torch.float32, False)
    best = min(timings, key=lambda n: timings[n])
    return best if timings[best] * CLEARLY < timings[plain] else plain


def self_test(device: str, ndim: int = 2) -> dict[Numerics, float]:
    """Seconds that one small training step takes in each format that the device may be good at."""
    place = torch.device(device)
    formats = [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)]
    if place.type == "cuda":
        half = (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float16
        )
        formats = [(torch.float32, False), (half, True)]
    elif place.type == "mps":
        formats = [(torch.float32, False)]  # older releases lack what half precision needs
    candidates = [Numerics(place, *f) for f in formats]
    if place.type == "cpu":  # one without bfloat16 emulates it, which takes seconds for a full step
        small = _timed({n: _step(n, (2, 16, 32, 32)) for n in candidates}, 3)
        usual = small[candidates[0]]
        candidates = [n for n in candidates if small[n] < HOPELESS * usual]
    size = (2, 16, 96, 96) if ndim == 2 else (1, 16, 24, 24, 24)
    return _timed({n: _step(n, size) for n in candidates}, SELF_TEST_ROUNDS)


def _timed(tests: dict[Numerics, Callable[[], None]], rounds: int) -> dict[Numerics, float]:
    """The least seconds that each takes; of slow ones fewer rounds will do."""
    best, until = dict.fromkeys(tests, math.inf), time.perf_counter() + SELF_TEST_SECONDS
    # In turn, and the best of several: what else the machine does then hits none in particular.
    for round_ in range(rounds):
        for numerics, step in tests.items():
            start = time.perf_counter()
            step()
            synchronise(numerics.device)
            if round_:  # the first is a warm-up
                best[numerics] = min(best[numerics], time.perf_counter() - start)
        if round_ >= LEAST_ROUNDS and time.perf_counter() > until:
            break
    return best


def _step(numerics: Numerics, size: tuple[int, ...]) -> Callable[[], None]:
    """A small training step on a batch (B, 16, *spatial), as a function."""
    ndim = len(size) - 2
    conv: Callable[..., torch.nn.Module] = torch.nn.Conv2d if ndim == 2 else torch.nn.Conv3d
    layers = (conv(16, 32, 3, padding=1), torch.nn.ReLU(), conv(32, 32, 3, padding=1))
    layout = numerics.layout(ndim)
    net: Any = torch.nn.Sequential(*layers)
    net.to(numerics.device, memory_format=layout)
    x = torch.zeros(size, device=numerics.device).contiguous(memory_format=layout)

    def step() -> None:
        with numerics.autocast():
            out: Tensor = net(x)
        out.float().sum().backward()

    return step


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """Say in a sentence that there is not enough memory for something."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise BadInput(
            f"There is not enough memory for {what}; choose a smaller one, close other programs or "
            "use another device."
        ) from None


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error of a GPU, Metal or CPU allocator means that memory is short."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        w in str(error) for w in words
    )


def free_memory(device: torch.device) -> None:
    """Give cached memory back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def describe_device(device: torch.device) -> str:
    """The device in words, with its memory."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if device.type == "mps":
        return "Apple GPU (Metal)"
    threads = torch.get_num_threads()
    return f"{platform.processor() or platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def why_no_gpu() -> str:
    """Why the GPU that was asked for is not used, and the remedy, in a sentence."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"this machine has {count} CUDA GPU{'s' if count > 1 else ''}, counted from cuda:0."
    if torch.backends.mps.is_available():
        return "this machine computes on its Apple GPU; give mps."
    if torch.version.cuda is None:
        return (
            "this PyTorch is built for the CPU only; if the machine has an NVIDIA GPU, install the "
            "CUDA build of PyTorch (the selector on pytorch.org gives the command)."
        )
    return (
        "PyTorch finds no NVIDIA GPU; if there is one, check that nvidia-smi lists it and that its "
        f"driver is recent enough for CUDA {torch.version.cuda}."
    )
