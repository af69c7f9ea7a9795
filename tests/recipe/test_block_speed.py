"""-m speechbrain_ext.measure.block_speed, as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.recipe.tiny import run

pytestmark = pytest.mark.slow

SV_MIXER = "hparams/ssl/sv_mixer_wavlm_large.yaml"
TRANSFORMER = "hparams/ssl/transformer_wavlm_large.yaml"
MODULE = ("-m", "speechbrain_ext.measure.block_speed")


def test_blocks_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "blocks.json"
    shapes = ["--shapes", "2x3", "1x1", "--rounds", 2]
    done = run(*MODULE, SV_MIXER, TRANSFORMER, "--out", out, *shapes)
    assert done.returncode == 0, done.stderr
    assert "sv_mixer_wavlm_large" in done.stdout
    figures = json.loads(out.read_text())
    assert figures["shapes"] == [[2, 3.0], [1, 1.0]] and figures["threads"] == 1
    sv_mixer, transformer = figures["systems"]
    convolution, tokens = 1024 * 128 * 3 + 1024, 2 * 149 * 596 + 596 + 149
    grouped, norms = 2 * 4096 * 128 + 4096 + 1024, 3 * 2048
    assert sv_mixer["parameters"] == convolution + tokens + 3 * grouped + norms
    assert sv_mixer["channels"] == 1024
    for frames, macs in zip((149, 49), sv_mixer["macs_per_utterance"], strict=True):
        # One window of tokens; two grouped MLPs at the full rate and one at half of it.
        steps = 2 * frames + (frames + 1) // 2
        assert macs == frames * 1024 * 128 * 3 + 2 * 149 * 596 * 1024 + steps * 2 * 1024 * 512
    # 149 frames: the layers' 1.25 G and attention's 2 T² C.
    expected = 149 * 8 * 1024**2 + 2 * 149**2 * 1024
    assert transformer["macs_per_utterance"][0] == expected
    for system in figures["systems"]:
        for own, (least, most) in zip(
            system["seconds_per_utterance"], system["spread"], strict=True
        ):
            assert 0 < least <= own <= most


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    for arguments, words in (
        (["hparams/v2.yaml", "--out", tmp_path / "x"], "v2.yaml has no block and hidden_size"),
        ([SV_MIXER, "--out", tmp_path], f"--out {tmp_path} is a folder"),
        ([SV_MIXER, "--out", tmp_path / "x", "--rounds", 0], "--rounds 0 measures nothing"),
        ([SV_MIXER, "--out", tmp_path / "x", "--shapes", "3"], "invalid _shape value: '3'"),
    ):
        done = run(*MODULE, *arguments)
        assert done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr
    assert not [*tmp_path.iterdir()]
