#!/usr/bin/env bash
# The recipe: from speech to a distilled student and its report. `./run.sh --help` explains the options.
exec bash "$(dirname "${BASH_SOURCE[0]}")/recipes/VoxCeleb/distill_mixer/run.sh" "$@"
