"""What every job costs, beside what memory allows and what peers take: ``python -m benchmarks``.

One table of jobs (`jobs`) drives the timing and the smoke test; `python -m benchmarks --help`
says how to run it. `benchmarks/gpu` is apart: it needs a device.
"""
