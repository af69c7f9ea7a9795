"""Which conditions a YAML names, and what each makes of a list's recordings."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.channels.conditions import Babble, Condition, Excerpt, Loudness, Sent, Voices
from speechbrain_ext.channels.transmission import Opus
from speechbrain_ext.corpora.evaluation_lists import Audio
from speechbrain_ext.measure.conditions import Named, Others, Under, read_conditions
from tests.recipe.tiny import RECIPE
from tests.refusals import refused

CLASSES = "!new:speechbrain_ext.channels.conditions"


def test_the_card_of_the_recipe_has_what_people_ask_for() -> None:
    found = read_conditions(RECIPE / "hparams" / "conditions" / "card.yaml")
    groups = [each.group for each in found]
    assert len({(each.group, each.name) for each in found}) == len(found)
    assert groups == sorted(groups, key=groups.index)
    for kind in ("White", "Pink"):
        names = [each.name for each in found if each.group == f"{kind} noise"]
        assert names == ["20 dB", "15 dB", "10 dB", "5 dB", "0 dB"]
    assert len({repr(each.condition) for each in found}) == len(found)


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        (f"Noise: {{a: {CLASSES}.Nothing {{}}}}", "bad-setting", ["Noise", "Nothing"]),
        (
            f"Duration: {{a: {CLASSES}.Excerpt {{second: 1}}}}",
            "bad-setting",
            ["Duration", "second"],
        ),
        (f"Duration: {{a: {CLASSES}.Excerpt {{seconds: -1}}}}", "bad-setting", ["seconds", "-1"]),
        ("Duration: {a: 3}", "bad-setting", ["Duration, a", "int"]),
        ("Noise: {a: !new:torch.nn.Identity {}}", "bad-setting", ["Noise, a", "Identity"]),
        ("Duration: []", "bad-setting", ["Duration"]),
        (f"Noise: {{a: !new:{__name__}.NoFields }}", "bad-setting", ["Noise, a", "NoFields"]),
        (f"Far: {{a: {CLASSES}.Chain {{steps: 3}}}}", "bad-setting", ["Far", "steps", "3"]),
        (f"Far: {{a: {CLASSES}.Chain {{steps: []}}}}", "bad-setting", ["Far", "steps"]),
        ("Duration: [", "bad-yaml", []),
        ("", "missing-key", []),
    ],
)
def test_conditions_that_cannot_be(text: str, code: str, facts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with refused(code, path, *facts):
        read_conditions(path)


class NoFields(Condition):
    """Nothing tells one from another."""

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        return wav


@dataclass(frozen=True)
class Nothing(Condition):
    """Leaves nothing, or what is no sound."""

    kind: str

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        return wav[:10] if self.kind == "short" else wav * np.nan


def test_a_recording_is_changed_by_its_sound_and_the_condition() -> None:
    wav, other = torch.randn(2, 32000)
    one = Under(Named("Duration", "1 s", Excerpt(1)), None)
    assert torch.equal(one("/a.wav", wav), one("/elsewhere/b.wav", wav.clone()))
    again = pickle.loads(pickle.dumps(one))  # as for a process that reads
    assert torch.equal(again("/a.wav", wav), one("/a.wav", wav))
    assert not torch.equal(one("/a.wav", wav), one("/a.wav", other))


@pytest.mark.parametrize(("kind", "fact"), [("short", "10 samples"), ("nan", "not finite")])
def test_what_cannot_be_embedded_is_named(kind: str, fact: str) -> None:
    under = Under(Named("Own", kind, Nothing(kind)), None, least_samples=400)
    with refused("bad-setting", f"Own, {kind}", fact, "/a.wav"):
        under("/a.wav", torch.randn(16000))


@pytest.mark.parametrize(
    "condition",
    [
        "Excerpt {seconds: .inf}",
        "ColouredNoise {kind: pink, snr: loud}",
        "ColouredNoise {kind: pink, snr: .nan}",
        "Hum {snr: 3, hertz: 9000}",
        "Room {decay: 1, direct: far}",
        "Sent {channel: 3}",
        "Sent {channel: !new:speechbrain_ext.channels.transmission.G711 {law: X}}",
    ],
)
def test_what_fails_is_refused_before_anything_is_embedded(condition: str, tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(f"A group: {{a name: {CLASSES}.{condition}}}")
    (named,) = read_conditions(path)
    with refused("bad-setting", "A group, a name", "a second of noise"):
        Under(named, None).key([])


def speakers_of(folder: Path, speakers: int) -> dict[str, int]:
    """Two recordings of each speaker, a tone of its own."""
    found = {}
    for speaker in range(speakers):
        for number in range(2):
            path = str(folder / f"{speaker}_{number}.wav")
            time = np.arange(16000) / 16000
            soundfile.write(path, 0.3 * np.sin(2 * np.pi * 100 * (1 + speaker) * time), 16000)
            found[path] = speaker
    return found


def test_nobody_is_heard_beside_himself(tmp_path: Path) -> None:
    speaker_of = speakers_of(tmp_path, 6)
    others = Others.of(speaker_of)
    assert len(others.files) == 6 and others == Others.of(dict(reversed(speaker_of.items())))
    for path, speaker in speaker_of.items():
        heard = others.voices(path, 12, np.random.default_rng(0))
        tones = {int(np.abs(np.fft.rfft(voice)).argmax()) for voice in heard}
        assert tones == {100 * (1 + each) for each in range(6)} - {100 * (1 + speaker)}


def test_others_need_speakers(tmp_path: Path) -> None:
    named = Named("Other voices", "10 dB", Babble(10))
    for others in (None, Others.of(speakers_of(tmp_path, 2))):
        with refused("few-speakers", "Other voices, 10 dB"):
            Under(named, others)


def test_a_key_tells_conditions_apart(tmp_path: Path) -> None:
    speaker_of = speakers_of(tmp_path, 4)
    audio = [Audio(path, 1.0, (1, 2)) for path in speaker_of]
    others = Others.of(speaker_of)

    def key(condition: Condition, audio: list[Audio] = audio) -> str:
        return Under(Named("a group", "a name", condition), others).key(audio)

    conditions: list[Condition] = [
        Excerpt(1),
        Excerpt(2),
        Loudness(3),
        Sent(Opus(8)),
        Babble(9),
        Babble(3),
    ]
    assert len({key(each) for each in conditions}) == len(conditions)
    # Of recordings that are heard beside others it matters which they are.
    changed = [each._replace(stamp=(1, 3)) for each in audio]
    assert key(Babble(9), changed) != key(Babble(9)) and key(Loudness(3), changed) == key(
        Loudness(3)
    )


def test_a_key_tells_what_a_condition_does_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    under = Under(Named("Level", "-20 dB", Loudness(-20)), None)
    before = under.key([])

    def otherwise(self: Loudness, wav: np.ndarray, *_: Callable[..., object]) -> np.ndarray:
        return wav / 9

    monkeypatch.setattr(Loudness, "__call__", otherwise)
    assert under.key([]) != before
