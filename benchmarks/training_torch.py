"""The training step of `benchmarks/training.py` in PyTorch, written straightforwardly.

Imported where torch is installed only. bfloat16 under autocast on a GPU, float32 on a CPU; float32
weights, AdamW, one call of attention over context and blocks under a boolean mask.
"""
# pyright: basic, reportMissingImports=false

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pipeline.engine.drafters.drafter_config import DrafterConfig
from pipeline.training.examples import Blocks


class Layer(nn.Module):
    """A layer of Qwen3's kind."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        size, head = config.hidden_size, config.head_dim
        self.heads, self.groups, self.head = (
            config.num_attention_heads, config.num_key_value_heads, head,
        )  # fmt: skip
        self.q = nn.Linear(size, self.heads * head, bias=False)
        self.k = nn.Linear(size, self.groups * head, bias=False)
        self.v = nn.Linear(size, self.groups * head, bias=False)
        self.o = nn.Linear(self.heads * head, size, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(head), nn.RMSNorm(head)
        self.first, self.second = nn.RMSNorm(size), nn.RMSNorm(size)
        self.gate = nn.Linear(size, config.intermediate_size, bias=False)
        self.up = nn.Linear(size, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, size, bias=False)

    def forward(self, x: Any, context: Any, places: Any, mask: Any) -> Any:
        """[B, A T, D] -> [B, A T, D]."""
        rows, slots, _ = x.shape
        length = context.shape[1]
        y = self.first(x)
        both = torch.cat([context, y], dim=1)
        q = self.q_norm(self.q(y).view(rows, slots, self.heads, -1)).transpose(1, 2)
        k = self.k_norm(self.k(both).view(rows, length + slots, self.groups, -1)).transpose(1, 2)
        v = self.v(both).view(rows, length + slots, self.groups, -1).transpose(1, 2)
        q, k = rotate(q, places[:, length:]), rotate(k, places)
        seen = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=self.heads != self.groups
        )
        x = x + self.o(seen.transpose(1, 2).reshape(rows, slots, -1))
        y = self.second(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Drafter(nn.Module):
    """The drafter without its embedding and head."""

    def __init__(self, config: DrafterConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.fc = nn.Linear(len(config.target_layer_ids) * size, size, bias=False)
        self.hidden_norm, self.norm = nn.RMSNorm(size), nn.RMSNorm(size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, taps: Any, x: Any, places: Any, mask: Any) -> Any:
        """Blocks [B, A T, D] over hidden states [B, L, taps D] -> [B, A T, D]."""
        context = self.hidden_norm(self.fc(taps))
        for layer in self.layers:
            x = layer(x, context, places, mask)
        return self.norm(x)


def rotate(x: Any, places: Any) -> Any:
    half = x.shape[-1] // 2
    rates = 100_000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = (places[:, None, :, None] * rates).to(x.dtype)
    one, two = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)


def time_step(
    config: DrafterConfig, features: np.ndarray, blocks: Blocks, repeats: int
) -> dict[str, float]:
    """Milliseconds of a step: the median."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    half = torch.bfloat16 if device == "cuda" else torch.float32
    drafter = Drafter(config).to(device)
    table = torch.randn(config.vocab_size, config.hidden_size, device=device, dtype=half) * 0.02
    taps = torch.tensor(features, device=device, dtype=half)
    anchors = torch.tensor(blocks.anchors, device=device)
    rows, count = anchors.shape
    width, length = config.block_size, taps.shape[1]
    slots = (anchors[..., None] + torch.arange(width, device=device)).view(rows, -1)
    places = torch.cat([torch.arange(length, device=device).expand(rows, -1), slots], dim=1)
    before = torch.arange(length, device=device) < anchors.repeat_interleave(width, 1)[..., None]
    owner = torch.arange(count, device=device).repeat_interleave(width)
    same = (owner[:, None] == owner[None]).expand(rows, -1, -1)
    mask = torch.cat([before, same], dim=-1)[:, None]
    tokens = torch.full((rows, count, width), config.mask_token_id, device=device)
    tokens[..., 0] = torch.tensor(blocks.first, device=device)
    labels = torch.tensor(blocks.labels, device=device, dtype=torch.long).view(-1)
    weights = torch.tensor(blocks.weights, device=device).view(-1)
    optimiser = torch.optim.AdamW(drafter.parameters(), lr=6e-4, fused=device == "cuda")

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            x = functional.embedding(tokens.view(rows, -1), table)
            hidden = drafter(taps, x, places, mask).view(rows, count, width, -1)[:, :, 1:]
            logits = hidden.reshape(-1, config.hidden_size).to(half) @ table.T
            losses = functional.cross_entropy(logits.float(), labels, reduction="none")
        ((losses * weights).sum() / weights.sum()).backward()
        nn.utils.clip_grad_norm_(drafter.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()

    times: list[float] = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return {"step_ms": round(float(np.median(times[2:])) * 1e3, 2)}
