"""One reader of audio: every format, whole, cut or streamed, and what holds no speech."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from speechbrain.dataio.preprocess import AudioNormalizer
from torch import Tensor

from speechbrain_ext import sound
from speechbrain_ext.audio import read_audio, resample_blocks
from speechbrain_ext.mpeg import count_frames
from speechbrain_ext.sound import (
    SILENCE_DB,
    AudioFault,
    Level,
    check_speech,
    open_audio,
    read_header,
)

RATE = 16000
#: Speech-like in this: loud at first, then soft, so that its start says little of its size.
SOUND = np.concatenate(
    (
        np.random.default_rng(0).uniform(-0.3, 0.3, 2 * RATE),
        0.1 * np.sin(np.arange(12 * RATE) / 13),
    )
)
FORMATS: dict[str, dict[str, Any]] = {
    "a.wav": {},
    "float.wav": {"subtype": "FLOAT"},
    "law.wav": {"subtype": "ULAW"},
    "gsm.wav": {"subtype": "GSM610"},
    "extensible.wav": {"format": "WAVEX"},
    "a.w64": {},
    "a.rf64": {"format": "RF64"},
    "a.aiff": {},
    "a.au": {},
    "a.caf": {},
    "a.sph": {"format": "NIST"},
    "a.flac": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "vbr.mp3": {"bitrate_mode": "VARIABLE"},
}
DECODED = ["m4a", "mp4", "aac", "wma", "ac3", "mka", "mkv", "webm", "wv", "tta", "mov", "avi"]
DECODED += ["voc"]


@pytest.fixture
def ffmpeg(monkeypatch: pytest.MonkeyPatch) -> str:
    """The system's, or that of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is None:
        package = pytest.importorskip("imageio_ffmpeg", reason="there is no ffmpeg")
        found = package.get_ffmpeg_exe()
    monkeypatch.setattr(sound.shutil, "which", lambda _: found)
    return str(found)


def write(path: Path, samples: int, rate: int = RATE, channels: int = 1) -> Path:
    noise = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, noise, rate)
    return path


def whole(folder: Path, name: str) -> Path:
    soundfile.write(folder / name, SOUND, RATE, **FORMATS[name])
    return folder / name


def cut(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content)) + 1])
    return path


def fault_of(path: Path) -> AudioFault:
    with pytest.raises(AudioFault) as fault:
        read_audio(path)
    return fault.value


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    path = whole(tmp_path, name)
    header = read_header(path)
    assert header is not None and header.frames is not None and header[1:3] == (RATE, 1)
    wav = read_audio(path)
    assert len(wav) == header.frames and abs(len(wav) - len(SOUND)) < RATE / 10
    start = 9 * RATE + 57
    part = read_audio(path, start, start + 1000)
    torch.testing.assert_close(part, wav[start : start + 1000], atol=0.02, rtol=0)


@pytest.mark.parametrize("blocks", [50, 51])
def test_gsm_of_any_number_of_blocks_is_whole(tmp_path: Path, blocks: int) -> None:
    """To an odd number a byte is added, which libsndfile takes for a block that was cut."""
    path, samples = tmp_path / "a.wav", 320 * blocks
    soundfile.write(path, SOUND[:samples], RATE, subtype="GSM610")
    assert 0 <= len(read_audio(path)) - samples <= 320
    path.write_bytes(path.read_bytes()[:-70])
    assert fault_of(path).cause == "unreadable"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_was_cut_is_named(tmp_path: Path, name: str) -> None:
    path = cut(whole(tmp_path, name))
    assert fault_of(path).cause == "unreadable"
    with pytest.raises(AudioFault), open_audio(path) as opened:
        assert opened.header.frames is not None
        opened.section(opened.header.frames - 1, opened.header.frames)


@pytest.mark.parametrize("ending", DECODED)
def test_what_ffmpeg_decodes_is_whole_or_named(tmp_path: Path, ffmpeg: str, ending: str) -> None:
    source, path = whole(tmp_path, "a.wav"), tmp_path / f"b.{ending}"
    subprocess.run([ffmpeg, "-loglevel", "error", "-i", str(source), str(path)], check=True)
    assert read_header(path) is None
    wav = read_audio(path)
    assert abs(len(wav) - len(SOUND)) < RATE / 10
    assert torch.equal(read_audio(path, 9000, 9100), wav[9000:9100])
    assert fault_of(cut(path)).cause == "unreadable"


@pytest.mark.parametrize("sizes", [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (36, 0)])
def test_a_wav_that_was_streamed_is_read(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """Programs that write into a pipe leave sizes that are none."""
    path = whole(tmp_path, "a.wav")
    content = bytearray(path.read_bytes())
    content[4:8] = sizes[0].to_bytes(4, "little")
    content[40:44] = sizes[1].to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_audio(path)) == len(SOUND)


@pytest.mark.parametrize("kind", ["wav", "w64", "aiff", "au", "flac", "ogg", "opus", "mp3"])
def test_what_ffmpeg_streams_is_read(tmp_path: Path, ffmpeg: str, kind: str) -> None:
    source, path = whole(tmp_path, "a.wav"), tmp_path / f"b.{kind}"
    command = [ffmpeg, "-loglevel", "error", "-i", str(source), "-f", kind, "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert abs(len(read_audio(path)) - len(SOUND)) < RATE / 10


@pytest.mark.parametrize("name", ["a.mp3", "vbr.mp3"])
def test_no_header_says_where_an_mp3_ends(tmp_path: Path, name: str) -> None:
    """Of one that says nothing, or too little, all is read; one that says too much was cut."""
    path = whole(tmp_path, name)
    content, expected = path.read_bytes(), read_audio(path)
    frames = count_frames(content)
    assert frames.stated == frames.number

    path.write_bytes(frames.sound)  # without the frame that says how many there are
    wav = read_audio(path)
    assert len(wav) == frames.samples
    start = _place(wav, expected)
    torch.testing.assert_close(wav[start : start + len(expected)], expected, atol=1e-4, rtol=0)
    header = read_header(path)
    assert header is not None and header.frames == frames.samples

    path.write_bytes(content + content)
    assert abs(len(read_audio(path)) - 2 * frames.samples) < 2000

    path.write_bytes(frames.sound[:-1])
    assert "ends within MPEG frame" in fault_of(path).detail
    last = frames.sound.rindex(frames.sound[:2])
    path.write_bytes(content[: content.index(frames.sound) + last // 2])
    assert "MPEG frame" in fault_of(path).detail


def _place(longer: Tensor, shorter: Tensor) -> int:
    """Where the second waveform begins in the first."""
    size = 2 ** (len(longer) + len(shorter)).bit_length()
    spectrum = torch.fft.rfft(longer, size) * torch.fft.rfft(shorter, size).conj()
    return int(torch.fft.irfft(spectrum, size).argmax())


def test_tags_around_an_mp3_are_no_sound(tmp_path: Path) -> None:
    path = whole(tmp_path, "a.mp3")
    expected = read_audio(path)
    picture = b"\xff\xfb\x90\xc0" * 300  # looks like frames
    size = bytes([0, 0, len(picture) >> 7, len(picture) & 127])
    first = b"ID3\x04\x00\x00" + size + picture
    path.write_bytes(first + path.read_bytes() + b"TAG" + bytes(125))
    assert torch.equal(read_audio(path), expected)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (RATE, 2)])
def test_an_mp3_joined_of_two_kinds_is_named(tmp_path: Path, rate: int, channels: int) -> None:
    """Decoders give the first part alone, without a word."""
    path = whole(tmp_path, "a.mp3")
    first = path.read_bytes()
    soundfile.write(path, np.tile(SOUND[:, None], (1, channels)), rate)
    second = path.read_bytes()
    path.write_bytes(first + second)
    number = count_frames(first).number
    assert fault_of(path).detail == f"goes on as sound of another kind after MPEG frame {number}"


def test_sections(tmp_path: Path) -> None:
    """Also of another rate and of several channels, in samples of what is heard."""
    path = write(tmp_path / "a.wav", 30000, 44100, 2)
    wav = read_audio(path)
    assert torch.equal(read_audio(path, 500, 700), wav[500:700])
    with pytest.raises(AudioFault, match=f"ends after {len(wav)} of 20000 samples"):
        read_audio(path, 500, 20000)
    silent = np.concatenate((np.zeros(RATE), SOUND))
    soundfile.write(path, silent, RATE)
    assert not read_audio(path, 100, 200).any()
    with pytest.raises(AudioFault, match="ends after"):
        read_audio(path, RATE, len(silent) + 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_named_with_its_place(tmp_path: Path, value: float) -> None:
    wave = np.tile(SOUND, 2)
    wave[25 * RATE] = value
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    fault = fault_of(tmp_path / "a.wav")
    assert (fault.cause, fault.detail) == ("not_finite", f"the sample at 25.000 s is {value}")
    assert len(read_audio(tmp_path / "a.wav", 0, 25 * RATE)) == 25 * RATE
    with pytest.raises(AudioFault, match="at 25.000 s"):
        read_audio(tmp_path / "a.wav", 25 * RATE - 10, 26 * RATE)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize(
    "wave",
    [
        lambda tone: 0 * tone,
        lambda tone: 0 * tone + 0.5,
        lambda tone: 0.0009 * tone + 0.3,
        lambda tone: np.stack((tone, -tone), axis=1),
    ],
    ids=["silence", "offset", "soft", "anti-phase"],
)
def test_what_holds_no_speech_is_named(
    tmp_path: Path, wave: Callable[[np.ndarray], np.ndarray], rate: int
) -> None:
    tone = np.sin(np.arange(3 * rate) / 9)
    soundfile.write(tmp_path / "a.wav", wave(tone), rate, subtype="FLOAT")
    assert fault_of(tmp_path / "a.wav").cause == "silent"
    soundfile.write(tmp_path / "a.wav", 0.002 * tone + 0.3, rate)
    check_speech(read_audio(tmp_path / "a.wav").numpy())
    with pytest.raises(AudioFault, match="no samples"):
        check_speech(np.empty(0))


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_blocks_are_resampled_as_the_whole(rate: int) -> None:
    wave = torch.randn(3 * rate + 123)
    expected = torchaudio.transforms.Resample(rate, 16000)(wave)
    for size in (rate, 2 * rate, 10 * rate):
        pieces = torch.cat(list(resample_blocks(wave.split(size), rate)))
        assert pieces.shape == expected.shape
        torch.testing.assert_close(pieces, expected, atol=1e-6, rtol=0)


def test_audio_is_what_speechbrain_makes_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 60000, 44100, 2)
    signal, rate = soundfile.read(path, dtype="float32", always_2d=True)
    expected = AudioNormalizer(sample_rate=16000)(torch.from_numpy(signal), rate)
    torch.testing.assert_close(read_audio(path), expected, atol=1e-6, rtol=0)


def test_every_format_is_read(tmp_path: Path) -> None:
    time = np.arange(8000) / 8000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.au", "a.caf", "a.w64", "a.sph"):
        options = {"format": "NIST"} if name == "a.sph" else {}
        soundfile.write(tmp_path / name, tone, 8000, **options)
        wav = read_audio(tmp_path / name)
        assert abs(len(wav) - 16000) < 4000, name
        spectrum = torch.fft.rfft(wav[:16000], n=16000).abs()
        assert int(spectrum.argmax()) == 440, name


def test_an_odd_rate_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 1000, 15999)
    with pytest.raises(AudioFault, match="15999 Hz is costly"):
        read_audio(path)


def _long_tone(seconds: int) -> Iterator[Tensor]:
    for second in range(seconds):
        yield torch.full((8000,), float(second))


def test_pieces_come_one_at_a_time() -> None:
    """The signal is never held as a whole before it is resampled."""
    taken = 0

    def counted() -> Iterator[Tensor]:
        nonlocal taken
        for block in _long_tone(100):
            taken += 1
            yield block

    pieces = resample_blocks(counted(), 8000)
    next(pieces)
    assert taken == 2


def test_m4a_without_ffmpeg_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound.shutil, "which", lambda _: None)
    (tmp_path / "a.m4a").write_bytes(b"ftyp")
    with pytest.raises(AudioFault, match=r"\.m4a needs ffmpeg, which is not on PATH"):
        read_audio(tmp_path / "a.m4a")


def test_m4a_is_decoded_by_ffmpeg(tmp_path: Path, ffmpeg: str) -> None:
    time = np.arange(44100) / 44100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, tone], axis=1), 44100)
    odd = tmp_path / "-i: odd.m4a"
    command = [ffmpeg, "-loglevel", "error", "-i", str(tmp_path / "a.wav"), "-c:a", "aac"]
    subprocess.run([*command, f"file:{odd}"], check=True)
    wav = read_audio(odd)
    assert wav.dtype == torch.float32 and abs(len(wav) - 16000) < 2000
    assert int(torch.fft.rfft(wav[:16000], n=16000).abs().argmax()) == 440
    (tmp_path / "b.m4a").write_bytes(b"this is no audio")
    with pytest.raises(AudioFault, match="ffmpeg: ") as fault:
        read_audio(tmp_path / "b.m4a")
    assert fault.value.cause == "unreadable"


def test_what_is_hardly_too_soft_reads_as_softer_than_the_limit() -> None:
    level = Level()
    level.add(0.000999 * np.array([1.0, -1.0]))
    with pytest.raises(AudioFault) as fault:
        level.check()
    assert float(fault.value.detail.split()[0]) < SILENCE_DB


@pytest.mark.parametrize("rate", [1, 1999, 768_001, 2_000_000_000])
def test_a_header_with_a_rate_of_no_recording_is_refused(tmp_path: Path, rate: int) -> None:
    """At 1 Hz a second would be 16,000; at 2 GHz a block would be 75 GB."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 20_000), 16000)
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    for read in (read_audio, read_header):
        with pytest.raises(AudioFault, match=f"{rate} samples a second") as raised:
            read(path)
        assert raised.value.cause == "sample_rate"


def test_a_block_of_many_channels_is_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "_BLOCK_NUMBERS", 40_000)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full((3 * 16000, 2), 0.1), 16000)
    with sound.open_audio(path) as opened:
        assert [len(block) for block in opened.blocks()] == [16000, 16000, 16000]
