"""Converts the embedded model's GGUF file to an mlx-lm folder.

Started as `python -m pipeline.engine.loading.convert`.

In: the GGUF file, an empty folder, "f32", "bf16" or "q4". Out: weights, config, tokenizer, and a
manifest written last; on standard output, lines of "fraction what" that tell how far it is.
"""

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from pipeline.engine.loading.embedded import CONVERTER_VERSION, GGUF_SHA256, MANIFEST, hash_file

GROUP_SIZE = 32
EMBEDDING = "model.embed_tokens"
RENAMED = {
    "token_embd": EMBEDDING,
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3  # a token_type of GGUF

Weights = dict[str, mx.array]
Metadata = dict[str, Any]


def convert(gguf: Path, folder: Path, dtype: str) -> None:
    """Writes an mlx-lm model folder.

    Args:
        gguf: A Llama model with a byte-level BPE tokenizer.
        folder: An existing, empty folder.
        dtype: "f32", "bf16": dequantised. "q4": as quantised in the file.
    """
    _tell(0.0, "reading the embedded model")
    loaded: tuple[Weights, Metadata] = mx.load(str(gguf), return_metadata=True)  # pyright: ignore[reportAssignmentType]
    arrays, metadata = loaded
    heads = int(metadata["llama.attention.head_count"].item())
    kv_heads = int(metadata["llama.attention.head_count_kv"].item())
    weights = {_renamed(name): value for name, value in arrays.items()}
    weights = {name: _unpermuted(name, value, heads, kv_heads) for name, value in weights.items()}
    config = _config(metadata)
    _tell(0.2, "converting the embedded model")
    if dtype != "q4":
        kept = {"f32": mx.float32, "bf16": mx.bfloat16}[dtype]
        weights = {name: value.astype(kept) for name, value in _dequantised(weights).items()}
    else:
        config["quantization"] = _quantization(weights)
        weights = {name: _half(value) for name, value in weights.items()}
    _write_json(folder / "config.json", config)
    _tell(0.4, "writing the tokenizer")
    _write_tokenizer(folder, metadata)
    _tell(0.5, "writing the weights")
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    _tell(0.8, "writing the manifest")
    _write_manifest(folder)
    _tell(1.0, "the embedded model is ready")


def _tell(fraction: float, what: str) -> None:
    print(f"{fraction:.2f} {what}", flush=True)  # noqa: T201  read by the parent


def _renamed(name: str) -> str:
    """blk.7.attn_q.scales -> model.layers.7.self_attn.q_proj.scales."""
    *path, part, kind = name.split(".")
    layer = f"model.layers.{path[1]}." if path else ""
    return f"{layer}{RENAMED[part]}.{kind}"


def _unpermuted(name: str, value: mx.array, heads: int, kv_heads: int) -> mx.array:
    """Undoes the interleaving of the rows of Q and K that GGUF's rotary embedding wants."""
    count = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
    if count is None:
        return value
    rows = value.reshape(count, value.shape[0] // count // 2, 2, *value.shape[1:])
    return rows.swapaxes(1, 2).reshape(value.shape)


def _dequantised(weights: Weights) -> Weights:
    plain: Weights = {}
    for name, value in weights.items():
        layer, _, kind = name.rpartition(".")
        if kind in {"scales", "biases"}:
            continue
        if f"{layer}.scales" in weights:
            scales, biases = weights[f"{layer}.scales"], weights[f"{layer}.biases"]
            plain[name] = mx.dequantize(
                value,
                scales.astype(mx.float32),
                biases.astype(mx.float32),
                group_size=GROUP_SIZE,
                bits=_bits(value, scales),
            )
        else:
            plain[name] = value.astype(mx.float32)
    return plain


def _bits(packed: mx.array, scales: mx.array) -> int:
    return packed.shape[-1] * 32 // (scales.shape[-1] * GROUP_SIZE)


def _quantization(weights: Weights) -> dict[str, Any]:
    """mlx-lm's description of the file's own quantisation: a default and the exceptions."""
    layers = [name.removesuffix(".scales") for name in weights if name.endswith(".scales")]
    bits = {
        layer: _bits(weights[f"{layer}.weight"], weights[f"{layer}.scales"]) for layer in layers
    }
    default = min(bits.values())
    described: dict[str, Any] = {"group_size": GROUP_SIZE, "bits": default}
    for layer in sorted(layers):
        if bits[layer] != default:
            described[layer] = {"group_size": GROUP_SIZE, "bits": bits[layer]}
    return described


def _half(value: mx.array) -> mx.array:
    """One float type throughout: float32 norms would widen everything after them."""
    return value.astype(mx.float16) if value.dtype == mx.float32 else value


def _config(metadata: Metadata) -> dict[str, Any]:
    def number(key: str) -> Any:
        return metadata[key].item()

    hidden, heads = number("llama.embedding_length"), number("llama.attention.head_count")
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": number("llama.block_count"),
        "intermediate_size": number("llama.feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": number("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "rms_norm_eps": round(number("llama.attention.layer_norm_rms_epsilon"), 10),
        "rope_theta": number("llama.rope.freq_base"),
        "vocab_size": number("llama.vocab_size"),
        "max_position_embeddings": number("llama.context_length"),
        "tie_word_embeddings": True,
        "bos_token_id": number("tokenizer.ggml.bos_token_id"),
        "eos_token_id": number("tokenizer.ggml.eos_token_id"),
    }


def _write_tokenizer(folder: Path, metadata: Metadata) -> None:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)  # pyright: ignore[reportArgumentType]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    kinds: list[int] = metadata["tokenizer.ggml.token_type"].tolist()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == CONTROL_TOKEN
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)

    def named(key: str) -> str:
        return tokens[metadata[f"tokenizer.ggml.{key}_token_id"].item()]

    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": named("bos"),
            "eos_token": named("eos"),
            "pad_token": named("padding"),
            "unk_token": named("unknown"),
            "clean_up_tokenization_spaces": False,
            "model_max_length": metadata["llama.context_length"].item(),
            "chat_template": metadata["tokenizer.chat_template"],
        },
    )


def _write_manifest(folder: Path) -> None:
    files = {
        file.name: {"size_bytes": file.stat().st_size, "sha256": hash_file(file)}
        for file in sorted(folder.iterdir())
    }
    manifest = {"converter": CONVERTER_VERSION, "source": GGUF_SHA256, "files": files}
    _write_json(folder / MANIFEST, manifest)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
