#!/bin/sh
# Make ready what a target of the Makefile runs in: setup.sh demo|test|headless|lint|bench
#
# All Python packages go into a virtual environment inside this folder. Windows need system libraries
# too: those that are missing are installed through apt, as root or with a sudo that asks nothing.
# The second run finds its stamp and is done at once.
set -eu
cd "$(dirname "$0")/.."

QT_LIBRARIES="libegl1 libgl1 libgl1-mesa-dri libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0
    libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
    libxcb-xinerama0 libxcb-xfixes0 libfontconfig1 libglib2.0-0"

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

has_display() { [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; }

# --- system packages ---------------------------------------------------------------------------

can_be_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

try_apt() {
    # A broken third-party list fails the update, but seldom what we want.
    as_root apt-get -qq update || say "apt-get update failed; going on with the lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 install "$@" >/dev/null
}

apt_install() {
    command -v apt-get >/dev/null && can_be_root || return 1
    say "installing through apt:" "$@"
    try_apt "$@" || { sleep 5 && try_apt "$@"; }
}

is_installed() { # newer releases rename some packages to NAMEt64
    dpkg-query -W -f '${Status}\n' "$1" "$1t64" 2>/dev/null | grep -q 'install ok installed'
}

missing_for_windows() {
    if ! command -v dpkg-query >/dev/null; then # not Debian: Qt's libraries are taken for granted
        has_display || command -v xvfb-run >/dev/null || echo xvfb
        return
    fi
    packages=$QT_LIBRARIES
    has_display || packages="$packages xvfb xauth"
    for package in $packages; do is_installed "$package" || echo "$package"; done
}

ready_for_windows() {
    missing=$(missing_for_windows | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null || ! can_be_root; then
        say "NO WINDOWS HERE: not root, no sudo or no apt, and these are missing: $missing"
        return 1
    fi
    # shellcheck disable=SC2086 # a list of names
    apt_install $missing || die "apt-get could not install $missing; install them, or use 'make test-headless'"
}

# --- the virtual environment -------------------------------------------------------------------

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "Python 3.11 or newer is needed; name yours with PYTHON=/path/to/python3"
}

fetch_pip() { # the wheel inside Debian's package, which needs no root to be unpacked
    command -v apt-get >/dev/null || return 1
    lists="-o Dir::State=$1/state -o Dir::Cache=$1/cache -o Debug::NoLocking=1"
    mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
    # shellcheck disable=SC2086 # options
    (cd "$1" && apt-get -qq $lists update && apt-get -qq $lists download python3-pip-whl) >/dev/null &&
        dpkg-deb -x "$1"/python3-pip-whl_*.deb "$1" && ls "$1"/usr/share/python-wheels/pip-*.whl
}

seed_pip() { # seed_pip VENV: for a Python without ensurepip
    if "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip -q --python "$1/bin/python" install pip && return
    fi
    scratch=$(mktemp -d)
    wheel=$(fetch_pip "$scratch") && "$1/bin/python" "$wheel/pip" -q install pip && seeded=0 || seeded=1
    rm -rf "$scratch"
    return $seeded
}

make_venv() {
    "$python" -m venv --clear "$1" >/dev/null 2>&1 && return
    package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    apt_install "$package" && "$python" -m venv --clear "$1" >/dev/null 2>&1 && return
    say "no ensurepip here; fetching pip another way"
    "$python" -m venv --clear --without-pip "$1" && seed_pip "$1" && return
    rm -rf "$1"
    die "$python cannot make a virtual environment; install $package and try again"
}

install() { # install VENV WHAT...: pip install what, once
    venv=$1
    shift
    identity="$PWD $("$python" -V)"
    if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.made-for" 2>/dev/null)" != "$identity" ]; then
        say "making $venv with $("$python" -V)"
        make_venv "$venv"
        "$venv/bin/python" -m pip -q install --upgrade "pip>=25.1" # the first that knows --group
        echo "$identity" >"$venv/.made-for"
    fi
    state="$* $(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)"
    [ "$(cat "$venv/.done-$target" 2>/dev/null)" != "$state" ] || return 0
    say "installing into $venv: $* (the first time takes minutes)"
    quiet=-q
    [ ! -t 1 ] || quiet=
    "$venv/bin/python" -m pip $quiet --disable-pip-version-check install -c constraints.txt "$@"
    echo "$state" >"$venv/.done-$target"
}

# --- what each target needs --------------------------------------------------------------------

target=${1:-}
python=$(find_python)
case $target in
demo)
    if has_display; then
        ready_for_windows || say "the window may not open"
        install .venv -e ".[all]"
    else
        install .venv -e .
    fi
    ;;
test)
    install .venv -e ".[all]" --group gui
    rm -f .venv/.windows
    if ready_for_windows; then touch .venv/.windows; fi
    ;;
headless) install .venv-headless -e . --group test ;;
lint) install .venv -e ".[all]" --group dev ;;
bench) install .venv -e . --group benchmark ;;
*) die "say what for: demo, test, headless, lint or bench" ;;
esac
