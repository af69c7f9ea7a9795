"""The LSTM + autoencoder teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.masking import frame_mask, zero_padding
from speechbrain_ext.nnet.normalization import FrameBatchNorm
from speechbrain_ext.nnet.pooling import AttentiveStatisticsPooling
from speechbrain_ext.nnet.recurrent import BidirectionalLSTM


class ConvStack(nn.Module):
    """Convolutions over time, kernel 3, with BatchNorm, ReLU and dropout between them.

    Arguments
    ---------
    sizes : list of int
        Channels of the input and of every layer's output.
    dropout : float
        Dropout after every layer but the last.
    activate_last : bool
        Whether the last layer has BatchNorm and ReLU as well.

    Example
    -------
    >>> ConvStack([80, 16, 8])(torch.randn(2, 50, 80)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, sizes: list[int], dropout: float = 0.0, activate_last: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size=3, padding=1)
            for before, after in zip(sizes, sizes[1:], strict=False)
        )
        activated = len(self.convs) if activate_last else len(self.convs) - 1
        self.norms = nn.ModuleList(FrameBatchNorm(size) for size in sizes[1 : activated + 1])
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Filter (B, T, C); ``mask`` (B, T, 1) is true inside the utterance."""
        for index, conv in enumerate(self.convs):
            x = conv(zero_padding(x, mask).transpose(1, 2)).transpose(1, 2)
            if index < len(self.norms):
                x = F.relu(self.norms[index](x))
            if index < len(self.convs) - 1:
                x = self.dropout(x)
        return x


class LSTMAutoencoder(Lobe):
    """Convolutions, bidirectional LSTM, attentive pooling; 3,873,745 parameters by default.

    The decoder rebuilds the features from the encoder's output, for an auxiliary loss in training;
    the embedding does not depend on it.

    Arguments
    ---------
    input_size : int
        Bands F of the features.
    conv_channels : int
        Channels of the encoder's and decoder's inner layers.
    latent_size : int
        Channels of the encoder's output.
    lstm_size : int
        Channels of one direction of the LSTM.
    lstm_layers : int
        Layers of the LSTM.
    lin_neurons : int
        Embedding size D.
    conv_dropout, lstm_dropout : float
        Dropout inside the encoder and decoder, and between LSTM layers.
    train_decoder : bool
        Whether the decoder learns; without an auxiliary loss it must not ask for gradients.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``bottleneck``, the encoder's
        output, and ``lstm1`` and so on.

    Example
    -------
    >>> model = LSTMAutoencoder()
    >>> model(torch.randn(2, 201, 80), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 512])
    >>> sum(p.numel() for p in model.parameters())
    3873745
    """

    def __init__(
        self,
        input_size: int = 80,
        conv_channels: int = 256,
        latent_size: int = 128,
        lstm_size: int = 256,
        lstm_layers: int = 2,
        lin_neurons: int = 512,
        conv_dropout: float = 0.2,
        lstm_dropout: float = 0.3,
        train_decoder: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_size = lin_neurons
        self.layers = {"bottleneck": latent_size}
        for layer in range(1, lstm_layers + 1):
            self.layers[f"lstm{layer}"] = 2 * lstm_size
        inner = [conv_channels, conv_channels]
        self.encoder = ConvStack([input_size, *inner, latent_size], conv_dropout)
        self.decoder = ConvStack(
            [latent_size, *inner, input_size], conv_dropout, activate_last=False
        )
        self.decoder.requires_grad_(train_decoder)
        self.lstm = BidirectionalLSTM(latent_size, lstm_size, lstm_layers, lstm_dropout)
        self.norm = nn.LayerNorm(2 * lstm_size)
        self.pooling = AttentiveStatisticsPooling(2 * lstm_size, per_channel=False)
        self.fc = nn.Linear(4 * lstm_size, lin_neurons)
        self.fc_norm = nn.BatchNorm1d(lin_neurons)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`."""
        mask = None if lengths is None else frame_mask(lengths, feats.shape[1])
        latent = self.encoder(feats, mask)
        hidden = self.lstm(latent, mask)
        x = hidden[-1]
        if not intermediates:
            hidden.clear()  # they are the largest that there is
        pooled = self.pooling(self.norm(x), mask)
        embedding = self.fc_norm(self.fc(pooled)).unsqueeze(1)
        return (embedding, [latent, *hidden]) if intermediates else embedding

    def decode(self, latent: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Rebuild the features (B, T, F), within (-1, 1), from the encoder's output."""
        mask = None if lengths is None else frame_mask(lengths, latent.shape[1])
        return torch.tanh(self.decoder(latent, mask))
