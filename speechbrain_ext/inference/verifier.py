"""An exported model that decides whether two files are of one person."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from speechbrain.inference.speaker import SpeakerRecognition
from torch import Tensor

from speechbrain_ext.audio import read_audio
from speechbrain_ext.errors import UserError
from speechbrain_ext.files import file_digest
from speechbrain_ext.sound import AudioFault
from speechbrain_ext.systems.yaml import read_yaml
from speechbrain_ext.trust import refuse_foreign_code
from speechbrain_ext.verification.fitted import FACTS


class SpeakerVerifier(SpeakerRecognition):
    """SpeechBrain's ``SpeakerRecognition`` that hears any audio and decides by its own threshold.

    Made by ``SpeakerVerifier.from_hparams(source=folder, savedir=folder)`` of a folder that
    :func:`~speechbrain_ext.export.model_folder.write_model_folder` wrote. SpeechBrain's own class
    decides by 0.25 whatever the model, and gives silence an embedding.
    """

    @classmethod
    def from_hparams(
        cls,
        source: Any,
        hparams_file: str = "hyperparams.yaml",
        *,
        savedir: str | os.PathLike[str] | None = None,
        trust: bool = False,
        **kwargs: Any,
    ) -> SpeakerVerifier:
        """Load an exported model. Its YAML is executed.

        Arguments
        ---------
        source : str or path
            Its folder, or what else SpeechBrain's own takes, such as a name on the Hugging Face
            hub.
        hparams_file : str
            The YAML in it.
        savedir : str or path, optional
            Where SpeechBrain collects the model's files; the folder itself will do.
        trust : bool
            Whether the YAML of a folder may run other code than that of SpeechBrain, PyTorch and
            this package. That of a model from elsewhere may in any case.
        **kwargs
            Further arguments of SpeechBrain's own.

        Returns
        -------
        SpeakerVerifier
            In eval mode.

        Raises
        ------
        UserError
            When there is no such folder, it is none that ``export.py`` made or was changed since,
            its YAML names other code, or the hub does not give the model.
        """
        here = isinstance(source, os.PathLike) or source == savedir
        if isinstance(source, str | os.PathLike):
            source = os.path.expanduser(source)
            here = here or os.path.isdir(source) or not _may_be_elsewhere(source)
        if here:
            _check_export(source, hparams_file)
            if not trust:
                refuse_foreign_code(Path(source, hparams_file))
        try:
            return super().from_hparams(source, hparams_file, savedir=savedir, **kwargs)
        except OSError as error:
            if here:
                raise
            raise UserError(
                f"{source} is not a folder, and the Hugging Face hub does not give it "
                f"({str(error).partition(chr(10))[0]}): check the name and the network, or give a "
                "folder that export.py made",
                code="hub-refused",
            ) from error

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


def _may_be_elsewhere(source: str) -> bool:
    """Whether what is no folder here can be an address or a name on the hub."""
    if source.startswith(("http:", "https:")):
        return True
    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def _check_export(folder: str, yaml: str) -> None:
    path = Path(folder, yaml)
    if not os.path.isdir(folder):
        raise UserError(
            f"{folder}: there is no such folder; give one that export.py made",
            code="missing-folder",
        )
    if not path.is_file():
        raise UserError(
            f"{folder} has no {yaml}: give a folder that export.py made", code="not-a-model"
        )
    if "pretrainer" not in read_yaml(path, "give a folder that export.py made"):
        raise UserError(
            f"{folder} is no exported model, as its {yaml} has no pretrainer: if it is an "
            f"experiment, give the folder that `python export.py {folder}` makes",
            code="not-a-model",
        )
    facts = Path(folder, FACTS)
    digests = json.loads(facts.read_text(encoding="utf-8"))["sha256"] if facts.is_file() else {}
    for name, digest in digests.items():
        file = Path(folder, name)
        if file.suffix == ".onnx":  # not read
            continue
        if not file.is_file() or file_digest(file) != digest:
            raise UserError(
                f"{file} is not what {facts} says that export.py wrote: copy the folder again, or "
                "export the model again",
                code="damaged-file",
            )
