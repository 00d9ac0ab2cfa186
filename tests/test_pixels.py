"""The classifier of pixels: filters that turn with the image, fitted to what is painted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_unet.adviser import fit
from napari_unet.config import BACKGROUND, NetConfig
from napari_unet.models import build
from napari_unet.models.pixels import (
    PER_CHANNEL,
    PIECE,
    SCALES,
    PixelNet,
    as_probabilities,
    features,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def fitted(rows: torch.Tensor, labels: torch.Tensor, seed: int = 0, **config) -> PixelNet:
    torch.manual_seed(seed)
    net = PixelNet(NetConfig(**config))
    fit(net, rows, labels, torch.Generator().manual_seed(seed), sparse=False)
    return net


def halves(classes: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Broad stripes of different texture and brightness side by side, and their labels."""
    kinds = classes + 1
    x = noise(1, 1, 96, 48 * kinds)
    labels = torch.full((96, 48 * kinds), BACKGROUND, dtype=torch.uint8)
    for kind in range(1, kinds):
        stripe = x[..., 48 * kind : 48 * (kind + 1)]
        stripe.mul_(0.2).add_(2.0 * (kind // 2))
        labels[:, 48 * kind : 48 * (kind + 1)] = kind
    return x, labels


class TestFeatures:
    @pytest.mark.parametrize("shape", [(33, 50), (3, 33, 50)])
    def test_one_row_for_each_pixel(self, shape):
        assert features(noise(2, 3, *shape)).shape == (2, *shape, 3 * PER_CHANNEL)

    def test_those_of_a_volume_are_those_of_its_planes(self):
        volume = noise(1, 2, 4, 32, 48)
        found = features(volume)
        for z in range(4):
            assert torch.allclose(found[:, z], features(volume[:, :, z]), atol=1e-5)

    def test_of_a_ramp_are_its_brightness_and_slope(self):
        ramp = torch.arange(320.0).repeat(320, 1)[None, None]
        middle = features(ramp)[0, 160, 160]
        assert middle[0] == 160
        smooth, slope, large, small = middle[1:].reshape(SCALES, 4).T
        assert torch.allclose(smooth, torch.full((SCALES,), 160.0), atol=0.1)
        # Pixels of coarser scales are larger, so the slope in them is steeper.
        assert torch.allclose(slope, 2.0 ** torch.arange(SCALES), rtol=0.01)
        assert large.abs().max() < 0.05
        assert small.abs().max() < 0.05

    def test_turn_with_the_image(self):
        image = noise(1, 1, 64, 64)
        turned = features(torch.rot90(image, 1, (2, 3)))
        assert torch.allclose(torch.rot90(features(image), 1, (1, 2)), turned, atol=1e-4)


class TestPixelNet:
    @pytest.mark.parametrize("classes", [1, 3])
    def test_tells_textures_apart_by_some_painted_pixels(self, classes):
        x, labels = halves(classes)
        painted = torch.zeros(96, 48 * (classes + 1), dtype=torch.bool)
        painted[::7, ::5] = True
        net = fitted(features(x)[0][painted], labels[painted], n_classes=classes)

        p = as_probabilities(net(x))[0]

        assert torch.allclose(p.sum(0), torch.ones(()), atol=1e-4)
        true = torch.where(labels == BACKGROUND, 0, labels)
        assert (p.argmax(0) == true).float().mean() > 0.8  # at borders there is no telling

    def test_the_same_seed_gives_the_same_classifier(self):
        x, labels = halves()
        rows = features(x)[0].flatten(0, 1)
        one, two = (fitted(rows, labels.flatten()) for _ in range(2))
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_sees_no_further_than_it_says(self, ndim):
        net = build(NetConfig(ndim=ndim, pixels=1)).eval()
        halo = net.halo
        shape = (1,) * (ndim - 2) + (2 * halo[-1] + 32, 2 * halo[-1] + 32)
        x = noise(1, 1, *shape)
        other = x.clone()
        other[..., 0, :] += 10
        other[..., :, -1] += 10
        inside = (..., *(slice(h, n - h) for h, n in zip(halo, shape, strict=True)))
        assert torch.allclose(net(x)[inside], net(other)[inside], atol=1e-5)
        assert not torch.allclose(net(x), net(other), atol=1e-3)

    @pytest.mark.parametrize("shape", [(1, 1, 200, 208), (2, 1, 3, 64, 96)])
    def test_a_large_image_is_read_in_pieces_that_change_nothing(self, shape):
        assert math.prod(shape) > 2 * PIECE
        net = PixelNet(NetConfig(ndim=len(shape) - 2)).eval()
        x = noise(*shape)
        whole = net.body(net.scaled(features(x))).movedim(-1, 1)
        assert torch.allclose(net(x), whole, atol=1e-5)

    def test_takes_images_of_any_size(self):
        net = build(NetConfig(in_channels=2, n_classes=2, pixels=1)).eval()
        for shape in ((1, 1), (5, 70), (31, 17)):
            assert net(noise(1, 2, *shape)).shape == (1, 3, *shape)

    def test_from_strokes_it_takes_no_class_for_rare(self):
        """Two classes overlap, and of one there is ten times as much."""
        rows = noise(4400, PER_CHANNEL)
        labels = torch.full((4400,), BACKGROUND, dtype=torch.uint8)
        labels[:400] = 1
        rows[:400] += 0.3
        found = []
        for sparse in (False, True):
            net = PixelNet(NetConfig())
            fit(net, rows, labels, torch.Generator().manual_seed(0), sparse)
            found.append(float((net.body(net.scaled(rows[:400])) > 0).float().mean()))
        assert found[0] < 0.5 < 0.8 < found[1]

    def test_a_constant_filter_does_no_harm(self):
        rows = torch.zeros(50, PER_CHANNEL)
        rows[:25, 0] = 1
        labels = torch.tensor(np.repeat([1, BACKGROUND], 25), dtype=torch.uint8)
        net = fitted(rows, labels)
        assert all(torch.isfinite(w).all() for w in net.state_dict().values())
