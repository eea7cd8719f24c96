"""The metrics in Prometheus' text format, made from the tally and the service when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fnsync.api.tally import BUCKETS_S, Durations, Tally

if TYPE_CHECKING:
    from fnsync.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(service: Service, tally: Tally) -> bytes:
    """Return all metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service, tally))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, service: Service, tally: Tally) -> None:
        self._service = service
        self._tally = tally

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._functions()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "fnsync_http_requests", "HTTP requests; status 499: the client left.", labels=("surface", "status")
        )
        for (surface, status), count in dict(self._tally.requests).items():
            requests.add_metric((surface, str(status)), count)
        yield requests
        yield GaugeMetricFamily("fnsync_calls_running", "Completions under way.", value=self._tally.running)
        calls = HistogramMetricFamily("fnsync_call_duration_seconds", "Completions by function.", labels=("function",))
        for function, durations in dict(self._tally.calls).items():
            calls.add_metric((function,), buckets=_buckets(durations), sum_value=durations.total_s)
        yield calls

    def _functions(self) -> Iterator[Metric]:
        status = self._service.status()
        states = GaugeMetricFamily("fnsync_functions", "Functions by status.", labels=("status",))
        workers = GaugeMetricFamily("fnsync_workers", "Worker processes by function.", labels=("function",))
        queue = GaugeMetricFamily("fnsync_function_calls", "Calls that run or wait, by function.", labels=("function",))
        crashes = CounterMetricFamily("fnsync_worker_crashes", "Workers that died, by function.", labels=("function",))
        counts: dict[str, int] = {}
        for function in status["functions"]:
            counts[function["status"]] = counts.get(function["status"], 0) + 1
            for family, key in ((workers, "workers"), (queue, "calls"), (crashes, "crashes")):
                if function.get(key):
                    family.add_metric((function["id"],), function[key])
        for name, count in counts.items():
            states.add_metric((name,), count)
        yield from (states, workers, queue, crashes)
        yield GaugeMetricFamily("fnsync_uptime_seconds", "Since the server started.", value=status["uptime_s"])


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
    return list(zip(bounds, accumulate(durations.counts), strict=True))
