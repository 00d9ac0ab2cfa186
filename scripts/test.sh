#!/bin/sh
# Run the tests in the environment that setup.sh made: first those without windows, two at a time,
# then those of windows, where there are any.
set -u
cd "$(dirname "$0")/.."
none=5 # pytest's status where nothing was chosen

.venv/bin/python -m pytest -n 2 -m "not gui" "$@"
plain=$?
[ $plain = 0 ] || [ $plain = $none ] || exit $plain

if [ ! -e .venv/.windows ]; then
    echo "test: GUI TESTS ARE LEFT OUT: system libraries for windows are missing (see above)" >&2
    exit $plain
fi
sh scripts/windowed.sh -m pytest -m gui "$@"
windows=$?
[ $windows = $none ] && exit $plain
exit $windows
