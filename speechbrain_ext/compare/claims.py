"""Claims, and what decides them: the evidence that was collected, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from speechbrain_ext.compare.collect import Evidence, ListEvidence
from speechbrain_ext.compare.plan import Plan
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.comparison import FUSED, Comparison, Difference

CONFIRMED, CONTRADICTED, NOT_DECIDED = "confirmed", "contradicted", "not decided"
_ENTRY = {"id", "claim", "source", "documents", "test", "untested"}


class Finding(NamedTuple):
    """What was found, with its figures: of what they are, and how they are written."""

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

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """Hold the claim against the evidence, where it is ``on_trials`` the error rates."""


def decide(low: float | None, high: float | None, threshold: float) -> str:
    """Whether "less than the threshold" holds, when the truth lies between the two bounds.

    Example
    -------
    >>> decide(-2.0, -1.0, 0.0), decide(1.0, 2.0, 0.0), decide(-1.0, 1.0, 0.0)
    ('confirmed', 'contradicted', 'not decided')
    >>> decide(None, None, 0.0)
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

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """By the interval of the difference against 0."""
        difference = _difference(comparison, self.better, self.worse)
        return _finding(decide(difference.low, difference.high, 0.0), self.systems, difference)


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

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """By the interval of the difference against the margin."""
        difference = _difference(comparison, self.eer, self.of)
        word = decide(difference.low, difference.high, self.within)
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

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """By the interval of the difference against the margin on both sides."""
        difference = _difference(comparison, *self.equal)
        low, high = difference.low, difference.high
        words = {decide(low, high, self.within)}
        if low is not None and high is not None:
            words.add(decide(-high, -low, self.within))
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

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """By the least and the greatest share of its seeds."""
        shares = evidence.shares[self.share]
        low, high = min(shares), max(shares)
        if self.above is None:
            assert self.below is not None
            word = decide(low, high, self.below)
        else:
            word = decide(-high, -low, -self.above)
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

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """By the slowest and the fastest rounds of the two."""
        own, other = evidence.rates[self.speed], evidence.rates[self.of]
        low, high = own.slowest / other.fastest, own.fastest / other.slowest
        word = decide(-high, -low, -self.at_least)
        what = f"utterances/s, {self.speed} / {self.of}"
        return Finding(word, what, ".2f", own.median / other.median, low, high)


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

    @property
    def on_trials(self) -> bool:
        """Whether it is about error rates, which every test list may decide otherwise."""
        return self.test is not None and self.test.on_trials

    @property
    def systems(self) -> list[str]:
        """The systems that its test looks at."""
        return [] if self.test is None else self.test.systems

    def find(self, evidence: Evidence, comparison: Comparison | None) -> Finding:
        """Hold it against the evidence; not decided where a system has not been run."""
        if self.test is None:
            return Finding(NOT_DECIDED, f"not tested: {self.untested}")
        try:
            return self.test.find(evidence, comparison)
        except KeyError:
            return Finding(NOT_DECIDED, f"not all there: {', '.join(self.systems)}")


class Verdict(NamedTuple):
    """What became of a claim on a trial list; on none, for one that is not about error rates."""

    claim: Claim
    on: ListEvidence | None
    finding: Finding


def judge(claims: Sequence[Claim], evidence: Evidence) -> list[Verdict]:
    """Hold the claims about error rates against every test list, the others against the rest."""
    found = []
    for on in evidence.tests:
        for claim in claims:
            if claim.on_trials:
                found.append(Verdict(claim, on, claim.find(evidence, on.comparison)))
    for claim in claims:
        if not claim.on_trials:
            found.append(Verdict(claim, None, claim.find(evidence, None)))
        elif not evidence.tests:
            found.append(Verdict(claim, None, Finding(NOT_DECIDED, "there is no test list")))
    return found


def read_claims(plan: Plan) -> list[Claim]:
    """The claims of a comparison's YAML file.

    Raises
    ------
    UserError
        When an entry lacks a key, has an unknown one, or names a system that is not in the file.
    """
    return [_claim(entry, plan) for entry in plan.claims]


def _claim(entry: Mapping[str, Any], plan: Plan) -> Claim:
    where = f"{plan.name}: claim {entry.get('id', entry)}"
    unknown, missing = set(entry) - _ENTRY, {"id", "claim", "source"} - set(entry)
    if unknown or missing or ("test" in entry) == ("untested" in entry):
        raise UserError(
            f"{where}: it needs id, claim, source and either test or untested; "
            f"it has {', '.join(entry)}",
            code="bad-claim",
        )
    texts = {key: str(value) for key, value in entry.items() if key != "test"}
    test = _test(entry["test"], where) if "test" in entry else None
    if test is not None:
        for name in test.systems:
            for part in name.split(FUSED):
                if part not in plan.systems and part not in plan.left_out:
                    raise UserError(f"{where}: there is no system {part}", code="unknown-name")
    return Claim(**texts, test=test)


def _test(entry: Mapping[str, Any], where: str) -> Test:
    kind = next((KINDS[key] for key in entry if key in KINDS), None)
    if kind is None:
        raise UserError(
            f"{where}: a test begins with one of {', '.join(KINDS)}, not {dict(entry)}",
            code="bad-claim",
        )
    try:
        return kind(**entry)
    except TypeError as error:
        raise UserError(
            f"{where}: {dict(entry)} is no such test ({error})", code="bad-claim"
        ) from None


def _difference(comparison: Comparison | None, first: str, second: str) -> Difference:
    difference = None if comparison is None else comparison.difference(first, second)
    if difference is None:
        raise KeyError(first)
    return difference


def _finding(word: str, systems: list[str], difference: Difference) -> Finding:
    return Finding(word, f"EER {systems[0]} − {systems[1]}", "+.2f", *difference)
