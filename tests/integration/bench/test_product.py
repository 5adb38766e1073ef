"""What the bench does to a stack before and while it measures it."""

from bench import latency, product, scale, usage
from streams import subjects, topology


async def test_a_call_is_seen_at_every_stage_and_tasks_and_backlogs_are_there() -> None:
    """One stack for all, because it takes seconds to start."""
    async with product.opened("default") as stack:
        await _stages(stack)
        await _tasks(stack)
        await _backlog(stack)
        assert all(usage.taken(stack)[kind].total_s > 0 for kind in usage.KINDS)


async def _stages(stack: product.Product) -> None:
    async with latency.Tap(stack.nats_url) as tap:
        found = latency.Found()
        await latency.watch(stack, tap, found, seconds=0.1)
    assert found.watched
    assert len(found.stages) == len(found.watched)
    for call, stages in zip(found.watched, found.stages, strict=True):
        assert len(stages) == len(latency.STAGES)
        assert abs(sum(stages) - call.seconds) < 1e-6


async def _tasks(stack: product.Product) -> None:
    before = await product.messages(stack)
    await product.create_tasks(stack, ["one", "two"])
    await scale.warm_up(stack, ["one", "two"])
    assert await product.messages(stack) == before + 2


async def _backlog(stack: product.Product) -> None:
    consumer = topology.executor("bulk", *subjects.queue("default", scale.HELD))
    async with scale.backlog(stack) as held:
        await held.fill(300)
        found = await stack.bus.jetstream.consumer_info(consumer.stream, consumer.durable)
        assert (found.num_pending, found.num_ack_pending) == (2, 0)
        await held.empty()
        found = await stack.bus.jetstream.consumer_info(consumer.stream, consumer.durable)
        assert found.num_pending == 0
