"""VoxCeleb's published lists, generated here in their shape, are known by what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from speechbrain_ext.corpora import trial_lists
from speechbrain_ext.verification.trials import TrialList
from tests.refusals import refused

VOXCELEB1 = [f"id{number}" for number in range(10001, 11252)]


@pytest.mark.parametrize(
    ("trials", "speakers", "title"),
    [
        (37_611, VOXCELEB1[269:309], "VoxCeleb1-O (cleaned)"),
        (37_720, VOXCELEB1[269:309], "VoxCeleb1-O"),
        (579_818, VOXCELEB1, "VoxCeleb1-E (cleaned)"),
        (581_480, VOXCELEB1, "VoxCeleb1-E"),
        (550_894, VOXCELEB1[:1190], "VoxCeleb1-H (cleaned)"),
        (552_536, VOXCELEB1[:1190], "VoxCeleb1-H"),
        (37_611, VOXCELEB1[268:308], "mine"),
        (37_610, VOXCELEB1[269:309], "mine"),
        (579_818, [f"x{name}" for name in VOXCELEB1], "mine"),
    ],
)
def test_voxceleb_lists_are_known_by_content(
    monkeypatch: pytest.MonkeyPatch, trials: int, speakers: list[str], title: str
) -> None:
    names = np.array([f"{speaker}/vid/{n:05}" for speaker in speakers for n in (1, 2)])
    index = np.arange(trials, dtype=np.int32) % len(names)
    made = TrialList(names, index, index[::-1].copy(), index % 3 == 0)
    monkeypatch.setattr(trial_lists, "read_trials", lambda *_: made)
    (item,) = trial_lists.read_corpus_lists(["lists/mine.txt"])
    assert (item.title, item.name, len(item.speakers)) == (title, "mine", len(speakers))

    voxceleb2 = {"id00012", "id09272"}
    assert trial_lists.check_overlap([item], voxceleb2, allowed=False) == 0
    outside = next(iter(sorted(set(VOXCELEB1) - set(speakers))), VOXCELEB1[0])
    if title.startswith(("VoxCeleb1-E", "VoxCeleb1-H")):
        with refused("speaker-overlap", title, " 1 speakers", outside):
            trial_lists.check_overlap([item], voxceleb2 | {outside}, allowed=True)
    else:  # VoxCeleb1's training part goes with -O
        assert trial_lists.check_overlap([item], voxceleb2 | {outside}, allowed=False) == 0
