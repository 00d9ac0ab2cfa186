"""Augmentation: image and label move as one, nothing is made up, and the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_unet.augment import Warp, draw_warp, vary_light, warp_batch, warp_grid

CPU = torch.device("cpu")
SHAPES = [(32, 32), (33, 41), (48, 20), (8, 16, 16), (7, 12, 9)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fixed(matrix: np.ndarray, patch: tuple[int, ...]) -> Warp:
    return Warp(np.asarray(matrix, float)[None], np.zeros(1), patch)


def random_crops(warp: Warp, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Noise with random labels in the shape of the warp's crop."""
    batch = len(warp.matrices)
    images = torch.rand((batch, channels, *warp.crop), generator=generator())
    labels = torch.randint(0, 256, (batch, *warp.crop), generator=generator(), dtype=torch.uint8)
    return images, labels


def middle(crop: Tensor, patch: tuple[int, ...]) -> Tensor:
    """The patch around pixel n // 2 of each axis."""
    starts = [n // 2 - p // 2 for n, p in zip(crop.shape[-len(patch) :], patch, strict=True)]
    return crop[(..., *(slice(s, s + p) for s, p in zip(starts, patch, strict=True)))]


def apply(warp: Warp, images: Tensor, labels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    grid = warp_grid(warp, warp.crop, generator(seed), CPU)
    out, moved, _ = warp_batch(images, labels, None, grid)
    return out, moved


class TestKnownWarps:
    @pytest.mark.parametrize("patch", SHAPES)
    def test_no_strength_gives_the_middle_of_the_crop(self, patch):
        warp = draw_warp(np.random.default_rng(0), 3, patch, 0.0)
        images, labels = random_crops(warp, channels=2)
        out, moved = apply(warp, images, labels)
        assert torch.equal(moved, middle(labels, patch))
        torch.testing.assert_close(out, middle(images, patch), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("edge", [32, 33])
    @pytest.mark.parametrize("turns", [1, 2, 3])
    def test_quarter_turns(self, edge, turns):
        quarter = np.array([[0, 1], [-1, 0]])
        warp = fixed(np.linalg.matrix_power(quarter, turns), (edge, edge))
        images, labels = random_crops(warp)
        out, moved = apply(warp, images, labels)
        expected = np.rot90(middle(labels, warp.patch).numpy(), turns, (1, 2))
        assert np.array_equal(moved.numpy(), expected)
        expected = np.rot90(middle(images, warp.patch).numpy(), turns, (2, 3))
        assert out.numpy() == pytest.approx(expected, abs=1e-4)

    @pytest.mark.parametrize("patch", SHAPES)
    def test_mirroring_one_axis(self, patch):
        for axis in range(len(patch)):
            signs = np.ones(len(patch))
            signs[axis] = -1
            warp = fixed(np.diag(signs), patch)
            images, labels = random_crops(warp)
            out, moved = apply(warp, images, labels)
            assert torch.equal(moved, middle(labels, patch).flip(axis + 1))
            expected = middle(images, patch).flip(axis + 2)
            torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)

    def test_a_matrix_of_two_shows_twice_as_much(self):
        warp = fixed(np.diag([2, 2]), (33, 33))
        images, labels = random_crops(warp)
        _, moved = apply(warp, images, labels)
        assert torch.equal(moved, middle(labels, (65, 65))[:, ::2, ::2])


class TestRandomWarps:
    @pytest.mark.parametrize("patch", [(64, 64), (33, 70), (12, 24, 24)])
    @pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
    def test_the_crop_is_large_enough(self, patch, strength):
        for seed in range(4):
            warp = draw_warp(np.random.default_rng(seed), 4, patch, strength)
            ones = torch.ones((4, *warp.crop))
            _, moved = apply(warp, ones[:, None], ones.to(torch.uint8), seed)
            assert moved.shape == (4, *patch)
            assert moved.all()

    def test_the_crop_is_not_much_larger_than_needed(self):
        for seed in range(10):
            warp = draw_warp(np.random.default_rng(seed), 4, (128, 128), 1.0)
            assert max(warp.crop) <= 128 * 1.42 * np.exp(0.35) + 2 * 2.5 * 3 + 18

    @pytest.mark.parametrize("patch", [(64, 64), (16, 24, 24)])
    def test_image_and_label_move_as_one(self, patch):
        warp = draw_warp(np.random.default_rng(0), 4, patch, 1.0)
        place = torch.meshgrid(*(torch.arange(n) for n in warp.crop), indexing="ij")
        labels = sum(place).div(12, rounding_mode="floor").to(torch.uint8).expand(4, *warp.crop)
        out, moved = apply(warp, labels[:, None].float(), labels)
        assert len(moved.unique()) > 3
        # The image is interpolated between the two labels at an edge, the label is one of them.
        assert (out[:, 0] - moved).abs().max() < 0.999
        assert ((out[:, 0] - moved).abs() < 0.01).float().mean() > 0.7

    def test_labels_are_never_mixed(self):
        warp = draw_warp(np.random.default_rng(0), 8, (64, 64), 1.0)
        images, labels = random_crops(warp)
        labels = torch.tensor([0, 1, 7, 254, 255], dtype=torch.uint8)[labels.long() % 5]
        _, moved = apply(warp, images, labels)
        assert moved.dtype == torch.uint8
        assert moved.unique().tolist() == [0, 1, 7, 254, 255]

    def test_what_lies_outside_the_crop_is_not_labelled(self):
        warp = fixed(np.eye(2) * 2, (32, 32))
        grid = warp_grid(warp, (16, 16), generator(), CPU)
        ones = torch.ones((1, 16, 16))
        images, moved, _ = warp_batch(ones[:, None], ones.to(torch.uint8), None, grid)
        assert not moved[0, 0].any()
        assert moved[0, 16, 16]
        assert images[0, 0, 16, 16] == 1

    def test_weights_move_with_the_image(self):
        warp = draw_warp(np.random.default_rng(0), 2, (32, 32), 1.0)
        images, labels = random_crops(warp)
        grid = warp_grid(warp, warp.crop, generator(), CPU)
        out, _, weights = warp_batch(images, labels, images[:, 0], grid)
        assert weights is not None
        assert torch.equal(weights, out[:, 0])

    @pytest.mark.parametrize("channels", [1, 3, 7])
    def test_all_channels_move_alike(self, channels):
        warp = draw_warp(np.random.default_rng(0), 2, (32, 32), 1.0)
        images, labels = random_crops(warp)
        out, _ = apply(warp, images.expand(-1, channels, -1, -1), labels)
        assert out.shape == (2, channels, 32, 32)
        assert torch.equal(out, out[:, :1].expand_as(out))

    def test_patches_of_a_batch_differ(self):
        warp = draw_warp(np.random.default_rng(0), 6, (32, 32), 1.0)
        images, labels = random_crops(warp)
        out, _ = apply(warp, images[:1].expand_as(images), labels)
        assert len({tuple(patch.flatten().tolist()) for patch in out}) == 6

    def test_the_seed_decides(self):
        def once(seed: int) -> Tensor:
            warp = draw_warp(np.random.default_rng(seed), 2, (32, 32), 1.0)
            return apply(warp, *random_crops(warp), seed)[0]

        assert torch.equal(once(3), once(3))
        assert not torch.equal(once(3), once(4))

    def test_bends_differ_by_the_torch_generator(self):
        warp = Warp(np.eye(2)[None], np.array([3.0]), (32, 32))
        images, labels = random_crops(warp)
        first, again, other = (apply(warp, images, labels, seed)[0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


class TestVolumes:
    @pytest.mark.parametrize("coarse", range(3))
    def test_a_coarse_axis_is_never_mixed_with_the_others(self, coarse):
        spacing = tuple(4.0 if axis == coarse else 1.0 for axis in range(3))
        warp = draw_warp(np.random.default_rng(0), 20, (8, 16, 16), 1.0, spacing)
        mixed = warp.matrices.copy()
        mixed[:, coarse, coarse] = 0
        assert not mixed[:, coarse].any()
        assert not mixed[:, :, coarse].any()
        fine = [axis for axis in range(3) if axis != coarse]
        assert (np.abs(warp.matrices[:, fine[0], fine[1]]) > 0.01).any()

    def test_cubic_voxels_are_turned_about_every_axis(self):
        warp = draw_warp(np.random.default_rng(0), 20, (16, 16, 16), 1.0)
        assert (np.abs(warp.matrices).max(0) > 0.3).all()


class TestLight:
    @pytest.mark.parametrize(
        "shape", [(2, 1, 24, 20), (2, 3, 24, 20), (1, 5, 8, 12, 10), (2, 1, 1, 9)]
    )
    @pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
    def test_keeps_shape_and_stays_finite(self, shape, strength):
        images = torch.rand(shape, generator=generator()) * 8 - 4
        rng = np.random.default_rng(0)
        for seed in range(20):
            out = vary_light(images, strength, generator(seed), rng)
            assert out.shape == shape
            assert out.dtype == torch.float32
            assert out.isfinite().all()

    def test_no_strength_changes_nothing(self):
        images = torch.rand((2, 1, 16, 16), generator=generator())
        out = vary_light(images, 0.0, generator(), np.random.default_rng(0))
        assert torch.equal(out, images)

    def test_leaves_its_input_alone(self):
        images = torch.rand((2, 3, 16, 16), generator=generator())
        before = images.clone()
        rng = np.random.default_rng(0)
        for seed in range(20):
            vary_light(images, 1.0, generator(seed), rng)
        assert torch.equal(images, before)

    def test_the_seeds_decide(self):
        images = torch.rand((2, 3, 16, 16), generator=generator())
        first, again, other = (
            vary_light(images, 1.0, generator(seed), np.random.default_rng(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_structure_is_still_to_be_seen(self):
        images = torch.zeros((4, 1, 32, 32))
        images[..., 16:] = 1
        rng = np.random.default_rng(0)
        for seed in range(30):
            out = vary_light(images, 1.0, generator(seed), rng)
            rise = out[..., 20:].mean((1, 2, 3)) - out[..., :12].mean((1, 2, 3))
            assert (rise > 0.4).all()
