"""Muon's updates are orthogonal, whatever their shape, and train what they should."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from napari_unet.config import NetConfig
from napari_unet.models import ARCHITECTURES, build
from napari_unet.optimiser import VECTOR_RATE, Optimiser, is_matrix, orthogonal


@pytest.mark.parametrize("shape", [(2, 8, 40), (1, 40, 8), (3, 16, 16)])
def test_singular_values_are_driven_to_about_one(shape):
    torch.manual_seed(0)
    spread = torch.linspace(0.05, 3, min(shape[1:]))
    matrices = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)

    values = torch.linalg.svdvals(torch.stack(orthogonal(u * spread @ v)))

    assert values.min() > 0.3
    assert values.max() < 1.3


def test_the_directions_are_kept():
    torch.manual_seed(0)
    matrix = torch.randn(12, 30)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)

    (found,) = orthogonal([matrix])

    assert torch.cosine_similarity(found.flatten(), (u @ v).flatten(), 0) > 0.97


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_weight_is_trained(arch):
    net = build(NetConfig(arch=arch, width=8, depth=2))
    before = [p.detach().clone() for p in net.parameters()]
    for weight in net.parameters():
        weight.grad = torch.randn_like(weight)

    Optimiser(net, 0.02, 0.01).step()

    assert not any(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert any(is_matrix(p) for p in net.parameters())


def test_vectors_are_trained_as_adamw_trains_them():
    torch.manual_seed(0)
    ours, theirs = nn.LayerNorm(12), nn.LayerNorm(12)
    optimiser = Optimiser(ours, 0.2, 0.1)
    reference = torch.optim.AdamW(theirs.parameters(), 0.2 * VECTOR_RATE, weight_decay=0.1)

    for _ in range(20):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimiser.step()
        reference.step()

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_training_does_not_load_the_compiler():
    script = (
        "import sys, torch; from napari_unet.optimiser import Optimiser; "
        "layer = torch.nn.Linear(8, 8); o = Optimiser(layer, 0.1, 0.1); "
        "layer(torch.ones(1, 8)).sum().backward(); o.step(); o.zero_grad(); "
        "print('torch._dynamo' in sys.modules)"
    )

    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "False"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_step_does_not_depend_on_the_memory_format(layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 10, 3)
    before = conv.weight.detach().clone()
    gradient = torch.randn_like(before)
    conv.to(memory_format=layout)
    conv.weight.grad = gradient.to(memory_format=layout)

    Optimiser(conv, 0.1, 0.0).step()

    flat = gradient.movedim(1, -1).reshape(10, -1)
    expected = orthogonal([flat])[0].reshape(10, 3, 3, 6).movedim(-1, 1)
    torch.testing.assert_close(conv.weight.detach(), before - 0.1 * expected, atol=2e-3, rtol=0)


def test_it_minimises():
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 16), torch.randn(64, 16)
    target = x @ torch.randn(16, 16)
    optimiser = Optimiser(layer, 0.05, 0.0)
    losses = []
    for _ in range(200):
        loss = (layer(x) - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    assert losses[-1] < 0.1 * losses[0]
