from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from benchmarks.throughput.methods import MethodFailed
from benchmarks.throughput.vllm_rival import Pooling, Serving, VllmClient, command, environment


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def serving(*, on_cpu: bool) -> Serving:
    return Serving("bfloat16", max_length=646, threads=1, gpu_memory=0.4, on_cpu=on_cpu)


def pooled(request: httpx.Request) -> httpx.Response:
    """The reward of an input is its first token; answers come in reverse order."""
    body = json.loads(request.content)
    assert body["use_activation"] is False
    data = [{"index": index, "data": [float(ids[0])]} for index, ids in enumerate(body["input"])]
    return httpx.Response(200, json={"data": data[::-1]})


def client(handler: httpx.MockTransport) -> VllmClient:
    return VllmClient("http://test", transport=handler)


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [Pooling(1, 8), Pooling(3, 2), Pooling(64, 1)], ids=str)
async def test_rewards_come_back_in_the_order_of_the_inputs(cut: Pooling) -> None:
    vllm = client(httpx.MockTransport(pooled))
    inputs = [(n, 0, 0) for n in range(10)]
    assert await vllm.pool_all(inputs, cut) == [float(n) for n in range(10)]
    await vllm.aclose()


@pytest.mark.anyio
async def test_a_refused_request_fails_the_method() -> None:
    vllm = client(httpx.MockTransport(lambda request: httpx.Response(400, text="too long")))
    with pytest.raises(MethodFailed, match="400: too long"):
        await vllm.pool([(1, 2)])
    await vllm.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(404), id="no such route"),
        pytest.param(httpx.Response(200, json={"success": False}), id="not emptied"),
    ],
)
async def test_a_cache_that_is_not_emptied_is_not_called_cold(answer: httpx.Response) -> None:
    vllm = client(httpx.MockTransport(lambda request: answer))
    with pytest.raises(MethodFailed, match="reset_prefix_cache"):
        await vllm.reset()
    await vllm.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer", [httpx.Response(200), httpx.Response(200, json={"success": True})], ids=str
)
async def test_a_cache_that_is_emptied_is_cold(answer: httpx.Response) -> None:
    vllm = client(httpx.MockTransport(lambda request: answer))
    await vllm.reset()
    await vllm.aclose()


def test_vllm_is_started_as_a_pooling_server_on_loopback() -> None:
    for on_cpu in (True, False):
        line = command(Path("model"), serving(on_cpu=on_cpu), port=8123)
        assert {"--runner=pooling", "--convert=classify", "--host=127.0.0.1"} <= set(line)
        assert ("--block-size=32" in line) == on_cpu
        assert ("--gpu-memory-utilization=0.4" in line) == (not on_cpu)


def test_on_a_cpu_it_computes_on_as_many_cores_as_the_others() -> None:
    bound = environment(serving(on_cpu=True))["VLLM_CPU_OMP_THREADS_BIND"]
    assert len(bound.split(",")) == 1
    assert "VLLM_CPU_OMP_THREADS_BIND" not in environment(serving(on_cpu=False))
