#!/usr/bin/env python3
"""Distil a student from a frozen teacher.

python train_distill.py hparams/v2.yaml --corpus_dir data/mini [--alpha 0.5 --key value ...]
torchrun --standalone --nproc_per_node 4 train_distill.py hparams/v2.yaml ...
"""

from __future__ import annotations

import sys
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.logger import get_logger

from local.brain import Forward, SpeakerBrain
from local.data import CropBatch, utterance_of
from local.figures import SECONDS, WEIGHT, WEIGHTED, share
from local.rehearsal import noise
from local.stopwatch import Stopwatch
from local.training import run_training
from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.distill.outputs import TeacherOutput
from speechbrain_ext.errors import UserError, friendly_exit

logger = get_logger(__name__)

HEARS = ("clean", "corrupted")
# Settings of a front end, by the keys of hparams/shared/ssl.yaml where they have another name.
FRONT_END_KEYS = {"channels": "conv_channels", "bias": "conv_bias"}
FRONT_END_KEYS |= {"layer_norm": "conv_layer_norm", "normalize": "normalize_wav"}


class DistillBrain(SpeakerBrain):
    """Classification, distillation and whatever other terms the YAML gives the loss.

    Without a teacher (``teacher: null``, alpha 0) it trains the student with labels alone.
    """

    needs = SpeakerBrain.needs | {
        "teacher",
        "teacher_hears",
        "objective",
        "classifier_start",
        "freeze_classifier",
        "min_distillation_share",
    }
    # run.sh gives teacher_folder to every student of the mel path.
    reads = SpeakerBrain.reads | needs | {"teacher_folder", "front_end_start"}

    def __init__(self, hparams: dict[str, Any], run_opts: Any) -> None:
        super().__init__(hparams, run_opts)
        self._check_settings()
        # Not among the modules: no optimiser, no checkpoint, no DDP.
        self.teacher = self.hparams.teacher
        if self.teacher is not None:
            self.teacher = self.teacher.to(self.device)
        self.teaching = Stopwatch(torch.device(self.device))
        self.hparams.classifier.requires_grad_(not self.hparams.freeze_classifier)
        objective, kept = self.hparams.objective, self.checkpointer.recoverables
        if not objective.state_dict():
            kept.pop("objective", None)  # SpeechBrain would warn of it
        elif "objective" not in kept:
            self.checkpointer.add_recoverable("objective", objective)

    @property
    def wants_hidden(self) -> bool:  # type: ignore[override]
        """Whether a term of the loss may read hidden outputs."""
        return len(self.hparams.objective.terms) > 0

    def _check_settings(self) -> None:
        hparams = self.hparams
        if hparams.teacher_hears not in HEARS:
            raise UserError(
                f"teacher_hears must be {' or '.join(HEARS)}, got {hparams.teacher_hears!r}"
            )
        if hparams.teacher is None:
            if hparams.objective.needs_teacher:
                raise UserError(
                    "teacher is null, but the loss listens to one: set alpha to 0 and leave out "
                    "terms that need it, or name a teacher"
                )
        elif not hparams.teacher.hears:
            whole = {"mixup": 0, "teacher_hears": "clean", "speeds": [1.0]}
            for key, value in whole.items():
                if getattr(hparams, key) != value:
                    raise UserError(
                        f"{type(hparams.teacher).__name__} gives embeddings of whole utterances "
                        f"as they are, so it cannot follow {key} {getattr(hparams, key)}: use "
                        f"FrozenTeacher, or {key} {value}"
                    )

    def check(self) -> None:
        """Prepare the teacher and the first weights; try the loss on noise."""
        if "embedding_model" not in self.started:
            self._start_front_end()
        super().check()
        if self.teacher is not None:
            self.teacher.prepare(self.hparams.train_csv)
        if "classifier" not in self.started and self.hparams.classifier_start is not None:
            self._start_classifier()
        self._try_loss()

    def _start_front_end(self) -> None:
        source = getattr(self.hparams, "front_end_start", None)
        if source is None:
            return
        if not hasattr(source, "front_end_settings"):
            raise ValueError(
                f"front_end_start: {type(source).__name__} has no convolutions that a student can "
                "begin with: the teacher must be a WavLM, HuBERT or wav2vec 2.0, fine-tuned by "
                "hparams/ssl/wavlm_finetuned.yaml or as it is"
            )
        front_end = self.hparams.embedding_model.front_end
        for key, value in source.front_end_settings.items():
            own = front_end.settings[key]
            if own != value:
                raise ValueError(
                    f"front_end_start: the teacher's front end has {key} {value} and the student's "
                    f"{own}: set {FRONT_END_KEYS.get(key, key)} to the teacher's, or "
                    "front_end_start to null"
                )
        front_end.load_state_dict(source.front_end_state())

    def _start_classifier(self) -> None:
        speakers = [self.label_encoder.ind2lab[i] for i in range(len(self.label_encoder))]
        weights = self.hparams.classifier_start.weights(
            self.hparams.train_csv, speakers, self.device
        )
        classifier = self.hparams.classifier
        if weights.shape != classifier.weight.shape:
            raise ValueError(
                f"classifier_start gives weights of shape {tuple(weights.shape)}, and the "
                f"classifier has {tuple(classifier.weight.shape)}: set lin_neurons to the teacher's"
            )
        with torch.no_grad():
            classifier.weight.copy_(weights)

    def _try_loss(self) -> None:
        ids = self.train_data.manifest.ids
        utterances = [ids[0], ids[-1]]
        wavs = noise(self.hparams.crop_reader.samples, self.device)
        self.modules.eval()
        with torch.no_grad():
            feats = self.hparams.mean_var_norm(self.hparams.compute_features(wavs))
            forward = self.embed(wavs, wavs, None, feats)
            terms = self._objective(forward, utterances, forward.logits.mean()).terms
        for name, value in terms.items():
            if not isinstance(value, torch.Tensor) or value.dim() or not value.isfinite():
                raise ValueError(f"the term {name} of the loss gives {value}, not a finite scalar")

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The terms of the student's loss."""
        utterances = [utterance_of(crop) for crop in batch.id]
        return self._objective(forward, utterances, self.classification_loss(forward, batch))

    def _objective(
        self, forward: Forward, utterances: list[str], classification: torch.Tensor
    ) -> Objective:
        teacher: TeacherOutput | None = None
        if self.teacher is not None:
            wavs = forward.clean if self.hparams.teacher_hears == "clean" else forward.heard
            with self.teaching:
                teacher = self.teacher(wavs, ids=utterances)
        return self.modules.objective(classification, forward.student, teacher)

    def epoch_figures(self, averages: dict[str, float]) -> dict[str, float]:
        """The share of all that listens to the teacher in the loss, besides those of the terms."""
        told = [WEIGHTED + name for name in self.hparams.objective.teacher_terms]
        distilled = sum(averages.get(name, 0.0) for name in told)
        return {"share": share(distilled, averages["loss"]), **super().epoch_figures(averages)}

    def epoch_meta(self, averages: dict[str, float]) -> dict[str, float]:
        """The weight of the distillation, averaged over the epoch."""
        return {"alpha": averages.get(f"{WEIGHT}distillation", 0.0)}

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Tell the rule of alpha the epoch."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN:
            self.hparams.objective.alpha.start_epoch(self.epoch)

    def on_fit_batch_end(
        self, batch: CropBatch, outputs: Forward | None, loss: torch.Tensor, should_step: bool
    ) -> None:
        """Note what the teacher cost."""
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        self.meter.sums[f"{SECONDS}teacher"] += self.teaching.take()

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Warn when the distillation hardly counts."""
        super().on_stage_end(stage, stage_loss, epoch)
        if stage == sb.Stage.TRAIN and self.hparams.objective.needs_teacher:
            stats, least = self.train_stats, self.hparams.min_distillation_share
            if stats["share"] < least:
                told = [*self.hparams.objective.teacher_terms, "classification"]
                terms = ", ".join(f"{name} {stats[name]:.6f}" for name in told if name in stats)
                weights = "alpha" if self.hparams.objective.distillation else "term_weights"
                logger.warning(
                    f"Distillation was {stats['share']:.1%} of the loss in epoch {epoch}, under "
                    f"{least:.0%} ({terms}): raise {weights} or choose another distillation"
                )


if __name__ == "__main__":
    with friendly_exit():
        run_training(DistillBrain, sys.argv[1:])
