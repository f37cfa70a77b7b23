"""Small PDFs written byte by byte, friendly and hostile."""

import io
import zlib
from collections.abc import Sequence

from pypdf import PdfReader, PdfWriter


def assemble(objects: Sequence[bytes]) -> bytes:
    """A PDF of numbered objects, the first of which is the catalogue."""
    out = b"%PDF-1.7\n"
    offsets: list[int] = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    count = len(objects) + 1
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (count, table, count, len(out))
    )


def stream(data: bytes, extra: bytes = b"") -> bytes:
    packed = zlib.compress(data, 1)
    return b"<< /Length %d /Filter /FlateDecode %b >>\nstream\n%b\nendstream" % (
        len(packed),
        extra,
        packed,
    )


def make_pdf(*pages: str) -> bytes:
    """A PDF with a page of Latin-1 text per argument; an empty one has no text."""
    return make_pdf_of(*(_show(text) for text in pages))


def make_pdf_of(*contents: bytes, sharing: int = 1) -> bytes:
    """A PDF of content streams, each of which `sharing` pages show."""
    first_page = 4 + len(contents)
    total = len(contents) * sharing
    kids = b" ".join(b"%d 0 R" % (first_page + index) for index in range(total))
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count %d /Kids [%b] >>" % (total, kids),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
            *(stream(content) for content in contents),
            *(
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
                b"/Resources << /Font << /F1 3 0 R >> >> >>" % (4 + index // sharing)
                for index in range(total)
            ),
        ]
    )


def _show(text: str) -> bytes:
    if not text:
        return b"0 0 m 10 10 l S"
    lines = text.encode("latin-1").replace(b"(", rb"\(").replace(b")", rb"\)").split(b"\n")
    return b"BT /F1 12 Tf 14 TL 72 720 Td " + b" ".join(b"(%b) Tj T*" % x for x in lines) + b" ET"


def make_form_pdf() -> bytes:
    """A page with a filled form: a field that is its own widget, and one with its parent's name."""
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R 5 0 R] >> >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Annots [4 0 R 6 0 R 7 0 R] >>",
            b"<< /Subtype /Widget /FT /Tx /T (total) /V (19.90) /Rect [0 0 1 1] >>",
            b"<< /FT /Tx /T (name) /V (Ada) /Kids [6 0 R] >>",
            b"<< /Subtype /Widget /Parent 5 0 R /Rect [0 0 1 1] >>",
            b"<< /Subtype /Link /Rect [0 0 1 1] >>",
        ]
    )


def make_slow_pdf(pages: int = 400) -> bytes:
    """A small file that keeps a parser busy for a minute: many pages show one long stream."""
    return make_pdf_of(b"BT /F1 12 Tf " + b"(a) Tj\n" * 30_000 + b"ET", sharing=pages)


def make_swelling_pdf() -> bytes:
    """A small file that unpacks to much more than it is."""
    return make_pdf_of(b"BT /F1 12 Tf (" + b"a" * 60_000_000 + b") Tj ET")


def encrypt(pdf: bytes, password: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")  # noqa: S106
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
