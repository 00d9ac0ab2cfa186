"""What users have today: a random forest on filter features, MONAI's U-Net, the textbook U-Net."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

Predictor = Callable[[np.ndarray], np.ndarray]

NAMES = {"forest": "random forest", "monai": "MONAI BasicUNet"}  # in reports

PATCH, BATCH = 128, 8
MONAI_FEATURES = (32, 32, 64, 128, 256, 32)


def scaled(image: np.ndarray) -> np.ndarray:
    """The image as float32 YXC, each channel's 1st to 99th percentile stretched to 0..1."""
    values = image.reshape(*image.shape[:2], -1).astype(np.float32)
    low, high = np.percentile(values, (1, 99), axis=(0, 1)).astype(np.float32)
    return (values - low) / np.maximum(high - low, 1e-6)


# -- a random forest on filter features --------------------------------------------------------


def features(image: np.ndarray) -> np.ndarray:
    """Intensity, edges and texture of every channel at scales 1 to 16, one row per pixel."""
    from skimage.feature import multiscale_basic_features

    found = multiscale_basic_features(scaled(image), sigma_min=1, sigma_max=16, channel_axis=-1)
    return found.reshape(-1, found.shape[-1])


def train_forest(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seed: int, pixels: int = 40_000
) -> Predictor:
    """Fit the forest to pixels drawn at random from all images alike."""
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(seed)
    rows, truth = [], []
    for image, mask in zip(images, masks, strict=True):
        chosen = random.choice(mask.size, min(mask.size, pixels // len(images)), replace=False)
        rows.append(features(image)[chosen])
        truth.append(mask.ravel()[chosen])
    forest = RandomForestClassifier(100, max_depth=20, n_jobs=-1, random_state=seed)
    forest.fit(np.concatenate(rows), np.concatenate(truth))
    return lambda image: forest.predict(features(image)).reshape(image.shape[:2])


# -- MONAI's BasicUNet with the common recipe --------------------------------------------------


def basic_unet(channels: int, ndim: int = 2) -> nn.Module:
    """MONAI's net as it comes: instance norm, 32 wide, four poolings, two outputs."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(ndim, channels, 2, features=MONAI_FEATURES)


def patches(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], random: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of random patches, flipped and turned by quarters; views until they are stacked."""
    while True:
        batch, truth = [], []
        for i in random.integers(len(images), size=BATCH):
            y, x = (random.integers(n - PATCH + 1) for n in masks[i].shape)
            turn, flip = random.integers(4), 1 - 2 * random.integers(2)
            for source, into in ((images[i], batch), (masks[i][None], truth)):
                cut = source[:, y : y + PATCH, x : x + PATCH]
                into.append(np.rot90(cut, turn, (1, 2))[:, :, ::flip])
        yield torch.from_numpy(np.stack(batch)), torch.from_numpy(np.stack(truth))


def monai_steps(
    images: Sequence[np.ndarray], masks: Sequence[np.ndarray], seed: int, device: str = "cpu"
) -> Iterator[nn.Module]:
    """Train by the common recipe (Adam at 1e-3, Dice and cross-entropy), one step at a time."""
    from monai.losses import DiceCELoss

    torch.manual_seed(seed)
    planes = [np.ascontiguousarray(np.moveaxis(scaled(image), -1, 0)) for image in images]
    net = basic_unet(planes[0].shape[0]).to(device)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for batch, truth in patches(planes, masks, np.random.default_rng(seed)):
        optimiser.zero_grad()
        loss_of(net(batch.to(device)), truth.to(device)).backward()
        optimiser.step()
        yield net


def train_monai(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    seed: int,
    seconds: float,
    device: str = "cpu",
) -> Predictor:
    """Train for so many seconds, scaling the images and building the net included."""
    end = time.perf_counter() + seconds
    steps = monai_steps(images, masks, seed, device)
    net = next(steps)
    while time.perf_counter() < end:
        next(steps)
    return partial(monai_predict, net.eval())


@torch.inference_mode()
def monai_predict(net: nn.Module, image: np.ndarray) -> np.ndarray:
    """The mask of an image in one pass: faster and no worse here than MONAI's sliding window."""
    batch, (height, width) = padded(image)
    logits = net(batch.to(next(net.parameters()).device))
    return logits[0, :, :height, :width].argmax(0).cpu().numpy().astype(np.uint8)


@torch.inference_mode()
def monai_windows(net: nn.Module, batch: Tensor, edge: int = 256) -> Tensor:
    """The mask of a batch by MONAI's sliding window, with its own overlap of a quarter."""
    from monai.inferers import sliding_window_inference

    edges = (edge,) * (batch.ndim - 2)
    logits = sliding_window_inference(batch, edges, 4, net, 0.25, mode="gaussian")
    return logits.argmax(1)


def padded(image: np.ndarray, multiple: int = 16) -> tuple[Tensor, tuple[int, int]]:
    """The scaled image as a batch of one, mirrored up to sizes the net can halve four times."""
    size = image.shape[:2]
    more = [(0, -n % multiple) for n in size]
    planes = np.moveaxis(np.pad(scaled(image), [*more, (0, 0)], mode="reflect"), -1, 0)
    return torch.from_numpy(planes.copy())[None], size


# -- the textbook U-Net ------------------------------------------------------------------------


def twice(inward: int, outward: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm, as in most tutorials."""
    return nn.Sequential(
        nn.Conv2d(inward, outward, 3, padding=1, bias=False),
        nn.BatchNorm2d(outward),
        nn.ReLU(inplace=True),
        nn.Conv2d(outward, outward, 3, padding=1, bias=False),
        nn.BatchNorm2d(outward),
        nn.ReLU(inplace=True),
    )


class TextbookUNet(nn.Module):
    """64 to 1024 channels, 31 million parameters: the net of the paper as tutorials write it."""

    def __init__(self, channels: int = 1, outputs: int = 1, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList(
            twice(a, b) for a, b in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.join = nn.ModuleList(twice(2 * w, w) for w in widths[-2::-1])
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


def textbook_steps(batch: Tensor, truth: Tensor) -> Iterator[nn.Module]:
    """Train the textbook net the plain way on one batch: float32, contiguous, Adam."""
    net = TextbookUNet(batch.shape[1]).to(batch.device)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    while True:
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(batch), truth).backward()
        optimiser.step()
        yield net
