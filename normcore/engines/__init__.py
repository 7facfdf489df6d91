"""Where ``observe`` and ``map`` run, where one process is not enough.

:mod:`~normcore.engines.task` says once what runs on the pieces of a table and how their states
merge; an :class:`~normcore.engines.engine.Engine` says where, for the tables of some library.
"""

from normcore.engines.engine import Description, Engine
from normcore.engines.files import fit_files
from normcore.engines.mapping import ScaledPieces
from normcore.engines.task import Piece, State, Task

__all__ = ["Description", "Engine", "Piece", "ScaledPieces", "State", "Task", "fit_files"]
