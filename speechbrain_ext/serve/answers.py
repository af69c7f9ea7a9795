"""What the service answers, as its page ``/docs`` shows it."""

from __future__ import annotations

from pydantic import BaseModel, Field

_VAD = "what told speech: silero (a network), or energy (any sound that comes and goes)"


class RefusalAnswer(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="the kind of mistake")
    message: str = Field(description="one sentence: what was found, and what to do")


class EmbedAnswer(BaseModel):
    """A recording's embedding."""

    embedding: list[float] = Field(description="as the network gives it, not of unit length")
    model: str = Field(description="SHA-256 of the network; embeddings of others do not compare")
    seconds: float = Field(description="of audio")
    seconds_of_speech: float
    vad: str = Field(description=_VAD)


class VerifyAnswer(BaseModel):
    """Whether two recordings are of one speaker."""

    same: bool = Field(description="whether they are taken for one speaker")
    score: float = Field(description="cosine of the embeddings, from -1 to 1")
    llr: float | None = Field(
        description="log-likelihood ratio, natural; null where the model is not calibrated"
    )
    threshold: float = Field(description="from which on it is one speaker")
    scale: str = Field(description="of the threshold: cosine, or log-likelihood ratio")
    operating_point: str = Field(description="how the threshold was chosen")
    supported: bool = Field(description="whether enough trials stand behind the threshold")
    seconds_of_speech: tuple[float, float] = Field(description="in a and in b")
    vad: str = Field(description=_VAD)


class EnrollAnswer(BaseModel):
    """A speaker of the gallery."""

    name: str
    recordings: int = Field(description="that the speaker is enrolled with by now")
    seconds_of_speech: float = Field(description="in all of them")
    vad: str = Field(description=_VAD)


class RankedSpeaker(BaseModel):
    """A speaker, and how like the recording."""

    name: str
    score: float = Field(description="cosine, from -1 to 1")


class IdentifyAnswer(BaseModel):
    """Who of the gallery is heard."""

    name: str | None = Field(description="null: nobody reaches the threshold")
    ranked: list[RankedSpeaker] = Field(description="the most similar first")
    threshold: float = Field(description="from which on it is somebody")
    scale: str = Field(description="of scores and threshold: cosine")
    operating_point: str = Field(
        description="how the threshold was chosen; its rate is that of one comparison, and a "
        "stranger is compared with every speaker"
    )
    speakers: int = Field(description="that are enrolled")
    seconds_of_speech: float
    vad: str = Field(description=_VAD)


class SpeakersAnswer(BaseModel):
    """The gallery."""

    names: list[str]


class StoredThreshold(BaseModel):
    """A threshold of the cosine that the model has."""

    name: str
    false_alarm: float = Field(description="share of pairs of two speakers that pass")
    threshold: float
    supported: bool = Field(description="whether enough trials stand behind it")


class HealthAnswer(BaseModel):
    """That the service answers, with which model and within which limits."""

    status: str
    model: str = Field(description="SHA-256 of the network")
    dim: int = Field(description="numbers of an embedding")
    sample_rate: int = Field(description="in Hz, to which all audio is resampled")
    operating_points: list[StoredThreshold]
    fitted_on: str | None = Field(description="the trials that the thresholds are from")
    gallery: bool = Field(description="whether speakers can be enrolled")
    key: bool = Field(description="whether a key is wanted")
    upload_bytes: int = Field(description="of a request at most")
    seconds: float = Field(description="of audio in a request at most")
