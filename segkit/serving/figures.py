"""Counts and times of a server, in Prometheus's text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from segkit.serving.batching import Batcher

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Figures:
    """What a server counts, in a registry of its own."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "segkit_requests", "Requests by address and HTTP status", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "segkit_predict_seconds", "Seconds from a whole body to the answer", buckets=SECONDS, registry=self.registry
        )
        self.pixels = Counter("segkit_pixels", "Pixels of the images that were answered", registry=self.registry)
        waiting = Gauge("segkit_waiting_images", "Images that wait for the network", registry=self.registry)
        waiting.set_function(lambda: batcher.waiting)

    def text(self) -> bytes:
        """Return all of them."""
        return generate_latest(self.registry)
