"""The examples of docs/observability.md, run with the real libraries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import fields
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest
from stores import spawned

from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.transport.metrics import AttemptRecord

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DETAIL = "/api_esim/getESIMDetail"


def names_in(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block, "observability.md", "exec"), names)
    return names


@pytest.fixture
def _fresh_registry() -> Iterator[None]:
    before = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


async def read_with(sandbox: Sandbox, hook: Any) -> None:
    """Read a card in two attempts."""
    async with sandbox.client(hooks=[hook]) as client:
        sandbox.faults.add(Fault.http(503), "getESIMDetail")
        await client.cards.detail(sandbox.iccids[0])


@pytest.mark.usefixtures("_fresh_registry")
async def test_the_prometheus_example_counts_and_times_attempts(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    names = names_in(BLOCKS[0])
    await read_with(sandbox, names["to_prometheus"])
    page = generate_latest(names["registry"]()).decode()
    for line in (
        f'mioesim_attempts_total{{endpoint="{DETAIL}",outcome="HttpStatusError"}} 1.0',
        f'mioesim_attempts_total{{endpoint="{DETAIL}",outcome="success"}} 1.0',
        f'mioesim_attempt_seconds_count{{endpoint="{DETAIL}"}} 2.0',
    ):
        assert line in page
    assert "a hook raised" not in caplog.text


WORKER = """
import asyncio, sys
from prometheus_client import generate_latest
from mioesim_async import MioEsimClient
from mioesim_async.sandbox import Sandbox

recipe, url, reads = sys.argv[1:]
names = {}
exec(compile(recipe, "observability.md", "exec"), names)

async def main():
    sandbox = Sandbox()
    hooks = [names["to_prometheus"]]
    async with MioEsimClient(sandbox.credentials, base_url=url, hooks=hooks) as client:
        for iccid in sandbox.iccids[:int(reads)]:
            await client.cards.detail(iccid)

asyncio.run(main())
print("read", flush=True)
sys.stdin.readline()
print(generate_latest(names["registry"]()).decode(), flush=True)
"""

SERVER = """
import sys
from prometheus_client import start_http_server

names = {}
exec(compile(sys.argv[1], "observability.md", "exec"), names)
server, _ = start_http_server(0, "127.0.0.1", registry=names["registry"]())
print(server.server_port, flush=True)
sys.stdin.readline()
"""


async def test_the_prometheus_example_sums_over_worker_processes(tmp_path: Path) -> None:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    counted = f'mioesim_attempts_total{{endpoint="{DETAIL}",outcome="success"}} 5.0'
    async with Sandbox() as sandbox, asyncio.timeout(60):
        arguments = [BLOCKS[0], sandbox.url]
        async with (
            spawned(WORKER, *arguments, "2", environment=environment) as one,
            spawned(WORKER, *arguments, "3", environment=environment) as two,
            spawned(SERVER, BLOCKS[0], environment=environment) as server,
        ):
            for worker in (one, two):
                assert worker.stdout is not None
                assert await worker.stdout.readline() == b"read\n"
            for worker in (one, two):
                page, _ = await worker.communicate(b"\n")
                assert counted in page.decode()
            assert server.stdout is not None
            port = int(await server.stdout.readline())
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/metrics") as reply,
            ):
                assert counted in await reply.text()


async def test_the_opentelemetry_example_makes_spans_and_a_metric(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    metering = MeterProvider([reader])
    # An application sets them once for its process; a test must leave that as it was.
    monkeypatch.setattr(trace, "get_tracer", tracing.get_tracer)
    monkeypatch.setattr(metrics, "get_meter", metering.get_meter)
    hook = names_in(BLOCKS[1])["to_opentelemetry"]
    with tracing.get_tracer("application").start_as_current_span("page") as page:
        await read_with(sandbox, hook)
    made = [span for span in spans.get_finished_spans() if span.name == "mioesim attempt"]
    seen = [
        (span.attributes["url.path"], span.attributes["mioesim.attempt"], span.status.description)
        for span in made
        if span.attributes is not None
    ]
    assert seen == [
        ("/api_order/login", 1, None),
        (DETAIL, 1, "HttpStatusError"),
        (DETAIL, 2, None),
    ]
    for span in made:
        assert span.parent is not None
        assert span.parent.span_id == page.get_span_context().span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time < span.end_time
    found: Any = reader.get_metrics_data()
    (metric,) = found.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "mioesim.attempt"
    assert sum(point.count for point in metric.data.data_points) == 3
    assert "a hook raised" not in caplog.text
    tracing.shutdown()
    metering.shutdown()


async def test_the_summary_example_reads_the_sums(sandbox: Sandbox) -> None:
    summary = names_in(BLOCKS[2])["summary"]
    async with sandbox.client() as client:
        await client.cards.query(sandbox.iccids[0])
        assert summary(client).startswith("2 requests, 0 retries, ")


def test_every_example_is_run_and_every_field_is_listed() -> None:
    assert len(BLOCKS) == 3
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert listed == [attribute.name for attribute in fields(AttemptRecord)]
