"""Devices by name, formats by measurement, and sentences that say what is wrong."""

from __future__ import annotations

import pytest
import torch

from napari_unet import device
from napari_unet.device import Numerics, choose_device, choose_numerics
from napari_unet.run import BadInput

CPU = torch.device("cpu")
PLAIN = Numerics(CPU, torch.float32, False)
LAST = Numerics(CPU, torch.float32, True)
HALF = Numerics(CPU, torch.bfloat16, True)


@pytest.fixture
def cpu_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)


@pytest.fixture
def timings(monkeypatch):
    """Seconds that the self-test is made to find; each test begins with nothing measured."""
    found: dict[Numerics, float] = {}
    monkeypatch.setattr(device, "self_test", lambda *_: found)
    device._fastest.cache_clear()
    yield found
    device._fastest.cache_clear()


class TestChooseDevice:
    @pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "the fast one"])
    def test_refuses_what_is_no_device(self, name):
        with pytest.raises(BadInput, match=f"There is no device '{name}'; give auto, cpu"):
            choose_device(name)

    @pytest.mark.parametrize("name", ["meta", "xla"])
    def test_refuses_what_is_not_supported(self, name):
        with pytest.raises(BadInput, match=f"'{name}' is not supported"):
            choose_device(name)

    @pytest.mark.usefixtures("cpu_only")
    @pytest.mark.parametrize("name", ["cuda", "cuda:1"])
    def test_says_why_there_is_no_cuda(self, name):
        with pytest.raises(BadInput, match=f"'{name}' cannot be used: .*CPU only.*pytorch.org"):
            choose_device(name)

    def test_says_how_many_gpus_there_are(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert choose_device("cuda:1") == torch.device("cuda:1")
        with pytest.raises(BadInput, match="2 CUDA GPUs, counted from cuda:0"):
            choose_device("cuda:2")

    @pytest.mark.usefixtures("cpu_only")
    def test_says_that_there_is_no_metal(self):
        with pytest.raises(BadInput, match="no Metal"):
            choose_device("mps")

    @pytest.mark.usefixtures("cpu_only")
    def test_auto_takes_the_cpu_where_there_is_nothing_else(self):
        assert choose_device() == choose_device("cpu") == CPU

    @pytest.mark.usefixtures("cpu_only")
    def test_auto_prefers_a_gpu(self, monkeypatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        assert choose_device().type == "mps"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert choose_device().type == "cuda"


class TestNumerics:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_the_self_test_times_every_format(self, ndim, monkeypatch):
        monkeypatch.setattr(device, "HOPELESS", 1e9)
        found = device.self_test("cpu", ndim)
        assert set(found) == {PLAIN, LAST, HALF}
        assert all(0 < seconds < 60 for seconds in found.values())

    @pytest.mark.parametrize(
        ("small", "tried"),
        [
            ((1.0, 1.0, 9.0), [PLAIN, LAST]),  # it is emulated
            ((1.0, 1.0, 2.0), [PLAIN, LAST, HALF]),
            ((1.0, 0.2, 0.1), [PLAIN, LAST, HALF]),  # plain float32 is always compared with
        ],
    )
    def test_a_format_that_is_hopeless_in_small_is_not_tried_in_full(
        self, monkeypatch, small, tried
    ):
        seconds, asked = dict(zip((PLAIN, LAST, HALF), small, strict=True)), []

        def timed(tests, rounds):
            asked.append(list(tests))
            return {numerics: seconds[numerics] for numerics in tests}

        monkeypatch.setattr(device, "_timed", timed)
        found = device.self_test("cpu", 3)
        assert asked == [[PLAIN, LAST, HALF], tried]
        assert list(found) == tried

    def test_of_slow_steps_fewer_rounds_will_do(self, monkeypatch):
        monkeypatch.setattr(device, "SELF_TEST_SECONDS", 0.0)
        rounds = []
        found = device._timed({PLAIN: lambda: rounds.append(1)}, device.SELF_TEST_ROUNDS)
        assert len(rounds) == 1 + device.LEAST_ROUNDS
        assert 0 <= found[PLAIN] < 60

    @pytest.mark.parametrize(
        ("seconds", "best"),
        [
            ((1.0, 1.0, 1.0), PLAIN),
            ((1.0, 2.0, 3.0), PLAIN),
            ((1.0, 0.95, 0.9), PLAIN),
            ((1.0, 0.8, 0.9), LAST),
            ((1.0, 0.7, 0.3), HALF),
        ],
    )
    def test_auto_leaves_float32_only_for_what_is_clearly_faster(self, timings, seconds, best):
        timings.update(zip((PLAIN, LAST, HALF), seconds, strict=True))
        assert choose_numerics(CPU) == best

    def test_auto_measures_once(self, timings, monkeypatch):
        timings.update({PLAIN: 1.0, HALF: 0.1})
        first = choose_numerics("cpu")
        timings.update({PLAIN: 0.1, HALF: 1.0})
        assert choose_numerics("cpu") == first == HALF

    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
    def test_a_precision_that_is_asked_for_is_used(self, timings, precision):
        timings.update({PLAIN: 1.0, HALF: 0.1, LAST: 0.5})
        numerics = choose_numerics("cpu", precision)
        assert numerics.name == precision
        assert numerics.scaled == (precision == "float16")

    @pytest.mark.parametrize(("ndim", "tall"), [(2, (1, 2, 4, 4)), (3, (1, 2, 4, 4, 4))])
    def test_the_layout_fits_the_dimensions(self, ndim, tall):
        x = torch.zeros(tall)
        assert x.contiguous(memory_format=PLAIN.layout(ndim)).is_contiguous()
        assert not x.contiguous(memory_format=LAST.layout(ndim)).is_contiguous()

    @pytest.mark.parametrize(("numerics", "dtype"), [(LAST, torch.float32), (HALF, torch.bfloat16)])
    def test_autocast_computes_in_the_format(self, numerics, dtype):
        with numerics.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


class TestMemory:
    @pytest.mark.parametrize(
        "message",
        [
            "CUDA out of memory. Tried to allocate 2.00 GiB.",
            "CUDA error: out of memory",
            "MPS backend out of memory (MPS allocated: 8.00 GB)",
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 4000000 bytes. Error code 12 (Cannot allocate memory)",
            "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you "
            "tried to allocate 4000000 bytes.",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ],
    )
    def test_running_out_is_recognised_by_what_allocators_say(self, message):
        assert device.ran_out_of_memory(RuntimeError(message))

    def test_running_out_is_recognised_by_its_kind(self):
        assert device.ran_out_of_memory(torch.OutOfMemoryError("full"))

    def test_running_out_on_this_cpu_is_recognised(self):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(2**60, dtype=torch.uint8)
        assert device.ran_out_of_memory(caught.value)

    @pytest.mark.parametrize("message", ["mat1 and mat2 shapes cannot be multiplied", ""])
    def test_other_trouble_is_not_taken_for_it(self, message):
        assert not device.ran_out_of_memory(RuntimeError(message))

    def test_giving_memory_back_works_without_a_gpu(self):
        device.free_memory(CPU)
        device.synchronise(CPU)


class TestWords:
    @pytest.mark.usefixtures("cpu_only")
    def test_a_cpu_build_is_named_with_the_remedy(self):
        why = device.why_no_gpu()
        assert "built for the CPU only" in why
        assert "pytorch.org" in why
        assert why.endswith(".")

    @pytest.mark.usefixtures("cpu_only")
    def test_a_cuda_build_without_a_driver_is_told_so(self, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", "12.6")
        assert "nvidia-smi" in device.why_no_gpu()
        assert "CUDA 12.6" in device.why_no_gpu()

    def test_a_cpu_is_described_by_its_threads(self):
        threads = torch.get_num_threads()
        words = "1 thread" if threads == 1 else f"{threads} threads"
        assert device.describe_device(CPU).endswith(words)

    @pytest.mark.gpu
    def test_a_gpu_is_described_by_its_memory(self):
        assert "GiB free" in device.describe_device(choose_device("cuda"))

    @pytest.mark.gpu
    def test_the_self_test_of_a_gpu_includes_a_half_format(self):
        found = device.self_test("cuda")
        assert {n.dtype for n in found} & {torch.bfloat16, torch.float16}
        assert all(seconds > 0 for seconds in found.values())
