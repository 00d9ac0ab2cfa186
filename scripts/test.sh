#!/bin/sh
# Run the tests in the environment that setup.sh made, without those of windows where there are none.
set -eu
cd "$(dirname "$0")/.."

if [ -e .venv/.windows ]; then
    exec sh scripts/windowed.sh -m pytest "$@"
else
    echo "test: GUI TESTS ARE LEFT OUT: system libraries for windows are missing (see above)" >&2
    exec .venv/bin/python -m pytest -m "not gui" "$@"
fi
