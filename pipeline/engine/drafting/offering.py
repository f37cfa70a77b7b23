"""What a row could draft: what its grammar forces, copies, and what the drafter would make.

In: a row. Out: the drafts that cost nothing, and offers for the plan, the drafter's before they are
made.
"""

from collections.abc import Sequence

from pipeline.engine.planning.acceptance import LEAST_TREE, POSITIONS, Offer
from pipeline.engine.planning.plan import RowView
from pipeline.engine.row import Row

SURE = 9
"""A forced beginning counts as a copy with so long a match: it is hardly ever wrong."""
LIKELY = 5
"""A copy with so long a match is worth a look while no plans are made."""
LEAST_COPY = 2
"""A copy with so long a match is grafted on a tree."""
Known = Sequence[tuple[Offer, list[int]]]
"""A row's drafts that cost nothing."""


def view_of(row: Row, known: Known, block: int, tree: int) -> RowView:
    """A row as the plan sees it.

    Args:
        row: It.
        known: Its drafts that cost nothing.
        block: Of the drafter; 0 without one.
        tree: The most tokens of its tree; 0 if it may have none.
    """
    offers = [offer for offer, _ in known]
    room = min(POSITIONS, row.left - 1)
    if block and room > 0:
        most = min(room, block - 1)
        offers.append(Offer("dflash", most))
        offers += [
            Offer("spliced", room, SURE if offer.source == "forced" else offer.match_length)
            for offer in offers[:1]
            if offer.source != "dflash" and offer.length < room
        ]
        forced = next((offer.length for offer in offers if offer.source == "forced"), 0)
        if tree and most - forced >= LEAST_TREE:
            size = tree if room == POSITIONS else room  # near its end little of it could be said
            offers.append(Offer("tree", size, size, forced))
    return RowView(row.request.id, row.task, row.length, tuple(offers))


def has_likely(row: Row) -> bool:
    """Whether a row has a draft that costs nothing and should be right; takes microseconds."""
    return row.copier.has(LIKELY) or (
        row.matcher is not None and len(row.matcher.likely_forced()) > 1
    )


def is_likely(known: Known) -> bool:
    """As `has_likely`, of a row's drafts that cost nothing."""
    return any(
        offer.match_length >= LIKELY if offer.source == "copy" else offer.length > 1
        for offer, _ in known
    )


def known_drafts(row: Row) -> Known:
    """The drafts that cost nothing, the surest first."""
    room = min(POSITIONS, row.left - 1)
    if room <= 0:
        return ()
    found: list[tuple[Offer, list[int]]] = []
    forced = row.matcher.likely_forced()[:room] if row.matcher else []
    if forced:
        found.append((Offer("forced", len(forced)), forced))
    copy = row.copier.propose(room)
    if copy.tokens:
        tokens = list(copy.tokens)
        found.append((Offer("copy", len(tokens), copy.match_length), tokens))
    return tuple(found)


def start_of(offer: Offer | None, known: Known) -> list[int]:
    """What a row's draft begins with, whatever the drafter says."""
    if offer is None:
        return []
    drafts = {o.source: tokens for o, tokens in known}
    if offer.source == "tree":
        return drafts.get("forced", [])[: offer.sure]
    if offer.source == "spliced":
        return drafts.get("forced", drafts.get("copy", []))[: offer.length]
    return drafts.get(offer.source, [])[: offer.length]


def copy_of(known: Known) -> list[int]:
    """The copy that is worth a part of a row's tree."""
    copies = [pair for pair in known if pair[0].source == "copy"]
    return next((tokens for offer, tokens in copies if offer.match_length >= LEAST_COPY), [])
