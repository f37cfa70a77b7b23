"""Fields of docflash's own tasks, as they are shipped."""

from pipeline.prompts import load_tasks
from pipeline.records import Field


def own_field(task: str, name: str) -> Field:
    """A field of one of them."""
    fields = {one.name: one.fields for one in load_tasks()}[task]
    return next(field for field in fields if field.name == name)
