"""Configurations as published on the hub, cut to the fields that sizing may read (and some that may mislead it)."""

LLAMA_31_8B = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336},
    **{"num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072},
    **{"vocab_size": 128256, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
}
LLAMA_31_70B = LLAMA_31_8B | {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80}
LLAMA_2_7B = LLAMA_31_8B | {
    **{
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
        "torch_dtype": "float16",
    }
}
QWEN_25_7B = {
    **{"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "max_window_layers": 28, "num_attention_heads": 28},
    **{"num_hidden_layers": 28, "num_key_value_heads": 4, "sliding_window": 131072, "use_sliding_window": False, "vocab_size": 152064},
    **{"max_position_embeddings": 32768, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
}
QWEN_25_14B = (
    QWEN_25_7B
    | {"hidden_size": 5120, "intermediate_size": 13824, "num_attention_heads": 40, "num_hidden_layers": 48}
    | {
        "num_key_value_heads": 8,
        "max_window_layers": 70,
    }
)
QWEN_25_32B = QWEN_25_14B | {"intermediate_size": 27648, "num_hidden_layers": 64}
QWEN_25_72B = QWEN_25_14B | {"hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64, "num_hidden_layers": 80}
QWEN3_8B = {
    **{"model_type": "qwen3", "head_dim": 128, "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32},
    **{"num_hidden_layers": 36, "num_key_value_heads": 8, "sliding_window": None, "use_sliding_window": False, "vocab_size": 151936},
    **{"max_position_embeddings": 40960, "max_window_layers": 36, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
}
QWEN3_4B = QWEN3_8B | {"hidden_size": 2560, "intermediate_size": 9728, "tie_word_embeddings": True}
QWEN3_30B_A3B = QWEN3_8B | {
    **{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128},
    **{"num_hidden_layers": 48, "num_key_value_heads": 4, "num_experts_per_tok": 8},
}
QWEN3_NEXT_80B = {
    **{"model_type": "qwen3_next", "full_attention_interval": 4, "head_dim": 256, "hidden_size": 2048, "intermediate_size": 5120},
    **{"linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32},
    **{"linear_value_head_dim": 128, "max_position_embeddings": 262144, "num_attention_heads": 16, "num_experts": 512},
    **{"num_hidden_layers": 48, "num_key_value_heads": 2, "vocab_size": 151936, "torch_dtype": "bfloat16"},
}
MISTRAL_7B_V01 = LLAMA_31_8B | {"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 32768, "vocab_size": 32000}
MISTRAL_7B_V03 = MISTRAL_7B_V01 | {"sliding_window": None, "vocab_size": 32768}
MIXTRAL_8X7B = MISTRAL_7B_V03 | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000}
GEMMA_2_9B = {
    **{"model_type": "gemma2", "head_dim": 256, "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16},
    **{"num_hidden_layers": 42, "num_key_value_heads": 8, "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000},
    **{"max_position_embeddings": 8192, "torch_dtype": "bfloat16"},
}
GEMMA_3_4B = {  # its text part leaves out everything that equals the class's default
    **{"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16"},
    "text_config": {
        **{"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34},
        **{"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
    },
    "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27},
}
GEMMA_3_27B = {
    **{"model_type": "gemma3", "torch_dtype": "bfloat16"},
    "text_config": {
        **{"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32, "head_dim": 128},
        **{"num_hidden_layers": 62, "num_key_value_heads": 16, "sliding_window": 1024},
    },
}
PHI_3_MINI_4K = {
    **{"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32, "num_hidden_layers": 32},
    **{"num_key_value_heads": 32, "sliding_window": 2047, "vocab_size": 32064, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"},
}
PHI_4 = PHI_3_MINI_4K | {
    **{"hidden_size": 5120, "intermediate_size": 17920, "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 10},
    **{"sliding_window": None, "vocab_size": 100352, "max_position_embeddings": 16384},
}
DEEPSEEK_V2_LITE = {
    **{"model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512, "num_attention_heads": 16},
    **{"num_hidden_layers": 27, "num_key_value_heads": 16, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
    **{"n_routed_experts": 64, "vocab_size": 102400, "max_position_embeddings": 163840, "torch_dtype": "bfloat16"},
}
DEEPSEEK_V3 = DEEPSEEK_V2_LITE | {
    **{"model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 128, "num_hidden_layers": 61},
    **{"num_key_value_heads": 128, "n_routed_experts": 256, "vocab_size": 129280},
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}
GPT_OSS_20B = {
    **{"model_type": "gpt_oss", "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64},
    **{"num_hidden_layers": 24, "num_key_value_heads": 8, "num_local_experts": 32, "sliding_window": 128, "vocab_size": 201088},
    **{"layer_types": ["sliding_attention", "full_attention"] * 12, "max_position_embeddings": 131072, "tie_word_embeddings": False},
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
}
FALCON_7B = {
    **{"model_type": "falcon", "hidden_size": 4544, "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 71},
    **{"num_hidden_layers": 32, "vocab_size": 65024, "torch_dtype": "bfloat16"},
}
FALCON_40B = (
    FALCON_7B
    | {"hidden_size": 8192, "new_decoder_architecture": True, "num_attention_heads": 128, "num_hidden_layers": 60}
    | {"num_kv_heads": 8}
)
NEMOTRON_NANO_9B_V2 = {
    **{"model_type": "nemotron_h", "hidden_size": 4480, "intermediate_size": 15680, "num_attention_heads": 40, "num_key_value_heads": 8},
    **{"head_dim": 128, "num_hidden_layers": 56, "conv_kernel": 4, "mamba_head_dim": 80, "mamba_num_heads": 128, "n_groups": 8},
    **{"ssm_state_size": 128, "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"},
    **{"max_position_embeddings": 131072, "vocab_size": 131072, "torch_dtype": "bfloat16"},
}
