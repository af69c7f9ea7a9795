"""A decoder that rebuilds what the student heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.distill.layer_terms import channels_of
from speechbrain_ext.interfaces import StudentOutput, TeacherOutput, Term


class Reconstruction(Term):
    """Mean squared error of the student's input features as a decoder rebuilds them from a layer.

    Features that are normalised to unit variance make it the share of variance that is lost: 1 is
    what a constant reaches. The decoder is learned with the student and is no part of it.

    Arguments
    ---------
    layer : str
        The student's layer that the decoder reads.
    student_layers : mapping of str to int
        Names and channels of all hidden outputs of the student: its ``layers``.
    num_bands : int
        Bands F of the features.
    decoder : callable
        Class of the decoder: made with the channels of its input and of every layer's output, maps
        (B, T, C) to (B, T, F).
    inner_channels : list of int
        Channels between the layer's and the features'.

    Raises
    ------
    ValueError
        For a layer that does not exist.

    Example
    -------
    >>> import torch
    >>> from functools import partial
    >>> from speechbrain_ext.lobes.lstm_autoencoder import ConvStack
    >>> decoder = partial(ConvStack, activate_last=False)
    >>> rebuild = Reconstruction("block6", {"block6": 8}, 80, decoder, [16])
    >>> hidden = {"block6": torch.randn(4, 50, 8)}
    >>> student = StudentOutput(torch.randn(4, 2), hidden, torch.randn(4, 50, 80))
    >>> float(rebuild(student)) > 0
    True
    """

    uses_teacher = False

    def __init__(
        self,
        layer: str,
        student_layers: Mapping[str, int],
        num_bands: int,
        decoder: Callable[[list[int]], nn.Module],
        inner_channels: Sequence[int],
    ) -> None:
        super().__init__()
        channels = channels_of(student_layers, layer, owner="student", key="layer")
        self.layer = layer
        self.decoder = decoder([channels, *inner_channels, num_bands])

    def forward(self, student: StudentOutput, teacher: TeacherOutput | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Term`; no teacher is needed.

        Raises
        ------
        ValueError
            When what is rebuilt has not the frames or bands of the features.
        """
        rebuilt = self.decoder(student.hidden[self.layer])
        # A front end that learns must not make its features easier to rebuild.
        feats = student.feats.detach()
        if rebuilt.shape != feats.shape:
            raise ValueError(
                f"layer: features of (frames, bands) {tuple(feats.shape[1:])} cannot be rebuilt "
                f"from '{self.layer}', which gives {tuple(rebuilt.shape[1:])}: choose a layer of "
                "their frame rate, which all layers have with subsampling 1"
            )
        return F.mse_loss(rebuilt.float(), feats.float())
