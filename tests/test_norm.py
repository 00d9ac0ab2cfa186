"""The fast group norm gives what torch's gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from napari_unet.config import NetConfig
from napari_unet.models import build
from napari_unet.models.norm import GroupNorm, LayerNorm, groups, share_statistics

SHAPES = [(2, 16, 9, 7), (3, 8, 1, 1), (2, 8, 3, 4, 5)]
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def both(shape, dtype, last):
    """Run the same input and weights through ours and, in float32, through torch's own."""
    torch.manual_seed(0)
    ours, theirs = GroupNorm(4, shape[1]), nn.GroupNorm(4, shape[1])
    nn.init.uniform_(ours.weight, 0.5, 1.5)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x, grad = (3 * torch.randn(shape) + 1).to(dtype), torch.randn(shape).to(dtype)
    if last:
        x = x.contiguous(memory_format=FORMATS[len(shape)])
    results = []
    for function, kind in ((ours, dtype), (lambda x: F.relu(theirs(x)), torch.float32)):
        leaf = x.detach().to(kind).requires_grad_()
        y = function(leaf)
        # The gradient passes where ours is positive; elsewhere rounding may decide.
        y.backward(grad.to(kind))
        results.append((y.float(), leaf.grad.float()))
    results[0] += (ours.weight.grad, ours.bias.grad)
    results[1] += (theirs.weight.grad, theirs.bias.grad)
    return results


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_shared_in_half_precision_on_a_gpu(dtype):
    torch.manual_seed(0)
    net = build(NetConfig(width=8, depth=2)).eval().cuda()
    x = torch.randn(1, 1, 64, 64, device="cuda")
    with torch.inference_mode():
        expected = net(x)
        with torch.autocast("cuda", dtype):
            net.share_statistics([x])
            found = net(x)
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
class TestGroupNorm:
    def test_equals_torch_in_float32(self, shape, last):
        ours, theirs = both(shape, torch.float32, last)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_equals_torch_to_rounding_in_half_precision(self, shape, last, dtype):
        ours, theirs = both(shape, dtype, last)
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).norm() <= 0.01 * b.norm() + 1e-4

    def test_training_and_inference_agree(self, shape, last):
        norm = GroupNorm(4, shape[1])
        x = torch.randn(shape).bfloat16()
        with torch.no_grad():
            expected = norm(x)
        assert torch.equal(norm(x), expected)


def test_half_precision_keeps_the_memory_format():
    x = torch.randn(2, 8, 6, 6).bfloat16().contiguous(memory_format=torch.channels_last)
    leaf = x.requires_grad_()
    y = GroupNorm(4, 8)(leaf)
    y.sum().backward()
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert leaf.grad.is_contiguous(memory_format=torch.channels_last)


def test_the_formula_of_the_backward_pass():
    torch.manual_seed(0)
    norm = GroupNorm(2, 4).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x)


def test_autocast_trains_in_bfloat16():
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), GroupNorm(8, 16), nn.Conv2d(16, 1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 1, 8, 8))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())


def test_layer_norm_looks_at_one_pixel():
    x = torch.randn(2, 6, 4, 5)
    y = LayerNorm(6)(x)
    torch.testing.assert_close(y[0, :, 1, 2], F.relu(F.layer_norm(x[0, :, 1, 2], (6,))))


@pytest.mark.parametrize(
    ("channels", "expected"), [(16, 8), (8, 4), (12, 2), (2, 1), (1, 1), (256, 8)]
)
def test_groups_have_at_least_two_channels(channels, expected):
    assert groups(channels) == expected


@pytest.mark.parametrize("ndim", [2, 3])
class TestSharedStatistics:
    """Group norm with the statistics of the very image it reads is group norm."""

    @pytest.mark.parametrize("grain", [1, 2])
    def test_of_one_image_change_nothing_for_it(self, ndim, grain):
        torch.manual_seed(0)
        net = build(NetConfig(ndim=ndim, width=8, depth=2, grain=grain)).eval()
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
        x = torch.randn(1, 1, *(20,) * ndim)
        with torch.no_grad():
            expected = net(x)
            net.share_statistics([x])
            assert net.tile_independent
            torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)

    def test_of_two_images_are_those_of_both(self, ndim):
        norm, conv = GroupNorm(2, 4), (nn.Conv2d if ndim == 2 else nn.Conv3d)(1, 4, 1)
        net = nn.Sequential(conv, norm).eval()
        a, b = torch.randn(1, 1, *(6,) * ndim), 5 + torch.randn(1, 1, *(6,) * ndim)
        with torch.no_grad():
            # One image of both halves has their common statistics.
            both = net(torch.cat([a, b], 2))
            share_statistics(net, net, [a, b])
            torch.testing.assert_close(net(torch.cat([a, b], 2)), both, atol=1e-4, rtol=1e-4)
