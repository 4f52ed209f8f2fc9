"""The operator's own Prometheus series, named after controller-runtime's so that known dashboards read them.

Labels are bounded: controllers, verbs, kinds, HTTP codes; never a namespace or a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """All series in one registry."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "modelyard_reconcile", "Reconciles by result.", ["controller", "result"], registry=self.registry
        )
        self.reconcile_time = Histogram(
            "modelyard_reconcile_time_seconds",
            "Time that a reconcile took.",
            ["controller"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._adds = Counter("modelyard_workqueue_adds", "Keys added to the work queue.", registry=self.registry)
        self._retries = Counter("modelyard_workqueue_retries", "Keys put back after a failure.", registry=self.registry)
        self._wait = Histogram(
            "modelyard_workqueue_queue_duration_seconds",
            "Time between a key being due and a worker taking it.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "modelyard_rest_client_requests",
            "Requests to the API server; code 0 is no answer.",
            ["code", "verb", "kind"],
            registry=self.registry,
        )
        self._request_time = Histogram(
            "modelyard_rest_client_request_duration_seconds",
            "Time of a request to the API server.",
            ["verb"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.leader = Gauge("modelyard_leader", "1 while this process holds the lease.", registry=self.registry)
        self.relist_changes = Counter(
            "modelyard_relist_changes", "Objects that a re-list changed in the cache.", registry=self.registry
        )
        self.relists = Counter("modelyard_relist", "Complete re-lists.", ["cause"], registry=self.registry)
        Info("modelyard_build", "The running version.", registry=self.registry).info({"version": version})

    def watch_queue(self, depth: Callable[[], float], longest: Callable[[], float]) -> None:
        """Series that are read from the queue when they are asked for."""
        Gauge("modelyard_workqueue_depth", "Keys that wait for a worker.", registry=self.registry).set_function(depth)
        Gauge(
            "modelyard_workqueue_longest_running_processor_seconds",
            "Age of the oldest reconcile in progress.",
            registry=self.registry,
        ).set_function(longest)

    def watch_store(self, counts: Mapping[str, Callable[[], float]]) -> None:
        """How many objects of each kind (by plural) the cache holds."""
        cached = Gauge("modelyard_cache_objects", "Objects in the cache.", ["kind"], registry=self.registry)
        for kind, count in counts.items():
            cached.labels(kind).set_function(count)

    def request(self, *, seconds: float, code: int, verb: str, kind: str) -> None:
        """A request to the API server."""
        self._requests.labels(str(code), verb, kind).inc()
        self._request_time.labels(verb).observe(seconds)

    def added(self) -> None:
        """A key was added to the queue."""
        self._adds.inc()

    def retried(self) -> None:
        """A key was put back after a failure."""
        self._retries.inc()

    def waited(self, seconds: float) -> None:
        """A key was taken that long after it was due."""
        self._wait.observe(seconds)
