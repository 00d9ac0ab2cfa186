#!/bin/sh
# Run the tests in the environment that setup.sh made, under a virtual display if there is no real one.
set -eu
cd "$(dirname "$0")/.."

if [ ! -e .venv/.windows ]; then
    echo "test: GUI TESTS ARE LEFT OUT: system libraries for windows are missing (see above)" >&2
    exec .venv/bin/python -m pytest -m "not gui" "$@"
elif [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    exec .venv/bin/python -m pytest "$@"
else
    exec env QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1200x24" .venv/bin/python -m pytest "$@"
fi
