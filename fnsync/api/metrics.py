"""The metrics in Prometheus' text format, made from the tally and the service when they are asked for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fnsync.api.sourcemetrics import buckets, of_messages, of_sources
from fnsync.api.tally import Tally

if TYPE_CHECKING:
    from fnsync.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(service: Service, tally: Tally, *, by_function: bool) -> bytes:
    """Return the metrics; with `by_function` also those that name functions."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service, tally, by_function))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, service: Service, tally: Tally, by_function: bool) -> None:
        self._service = service
        self._tally = tally
        self._by_function = by_function

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._states()
        yield from self._loads()
        yield from self._pulls()
        if self._by_function:
            yield self._calls()
            yield from self._functions()
            yield from self._upstreams()
            yield from self._syncs()

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "fnsync_http_requests", "HTTP requests; status 499: the client left.", labels=("surface", "status")
        )
        for (surface, status), count in dict(self._tally.requests).items():
            requests.add_metric((surface, str(status)), count)
        yield requests
        yield GaugeMetricFamily("fnsync_calls_running", "Completions under way.", value=self._tally.running)

    def _calls(self) -> Metric:
        calls = HistogramMetricFamily("fnsync_call_duration_seconds", "Completions by function.", labels=("function",))
        for function, durations in dict(self._tally.calls).items():
            calls.add_metric((function,), buckets=buckets(durations), sum_value=durations.total_s)
        return calls

    def _states(self) -> Iterator[Metric]:
        service = self._service
        states = GaugeMetricFamily("fnsync_functions", "Functions by status.", labels=("status",))
        counts = Counter(standing.status.value for standing in tuple(service.reconciler.standings.values()))
        for name, count in counts.items():
            states.add_metric((name,), count)
        yield states
        yield GaugeMetricFamily(
            "fnsync_uptime_seconds", "Since the server started.", value=time.time() - service.started_at
        )

    def _functions(self) -> Iterator[Metric]:
        workers = GaugeMetricFamily("fnsync_workers", "Worker processes by function.", labels=("function",))
        running = GaugeMetricFamily("fnsync_function_calls", "Calls that run, by function.", labels=("function",))
        waiting = GaugeMetricFamily("fnsync_function_queue", "Calls that wait, by function.", labels=("function",))
        crashes = CounterMetricFamily("fnsync_worker_crashes", "Workers that died, by function.", labels=("function",))
        for id, health in self._service.executor.healths().items():
            workers.add_metric((id,), health.workers)
            running.add_metric((id,), health.calls)
            waiting.add_metric((id,), health.waiting)
            crashes.add_metric((id,), health.crashes)
        yield from (workers, running, waiting, crashes)

    def _upstreams(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "fnsync_upstream_requests", "Completions by upstream and status.", labels=("upstream", "status")
        )
        durations = HistogramMetricFamily(
            "fnsync_upstream_duration_seconds", "Completions by upstream.", labels=("upstream",)
        )
        for name, tally in self._service.upstreams.tallies().items():
            for status, count in dict(tally.answers).items():
                requests.add_metric((name, str(status)), count)
            took = tally.durations
            durations.add_metric((name,), buckets=buckets(took), sum_value=took.total_s)
        yield from (requests, durations)

    def _pulls(self) -> Iterator[Metric]:
        pulls = self._service.remotes.pulls
        if pulls is None:
            return
        outcomes = CounterMetricFamily("fnsync_pulls", "Pulls of the repository, by outcome.", labels=("outcome",))
        for outcome in ("moved", "same", "held", "failed"):
            outcomes.add_metric((outcome,), pulls.counts[outcome])
        yield outcomes
        pushes = pulls.pushes
        if pushes.enabled:
            outcomes = CounterMetricFamily("fnsync_pushes", "Pushes of edits, by outcome.", labels=("outcome",))
            for outcome in ("pushed", "behind", "failed"):
                outcomes.add_metric((outcome,), pushes.counts[outcome])
            yield outcomes
            dropped = "Edits that did not fit what the remote had, and are on a branch of their own."
            yield CounterMetricFamily("fnsync_conflicts", dropped, value=pushes.dropped)
        if pulls.fetched_at is not None:
            yield GaugeMetricFamily(
                "fnsync_fetched_timestamp_seconds", "When the remote last answered.", value=pulls.fetched_at
            )

    def _syncs(self) -> Iterator[Metric]:
        service = self._service
        yield from of_sources(service.remotes.states(), time.time())
        yield from of_messages("fnsync_webhooks", "Webhooks by result.", dict(service.webhooks.counts))
        yield from of_messages("fnsync_notifications", "Notifications by result.", dict(service.notifier.counts))

    def _loads(self) -> Iterator[Metric]:
        tally = self._service.reconciler.tally
        loads = CounterMetricFamily("fnsync_loads", "Revisions loaded, by outcome.", labels=("outcome",))
        loads.add_metric(("good",), tally.good)
        loads.add_metric(("failed",), tally.failed)
        yield loads
        yield CounterMetricFamily("fnsync_load_seconds", "What the good loads took together.", value=tally.took_s)
