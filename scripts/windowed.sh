#!/bin/sh
# Run Python in the environment that setup.sh made, under a virtual display if there is no real one.
set -eu
cd "$(dirname "$0")/.."

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    exec .venv/bin/python "$@"
else
    exec env QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1200x24" .venv/bin/python "$@"
fi
