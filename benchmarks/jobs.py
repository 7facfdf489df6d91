"""The table of jobs: what is timed, against which floor, with which target, and what is right.

The same table drives the timing and the smoke test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np

from .batches import batch_contestants, batch_oracle
from .cases import Arrays, Case
from .distributions import DISTRIBUTIONS, distribution_contestants, distribution_oracle
from .family import VERBS, family_contestants, family_oracle
from .masks import MASKS, mask_contestants, mask_oracle
from .modules import has_reused_memory, module_contestants, module_oracle
from .peers import FITTED, QUARTILES, Contestant, found, scaler_contestants
from .samples import samples_contestants, samples_oracle
from .sketches import SKETCHED, sketch_contestants, sketch_oracle
from .sparse_tables import SPARSE, sparse_contestants, sparse_oracle

__all__ = ["Job", "all_jobs", "quick_jobs"]

TABLES = [(10_000_000, 8), (80_000_000, 1), (1_000_000, 64), (100_000, 512), (2_000, 20_000)]
SPARSE_TABLES = [(1_000_000, 100), (20_000, 2_000)]
DISTRIBUTION_TABLES = [(1_000_000, 64), (200_000, 20)]
FEW_ROWS = [(1, 30), (100, 30)]
BATCH = 32
#: Channels and side of every input of a batch norm in ResNet-50.
RESNET50 = [
    (64, 112),
    (64, 56),
    (256, 56),
    (128, 56),
    (128, 28),
    (512, 28),
    (256, 28),
    (256, 14),
    (1024, 14),
    (512, 14),
    (512, 7),
    (2048, 7),
]
IMAGES = [
    (256, 64, 56, 56),
    *((BATCH, channels, side, side) for channels, side in RESNET50),
    (16, 3, 256, 256),
]
BATCHES = [
    Case((65_536, 512), layout="NC"),
    Case((1024, 1024), layout="NC"),
    Case((128, 512), layout="NC"),
    Case((48, 128, 1000), layout="NCL"),
]
#: Samples that are normalized by themselves.
SAMPLES = [
    Case((65_536, 512), layout="ND"),
    Case((8192, 768), layout="ND"),
    Case((128, 512), layout="ND"),
    Case((32, 1024, 768), layout="NTD"),
]

SCALER_FLOORS = {
    "fit": "read",
    "transform out=": "copy",
    "transform": "X.copy()",
    "fit_transform": "X.copy()",
    "inverse out=": "copy",
    "inverse": "X.copy()",
}
BATCH_VERBS = ("training", "inference", "backward")

#: Most floors that a job may take where it is promised (DESIGN's table of targets).
TARGETS = {
    ("StandardScaler", "fit"): 1.6,
    ("MinMaxScaler", "fit"): 1.2,
    ("RobustScaler", "fit"): 6.0,
    ("MaxAbsScaler", "fit"): 1.2,
    "transform out=": 1.1,
    "transform": 1.0,
    "training out=": 2.0,
    "backward out=": 3.0,
    "inference out=": 1.1,
}
#: Where the targets of fits and of batch norm hold; those of transform hold for every size.
FIT_TARGETS = {
    "StandardScaler": [(1_000_000, 64), (10_000_000, 8)],
    "MinMaxScaler": [(1_000_000, 64)],
    "RobustScaler": [(1_000_000, 64)],
}
BATCH_TARGETS = [(256, 64, 56, 56), (65_536, 512)]
#: Seconds for one row of 30 float64.
ROW_TARGET = 4e-6


@dataclass(frozen=True)
class Job:
    """One thing to do with one array.

    `floor` is "read", "copy" or "X.copy()"; None where a call's own cost is all there is. The
    target is in floors, and without a floor in seconds.
    """

    name: str
    case: Case
    floor: str | None
    contestants: Callable[[Arrays], Iterable[Contestant]]
    oracle: Callable[[Arrays], tuple[np.ndarray, ...]]
    target: float | None = None
    #: Whether the target's comparison stands in the chart.
    in_chart: bool = False
    #: Whether results lie in memory that the process holds already, though calls allocate them.
    reuses: bool = False

    @property
    def label(self) -> str:
        """The job and its array."""
        return f"{self.name} {self.case.label}"

    @property
    def is_fresh(self) -> bool:
        """Whether each call allocates a result of the size of the input."""
        return self.floor == "X.copy()" or self.reuses

    def tiny(self) -> Job:
        """The same job on a few elements."""
        return replace(self, case=self.case.tiny())


def all_jobs() -> Iterator[Job]:
    """Yield every job, those of one array together but for those that reuse memory: they are last.

    What they make of malloc's heap would serve fresh results too.
    """
    for shape, dtype, layout, has_nan in product(
        TABLES, ("float32", "float64"), ("C", "F"), (False, True)
    ):
        yield from table_jobs(Case(shape, dtype, layout, has_nan))
    yield from family_jobs(Case((1_000_000, 64)))
    yield from small_jobs()
    for shape in DISTRIBUTION_TABLES:
        yield from distribution_jobs(Case(shape, "float64"))
    for shape, layout in product(SPARSE_TABLES, ("CSR", "CSC")):
        yield from sparse_jobs(Case(shape, "float64", layout))
    for dtype in ("float32", "float64"):
        yield from mask_jobs(Case((250, 250, 250), dtype))
    yield from sketch_jobs()
    batches = [*map(nchw, IMAGES), *map(nhwc, IMAGES), *BATCHES]
    for case in batches:
        yield from batch_jobs(case)
        yield from module_jobs(case)
    for case in SAMPLES:
        yield from samples_jobs("layer_norm", case)
    yield from samples_jobs("group_norm", nchw((BATCH, 256, 56, 56)))
    for case in batches:
        yield from reusing_jobs(case)


def quick_jobs() -> Iterator[Job]:
    """Yield the jobs that targets speak of, on smaller arrays that are still beyond the caches."""
    yield from table_jobs(Case((400_000, 64)), promised=True)
    yield from family_jobs(Case((400_000, 64)))
    yield from small_jobs()
    yield from distribution_jobs(Case((100_000, 8), "float64"))
    large = [nchw((64, 64, 56, 56)), Case((32_768, 512), layout="NC")]
    small = Case((128, 512), layout="NC")
    for case in [*large, small]:
        yield from batch_jobs(case, promised=case in large)
        yield from module_jobs(case)
    for case in SAMPLES[1:3]:
        yield from samples_jobs("layer_norm", case)
    for case in [*large, small]:
        yield from reusing_jobs(case)


def nchw(shape: tuple[int, ...]) -> Case:
    """Return images with channels second."""
    return Case(shape, layout="NCHW")


def nhwc(shape: tuple[int, ...]) -> Case:
    """Return images of the same (N, C, H, W) with channels last."""
    n, c, *sides = shape
    return Case((n, *sides, c), layout="NHWC")


def table_jobs(case: Case, *, promised: bool = False) -> Iterator[Job]:
    """Yield all jobs of the scalers on a table."""
    plain = case.layout == "C" and case.dtype == "float32" and not case.has_nan
    for scaler, (verb, floor) in product(FITTED, SCALER_FLOORS.items()):
        target = None
        if case.dtype == "float32":
            target = TARGETS.get(verb)
            if verb == "fit" and (promised or (plain and case.shape in FIT_TARGETS[scaler])):
                target = TARGETS[scaler, verb]
        shown = promised or verb == "fit" or case.shape == (1_000_000, 64)
        yield Job(
            f"{scaler}.{verb}",
            case,
            floor,
            partial(scaler_contestants, scaler, verb),
            partial(scaler_oracle, scaler, verb),
            target,
            in_chart=plain and shown and target is not None,
        )


def family_jobs(case: Case) -> Iterator[Job]:
    """Yield what the scalers beside the three of the core do to a table."""
    for scaler, verbs in VERBS.items():
        for verb in verbs:
            yield Job(
                f"{scaler}.{verb}",
                case,
                SCALER_FLOORS[verb],
                partial(family_contestants, scaler, verb),
                partial(family_oracle, scaler, verb),
                TARGETS.get((scaler, verb), TARGETS.get(verb)),
            )


def small_jobs() -> Iterator[Job]:
    """Yield what is done to a few rows, where the cost is that of a call."""
    for shape, dtype in product(FEW_ROWS, ("float64", "float32")):
        case = Case(shape, dtype)
        for scaler, verb in product(FITTED, ("transform", "partial_fit")):
            if (scaler, verb) == ("RobustScaler", "partial_fit"):
                continue
            promised = shape == (1, 30) and dtype == "float64" and verb == "transform"
            yield Job(
                f"{scaler}.{verb}",
                case,
                None,
                partial(scaler_contestants, scaler, verb),
                partial(scaler_oracle, scaler, verb),
                ROW_TARGET if promised else None,
                in_chart=promised,
            )


def sparse_jobs(case: Case) -> Iterator[Job]:
    """Yield what is done to a sparse matrix of which 1% is not zero."""
    for scaler, verb in product(SPARSE, ("fit", "transform")):
        yield Job(
            f"{scaler}.{verb} sparse",
            case,
            None,
            partial(sparse_contestants, scaler, verb),
            partial(sparse_oracle, scaler, verb),
        )


def mask_jobs(case: Case) -> Iterator[Job]:
    """Yield the map of a volume under masks."""
    for kind in MASKS:
        yield Job(
            f"StandardScaler.transform where {kind}",
            case,
            "copy",
            partial(mask_contestants, kind),
            partial(mask_oracle, kind),
        )


def sketch_jobs() -> Iterator[Job]:
    """Yield fits by a sketch of quantiles."""
    for shape, dtype in SKETCHED:
        case = Case(shape, dtype)
        yield Job("RobustScaler.fit by a sketch", case, "read", sketch_contestants, sketch_oracle)


def distribution_jobs(case: Case) -> Iterator[Job]:
    """Yield what the scalers that change distributions do."""
    for scaler, verb in product(DISTRIBUTIONS, ("fit", "transform")):
        yield Job(
            f"{scaler}.{verb}",
            case,
            "X.copy()" if verb == "transform" else None,
            partial(distribution_contestants, scaler, verb),
            partial(distribution_oracle, scaler, verb),
        )


def batch_jobs(case: Case, *, promised: bool = False) -> Iterator[Job]:
    """Yield batch norm's jobs on a batch, each with a fresh result and with `out=`."""
    promised = promised or (case.layout != "NHWC" and case.shape in BATCH_TARGETS)
    for verb, out in product(BATCH_VERBS, (" out=", "")):
        yield Job(
            f"BatchNorm.{verb}{out}",
            case,
            "copy" if out else "X.copy()",
            partial(batch_contestants, verb + out),
            partial(batch_oracle, verb),
            TARGETS.get(verb + out) if promised else None,
            in_chart=promised and bool(out),
        )


def module_jobs(case: Case) -> Iterator[Job]:
    """Yield the training step of PyTorch's modules on a batch, where PyTorch is installed."""
    if found("PyTorch") is not None:
        yield Job("BatchNorm module step", case, "X.copy()", module_contestants, module_oracle)


def reusing_jobs(case: Case) -> Iterator[Job]:
    """Yield the same step with its results in reused memory, where malloc is glibc's besides."""
    if has_reused_memory():
        for job in module_jobs(case):
            yield replace(job, name=f"{job.name}, reused memory", floor="copy", reuses=True)


def samples_jobs(kind: str, case: Case) -> Iterator[Job]:
    """Yield the jobs of layer or group norm, each with a fresh result and with `out=`."""
    for verb, out in product(("forward", "backward"), (" out=", "")):
        yield Job(
            f"{kind}.{verb}{out}",
            case,
            "copy" if out else "X.copy()",
            partial(samples_contestants, kind, verb + out),
            partial(samples_oracle, kind, verb),
        )


def scaler_oracle(scaler: str, verb: str, arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Compute a scaler's result in float64 with NumPy."""
    of_itself = verb in ("fit", "partial_fit", "fit_transform")
    x = arrays.x.astype(np.float64)
    center, scale = _center_and_scale(scaler, x if of_itself else arrays.training)
    if verb in ("fit", "partial_fit"):
        return center, scale
    return (x * scale + center if verb.startswith("inverse") else (x - center) / scale,)


def _center_and_scale(scaler: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x.astype(np.float64)
    if scaler == "MinMaxScaler":
        least = np.nanmin(x, axis=0)
        return least, np.nanmax(x, axis=0) - least
    if scaler == "StandardScaler":
        center, scale = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    else:
        low, center, high = np.nanquantile(x, QUARTILES, axis=0)
        scale = high - low
    return center, np.where(scale == 0, 1.0, scale)  # a constant feature is left as it is
