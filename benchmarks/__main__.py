"""Measure every job, print the table, and write JSON lines and a chart.

python -m benchmarks                     everything, about an hour
python -m benchmarks --quick             the jobs with targets, on smaller arrays, a minute
python -m benchmarks --only 'BatchNorm.*NHWC'
python -m benchmarks --resume            go on with a run of the same command that was interrupted
python -m benchmarks --load build/benchmarks/benchmarks.jsonl --markdown table.md
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from itertools import groupby
from pathlib import Path

from . import chart, jobs, machine, report, scaling, storage
from .cases import Arrays
from .measure import Effort, Measured, measure
from .peers import OURS


def main() -> int:
    """Run from the command line; the status is 1 if normcore failed at a job."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    measured = _measured(options) if options.load is None else storage.load(options.load)
    report.show(measured)
    if options.markdown is not None:
        options.markdown.write_text(report.markdown(measured), encoding="utf-8")
    drawn = chart.draw(measured, options.output / "benchmarks.png")
    print(f"written to {options.output}{'' if drawn else ', without a chart'}")
    return int(any(row.ours is None for row in measured.rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer jobs on smaller arrays, fewer rounds")
    add("--only", type=re.compile, metavar="REGEX", help="jobs whose label the expression finds")
    add("--list", action="store_true", help="print the labels of the jobs and stop")
    add("--repeat", type=int, metavar="N", help="rounds (7, with --quick 5)")
    add("--budget", type=float, metavar="SECONDS", help="of a contestant per job (3, or 0.5)")
    add("--threads", type=int, metavar="N", help="for every library; normcore's own choice if not")
    add("--scaling", action="store_true", help="also cost against size and against threads")
    add("--output", type=Path, metavar="DIR", default=Path("build/benchmarks"))
    add("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    add("--resume", action="store_true", help="measure what the file of an earlier run lacks")
    add("--load", type=Path, metavar="JSONL", help="report on an earlier run, measure nothing")
    add("--allow-uncompiled", action="store_true", help="measure a core that is not compiled")
    options = parser.parse_args()
    if options.repeat is not None and options.repeat < 1:
        parser.error("--repeat must be at least 1")
    return options


def _measured(options: argparse.Namespace) -> report.Report:
    """Measure what is asked for; an interrupt ends the measuring, not the report."""
    table = [
        job
        for job in (jobs.quick_jobs() if options.quick else jobs.all_jobs())
        if options.only is None or options.only.search(job.label)
    ]
    if options.list:
        print(*(job.label for job in table), sep="\n")
        sys.exit()
    machine.refuse_uncompiled(allowed=options.allow_uncompiled)
    threads = options.threads or machine.default_threads()
    machine.use_threads(threads)
    effort = Effort(
        repeat=options.repeat or (5 if options.quick else 7),
        budget=options.budget or (0.5 if options.quick else 3.0),
    )
    given = [each for each in sys.argv[1:] if each != "--resume"]
    command = f"python -m benchmarks {shlex.join(given)}".rstrip()
    measured = report.Report(machine.facts(threads), command, effort)
    path = options.output / "benchmarks.jsonl"
    if options.resume and path.exists():
        try:
            measured = storage.resume(measured, path)
        except ValueError as error:
            sys.exit(str(error))
        known = {row.label for row in measured.rows}
        table = [job for job in table if job.label not in known]
    else:
        storage.begin(measured, path)
    try:
        number = 0
        for case, group in groupby(table, key=lambda job: job.case):
            arrays = Arrays(case)
            for job in group:
                number += 1
                print(f"[{number}/{len(table)}] {job.label}", file=sys.stderr, flush=True)
                try:
                    found = measure(job, arrays, threads, effort)
                except Exception as error:  # the other jobs go on
                    found = Measured(failed={OURS: f"{type(error).__name__}: {error}"})
                storage.append(path, "row", measured.add(job, found))
            del arrays
        for kind in ("linear", "threads") if options.scaling else ():
            if not getattr(measured, kind):
                costs = getattr(scaling, kind)(threads, effort, quick=options.quick)
                setattr(measured, kind, list(costs))
                storage.append(path, kind, getattr(measured, kind))
    except KeyboardInterrupt:
        print("interrupted; the report is of what was measured", file=sys.stderr)
    return measured


if __name__ == "__main__":
    sys.exit(main())
