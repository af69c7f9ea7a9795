"""Levels, bands and codecs against what their standards say, and that crops keep their places."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from speechbrain_ext.channels.transmission import G711, Codec, Gain, NarrowBand, codecs

KINDS: dict[str, Callable[[], nn.Module]] = {"gain": Gain, "band": NarrowBand}
KINDS |= {"ulaw": partial(G711, "ULAW"), "alaw": partial(G711, "ALAW")}
KINDS |= {"mp3": partial(Codec, "MP3", "MPEG_LAYER_III"), "opus": partial(Codec, "OGG", "OPUS")}


def sine(hertz: float, samples: int = 16000) -> Tensor:
    return (0.3 * torch.sin(2 * math.pi * hertz * torch.arange(samples) / 16000)).unsqueeze(0)


def speechlike(count: int = 3, samples: int = 16000) -> Tensor:
    """Harmonics of some pitches that come and go, with a little noise."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(samples) / 16000
    pitches = 100 + 40 * torch.arange(count).unsqueeze(1)
    parts = [torch.sin(2 * math.pi * k * pitches * time) / k for k in range(1, 20)]
    wave = sum(parts[1:], start=parts[0]) * (0.6 + 0.4 * torch.sin(2 * math.pi * 3 * time))
    return 0.1 * wave + 0.003 * torch.randn(count, samples, generator=generator)


def through(kind: nn.Module, wavs: Tensor) -> Tensor:
    return kind(wavs, torch.ones(len(wavs)))


def test_gains_lie_between_18_db_less_and_6_db_more() -> None:
    torch.manual_seed(0)
    clean = speechlike(1).repeat(400, 1)
    ratios = through(Gain(), clean) / clean
    levels = 20 * torch.log10(ratios.median(dim=1).values)
    assert torch.allclose(ratios, ratios[:, :1].expand_as(ratios), rtol=1e-4)
    assert -18 <= levels.min() < -17 and 5 < levels.max() <= 6
    assert abs(levels.mean() + 6) < 1  # decibels are equally likely


@pytest.mark.parametrize("kind", [NarrowBand, KINDS["ulaw"], KINDS["alaw"]])
def test_a_telephone_passes_what_is_below_4_khz(kind: Callable[[], nn.Module]) -> None:
    for hertz, passed in ((300, 1.0), (1000, 1.0), (2500, 1.0), (5000, 0.0), (7000, 0.0)):
        clean = sine(hertz)
        heard = through(kind(), clean)[:, 2000:-2000]
        level = heard.square().mean().sqrt() / clean.square().mean().sqrt()
        assert float(level) == pytest.approx(passed, abs=0.03), hertz


def g711_values(law: str) -> Tensor:
    """Every value that 8 bits decode to, by the tables of ITU-T G.711, of full scale 1."""
    values = []
    for segment in range(8):
        for step in range(16):
            if law == "ULAW":  # 14 bits
                values.append((((2 * step + 33) << segment) - 33) / 8192)
            elif segment == 0:  # 13 bits
                values.append((2 * step + 1) / 4096)
            else:
                values.append(((2 * step + 33) << (segment - 1)) / 4096)
    positive = torch.tensor(values, dtype=torch.float64)
    return torch.cat([-positive, positive]).sort().values


@pytest.mark.parametrize("law", ["ULAW", "ALAW"])
def test_g711_gives_a_value_of_its_table_beside_each_sample(law: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = 10 ** (-3 * torch.rand(1, 4000, generator=generator))
    samples = scales * (2 * torch.rand(1, 4000, generator=generator) - 1)
    coded = G711(law).between(samples).double().flatten()
    table = g711_values(law)
    assert (coded.unsqueeze(1) - table).abs().min(dim=1).values.max() < 1e-7
    # One of the two nearest, with rounding to 13 or 14 bits.
    clean = samples.double().flatten()
    second = (clean.unsqueeze(1) - table).abs().topk(2, dim=1, largest=False).values[:, 1]
    assert ((clean - coded).abs() - second).max() <= 1 / 4096
    assert len(set(coded.tolist())) > 150


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("samples", [4800, 16001, 32000])
def test_crops_keep_shape_and_place(kind: Callable[[], nn.Module], samples: int) -> None:
    clean = speechlike(2, samples)
    heard = through(kind(), clean)
    assert heard.shape == clean.shape and heard.dtype == torch.float32
    assert bool(heard.isfinite().all())
    for before, after in zip(clean, heard, strict=True):
        spectra = np.fft.rfft(before, 2 * samples), np.fft.rfft(after, 2 * samples)
        assert np.fft.irfft(spectra[0].conj() * spectra[1]).argmax() == 0
        assert torch.cosine_similarity(before, after, dim=0) > 0.95


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_crop_does_not_depend_on_those_beside_it(kind: Callable[[], nn.Module]) -> None:
    clean, one = speechlike(3), kind()
    torch.manual_seed(0)
    together = through(one, clean)
    torch.manual_seed(0)
    assert torch.equal(through(kind(), clean), together)
    if not isinstance(one, Gain):
        assert torch.allclose(through(one, clean[1:2])[0], together[1], atol=1e-6)


@pytest.mark.parametrize("number", [2, 3])
def test_files_cut_off_what_is_beyond_full_scale(number: int) -> None:
    codec, loud = codecs()[number], 20 * sine(500)
    assert torch.equal(through(codec, loud), through(codec, loud.clamp(-1, 1)))


@pytest.mark.parametrize("law", ["ULAW", "ALAW"])
def test_calls_cut_off_what_is_beyond_full_scale(law: str) -> None:
    samples = torch.linspace(-3, 3, 101).unsqueeze(0)
    coded = G711(law).between(samples)
    assert torch.equal(coded, G711(law).between(samples.clamp(-1, 1)))
    assert 0.9 < coded.max() <= 1 and coded.min() == -coded.max()


def test_codecs_are_of_their_own() -> None:
    clean = speechlike(1)
    heard = [through(codec, clean) for codec in codecs()]
    for number, one in enumerate(heard):
        assert all((one - other).abs().max() > 1e-3 for other in heard[number + 1 :])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_float32_under_autocast(kind: Callable[[], nn.Module]) -> None:
    clean = speechlike(2)
    torch.manual_seed(0)
    expected = through(kind(), clean)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(through(kind(), clean), expected)


def test_a_codec_that_libsndfile_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "check_format", lambda format, encoder: encoder != "OPUS")
    with pytest.raises(ValueError, match=r"has no OPUS.*codec_probability 0"):
        Codec("OGG", "OPUS")
