"""What a caller of the engine sees: a request, its completion, and the engine's own state.

Plain records without mlx, shared by the client (any process) and the host (the engine process).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pipeline.engine.planning.speculation_stats import SpeculationStats
from pipeline.errors import RequestError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    In this order: what the grammar forbids and repeated n-grams are taken out; the repetition
    penalty; the presence and frequency penalties; the bias; the temperature; top-k; of what is left
    top-p; of that min-p; then the draw. (As in transformers and vLLM the filters come after the
    temperature; mlx-lm has them before it.) Penalties are off where a grammar leaves few tokens,
    and never touch what may end a string of JSON; the bias holds everywhere, but can't allow what
    is forbidden. Drafts change none of this: the same request gives the same tokens.

    Attributes:
        temperature: 0 takes the most likely token; the filters then have nothing to do.
        repetition_penalty: Divides (multiplies, if negative) the logits of tokens already in the
            last `repetition_window` tokens of the answer; 1.0 is off. (Keskar et al. 2019, CTRL.)
        repetition_window: How far back the penalty looks, in tokens of the answer.
        no_repeat_ngram: A token that would complete an n-gram of this many tokens that already
            stands in the answer (of JSON: in the same string) is forbidden; 0 is off. (Paulus et
            al. 2017.)
        no_repeat_copied: An n-gram that stands in the prompt, as names do, is let be until it is
            this long; 0 makes no such difference. In JSON there is none.
        seed: Seeds the sampler when the temperature is above 0.
        top_k: Only this many of the likeliest tokens may come; 0 is off.
        top_p: Only the fewest likeliest tokens whose probabilities reach this sum; 1.0 is off.
            (Holtzman et al. 2020.)
        min_p: Only tokens at least this part as likely as the likeliest; 0 is off. (Nguyen et al.
            2024.) Of each filter, tokens exactly as likely as the last that stays, stay.
        presence_penalty: Lowers the logits of tokens that stand in the answer; the prompt does not
            count. (OpenAI's meaning.)
        frequency_penalty: Likewise, times how often they stand there.
        logit_bias: (token, amount) pairs, each token once: added to its logit.
    """

    temperature: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 64
    no_repeat_ngram: int = 0
    no_repeat_copied: int = 0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the model.

    Attributes:
        id: Chosen by the caller, unique among running requests; the only part that is logged.
        model: "embedded" or the path of an mlx-lm model folder.
        messages: The chat so far, ending with the user's turn.
        schema: A JSON schema that the answer must satisfy, or None for free text. Strings in it
            under `"x-quote-of-source": true` can only be words of the source.
        max_tokens: The most tokens the answer may have.
        sampling: How tokens are chosen.
        top_logprobs: For each answer token, this many most likely (token, logprob) pairs under
            the grammar; 0 gives none.
        stop: Strings that end the answer; they are not part of it.
        timeout_s: Give up after this long, queueing included.
        source: What quotes are words of; None: the last message.
    """

    id: str
    model: str
    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int = 0
    stop: tuple[str, ...] = ()
    timeout_s: float = 3600.0
    source: str | None = None

    @property
    def quotable(self) -> str:
        """The text that quotes of the answer are words of."""
        return self.messages[-1].content if self.source is None else self.source


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One answer token with its log-probability among the tokens that were allowed.

    It is the model's own distribution: after what the grammar and repeated n-grams take out, before
    penalties, bias, temperature and filters. So it says how sure the model was, whatever chose.

    Attributes:
        token: Its text.
        logprob: Natural logarithm of its probability.
        top: The most likely (text, logprob) pairs at this position, best first.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The engine's answer.

    Attributes:
        id: The request's id.
        text: The answer.
        finish_reason: "stop": the model ended it. "length": cut at `max_tokens`; the text is not
            complete. "closed": `max_tokens` was reached and the grammar completed the JSON, so it
            parses, but the model might have said more.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: How many of those were reused from an earlier prompt.
        completion_tokens: Tokens of the answer.
        queue_s, prefill_s, decode_s: Where the time went, in seconds.
        logprobs: One per answer token if the request asked for them.
    """

    id: str
    text: str
    finish_reason: Literal["stop", "length", "closed"]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model folder as every process sees it, without loading the weights.

    Attributes:
        name: "embedded" or the folder's path.
        folder: The mlx-lm model folder.
        fingerprint: Hash of weights, config and tokenizer: the same outputs, the same string.
        context_tokens: The longest prompt + answer that the model takes.
        tokenizer_json: Path of its Hugging Face `tokenizer.json`.
        parameters: About how many weights it has, by its config; 0 if that does not say.
    """

    name: str
    folder: str
    fingerprint: str
    context_tokens: int
    tokenizer_json: str
    parameters: int = 0


class Engine(Protocol):
    """Whatever answers requests: the client of the engine process, or the engine itself."""

    def complete(self, request: Request) -> Completion:
        """Answers one request; blocks; safe to call from many threads.

        Raises:
            RequestError: This request can't be served; others can.
            EngineError: The engine stopped or can't be reached.
        """
        ...


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of a running answer's text.

    Attributes:
        id: The request's id.
        text: Characters that are now final, after those sent before.
    """

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The request ended well; its last event."""

    completion: Completion


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ended without an answer; its last event.

    Attributes:
        id: The request's id.
        error: Why: kinds "cancelled", "timeout", "grammar_failed", "out_of_memory".
    """

    id: str
    error: RequestError


Event = TextDelta | Done | Failed


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Bounds of the engine.

    Attributes:
        max_rows: Most requests decoded at the same time.
        kv_bytes: Memory for keys and values of running rows and kept prefixes together.
        prefill_tokens: Most prompt tokens run at once; 0: as many as suit the device.
        speculate: Draft tokens and verify them; False decodes plainly, one token a step.
        drafter: Folder of a DFlash checkpoint for the model; "" drafts forced tokens and copies.
        draft_always: Draft in every step, by any source and width, whether it pays or not: so the
            gate (`docflash model check`) sees all of them at work.
    """

    max_rows: int = 16
    kv_bytes: int = 2 << 30
    prefill_tokens: int = 0
    speculate: bool = True
    drafter: str = ""
    draft_always: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine is doing and has done since it was loaded.

    Attributes:
        running, waiting: Requests.
        finished, failed: Requests ended.
        prompt_tokens: Tokens of all prompts; `cached_tokens` of them were reused.
        completion_tokens: Tokens of all answers.
        prefill_s, decode_s: Seconds spent on each.
        steps: Decode steps; `step_ms` is their recent mean.
        kv_bytes: Memory of running rows and kept prefixes now.
        weights_bytes: Memory of the weights.
        speculation: What drafts were run and what they gained; None if they are switched off.
    """

    running: int
    waiting: int
    finished: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prefill_s: float
    decode_s: float
    steps: int
    step_ms: float
    kv_bytes: int
    weights_bytes: int
    speculation: SpeculationStats | None = None
