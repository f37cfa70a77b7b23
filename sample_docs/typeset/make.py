"""Makes the documents of `sample_docs/documents/` that this project wrote or typeset itself.

    uv run --no-project --with reportlab==5.1.0 --with pypdfium2==5.15.2 --with pillow==13.0.0 \
        --with 'pypdf[crypto]==7.1.0' python sample_docs/typeset/make.py

No date, id or salt of the moment goes into a file, so with these versions the bytes are the same
every time. The documents of other authors that lie beside them are not touched.
"""

from pathlib import Path

from contracts import write_contracts
from invoices import write_invoices
from letters import write_letters
from minutes import write_minutes
from odd import write_odd
from public_domain import write_constitution, write_declaration, write_xz_format

DOCUMENTS = Path(__file__).parent.parent / "documents"


def main() -> None:
    """Writes all of them."""
    write_invoices(DOCUMENTS / "invoices")
    write_contracts(DOCUMENTS / "contracts")
    (DOCUMENTS / "letters").mkdir(parents=True, exist_ok=True)
    write_letters(DOCUMENTS / "letters")
    write_minutes(DOCUMENTS / "minutes")
    write_declaration(DOCUMENTS / "reports" / "declaration-of-independence.pdf")
    write_constitution(DOCUMENTS / "long" / "constitution-of-the-united-states.pdf")
    write_xz_format(DOCUMENTS / "long" / "xz-file-format.pdf")
    write_odd(DOCUMENTS / "odd", DOCUMENTS)


if __name__ == "__main__":
    main()
