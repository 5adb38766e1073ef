"""What the handlers of one ingress process share; made and closed by `app.lifespan`."""

from typing import TYPE_CHECKING, cast

import msgspec
from starlette.requests import Request

from loopai.catalog.catalog import Catalog
from loopai.catalog.mirror import Mirror
from loopai.observe.metrics import IngressMetrics
from loopai.settings import Settings
from streams.connection import Connection
from streams.messages import Cancellation, Operation, SiteState, WorkerPresence
from streams.store import Bucket

if TYPE_CHECKING:  # they import this module
    from loopai.ingress.dispatch import Dispatcher
    from loopai.ingress.hearing import Hearing
    from loopai.ingress.queues import Queues


class Services(msgspec.Struct, frozen=True, kw_only=True):
    settings: Settings
    connection: Connection
    catalog: Catalog
    dispatcher: "Dispatcher"
    operations: Bucket[Operation]
    cancellations: Bucket[Cancellation]
    workers: Mirror[WorkerPresence]
    sites: Mirror[SiteState]
    queues: "Queues"
    hearing: "Hearing"
    metrics: IngressMetrics


def of(request: Request) -> Services:
    return cast("Services", request.app.state.services)
