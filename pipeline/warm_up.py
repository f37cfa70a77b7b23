"""Loads what parsers load only when they meet it, so that a fork of this process finds it there.

In: nothing. Out: modules in memory. A reader's child lives for one document: without this, half of
its time went into the modules that pypdf imports at the first compressed stream and font.
"""

import zlib

from pipeline.pages import read_contents

_STREAM = zlib.compress(b"BT /F1 12 Tf 72 720 Td (One line.) Tj ET")
_OBJECTS = (
    b"<</Type/Catalog/Pages 2 0 R>>",
    b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    b"<</Type/Page/Parent 2 0 R/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>",
    b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(_STREAM), _STREAM),
    b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
)
_EMAIL = b"Subject: One\r\nContent-Type: text/html\r\n\r\n<p>One line.</p>\r\n"


def warm_up() -> None:
    """Reads a document of each kind."""
    read_contents(small_pdf(), ".pdf")
    read_contents(_EMAIL, ".eml")


def small_pdf() -> bytes:
    """A PDF of one page with one line of text (ISO 32000-1, 7.5)."""
    file = bytearray(b"%PDF-1.4\n")
    places: list[int] = []
    for number, content in enumerate(_OBJECTS, start=1):
        places.append(len(file))
        file += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(_OBJECTS) + 1
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, len(file))
    return bytes(file + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer)
