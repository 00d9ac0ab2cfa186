"""Control: pause, resume, stop and ask, and what waiting ends for."""

from __future__ import annotations

import threading

import pytest

from napari_unet.run import Control


def test_goes_on_unless_paused():
    control = Control()

    control.wait_while_paused()  # returns at once

    assert not control.paused
    assert not control.stopped


@pytest.mark.parametrize("end", ["resume", "stop", "ask"])
def test_a_pause_ends_with(end):
    control = Control()
    control.pause()
    waiting = threading.Thread(target=control.wait_while_paused)
    waiting.start()
    waiting.join(0.15)
    waited = waiting.is_alive()

    getattr(control, end)()
    waiting.join(2)

    assert waited
    assert not waiting.is_alive()


def test_an_answered_question_lets_the_pause_go_on():
    control = Control()
    control.pause()
    control.ask()

    assert control.take_question()
    assert control.paused
    assert not control.take_question()


def test_questions_that_were_not_answered_count_once():
    control = Control()
    control.ask()
    control.ask()

    assert [control.take_question(), control.take_question()] == [True, False]


def test_stop_is_for_good():
    control = Control()
    control.stop()
    control.pause()
    control.resume()

    control.wait_while_paused()

    assert control.stopped
