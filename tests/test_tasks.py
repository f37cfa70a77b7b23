"""Task files: what they may say, and how mistakes in them are told."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.messages import ask_about
from pipeline.prompts import check_tasks, choose_tasks, class_task, load_tasks, task_applies
from pipeline.records import Field, Limits, Task
from pipeline.task_files import read_task
from pipeline.toml_lines import find_line

BUILT_IN = (
    "bullets", "contract", "document_class", "entities", "invoice", "letter", "minutes", "summary",
)  # fmt: skip


def problems_of(text: str, file: str = "prompts/example.toml") -> list[str]:
    task, problems = read_task(file, text)
    assert (task is None) == bool(problems)
    return [str(problem) for problem in problems]


def task_of(text: str, file: str = "prompts/example.toml") -> Task:
    task, problems = read_task(file, text)
    assert not problems
    assert task is not None
    return task


def test_the_built_in_tasks_are_without_mistakes() -> None:
    assert check_tasks() == ()
    assert tuple(task.name for task in load_tasks()) == BUILT_IN
    found = class_task(load_tasks())
    assert found is not None
    assert {"invoice", "contract", "letter", "minutes", "report", "other"} == set(found.classes)
    assert {name for name, _ in found.examples} == set(found.classes)


def test_built_in_tasks_share_all_of_the_prompt_before_their_own_words() -> None:
    prompts = [
        "\n".join(m.content for m in ask_about(task, "T", "x" * 99))
        for task in load_tasks()
        if not task.examples
    ]
    shared = prompts[0].index("\n---\n") + len("\n---\n")
    assert len({prompt[:shared] for prompt in prompts}) == 1


def test_every_type_of_field_is_read() -> None:
    task = task_of(
        """
instructions = "Copy."
[limits]
max_tokens = 99
[settings]
repetition_penalty = 1.2
[fields]
plain = "decimal"
inline = { type = "enum", values = ["a", "b"], required = true }
[fields.lines]
type = "list"
max_items = 4
max_merged_items = 40
[fields.lines.items]
type = "object"
fields = { amount = "decimal", note = { type = "string", max_chars = 9 } }
"""
    )
    assert task.kind == "fields"
    assert task.limits == Limits(max_tokens=99)
    assert task.settings == (("no_repeat_ngram", 8), ("repetition_penalty", 1.2))
    note = Field("note", "string", max_chars=9)
    members = (Field("amount", "decimal"), note)
    assert task.fields == (
        Field("plain", "decimal"),
        Field("inline", "enum", required=True, values=("a", "b")),
        Field(
            "lines",
            "list",
            items=Field("lines", "object", fields=members),
            max_items=4,
            max_merged_items=40,
        ),
    )


CHOICES = 'instructions = "x"\nclasses = ["bill", "memo"]\n'


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('title = "x"\n', 1, "instructions are missing"),
        ('instructions = "x"\ninstuctions = "y"\n', 2, "did you mean 'instructions'?"),
        ("instructions = 5\n", 1, "instructions=5 is not text; put it in quotes"),
        ('instructions = "x"\n[fields.a]\ntype = "strng"\n', 3, "did you mean 'string'?"),
        ('instructions = "x"\n[fields.a]\ndescription = "y"\n', 2, "the field has no type"),
        ('instructions = "x"\n[fields.job_key]\ntype = "string"\n', 2, "'job_key' is taken"),
        ('instructions = "x"\n[fields."a b"]\ntype = "string"\n', 2, "'a b' can't be a column"),
        ('instructions = "x"\n[fields]\na = "date"\nA = "date"\n', 4, "differ only in case"),
        ('instructions = "x"\n[fields]\n', 2, "[fields] is empty"),
        ('instructions = "x"\n[fields.a]\ntype = "enum"\n', 2, "an enum needs its choices"),
        ('instructions = "x"\n[fields.a]\ntype = "list"\n', 2, "a list needs to know of what"),
        ('instructions = "x"\n[fields.a]\ntype = "object"\n', 2, "an object needs its members"),
        (
            'instructions = "x"\n[fields.a]\ntype = "date"\nmax_chars = 9\n',
            4,
            "is for type 'string'",
        ),
        ('instructions = "x"\n[limits]\nmax_tokens = 0\n', 3, "from 8 to 16384"),
        ('instructions = "x"\n[limits]\nmax_tokens = true\n', 3, "not a whole number"),
        ('instructions = "x"\n[limits]\nchunk_tokens = 100\noverlap_tokens = 60\n', 4, "half of"),
        (CHOICES + "[limits]\nmax_sentences = 2\n", 4, "max_sentences is for text"),
        ('instructions = "x"\n[settings]\ntemprature = 1\n', 3, "did you mean 'temperature'?"),
        ('instructions = "x"\n[settings]\nseed = 1.5\n', 3, "not a whole number"),
        ('instructions = "x"\n[examples]\nbill = "y"\n', 2, "write each under [[examples]]"),
        (CHOICES + '[examples]\nbil = "y"\n', 4, "did you mean 'bill'?"),
        (CHOICES + '[examples]\nbill = " "\n', 4, "the example of 'bill' is empty"),
        ('instructions = "x"\n[words]\nbill = ["y"]\n', 2, "are for a task with classes"),
        (CHOICES + '[words]\nbil = ["y"]\n', 4, "did you mean 'bill'?"),
        (CHOICES + '[words]\nbill = "y"\n', 4, "not a list of texts"),
        ('instructions = "x"\napplies_to = { globs = [""] }\n', 2, "not a list of texts"),
        ('instructions = "x"\napplies_to = { glob = ["*"] }\n', 2, "did you mean 'globs'?"),
        ('instructions = "x"\nkind = "fields"\n', 2, "describes a task of kind 'text'"),
        ('instructions = "x"\nclasses = ["a", "a"]\n', 2, "twice"),
        ('instructions = "x"\nclasses = ["a"]\n[fields]\nb = "date"\n', 2, "remove one of them"),
        ('instructions = "x"\nclasses = ["a"]\nmerge = "y"\n', 3, "joined by rules"),
        ('instructions = """\nkind = 3\n"""\nkind = "x"\n', 4, "kind='x'"),
        ('instructions = "x"\nbroken = [1,\n', 2, "not valid TOML"),
        ('a = "x\n', 1, "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_fix(text: str, line: int, told: str) -> None:
    found = problems_of(text)
    assert any(p.startswith(f"prompts/example.toml:{line}: ") and told in p for p in found), found


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("title = 1\nkind = 2\n")
    (tmp_path / "Two.toml").write_text('instructions = "x"\n')
    (tmp_path / "three.toml").write_bytes(b'instructions = "\xff"\n')
    with pytest.raises(InputError, match="5 mistakes") as caught:
        load_tasks(tmp_path)
    message = str(caught.value)
    for told in (
        "one.toml:1: title=1",
        "kind=2",
        "instructions are missing",
        "Two.toml:1",
        "UTF-8",
    ):
        assert told in message
    assert len(check_tasks(tmp_path)) == 5


def test_a_users_folder_adds_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "summary.toml").write_text('instructions = "In one word."\n')
    (tmp_path / "risk.toml").write_text(
        'applies_to = { globs = ["legal/**"], classes = ["contract"] }\ninstructions = "Risks?"\n'
    )
    tasks = {task.name: task for task in load_tasks(tmp_path)}
    assert set(tasks) == {*BUILT_IN, "risk"}
    assert tasks["summary"].instructions == "In one word."
    assert tasks["risk"].source == str(tmp_path / "risk.toml")


def test_classes_must_be_found_by_the_one_task_that_finds_them(tmp_path: Path) -> None:
    (tmp_path / "risk.toml").write_text(
        'instructions = "x"\napplies_to = { classes = ["contrct"] }\n'
    )
    with pytest.raises(InputError, match=r"risk\.toml:2: .*did you mean 'contract'\?"):
        load_tasks(tmp_path)
    (tmp_path / "risk.toml").write_text('instructions = "x"\nclasses = ["high", "low"]\n')
    with pytest.raises(InputError, match=r"risk\.toml:2: prompts/document_class\.toml finds"):
        load_tasks(tmp_path)


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        load_tasks(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no \.toml file"):
        load_tasks(tmp_path)


def test_an_unknown_task_is_told_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="task='sumary'; did you mean 'summary'"):
        choose_tasks(load_tasks(), ["sumary"])
    chosen = choose_tasks(load_tasks(), ["summary", "bullets", "summary"])
    assert [task.name for task in chosen] == ["summary", "bullets"]


@pytest.mark.parametrize(
    ("names", "document_class", "applies"),
    [
        (["a/b/Deal.PDF"], "contract", True),
        (["a/b/deal.txt"], "contract", False),
        (["copy.txt", "deal.pdf"], "contract", True),
        (["deal.pdf"], "letter", False),
        (["deal.pdf"], None, False),
    ],
)
def test_a_task_is_for_documents_of_its_globs_and_classes(
    names: list[str], document_class: str | None, applies: bool
) -> None:
    task = task_of(
        'instructions = "x"\napplies_to = { globs = ["*.pdf"], classes = ["contract"] }\n'
    )
    assert task_applies(task, names, document_class) is applies


def test_every_document_gets_a_task_that_names_none() -> None:
    task = task_of('instructions = "x"\n')
    assert task_applies(task, ["any/thing"], None)


BASE = 'instructions = "x"\n[fields.a]\ntype = "string"\n'


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('title = "New"\n' + BASE, True),
        ('applies_to = { globs = ["*.pdf"], classes = ["letter"] }\n' + BASE, True),
        (BASE + "[limits]\nmax_document_tokens = 7\n", True),
        (BASE.replace("x", "y"), False),
        (BASE.replace("fields.a", "fields.b"), False),
        (BASE + 'description = "y"\n', False),
        (BASE + "[limits]\nmax_tokens = 70\n", False),
        (BASE + "[limits]\noverlap_tokens = 9\n", False),
        (BASE + "[settings]\ntemperature = 0.5\n", False),
        ('system = "Be brief."\n' + BASE, False),
    ],
)
def test_the_fingerprint_changes_with_what_can_change_an_answer(text: str, same: bool) -> None:
    assert (task_of(text).fingerprint == task_of(BASE).fingerprint) is same


def test_the_fingerprint_tells_tasks_apart_but_not_their_folders() -> None:
    one = task_of(BASE, "prompts/one.toml")
    assert one.fingerprint == task_of(BASE, "/home/ada/one.toml").fingerprint
    assert one.fingerprint != task_of(BASE, "prompts/two.toml").fingerprint
    assert one == dataclasses.replace(one)


@given(st.text(alphabet="ab[]={}\"\n.'# ", max_size=60))
def test_any_text_is_read_or_told(text: str) -> None:
    problems_of(text)


def test_lines_are_found_through_headers_and_long_texts() -> None:
    text = 'a = """\n[b]\nc = 1\n"""\n[b] # note\nc = 1\n"d e" = 2\n[b.f]\ng.h = 1\n'
    assert find_line(text, ("b", "c")) == 6
    assert find_line(text, ("b", "d e")) == 7
    assert find_line(text, ("b", "f", "g", "h")) == 9
    assert find_line(text, ("b", "f", "none")) == 8
    assert find_line(text, ("none",)) == 1
    many = "[[a]]\nb = 1\n[a.c]\nb = 2\n[[a]]\nb = 3\n[a.c]\nb = 4\n"
    assert [find_line(many, ("a", "1", *rest)) for rest in ((), ("b",), ("c", "b"))] == [1, 2, 4]
    assert [find_line(many, ("a", "2", *rest)) for rest in ((), ("b",), ("c", "b"))] == [5, 6, 8]


def test_examples_are_shown_as_questions_with_their_answers_before_the_document() -> None:
    bare = 'instructions = "Which is it?"\nclasses = ["bill", "memo"]\n'
    task, problems = read_task("c.toml", bare + '[examples]\nmemo = "Call Ann."\nbill = "Pay 5."')
    plain, _ = read_task("c.toml", bare)
    assert not problems
    assert task is not None
    assert plain is not None
    assert task.fingerprint != plain.fingerprint
    assert task.examples == (("memo", "Call Ann."), ("bill", "Pay 5."))
    system, *shown, question = ask_about(task, "A title", "Come at noon.")
    assert system.role == "system"
    assert [(turn.role, turn.content) for turn in shown] == [
        ("user", "Document:\n\nCall Ann.\n\n---\nWhich is it?"),
        ("assistant", '"memo"'),
        ("user", "Document:\n\nPay 5.\n\n---\nWhich is it?"),
        ("assistant", '"bill"'),
    ]
    assert question.content == "Document: A title\n\nCome at noon.\n\n---\nWhich is it?"
    asked = ask_about(plain, "", "x")[-1].content
    assert asked.endswith("Which is it?\nAnswer with one of: bill, memo.")


def test_labels_and_looks_of_a_field_are_read_and_checked() -> None:
    text = 'instructions = "x"\n[fields.a]\ntype = "string"\nlabels = ["No.", "^"]\n'
    task, problems = read_task("t.toml", text + "looks_like = '[0-9]+'\n")
    assert task is not None
    assert (task.fields[0].labels, task.fields[0].looks_like) == (("No.", "^"), "[0-9]+")
    assert not problems
    _, problems = read_task("t.toml", text + "looks_like = '['\n")
    assert "not a regular expression" in str(problems[0])


def test_patterns_need_a_group_for_the_value() -> None:
    text = '[fields.days]\ntype = "integer"\n'
    head = 'title = "T"\ninstructions = "I"\n'
    task, problems = read_task("t.toml", head + text + "patterns = ['(?P<value>[0-9]+) days']\n")
    assert task is not None, problems
    assert task.fields[0].patterns == ("(?P<value>[0-9]+) days",)
    for wrong, told in (("[0-9]+ days", "no group"), ("(?P<value>[0-9]+", "not a regular")):
        _, problems = read_task("t.toml", head + text + f"patterns = ['{wrong}']\n")
        assert told in str(problems[0])
