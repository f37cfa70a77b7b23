"""What the settings of generation do to summaries: ROUGE-L, facts named, sentences without support.

    uv run python benchmarks/summary_settings.py [--only NAME ...]

The embedded model summarises the documents of the gold set's split train under each setting, as
`docflash eval` does. Told besides the scores: the part of the sentences that no sentence of the
document supports, and of those that have a number, a date or a name that it does not have; how many
sentences and words there are. Writes benchmarks/summary_settings.json; what it knows of other
settings stays.

What is there was measured before a summary had a bound of four sentences (`max_sentences`), which
is left out here: what the first sentences alone come to stands there, too.
"""

import argparse
import json
import tempfile
from pathlib import Path

from machine import describe_surroundings
from quality import near, only_tasks

from pipeline.evaluation.evaluate import PRODUCT, evaluate
from pipeline.evaluation.gold import Gold, load_gold
from pipeline.evaluation.running import Trial, answer_gold
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.queries import query
from pipeline.settings import EMBEDDED_MODEL

_ROOT = Path(__file__).parents[1]
_GOLD = _ROOT / "sample_docs" / "gold" / "gold.json"
_TASK = "summary"
_LIMIT = "max_tokens = 160"
_BOUND = "max_sentences = 4"
SETTINGS = {
    "4-grams, copied 12-grams (default)": (4, 12, 1.0, 160),
    "the same, at most 96 tokens": (4, 12, 1.0, 96),
    "penalty 1.1, 12-grams": (12, 0, 1.1, 160),
    "penalty 1.05, 12-grams": (12, 0, 1.05, 160),
    "penalty 1.1, 6-grams, copied 12-grams": (6, 12, 1.1, 160),
    "penalty 1.1, 4-grams, copied 12-grams": (4, 12, 1.1, 160),
}
_EVIDENCE = """
SELECT count(*) AS sentences, count(*) FILTER (support = 'unsupported') / count(*) AS unsupported,
    count(*) FILTER (reason LIKE 'it has %') / count(*) AS unknown
FROM evidence WHERE task = 'summary' AND span = 0
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    gold = only_tasks(load_gold(_GOLD, load_tasks(), split="train"), [_TASK])
    known = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    found = known.get("settings", {})
    for name in options.only:
        found[name] = measure(gold, *SETTINGS[name])
        print(name, found[name], flush=True)
        report = known | {
            **describe_surroundings("mlx", "pypdf"),
            "split": "train",
            "documents": len(gold.documents),
            "settings": found,
        }
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def measure(
    gold: Gold, ngram: int, copied: int, penalty: float, max_tokens: int
) -> dict[str, object]:
    """Summarises the documents under one setting, and scores it."""
    text = (_ROOT / "prompts" / f"{_TASK}.toml").read_text("utf-8")
    settings = (
        f"[settings]\nno_repeat_ngram = {ngram}\nno_repeat_copied = {copied}\n"
        f"repetition_penalty = {penalty}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        prompts, out = Path(name) / "prompts", Path(name) / "out"
        prompts.mkdir()
        limited = text.replace(_LIMIT, f"max_tokens = {max_tokens}").replace(_BOUND, "")
        (prompts / f"{_TASK}.toml").write_text(f"{limited}\n{settings}", "utf-8")
        answer_gold(gold, Trial(out, EMBEDDED_MODEL, prompts), Progress())
        scores = evaluate(gold, load_tasks(prompts), out).scores
        head = next(row for row in scores if row.system == PRODUCT and row.task == _TASK)
        [sentences] = query(out, _EVIDENCE).to_pylist()
        texts = query(out, "SELECT text, cut FROM summary").to_pylist()
    return {
        "rouge_l": near(head.rouge_l),
        "coverage": near(head.coverage),
        **{key: near(value) for key, value in sentences.items()},
        "words": sum(len(row["text"].split()) for row in texts),
        "cut": sum(row["cut"] for row in texts),
        "completion_tokens": head.completion_tokens,
    }


if __name__ == "__main__":
    main()
