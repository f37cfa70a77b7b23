"""Documents made to do harm: bombs, loops, depths, programs, and names that lead elsewhere."""

import zlib

from tests.pdfs import assemble, make_pdf, make_pdf_of, stream

PAGES = b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R %b >>"
FONT = b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> %b >>"
SHOWN = b"BT /F1 12 Tf 72 720 Td (visible) Tj ET"


def page_of(content: bytes, page: bytes = b"", catalogue: bytes = b"", *more: bytes) -> bytes:
    """A PDF of one page, with more in its dictionaries and more objects, from number 5."""
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalogue,
            PAGES,
            PAGE % (FONT % b"" + page),
            stream(content),
            *more,
        ]
    )


def looping_pages() -> bytes:
    """A page tree that is its own child."""
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 2 /Kids [2 0 R 3 0 R] >>",
            PAGE % b"",
            stream(SHOWN),
        ]
    )


def looping_contents() -> bytes:
    """Contents, parent, font and annotations that lead to themselves."""
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] /Parent 3 0 R >>",
            (
                b"<< /Type /Page /Parent 2 0 R /Contents [4 0 R 5 0 R] /Annots 5 0 R "
                b"/Resources << /Font << /F1 6 0 R >> >> >>"
            ),
            stream(SHOWN),
            b"[5 0 R]",
            b"<< /Type /Font /Subtype /Type0 /DescendantFonts [6 0 R] /ToUnicode 6 0 R >>",
        ]
    )


def looping_reference() -> bytes:
    """An object that is a reference to itself, and a table that goes back to itself."""
    pdf = assemble([b"1 0 R", b"2 0 R"])
    at = pdf.rindex(b"startxref\n") + 10
    table = int(pdf[at : pdf.index(b"\n", at)])
    return pdf.replace(b"trailer\n<<", b"trailer\n<< /Prev %d" % table)


def looping_form() -> bytes:
    """A form that draws itself."""
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >>"
    return page_of(
        SHOWN + b" /X Do",
        b"/Resources << /XObject << /X 5 0 R >> /Font << /F1 << /Type /Font >> >> >>",
        b"",
        stream(b"/X Do /X Do", form),
    )


def deep_arrays(depth: int = 200_000) -> bytes:
    return page_of(SHOWN, b"/Deep " + b"[" * depth + b"]" * depth)


def deep_page_tree(depth: int = 3000) -> bytes:
    inner = [
        b"<< /Type /Pages /Count 1 /Kids [%d 0 R] /Parent %d 0 R >>" % (number + 1, number - 1)
        for number in range(3, depth)
    ]
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            *inner,
            b"<< /Type /Page /Parent %d 0 R >>" % (depth - 1),
        ]
    )


def deep_filters(depth: int = 60) -> bytes:
    """A stream that is packed many times over."""
    data = SHOWN
    for _ in range(depth):
        data = zlib.compress(data)
    names = b" ".join([b"/FlateDecode"] * depth)
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            PAGES,
            PAGE % b"",
            b"<< /Length %d /Filter [%b] >>\nstream\n%b\nendstream" % (len(data), names, data),
        ]
    )


def bomb(layers: int = 2) -> bytes:
    """Some kilobytes that unpack to gigabytes."""
    data = zlib.compress(b"a" * (64 << 20), 9)
    for _ in range(layers - 1):
        data = zlib.compress(data * 64, 9)
    names = b" ".join([b"/FlateDecode"] * layers)
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            PAGES,
            PAGE % b"",
            b"<< /Length %d /Filter [%b] >>\nstream\n%b\nendstream" % (len(data), names, data),
        ]
    )


def huge_image() -> bytes:
    """A page with a picture of ten thousand million points."""
    image = (
        b"/Type /XObject /Subtype /Image /Width 100000 /Height 100000 "
        b"/BitsPerComponent 8 /ColorSpace /DeviceRGB"
    )
    return page_of(
        SHOWN + b" /X Do", b"/XObject << /X 5 0 R >>", b"", stream(b"\0" * 1_000_000, image)
    )


def many_pages(count: int = 2_000_000_000) -> bytes:
    """A tree that says it has more pages than there are."""
    return make_pdf("visible").replace(b"/Count 1", b"/Count %d" % count)


def wild_numbers() -> bytes:
    """Sizes, offsets and numbers of objects out of all bounds."""
    pdf = make_pdf("visible").replace(b"/Size 7", b"/Size 99999999999999999999")
    return pdf.replace(b"0000000009 00000 n", b"9999999999 99999 n").replace(
        b"/Length", b"/Length -5 /Old"
    )


def programs(marker: str) -> bytes:
    """JavaScript, a program to launch, an address and a form to send, on opening and on looking."""
    name = marker.encode()
    actions = (
        b"/OpenAction << /S /JavaScript /JS (app.launchURL\\('file://%b'\\)) "
        b"/Next [<< /S /Launch /F (/usr/bin/touch) /Win << /F (touch) /P (%b) >> "
        b"/Unix << /F (touch %b) >> >> << /S /URI /URI (http://127.0.0.1:9/) >> "
        b"<< /S /SubmitForm /F (http://127.0.0.1:9/) >> << /S /GoToR /F (%b) >>] >> "
        b"/Names << /JavaScript << /Names [(a) << /S /JavaScript /JS (x) >>] >> "
        b"/EmbeddedFiles << /Names [(../../../%b) 5 0 R] >> >>"
    ) % ((name,) * 5)
    return page_of(
        SHOWN,
        b"/AA << /O << /S /Launch /F (touch %b) >> >>" % name,
        actions,
        b"<< /Type /Filespec /F (../../../../%b) /EF << /F 6 0 R >> >>" % name,
        stream(b"the text of an embedded file", b"/Type /EmbeddedFile"),
    )


def outside_stream(path: str) -> bytes:
    """A page whose contents are said to lie in another file."""
    return assemble(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            PAGES,
            PAGE % (FONT % b""),
            b"<< /Length 0 /F (%b) /FFilter /ASCIIHexDecode >>\nstream\n\nendstream"
            % path.encode(),
        ]
    )


def entities(path: str) -> bytes:
    """An HTML page with entities that swell and one that names a file."""
    swell = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return (
        f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY e0 "lol">{swell}'
        f'<!ENTITY file SYSTEM "file://{path}">]>'
        f"<html><body><p>visible &e11; &file;</p>"
        f'<iframe src="file://{path}"></iframe><img src="http://127.0.0.1:9/x">'
        f"<object data='file://{path}'></object><script>fetch('http://127.0.0.1:9/')</script>"
        "</body></html>"
    ).encode()


def deep_html(depth: int = 100_000) -> bytes:
    return b"<div>" * depth + b"visible" + b"</div>" * depth


def deep_email(depth: int = 500) -> bytes:
    """Messages inside messages."""
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(depth)
    )
    return b"Subject: deep\n" + head + b"Content-Type: text/plain\n\nvisible\n"


def email_with_files() -> bytes:
    """A message whose attachments are called what they must not be written to."""
    part = (
        b"--b\nContent-Type: application/octet-stream\n"
        b'Content-Disposition: attachment; filename="../../../../tmp/docflash-attack"\n'
        b"Content-Transfer-Encoding: base64\n\nZXZpbA==\n"
    )
    return (
        b'Subject: files\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n'
        b"--b\nContent-Type: text/plain\n\nvisible\n" + part * 3 + b"--b--\n"
    )


def one_line(size: int = 3_000_000) -> bytes:
    """A text without a space or an end of a line."""
    return b"x" * size


def many_operators() -> bytes:
    return make_pdf_of(b"q " * 400_000 + SHOWN)
