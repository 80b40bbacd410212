"""Looks at the server once a second: memory, descriptors, helper processes."""
import os
import statistics
import threading
import time

# From the second quarter of the run to the last, the median may grow by this much.
SHARE, KIB = 1.05, 16 * 1024


def descriptors(pid):
    """Open files of a process."""
    return len(os.listdir(f'/proc/{pid}/fd'))


class Watch(threading.Thread):
    """Runs until it is told to stop."""

    def __init__(self, server, interval=1.0):
        super().__init__(daemon=True)
        self.server, self.interval = server, interval
        self.rss, self.fds, self.children = [], [], []
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.wait(self.interval):
            try:
                self.rss.append(self.server.rss_kib())
                self.fds.append(descriptors(self.server.process.pid))
                self.children.append(len(self.server.helpers()))
            except OSError:
                return

    def stop(self):
        """No more samples."""
        self.is_over.set()
        self.join()

    def quarters(self):
        """Medians of memory in the second and in the last quarter of the run."""
        n = len(self.rss)
        if n < 8:
            return None
        return (statistics.median(self.rss[n // 4:n // 2]),
                statistics.median(self.rss[n - n // 4:]))


def flat(second, last):
    """The rule."""
    return last <= second * SHARE + KIB


def until(condition, seconds=60):
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
