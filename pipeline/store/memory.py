"""How much memory the store may have: more for more rows, as its indexes are all held in memory.

In: an open store. Out: DuckDB's limit, raised as the store grows. What needs more goes to the disk.
DuckDB takes what it may, for its cache: a night over 100,000 documents had a peak of 486 MiB with
256 MB alone, of 583 with 512 bytes a row more, of 674 with the 1,024 below (`benchmarks/scale.py`),
which a library of several questions and their evidence needs for its indexes.
"""

import os

from pipeline.store.database import MEMORY_MB, Session

_BYTES_A_ROW = 1024
_ROWS = "SELECT (SELECT count(*) FROM documents) + (SELECT count(*) FROM assignments)"


def make_room(session: Session) -> None:
    """Raises the limit if the store has grown; at most to half of the machine's memory."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // 2**20
    wanted = min(most, MEMORY_MB + session.count(_ROWS) * _BYTES_A_ROW // 2**20)
    if wanted > session.memory_mb + MEMORY_MB // 4:
        session.run(f"SET memory_limit = '{wanted}MB'")
        session.memory_mb = wanted
