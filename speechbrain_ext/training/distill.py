"""Training of a student with a frozen teacher; ``brain.py`` has the loop that it goes through."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from torch import Tensor

from speechbrain_ext.corpora.manifest import Manifest, read_manifest
from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import embed_batch
from speechbrain_ext.interfaces import FrontEnd, Target, TeacherOutput
from speechbrain_ext.systems.settings import STUDENT
from speechbrain_ext.systems.train_log import figure_of
from speechbrain_ext.training.brain import Forward, SpeakerBrain
from speechbrain_ext.training.crops import CropBatch, utterance_of
from speechbrain_ext.training.first_weights import names_of, start_classifier, start_front_end
from speechbrain_ext.training.preflight import check_teacher, check_terms, noise
from speechbrain_ext.training.progress import (
    WEIGHT,
    WEIGHTED,
    share,
    valid_scores,
    warn_of_low_share,
)
from speechbrain_ext.verification.trials import TrialList


class DistillBrain(SpeakerBrain):
    """Classification, distillation and whatever other terms the YAML gives the loss.

    Without a teacher (``teacher: null``, alpha 0) it trains the student with labels alone; without
    a classifier (``classifier: null``, alpha 1), with the teacher alone: the best epoch is then the
    one that ranks the trials most as the teacher does, whatever is known of their speakers.
    """

    keys = STUDENT

    def __init__(self, hparams: dict[str, Any], run_opts: Any) -> None:
        super().__init__(hparams, run_opts)
        check_teacher(self.hparams)
        # Not among the modules: no optimiser, no checkpoint, no DDP.
        self.teacher = self.hparams.teacher
        if self.teacher is not None:
            self.teacher = self.teacher.to(self.device)
        self.teaching = self.meter.watch("teacher", torch.device(self.device))
        ranked = self.teacher is not None and self.teacher.embeds_speakers
        self.selects_by = figure_of(ranked, classified=self.hparams.classifier is not None)
        labelled = bool(self.train_data.manifest.speakers)
        if not labelled and _within_files(self.trials, read_manifest(self.hparams.valid_csv)):
            self.error_rates_of = "halves_"
        if self.hparams.classifier is not None:
            self.hparams.classifier.requires_grad_(not self.hparams.freeze_classifier)
        objective, kept = self.hparams.objective, self.checkpointer.recoverables
        if not objective.state_dict():
            kept.pop("objective", None)  # SpeechBrain would warn of it
        elif "objective" not in kept:
            self.checkpointer.add_recoverable("objective", objective)

    @property
    def learns_unlabelled(self) -> bool:
        """Whether it has a teacher, who needs no labels."""
        return self.hparams.objective.needs_teacher

    @property
    def wants_hidden(self) -> bool:
        """Whether a term of the loss may read hidden outputs."""
        return len(self.hparams.objective.terms) > 0

    def check(self) -> None:
        """Prepare the teacher, the first weights and the terms; try the loss on noise."""
        if "embedding_model" not in self.started:
            start_front_end(self.hparams)
        super().check()
        if self.teacher is not None:
            if self.teacher.embeds_speakers:
                self.teacher_scores = self._score_by_teacher()
            self.teacher.prepare(self.hparams.train_csv, self.hparams.speeds)
        if "classifier" not in self.started:
            start_classifier(self.hparams, self.label_encoder, self.device)
        speakers = names_of(self.label_encoder)
        self.hparams.objective.prepare(self.hparams.train_csv, speakers, self.device)
        self.modules.eval()
        with torch.no_grad():
            own, others = self.hparams.compute_features, self.hparams.augmentation.front_ends
            for front_end in (own, *others):  # which may differ in frames
                check_terms(partial(self._terms_of_noise, front_end))

    def _score_by_teacher(self) -> np.ndarray:
        """The teacher's scores (N,) of the validation trials."""
        vectors: dict[str, np.ndarray] = {}
        for batch in self.valid_utterances():
            vectors.update(embed_batch(self.teacher.embed, batch, self.device))
        scores = valid_scores(self.trials, vectors)
        if scores is None:
            raise UserError(
                f"the teacher's embeddings of {self.hparams.valid_csv} are not finite: look at its "
                "training, or give another teacher",
                code="bad-model",
            )
        return scores

    def _terms_of_noise(self, front_end: FrontEnd) -> dict[str, Tensor]:
        wavs = noise(self.hparams.crop_reader.samples, self.device)
        feats = self.hparams.mean_var_norm(front_end(wavs))
        forward = self.embed(wavs, wavs, None, feats)
        ids = self.train_data.manifest.ids
        target = Target(torch.tensor([0, len(self.label_encoder) - 1], device=self.device))
        places = [ids[0], ids[-1]], [0, 0]
        classification = None if forward.logits is None else forward.logits.mean()
        return self._objective(forward, (target,), *places, classification).terms

    # A step

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The terms of the student's loss."""
        utterances = [utterance_of(crop) for crop in batch.id]
        labels, mixing = batch.spk_id_encoded.data.squeeze(1), forward.mixing
        targets: tuple[Target, ...] = (Target(labels),)
        if mixing is not None:
            others = Target(labels[mixing.order], 1 - mixing.share)
            targets = (Target(labels, mixing.share), others)
        classification = None
        if forward.logits is not None:
            classification = self.classification_loss(forward, batch)
        return self._objective(forward, targets, utterances, batch.start, classification)

    def _objective(
        self,
        forward: Forward,
        targets: tuple[Target, ...],
        utterances: list[str],
        starts: list[int],
        classification: Tensor | None,
    ) -> Objective:
        teacher: TeacherOutput | None = None
        if self.teacher is not None:
            wavs = forward.clean if self.hparams.teacher_hears == "clean" else forward.corrupted
            with self.teaching:
                teacher = self.teacher(wavs, ids=utterances, starts=starts)
        logits = None if forward.logits is None else forward.logits.squeeze(1)
        student = forward.student._replace(logits=logits, targets=targets)
        return self.modules.objective(classification, student, teacher)

    # An epoch

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Tell the rule of alpha the epoch."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN:
            self.hparams.objective.alpha.start_epoch(self.epoch)

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Warn when the distillation hardly counts."""
        super().on_stage_end(stage, stage_loss, epoch)
        objective = self.hparams.objective
        if stage == sb.Stage.TRAIN and objective.needs_teacher:
            least = self.hparams.min_distillation_share
            warn_of_low_share(self.train_stats, objective, least, self.epoch)

    def epoch_figures(self, averages: dict[str, float]) -> dict[str, float]:
        """The share of all that listens to the teacher in the loss, besides those of the terms."""
        taught = [WEIGHTED + name for name in self.hparams.objective.teacher_terms]
        distilled = sum(averages.get(name, 0.0) for name in taught)
        return {"share": share(distilled, averages["loss"]), **super().epoch_figures(averages)}

    def epoch_meta(self, averages: dict[str, float]) -> dict[str, float]:
        """The weight of the distillation, averaged over the epoch, besides the margin."""
        alpha = averages.get(f"{WEIGHT}distillation", 0.0)
        return {"alpha": alpha, **super().epoch_meta(averages)}


def _within_files(trials: TrialList, manifest: Manifest) -> bool:
    """Whether all targets are between parts of one file: nobody knows who speaks in two."""
    places = manifest.ids.find(trials.names.tolist())
    _, files = np.unique([manifest.wavs[place] for place in places], return_inverse=True)
    same: np.ndarray = files[trials.enrol_index] == files[trials.test_index]
    return bool(same[trials.labels].all())
