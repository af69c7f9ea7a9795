#!/usr/bin/env bash
# Sets the environment up where it is missing, then runs the linters and every test on all cores.
# ./test.sh --fast leaves out the slow ones. Other arguments go to pytest: ./test.sh tests/recipe -k run_sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

chosen=()
if [ "${1:-}" = --fast ]; then
    chosen=(-m "not slow")
    shift
fi
python=$(tools/setup_env.sh mini,dev)
"$python" -m ruff check .
"$python" -m ruff format --check --quiet . ||
    { echo "error: run python -m ruff format ." >&2; exit 1; }
"$(dirname "$python")/lint-imports" --no-cache > /dev/null || "$(dirname "$python")/lint-imports" --no-cache
"$python" -m mypy
"$(dirname "$python")/shellcheck" -x run.sh test.sh .ci/run tools/*.sh recipes/VoxCeleb/distill_mixer/run.sh \
    recipes/VoxCeleb/distill_mixer/utils/*.sh
# One thread each: threads that wait for a busy core wait in a circle, and tests start processes of their own.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# A file's tests stay together: they share what is costly to make. The files keep the order of conftest.py.
exec "$python" -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder ${chosen[@]+"${chosen[@]}"} "$@"
