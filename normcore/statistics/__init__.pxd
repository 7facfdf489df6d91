# What other extension modules cimport: ``from normcore.statistics cimport moments_t, merged, dd``.
from normcore.statistics.moments cimport *
