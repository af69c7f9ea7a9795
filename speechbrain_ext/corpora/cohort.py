"""Whom a cohort of score normalisation is made of: training speakers, some utterances of each."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.corpora.manifest import Manifest

MOST_MEMBERS = 6000
"""About the speakers of VoxCeleb2; of more the scores' means and deviations hardly change."""


def cohort_rows(
    manifest: Manifest, utterances: int, most: int = MOST_MEMBERS
) -> tuple[np.ndarray, list[str]]:
    """Draw the utterances of a cohort, the same ones each time.

    Arguments
    ---------
    manifest : Manifest
        The training speech.
    utterances : int
        How many of each speaker at most.
    most : int
        Members at most.

    Returns
    -------
    rows : np.ndarray
        (N,) their places in the manifest, rising.
    members : list of str
        (N,) whose each is: the speaker, or the utterance's own name where nobody knows the speaker.

    Example
    -------
    >>> from speechbrain_ext.corpora.manifest import read_manifest
    >>> path = getfixture("tmp_path") / "train.csv"
    >>> lines = [f"{name},1.0,/data/{name}.wav,0,16000,{name[:-1]}" for name in ("a1", "a2", "b1")]
    >>> _ = path.write_text("\\n".join(["ID,duration,wav,start,stop,spk_id", *lines, ""]))
    >>> cohort_rows(read_manifest(path), 1)[1]
    ['a', 'b']
    """
    drawn: dict[str, list[int]] = {}
    for row in np.random.default_rng(0).permutation(len(manifest)).tolist():
        speaker = int(manifest.speaker_index[row])
        member = manifest.speakers[speaker] if speaker >= 0 else manifest.ids[row]
        if member in drawn or len(drawn) < most:
            own = drawn.setdefault(member, [])
            if len(own) < utterances:
                own.append(row)
    chosen = sorted((row, member) for member, own in drawn.items() for row in own)
    return np.array([row for row, _ in chosen]), [member for _, member in chosen]
