"""Text files: from bytes to text, whatever the encoding, and said in plain words if it's a guess.

In: the bytes of a file. Out: its text and a note, which is empty if nothing had to be guessed.
"""

import codecs
import re

from pipeline.errors import DocumentError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BINARY = (
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"{\\rtf", "an RTF document"),
)
# Only encodings that documents are really found in: among all that Python knows a short text
# fits some exotic one better than its own.
_LIKELY = [
    "cp1252",
    "cp1250",
    "cp1251",
    "koi8_r",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp866",
    "cp932",
    "euc_jp",
    "gb18030",
    "big5",
    "cp949",
]
_CONTROL = bytes(set(range(0x20)) - set(b"\t\n\r\f\v\x1b") | {0x7F})
_FEW_CONTROLS = 4
_SAMPLE_BYTES = 65_536
_LINE_NOT_ASCII = re.compile(rb"[^\n]{0,200}[\x80-\xff][^\n]{0,200}\n?")


def decode_text(data: bytes) -> tuple[str, str]:
    """Decodes a text file: by its mark, as UTF-8, or by what its bytes look like.

    Args:
        data: The whole file.

    Returns:
        The text, without the mark and with U+FFFD for what can't stand in a table (NUL, lone
        surrogates, bytes that are not of the encoding); and a note for people, often empty.

    Raises:
        DocumentError: Kind "binary" (it isn't text) or "encoding" (no encoding fits).
    """
    decoded, note = _decode(data)
    text = valid_text(decoded)
    if not note and text != decoded:
        note = "some characters can't be stored and are shown as \ufffd"
    return text, note


def valid_text(text: str) -> str:
    """The text with surrogate pairs joined, and lone surrogates and NULs made U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def _decode(data: bytes) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _replace_wrong(data[len(mark) :], encoding)
    for start, name in _BINARY:
        if data.startswith(start):
            raise DocumentError(
                "binary", f"this is {name}, not text; give the file its right suffix or export it"
            )
    if (encoding := _wide_encoding(data)) is not None:
        text, note = _replace_wrong(data, encoding)
        return text, note or f"the file has no byte order mark; read as {encoding}"
    controls = len(data) - len(data.translate(None, _CONTROL))
    if controls > max(_FEW_CONTROLS, 0.03 * len(data)):
        raise DocumentError("binary", "this is not text; give the file its right suffix")
    if b"\x1b$" in data and (text := _decode_strictly(data, "iso2022_jp")) is not None:
        return text, "read as iso2022_jp"
    if (text := _decode_strictly(data, "utf-8")) is not None:
        return text, ""
    return _decode_broken_utf8(data) or _decode_legacy(data)


def _decode_strictly(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _replace_wrong(data: bytes, encoding: str) -> tuple[str, str]:
    """Decodes in an encoding that is known, and counts what is wrong."""
    if (text := _decode_strictly(data, encoding)) is not None:
        return text, ""
    text = data.decode(encoding, "replace")
    return text, f"some bytes are not valid {encoding} and are shown as \ufffd"


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a mark, told by the zeros that Latin letters have in it."""
    sample = data[:_SAMPLE_BYTES]
    half = len(sample) // 2
    if half < 2 or b"\0" not in sample:  # noqa: PLR2004
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > 0.4 * half and even < 0.02 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.02 * half:
        return "utf-16-be"
    return None


def _decode_broken_utf8(data: bytes) -> tuple[str, str] | None:
    """UTF-8 with a few bad bytes is still UTF-8, if the rest of its letters prove it."""
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    right = sum(not character.isascii() for character in text[:1_000_000]) - wrong
    if wrong * 10 > right:
        return None
    return text, f"{wrong} pieces of the file are not valid UTF-8 and are shown as \ufffd"


def _decode_legacy(data: bytes) -> tuple[str, str]:
    encoding = _guess_encoding(data)
    text = _decode_strictly(data, encoding)
    if text is None and encoding != "cp1252":
        text, encoding = _decode_strictly(data, "cp1252"), "cp1252"
    if text is None:
        text, encoding = data.decode("cp1252", "replace"), "cp1252"
        if text.count("\ufffd") * 100 > len(text):
            raise DocumentError(
                "encoding",
                "the encoding of this text can't be told; save it as UTF-8 and run again",
            )
    return text, f"the file does not say its encoding, and it is not UTF-8; read as {encoding}"


def _guess_encoding(data: bytes) -> str:
    """The likeliest legacy encoding, from the lines that are not ASCII."""
    from charset_normalizer import from_bytes

    sample = b""
    for match in _LINE_NOT_ASCII.finditer(data):
        sample += match[0]
        if len(sample) > _SAMPLE_BYTES:
            break
    matches = from_bytes(sample, cp_isolation=_LIKELY, threshold=0.3)
    guesses = [match.encoding for match in matches]
    if not guesses:
        return "cp1252"
    # Western European text fits the Central European page as well; it is the commoner one.
    western = "cp1252" in guesses or _decode_strictly(sample, "cp1252") == str(matches[0])
    if guesses[0] == "cp1250" and western:
        return "cp1252"
    return guesses[0]
