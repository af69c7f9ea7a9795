"""Claims, and what decides them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from speechbrain_ext.compare.plan import Ablation
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.comparison import FUSED, Comparison, Difference

CONFIRMED, CONTRADICTED, NOT_DECIDED = "confirmed", "contradicted", "not decided"
_ENTRY = {"id", "claim", "source", "documents", "test", "untested"}


class Speed(NamedTuple):
    """Utterances per second: the median, and the slowest and fastest round."""

    rate: float
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Evidence:
    """What claims are held against: EERs on a trial list, shares of each seed, speeds."""

    comparison: Comparison | None = None
    shares: dict[str, list[float]] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)


class Finding(NamedTuple):
    """A verdict with its figures; ``what`` says of what they are, ``form`` how they are written."""

    verdict: str
    what: str
    form: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int | None = None


class Test(Protocol):
    """What decides a claim."""

    on_trials: bool

    @property
    def systems(self) -> list[str]:
        """The systems it looks at."""

    def find(self, evidence: Evidence) -> Finding:
        """Hold the claim against the evidence."""


def verdict(low: float | None, high: float | None, threshold: float) -> str:
    """Whether "less than the threshold" holds, when the truth lies between the two bounds.

    Example
    -------
    >>> verdict(-2.0, -1.0, 0.0), verdict(1.0, 2.0, 0.0), verdict(-1.0, 1.0, 0.0)
    ('confirmed', 'contradicted', 'not decided')
    >>> verdict(None, None, 0.0)
    'not decided'
    """
    if low is None or high is None:
        return NOT_DECIDED
    if high < threshold:
        return CONFIRMED
    return CONTRADICTED if low > threshold else NOT_DECIDED


@dataclass(frozen=True)
class Better:
    """One system has a lower EER than another."""

    better: str
    worse: str
    on_trials = True

    @property
    def systems(self) -> list[str]:
        """The two."""
        return [self.better, self.worse]

    def find(self, evidence: Evidence) -> Finding:
        """By the interval of the difference against 0."""
        difference = _difference(evidence, self.better, self.worse)
        return _finding(verdict(difference.low, difference.high, 0.0), self.systems, difference)


@dataclass(frozen=True)
class Within:
    """A system's EER is less than so many points above another's."""

    eer: str
    of: str
    within: float
    on_trials = True

    @property
    def systems(self) -> list[str]:
        """The two."""
        return [self.eer, self.of]

    def find(self, evidence: Evidence) -> Finding:
        """By the interval of the difference against the margin."""
        difference = _difference(evidence, self.eer, self.of)
        word = verdict(difference.low, difference.high, self.within)
        return _finding(word, self.systems, difference)


@dataclass(frozen=True)
class Equal:
    """Two systems' EERs differ by less than so many points, either way."""

    equal: list[str]
    within: float
    on_trials = True

    @property
    def systems(self) -> list[str]:
        """The two."""
        return self.equal

    def find(self, evidence: Evidence) -> Finding:
        """By the interval of the difference against the margin on both sides."""
        difference = _difference(evidence, *self.equal)
        low, high = difference.low, difference.high
        words = {verdict(low, high, self.within)}
        if low is not None and high is not None:
            words.add(verdict(-high, -low, self.within))
        word = CONTRADICTED if CONTRADICTED in words else NOT_DECIDED
        return _finding(CONFIRMED if words == {CONFIRMED} else word, self.systems, difference)


@dataclass(frozen=True)
class Share:
    """Distillation's share of a system's loss in its last epoch is below or above a number."""

    share: str
    below: float | None = None
    above: float | None = None
    on_trials = False

    def __post_init__(self) -> None:
        if (self.below is None) == (self.above is None):
            raise TypeError("a share needs either 'below' or 'above'")

    @property
    def systems(self) -> list[str]:
        """The one."""
        return [self.share]

    def find(self, evidence: Evidence) -> Finding:
        """By the least and the greatest share of its seeds."""
        shares = evidence.shares[self.share]
        low, high = min(shares), max(shares)
        if self.above is None:
            assert self.below is not None
            word = verdict(low, high, self.below)
        else:
            word = verdict(-high, -low, -self.above)
        mean = 100 * sum(shares) / len(shares)
        what = f"% of {self.share}'s loss"
        return Finding(word, what, ".3g", mean, 100 * low, 100 * high, len(shares))


@dataclass(frozen=True)
class Faster:
    """A system's throughput is at least so many times another's."""

    speed: str
    of: str
    at_least: float
    on_trials = False

    @property
    def systems(self) -> list[str]:
        """The two."""
        return [self.speed, self.of]

    def find(self, evidence: Evidence) -> Finding:
        """By the slowest and the fastest rounds of the two."""
        own, other = evidence.speeds[self.speed], evidence.speeds[self.of]
        low, high = own.slowest / other.fastest, own.fastest / other.slowest
        word = verdict(-high, -low, -self.at_least)
        what = f"utterances/s, {self.speed} / {self.of}"
        return Finding(word, what, ".2f", own.rate / other.rate, low, high)


KINDS: dict[str, Any] = {
    "better": Better,
    "eer": Within,
    "equal": Equal,
    "share": Share,
    "speed": Faster,
}


@dataclass(frozen=True)
class Claim:
    """A sentence of the documents.

    Arguments
    ---------
    id, claim, source : str
        A short name, the sentence, and where it stands.
    documents : str
        The figures given there.
    test : Test, optional
        What decides it.
    untested : str
        Why nothing here does, where there is no test.
    """

    id: str
    claim: str
    source: str
    documents: str = ""
    test: Test | None = None
    untested: str = ""

    def find(self, evidence: Evidence) -> Finding:
        """Hold it against the evidence; not decided where a system has not been run."""
        if self.test is None:
            return Finding(NOT_DECIDED, f"not tested: {self.untested}")
        try:
            return self.test.find(evidence)
        except KeyError:
            names = ", ".join(self.test.systems)
            return Finding(NOT_DECIDED, f"not all there: {names}")


def read_claims(ablation: Ablation) -> list[Claim]:
    """The claims of an ablation's YAML file.

    Raises
    ------
    UserError
        When an entry lacks a key, has an unknown one, or names a system that is not in the file.
    """
    return [_claim(entry, ablation) for entry in ablation.claims]


def _claim(entry: Mapping[str, Any], ablation: Ablation) -> Claim:
    where = f"{ablation.name}: claim {entry.get('id', entry)}"
    unknown, missing = set(entry) - _ENTRY, {"id", "claim", "source"} - set(entry)
    if unknown or missing or ("test" in entry) == ("untested" in entry):
        raise UserError(
            f"{where}: it needs id, claim, source and either test or untested; "
            f"it has {', '.join(entry)}"
        )
    texts = {key: str(value) for key, value in entry.items() if key != "test"}
    test = _test(entry["test"], where) if "test" in entry else None
    if test is not None:
        for name in test.systems:
            for part in name.split(FUSED):
                if part not in ablation.systems and part not in ablation.left_out:
                    raise UserError(f"{where}: there is no system {part}")
    return Claim(**texts, test=test)


def _test(entry: Mapping[str, Any], where: str) -> Test:
    kind = next((KINDS[key] for key in entry if key in KINDS), None)
    if kind is None:
        raise UserError(f"{where}: a test begins with one of {', '.join(KINDS)}, not {dict(entry)}")
    try:
        return kind(**entry)
    except TypeError as error:
        raise UserError(f"{where}: {dict(entry)} is no such test ({error})") from None


def _difference(evidence: Evidence, first: str, second: str) -> Difference:
    assert evidence.comparison is not None
    difference = evidence.comparison.difference(first, second)
    if difference is None:
        raise KeyError(first)
    return difference


def _finding(word: str, systems: list[str], difference: Difference) -> Finding:
    return Finding(word, f"EER {systems[0]} − {systems[1]}", "+.2f", *difference)
