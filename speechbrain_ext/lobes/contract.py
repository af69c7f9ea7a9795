"""Whether a network keeps what trainings, scores and exports rely on."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from speechbrain_ext.errors import told_apart
from speechbrain_ext.lobes.encoders import SpeakerEncoder

_MOST_CHANGE = 1.0  # of an embedding by padding, in per cent of its norm
_REMEDY = (
    "mask before every operation along time (speechbrain_ext/nnet/masking.py), or wrap the network "
    "in speechbrain_ext.lobes.exact_length.ExactLength"
)


@torch.no_grad()
def check_encoder(encoder: SpeakerEncoder, wavs: Tensor) -> None:
    """Embed noise alone and padded, and compare with what the embedding model says of itself.

    Arguments
    ---------
    encoder : SpeakerEncoder
        To be checked; put into eval mode.
    wavs : Tensor
        Two waveforms (2, samples).

    Raises
    ------
    ValueError
        When ``forward`` does not take ``lengths`` and ``intermediates``, embeddings are not
        (B, 1, D), padding changes them, or ``embedding_size`` or ``layers`` do not fit.

    Example
    -------
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=1))
    >>> check_encoder(encoder, torch.randn(2, 8000))
    """
    encoder.eval()
    network = encoder.embedding_model
    name = f"embedding_model {type(network).__name__}"
    taken = inspect.signature(network.forward).parameters
    for argument in ("lengths", "intermediates"):
        if argument not in taken:
            raise ValueError(
                f"{name}: forward has no argument {argument}, write "
                "forward(feats, lengths=None, intermediates=False)"
            )
    for attribute in ("embedding_size", "layers"):
        if not hasattr(network, attribute):
            raise ValueError(
                f"{name} has no attribute {attribute}: it needs embedding_size, the D of its "
                "embeddings, and layers, a dict from the name of each hidden output to its channels"
            )
    size = network.embedding_size
    try:
        alone = encoder(wavs)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} cannot embed what the front end gives ({str(error).splitlines()[0]}): mend "
            "its forward or its sizes"
        ) from error
    if tuple(alone.shape) != (2, 1, size):
        raise ValueError(
            f"{name} gives embeddings of shape {tuple(alone.shape)} for 2 utterances, where its "
            f"embedding_size {size} makes it (2, 1, {size})"
        )
    short = round(0.7 * wavs.shape[1])
    padded = torch.cat([wavs[:1], nn.functional.pad(wavs[1:, :short], (0, wavs.shape[1] - short))])
    lengths = torch.tensor([1.0, short / wavs.shape[1]], device=wavs.device)
    together, cut = encoder(padded, lengths)[1], encoder(wavs[1:, :short])[0]
    change = 100 * ((together - cut).norm() / cut.norm()).item()
    if change > _MOST_CHANGE:
        raise ValueError(
            f"{name}: padding changes an embedding by {told_apart(change, _MOST_CHANGE)} % of its "
            f"norm, over {_MOST_CHANGE:g} %: {_REMEDY}"
        )
    _check_layers(encoder, network.layers, wavs, name)


def _check_layers(encoder: SpeakerEncoder, layers: dict[str, int], wavs: Tensor, name: str) -> None:
    output = encoder(wavs, intermediates=True)
    hidden = output[1] if isinstance(output, tuple) and len(output) == 2 else None
    if not isinstance(hidden, list):
        raise ValueError(
            f"{name}: with intermediates=True forward gives embeddings and a list of hidden outputs"
        )
    found = [x.shape[-1] if x.dim() == 3 else tuple(x.shape) for x in hidden]
    if found != list(layers.values()):
        raise ValueError(
            f"{name}: layers says {dict(layers)}, and the hidden outputs (B, T, C) have channels "
            f"{found}"
        )
