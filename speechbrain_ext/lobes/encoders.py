"""A whole speaker encoder, from waveform to embedding."""

from __future__ import annotations

from torch import Tensor, nn

from speechbrain_ext.interfaces import FrontEnd, Lobe
from speechbrain_ext.nnet.masking import whole_lengths


class SpeakerEncoder(nn.Module):
    """Front end, normalisation and embedding model in one, exact for padded batches of waveforms.

    Arguments
    ---------
    compute_features : FrontEnd
        From waveforms to features (B, T, F).
    mean_var_norm : Module
        Maps ``(feats, lengths)`` to features.
    embedding_model : Lobe
        From features to embeddings (B, 1, D).

    Example
    -------
    >>> import torch
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(num_blocks=1)).eval()
    >>> encoder(torch.randn(2, 32000), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 512])
    """

    def __init__(
        self, compute_features: FrontEnd, mean_var_norm: nn.Module, embedding_model: Lobe
    ) -> None:
        super().__init__()
        self.compute_features = compute_features
        self.mean_var_norm = mean_var_norm
        self.embedding_model = embedding_model

    @property
    def layers(self) -> dict[str, int]:
        """Names and channels of the hidden outputs, in their order."""
        return self.embedding_model.layers

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding, D."""
        return self.embedding_model.embedding_size

    @property
    def embeds_speakers(self) -> bool:
        """Whether its embeddings are of speakers, as those of a lobe that does not say are."""
        return getattr(self.embedding_model, "embeds_speakers", Lobe.embeds_speakers)

    @property
    def num_parameters(self) -> int | None:
        """Parameters of the embedding model; None of a file that PyTorch cannot look into."""
        return sum(parameter.numel() for parameter in self.embedding_model.parameters()) or None

    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of a lobe of waveforms, :class:`~speechbrain_ext.interfaces.Lobe`."""
        feats = self.compute_features(wavs, lengths)
        if lengths is not None:
            samples = whole_lengths(lengths, wavs.shape[1])
            # In frames: a share of the samples is not exactly the same share of the frames.
            frames = self.compute_features.num_frames(samples)
            lengths = frames / feats.shape[1]
        feats = self.mean_var_norm(feats, lengths)
        if intermediates:
            return self.embedding_model(feats, lengths, intermediates=True)
        return self.embedding_model(feats, lengths)
