"""A row: one request on its way through the engine, from its prompt to its last token."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.choosing.history import History
from pipeline.engine.copying import Copier
from pipeline.engine.grammars.matcher import Matcher
from pipeline.engine.interface import (
    Completion,
    Done,
    Event,
    Failed,
    Request,
    TextDelta,
    TokenLogprob,
)
from pipeline.engine.loading.tokenizer import Detokenizer
from pipeline.engine.memory.prefix import as_tokens, common_length
from pipeline.errors import RequestError

INSTRUCTION_TOKENS = 24
"""Rows whose prompts end alike have the same task: instructions stand at a prompt's end."""
UNDONE_TOKENS = 32
"""As many tokens at most are taken back to close an answer at its limit: a date has ten."""


@dataclass(slots=True, eq=False)
class Row:
    """The state of one request.

    Attributes:
        request: What was asked.
        prompt: Its prompt's tokens.
        on_event: Gets the row's events, the last of them exactly once.
        detokenizer: Turns its tokens into text.
        history: Its answer's tokens.
        matcher: Its grammar, if it has a schema.
        copier: The index of its prompt and answer, for drafts that are copies.
        slot: Its place in the cache, -1 while it waits.
        cached: How many prompt tokens were reused.
        finish_reason: Set once the answer is complete.
        task: What its drafts have in common with other rows'.
        needs_masks: Whether the likeliest tokens alone don't tell what it would choose.
        branches: Whether its drafts may be trees: the likeliest token, if it is allowed, is its
            choice wherever it stands.
        ahead: So many of the tokens that it takes next it has gone on by.
        likely: Whether it had a likely draft when somebody last looked.
        wary: Whether what it chose last without a mask did not stand.
        tapped: Whether the drafter has its context.
    """

    request: Request
    prompt: list[int]
    on_event: Callable[[Event], None]
    detokenizer: Detokenizer
    history: History
    matcher: Matcher | None
    copier: Copier = field(default_factory=Copier)
    slot: int = -1
    cached: int = 0
    finish_reason: str = ""
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    submitted_s: float = field(default_factory=time.monotonic)
    admitted_s: float = 0.0
    decoding_s: float = 0.0
    task: str = ""
    needs_masks: bool = field(init=False)
    branches: bool = field(init=False)
    ahead: int = 0
    likely: bool = False
    wary: bool = False
    tapped: bool = False
    _sent: int = 0
    _held: int = field(init=False)  # characters that a stop string may have begun with
    _asked: NDArray[np.int32] = field(init=False)
    _unwritten: list[int] = field(default_factory=list[int])
    _cut: bool = False  # at a stop string
    _closed: bool = False

    def __post_init__(self) -> None:
        """Names the task, and finds what every step asks for."""
        self._asked = as_tokens(self.prompt)
        self.task = str(hash(tuple(self.prompt[-INSTRUCTION_TOKENS:])))
        sampling = self.request.sampling
        penalised = sampling.repetition_penalty != 1 or self.history.counted
        grammar = self.matcher is not None and penalised
        self.needs_masks = sampling.temperature > 0 or self.request.top_logprobs > 0 or grammar
        shifted = penalised or sampling.logit_bias
        self.branches = not (sampling.temperature > 0 or self.request.top_logprobs or shifted)
        self._held = max((len(stop) - 1 for stop in self.request.stop), default=0)

    @property
    def pending(self) -> int:
        """The last token, which the next forward runs."""
        return self.history.tokens[-1] if self.history.tokens else self.prompt[-1]

    @property
    def tokens(self) -> list[int]:
        """The prompt and the answer so far."""
        return [*self.prompt, *self.history.tokens]

    def shared_with(self, tokens: NDArray[np.int32]) -> int:
        """How many leading tokens other ones share with those that this row has run."""
        common = common_length(self._asked, tokens)
        if common < len(self.prompt):
            return min(common, self.length - 1)
        return common_length(as_tokens(self.tokens[:-1]), tokens)

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.prompt) + len(self.history.tokens)

    @property
    def longest(self) -> int:
        """The most tokens that the row can come to hold."""
        return len(self.prompt) + self.request.max_tokens

    @property
    def left(self) -> int:
        """How many more tokens the answer may have."""
        return self.request.max_tokens - len(self.history.tokens)

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() - self.submitted_s > self.request.timeout_s

    def take(self, tokens: Sequence[int], stop_tokens: frozenset[int]) -> None:
        """Adds tokens to the answer until it ends; sets `finish_reason` if it does.

        What the next step needs is done here, their text by `tell`.

        Raises:
            RequestError: The grammar failed.
        """
        self.wary &= not tokens
        ends = 0
        while ends < len(tokens) and tokens[ends] not in stop_tokens:
            ends += 1
        said = tokens[: min(ends, self.left + self.ahead)]
        known = 0 if self.request.stop else min(self.ahead, len(said))
        self.go_back(self.ahead - known)
        self.ahead = 0
        if self.matcher and len(said) > known:
            self.matcher.consume(said[known:])
        for place, token in enumerate(said, start=1):
            if place > known:
                self.history.push(token)
            self.copier.push(token)
            self._unwritten.append(token)
            if self.request.stop and self._write():
                self._end("stop", unused=len(tokens) - place)
                return
        if self.matcher and self.matcher.complete:
            self._end("stop", unused=len(tokens) - len(said))
        elif not self.left:
            self._end("length", unused=len(tokens) - len(said))
        elif ends < len(tokens):
            self._end("stop", unused=len(tokens) - ends - 1)

    def tell(self) -> None:
        """Writes and sends the text of what was taken: work for while the device computes."""
        if self._unwritten:
            self._write()
        if len(self.text) > self._sent:
            self._send()

    def go_on(self, token: int) -> bool:
        """Takes a token as if it were said, until `go_back`; False if its grammar fails at it."""
        if self.matcher and not self.matcher.try_consume(token):
            return False
        self.history.push(token)
        return True

    def go_back(self, count: int) -> None:
        """Takes back as many tokens as it went on by."""
        for _ in range(count):
            self.history.pop()
        if self.matcher and count:
            self.matcher.rollback(count)

    def close(self) -> None:
        """Completes the text once the answer has ended; takes milliseconds at the limit."""
        if self.finish_reason == "length":
            self._close_early()
        self._write()
        if not self._cut:
            self.text += self.detokenizer.finish()
            self._cut_at_stop_string()
        self._closed = True

    def finish(self) -> None:
        """Sends the completion of a closed answer: the row's last event."""
        self._send()
        now = time.monotonic()
        completion = Completion(
            id=self.request.id,
            text=self.text,
            finish_reason=self.finish_reason,  # type: ignore[arg-type]
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            completion_tokens=len(self.history.tokens),
            queue_s=self.admitted_s - self.submitted_s,
            prefill_s=self.decoding_s - self.admitted_s,
            decode_s=now - self.decoding_s,
            logprobs=tuple(self.logprobs),
        )
        self.on_event(Done(completion))

    def fail(self, error: RequestError) -> None:
        """Sends what there is of the text, then the failure: the row's last event."""
        self.tell()
        self.on_event(Failed(self.request.id, error))

    def _end(self, reason: str, unused: int) -> None:
        """Ends the answer; the last `unused` tokens that were verified are not part of it."""
        self.finish_reason = reason
        if self.logprobs and unused:
            del self.logprobs[-unused:]

    def _close_early(self) -> None:
        """Makes an answer that has come to its limit keep to its grammar, if there is a way."""
        most = min(UNDONE_TOKENS, len(self.history.tokens))
        closing = self.matcher.close(most) if self.matcher else None
        if closing is None:
            return
        undone, added = closing
        self._undo(undone)
        for token in added:
            self.history.push(token)
        self._unwritten += added
        self._end("closed", undone)

    def _undo(self, count: int) -> None:
        """Takes back the last tokens; their text was not sent yet."""
        for _ in range(count):
            self.history.pop()
        if count:
            self.detokenizer.restart()
            self.text, self._unwritten = "", list(self.history.tokens)

    def _write(self) -> bool:
        """Makes text of what was taken; True if it has come to a stop string, where it is cut."""
        self.text += "".join(map(self.detokenizer.push, self._unwritten))
        self._unwritten.clear()
        if self.request.stop and not self._cut:
            self._cut_at_stop_string()
        return self._cut

    def _cut_at_stop_string(self) -> None:
        places = [
            place
            for stop in self.request.stop
            if (place := self.text.find(stop, max(0, self._sent - len(stop)))) >= 0
        ]
        if places:
            self.text, self._cut = self.text[: min(places)], True

    def _send(self) -> None:
        """Sends the text that can't change any more.

        A stop string may have begun at its end, and the end of a schema answer may be taken back.
        """
        if self.matcher and self.left <= UNDONE_TOKENS and not self._closed:
            return
        held = 0 if self._closed else self._held
        final = max(self._sent, len(self.text) - held)
        if final > self._sent:
            self.on_event(TextDelta(self.request.id, self.text[self._sent : final]))
            self._sent = final
