"""Every architecture keeps the same promises."""

from __future__ import annotations

import pytest
import torch

from napari_unet.config import NetConfig
from napari_unet.models import ARCHITECTURES, build
from napari_unet.models.nested import NestedUNet
from napari_unet.models.pixels import SURE, as_probabilities, together
from napari_unet.models.unet import Plan, UNet, convolution
from napari_unet.run import BadInput

VARIANTS = [
    pytest.param(arch, ndim, extra, id=f"{arch}-{ndim}d-{extra or 'plain'}")
    for arch in ARCHITECTURES
    for ndim in (2, 3)
    for extra in ("", "attention", "residual", "grain")
]
INDEPENDENT = [
    arch for arch, entry in ARCHITECTURES.items() if entry.plan.norm in ("layer", "batch", "none")
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Nets this small only make threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(arch="compact", ndim=2, extra="", **more):
    torch.manual_seed(0)
    switches = {extra: 2 if extra == "grain" else True} if extra else {}
    depth = 2 if ndim == 3 else None
    return build(
        NetConfig(arch=arch, ndim=ndim, **{"width": 4, "depth": depth, **switches, **more})
    )


def first(output):
    return output[0] if isinstance(output, list) else output


@pytest.mark.parametrize(("arch", "ndim", "extra"), VARIANTS)
class TestEveryNet:
    def test_any_size_comes_back(self, arch, ndim, extra):
        net = small(arch, ndim, extra, in_channels=2, n_classes=2).eval()
        sizes = {2: [(1, 1), (3, 5), (17, 33)], 3: [(1, 1, 1), (1, 7, 9), (5, 8, 3)]}
        for size in sizes[ndim]:
            with torch.no_grad():
                assert net(torch.randn(2, 2, *size)).shape == (2, 3, *size)

    def test_training_gives_full_size_logits_and_reaches_every_parameter(self, arch, ndim, extra):
        net = small(arch, ndim, extra, width=8, n_classes=1).train()
        size = (21,) * ndim
        output = net(torch.randn(2, 1, *size))
        heads = output if isinstance(output, list) else [output]
        assert all(head.shape == (2, 1, *size) for head in heads)
        sum(head.square().mean() for head in heads).backward()
        still = [
            name
            for name, p in net.named_parameters()
            if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
        ]
        assert not still

    def test_config_is_enough_to_build_it_again(self, arch, ndim, extra):
        net = small(arch, ndim, extra).eval()
        twin = build(NetConfig.model_validate_json(net.config.model_dump_json())).eval()
        twin.load_state_dict(net.state_dict())
        x = torch.randn(1, 1, *(11,) * ndim)
        with torch.no_grad():
            assert torch.equal(net(x), twin(x))
            assert torch.equal(net(x), net(x))

    def test_same_seed_same_weights(self, arch, ndim, extra):
        a, b = small(arch, ndim, extra).state_dict(), small(arch, ndim, extra).state_dict()
        assert all(torch.equal(a[name], b[name]) for name in a)


def settled(net):
    """Give batch norm statistics of its own, in double precision, for exact comparisons."""
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return net.double().eval()


def exact(arch, ndim, extra):
    more = {"depth": 2, "width": 2} if ndim == 3 else {}
    return settled(small(arch, ndim, extra, **more))


class TestWithPixels:
    """A net in whose answer a classifier of pixels has a share."""

    @pytest.mark.parametrize(("n_classes", "ndim"), [(1, 2), (2, 2), (1, 3)])
    def test_the_answer_lies_between_theirs(self, n_classes, ndim):
        both = small(ndim=ndim, n_classes=n_classes, pixels=0.25).eval()
        net = small(ndim=ndim, n_classes=n_classes).eval()
        pixels = small(ndim=ndim, n_classes=n_classes, pixels=1.0).eval()
        weights = both.state_dict()
        net.load_state_dict({k: v for k, v in weights.items() if not k.startswith("pixels.")})
        pixels.load_state_dict(weights)
        x = torch.randn(1, 1, *(3, 32, 48)[-ndim:])  # sizes at which nothing is padded
        with torch.no_grad():
            expected = together(net(x), pixels(x), 0.25)
            torch.testing.assert_close(both(x), expected, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("logits", [1, 3])
    def test_of_what_a_net_is_unsure_it_has_its_share(self, logits):
        own, advice = torch.rand(2, 1, logits, 8, 8) * SURE
        found, mean = (
            as_probabilities(x) for x in (together(own, advice, 0.25), 0.75 * own + 0.25 * advice)
        )
        torch.testing.assert_close(found, mean)

    @pytest.mark.parametrize(
        ("own", "advice", "wanted"),
        [
            ([50.0], [-3.0], 0),
            ([50.0], [-1.0], 1),
            ([-50.0], [3.0], 1),
            ([0.0, 50.0, 0.0], [3.0, 0.0, 0.0], 0),
            ([0.0, 50.0, 0.0], [1.0, 0.0, 0.0], 1),
            ([0.0, 50.0, 49.0], [0.0, 0.0, 0.5], 1),
            ([0.0, 50.0, 49.0], [0.0, 0.0, 1.5], 2),
        ],
    )
    def test_however_sure_the_net_a_surer_classifier_is_heard(self, own, advice, wanted):
        own, advice = (torch.tensor(t).view(1, -1, 1, 1) for t in (own, advice))
        assert as_probabilities(together(own, advice, 0.5)).argmax(1) == wanted
        torch.testing.assert_close(together(own, advice, 0.0), own)  # nobody beside it

    def test_a_classifier_alone_asks_no_net(self):
        alone = small(pixels=1.0).eval()
        alone.heads = None
        assert alone.tile_independent
        assert alone(torch.randn(1, 1, 20, 30)).shape == (1, 1, 20, 30)

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_an_aligned_tile_equals_the_whole(self, ndim):
        net = small("simple", ndim, pixels=0.5).eval()
        halo, stride = net.halo[-1], net.stride[-1]
        assert halo > small("simple", ndim).halo[-1]
        thin = (2,) * (ndim - 2)
        image = torch.randn(1, 1, *thin, 32, 2 * halo + 4 * stride)
        start, stop = stride, stride + 2 * halo + 16
        with torch.no_grad():
            whole, tile = net(image), net(image[..., start:stop])
        inner = slice(start + halo, stop - halo)
        torch.testing.assert_close(tile[..., halo:-halo], whole[..., inner], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("extra", ["", "attention", "residual", "grain"])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("arch", INDEPENDENT)
class TestReach:
    def test_nothing_beyond_the_halo_matters(self, arch, ndim, extra):
        net = exact(arch, ndim, extra)
        assert net.tile_independent
        halo, stride = net.halo[-1], net.stride[-1]
        size = 2 * halo + 2 * stride + 3
        thin = (8,) * (ndim - 1)
        for x in range(halo + 1, halo + 1 + stride, max(1, stride // 4)):
            image = torch.randn(1, 1, *thin, size, dtype=torch.double, requires_grad=True)
            net(image)[..., x].sum().backward()
            seen = image.grad.flatten(0, -2).abs().amax(0).nonzero().flatten()
            assert x - halo <= seen.min()
            assert seen.max() <= x + halo

    def test_an_aligned_tile_equals_the_whole(self, arch, ndim, extra):
        net = exact(arch, ndim, extra).float()
        halo, stride = net.halo[-1], net.stride[-1]
        image = torch.randn(1, 1, *(8,) * (ndim - 1), 2 * halo + 4 * stride + 5)
        start, stop = stride, stride + 2 * halo + 7
        with torch.no_grad():
            whole, tile = net(image), net(image[..., start:stop])
        inner = slice(start + halo, stop - halo)
        torch.testing.assert_close(tile[..., halo:-halo], whole[..., inner], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("up", ["transposed", "transposed3", "linear", "nearest"])
@pytest.mark.parametrize("builder", [UNet, NestedUNet])
@pytest.mark.parametrize("grain", [1, 2])
def test_the_halo_is_exact(up, builder, grain):
    """With positive weights nothing cancels: the furthest pixel seen is the halo, no further."""
    config = NetConfig(arch="compact", grain=grain)
    net = builder(Plan(2, 2, up=up, norm="none", head=3), config).double().eval()
    for parameter in net.parameters():
        parameter.data.uniform_(0.1, 0.2)
    # Averaged rather than largest pixels, or the gradient would follow only one of four.
    size, halo = 120 * grain, net.halo[0]
    furthest = 0
    for x in range(size // 2, size // 2 + net.stride[0]):
        image = torch.rand(1, 1, 4, size, dtype=torch.double)
        base = net(image).detach()[0, 0, 0, x]
        for distance in (halo + 1, halo):
            for side in (-distance, distance):
                changed = image.clone()
                changed[..., x + side] += 100
                if (net(changed)[0, 0, 0, x] - base).abs() > 1e-9:
                    furthest = max(furthest, distance)
    assert furthest == halo


def test_classic_has_the_parameters_of_the_published_net():
    net = build(NetConfig(arch="classic", n_classes=1))
    assert sum(p.numel() for p in net.parameters()) == 31_030_593
    assert (net.config.width, net.config.depth) == (64, 4)


def test_classic_keeps_the_size_of_its_signal_without_normalisation():
    net = small("classic", width=16).eval()
    with torch.no_grad():
        assert 0.1 < net(torch.randn(1, 1, 64, 64)).std() < 10


def test_a_coarse_axis_is_halved_later():
    net = small(ndim=3, depth=3, spacing=(4.0, 1.0, 1.0))
    assert net.stride == (2, 8, 8)
    assert net.halo[0] < net.halo[1]
    assert net.eval()(torch.randn(1, 1, 3, 9, 17)).shape == (1, 1, 3, 9, 17)


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_thin_volumes_have_the_gradients_that_float32_has(planes):
    """Where a gradient is left as the memory is found, it is a number now and none then."""
    torch.manual_seed(0)
    conv = convolution(3, 64, 64, 3)
    x, wanted = torch.randn(1, 64, planes, 8, 8), torch.randn(1, 64, planes, 8, 8)
    conv(x).backward(wanted)
    expected = conv.weight.grad.clone()
    for _ in range(20):
        conv.weight.grad = None
        left = [torch.full((2**18,), torch.nan) for _ in range(8)]
        del left
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x.contiguous(memory_format=torch.channels_last_3d))
        y.float().backward(wanted)
        torch.testing.assert_close(conv.weight.grad, expected, atol=0.5, rtol=0.05)


def test_a_network_from_before_there_were_grains_has_none():
    told = small().config.model_dump(exclude={"grain"})
    assert build(NetConfig(**told)).grain == (1, 1)


def test_a_coarse_axis_has_no_grain():
    net = small(ndim=3, depth=3, spacing=(4.0, 1.0, 1.0), grain=2)
    assert (net.grain, net.stride) == ((1, 2, 2), (2, 8, 8))
    assert net.eval()(torch.randn(1, 1, 3, 9, 17)).shape == (1, 1, 3, 9, 17)


def test_a_grain_is_one_of_the_halvings():
    fine, coarse = small(depth=3), small(depth=3, grain=2)
    assert fine.stride == coarse.stride
    assert (coarse.config.depth, len(fine.factors), len(coarse.factors)) == (3, 3, 2)
    with pytest.raises(BadInput, match="give a depth of at least 2"):
        small(depth=1, grain=2)


@pytest.mark.parametrize("up", ["transposed", "transposed3", "linear", "nearest"])
def test_every_way_up_handles_coarse_axes(up):
    config = NetConfig(arch="compact", ndim=3, spacing=(2.0, 1.0, 1.0))
    net = UNet(Plan(2, 2, up=up), config).eval()
    assert net(torch.randn(1, 1, 3, 5, 7)).shape == (1, 1, 3, 5, 7)


@pytest.mark.parametrize("norm", ["group", "batch", "layer", "none"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_normalisation_trains(norm, ndim):
    net = UNet(Plan(4, 1, norm=norm), NetConfig(arch="compact", ndim=ndim))
    net(torch.randn(2, 1, *(6,) * ndim)).sum().backward()
    assert net.tile_independent == (norm != "group")


def test_spacing_must_fit_the_axes():
    with pytest.raises(BadInput, match="give 3"):
        build(NetConfig(arch="compact", ndim=3, spacing=(2.0, 1.0)))


class TestNested:
    def test_training_returns_all_heads_the_deepest_first(self):
        net = small("nested", depth=3)
        x = torch.randn(2, 1, 16, 16)
        heads = net.train()(x)
        assert len(heads) == 3
        net.eval()
        torch.testing.assert_close(net(x), torch.stack(heads).mean(0))
        for i, head in enumerate((3, 2, 1)):
            net.head = head
            torch.testing.assert_close(net(x), heads[i])

    def test_a_shallow_head_leaves_the_deep_nodes_alone(self):
        net = small("nested", depth=3).eval()
        deep = net.halo
        net.head = 1
        net(torch.randn(1, 1, 16, 16)).sum().backward()
        used = {name.split(".")[1] for name, p in net.named_parameters() if p.grad is not None}
        assert used == {"0", "1", "0-1"}
        assert net.halo < deep

    def test_a_head_that_is_not_there_is_refused(self):
        net = small("nested", depth=3)
        with pytest.raises(BadInput, match="choose 1 to 3"):
            net.head = 4
