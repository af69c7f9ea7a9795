#!/usr/bin/env bash
# Sets the environment up where it is missing, then runs the linters and every test.
# Arguments go to pytest: ./test.sh tests/recipe -k run_sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=$(tools/setup_env.sh mini,dev)
"$python" -m ruff check .
"$python" -m mypy
"$(dirname "$python")/shellcheck" -x run.sh test.sh .ci/run tools/*.sh recipes/VoxCeleb/distill_mixer/run.sh \
    recipes/VoxCeleb/distill_mixer/utils/*.sh
# One thread each: threads that wait for a busy core wait in a circle, and tests start processes of their own.
export OMP_NUM_THREADS=1
exec "$python" -m pytest "$@"
