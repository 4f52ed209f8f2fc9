"""The API's Prometheus metrics. Labels have few values; nothing is labelled by what a request names."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry of everything that the API counts."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests_total", "Requests by route and answer.", "route", "code")
        self.seconds = Histogram(
            "modelyard_api_request_duration_seconds",
            "Time to answer by route; streams are not in it.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.token_reviews = self._counter("token_reviews_total", "Tokens looked at, by result.", "result")
        self.access_reviews = self._counter("access_reviews_total", "Access reviews made, by result.", "result")
        self.resets = self._counter("stream_resets_total", "Streams that had to begin anew, by reason.", "reason")
        self.stream_ends = self._counter("stream_ends_total", "Streams that ended, by reason.", "reason")
        self.limited = self._counter("limited_total", "Requests over a limit, by limit.", "limit")
        self.cluster_requests = self._counter(
            "cluster_requests_total", "Requests to the cluster's API server.", "verb", "kind", "code"
        )
        info = Gauge("modelyard_api_build_info", "Version of this process.", ["version"], registry=self.registry)
        info.labels(version).set(1)

    def watch(self, streams: Callable[[], float], objects: Callable[[], float], age: Callable[[], float]) -> None:
        """Values that are read when asked for: open streams, objects shown, seconds since the cluster was reached."""
        for name, words, function in (
            ("streams", "Open streams.", streams),
            ("objects", "Objects in the cache.", objects),
            ("cluster_age_seconds", "Seconds since the cluster's API server was last reached.", age),
        ):
            Gauge(f"modelyard_api_{name}", words, registry=self.registry).set_function(function)

    def cluster_request(self, *, seconds: float, code: int, verb: str, kind: str) -> None:
        """Counts a request to the API server."""
        self.cluster_requests.labels(verb, kind, str(code)).inc()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"modelyard_api_{name}", words, labels, registry=self.registry)
