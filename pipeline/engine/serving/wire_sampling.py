"""How tokens are chosen, as a request's body says it, both ways.

OpenAI's names and bounds; `top_k` and `min_p` are as vLLM has them, and `repetition_penalty`,
`repetition_window`, `no_repeat_ngram` and `no_repeat_copied` are our extensions. A token's number
in `logit_bias` is checked against the vocabulary by the core, which knows it.
"""

from typing import Any

from pipeline.engine.interface import Sampling
from pipeline.engine.serving.wire_body import Body, refused

LARGEST_SEED = 2**63 - 1
LARGEST_COUNT = 1 << 20
MOST_BIASES = 1024
LARGEST_BIAS = 100.0


def parse_sampling(body: Body) -> Sampling:
    """Reads the settings; what is left out is neutral.

    Raises:
        RequestError: "bad_parameter", with the parameter's name and bounds.
    """
    return Sampling(
        temperature=body.number("temperature", 0.0, 0.0, 2.0),
        repetition_penalty=body.number("repetition_penalty", 1.0, 0.01, 10.0),
        repetition_window=body.integer("repetition_window", 64, 0, LARGEST_COUNT),
        no_repeat_ngram=body.integer("no_repeat_ngram", 0, 0, LARGEST_COUNT),
        no_repeat_copied=body.integer("no_repeat_copied", 0, 0, LARGEST_COUNT),
        seed=body.integer("seed", 0, -LARGEST_SEED, LARGEST_SEED),
        top_k=body.integer("top_k", 0, 0, LARGEST_COUNT),
        top_p=body.number("top_p", 1.0, 0.0, 1.0),
        min_p=body.number("min_p", 0.0, 0.0, 1.0),
        presence_penalty=body.number("presence_penalty", 0.0, -2.0, 2.0),
        frequency_penalty=body.number("frequency_penalty", 0.0, -2.0, 2.0),
        logit_bias=_logit_bias(body.raw("logit_bias")),
    )


def sampling_body(sampling: Sampling) -> dict[str, Any]:
    """The part of a body that asks for these settings."""
    return {
        "temperature": sampling.temperature,
        "repetition_penalty": sampling.repetition_penalty,
        "repetition_window": sampling.repetition_window,
        "no_repeat_ngram": sampling.no_repeat_ngram,
        "no_repeat_copied": sampling.no_repeat_copied,
        "seed": sampling.seed,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): amount for token, amount in sampling.logit_bias},
    }


def _logit_bias(value: Any) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise refused(
            "logit_bias", None, f"must be an object with at most {MOST_BIASES} tokens' numbers"
        )
    entries: dict[str, Any] = value
    return tuple(_bias(token, amount) for token, amount in entries.items())


def _bias(token: str, amount: Any) -> tuple[int, float]:
    if not (token.isascii() and token.isdigit() and token == str(int(token[:20]))):
        raise refused("logit_bias", None, "must name each token by its number, as in {'50': -100}")
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise refused(f"logit_bias[{token}]", None, "must be a number")
    if not -LARGEST_BIAS <= amount <= LARGEST_BIAS:
        bounds = f"must be from {-LARGEST_BIAS:g} to {LARGEST_BIAS:g}"
        raise refused(f"logit_bias[{token}]", amount, bounds)
    return int(token), float(amount)
