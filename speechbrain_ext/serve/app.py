"""What can be asked of a model over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.gallery import Gallery
from speechbrain_ext.runtime.model import SpeakerModel
from speechbrain_ext.serve import answers, pages
from speechbrain_ext.serve.guard import Guard, answer
from speechbrain_ext.serve.service import Service
from speechbrain_ext.service_limits import ServiceLimits

A = TypeVar("A", bound=BaseModel)
Recording = Annotated[UploadFile, File(description="WAV, FLAC, Ogg, Opus, MP3, AIFF or AU")]
Cosine = Annotated[
    float | None, Form(description="of your own, in place of the model's", ge=-1, le=1)
]
FalseAlarm = Annotated[float, Form(description="share of pairs of two speakers that may pass")]


def create_app(
    model: SpeakerModel,
    gallery: Gallery | None = None,
    key: str | None = None,
    limits: ServiceLimits | None = None,
) -> FastAPI:
    """Make the application that uvicorn, or any other ASGI server, runs.

    Arguments
    ---------
    model : SpeakerModel
        Of ``speechbrain_ext.runtime``.
    gallery : Gallery, optional
        Where speakers are enrolled; without one they cannot be.
    key : str, optional
        What clients have to send. Without one only the machine itself may ask.
    limits : ServiceLimits, optional
        What is refused beyond.

    Returns
    -------
    FastAPI
        The application.
    """
    service = Service(model, gallery, limits or ServiceLimits())

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="spk",
        description="Who speaks: embeddings, verification and identification of speakers.",
        version=model.digest[:12],
        lifespan=living,
        docs_url=None,  # pages of its own, which load nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": {"model": answers.RefusalAnswer}},
    )
    app.add_middleware(Guard, key=key, limits=service.limits, metrics=service.metrics)
    _tell_mistakes(app)
    # Guard looks at the key; here the description tells of it.
    bearer = HTTPBearer(auto_error=False, description="The key of the service.")
    keyed = APIRouter(dependencies=[] if key is None else [Depends(bearer)])
    _add_decisions(keyed, service)
    _add_gallery(keyed, service)
    _add_metrics(keyed, service)
    app.include_router(keyed)
    _add_facts(app, service, key is not None)
    return app


def _add_decisions(router: APIRouter, service: Service) -> None:
    model = service.model

    @router.post("/embed")
    async def embed(file: Recording) -> answers.EmbedAnswer:
        """Give a recording's embedding."""
        (heard,) = await service.hear({"file": file.file})
        return answers.EmbedAnswer(
            embedding=heard.embedding.tolist(),
            model=model.digest,
            seconds=heard.seconds,
            seconds_of_speech=heard.seconds_of_speech,
            vad=heard.vad,
        )

    @router.post("/verify")
    async def verify(
        a: Recording,
        b: Recording,
        false_alarm: FalseAlarm = 0.01,
        p_target: Annotated[float | None, Form(description="how often it is one speaker")] = None,
        c_miss: Annotated[float, Form(description="cost of a refused speaker")] = 1.0,
        c_fa: Annotated[float, Form(description="cost of an accepted stranger")] = 1.0,
        threshold: Cosine = None,
    ) -> answers.VerifyAnswer:
        """Tell whether two recordings are of one speaker.

        The threshold is that of a false-alarm rate or, where p_target is given, what costs least
        on the scale of log-likelihood ratios; or it is given, as a cosine.
        """
        one, other = await service.hear({"a": a.file, "b": b.file})
        decision = await service.work(
            lambda: model.verify(
                one,
                other,
                false_alarm,
                p_target=p_target,
                c_miss=c_miss,
                c_fa=c_fa,
                threshold=threshold,
            )
        )
        return _filled(answers.VerifyAnswer, decision)


def _add_gallery(router: APIRouter, service: Service) -> None:
    @router.post("/enroll")
    async def enroll(
        name: Annotated[str, Form(description="of the speaker")],
        files: Annotated[list[UploadFile], File(description="recordings of one speaker")],
    ) -> answers.EnrollAnswer:
        """Enrol a speaker, or add recordings to one."""
        gallery = service.gallery
        numbered = {f"file {number}": each.file for number, each in enumerate(files, 1)}
        heard = await service.hear(numbered)
        enrolled = await service.work(lambda: gallery.enroll(name, heard))
        return _filled(answers.EnrollAnswer, enrolled)

    @router.post("/identify")
    async def identify(
        file: Recording,
        false_alarm: FalseAlarm = 0.01,
        top: Annotated[int, Form(description="how many are ranked", ge=1, le=100)] = 5,
        threshold: Cosine = None,
    ) -> answers.IdentifyAnswer:
        """Tell who of the gallery is heard, or that nobody is."""
        gallery = service.gallery
        (heard,) = await service.hear({"file": file.file})
        found = await service.work(
            lambda: gallery.identify(heard, false_alarm, top, threshold=threshold)
        )
        ranked = [answers.RankedSpeaker(name=name, score=score) for name, score in found.ranked]
        return _filled(answers.IdentifyAnswer, found, ranked=ranked, scale="cosine")

    @router.get("/speakers")
    async def speakers() -> answers.SpeakersAnswer:
        """List the gallery."""
        return answers.SpeakersAnswer(names=await service.work(service.gallery.names))

    @router.delete("/speakers", status_code=204)
    async def remove(name: Annotated[str, Query(description="of the speaker")]) -> None:
        """Forget a speaker."""
        gallery = service.gallery
        await service.work(lambda: gallery.remove(name))


def _add_metrics(router: APIRouter, service: Service) -> None:
    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Give what Prometheus reads."""
        return service.metrics.text()


def _add_facts(app: FastAPI, service: Service, has_key: bool) -> None:
    model, decisions = service.model, service.model.decisions

    @app.get("/health")
    async def health() -> answers.HealthAnswer:
        """Tell that the service answers, with which model and within which limits."""
        return _filled(
            answers.HealthAnswer,
            service.limits,
            status="ok",
            model=model.digest,
            dim=model.dim,
            sample_rate=model.sample_rate,
            operating_points=[
                _filled(answers.StoredThreshold, point)
                for point in (decisions.operating_points if decisions else ())
            ],
            fitted_on=decisions.fitted_on.get("title") if decisions else None,
            gallery=service.has_gallery,
            key=has_key,
        )

    @app.get("/", include_in_schema=False)
    async def demo() -> Response:
        return pages.page("demo.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return pages.page("docs.html")


def _filled(kind: type[A], source: object, **more: Any) -> A:
    """An answer from what the runtime has by the same names."""
    names = [name for name in kind.model_fields if name not in more]
    return kind(**{name: getattr(source, name) for name in names}, **more)


def _tell_mistakes(app: FastAPI) -> None:
    """Have every refusal one form."""

    @app.exception_handler(UserError)
    async def mistake(_: Request, error: UserError) -> Response:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def refusal(_: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, UserError):  # met by FastAPI while it read the body
            return answer(error.__cause__)
        found = str(error.detail).rstrip(".")
        kind = UserError(f"{found}: see /docs", code="bad-request")
        return answer(kind, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = " ".join(str(part) for part in first["loc"][1:]) or "the body"
        return answer(
            UserError(f"{place} cannot be used ({first['msg']}): see /docs", code="bad-request")
        )

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:  # which the server logs
        text = "the service could not do this: its log says why"
        return answer(UserError(text, code="failed-request"), 500)
