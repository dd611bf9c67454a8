"""Write the trained weights: a Hugging Face folder (safetensors, f16) and a GGUF file (Q8_0)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import gguf
import torch
from gguf.quants import quantize
from safetensors.torch import save_file

from functions.demo import GGUF, chat, network

if TYPE_CHECKING:
    from pathlib import Path

    import numpy
    from tokenizers import Tokenizer

NAME: Final = "demo"

_GGUF_LAYER_NAMES: Final = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def export(weights: network.Weights, shape: network.Shape, tokenizer: Tokenizer, folder: Path) -> list[Path]:
    """Write every file of the model into `folder`, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in _configuration(shape, tokenizer).items():
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    halves = {name: weight.to(torch.float16).contiguous() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    write_gguf(weights, shape, tokenizer, folder / GGUF.name)
    return sorted(folder.iterdir())


def _configuration(shape: network.Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    end, pad = tokenizer.token_to_id(chat.END), tokenizer.token_to_id(chat.END_OF_TEXT)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_base,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
    }
    special = {str(tokenizer.token_to_id(token)): _special(token) for token in chat.SPECIAL}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "bos_token": None,
        "eos_token": chat.END,
        "pad_token": chat.END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": special,
        "chat_template": chat.TEMPLATE,
    }
    generation = {"eos_token_id": [end, pad], "pad_token_id": pad}
    return {"config.json": config, "tokenizer_config.json": tokenizer_config, "generation_config.json": generation}


def _special(token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **flags, "special": True}


def write_gguf(weights: network.Weights, shape: network.Shape, tokenizer: Tokenizer, file: Path) -> None:
    """One GGUF file: matrices in Q8_0 (8.5 bits a weight), norms in f32, tokenizer and chat template within."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name(NAME)
    writer.add_license("mit")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    _add_tokenizer(writer, tokenizer)
    for name, weight in weights.items():
        _add_tensor(writer, _gguf_name(name), _for_llama_cpp(name, weight, shape.heads).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    described = json.loads(tokenizer.to_str())
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in chat.SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges([" ".join(merge) for merge in described["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.token_to_id(chat.END))
    writer.add_pad_token_id(tokenizer.token_to_id(chat.END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat.TEMPLATE)


def _add_tensor(writer: gguf.GGUFWriter, name: str, array: numpy.ndarray[Any, Any]) -> None:
    if array.ndim == 1:
        writer.add_tensor(name, array)
    else:
        quantized = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quantize(array, quantized), raw_dtype=quantized)


def _gguf_name(name: str) -> str:
    if name == network.EMBEDDING:
        return "token_embd.weight"
    if name == network.FINAL_NORM:
        return "output_norm.weight"
    if name == network.HEAD:
        return "output.weight"
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{_GGUF_LAYER_NAMES[rest]}"


def _for_llama_cpp(name: str, weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp rotates neighbouring pairs where Hugging Face rotates halves: so query and key are reordered."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)
