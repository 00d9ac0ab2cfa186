#!/bin/sh
# Run the tests in the environment that setup.sh made: first those without windows, then those of
# windows, where there are any. Two at a time, the windows each on a virtual display of its own: on
# a real one they would take each other's keys.
set -u
cd "$(dirname "$0")/.."
none=5 # pytest's status where nothing was chosen

.venv/bin/python -m pytest -n 2 --no-xvfb -m "not gui" "$@"
plain=$?
[ $plain = 0 ] || [ $plain = $none ] || exit $plain

if [ ! -e .venv/.windows ]; then
    echo "test: GUI TESTS ARE LEFT OUT: system libraries for windows are missing (see above)" >&2
    exit $plain
fi
if command -v Xvfb >/dev/null; then
    export QT_QPA_PLATFORM=xcb
    set -- -n 2 -o xvfb_width=1600 -o xvfb_height=1200 -o xvfb_colordepth=24 "$@"
fi
.venv/bin/python -m pytest -m gui "$@"
windows=$?
[ $windows = $none ] && exit $plain
exit $windows
