"""Damages documents at random, the same way for the same seed: for fuzzing the reader.

In: whole documents by their suffix. Out: one of them with bytes and words exchanged, cut, doubled,
or mixed with another's; PDFs also inside their packed streams.
"""

import random
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_NUMBER = re.compile(rb"\d+")
_NUMBERS = (b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"99999999999999999999", b"1e9")
_WORDS = {
    ".pdf": (
        *(b"/Length", b"/Filter", b"/FlateDecode", b"/LZWDecode", b"/ASCII85Decode", b"/Kids"),
        *(b"/Parent", b"/Count", b"/Contents", b"/Font", b"/ToUnicode", b"/Encoding", b"/Prev"),
        *(b"/DecodeParms", b"/Predictor", b"/Columns", b"/ObjStm", b"/XRef", b"/Index", b"/W"),
        *(b"obj", b"endobj", b"stream", b"endstream", b"xref", b"trailer", b"startxref", b"R"),
        *(b"<<", b">>", b"[", b"]", b"(", b")", b"<", b">", b"null", b"true", b"Tj", b"BT", b"'"),
    ),
    ".html": (
        *(b"<table>", b"<tr>", b"<td>", b"</td>", b"<p>", b"</p>", b"<!--", b"-->", b"<![CDATA["),
        *(b"&#x110000;", b"&#0;", b"&lt", b"<script>", b"<style>", b"<svg>", b"<title>", b"\0"),
        *(b"<meta charset=utf-7>", b"<meta charset=utf-16>", b"<pre>", b"<br", b"<", b"</html>"),
    ),
    ".eml": (
        *(b"Content-Type: ", b"multipart/mixed; boundary=", b"--", b"\n\n", b"=?utf-8?B?", b"?="),
        *(b"Content-Transfer-Encoding: base64\n", b"quoted-printable", b"charset=", b"utf-7"),
        *(b"message/rfc822", b"text/html", b"From: ", b"=\n", b"=FF", b"\r", b"\0"),
    ),
    ".txt": (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\x0c", b"\xed\xa0\x80", b"\xe2\x80\xae"),
}


@dataclass(frozen=True, slots=True)
class Seed:
    """A whole document.

    Attributes:
        name: Its name, for the record.
        suffix: Of its kind.
        data: Its bytes.
    """

    name: str
    suffix: str
    data: bytes


def mutate(seeds: Sequence[Seed], number: int) -> Seed:
    """The mutant of this number: the same for the same seeds and number."""
    chance = random.Random(number)
    seed = seeds[number % len(seeds)]
    data = seed.data
    others = [other.data for other in seeds if other.suffix == seed.suffix]
    for _ in range(chance.choice((1, 1, 2, 4, 8, 32))):
        data = chance.choice(_MUTATIONS)(chance, data, seed.suffix, others)
    return Seed(f"{seed.name}~{number}", seed.suffix, data)


def _flip(chance: random.Random, data: bytes, _suffix: str, _others: list[bytes]) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << chance.randrange(8)),)) + data[at + 1 :]


def _overwrite(chance: random.Random, data: bytes, _suffix: str, _others: list[bytes]) -> bytes:
    start, end = _span(chance, data, 64)
    return data[:start] + chance.randbytes(end - start) + data[end:]


def _cut(chance: random.Random, data: bytes, _suffix: str, _others: list[bytes]) -> bytes:
    start, end = _span(chance, data, max(16, len(data) // 8))
    return data[:start] + data[end:]


def _double(chance: random.Random, data: bytes, _suffix: str, _others: list[bytes]) -> bytes:
    start, end = _span(chance, data, 2000)
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[start:end] * chance.choice((1, 2, 30)) + data[at:]


def _end_early(chance: random.Random, data: bytes, _suffix: str, _others: list[bytes]) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _insert_word(chance: random.Random, data: bytes, suffix: str, _others: list[bytes]) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_WORDS[suffix]) + data[at:]


def _change_word(chance: random.Random, data: bytes, suffix: str, _others: list[bytes]) -> bytes:
    found = [word for word in _WORDS[suffix] if word in data]
    if not found:
        return data
    word = chance.choice(found)
    at = data.index(word, min(chance.randrange(len(data)), data.rindex(word)))
    return data[:at] + chance.choice(_WORDS[suffix]) + data[at + len(word) :]


def _change_number(chance: random.Random, data: bytes, _suffix: str, _others: list[bytes]) -> bytes:
    found = _NUMBER.search(data, chance.randrange(len(data) + 1))
    if found is None:
        return data
    new = chance.choice((*_NUMBERS, str(chance.randrange(40)).encode()))
    return data[: found.start()] + new + data[found.end() :]


def _mix(chance: random.Random, data: bytes, _suffix: str, others: list[bytes]) -> bytes:
    other = chance.choice(others)
    start, end = _span(chance, other, 4000)
    at, until = _span(chance, data, 4000)
    return data[:at] + other[start:end] + data[until:]


def _change_stream(chance: random.Random, data: bytes, suffix: str, others: list[bytes]) -> bytes:
    """Damages what is packed in a stream, and packs it again."""
    found = list(_STREAM.finditer(data))
    if not found:
        return _flip(chance, data, suffix, others)
    stream = chance.choice(found)
    try:
        inside = zlib.decompress(stream[1])
    except zlib.error:
        return _flip(chance, data, suffix, others)
    change = chance.choice((_flip, _overwrite, _cut, _double, _insert_word, _change_number))
    packed = zlib.compress(change(chance, inside, suffix, others), 1)
    return data[: stream.start(1)] + packed + data[stream.end(1) :]


_Mutation = Callable[[random.Random, bytes, str, list[bytes]], bytes]
_MUTATIONS: tuple[_Mutation, ...] = (
    *(_flip, _overwrite, _cut, _double, _end_early, _insert_word, _change_word, _change_number),
    *(_mix, _change_stream, _change_stream, _change_stream),
)


def _span(chance: random.Random, data: bytes, longest: int) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.randrange(1, longest + 1))
