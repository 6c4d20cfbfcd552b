"""Images of many clients, computed together by the one thread that runs the network."""

import contextlib
import math
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from segkit.inference.predictor import Predictor
from segkit.inference.segmentation import Segmentation
from segkit.serving.upload import Refused


@dataclass(frozen=True)
class _Job:
    image: np.ndarray
    future: "Future[Segmentation]"

    @property
    def pixels(self) -> int:
        return self.image.shape[0] * self.image.shape[1]


class Batcher:
    """A queue of images, and the thread that segments them: whatever waits when the network is free, up to a batch.

    Nobody waits for a batch to fill: alone, an image starts at once; under load, batches fill by themselves.
    """

    def __init__(self, predictor: Predictor, *, batch_size: int, limit: int, max_pixels: float = math.inf) -> None:
        """At most `limit` images wait, and no more than `max_pixels` of all of them together, but always one."""
        self.predictor, self.batch_size, self.max_pixels = predictor, batch_size, max_pixels
        self._pixels = 0  # of those that wait
        self._guard = threading.Lock()
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=limit)
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return self._jobs.qsize()

    def submit(self, image: np.ndarray) -> "Future[Segmentation]":
        """Queue an image, uint8 RGB [h, w, 3]; cancel the future to take it out again.

        Raises:
            Refused: 503, where as many as are allowed wait already.
        """
        job = _Job(image, Future())
        with self._guard:
            if self._pixels and self._pixels + job.pixels > self.max_pixels:
                raise Refused(503, f"{self._pixels / 1e6:.0f} megapixels wait already; try again in a moment")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise Refused(503, f"{self._jobs.maxsize} images wait already; try again in a moment") from None
            self._pixels += job.pixels
        return job.future

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        for batch in self._batches():
            with self._guard:
                self._pixels -= sum(job.pixels for job in batch)
            wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
            try:
                found = self._segment([job.image for job in wanted])
            except Exception as error:  # whatever it is belongs to those who asked; the thread goes on
                for job in wanted:
                    job.future.set_exception(error)
                continue
            for job, segmentation in zip(wanted, found, strict=True):
                job.future.set_result(segmentation)

    def _batches(self) -> Iterator[list[_Job]]:
        while (first := self._jobs.get()) is not None:
            batch = [first]
            ended = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < self.batch_size:
                    job = self._jobs.get_nowait()
                    if job is None:
                        ended = True
                        break
                    batch.append(job)
            yield batch
            if ended:
                return

    def _segment(self, images: list[np.ndarray]) -> list[Segmentation]:
        predictor = self.predictor
        whole = [image for image in images if predictor.windows(image.shape[:2]) is None]
        boxes = [predictor.letterbox(image) for image in whole]
        found: dict[int, Segmentation] = {}
        if whole:
            logits = predictor.canvases_logits(np.stack([canvas for _, canvas in boxes]))
            for image, (box, _), scores in zip(whole, boxes, logits, strict=True):
                found[id(image)] = predictor.segmentation(scores, box)
        return [found[id(image)] if id(image) in found else predictor.segment(image) for image in images]
