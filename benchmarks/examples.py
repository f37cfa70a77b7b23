"""What one example in a question's file is worth to a small model.

    uv run python benchmarks/examples.py [--split train] [--work FOLDER]

Asks about the gold set's invoices twice: with docflash's own question without what tells where a
value stands (labels, patterns), so that the model is asked for all fields one by one, and with the
same and one example, of a layout that the gold set does not have. Writes precision, recall, F1,
tokens and seconds to benchmarks/examples.json. With --work the answers are kept for the next time.
"""

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

from calibration import write_plain_tasks
from machine import describe_surroundings
from quality import near, rounded

from pipeline.evaluation.evaluate import PRODUCT, evaluate
from pipeline.evaluation.gold import load_gold
from pipeline.evaluation.running import Trial, answer_gold
from pipeline.progress import Progress
from pipeline.prompts import load_tasks
from pipeline.settings import EMBEDDED_MODEL

_GOLD = Path(__file__).parents[1] / "sample_docs" / "gold" / "gold.json"
_TASK = "invoice"
_EXAMPLE = '''
[[examples]]
text = """
MILLER & SONS JOINERS
12 Dock Lane, Bristol

Invoice no: MS-2231
Date: 3 May 2019
To: Avon Reading Rooms Ltd

2 oak doors, fitted   470.00
1 door frame          130.00
Net                   600.00
VAT 20 %              120.00
Total to pay         £720.00
Please pay by 2 June 2019.
"""
[examples.answer]
invoice_number = "MS-2231"
invoice_date = { quote = "Date: 3 May 2019", value = 2019-05-03 }
due_date = { quote = "Please pay by 2 June 2019", value = 2019-06-02 }
seller = "MILLER & SONS JOINERS"
buyer = "Avon Reading Rooms Ltd"
currency = { quote = "£720.00", value = "GBP" }
total = { quote = "Total to pay         £720.00", value = "720.00" }
tax = { quote = "VAT 20 %              120.00", value = "120.00" }
[[examples.answer.lines]]
quote = "2 oak doors, fitted   470.00"
description = "oak doors, fitted"
quantity = "2"
amount = "470.00"
[[examples.answer.lines]]
quote = "1 door frame          130.00"
description = "door frame"
quantity = "1"
amount = "130.00"
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--split", default="train")
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--work", type=Path, help="keeps the answers; none: for the moment")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    with nullcontext(options.work) if options.work else tempfile.TemporaryDirectory() as name:
        work = Path(name).absolute()
        rows = {
            way: measure(work / way, example, options.split, options.model)
            for way, example in (("without", ""), ("with_one", _EXAMPLE))
        }
    surroundings = describe_surroundings("mlx", "llguidance", "pypdf")
    report = {**surroundings, "split": options.split, "model": options.model, **rows}
    options.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report, indent=2))


def measure(work: Path, example: str, split: str, model: str) -> dict[str, object]:
    """The scores of the question with an example at its end, or none."""
    prompts = write_plain_tasks(work / "tasks")
    with (prompts / f"{_TASK}.toml").open("a", encoding="utf-8") as file:
        file.write(example)
    tasks = load_tasks(prompts)
    gold = load_gold(_GOLD, tasks, split=split, only=[_TASK])
    answer_gold(gold, Trial(work / "out", model, prompts), Progress())
    scores = [one for one in evaluate(gold, tasks, work / "out").scores if one.system == PRODUCT]
    fields = {one.field: near(one.f1) for one in scores if one.field}
    head = next(one for one in scores if not one.field)
    return {**rounded(head), "f1_by_field": fields}


if __name__ == "__main__":
    main()
