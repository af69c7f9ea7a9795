"""Networks that do not know of padding, on padded batches: a pass for each length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from speechbrain.nnet.pooling import StatisticsPooling
from torch import Tensor, nn

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.nnet.masking import whole_lengths


def each_length(
    counts: Tensor, embed: Callable[[Tensor, int], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """Embed the utterances of every length together, and put what comes out in their order again.

    Arguments
    ---------
    counts : Tensor
        Samples or frames (B,) of each utterance.
    embed : callable
        Given the places (b,) in the batch of the utterances of one length and that length, gives
        tensors whose first axis has b rows; as many tensors for every length, of the same sizes.

    Returns
    -------
    tuple of Tensor
        Those tensors with B rows.

    Example
    -------
    >>> x = torch.arange(6.0).view(2, 3)
    >>> each_length(torch.tensor([3, 2]), lambda rows, count: [x[rows, :count].sum(dim=1)])
    (tensor([3., 7.]),)
    """
    lengths = counts.unique().tolist()
    rows = [(counts == length).nonzero().squeeze(1) for length in lengths]
    parts = [embed(here, length) for here, length in zip(rows, lengths, strict=True)]
    order = torch.cat(rows).argsort()
    return tuple(torch.cat(part)[order] for part in zip(*parts, strict=True))


class NoiselessStatisticsPooling(StatisticsPooling):
    """SpeechBrain's mean and standard deviation over time without the noise it adds to the mean.

    Example
    -------
    >>> x = torch.randn(2, 50, 8)
    >>> torch.equal(NoiselessStatisticsPooling()(x)[:, 0, :8], x.mean(dim=1))
    True
    """

    def _get_gauss_noise(self, shape_of_tensor: torch.Size, device: str = "cpu") -> Tensor:
        return torch.zeros(shape_of_tensor, device=device)


class ExactLength(Lobe):
    """A network that does not know of padding, made exact: each utterance is cut to its length.

    SpeechBrain's ECAPA-TDNN, ResNet and x-vector let padding into an embedding. Here utterances of
    one length go through the network together, and those of another in a pass of their own. Crops
    of a training are all of one length; a padded batch of N lengths costs N passes. Noise that the
    pooling of the x-vector adds, in eval mode too, is left out.

    Arguments
    ---------
    network : Module
        Maps features (B, T, F), all whole, to embeddings (B, D) or (B, 1, D).
    input_size : int
        Bands F of the features.
    layers : sequence of str
        Submodules of the network, as ``get_submodule`` names them, whose outputs (B, C, T) are the
        hidden outputs.
    min_frames : int
        Fewest frames that the network takes; a shorter utterance is repeated up to them. The
        dilated convolutions of ECAPA-TDNN, which reflect 4 frames at both ends, need 5.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order.

    Raises
    ------
    ValueError
        When the network does not take features of that size, has no such submodule, or the output
        of one is not (B, C, T).

    Example
    -------
    >>> from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    >>> model = ExactLength(ECAPA_TDNN(80), 80, layers=["blocks.1", "mfa"]).eval()
    >>> model(torch.randn(2, 201, 80), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 192])
    >>> model.layers
    {'blocks.1': 512, 'mfa': 1536}
    """

    def __init__(
        self,
        network: nn.Module,
        input_size: int,
        layers: Sequence[str] = (),
        min_frames: int = 5,
    ) -> None:
        super().__init__()
        self.network = network
        self.min_frames = min_frames
        self.layers = dict.fromkeys(layers, 0)
        _remove_noise(network)
        for name in layers:
            try:
                network.get_submodule(name)
            except AttributeError:
                raise ValueError(
                    f"layers has {name!r}, which {type(network).__name__} lacks"
                ) from None
        # The shortest input tells every size, and whether it is long enough.
        self.eval()
        try:
            with torch.no_grad():
                embedding, hidden = self._embed(torch.zeros(1, min_frames, input_size))
        except RuntimeError as error:
            raise ValueError(
                f"{type(network).__name__} does not take input_size={input_size} features of "
                f"min_frames={min_frames} frames: {error}"
            ) from None
        self.train()
        self.embedding_size: int = embedding.shape[-1]
        self.layers = {name: x.shape[2] for name, x in zip(layers, hidden, strict=True)}

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`.

        Hidden outputs are zero after an utterance's end.

        Raises
        ------
        ValueError
            In training mode, for utterances of several lengths: batch normalisation would take
            the statistics of each length for themselves.
        """
        if lengths is None:
            embedding, hidden = self._embed(feats)
            return (embedding, hidden) if intermediates else embedding
        frames = whole_lengths(lengths, feats.shape[1]).clamp(min=1)
        if self.training and len(counts := frames.unique().tolist()) > 1:
            raise ValueError(f"lengths of {counts} frames in a batch: train on crops of one length")

        def embed(rows: Tensor, count: int) -> list[Tensor]:
            embedding, hidden = self._embed(feats[rows, :count])
            longer = (0, 0, 0, feats.shape[1] - count)
            return [embedding, *(nn.functional.pad(x, longer) for x in hidden)]

        embedding, *hidden = each_length(frames, embed)
        return (embedding, hidden) if intermediates else embedding

    def _embed(self, feats: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embeddings (B, 1, D) of whole utterances (B, T, F), and the layers' outputs (B, T, C)."""
        frames = feats.shape[1]
        if frames < self.min_frames:
            feats = feats[:, torch.arange(self.min_frames, device=feats.device) % frames]
        with _outputs(self.network, self.layers) as kept:
            embedding = self.network(feats).flatten(1).unsqueeze(1)
        for name in self.layers:
            output = kept.get(name)
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            if len(shape) != 3 or shape[2] != feats.shape[1]:
                raise ValueError(
                    f"layers has {name!r}, which gives {shape or type(output).__name__} for "
                    f"{feats.shape[1]} frames, not (B, C, T)"
                )
        return embedding, [kept[name].transpose(1, 2)[:, :frames] for name in self.layers]


@contextmanager
def _outputs(network: nn.Module, names: dict[str, int]) -> Iterator[dict[str, Tensor]]:
    """Keep what submodules give inside the block, by their names."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        kept[name] = output

    hooks = [
        network.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names
    ]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _remove_noise(network: nn.Module) -> None:
    """Replace SpeechBrain's noisy pooling, which has no weights, in this network alone."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, StatisticsPooling):
                pooling = NoiselessStatisticsPooling(child.return_mean, child.return_std)
                setattr(parent, name, pooling)
