"""The networks as published, written plainly and channels first: what ours are compared with.

Parameter names are those of voxceleb_trainer checkpoints. Padding is not looked at here.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

Network = TypeVar("Network", bound=nn.Module)


class PublishedFrontEnd(nn.Module):
    """Log-mel features, normalised for each utterance; (B, samples) to (B, F, T)."""

    def __init__(self, n_mels: int = 80) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            16000,
            n_fft=512,
            win_length=400,
            hop_length=160,
            window_fn=torch.hamming_window,
            n_mels=n_mels,
        )
        self.norm = nn.InstanceNorm1d(n_mels)

    @torch.no_grad()
    def forward(self, wavs: Tensor) -> Tensor:
        return self.norm(torch.log(self.mel(wavs) + 1e-6))


class _IDConv(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn(self.conv(x))


class _TokenMixing(nn.Module):
    def __init__(self, channels: int, expansion: int, groups: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv1d(channels, expansion * channels, 1, groups=groups)
        self.fc2 = nn.Conv1d(expansion * channels, channels, 1, groups=groups)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class _ChannelMixing(nn.Module):
    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 2 * expansion * channels)
        self.fc2 = nn.Linear(expansion * channels, channels)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.fc1(x).chunk(2, dim=-1)
        return self.dropout(self.fc2(self.dropout(F.gelu(torch.max(first, second)))))


class _Block(nn.Module):
    def __init__(self, channels: int, expansion: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.id_conv = _IDConv(channels)
        self.token_mixing = _TokenMixing(channels, expansion, groups)
        self.norm2 = nn.LayerNorm(channels)
        self.channel_mixing = _ChannelMixing(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.token_mixing(self.id_conv(y))
        y = self.channel_mixing(self.norm2(x.transpose(1, 2)))
        return x + y.transpose(1, 2)


class _ChannelPooling(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(channels, channels, 1), nn.Tanh(), nn.Conv1d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.attention(x), dim=2)
        mean = (weights * x).sum(dim=2)
        variance = (weights * x**2).sum(dim=2) - mean**2
        return torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)


class PublishedMixer(nn.Module):
    """The student on normalised features (B, F, T)."""

    def __init__(
        self,
        n_mels: int = 80,
        channels: int = 192,
        num_blocks: int = 6,
        expansion: int = 3,
        groups: int = 4,
        embedding: int = 512,
    ) -> None:
        super().__init__()
        self.frontend = nn.Sequential(
            nn.Conv1d(n_mels, channels, 3, padding=1, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
        )
        self.mixer_blocks = nn.ModuleList(
            _Block(channels, expansion, groups) for _ in range(num_blocks)
        )
        self.encoder_norm = nn.LayerNorm(channels)
        self.pooling = _ChannelPooling(channels)
        self.fc = nn.Linear(2 * channels, embedding)
        self.bn = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        x = self.frontend(x)
        for block in self.mixer_blocks:
            x = block(x)
        x = self.encoder_norm(x.transpose(1, 2)).transpose(1, 2)
        return self.bn(self.fc(self.pooling(x)))


class _Autoencoder(nn.Module):
    def __init__(self, n_mels: int, width: int, latent: int) -> None:
        super().__init__()

        def layers(sizes: list[int], last_activated: bool) -> nn.Sequential:
            parts: list[nn.Module] = []
            for index, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
                parts.append(nn.Conv1d(before, after, 3, padding=1))
                if index < 2:
                    parts += [nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(0.2)]
                elif last_activated:
                    parts += [nn.BatchNorm1d(after), nn.ReLU()]
                else:
                    parts.append(nn.Tanh())
            return nn.Sequential(*parts)

        self.encoder = layers([n_mels, width, width, latent], True)
        self.decoder = layers([latent, width, width, n_mels], False)


class _LSTMEncoder(nn.Module):
    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            latent, size, num_layers=2, batch_first=True, bidirectional=True, dropout=0.3
        )
        self.layer_norm = nn.LayerNorm(2 * size)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer_norm(self.lstm(x)[0])


class _ScalarPooling(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(channels, channels), nn.Tanh(), nn.Linear(channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.attention(x), dim=1)
        mean = (weights * x).sum(dim=1)
        variance = (weights * x**2).sum(dim=1) - mean**2
        return torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)


class PublishedLSTMAutoencoder(nn.Module):
    """The teacher on normalised features (B, F, T)."""

    def __init__(
        self,
        n_mels: int = 80,
        width: int = 256,
        latent: int = 128,
        lstm_size: int = 256,
        embedding: int = 512,
    ) -> None:
        super().__init__()
        self.autoencoder = _Autoencoder(n_mels, width, latent)
        self.lstm_encoder = _LSTMEncoder(latent, lstm_size)
        self.pooling = _ScalarPooling(2 * lstm_size)
        self.fc = nn.Linear(4 * lstm_size, embedding)
        self.bn = nn.BatchNorm1d(embedding)

    def forward(self, x: Tensor) -> Tensor:
        latent = self.autoencoder.encoder(x).transpose(1, 2)
        return self.bn(self.fc(self.pooling(self.lstm_encoder(latent))))


def randomise_norms(model: Network, seed: int = 0) -> Network:
    """Move every norm from its start, so that a forgotten one shows; the model in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)):
            with torch.no_grad():
                for parameter, ends in ((module.weight, (0.5, 1.5)), (module.bias, (-0.3, 0.3))):
                    if parameter is not None:  # some have none to learn
                        parameter.uniform_(*ends, generator=generator)
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.3, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()
