"""Snakemake's messages about a sweep as one line: done, failed, time left. Of a dry run, why each run would be done."""

from __future__ import annotations

import json
import os
import sys
import time

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """What it needs is in the environment: SWEEP_RUNS, how many there are, and SWEEP_EVENTS, a file for what becomes of each."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = (
        True,
        False,
        True,
        True,
        False,
    )

    def __post_init__(self):
        self.total = int(os.environ["SWEEP_RUNS"])
        self.before = self.total
        self.jobs, self.done, self.failed, self.started = {}, 0, 0, time.monotonic()
        self.events = open(os.environ["SWEEP_EVENTS"], "a")

    def emit(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.before = self.total - record.stats.get("run", 0)
        elif event == LogEvent.JOB_INFO and record.rule_name == "run":
            self.jobs[record.jobid] = record.wildcards["run"]
            if self.common_settings.dryrun:
                self.tell("would", record.jobid, " ".join(record.reason.split()))
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.jobs:
            self.done += 1
            self.tell("done", record.job_id)
            self.show()
        elif event == LogEvent.JOB_ERROR and record.jobid in self.jobs:
            self.failed += 1
            self.tell("failed", record.jobid)
            self.show()
        elif event == LogEvent.ERROR or (event is None and record.levelno >= 40):
            print(f"{self.clear()}{record.getMessage()}", file=sys.stderr, flush=True)

    def tell(self, what, job, why=""):
        print(json.dumps([what, self.jobs[job], why]), file=self.events, flush=True)

    def clear(self):
        return "\r\x1b[K" if sys.stderr.isatty() else ""

    def show(self):
        done, left = self.before + self.done, self.total - self.before - self.done - self.failed
        seconds = (time.monotonic() - self.started) / (self.done + self.failed) * left
        time_left = (
            f", about {seconds / 60:.0f} min left"
            if seconds >= 90
            else f", about {seconds:.0f} s left"
            if left
            else ""
        )
        line = f"{done}/{self.total} runs done, {self.failed} failed{time_left}"
        terminal = sys.stderr.isatty()
        print(
            f"{self.clear()}{line}",
            end="" if terminal and left else "\n",
            file=sys.stderr,
            flush=True,
        )
