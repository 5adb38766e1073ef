"""What the handlers of one ingress process share; made and closed by `app.lifespan`."""

from typing import TYPE_CHECKING, Protocol, cast

import msgspec
from starlette.requests import Request

from loopai.catalog.catalog import Catalog
from loopai.catalog.keys import Keyring
from loopai.catalog.mirror import Mirror
from loopai.observe.metrics import IngressMetrics
from loopai.settings import Settings
from streams.connection import Connection
from streams.messages import Cancellation, IdempotencyClaim, Operation, SiteState, WorkerPresence
from streams.store import Bucket

if TYPE_CHECKING:  # they import this module
    from loopai.ingress.authentication import Authenticator
    from loopai.ingress.dispatch import Dispatcher
    from loopai.ingress.hearing import Hearing
    from loopai.ingress.once import Once
    from loopai.ingress.queues import Queues
    from loopai.ingress.rates import Limiter


class Known(Protocol):
    """What it takes to judge a request for an execution, over HTTP or not."""

    @property
    def settings(self) -> Settings: ...
    @property
    def catalog(self) -> Catalog: ...


class Services(msgspec.Struct, frozen=True, kw_only=True):
    settings: Settings
    keys: Keyring
    callers: "Authenticator | None"
    """None where nobody is asked who they are."""
    connection: Connection
    catalog: Catalog
    dispatcher: "Dispatcher"
    operations: Bucket[Operation]
    cancellations: Bucket[Cancellation]
    claims: Bucket[IdempotencyClaim]
    once: "Once"
    workers: Mirror[WorkerPresence]
    sites: Mirror[SiteState]
    queues: "Queues"
    limiter: "Limiter"
    hearing: "Hearing"
    metrics: IngressMetrics


def of(request: Request) -> Services:
    return cast("Services", request.app.state.services)
