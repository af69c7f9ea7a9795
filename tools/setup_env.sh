#!/usr/bin/env bash
# Prints the Python to run with: that of the active environment where it has what is needed, else that of
# .venv, which is made from pyproject.toml and constraints.txt when it is missing, broken or out of date.
#
# usage: tools/setup_env.sh EXTRAS      the extras that an already active environment must satisfy: mini,dev
#
# PYTHON=/path/to/python3 chooses the Python that .venv is made with. Messages go to standard error.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=${1:-mini}
venv=$root/.venv
stamp=$venv/setup.stamp
log=$venv/setup.log

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

check() { "$1" "$root/tools/check_environment.py" "${@:2}"; }

no_audio() { # WHERE CAUSE
    die "$2 in $1: install torch and torchaudio of one version and one build (CPU or CUDA), such as" \
        "'pip install --force-reinstall torch==2.11.0 torchaudio==2.11.0' gives from PyPI."
}

use_active_environment() {
    local folder=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} cause status=0
    [ -n "$folder" ] && [ -x "$folder/bin/python" ] && [ ! "$folder" -ef "$venv" ] || return 0
    cause=$(check "$folder/bin/python" --extras "$extras" --import_audio 2>&1) || status=$?
    case $status in
        0) printf '%s\n' "$folder/bin/python"; exit 0 ;;
        4) no_audio "the active environment $folder" "$cause" ;;
        *) say "The active environment $folder is not used (${cause##*$'\n'}): $venv is." ;;
    esac
}

# What .venv was made from. Its own path belongs to it: a virtual environment cannot be moved.
fingerprint() { { echo "$root"; cat "$root/pyproject.toml" "$root/constraints.txt"; } | cksum; }

up_to_date() {
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] || return 1
    check "$venv/bin/python" --extras mini,dev --pins > /dev/null 2>&1
}

one_at_a_time() {
    command -v flock > /dev/null || return 0
    exec 9> "$root/.venv.lock"
    flock -n 9 || { say "Another set-up of $venv is under way: waiting for it."; flock 9; }
}

find_python() { # sets python and version
    local candidates=(python3.12 python3.11 python3.13 python3.10 python3 python) found="none is on the PATH"
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for python in "${candidates[@]}"; do
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) || continue
        case $version in
            3.10 | 3.11 | 3.12 | 3.13) return 0 ;;
            *) found="$python is $version" ;;
        esac
    done
    [ -z "${PYTHON:-}" ] || [ "$found" != "none is on the PATH" ] || found="PYTHON=$PYTHON does not run"
    die "Python 3.10 to 3.13 is needed, and $found: install one, or name it as in PYTHON=/path/to/python3.12 ./run.sh."
}

# Leaves a .venv whose Python runs and has pip. One that was interrupted is emptied first, all but the mark that
# says so: pip takes a package that it had half unpacked for an installed one.
make_venv() {
    if [ -d "$venv" ] && { [ "$(cat "$stamp" 2> /dev/null)" = unfinished ] || ! "$venv/bin/python" -c '' 2> /dev/null; }; then
        say "$venv was left unfinished or broken: making it anew."
        find "$venv" -mindepth 1 -maxdepth 1 ! -name "$(basename "$stamp")" -exec rm -rf {} +
    fi
    if [ -x "$venv/bin/python" ]; then python=$venv/bin/python; else find_python; fi
    "$python" -c 'import ensurepip, venv' 2> /dev/null || die "$python cannot make a virtual environment, because its" \
        "venv module is incomplete: install it (Debian and Ubuntu: apt-get install python${version:-3}-venv) and run this again."
    mkdir -p "$venv"
    echo unfinished > "$stamp"
    "$venv/bin/python" -m pip --version > /dev/null 2>&1 || "$python" -m venv "$venv" > "$log" 2>&1 ||
        die "$python -m venv failed: its log is $log."
}

install_packages() {
    local pip=("$venv/bin/python" -m pip install --disable-pip-version-check --constraint constraints.txt)
    say "Setting up $venv with $("$venv/bin/python" --version): about 5 GB once, some minutes (log: $log)."
    (cd "$root" && "${pip[@]}" setuptools && "${pip[@]}" --no-build-isolation --editable '.[mini,dev]') \
        >> "$log" 2>&1 || die "pip could not install the packages: its log is $log."
}

use_active_environment
if ! up_to_date; then
    one_at_a_time
    if ! up_to_date; then # still: the other set-up may have been for us
        make_venv
        install_packages
        status=0
        cause=$(check "$venv/bin/python" --extras mini,dev --pins --import_audio 2>&1) || status=$?
        case $status in
            0) fingerprint > "$stamp" ;;
            4) no_audio "$venv" "$cause" ;;
            *) die "$venv is not as pyproject.toml asks after its set-up (${cause##*$'\n'}): its log is $log." ;;
        esac
    fi
fi
printf '%s\n' "$venv/bin/python"
