"""A loss as named, weighted terms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from speechbrain_ext.distill.alpha import Alpha
from speechbrain_ext.distill.losses import projected
from speechbrain_ext.interfaces import EmbeddingLoss, StudentOutput, TeacherOutput, Term
from speechbrain_ext.systems.train_log import CORRECT, LABELLED, NOT_A_TERM

# Names of other figures that a training counts and logs.
_TAKEN = {"classification", "distillation", "loss", "weight", "waited", LABELLED, CORRECT}
_TAKEN |= NOT_A_TERM


class Objective(NamedTuple):
    """The value of every term of a loss, and its weight in the total.

    Example
    -------
    >>> import torch
    >>> terms = {"a": torch.tensor(2.0), "b": torch.tensor(4.0)}
    >>> objective = Objective(terms, {"a": 0.5, "b": 0.25})
    >>> objective.total
    tensor(2.)
    """

    terms: dict[str, Tensor]
    weights: dict[str, float | Tensor]

    @property
    def total(self) -> Tensor:
        """The weighted sum, a scalar."""
        products = [self.weights[name] * term for name, term in self.terms.items()]
        return sum(products[1:], start=products[0])


def check_weights(
    least: float, most: float, term_weights: Mapping[str, float], classifies: bool = True
) -> None:
    """Refuse weights that sum to more than 1, or to less where there is no classification.

    Arguments
    ---------
    least, most : float
        Between which alpha moves.
    term_weights : mapping
        The weights of the further terms.
    classifies : bool
        Whether there is a classification, which has what is left to 1.

    Raises
    ------
    ValueError
        Naming the alpha that would do.

    Example
    -------
    >>> check_weights(0.5, 0.5, {"contrast": 0.5}, classifies=False)
    >>> check_weights(0.7, 0.7, {"contrast": 0.5})
    Traceback (most recent call last):
    ValueError: alpha 0.7 and term_weights {'contrast': 0.5} sum to more than 1: lower alpha to ...
    """
    rest = 1 - sum(term_weights.values())
    if most > rest + 1e-9:
        raise ValueError(
            f"alpha {most:g} and term_weights {dict(term_weights)} sum to more than 1: lower alpha "
            f"to {max(rest, 0):g} or less, or the weights"
        )
    if not classifies and least < rest - 1e-9:
        raise ValueError(
            f"classifier is null, but alpha {least:g} and term_weights {dict(term_weights)} leave "
            f"{rest - least:g} of 1 to the classification: raise alpha to {rest:g}, or give a "
            "classifier"
        )


class DistillationObjective(nn.Module):
    """``alpha * distillation``, further terms with their weights, classification with the rest.

    The weights sum to 1: with alpha 0.4 and one further term of weight 0.3 the classification has
    0.3. A student without a classifier has no classification; alpha and the terms' weights must
    then sum to 1 themselves. What the terms learn (projections, decoders) belongs to this module,
    not to the student. A teacher that has no embedding of speakers teaches by further terms alone.

    Arguments
    ---------
    distillation : EmbeddingLoss or None
        None leaves the term out.
    alpha : Alpha
        Rule for the weight of the distillation; 0 where there is none.
    terms : mapping, optional
        Further terms by name, each a :class:`~speechbrain_ext.interfaces.Term`.
    term_weights : mapping, optional
        Their weights, positive.
    projection : Module, optional
        Takes the student's embeddings to the teacher's size, for the distillation; a term has one
        of its own, or is given this one.

    Raises
    ------
    ValueError
        When the names of terms and weights differ, the weights leave less than nothing to the
        classification, or alpha or the projection is for a distillation that is not there; when
        the distillation or the projection is no module.

    Example
    -------
    >>> import torch
    >>> from speechbrain_ext.distill.losses import CosineDistillation
    >>> objective = DistillationObjective(CosineDistillation(), Alpha(0.7))
    >>> x = torch.randn(4, 512)
    >>> student, teacher = StudentOutput(x, {}, x), TeacherOutput(-x, {})
    >>> round(float(objective(torch.tensor(3.0), student, teacher).total), 4)
    2.3
    """

    def __init__(
        self,
        distillation: EmbeddingLoss | None,
        alpha: Alpha,
        terms: Mapping[str, Term] | None = None,
        term_weights: Mapping[str, float] | None = None,
        projection: nn.Module | None = None,
    ) -> None:
        super().__init__()
        terms, term_weights = dict(terms or {}), dict(term_weights or {})
        if terms.keys() != term_weights.keys():
            raise ValueError(
                f"term_weights has {sorted(term_weights)} and terms has {sorted(terms)}: give each "
                "term its weight"
            )
        for name, term in terms.items():
            if name in _TAKEN or name.startswith("share_") or "/" in name:
                raise ValueError(
                    f"terms: {name} is a name of the training log's own: choose another name"
                )
            if not isinstance(getattr(term, "uses_teacher", None), bool):
                raise ValueError(
                    f"terms: {name} ({type(term).__name__}) has no class attribute uses_teacher: "
                    "set it to True, or to False for a term that does not listen to the teacher"
                )
        if any(weight <= 0 for weight in term_weights.values()):
            raise ValueError(f"term_weights must be positive, got {term_weights}")
        if distillation is None and alpha.maximum > 0:
            raise ValueError(
                f"alpha is {alpha.maximum} and distillation is null: set alpha to 0, or name a "
                "distillation"
            )
        check_weights(alpha.least, alpha.maximum, term_weights)
        for name, part in (("distillation", distillation), ("projection", projection)):
            if part is not None and not callable(part):
                raise ValueError(f"{name} is {part!r}, and must be a loss or a layer, by !new:")
        if distillation is None and projection is not None:
            raise ValueError(
                f"projection is {type(projection).__name__}, which is for the distillation alone, "
                "and distillation is null: set projection to null"
            )
        self.distillation, self.alpha, self.projection = distillation, alpha, projection
        self.terms = nn.ModuleDict(terms)
        self.term_weights = term_weights

    @property
    def teacher_terms(self) -> list[str]:
        """Names of the terms that listen to the teacher."""
        own = [] if self.distillation is None else ["distillation"]
        return [*own, *self._further_teacher_terms]

    @property
    def _further_teacher_terms(self) -> list[str]:
        return [name for name, term in self.terms.items() if term.uses_teacher]

    @property
    def needs_teacher(self) -> bool:
        """Whether anything with a weight listens to the teacher."""
        return self.alpha.maximum > 0 or bool(self._further_teacher_terms)

    def prepare(
        self,
        manifest: str | os.PathLike[str],
        speakers: Sequence[str],
        device: str | torch.device = "cpu",
    ) -> None:
        """Have every term get ready for a training, as :class:`Term` says."""
        for term in self.terms.values():
            prepare = getattr(term, "prepare", None)  # one that inherits from nobody may lack it
            if callable(prepare):
                prepare(manifest, speakers, device)

    def forward(
        self, classification: Tensor | None, student: StudentOutput, teacher: TeacherOutput | None
    ) -> Objective:
        """Join the classification loss (a scalar) with the terms of the networks' outputs.

        Without a classifier there is no classification loss.

        Raises
        ------
        ValueError
            When the sizes of what is compared differ.
        """
        values: dict[str, Tensor] = {}
        weights: dict[str, float | Tensor] = {}
        alpha: float | Tensor = 0.0
        if teacher is not None and self.distillation is not None:
            embedding = projected(student.embedding, self.projection)
            values["distillation"] = self.distillation(embedding, teacher.embedding)
            if classification is None:
                alpha = self.alpha.maximum  # which is the least, too
            else:
                alpha = self.alpha(classification, values["distillation"], student.embedding)
            weights["distillation"] = alpha
        for name, term in self.terms.items():
            values[name] = term(student, teacher)
            weights[name] = self.term_weights[name]
        if classification is None:
            return Objective(values, weights)
        rest = 1 - alpha - sum(self.term_weights.values())
        return Objective(
            {"classification": classification, **values}, {"classification": rest, **weights}
        )
