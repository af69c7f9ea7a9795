"""What the trainings of teacher and student have in common."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor
from tqdm import tqdm

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.distill.outputs import Layers, StudentOutput
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import embed_batch, utterance_loader
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.nnet.distributed import sync_batch_norm_on_cpu
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.training.augmentation import Mixing
from speechbrain_ext.training.checkpoints import (
    delete_others,
    room_in,
    save_checkpoint,
    set_damaged_aside,
)
from speechbrain_ext.training.crops import CropBatch, CropDataset, encode_speakers
from speechbrain_ext.training.figures import (
    WEIGHT,
    WEIGHTED,
    averages_of,
    costs_of,
    peak_memory,
    share,
)
from speechbrain_ext.training.heard import check_train_audio, check_valid_audio
from speechbrain_ext.training.meter import EpochMeter
from speechbrain_ext.training.order import EpochOrder
from speechbrain_ext.training.preflight import check_steps, rehearse, rehearse_augmentation
from speechbrain_ext.training.schedules import by_epoch
from speechbrain_ext.training.validation import check_trials, valid_figures
from speechbrain_ext.training.weights import NETWORKS, keep_best, start_from
from speechbrain_ext.verification.trials import read_trials
from speechbrain_ext.workers import reading_options

logger = get_logger(__name__)


class Forward(NamedTuple):
    """What the networks made of a batch: embeddings (B, D), speaker logits (B, 1, S)."""

    clean: Tensor  # waveforms (B, samples), as recorded
    heard: Tensor  # and as the student heard them
    mixing: Mixing | None  # how crops were mixed, in both
    student: StudentOutput
    logits: Tensor


class SpeakerBrain(sb.Brain):
    """Trains a speaker-embedding network on crops and selects it by trials of held-out speakers.

    A subclass gives ``objective(forward, batch)``, the weighted terms of its loss, and may add to
    ``epoch_figures``.
    """

    #: Whether the embedding model's hidden outputs are wanted in training.
    wants_hidden = False
    #: Keys that a YAML must have.
    needs = {
        "seed",
        "system",
        "output_folder",
        "save_folder",
        "modules",
        "opt_class",
        "checkpointer",
        "compute_features",
        "mean_var_norm",
        "embedding_model",
        "classifier",
        "compute_cost",
        "augmentation",
        "train_csv",
        "valid_csv",
        "valid_trials",
        "speeds",
        "crop_reader",
        "crops_per_utterance",
        "batch_size",
        "drop_last",
        "num_workers",
        "max_batch_seconds",
        "max_unreadable",
        "start_from",
        "num_speakers",
        "epoch_counter",
        "lr_annealing",
        "keep_checkpoints",
        "average_checkpoints",
        "train_logger",
    }
    #: Keys of a YAML that this class reads, besides those that other keys refer to.
    reads = set(RunOptions().as_dict()) | needs | {"anneal"}
    checkpointer: sb.utils.checkpoints.Checkpointer

    def __init__(self, hparams: dict[str, Any], run_opts: Any) -> None:
        super().__init__(
            modules=hparams["modules"],
            opt_class=hparams["opt_class"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
        # The bare modules, not their DDP wrappers: validation must not wait for other processes.
        self.encoder = SpeakerEncoder(
            hparams["compute_features"], hparams["mean_var_norm"], hparams["embedding_model"]
        )
        self.meter = EpochMeter()
        self.checkpointer.add_recoverable("meter", self.meter)
        self.label_encoder = encode_speakers(
            self.hparams.train_csv, self.hparams.speeds, self.hparams.num_speakers
        )
        if if_main_process():
            save_folder = Path(self.hparams.save_folder)
            save_folder.mkdir(parents=True, exist_ok=True)
            self.label_encoder.save(save_folder / "label_encoder.txt")
        self.train_data = CropDataset(
            self.hparams.train_csv,
            self.hparams.crop_reader,
            self.label_encoder,
            self.hparams.crops_per_utterance,
            self.hparams.speeds,
        )
        self.order = EpochOrder(
            len(self.train_data),
            self.hparams.seed,
            self._rank(),
            self._world_size(),
            self.hparams.drop_last,
        )
        self.trials = read_trials(self.hparams.valid_trials)
        self.valid_embeddings: dict[str, np.ndarray] = {}
        self.batch_ids: list[str] = []
        self.bar: tqdm | None = None
        self.started: set[str] = set()  # the networks that have their first weights

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The terms of the loss of a batch, and their weights."""
        raise NotImplementedError

    def epoch_figures(self, averages: dict[str, float]) -> dict[str, float]:
        """Figures of an epoch that follow from its averages: each term's share of the loss."""
        return {
            f"share_{name.removeprefix(WEIGHTED)}": share(value, averages["loss"])
            for name, value in averages.items()
            if name.startswith(WEIGHTED)
        }

    def epoch_meta(self, averages: dict[str, float]) -> dict[str, float]:
        """Settings in force during an epoch, of which the averages tell those that move."""
        return {}

    # Training

    def check(self) -> None:
        """Refuse what would fail or mislead later; nothing has been trained yet."""
        check_trials(self.hparams.valid_trials, self.trials, self.hparams.valid_csv)
        check_train_audio(self.hparams.train_csv, self.hparams.num_workers)
        check_valid_audio(self.hparams.valid_csv, self.hparams.num_workers)
        reader = self.hparams.crop_reader
        rehearse(self.encoder, self.modules.classifier, reader, self.device)
        augmentation = self.hparams.augmentation
        rehearse_augmentation(augmentation, self.encoder, reader.samples, self.device)

    def train(self) -> None:
        """Train to the last epoch, from the last checkpoint if there is one; keep the best."""
        # Before anything depends on which checkpoints there are.
        set_damaged_aside(self.checkpointer)
        self._delete_others()
        if self.checkpointer.list_checkpoints():
            self.started = set(NETWORKS)
        else:
            self.started = start_from(self.hparams, self.label_encoder)
        try:
            self.check()
        except ValueError as error:
            raise UserError(str(error)) from None
        batch_size = self.hparams.batch_size
        # Not made by SpeechBrain, which would keep each process's part of the order as a list.
        loader = SaveableDataLoader(
            self.train_data,
            sampler=self.order,
            batch_size=batch_size,
            drop_last=self.hparams.drop_last,
            pin_memory=self.device_type == "cuda",
            **reading_options(self.hparams.num_workers, CropBatch),
            # Its own generator: the workers' seeds must not take from the networks' random numbers.
            generator=torch.Generator(),
        )
        self.checkpointer.add_recoverable("dataloader-TRAIN", loader)
        self.steps_per_epoch, factor = len(loader), self.grad_accumulation_factor
        check_steps(len(self.train_data), batch_size, self._world_size(), len(loader), factor)
        valid = utterance_loader(
            read_manifest(self.hparams.valid_csv),
            self.hparams.max_batch_seconds,
            rank=self._rank(),
            world_size=self._world_size(),
        )
        self.fit(self.hparams.epoch_counter, loader, valid, progressbar=False)
        with room_in(self.hparams.output_folder):
            keep_best(self.checkpointer, self.hparams)

    def _rank(self) -> int:
        return torch.distributed.get_rank() if self.distributed_launch else 0

    def _world_size(self) -> int:
        return torch.distributed.get_world_size() if self.distributed_launch else 1

    # Computation

    def compute_forward(self, batch: CropBatch, stage: sb.Stage) -> Forward:
        """Augment, embed and classify the crops of a batch; they are all of one length."""
        clean = batch.to(self.device).sig.data
        augmentation = self.hparams.augmentation
        heard = augmentation.waveforms(clean)
        mixing = augmentation.mixing(len(clean), self.device)
        if mixing is not None:
            clean, heard = mixing(clean), mixing(heard)
        feats = self.modules.mean_var_norm(self.modules.compute_features(heard))
        return self.embed(clean, heard, mixing, augmentation.features(feats))

    def embed(self, clean: Tensor, heard: Tensor, mixing: Mixing | None, feats: Tensor) -> Forward:
        """Embed and classify features (B, T, F)."""
        hidden = Layers()
        if self.wants_hidden:
            embedding, layers = self.modules.embedding_model(feats, intermediates=True)
            hidden = Layers(zip(self.hparams.embedding_model.layers, layers, strict=True))
        else:
            embedding = self.modules.embedding_model(feats)
        embedding = embedding.squeeze(1)
        # Under AMP a cosine would have some three digits: too few for a margin.
        with torch.autocast(self.device_type, enabled=False):
            logits = self.modules.classifier(embedding.float().unsqueeze(1))
        return Forward(clean, heard, mixing, StudentOutput(embedding, hidden, feats), logits)

    def compute_objectives(self, predictions: Forward, batch: CropBatch, stage: sb.Stage) -> Tensor:
        """The loss of a batch; its terms, their weights and the accuracy are its figures."""
        objective = self.objective(predictions, batch)
        labels = batch.spk_id_encoded.data.squeeze(1)
        correct = (predictions.logits.squeeze(1).argmax(-1) == labels).float().mean()
        weighted = {
            WEIGHTED + name: objective.weights[name] * term
            for name, term in objective.terms.items()
        }
        self.figures = {
            "loss": objective.total,
            **objective.terms,
            **{WEIGHT + name: weight for name, weight in objective.weights.items()},
            **weighted,
            "accuracy": correct,
        }
        return objective.total

    def classification_loss(self, forward: Forward, batch: CropBatch) -> Tensor:
        """Additive angular margin softmax against the speakers, in float32."""
        labels = batch.spk_id_encoded.data  # (B, 1)
        loss = self.hparams.compute_cost(forward.logits, labels)
        if forward.mixing is None:
            return loss
        other = self.hparams.compute_cost(forward.logits, labels[forward.mixing.order])
        return forward.mixing.share * loss + (1 - forward.mixing.share) * other

    def fit_batch(self, batch: CropBatch) -> Tensor:
        """Learn from what could be read of a batch, unless that is too little to normalise."""
        self._count_unreadable(batch)
        crops, processes = len(batch.id), self._world_size()
        if crops and crops * processes > 1:
            return super().fit_batch(batch)
        if processes > 1:  # which would wait for this one's gradients
            raise UserError(
                f"no crop of a batch of epoch {self.epoch} could be read in process "
                f"{self._rank()}, last {batch.unreadable[-1]}: mend the files or run stage 1 again"
            )
        should_step = self.step % self.grad_accumulation_factor == 0
        self.on_fit_batch_start(batch, should_step)
        self.meter.sums["skipped"] += crops
        if should_step and any(weight.grad is not None for weight in self.modules.parameters()):
            self.optimizers_step()
        loss = torch.zeros(())
        self.on_fit_batch_end(batch, None, loss, should_step)
        return loss

    def evaluate_batch(self, batch: Any, stage: sb.Stage) -> Tensor:
        """Embed a batch of whole utterances."""
        with self.evaluation_ctx:
            self.valid_embeddings.update(embed_batch(self.encoder, batch, self.device))
        return torch.zeros(())

    # Hooks of the loop

    def _wrap_distributed(self) -> None:
        if self.distributed_launch and self.device_type == "cpu":
            for module in self.modules.values():
                sync_batch_norm_on_cpu(module)
        super()._wrap_distributed()

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the figures; tell the data the epoch."""
        self.stage_start = time.perf_counter()
        if stage == sb.Stage.VALID:
            self.valid_embeddings = {}
            return
        self.epoch = epoch or 0
        if self.step == 0:
            self.meter.reset()
        self.hparams.crop_reader.epoch = self.epoch
        self.order.epoch = self.epoch
        self.bar = progress_bar(
            desc=f"epoch {epoch}/{self.hparams.epoch_counter.limit}",
            total=self.steps_per_epoch,
            initial=self.step,
            dynamic_ncols=True,
            disable=self.noprogressbar or not if_main_process(),
        )
        self.batch_end = time.perf_counter()

    def on_fit_batch_start(self, batch: CropBatch, should_step: bool) -> None:
        """Note the wait for the batch; draw the step's random numbers from its place alone."""
        self.data_wait = time.perf_counter() - self.batch_end
        self.batch_ids = batch.id
        place = np.random.SeedSequence([self.hparams.seed, self.epoch, self.step, self._rank()])
        torch.manual_seed(int(place.generate_state(1)[0]))

    def on_fit_batch_end(
        self, batch: CropBatch, outputs: Forward | None, loss: Tensor, should_step: bool
    ) -> None:
        """Move the progress bar."""
        now = time.perf_counter()
        self.meter.sums["seconds"] += now - self.batch_end
        self.meter.sums["waited"] += self.data_wait
        self.batch_end = now
        if self.bar is None or self.bar.disable:
            return
        self.bar.update()
        if self.meter.weight:
            averages = self.meter.averages()
            shown = {key: averages[key] for key in ("loss", "accuracy")}
            shown |= self.epoch_figures(averages)
            self.bar.set_postfix(
                {name: f"{value:.3f}" for name, value in shown.items()}, refresh=False
            )

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Put a batch's figures into the epoch's, unless the loss is not finite.

        Then name its utterances, and stop when patience ends.
        """
        if torch.isfinite(loss):
            self.meter.add(len(self.batch_ids), **self.figures)
            return
        self.meter.sums["nonfinite"] += 1
        logger.warning(f"The loss is {loss.item()} in a batch of: {', '.join(self.batch_ids)}")
        try:
            super().check_loss_isfinite(loss)
        except ValueError:
            raise UserError(
                f"the loss was not finite in more than {self.nonfinite_patience} batches of epoch "
                f"{self.epoch}, last with the utterances {', '.join(self.batch_ids)}: look at "
                "them, or lower --lr"
            ) from None

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """After training, average the figures; after validation, score, log and save."""
        if stage == sb.Stage.TRAIN:
            assert self.bar is not None
            self.bar.close()
            self.train_stats = self._train_figures()
            return
        valid_stats = valid_figures(self.trials, self.valid_embeddings)
        if valid_stats is None:
            raise UserError(
                f"the embeddings of {self.hparams.valid_csv} are not finite after epoch "
                f"{self.epoch}: the training has diverged, lower --lr"
            )
        valid_stats["seconds"] = time.perf_counter() - self.stage_start
        counter = self.hparams.epoch_counter
        if hasattr(counter, "update_metric"):  # which ends training early
            counter.update_metric(valid_stats["eer"])
        anneal = getattr(self.hparams, "anneal", by_epoch)
        old_lr, new_lr = anneal(
            self.hparams.lr_annealing, self.optimizer, self.epoch, valid_stats["eer"]
        )
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        # First the log: after a kill between the two the epoch is run again, and its line replaced.
        with room_in(self.hparams.output_folder):
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": old_lr, **self.train_meta}, self.train_stats, valid_stats
            )
        self._checkpoint({"epoch": epoch, "eer": valid_stats["eer"]}, end_of_epoch=True)

    def _should_save_intra_epoch_ckpt(self, *args: Any) -> bool:
        # Gradients that have been added up since the last step are in no checkpoint.
        due = super()._should_save_intra_epoch_ckpt(*args)
        return due and self.step % self.grad_accumulation_factor == 0

    def _save_intra_epoch_ckpt(self) -> None:
        self._checkpoint({INTRA_EPOCH_CKPT_FLAG: True}, end_of_epoch=False)

    # Their parts

    def _checkpoint(self, meta: dict[str, Any], end_of_epoch: bool) -> None:
        with room_in(self.hparams.output_folder):
            save_checkpoint(self.checkpointer, meta, end_of_epoch)
            self._delete_others()

    def _delete_others(self) -> None:
        # The mean that is made in the end needs as many of the best.
        number = max(self.hparams.keep_checkpoints, self.hparams.average_checkpoints)
        delete_others(self.checkpointer, number)

    def _count_unreadable(self, batch: CropBatch) -> None:
        if not batch.unreadable:
            return
        for count in ("unreadable", "skipped"):
            self.meter.sums[count] += len(batch.unreadable)
        unreadable = int(self.meter.sums["unreadable"])
        logger.warning(f"Skipped, could not be read: {', '.join(batch.unreadable)}")
        planned = self.steps_per_epoch * self.hparams.batch_size
        if unreadable > self.hparams.max_unreadable * planned:
            raise UserError(
                f"{unreadable} of {planned} crops of epoch {self.epoch} could not be read, "
                f"last {batch.unreadable[-1]}, more than the share max_unreadable "
                f"{self.hparams.max_unreadable}: mend the files or run stage 1 again"
            )

    def _train_figures(self) -> dict[str, float]:
        totals = self.meter.totals()
        costs = costs_of(totals, self._world_size())
        if not costs["utterances"]:
            raise UserError(
                f"no batch of epoch {self.epoch} had a finite loss ({costs['nonfinite']} had "
                f"another, and {costs['skipped']} crops were skipped): lower --lr, or look at the "
                "audio"
            )
        averages = averages_of(totals)
        self.train_meta = self.epoch_meta(averages)
        plain = {name: value for name, value in averages.items() if "/" not in name}
        return {
            **plain,
            **self.epoch_figures(averages),
            **costs,
            **peak_memory(self.device),
        }
