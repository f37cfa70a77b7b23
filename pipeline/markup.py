"""HTML and e-mail: the text a person would see, block by block.

Both are parsed by a killable child process, as PDFs are (see `pipeline.reader`).
"""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart
from itertools import islice
from typing import Any

from lxml import etree, html  # pyright: ignore[reportAttributeAccessIssue]

from pipeline.contents import Contents, RawPage
from pipeline.encodings import decode_text, valid_text
from pipeline.errors import DocumentError
from pipeline.outline import MOST_READ, OutlineEntry, make_entry

_LEFT_OUT = frozenset({"script", "style", "template", "head", "noframes", "iframe"})
# One element per line would be half a page.
_PARAGRAPHS = frozenset(
    "address article aside blockquote body details dl fieldset figure footer form h1 h2 h3 h4 h5 h6"  # noqa: SIM905
    " header hr main nav ol p pre section table title ul".split()
)
_LINES = frozenset("br caption dd div dt figcaption legend li option summary tr textarea".split())  # noqa: SIM905
_MOST_TITLE_PIECES = 20
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_CELLS = frozenset({"td", "th"})
_GAPS = ("", " ", "  ", "\n", "\n\n")
_SPACES = re.compile(r"[ \t\r\n\f]+")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_XML_CHARSET = re.compile(rb"""^\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([\w.:-]{1,40})""")
_SHOWN_HEADERS = ("From", "To", "Cc", "Date", "Subject")


def read_html(data: bytes) -> Contents:
    """Contents of an HTML file: its title and the text of its body, a paragraph per block.

    Raises:
        DocumentError: It isn't text, or is nested beyond reason.
    """
    source, note = _decode_html(data)
    title, text, outline = _convert_html(source)
    notes = (note,) if note else ()
    return Contents("text/html", (RawPage(text, "html"),), title, notes, outline)


def _decode_html(data: bytes) -> tuple[str, str]:
    head = data[:4096]
    declared = _XML_CHARSET.search(head) or _CHARSET.search(head)
    if declared and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        name = declared[1].decode("ascii", "replace")
        # Browsers read what is declared Latin-1 as its superset, and UTF-16 as UTF-8: a file
        # whose declaration could be read as ASCII is not UTF-16.
        name = {"iso-8859-1": "cp1252", "latin1": "cp1252", "gb2312": "gb18030"}.get(
            name.lower(), name
        )
        try:
            return valid_text(data.decode(name)), ""
        except (LookupError, ValueError):
            text, note = decode_text(data)
            return text, note or f"the file says it is {name[:40]}, but it is UTF-8"
    return decode_text(data)


def _convert_html(source: str) -> tuple[str, str, tuple[OutlineEntry, ...]]:
    """Title, text and headings."""
    if not source.strip():
        return "", "", ()
    parser = html.HTMLParser(
        encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True
    )
    try:
        root: Any = html.document_fromstring(source.encode(), parser=parser)
    except etree.ParserError:
        return "", "", ()  # nothing but comments
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise DocumentError(
            "damaged", "this HTML is nested deeper than 2,048 levels; save it again in a browser"
        )
    title = _SPACES.sub(" ", root.findtext(".//title") or "").strip()
    text = _write_blocks(root)
    if title and not text.startswith(title):
        text = f"{title}\n\n{text}"
    return title, text, tuple(_find_headings(root))


def _find_headings(root: Any) -> Iterator[OutlineEntry]:
    """The headings that are shown, in their order."""
    for element in islice(root.iter(*_HEADINGS), MOST_READ):
        title = "".join(islice(element.itertext(), _MOST_TITLE_PIECES)).strip()
        if title and not any(parent.tag in _LEFT_OUT for parent in element.iterancestors()):
            yield make_entry(_HEADINGS.index(element.tag) + 1, valid_text(title))


class _Writer:
    """Collects text, and puts the white space between blocks that a browser would show."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._gap = ""
        self._is_start = True

    def separate(self, gap: str) -> None:
        """Asks for white space before the next text; the widest that was asked for wins."""
        self._gap = max(self._gap, gap, key=_GAPS.index)

    def write(self, text: str | None, *, keep_spaces: bool) -> None:
        """Adds text, its white space folded to single spaces unless it is preformatted."""
        if not text:
            return
        if not keep_spaces:
            text = _SPACES.sub(" ", text)
            if text.startswith(" "):
                self.separate(" ")
            ends_in_space = text.endswith(" ")
            text = text.strip(" ")
            if not text:
                return
        else:
            ends_in_space = False
        if not self._is_start:
            self._pieces.append(self._gap)
        self._pieces.append(text)
        self._is_start = False
        self._gap = " " if ends_in_space else ""

    def text(self) -> str:
        """All of it."""
        return "".join(self._pieces)


def _write_blocks(root: Any) -> str:
    writer = _Writer()
    left_out = preformatted = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        tag = element.tag if isinstance(element.tag, str) else ""
        entering = event == "start"
        change = 1 if entering else -1
        left_out += change * (tag in _LEFT_OUT)
        preformatted += change * (tag in {"pre", "textarea"})
        writer.separate(_gap(tag))
        if left_out and entering:
            continue
        if entering and tag == "li":
            writer.write("- ", keep_spaces=True)
        text = (element.text if tag else "") if entering else element.tail
        if not left_out:
            writer.write(text, keep_spaces=preformatted > 0)
    return writer.text()


def _gap(tag: str) -> str:
    if tag in _PARAGRAPHS:
        return "\n\n"
    if tag in _LINES:
        return "\n"
    return "  " if tag in _CELLS else ""


def read_email(data: bytes) -> Contents:
    """Contents of an e-mail: headers, then the text parts; attachments are named in a note.

    Raises:
        DocumentError: Its HTML is nested beyond reason.
    """
    message = email.message_from_bytes(data, policy=email.policy.default)
    headers = [(name, _header(message, name)) for name in _SHOWN_HEADERS]
    lines = [f"{name}: {value}" for name, value in headers if value]
    notes: list[str] = []
    texts = [text for part in _text_parts(message) if (text := _part_text(part, notes).strip())]
    if not lines:
        notes.append("this e-mail has no headers such as From or Subject")
    if attachments := _attachments(message):
        names = ", ".join(attachments)
        plural = "s" if len(attachments) > 1 else ""
        notes.append(f"{len(attachments)} attachment{plural} not read: {names}")
    text = "\n\n".join((["\n".join(lines)] if lines else []) + texts)
    pages = (RawPage(valid_text(text), "email"),)
    return Contents("message/rfc822", pages, title=dict(headers)["Subject"], notes=tuple(notes))


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = str(message.get(name, ""))
    except Exception:  # noqa: BLE001 (the stdlib's parser fails in many ways on odd headers)
        raw = [value for key, value in message.raw_items() if key.lower() == name.lower()]
        value = str(raw[0]) if raw else ""
    return _SPACES.sub(" ", valid_text(value)).strip()


def _text_parts(message: EmailMessage) -> list[MIMEPart]:
    """The body, plain if there is a choice, and further text that stands in the mail itself."""
    parts: list[MIMEPart] = []
    waiting: list[MIMEPart] = [message]
    while waiting:
        part = waiting.pop()
        if part.get_content_type() == "multipart/alternative":
            body = part.get_body(("plain", "html"))
            if body is not None:
                parts.append(body)
        elif part.get_content_type() == "message/rfc822" or _is_attached(part):
            continue
        elif part.is_multipart():
            waiting.extend(reversed(_children(part)))
        elif part.get_content_type() in {"text/plain", "text/html"}:
            parts.append(part)
    return parts


def _children(part: MIMEPart) -> list[MIMEPart]:
    payload: Any = part.get_payload()
    return list(payload) if isinstance(payload, list) else []


def _is_attached(part: MIMEPart) -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _attachments(message: EmailMessage) -> list[str]:
    """Names of the parts that are not read; an image without a name is part of the layout."""
    names: list[str] = []
    waiting: list[MIMEPart] = [message]
    while waiting:
        part = waiting.pop()
        kind = part.get_content_type()
        if kind == "message/rfc822" and part is not message:
            names.append("a forwarded e-mail")
        elif part.is_multipart():
            waiting.extend(reversed(_children(part)))
        elif _is_attached(part) or kind.split("/")[0] == "application":
            name = valid_text(part.get_filename() or kind)
            names.append(_SPACES.sub(" ", name)[:100])
    return names


def _part_text(part: MIMEPart, notes: list[str]) -> str:
    payload: Any = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset() or ""
    try:
        text = valid_text(data.decode(charset or "ascii"))
    except (LookupError, ValueError):
        try:
            text, note = decode_text(data)
        except DocumentError as error:
            notes.append(f"a part of this e-mail could not be read: {error}")
            return ""
        if note:
            notes.append(note)
    return _convert_html(text)[1] if part.get_content_type() == "text/html" else text
