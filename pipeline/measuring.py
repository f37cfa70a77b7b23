"""Finds where the quotes of answers stand on the pages of PDFs, after the answers of a run.

In: an open store. Out: boxes in the store. A PDF is opened once for all its quotes, in a process
that is locked in (`pipeline.reader`), and not again while it and its answers stay as they are. What
fails here costs boxes, never a document.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from pipeline.errors import DocflashError
from pipeline.ingest import readers_of_a_run
from pipeline.progress import Progress
from pipeline.reader import Reader
from pipeline.store import Store
from pipeline.store.boxes import Unmeasured

_DOING = "finding the quotes on their pages"


def measure_quotes(store: Store, run_id: str, progress: Progress) -> None:
    """Measures all PDFs that this run has seen and that are not measured; stops when asked to.

    Args:
        store: The open store.
        run_id: This run.
        progress: Is told what is done, and asked whether to stop.

    Raises:
        InputError: The store can't be read or written.
    """
    documents = iter(store.boxes.list_unmeasured(run_id))
    readers = readers_of_a_run()
    with Reader(reads_scans=False) as reader, ThreadPoolExecutor(readers) as pool:

        def measure(document: Unmeasured) -> None:
            if not progress.is_stopping():
                _measure(store, reader, document)

        while not progress.is_stopping() and (some := list(islice(documents, readers * 4))):
            progress.doing = _DOING
            for _ in pool.map(measure, some):
                pass
    progress.doing = ""


def _measure(store: Store, reader: Reader, document: Unmeasured) -> None:
    quotes = store.boxes.load_quotes(document)
    try:
        found = (
            reader.find_boxes(document.path, document.sha256, [quote.query for quote in quotes])
            if quotes
            else []
        )
    except DocflashError:
        return  # no process could be started; the next run tries again
    store.boxes.save(document, list(zip(quotes, found, strict=True)))
