"""An exported model that decides whether two files are of one person."""

from __future__ import annotations

import os

import torch
from speechbrain.inference.speaker import SpeakerRecognition
from torch import Tensor

from speechbrain_ext.audio import AudioFault, read_audio
from speechbrain_ext.errors import UserError


class SpeakerVerifier(SpeakerRecognition):
    """SpeechBrain's ``SpeakerRecognition`` that hears any audio and decides by its own threshold.

    Made by ``SpeakerVerifier.from_hparams(source=folder, savedir=folder)`` of a folder that
    :func:`~speechbrain_ext.export.model_folder.write_model_folder` wrote, whose YAML is
    executed: trust it first. SpeechBrain's own class decides by 0.25 whatever the model, and gives
    silence an embedding.
    """

    def load_audio(self, path: str | os.PathLike[str], savedir: object = None) -> Tensor:
        """Read a file of any format, sample rate and number of channels.

        Arguments
        ---------
        path : str or path
            The file, on this machine.
        savedir : object
            Not used.

        Returns
        -------
        Tensor
            Samples (samples,) at 16 kHz.

        Raises
        ------
        UserError
            When it cannot be read or no speech can be in it.
        """
        try:
            return read_audio(path).to(self.device)
        except AudioFault as fault:
            raise UserError(
                f"{path} cannot be used ({fault.cause}: {fault.detail}): give a recording of "
                "speech",
                code="unusable-audio",
            ) from None

    def verify_batch(
        self,
        wavs1: Tensor,
        wavs2: Tensor,
        wav1_lens: Tensor | None = None,
        wav2_lens: Tensor | None = None,
        threshold: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compare waveforms pair by pair.

        Arguments
        ---------
        wavs1, wavs2 : Tensor
            Waveforms (B, samples), 16 kHz.
        wav1_lens, wav2_lens : Tensor, optional
            Relative lengths (B,).
        threshold : float, optional
            The cosine above which two are of one person; by default the folder's, at which the
            held-out speakers of its training were wrongly accepted as often as wrongly refused.

        Returns
        -------
        (Tensor, Tensor)
            Cosines and decisions, (B, 1) each.

        Raises
        ------
        UserError
            When there is no threshold.
        """
        if threshold is None:
            threshold = getattr(self.hparams, "threshold", None)
        if threshold is None:
            raise UserError(
                "the model has no threshold of its own, since its recipe has not scored it: give "
                "threshold=, found on data of your own",
                code="no-threshold",
            )
        return super().verify_batch(wavs1, wavs2, wav1_lens, wav2_lens, threshold)

    @torch.no_grad()
    def verify_files(
        self,
        path_x: str | os.PathLike[str],
        path_y: str | os.PathLike[str],
        threshold: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compare two files.

        Arguments
        ---------
        path_x, path_y : str or path
            The files; see :meth:`load_audio`.
        threshold : float, optional
            As for :meth:`verify_batch`.

        Returns
        -------
        (Tensor, Tensor)
            The cosine and the decision, (1,) each.

        Raises
        ------
        UserError
            When a file cannot be used or there is no threshold.
        """
        one, other = (self.load_audio(path).unsqueeze(0) for path in (path_x, path_y))
        scores, decisions = self.verify_batch(one, other, threshold=threshold)
        return scores[0], decisions[0]
