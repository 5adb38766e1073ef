"""What Server-Sent Events look like, and the answer that there are no more of them."""

from typing import Final

from loopai.ingress.describe.operation import Answer
from loopai.ingress.describe.parameters import BATCH_ID, EXECUTION_ID, OPERATION_ID, TASK_ID

OF_EXECUTION: Final = (
    "retry: 1000\n\n"
    f'id: queued\nevent: queued\ndata: {{"id":"{EXECUTION_ID}","status":"queued"}}\n\n'
    f'id: ended\nevent: ended\ndata: {{"id":"{EXECUTION_ID}","status":"success","output":7}}\n\n'
)
OF_OPERATION: Final = (
    "retry: 1000\n\n"
    f'id: 11\nevent: progress\ndata: {{"id":"{OPERATION_ID}","status":"running"}}\n\n'
    f'id: 12\nevent: ended\ndata: {{"id":"{OPERATION_ID}","status":"succeeded"}}\n\n'
)
OF_BATCH: Final = (
    f'event: result\ndata: {{"id":"a","execution_id":"{EXECUTION_ID}","status":"success"}}\n\n'
    f'event: summary\ndata: {{"summary":{{"batch_id":"{BATCH_ID}","task_id":"{TASK_ID}"}}}}\n\n'
)
NOTHING_MORE: Final = Answer(
    status=204, summary="Of events: the caller has had the last, and need not come back."
)
