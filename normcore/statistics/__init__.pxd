# What other extension modules cimport: ``from normcore.statistics cimport moments_t, merged``.
from normcore.statistics.moments cimport *
