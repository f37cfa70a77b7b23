"""Answers a task with fields: asks in the form that suits the model, and grounds every value.

In: a document's text and chunks. Out: its value with evidence. See `pipeline.forms` for the forms,
`pipeline.grounding` for what a value has to show, `pipeline.reconcile` for many parts.
"""

from collections.abc import Sequence

from pipeline.asking import Asker, Question, place_of
from pipeline.claims import NOTHING_LIKE_IT, Claim, PartAnswer, Seen
from pipeline.derive_dates import first_whole_date
from pipeline.engine.interface import Completion, Message
from pipeline.errors import ResultError
from pipeline.forms import Form, choose_form, field_schema, find_taken, quoted_schema
from pipeline.grounding import ground_answer
from pipeline.messages import ask_about, ask_field, ask_for_quotes
from pipeline.places import without_beginning
from pipeline.probabilities import TOP_LOGPROBS, Probabilities
from pipeline.reconcile import Reconciled, reconcile
from pipeline.records import Chunk, Field
from pipeline.results import load_members
from pipeline.schema import answer_schema


def answer_fields(asker: Asker, title: str, text: str, chunks: Sequence[Chunk]) -> Reconciled:
    """Asks about each chunk and joins what came.

    Args:
        asker: Of a job whose task has fields.
        title: The document's title, short.
        text: Its normalised text.
        chunks: Those with text.

    Raises:
        ResultError: An answer was invalid twice, or a required field is nowhere.
    """
    first = first_whole_date(text)
    context = first.isoformat() if first else ""
    form = choose_form(asker.task, asker.model)
    ask = _ask_each if form == "per_field" else _ask_all
    parts = [
        ask(
            asker,
            form,
            title,
            Seen(text, chunk.start_char, chunk.end_char, context),
            (number, len(chunks), place_of(chunk, number, len(chunks))),
        )
        for number, chunk in enumerate(chunks, start=1)
    ]
    answer = reconcile(asker.task, text, parts)
    asker.cut = asker.cut or answer.cut
    return answer


def _ask_all(
    asker: Asker, form: Form, title: str, seen: Seen, part: tuple[int, int, str]
) -> PartAnswer:
    """All fields in one call."""
    task = asker.task
    number, count, place = part
    is_partial = count > 1
    words = ask_for_quotes if form == "one_call" else ask_about
    make_schema = quoted_schema if form == "one_call" else answer_schema
    question = Question(
        words(task, title, seen.shown, number, count),
        make_schema(task, partial=is_partial),
        seen.shown,
        TOP_LOGPROBS,
        place,
    )

    def read(completion: Completion) -> PartAnswer:
        return _read(completion, form, task.fields, seen, is_partial=is_partial)

    return asker.ask(question, read)


def _ask_each(
    asker: Asker, _form: Form, title: str, seen: Seen, part: tuple[int, int, str]
) -> PartAnswer:
    """A call for each field that leaves a choice.

    One that can't be answered leaves the others as they are.
    """
    answers = [
        _ask_field(asker, member, ask_field(asker.task, member, title, seen.shown), seen, part)
        for member in asker.task.fields
    ]
    values = {name: value for answer in answers for name, value in answer.value.items()}
    return PartAnswer(values, tuple(claim for answer in answers for claim in answer.claims))


def _ask_field(
    asker: Asker,
    member: Field,
    messages: tuple[Message, ...],
    seen: Seen,
    part: tuple[int, int, str],
) -> PartAnswer:
    is_partial = part[1] > 1
    looked_for = without_beginning(member) if part[0] > 1 else member
    if looked_for is None:
        return _nothing(member, NOTHING_LIKE_IT)
    member = looked_for
    schema = field_schema(member, seen.shown, seen.context, partial=is_partial)
    if schema is None:
        return _nothing(member, NOTHING_LIKE_IT)
    taken = find_taken(member, schema)
    if taken is not None:
        return ground_answer(
            (member,), "per_field", {member.name: taken}, seen, Probabilities(None)
        )
    question = Question(messages, schema, seen.shown, TOP_LOGPROBS, part[2])
    try:
        return asker.ask(
            question,
            lambda completion: _read(
                completion, "per_field", (member,), seen, is_partial=is_partial
            ),
        )
    except ResultError as error:
        return _nothing(member, f"the model gave no usable answer: {error.kind}")


def _nothing(member: Field, reason: str) -> PartAnswer:
    value = [] if member.type == "list" else None
    claim = Claim(member.name, None, None, None, "not_found", reason)
    return PartAnswer({member.name: value}, (claim,))


def _read(
    completion: Completion, form: Form, fields: Sequence[Field], seen: Seen, *, is_partial: bool
) -> PartAnswer:
    members = load_members(completion.text)
    answer = ground_answer(fields, form, members, seen, Probabilities(completion))
    for member in fields:
        if member.required and not is_partial and answer.value[member.name] in (None, []):
            raise ResultError("missing_field", f"{member.name!r} is empty; it needs a value")
    return answer
