"""What a Server-Sent Event looks like, and the answer that there are no more of them."""

from typing import Final

from loopai.ingress.describe.operation import Answer
from loopai.ingress.describe.parameters import BATCH_ID, EXECUTION_ID, OPERATION_ID

OF_EXECUTION: Final = {
    "event": "ended",
    "id": "ended",
    "data": f'{{"id":"{EXECUTION_ID}","status":"success","output":"delivery"}}',
}
OF_OPERATION: Final = {
    "event": "progress",
    "id": "11",
    "data": f'{{"id":"{OPERATION_ID}","status":"running","stage":"fitting"}}',
}
OF_BATCH: Final = {
    "event": "summary",
    "data": f'{{"summary":{{"batch_id":"{BATCH_ID}","total":1}},"problem":null}}',
}
NOTHING_MORE: Final = Answer(
    status=204, summary="Of events: the caller has had the last, and need not come back."
)
