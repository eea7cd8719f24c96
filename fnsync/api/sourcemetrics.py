"""The metrics of sources, webhooks and notifications.

Labels are names of the configuration or from fixed lists, but for the commit, of which each source has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from fnsync.durations import BUCKETS_S, Durations
from fnsync.sourcestate import SourceState


def of_sources(states: Iterable[SourceState], now: float) -> Iterator[Metric]:
    """What is known of each source. `now`: in seconds since the epoch."""
    info = GaugeMetricFamily("fnsync_source_info", "What is live.", labels=("source", "ref", "commit"))
    fetched = GaugeMetricFamily(
        "fnsync_source_fetched_timestamp_seconds", "When the remote last answered.", labels=("source",)
    )
    age = GaugeMetricFamily("fnsync_source_age_seconds", "Since the remote last answered.", labels=("source",))
    failures = CounterMetricFamily("fnsync_source_failures", "Syncs that failed.", labels=("source",))
    took = HistogramMetricFamily(
        "fnsync_sync_duration_seconds", "Syncs by what they came to.", labels=("source", "result")
    )
    functions = GaugeMetricFamily("fnsync_source_functions", "Functions by status.", labels=("source", "status"))
    for state in states:
        info.add_metric((state.name, state.ref or "", state.commit or ""), 1)
        if state.fetched_at is not None:
            fetched.add_metric((state.name,), state.fetched_at)
            age.add_metric((state.name,), max(0.0, now - state.fetched_at))
        failures.add_metric((state.name,), state.failures)
        for result, durations in state.durations.items():
            took.add_metric((state.name, result), buckets=buckets(durations), sum_value=durations.total_s)
        for status, count in state.functions.items():
            functions.add_metric((state.name, status), count)
    yield from (info, fetched, age, failures, took, functions)


def of_messages(name: str, text: str, counts: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """Messages by name and result."""
    messages = CounterMetricFamily(name, text, labels=("name", "result"))
    for labels, count in counts.items():
        messages.add_metric(labels, count)
    yield messages


def buckets(durations: Durations) -> list[tuple[str, float]]:
    """A histogram's buckets, as Prometheus counts them."""
    bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
    return list(zip(bounds, accumulate(durations.counts), strict=True))
