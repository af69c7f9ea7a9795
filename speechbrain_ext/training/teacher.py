"""Training of a network with labels alone."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.distill.objective import Objective
from speechbrain_ext.training.brain import Forward, SpeakerBrain
from speechbrain_ext.training.crops import CropBatch


class TeacherBrain(SpeakerBrain):
    """Classification, and reconstruction of the features where its weight is positive."""

    @property
    def wants_hidden(self) -> bool:
        """Whether the reconstruction, made from the first hidden output, is wanted."""
        return self.reconstruction_weight > 0

    @property
    def reconstruction_weight(self) -> float:
        """Of a network with a decoder; others have no such key."""
        return getattr(self.hparams, "reconstruction_weight", 0.0)

    def objective(self, forward: Forward, batch: CropBatch) -> Objective:
        """The classification loss and, where wanted, the error of the rebuilt features."""
        terms = {"classification": self.classification_loss(forward, batch)}
        weights: dict[str, float | Tensor] = {"classification": 1.0}
        if self.wants_hidden:
            latent = forward.student.hidden["bottleneck"]
            rebuilt = self.hparams.embedding_model.decode(latent)
            terms["reconstruction"] = F.mse_loss(rebuilt.float(), forward.student.feats)
            weights["reconstruction"] = self.reconstruction_weight
        return Objective(terms, weights)
