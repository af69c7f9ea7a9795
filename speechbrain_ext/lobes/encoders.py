"""A whole speaker encoder, from waveform to embedding."""

from __future__ import annotations

from torch import Tensor, nn

from speechbrain_ext.nnet.masking import whole_lengths


class SpeakerEncoder(nn.Module):
    """Front end, normalisation and embedding model in one, exact for padded batches of waveforms.

    Arguments
    ---------
    compute_features : Module
        Front end: maps ``(wavs, lengths)`` to features (B, T, F); ``num_frames(samples)`` tells how
        many frames an utterance has.
    mean_var_norm : Module
        Maps ``(feats, lengths)`` to features.
    embedding_model : Module
        Maps ``(feats, lengths)`` to embeddings (B, 1, D).

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
        self, compute_features: nn.Module, mean_var_norm: nn.Module, embedding_model: nn.Module
    ) -> None:
        super().__init__()
        self.compute_features = compute_features
        self.mean_var_norm = mean_var_norm
        self.embedding_model = embedding_model

    @property
    def layers(self) -> dict[str, int]:
        """Names and channels of the hidden outputs, in their order."""
        return self.embedding_model.layers  # type: ignore[return-value]

    @property
    def embedding_size(self) -> int:
        """Numbers in an embedding, D."""
        return self.embedding_model.embedding_size  # type: ignore[return-value]

    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Embed waveforms.

        Arguments
        ---------
        wavs : Tensor
            Waveforms (B, samples), 16 kHz.
        lengths : Tensor, optional
            Relative lengths (B,), in (0, 1].
        intermediates : bool
            Whether the embedding model's hidden outputs are wanted too.

        Returns
        -------
        Tensor, or (Tensor, list of Tensor)
            Embeddings (B, 1, D), with the hidden outputs where they are wanted.
        """
        feats = self.compute_features(wavs, lengths)
        if lengths is not None:
            samples = whole_lengths(lengths, wavs.shape[1])
            # In frames: a share of the samples is not exactly the same share of the frames.
            frames = self.compute_features.num_frames(samples)  # type: ignore[operator]
            lengths = frames / feats.shape[1]
        feats = self.mean_var_norm(feats, lengths)
        if intermediates:
            return self.embedding_model(feats, lengths, intermediates=True)
        return self.embedding_model(feats, lengths)
