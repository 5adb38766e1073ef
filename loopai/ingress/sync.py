"""`GET /api/v1/sync`: how far the store of each site follows the registry."""

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai.ingress import bodies, identity, services
from streams import topology


async def get(request: Request) -> Response:
    """Sites whose syncer lives, by name; of all conflicts the count, and the tenant's own."""
    sites = services.of(request).sites
    now = time.monotonic()
    alive = [
        entry.value
        for key, entry in sorted(sites.entries.items())
        if now - sites.heard_at[key] < topology.SITES.ttl_s
    ]
    return bodies.json(
        {
            "sites": [
                {
                    "site": each.site,
                    "store": each.store,
                    "versions": each.versions,
                    "missing": each.missing,
                    "lag_s": round(each.lag_s, 3),
                    "conflicts": each.conflicts,
                    "latest_conflicts": [
                        {
                            "task": one.task,
                            "version": one.version,
                            "expected": one.expected,
                            "found": one.found,
                            "at": one.at,
                        }
                        for one in each.latest
                        if one.tenant == identity.of(request).tenant
                    ],
                    "reason": each.reason,
                    "updated_at": each.updated_at,
                }
                for each in alive
            ]
        }
    )


routes = [Route("/sync", get, methods=["GET"])]
