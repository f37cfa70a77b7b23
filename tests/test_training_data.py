"""From passages to batches: broken lines, splits, questions, shards, walks."""

import itertools
import json
import lzma
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pipeline.engine.grammars.grammar import Grammars
from pipeline.engine.interface import CoreOptions
from pipeline.engine.memory.window import Shapes
from pipeline.errors import InputError
from pipeline.prompts import load_tasks
from pipeline.training.examples import Batches, Example, choose_examples, stack
from pipeline.training.full_core import FullCore
from pipeline.training.passages import Text, read_folder, read_passages
from pipeline.training.questions import Question, Questions
from pipeline.training.regenerate import Setting, merge_questions, write_answers
from pipeline.training.shards import Answer, Shards, repeats_itself
from pipeline.training.walks import Drafted, walk_alone, walk_with_others
from tests.tiny import SHAPES, write_llama
from tests.tiny_training import END, TEXT, follower, info_of, write_documents, write_followers


def line(text: str = "Some text.", **more: str) -> str:
    return json.dumps({"text": text, "title": "A", "source": "s", "licence": "CC0"} | more)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_broken_lines_are_passed_over_and_told_by_number(tmp_path: Path) -> None:
    lines = [
        line("one", source="a", split="train"), "{not json", line("two", source="a", split="train"),
        "", json.dumps(["no object"]), json.dumps({"title": "no text"}), line("", source="b"),
        line("three", source="c", split="heldout"), line("x", split="test"), '{"text": 5}',
    ]  # fmt: skip
    found = read_passages(write_lines(tmp_path / "p.jsonl", lines))
    assert [(t.source, t.passages, t.split) for t in found.texts] == [
        ("a", ("one", "two"), "train"),
        ("c", ("three",), "heldout"),
    ]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("6 of 10 lines of p.jsonl are broken")
    assert "(line 2, 5, 6, 7, 9, ...)" in found.notes[0]
    assert "not json" not in found.notes[0]


def test_a_packed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.xz"
    path.write_bytes(lzma.compress(f"{line(source='a')}\n{line(source='b')}\n".encode()))
    assert len(read_passages(path).texts) == 2
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"p.jsonl.xz.* can't be read"):
        read_passages(path)


@pytest.mark.parametrize("lines", [[], ["{", "["]])
def test_a_file_with_nothing_to_use_is_refused(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no line that can be used"):
        read_passages(write_lines(tmp_path / "p.jsonl", lines))
    with pytest.raises(InputError, match="can't be read"):
        read_passages(tmp_path / "missing.jsonl")


def test_a_document_is_on_one_side_only(tmp_path: Path) -> None:
    lines = [
        line("one", source="a", split="train"), line("two", source="a", split="heldout"),
        line("three", source="b", split="train"),
    ]  # fmt: skip
    found = read_passages(write_lines(tmp_path / "p.jsonl", lines))
    by_split = {s: {t.source for t in found.texts if t.split == s} for s in ("train", "heldout")}
    assert by_split == {"train": {"b"}, "heldout": {"a"}}
    assert found.notes == ("1 passages to train on are of held-out documents and left out",)


def test_without_a_split_documents_are_split_by_chance_and_the_same_each_time(
    tmp_path: Path,
) -> None:
    path = write_lines(tmp_path / "p.jsonl", [line(source=f"s{i}") for i in range(500)])
    found = read_passages(path)
    heldout = sum(text.split == "heldout" for text in found.texts)
    assert 2 <= heldout <= 25
    assert read_passages(path) == found


def test_a_folder_of_documents_is_cut_into_passages(tmp_path: Path) -> None:
    info = info_of(write_followers(tmp_path / "target"))
    folder = write_documents(tmp_path / "documents", 5, words=1000)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 no")
    found = read_folder(folder, info.tokenizer_json)
    assert len(found.texts) == 5
    assert all(len(text.passages) > 2 for text in found.texts)
    assert {text.split for text in found.texts} == {"train", "heldout"}
    assert all(text.source.startswith("sha256:") for text in found.texts)
    assert found.notes == ("1 files of the folder could not be read and are left out",)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no document with text"):
        read_folder(tmp_path / "empty", info.tokenizer_json)


def make_texts(count: int = 6) -> list[Text]:
    chance = np.random.default_rng(3)
    return [
        Text(
            f"T{i}", tuple(" ".join(chance.choice(TEXT.split(), 30)) + "." for _ in range(4)),
            f"source {i}", "CC0", "heldout" if i == 0 else "train",
        )
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_followers(tmp_path_factory.mktemp("target") / "target")


def questions_of(target: Path, length: int = 4096) -> Questions:
    return Questions(load_tasks(), info_of(target), length, 1)


def test_questions_are_the_same_for_a_seed_and_of_all_kinds(target: Path) -> None:
    asked = list(questions_of(target).about(make_texts(), "train", 200))
    again = list(questions_of(target).about(make_texts(), "train", 120))
    assert [q.key for q in again] == [q.key for q in asked[: len(again)]]
    assert len({question.key for question in asked}) == len(asked)
    assert {q.kind for q in asked} == {
        "summary", "bullets", "extraction", "quotes", "answer", "part",
    }  # fmt: skip
    assert all(question.source != "source 0" for question in asked)
    assert all(question.licence == "CC0" for question in asked)
    schemas = {json.dumps(question.schema) for question in asked if question.schema}
    assert len(schemas) > 10
    assert any('"null"' in schema for schema in schemas)
    assert any("x-quote-of-source" in schema for schema in schemas)


def test_prose_is_asked_for_with_the_product_s_own_settings(target: Path) -> None:
    summary = next(task for task in load_tasks() if task.name == "summary")
    settings = dict(summary.settings)
    for question in questions_of(target).about(make_texts(), "train", 60):
        if question.kind in {"summary", "part"}:
            assert question.sampling.no_repeat_ngram == settings["no_repeat_ngram"]
            assert question.sampling.no_repeat_copied == settings["no_repeat_copied"]
            assert question.messages[0].content == summary.system


def answer(key: str, **changes: Any) -> Answer:
    plain = Answer(
        key=key, kind="summary", source="s", licence="CC0", split="train", group="", part=0,
        schema="", quoted="", prompt=(5, 6, 7), answer=(8, 9), text="two words", ended="stop",
        loops=False,
    )  # fmt: skip
    return replace(plain, **changes)


def plain(one: Answer) -> Answer:
    prompt, answer = ([int(token) for token in tokens] for tokens in (one.prompt, one.answer))
    return replace(one, prompt=prompt, answer=answer)


def test_shards_come_back_and_hold_to_their_setting(tmp_path: Path) -> None:
    setting = {"model": "f", "seed": 1}
    shards = Shards(tmp_path / "answers", setting)
    shards.add([answer("a"), answer("b", split="heldout", loops=True, schema="{}")])
    shards.add([answer("c", group="g", part=2)])
    again = Shards(tmp_path / "answers", setting)
    assert [plain(one) for one in again.all()] == [plain(one) for one in shards.all()]
    assert again.keys == {"a", "b", "c"}
    assert len(list((tmp_path / "answers").glob("*.parquet"))) == 2
    with pytest.raises(InputError, match=r"seed=2 \(was 1\).*choose another --out"):
        Shards(tmp_path / "answers", setting | {"seed": 2})
    file = next((tmp_path / "answers").glob("*0.parquet"))
    parquet.write_table(pa.table({"prompt": ["no tokens"]}), file)
    with pytest.raises(InputError, match=r"can't be read.*remove it"):
        Shards(tmp_path / "answers", setting)
    file.write_bytes(b"no")
    with pytest.raises(InputError, match=r"can't be read.*remove it"):
        Shards(tmp_path / "answers", setting)


def test_looping_answers_are_known() -> None:
    turn = "one two three four five six seven eight "
    assert repeats_itself(turn * 4)
    assert not repeats_itself(turn * 3)
    assert not repeats_itself(" ".join(str(i) for i in range(200)))
    assert not repeats_itself("")


def test_answers_are_written_once_and_go_on_after_a_stop(target: Path, tmp_path: Path) -> None:
    info = info_of(target)
    questions = list(questions_of(target).about(make_texts(), "train", 24))
    core = FullCore(info, CoreOptions(max_rows=4, speculate=False))
    shards = Shards(tmp_path / "answers", {})
    steps = itertools.count()
    part = write_answers(
        questions, core, shards, Setting(info.name, 4, END, lambda: next(steps) > 150)
    )
    assert part.stopped
    assert 0 < part.answers < len(questions)
    fresh = FullCore(info, CoreOptions(max_rows=4, speculate=False))
    rest = write_answers(questions, fresh, shards, Setting(info.name, 4, END))
    assert not rest.stopped
    assert part.answers + rest.answers + rest.refused == len(questions)
    assert len(shards.keys) == part.answers + rest.answers
    prose = [one for one in shards.all() if not one.schema]
    assert prose
    for one in prose:
        tokens = [one.prompt[-1], *one.answer]
        followed = sum(follower(a) == b for a, b in itertools.pairwise(tokens))
        assert followed >= 0.8 * len(one.answer)  # the repetition penalty changes some
        assert (one.answer[-1] == END) == (one.ended == "stop")


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("rows", [5, 24])  # 24: prompts are read by threes, the last ones repeated
def test_prompts_that_are_read_together_give_the_same_answers(
    shapes: Shapes, rows: int, tmp_path: Path
) -> None:
    target = write_llama(tmp_path / "target", context_tokens=4096)  # all that it reads counts
    info = info_of(target)
    questions = list(questions_of(target).about(make_texts(), "train", 12 + rows))
    found: list[dict[str, Answer]] = []
    for together in (False, True):
        core = FullCore(info, CoreOptions(max_rows=rows, prefill_tokens=128, speculate=False))
        core._target.cache.shapes = shapes
        core.reads_together = together
        shards = Shards(tmp_path / f"{together}", {})
        write_answers(questions, core, shards, Setting(info.name, rows, END))
        found.append({one.key: one for one in shards.all()})
        assert not core.rows()
        assert core.stats().finished == len(shards.keys) > 8
    assert found[0] == found[1]


def test_parts_are_merged_in_their_order(target: Path) -> None:
    questions = questions_of(target)
    parts = [
        answer("b", kind="part", group="g", part=1, text="Second."),
        answer("a", kind="part", group="g", part=0, text="First."),
        answer("c", kind="part", group="h", part=0, text="Alone."),
        answer("d", kind="part", group="i", part=0, text="Loops.", loops=True),
        answer("e", kind="part", group="i", part=1, text="Fine."),
    ]

    def merge(found: list[Answer]) -> Question:
        return questions.merge([one.text for one in found], found[0].group)

    (merged,) = merge_questions(parts, merge)
    assert merged.kind == "merge"
    assert "Part 1: First.\n\nPart 2: Second." in merged.messages[-1].content


def test_what_can_t_be_learnt_from_is_left_out_and_counted() -> None:
    answers = [
        answer("a"), answer("b", loops=True), answer("c", answer=tuple(range(100))),
        answer("d", split="heldout"), answer("e", answer=()),
    ]  # fmt: skip
    chosen = choose_examples(answers, "train", 50)
    assert [one.key for one in chosen.examples] == ["a"]
    assert (chosen.looping, chosen.too_long) == (1, 1)
    with pytest.raises(InputError, match=r"split='heldout'.*longer than length=3"):
        choose_examples(answers, "heldout", 3)


def make_example(key: str, tokens: Sequence[int], start: int, **more: str) -> Example:
    return Example(key, "summary", "s", np.array(tokens, np.int32), start, **more)


def test_every_example_comes_once_an_epoch_in_an_order_of_the_seed() -> None:
    examples = [make_example(str(i), range(5 + i % 7), 2) for i in range(23)]
    batches = Batches(examples, 4, seed=1)
    assert batches.per_epoch == 5
    keys = [[one.key for one in batches.batch(n).examples] for n in range(10)]
    for epoch in (keys[:5], keys[5:]):
        assert len({key for batch in epoch for key in batch}) == 20
    assert keys[:5] != keys[5:]
    again = Batches(examples, 4, seed=1)
    assert [one.key for one in again.batch(7).examples] == keys[7]
    assert [one.key for one in Batches(examples, 4, seed=2).batch(0).examples] != keys[0]


def test_anchors_are_places_of_the_answer_the_last_prompt_token_included() -> None:
    batch = stack([make_example("a", range(30), 10), make_example("b", range(12), 9)])
    batches = Batches(batch.examples, 2, seed=1)
    seen: list[set[int]] = [set(), set()]
    for step in range(200):
        blocks = batches.blocks(batch, step, 5, 4, 7.0)
        for row in (0, 1):
            valid = blocks.weights[row, :, 0] > 0
            places = blocks.anchors[row][valid].tolist()
            assert len(set(places)) == len(places)
            seen[row].update(places)
    assert seen[0] == set(range(9, 29))
    assert seen[1] == {8, 9, 10}


def drafted(example: Example, wrong: Sequence[int] = (), block: int = 4) -> Drafted:
    """Blocks that are right but at the given places of the answer."""
    answer = example.tokens[example.start :].tolist()
    padded = [-1 if i in wrong else token for i, token in enumerate(answer)] + [-1] * block
    rows = [padded[i : i + block - 1] for i in range(len(answer))]
    return Drafted(np.array(rows, np.int32))


def test_a_walk_counts_what_the_engine_s_loop_would() -> None:
    example = make_example("a", [9, 9, *range(100, 112)], 2)
    assert walk_alone(example, drafted(example), 3).verifies == 3
    assert walk_alone(example, drafted(example), 1).verifies == 6
    assert walk_alone(example, drafted(example, wrong=range(12)), 3).verifies == 12
    walk = walk_alone(example, drafted(example, wrong=[1]), 3)  # 2, 4, 4, 2
    assert (walk.verifies, walk.tokens) == (4, 12)


def test_copies_are_added_where_they_match() -> None:
    text = list(range(100, 140))
    example = make_example("a", [*text, 7, *text], 41)
    nothing = drafted(example, wrong=range(40))
    assert walk_alone(example, nothing, 7).verifies == 40
    added = walk_with_others(example, nothing, 7, None)
    assert added.verifies < 12
    wrong = np.array([[8, 9, 8, *[9] * 12], [0, 0, 1, *range(3, 15)]], np.int32)
    grafted = walk_with_others(example, replace(nothing, grown=lambda *_: wrong), 7, None)
    assert added.verifies <= grafted.verifies < 16


def test_the_grammar_forces_and_picks(target: Path) -> None:
    info = info_of(target)
    grammars = Grammars(info.tokenizer_json, 512, [END])
    schema: dict[str, Any] = {
        "x-guidance": {"whitespace_flexible": False},
        "type": "object",
        "properties": {"is_paid": {"type": "boolean"}},
        "required": ["is_paid"],
        "additionalProperties": False,
    }
    matcher = grammars.matcher(schema)
    written: list[int] = []
    while not matcher.complete:
        forced = matcher.forced() or [next(t for t in range(512) if _allows(matcher, t))]
        matcher.consume(forced)
        written += forced
    example = make_example("a", [5, 6, *written], 2, schema=json.dumps(schema))
    wrong = np.array([[9] * 15, range(15)], np.int32)
    nothing = Drafted(np.full((len(written), 15), 9, np.int32), lambda *_: wrong)
    alone, added = (
        walk_alone(example, nothing, 15),
        walk_with_others(example, nothing, 15, grammars),
    )
    assert alone.verifies == len(written)
    assert added.verifies <= 3


def _allows(matcher: Any, token: int) -> bool:
    return matcher._matcher.validate_tokens([token]) == 1
