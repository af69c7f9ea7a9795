"""A model, a gallery, and the threads that work with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, TypeVar

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.gallery import Gallery
from speechbrain_ext.runtime.heard import Heard
from speechbrain_ext.runtime.model import SpeakerModel
from speechbrain_ext.serve.metrics import Metrics
from speechbrain_ext.serve.upload import decode
from speechbrain_ext.service_limits import ServiceLimits

T = TypeVar("T")


class Service:
    """What the paths of the service have in common.

    Arguments
    ---------
    model : SpeakerModel
        Of ``speechbrain_ext.runtime``.
    gallery : Gallery or None
        Where speakers are enrolled.
    limits : ServiceLimits
        How much one request can ask.
    """

    def __init__(self, model: SpeakerModel, gallery: Gallery | None, limits: ServiceLimits) -> None:
        self.model, self.limits, self.metrics = model, limits, Metrics()
        self._gallery = gallery
        self._paths = {model.file: "the model"}  # with which sentences about them begin
        if gallery is not None:
            self._paths[str(gallery.path)] = "the gallery"
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="spk")

    @property
    def has_gallery(self) -> bool:
        """Whether speakers can be enrolled."""
        return self._gallery is not None

    @property
    def gallery(self) -> Gallery:
        """Where speakers are enrolled.

        Raises
        ------
        UserError
            Where there is none.
        """
        if self._gallery is None:
            raise UserError(
                "this service keeps no speakers: start it with --gallery FILE", code="no-gallery"
            )
        return self._gallery

    async def work(self, do: Callable[[], T]) -> T:
        """Let a thread do it, as soon as one is free.

        Raises
        ------
        UserError
            Without the paths of this machine, which are not a client's to know.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, do)
        except UserError as error:
            sentence = str(error)
            for path, thing in self._paths.items():
                if sentence.startswith(f"{path} "):
                    sentence = thing + sentence.removeprefix(path)
            raise UserError(sentence, code=error.code) from None

    async def hear(self, recordings: Mapping[str, BinaryIO]) -> list[Heard]:
        """Decode and embed recordings, by what they are called in answers."""

        def hear() -> list[Heard]:
            decoded = decode(recordings, self.limits.seconds, self.model.sample_rate)
            return [self.model.hear(samples) for samples in decoded]

        heard = await self.work(hear)
        self.metrics.audio_seconds += sum(each.seconds for each in heard)
        return heard

    def close(self) -> None:
        """Wait for what is at work."""
        self._threads.shutdown()
