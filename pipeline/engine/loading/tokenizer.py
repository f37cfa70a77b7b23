"""Chats to tokens and tokens to text, without transformers (which costs 1 s and 90 MB).

In: the messages of a chat, or the tokens of an answer one by one. Out: a prompt's tokens by the
model's own chat template, or text as soon as it is final.
"""

import codecs
import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from pipeline.engine.interface import Message
from pipeline.errors import InputError, RequestError

TEMPLATE_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""What a template is told when it asks for the date: a prompt must not change from day to day."""
SPACE_MARK = "\u2581"  # SentencePiece's way to write a space
BYTE_TOKEN_CHARS = len("<0x00>")


class ChatTokenizer:
    """The tokenizer and the chat template of a model folder.

    Only one thread may `render`; another may turn tokens to text meanwhile.

    Attributes:
        stop_tokens: The tokens that the tokenizer's settings name as the end of a turn.
    """

    def __init__(self, folder: str) -> None:
        """Reads `tokenizer.json`, `tokenizer_config.json` and the chat template.

        Args:
            folder: The model folder.

        Raises:
            InputError: One of them is missing, damaged, or of a kind that can't be used.
        """
        self._folder = Path(folder)
        path = self._folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception for everything
            raise InputError(
                f"the tokenizer={str(path)!r} can't be read ({error}); check the model folder"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decoder = _Decoder(path)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {token: text.content for token, text in added.items() if text.special}
        config = _read_object(self._folder / "tokenizer_config.json")
        self._variables = _named_tokens(config)
        ends = [self._variables.get("eos_token", "")]
        ids = [self._tokenizer.token_to_id(end) for end in ends]
        self.stop_tokens: tuple[int, ...] = tuple(token for token in ids if token is not None)
        self._render_chat = self._compile(_find_template(self._folder, config))
        self._answer_bytes: Callable[[int], bytes] = cache(self._find_answer_bytes)
        self._takes_system = self._probe()

    def render(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's tokens, up to where the model's answer begins.

        Text that spells a control token ("<|im_end|>") stays text: a document can't end its turn.

        Args:
            messages: The chat so far.

        Raises:
            RequestError: The model's template refuses this chat ("bad_parameter").
        """
        fence = f"\0{secrets.token_hex(16)}\0"
        turns = messages if self._takes_system else _without_system(messages)
        fenced = [{"role": m.role, "content": self._fenced(m.content, fence)} for m in turns]
        try:
            parts = self._render_chat(fenced).split(fence)
        except _RefusedByTemplateError as error:
            raise RequestError(
                "bad_parameter", f"the model's chat template refuses the messages: {error}"
            ) from None
        except Exception as error:  # noqa: BLE001  a template can raise anything, chat and all
            raise RequestError(
                "bad_parameter",
                f"the model's chat template fails on these messages ({type(error).__name__})",
            ) from None
        tokens: list[int] = []
        for number, part in enumerate(parts):
            tokens.extend(self._encode(part, plain=number % 2 == 1))
        return tokens

    def token_text(self, token: int) -> str:
        """One token by itself; a part of a character shows as the replacement character."""
        return self._token_bytes(token).decode("utf-8", "replace")

    def detokenizer(self) -> "Detokenizer":
        """A fresh detokenizer, for one answer."""
        return Detokenizer(self._answer_bytes, strip_first_space=self._decoder.strips_first_space)

    def _encode(self, text: str, *, plain: bool) -> list[int]:
        self._tokenizer.encode_special_tokens = plain
        # This call lets other threads run, and is faster than `encode`.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def _fenced(self, text: str, fence: str) -> str:
        """Sets control tokens inside a message apart, to be encoded as plain text."""
        for special in self._special.values():
            if special in text:
                # Longer names may contain shorter ones: the whole message is fenced, once.
                return f"{fence}{text}{fence}"
        return text

    def _token_bytes(self, token: int) -> bytes:
        return self._decoder.bytes_of(self._tokenizer.id_to_token(token) or "")

    def _find_answer_bytes(self, token: int) -> bytes:
        return b"" if token in self._special else self._token_bytes(token)

    def _compile(self, template: str) -> Callable[[list[dict[str, str]]], str]:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
        )
        environment.filters["tojson"] = _to_json
        functions: dict[str, Any] = {
            "raise_exception": _refuse,
            "strftime_now": TEMPLATE_DATE.strftime,
        }
        environment.globals.update(functions)
        try:
            compiled = environment.from_string(template)
        except TemplateError as error:
            raise self._unusable(error) from error

        def render(messages: list[dict[str, str]]) -> str:
            return compiled.render(
                **self._variables,
                messages=messages,
                add_generation_prompt=True,
                enable_thinking=False,  # answers follow a schema or a length: no essay before
            )

        return render

    def _probe(self) -> bool:
        """Whether the template takes a system message; some (Gemma) refuse."""
        user = {"role": "user", "content": "a"}
        try:
            self._render_chat([{"role": "system", "content": "b"}, user])
        except Exception:  # noqa: BLE001  a template can raise anything
            try:
                self._render_chat([user])
            except Exception as error:  # the same
                raise self._unusable(error) from error
            return False
        return True

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"the chat template of the model folder={str(self._folder)!r} can't be used "
            f"({type(error).__name__}: {error}); check its tokenizer_config.json"
        )


class Detokenizer:
    """Turns the tokens of one answer into text as it becomes final."""

    def __init__(self, bytes_of: Callable[[int], bytes], *, strip_first_space: bool) -> None:
        self._bytes_of = bytes_of
        self._strip_first = strip_first_space
        self.restart()

    def restart(self) -> None:
        """Forgets all tokens: for the same answer from its beginning."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = self._strip_first

    def push(self, token: int) -> str:
        """Text that is final after one token more; a character comes with its last byte."""
        return self._stripped(self._utf8.decode(self._bytes_of(token)))

    def finish(self) -> str:
        """What is left: a replacement character if the answer ended inside a character."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text


class _Decoder:
    """How the tokens of a `tokenizer.json` spell bytes: the two families of decoders."""

    def __init__(self, path: Path) -> None:
        decoder = _read_object(path).get("decoder") or {}
        steps: list[dict[str, Any]] = decoder.get("decoders") or [decoder]
        kinds = {str(step.get("type")) for step in steps}
        self._byte_level = "ByteLevel" in kinds
        if not self._byte_level and not kinds & {"Metaspace", "ByteFallback"}:
            raise InputError(
                f"the tokenizer={str(path)!r} has a decoder={sorted(kinds)!r} that is neither "
                "byte-level nor SentencePiece's; choose another model"
            )
        self._bytes = _byte_level_alphabet()
        self.strips_first_space = any(
            (step.get("type") == "Strip" and step.get("start", 0) > 0)
            or (step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never")
            for step in steps
        )

    def bytes_of(self, token: str) -> bytes:
        """The bytes that a token stands for."""
        if self._byte_level:
            try:
                return bytes(self._bytes[char] for char in token)
            except KeyError:  # an added token is written as it is
                return token.encode()
        if len(token) == BYTE_TOKEN_CHARS and token.startswith("<0x") and token.endswith(">"):
            return bytes([int(token[3:5], 16)])
        return token.replace(SPACE_MARK, " ").encode()


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable names of the 256 bytes (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    named = {chr(byte): byte for byte in printable}
    return named | {chr(256 + number): byte for number, byte in enumerate(others)}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"the file={str(path)!r} can't be read ({error}); check the model folder"
        ) from error
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _named_tokens(config: dict[str, Any]) -> dict[str, str]:
    """The texts of bos_token, eos_token and so on, which templates use."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if key.endswith("_token"):
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[key] = text
    return found


def _find_template(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template") or _read_object(folder / "chat_template.json").get(
        "chat_template"
    )
    if isinstance(found, list):
        by_name = {entry.get("name"): entry.get("template") for entry in found}
        found = by_name.get("default")
    if not isinstance(found, str):
        raise InputError(
            f"the model folder={str(folder)!r} has no chat template; choose a model that was "
            "trained to follow instructions"
        )
    return found


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """Puts the system's words before the user's first."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    turns = [m for m in messages if m.role != "system"]
    if system and turns:
        turns[0] = Message(turns[0].role, f"{system}\n\n{turns[0].content}")
    return turns


class _RefusedByTemplateError(TemplateError):
    """The template called raise_exception."""


def _refuse(message: str) -> None:
    raise _RefusedByTemplateError(str(message)[:200])


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class _GenerationTag(Extension):
    """{% generation %}...{% endgeneration %} marks answers for training; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012  as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))
