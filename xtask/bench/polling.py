#!/usr/bin/env python3
"""The design that memmon replaces, as a baseline for measurements: one pass over every process with psutil, per interval.

It reads what a polling monitor needs of each process (pid, name, user, memory), prints after each pass how many
processes it saw and how many are over the limit, and never sends a signal.

usage: polling.py INTERVAL_SECONDS LIMIT_BYTES
"""
import sys
import time

import psutil


def over_limit(limit: int) -> tuple[int, int]:
    """One pass: (processes seen, processes over the limit)."""
    seen = over = 0
    for process in psutil.process_iter(["pid", "name", "username", "memory_info"]):
        seen += 1
        memory = process.info["memory_info"]
        if memory is not None and memory.rss > limit:
            over += 1
    return seen, over


def main() -> None:
    interval, limit = float(sys.argv[1]), int(sys.argv[2])
    while True:
        seen, over = over_limit(limit)
        print(f"Scan complete. Scanned: {seen}, Over: {over}", flush=True)
        time.sleep(interval)


if __name__ == "__main__":
    main()
