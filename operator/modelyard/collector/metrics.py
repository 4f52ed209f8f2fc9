"""The collector's Prometheus metrics. Labels have few values; nothing is labelled by what a request names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """One registry of everything that the collector counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "modelyard_collector_requests_total",
            "Requests by route and answer.",
            ["route", "code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "modelyard_collector_request_duration_seconds",
            "Time to answer by route.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.reports = Counter(
            "modelyard_collector_reports_total", "Reports by whether they were new.", ["result"], registry=self.registry
        )
        self.reviews = Counter(
            "modelyard_collector_token_reviews_total",
            "Tokens that were looked at, by result; cached answers are not counted.",
            ["result"],
            registry=self.registry,
        )
        self.writes = Counter(
            "modelyard_collector_status_writes_total",
            "Patches of Trainings' status by result.",
            ["result"],
            registry=self.registry,
        )
        self.waiting = Gauge(
            "modelyard_collector_status_writes_waiting", "Trainings that wait to be written.", registry=self.registry
        )
        self.runs = Gauge("modelyard_collector_runs", "Trainings that are followed.", registry=self.registry)
        self.downloads = Gauge("modelyard_collector_downloads", "Downloads that are followed.", registry=self.registry)
        self.points = Counter(
            "modelyard_collector_points_total",
            "Points of curves by what became of them.",
            ["result"],
            registry=self.registry,
        )
        self.points_waiting = Gauge(
            "modelyard_collector_points_waiting", "Points that are not in the store yet.", registry=self.registry
        )
        self.store_up = Gauge("modelyard_collector_store_up", "Whether the store is open.", registry=self.registry)
