"""The watch over threads notices what it must and nothing else."""

from pathlib import Path

import pytest


@pytest.fixture
def watched(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider -p no:xvfb")
    source = Path(__file__).with_name("conftest.py").read_text()
    pytester.makeconftest(source.replace("GRACE = 2.0", "GRACE = 0.1"))
    return pytester


@pytest.mark.parametrize("daemon", [True, False])
def test_a_thread_left_behind_fails_its_test(watched: pytest.Pytester, daemon: bool) -> None:
    watched.makepyfile(
        f"""
        import threading, time
        def test_leak():
            threading.Thread(target=time.sleep, args=(1,), name="stray", daemon={daemon}).start()
        """
    )

    result = watched.runpytest_inprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*threads left behind*stray*"])


def test_a_pool_left_open_fails_its_test(watched: pytest.Pytester) -> None:
    watched.makepyfile(
        """
        import time
        from concurrent.futures import ThreadPoolExecutor
        def test_leak():
            ThreadPoolExecutor(1, thread_name_prefix="stray").submit(time.sleep, 1)
        """
    )

    result = watched.runpytest_inprocess()

    result.assert_outcomes(passed=1, errors=1)


def test_a_thread_that_ends_and_a_pool_of_a_library_pass(watched: pytest.Pytester) -> None:
    watched.makepyfile(
        library="""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        def compute():
            return pool.submit(int).result()
        """,
        test_clean="""
        import threading
        import library
        def test_clean():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
            assert library.compute() == 0
        """,
    )

    result = watched.runpytest_inprocess()

    result.assert_outcomes(passed=1)


def test_a_gui_test_without_a_display_says_why_it_is_skipped(
    watched: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    watched.makeini("[pytest]\nmarkers = gui: needs a display")
    watched.makepyfile(
        """
        import pytest
        @pytest.mark.gui
        def test_window():
            raise AssertionError("not reached")
        """
    )

    result = watched.runpytest_inprocess("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.re_match_lines([r"SKIPPED.*(no display|is not installed)"])
