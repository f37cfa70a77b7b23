"""Which drafter a model gets: the one that was asked for, or the one that docflash ships for it.

The shipped one is for the embedded model; `README.md` beside its weights is its model card.
"""

from pathlib import Path

from pipeline.settings import EMBEDDED_MODEL

SHIPPED_DRAFTER = Path(__file__).parents[1] / "shipped_drafter"
NO_DRAFTER, THE_SHIPPED = "none", "shipped"
"""In a folder's place: only drafts that cost nothing (forced tokens and copies); or that one."""


def drafter_of(model: str, wanted: str) -> str:
    """The folder of the drafter to use, or "" for none.

    Args:
        model: "embedded" or a folder.
        wanted: A drafter's folder, "none", "shipped", or "": the shipped one, if the model has
            one.
    """
    if wanted == THE_SHIPPED or (not wanted and model == EMBEDDED_MODEL):
        return str(SHIPPED_DRAFTER)
    return "" if wanted == NO_DRAFTER else wanted


def absolute_drafter(wanted: str) -> str:
    """The same for a process with another working folder."""
    return (
        wanted
        if wanted in {"", NO_DRAFTER, THE_SHIPPED}
        else str(Path(wanted).expanduser().absolute())
    )
