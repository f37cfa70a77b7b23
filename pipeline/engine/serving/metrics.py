"""The engine's figures as Prometheus text."""

from pipeline.engine.interface import EngineStats
from pipeline.engine.planning.speculation_stats import SpeculationStats
from pipeline.engine.serving.engine_thread import ThreadStatus


def metrics_text(status: ThreadStatus, uptime_s: float) -> str:
    """Figures in Prometheus' text format 0.0.4.

    Args:
        status: Of the engine thread.
        uptime_s: Age of the process.
    """
    lines: list[str] = []
    for name, kind, explained, value in _figures(status.stats, status, uptime_s):
        full = f"docflash_engine_{name}"
        lines += [f"# HELP {full} {explained}", f"# TYPE {full} {kind}", f"{full} {value:.10g}"]
    if status.stats.speculation is not None:
        lines += _speculation(status.stats.speculation)
    return "\n".join(lines) + "\n"


def _speculation(stats: SpeculationStats) -> list[str]:
    """What drafts were run and what they gained."""
    name = "docflash_engine_draft"
    return [
        f"# HELP {name}_steps_total Decode steps by width of the verify; 1 is plain decoding.",
        f"# TYPE {name}_steps_total counter",
        *(f'{name}_steps_total{{width="{w}"}} {steps}' for w, steps in stats.steps_by_width),
        f"# HELP {name}_tokens_total Drafted tokens by source.",
        f"# TYPE {name}_tokens_total counter",
        *(f'{name}_tokens_total{{source="{s.source}"}} {s.drafted}' for s in stats.sources),
        f"# HELP {name}_accepted_total Drafted tokens that were the model's own choice.",
        f"# TYPE {name}_accepted_total counter",
        *(f'{name}_accepted_total{{source="{s.source}"}} {s.accepted}' for s in stats.sources),
        f"# HELP {name}_gain Times sooner than by plain decoding, estimated.",
        f"# TYPE {name}_gain gauge",
        f"{name}_gain {stats.gain:.10g}",
    ]


def _figures(
    stats: EngineStats, status: ThreadStatus, uptime_s: float
) -> list[tuple[str, str, str, float]]:
    return [
        ("ready", "gauge", "1 when requests are served.", float(status.state == "ready")),
        ("uptime_seconds", "gauge", "Age of the process.", uptime_s),
        ("requests_running", "gauge", "Requests in the batch.", stats.running),
        ("requests_waiting", "gauge", "Requests that have not begun.", stats.waiting),
        ("requests_finished_total", "counter", "Requests answered.", stats.finished),
        ("requests_failed_total", "counter", "Requests begun and not answered.", stats.failed),
        ("prompt_tokens_total", "counter", "Tokens of all prompts.", stats.prompt_tokens),
        ("cached_tokens_total", "counter", "Prompt tokens reused.", stats.cached_tokens),
        ("completion_tokens_total", "counter", "Tokens of answers.", stats.completion_tokens),
        ("prefill_seconds_total", "counter", "Time spent on prompts.", stats.prefill_s),
        ("decode_seconds_total", "counter", "Time spent on answers.", stats.decode_s),
        ("steps_total", "counter", "Decode steps.", stats.steps),
        ("step_seconds", "gauge", "Recent mean of a decode step.", stats.step_ms / 1e3),
        ("kv_bytes", "gauge", "Memory of keys and values.", stats.kv_bytes),
        ("weights_bytes", "gauge", "Memory of the weights.", stats.weights_bytes),
    ]
