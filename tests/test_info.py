"""What the machine says of itself."""

from __future__ import annotations

import pytest

from napari_unet import info
from napari_unet.info import describe_machine, measure_speed, two_figures
from napari_unet.run import BadInput


def test_the_machine_is_described():
    lines = describe_machine("cpu")

    assert lines[0].startswith("napari-unet ")
    assert any(line.startswith("device      cpu") for line in lines)
    assert any(line.startswith("GPU         not used: ") for line in lines)


def test_the_self_test_measures(monkeypatch):
    monkeypatch.setattr(info, "SIZE", 64)

    lines = measure_speed("cpu", seconds=5.0)

    assert [line.split()[0] for line in lines] == ["arithmetic", "training", "prediction"]
    assert float(lines[1].split()[1]) > 0
    assert float(lines[2].split()[1]) > 0


def test_a_self_test_that_had_no_time_says_so():
    with pytest.raises(BadInput, match="took no two training steps in 1e-09 s; close"):
        measure_speed("cpu", seconds=1e-9)


@pytest.mark.parametrize(("value", "said"), [(0.034, "0.034"), (6.64, "6.6"), (123.4, "123")])
def test_a_speed_never_rounds_to_nothing(value, said):
    assert two_figures(value) == said
