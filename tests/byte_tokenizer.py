"""A small byte-level BPE tokenizer made on the spot, so that tests need no model."""

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.tokens import Tokens

CORPUS = (
    "The invoice number is A-1017 and the total amount is 1,234.50 euros, due on 2026-03-31.",
    "Minutes of the meeting: the board approved the budget, and the chair closed the session.",
    "契約は二〇二六年に終了します。次の会議は東京で開かれます。",
)


def write_tokenizer(path: Path) -> Path:
    """Writes a `tokenizer.json` with a few merges and three control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(path))
    return path


@lru_cache(maxsize=1)
def byte_tokens() -> Tokens:
    """The same tokenizer, loaded once."""
    with TemporaryDirectory() as folder:
        return Tokens(str(write_tokenizer(Path(folder) / "tokenizer.json")))
