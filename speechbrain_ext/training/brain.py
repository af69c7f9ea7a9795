"""The loop that trains a speaker-embedding network.

A step, in the order in which it is gone through; what has no remark is below:

    fit_batch                 leaves out crops that could not be read
      on_fit_batch_start      draws the step's random numbers from its place
      compute_forward         augments, embeds and classifies the crops: a ``Forward``
      compute_objectives      weighs the terms that ``objective`` of the subclass gives: the loss
      check_loss_isfinite     notes the batch's figures, or leaves the batch out
      backward                SpeechBrain's, scaled as the precision needs
      optimizers_step         SpeechBrain's: gradients are clipped; once in so many batches
      on_fit_batch_end        notes what the batch cost

What is checked before training stands in ``preflight.py``, what is noted in ``progress.py``, what
is saved in ``checkpoints.py``, and what networks begin with in ``first_weights.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from torch import Tensor
from torch.utils.data import DataLoader

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import UtteranceBatch, embed_batch, utterance_loader
from speechbrain_ext.interfaces import HiddenOutputs, StudentOutput
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.nnet.distributed import sync_batch_norm_on_cpu
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.systems.settings import TEACHER
from speechbrain_ext.systems.train_log import CORRECT, EER, LABELLED, Figure
from speechbrain_ext.training.augmentation import Mixing
from speechbrain_ext.training.checkpoints import (
    TRAINED,
    delete_others,
    explain_write_errors,
    keep_best,
    save_checkpoint,
    set_damaged_aside,
)
from speechbrain_ext.training.crops import (
    CropBatch,
    CropDataset,
    EpochOrder,
    crop_loader,
    encode_speakers,
)
from speechbrain_ext.training.first_weights import start_from
from speechbrain_ext.training.preflight import check_labels, check_steps, check_training
from speechbrain_ext.training.progress import (
    WEIGHT,
    WEIGHTED,
    EpochMeter,
    averages_of,
    costs_of,
    peak_memory,
    share,
    valid_figures,
    valid_scores,
)
from speechbrain_ext.training.schedules import before_step, by_epoch
from speechbrain_ext.verification.trials import read_trials

logger = get_logger(__name__)


class Forward(NamedTuple):
    """What the networks made of a batch: embeddings (B, D), speaker logits (B, 1, S).

    A student without a classifier has no logits.
    """

    clean: Tensor  # waveforms (B, samples), as recorded
    corrupted: Tensor  # and as the student heard them
    mixing: Mixing | None  # how crops were mixed, in both
    student: StudentOutput
    logits: Tensor | None


class SpeakerBrain(sb.Brain):
    """Trains a speaker-embedding network on crops and selects it by trials of held-out speakers.

    A subclass gives ``objective(forward, batch)``, the weighted terms of its loss, and may add to
    ``check`` and ``epoch_figures``.
    """

    #: Keys of a YAML that this class reads.
    keys = TEACHER
    #: The figure of validation by which the best epoch is selected.
    selects_by: Figure = EER
    #: Before the names of validation's error rates where they are none of speakers: ``halves_``.
    error_rates_of = ""
    checkpointer: sb.utils.checkpoints.Checkpointer

    def __init__(self, hparams: dict[str, Any], run_opts: Any) -> None:
        if hparams["classifier"] is None:
            hparams["checkpointer"].recoverables.pop("classifier", None)
        super().__init__(
            modules={name: part for name, part in hparams["modules"].items() if part is not None},
            opt_class=hparams["opt_class"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
        self.process, self.processes = 0, 1
        if self.distributed_launch:
            self.process = torch.distributed.get_rank()
            self.processes = torch.distributed.get_world_size()
        check_labels(self.hparams, self.learns_unlabelled)
        # The bare modules, not their DDP wrappers: validation must not wait for other processes.
        self.encoder = SpeakerEncoder(
            hparams["compute_features"], hparams["mean_var_norm"], hparams["embedding_model"]
        )
        self.label_encoder = encode_speakers(
            self.hparams.train_csv, self.hparams.speeds, self.hparams.num_speakers
        )
        if if_main_process():
            save_folder = Path(self.hparams.save_folder)
            save_folder.mkdir(parents=True, exist_ok=True)
            if self.hparams.classifier is not None:  # whose rows these are
                self.label_encoder.save(save_folder / "label_encoder.txt")
        self.train_data = CropDataset(
            self.hparams.train_csv,
            self.hparams.crop_reader,
            self.label_encoder,
            self.hparams.crops_per_utterance,
            self.hparams.speeds,
            labelled_only=not self.learns_unlabelled,
        )
        if left_out := len(self.train_data.manifest) - len(self.train_data.places):
            logger.info(f"{left_out} utterances without a label are not learnt from")
        self.order = EpochOrder(
            len(self.train_data),
            self.hparams.seed,
            self.process,
            self.processes,
            self.hparams.drop_last,
        )
        self.trials = read_trials(self.hparams.valid_trials)
        self.teacher_scores: np.ndarray | None = None  # of these trials
        self.meter = EpochMeter()
        self.checkpointer.add_recoverable("meter", self.meter)
        # The mean that is made in the end needs as many of the best.
        self.kept = max(self.hparams.keep_checkpoints, self.hparams.average_checkpoints)
        self.hparams.augmentation.to(self.device)  # which has front ends of its own
        self.started: set[str] = set()  # the networks that have their first weights

    def train(self) -> None:
        """Train to the last epoch, from the last checkpoint if there is one; keep the best."""
        # Before anything depends on which checkpoints there are.
        set_damaged_aside(self.checkpointer)
        delete_others(self.checkpointer, self.kept, self.selects_by)
        if self.checkpointer.list_checkpoints():
            self.started = set(TRAINED)
        else:
            self.started = start_from(self.hparams, self.label_encoder)
        try:
            self.check()
        except ValueError as error:
            raise UserError(str(error), code="bad-setting") from None
        crops = crop_loader(
            self.train_data,
            self.order,
            self.hparams.batch_size,
            self.hparams.drop_last,
            self.hparams.num_workers,
            pin_memory=self.device_type == "cuda",
        )
        self.checkpointer.add_recoverable("dataloader-TRAIN", crops)
        self.steps_per_epoch = len(crops)
        check_steps(
            len(self.train_data),
            self.hparams.batch_size,
            self.processes,
            self.steps_per_epoch,
            self.grad_accumulation_factor,
        )
        utterances = self.valid_utterances()
        self.fit(self.hparams.epoch_counter, crops, utterances, progressbar=False)
        with explain_write_errors(self.hparams.output_folder):
            keep_best(self.checkpointer, self.hparams, self.selects_by)

    def valid_utterances(self) -> DataLoader[UtteranceBatch | UserError]:
        """This process's share of the whole utterances of validation, in batches."""
        return utterance_loader(
            read_manifest(self.hparams.valid_csv),
            self.hparams.max_batch_seconds,
            rank=self.process,
            world_size=self.processes,
        )

    def check(self) -> None:
        """Refuse what would fail or mislead later; nothing has been trained yet."""
        check_training(self.hparams, self.trials, self.encoder, self.device)

    @property
    def learns_unlabelled(self) -> bool:
        """Whether the loss has a use for speech without labels."""
        return False

    def _wrap_distributed(self) -> None:
        if self.distributed_launch and self.device_type == "cpu":
            for module in self.modules.values():
                sync_batch_norm_on_cpu(module)
        super()._wrap_distributed()

    # A step

    def fit_batch(self, batch: CropBatch) -> Tensor:
        """Learn from what could be read of a batch, unless that is too little to normalise."""
        self.meter.count_unreadable(
            batch.unreadable,
            self.epoch,
            self.steps_per_epoch * self.hparams.batch_size,
            self.hparams.max_unreadable,
        )
        crops = len(batch.id)
        if crops and crops * self.processes > 1:
            return super().fit_batch(batch)
        if self.processes > 1:  # which would wait for this one's gradients
            raise UserError(
                f"no crop of a batch of epoch {self.epoch} could be read in process "
                f"{self.process}, last {batch.unreadable[-1]}: mend the files or run stage 1 again",
                code="unusable-audio",
            )
        should_step = self.step % self.grad_accumulation_factor == 0
        self.on_fit_batch_start(batch, should_step)
        self.meter.sums["skipped"] += crops
        if should_step and any(weight.grad is not None for weight in self.modules.parameters()):
            self.optimizers_step()
        loss = torch.zeros(())
        self.on_fit_batch_end(batch, None, loss, should_step)
        return loss

    def on_fit_batch_start(self, batch: CropBatch, should_step: bool) -> None:
        """Note the wait for the batch; take random numbers and rate from the step's place alone."""
        self.meter.batch_read()
        middle = self.epoch - 1 + (self.step - 0.5) / self.steps_per_epoch
        before_step(self.hparams.lr_annealing, self.optimizer, middle)
        place = np.random.SeedSequence([self.hparams.seed, self.epoch, self.step, self.process])
        torch.manual_seed(int(place.generate_state(1)[0]))

    def compute_forward(self, batch: CropBatch, stage: sb.Stage) -> Forward:
        """Augment, embed and classify the crops of a batch; they are all of one length."""
        clean = batch.to(self.device).sig.data
        augmentation = self.hparams.augmentation
        corrupted = augmentation.waveforms(clean)
        mixing = augmentation.mixing(len(clean), self.device)
        if mixing is not None:
            clean, corrupted = mixing(clean), mixing(corrupted)
        compute_features = augmentation.front_end(self.modules.compute_features)
        feats = self.modules.mean_var_norm(compute_features(corrupted))
        return self.embed(clean, corrupted, mixing, augmentation.features(feats))

    @property
    def wants_hidden(self) -> bool:
        """Whether the loss reads hidden outputs of the embedding model."""
        return False

    def embed(
        self, clean: Tensor, corrupted: Tensor, mixing: Mixing | None, feats: Tensor
    ) -> Forward:
        """Embed and classify features (B, T, F)."""
        hidden = HiddenOutputs()
        if self.wants_hidden:
            embedding, layers = self.modules.embedding_model(feats, intermediates=True)
            hidden = HiddenOutputs(zip(self.hparams.embedding_model.layers, layers, strict=True))
        else:
            embedding = self.modules.embedding_model(feats)
        embedding = embedding.squeeze(1)
        logits = None
        if self.hparams.classifier is not None:
            # Under AMP a cosine would have some three digits: too few for a margin.
            with torch.autocast(self.device_type, enabled=False):
                logits = self.modules.classifier(embedding.float().unsqueeze(1))
        return Forward(clean, corrupted, mixing, StudentOutput(embedding, hidden, feats), logits)

    def compute_objectives(self, predictions: Forward, batch: CropBatch, stage: sb.Stage) -> Tensor:
        """The loss of a batch; its terms and their weights are its figures, and its hits."""
        objective = self.objective(predictions, batch)
        weights = objective.weights
        self.batch_ids = batch.id
        self.batch_figures = {
            "loss": objective.total,
            **objective.terms,
            **{WEIGHT + name: weight for name, weight in weights.items()},
            **{WEIGHTED + name: weights[name] * term for name, term in objective.terms.items()},
        }
        self.batch_counts: dict[str, Tensor] = {}
        if predictions.logits is not None:
            labels = batch.spk_id_encoded.data.squeeze(1)
            hits = predictions.logits.squeeze(1).argmax(-1) == labels
            self.batch_counts = {LABELLED: (labels >= 0).sum(), CORRECT: hits.sum()}
        return objective.total

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The terms of the loss of a batch, and their weights."""
        raise NotImplementedError

    def classification_loss(self, forward: Forward, batch: CropBatch) -> Tensor:
        """Additive angular margin softmax against the speakers, in float32.

        It is the mean over the crops with a label, of all processes; zero where there are none.
        """
        assert forward.logits is not None  # there is a classifier
        labels = batch.spk_id_encoded.data  # (B, 1)
        loss = self._of_labelled(forward.logits, labels)
        if forward.mixing is None:
            return loss
        other = self._of_labelled(forward.logits, labels[forward.mixing.order])
        return forward.mixing.share * loss + (1 - forward.mixing.share) * other

    def _of_labelled(self, logits: Tensor, labels: Tensor) -> Tensor:
        if not self.train_data.unlabelled:
            return self.hparams.compute_cost(logits, labels)
        known = labels.squeeze(1) >= 0
        own = known.sum().float()
        everywhere = own.clone()
        if self.processes > 1:  # whose gradients DDP averages as if each had as many
            torch.distributed.all_reduce(everywhere)
        if own:
            loss = self.hparams.compute_cost(logits[known], labels[known])
        else:  # all the same a function of every weight, as DDP needs
            loss = 0 * logits.sum()
        return loss * (self.processes * own / everywhere.clamp(min=1))

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Put a batch's figures into the epoch's, unless the loss is not finite.

        Then name its utterances, and stop when patience ends.
        """
        if torch.isfinite(loss):
            self.meter.add(len(self.batch_ids), **self.batch_figures)
            self.meter.count(**self.batch_counts)
            return
        self.meter.sums["nonfinite"] += 1
        logger.warning(f"The loss is {loss.item()} in a batch of: {', '.join(self.batch_ids)}")
        try:
            super().check_loss_isfinite(loss)
        except ValueError:
            raise UserError(
                f"the loss was not finite in more than {self.nonfinite_patience} batches of epoch "
                f"{self.epoch}, last with the utterances {', '.join(self.batch_ids)}: look at "
                "them, or lower --lr",
                code="diverged",
            ) from None

    def on_fit_batch_end(
        self, batch: CropBatch, outputs: Forward | None, loss: Tensor, should_step: bool
    ) -> None:
        """Note what the batch cost, and move the progress bar."""
        self.meter.batch_done()
        self.bar.update()
        if self.meter.weight and not self.bar.disable:
            averages = self.meter.averages()
            shown = {k: v for k, v in averages.items() if k in ("loss", "accuracy")}
            shown |= self.epoch_figures(averages)
            figures = {name: f"{value:.3f}" for name, value in shown.items()}
            self.bar.set_postfix(figures, refresh=False)

    # An epoch

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the figures; tell the data the epoch."""
        self.stage_start = time.perf_counter()
        if stage == sb.Stage.VALID:
            self.valid_embeddings: dict[str, np.ndarray] = {}
            return
        self.epoch = epoch or 0
        if self.step == 0:
            self.meter.reset()
        self.hparams.crop_reader.epoch = self.epoch
        self.order.epoch = self.epoch
        if hasattr(self.hparams.compute_cost, "start_epoch"):  # of a margin that grows
            self.hparams.compute_cost.start_epoch(self.epoch)
        self.bar = progress_bar(
            desc=f"epoch {epoch}/{self.hparams.epoch_counter.limit}",
            total=self.steps_per_epoch,
            initial=self.step,
            dynamic_ncols=True,
            disable=self.noprogressbar or not if_main_process(),
        )
        self.meter.await_batch()

    def evaluate_batch(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Embed a batch of whole utterances."""
        with self.evaluation_ctx:
            self.valid_embeddings.update(embed_batch(self.encoder, batch, self.device))
        return torch.zeros(())

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """After training, average the figures; after validation, score, log and save."""
        if stage == sb.Stage.TRAIN:
            self.bar.close()
            totals = self.meter.totals()
            averages = averages_of(totals, self.epoch)
            self.train_meta = self.epoch_meta(averages)
            self.train_stats = {
                **{name: value for name, value in averages.items() if "/" not in name},
                **self.epoch_figures(averages),
                **costs_of(totals, self.processes),
                **peak_memory(self.device),
            }
            return
        scores = valid_scores(self.trials, self.valid_embeddings)
        if scores is None:
            raise UserError(
                f"the embeddings of {self.hparams.valid_csv} are not finite after epoch "
                f"{self.epoch}: the training has diverged, lower --lr",
                code="diverged",
            )
        given = (scores, self.trials.labels, self.teacher_scores)
        valid_stats = valid_figures(*given, self.error_rates_of)
        valid_stats["seconds"] = time.perf_counter() - self.stage_start
        found = valid_stats[self.selects_by.key]
        lr = self._anneal(self.selects_by.cost(found))
        # First the log: after a kill between the two the epoch is run again, and its line replaced.
        with explain_write_errors(self.hparams.output_folder):
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": lr, **self.train_meta}, self.train_stats, valid_stats
            )
        self._checkpoint({"epoch": epoch, self.selects_by.key: found}, end_of_epoch=True)

    def epoch_figures(self, averages: dict[str, float]) -> dict[str, float]:
        """Figures of an epoch that follow from its averages: each term's share of the loss."""
        return {
            f"share_{name.removeprefix(WEIGHTED)}": share(value, averages["loss"])
            for name, value in averages.items()
            if name.startswith(WEIGHTED)
        }

    def epoch_meta(self, averages: dict[str, float]) -> dict[str, float]:
        """Settings in force during an epoch, of which the averages tell those that move."""
        margin = getattr(self.hparams.compute_cost, "margin", None)
        return {} if margin is None else {"margin": margin}

    def _anneal(self, cost: float) -> float:
        """Choose the next epoch's learning rate, or that there is none; give this one's rate."""
        counter = self.hparams.epoch_counter
        if hasattr(counter, "update_metric"):  # which ends training early
            counter.update_metric(cost)
        anneal = getattr(self.hparams, "anneal", by_epoch)
        old_lr, new_lr = anneal(self.hparams.lr_annealing, self.optimizer, self.epoch, cost)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        return old_lr

    def _checkpoint(self, meta: dict[str, Any], end_of_epoch: bool) -> None:
        with explain_write_errors(self.hparams.output_folder):
            save_checkpoint(self.checkpointer, meta, end_of_epoch)
            delete_others(self.checkpointer, self.kept, self.selects_by)

    def _should_save_intra_epoch_ckpt(self, *args: Any) -> bool:
        # Gradients that have been added up since the last step are in no checkpoint.
        due = super()._should_save_intra_epoch_ckpt(*args)
        return due and self.step % self.grad_accumulation_factor == 0

    def _save_intra_epoch_ckpt(self) -> None:
        self._checkpoint({INTRA_EPOCH_CKPT_FLAG: True}, end_of_epoch=False)
