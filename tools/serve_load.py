"""Ask a running `segkit serve` as many clients do: python tools/serve_load.py URL IMAGE [--requests N] [--clients C]

A table: requests per second, the times in which half, 95 % and 99 % were answered, errors by status. With --pid, the
server's memory before and after.
"""

import argparse
import collections
import http.client
import statistics
import threading
import time
import urllib.parse
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="such as http://127.0.0.1:8000")
    parser.add_argument("image", type=Path)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--output", choices=("json", "mask", "overlay", "all"), default="mask")
    parser.add_argument("--pid", type=int, help="of the server, for its memory")
    arguments = parser.parse_args()
    content = arguments.image.read_bytes()
    address = urllib.parse.urlsplit(arguments.url)
    left = iter(range(arguments.requests))
    guard = threading.Lock()
    times: list[float] = []
    statuses: collections.Counter[int] = collections.Counter()

    def client() -> None:
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        while True:
            with guard:
                if next(left, None) is None:
                    return
            started = time.perf_counter()
            connection.request(
                "POST", f"/predict?output={arguments.output}", content, {"Content-Type": "application/octet-stream"}
            )
            answer = connection.getresponse()
            answer.read()
            with guard:
                times.append(time.perf_counter() - started)
                statuses[answer.status] += 1

    before = resident_mib(arguments.pid)
    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(arguments.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    cuts = statistics.quantiles(times, n=100)
    speed = len(times) / seconds
    print(f"{len(times)} requests of {arguments.clients} clients, {arguments.output}: {speed:.1f} per second")
    print(f"p50 {cuts[49] * 1e3:.0f} ms, p95 {cuts[94] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms")
    print("statuses: " + ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
    if arguments.pid:
        print(f"memory of the server: {before:.0f} MiB before, {resident_mib(arguments.pid):.0f} MiB after")
    return 0 if set(statuses) == {200} else 1


def resident_mib(pid: int | None) -> float:
    """Return what a process has in memory, in MiB."""
    if pid is None:
        return 0.0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
