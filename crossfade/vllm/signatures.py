"""What vLLM prints when it cannot start, as data. Rows are keyed to the pinned version; a row of a later version is added, none renamed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Category(StrEnum):
    """A stable contract: dashboards and automations match on these values, so none is ever renamed."""

    CO_TENANT_MOVED = "co_tenant_moved"
    VRAM_TAKEN = "vram_taken"
    NO_KV_ROOM = "no_kv_room"
    CONTEXT_TOO_LONG = "context_too_long"
    TOO_MANY_SEQS = "too_many_seqs"
    WEIGHTS_TOO_BIG = "weights_too_big"
    WEIGHTS_MISSING = "weights_missing"
    WEIGHTS_BROKEN = "weights_broken"
    WEIGHTS_MISMATCH = "weights_mismatch"
    TOKENIZER_BROKEN = "tokenizer_broken"
    CONFIG_INVALID = "config_invalid"
    ARCHITECTURE_UNKNOWN = "architecture_unknown"
    REMOTE_CODE = "remote_code"
    GPU_TOO_OLD = "gpu_too_old"
    QUANT_UNSUPPORTED = "quant_unsupported"
    GGUF_UNSUPPORTED = "gguf_unsupported"
    GATED = "gated"
    NO_TEMPLATE = "no_template"
    PORT_IN_USE = "port_in_use"
    MODULE_MISSING = "module_missing"
    FLAG_UNKNOWN = "flag_unknown"
    SETTING_INVALID = "setting_invalid"
    START_TOO_SLOW = "start_too_slow"
    KILLED_BY_PROBE = "killed_by_probe"
    KILLED = "killed"
    UNKNOWN = "unknown"


class Retry(StrEnum):
    """Whether the same command line may work later."""

    NO = "no"
    LATER = "later"
    CHANGED = "changed"  # only once `resolution` has been followed, which needs no person


@dataclass(frozen=True)
class Signature:
    """One row: any of `patterns` (regular expressions) in the log, or one of `exit_codes` when no row's pattern was found."""

    category: Category
    summary: str
    resolution: str
    patterns: tuple[str, ...] = ()
    exit_codes: tuple[int, ...] = ()
    retry: Retry = Retry.NO


SIGNATURES: tuple[Signature, ...] = (
    Signature(
        Category.PORT_IN_USE,
        "the port is taken",
        "Stop the program that holds it, or give target.runtime.port another value.",
        (r"Address already in use",),
    ),
    Signature(
        Category.MODULE_MISSING,
        "vLLM or a part of it is not installed in its environment",
        "Build the environment again: crossfade environment vllm.",
        (r"ModuleNotFoundError: ", r"No module named ", r"ImportError: "),
    ),
    Signature(
        Category.FLAG_UNKNOWN,
        "this vLLM does not know a flag it was given",
        "Use the vLLM version of the lock, or correct target.vllm in the plan.",
        (r"error: unrecognized arguments", r"error: argument --"),
    ),
    Signature(
        Category.SETTING_INVALID,
        "VLLM_CPU_KVCACHE_SPACE is set but is not a number",
        "Unset it; target.vllm.kv_cache says the size exactly.",
        (r"invalid literal for int\(\) with base 10: ''",),
    ),
    Signature(
        Category.CO_TENANT_MOVED,
        "another program on the GPU freed or took memory while vLLM measured it (H9)",
        "Keep the source's model loaded (keep_alive: -1) or unload it, wait until GPU memory is stable, start again.",
        (r"Error in memory profiling\. Initial free memory",),
        retry=Retry.LATER,
    ),
    Signature(
        Category.VRAM_TAKEN,
        "less memory is free than vLLM was told to use (H10)",
        "Set target.vllm.kv_cache to what is left beside the source, or free the GPU.",
        (r"less than desired GPU memory utilization",),
    ),
    Signature(
        Category.TOO_MANY_SEQS,
        "warming up for the allowed number of parallel requests does not fit (H10)",
        "Lower target.vllm.max_num_seqs.",
        (r"CUDA out of memory occurred when warming up sampler",),
    ),
    Signature(
        Category.NO_KV_ROOM,
        "no room for the KV cache that the context length needs (H10)",
        "Lower target.vllm.max_model_len first, then max_num_seqs; or give target.vllm.kv_cache more.",
        (
            r"No available memory for the cache blocks",
            r"larger than the available KV cache memory",
            r"on kv cache allocation is less than requested memory for kv",
        ),
    ),
    Signature(
        Category.WEIGHTS_TOO_BIG,
        "the weights do not fit into memory",
        "Quantize (quantize: fp8 or awq), or spread the model over more GPUs.",
        (r"torch\.OutOfMemoryError", r"torch\.cuda\.OutOfMemoryError", r"DefaultCPUAllocator: can't allocate memory"),
    ),
    Signature(
        Category.CONTEXT_TOO_LONG,
        "the plan asks for a longer context than the model was made for",
        "Lower target.vllm.max_model_len to the number the line names.",
        (r"User-specified max_model_len .* is greater than the derived max_model_len",),
    ),
    Signature(
        Category.GPU_TOO_OLD,
        "this GPU has no bfloat16 (H27)",
        "Set target.vllm.dtype: float16.",
        (r"[Bb]float16 is only supported on GPUs with compute capability",),
        retry=Retry.CHANGED,
    ),
    Signature(
        Category.QUANT_UNSUPPORTED,
        "this machine cannot run weights quantized like that (H27)",
        "Choose another scheme in the plan: w8a8 and fp8 run almost everywhere, awq and gptq need AVX-512 on a CPU.",
        (
            r"quantization (?:method|scheme) .*is not supported for the current GPU",
            r"Quantization scheme is not supported for the current GPU",
            r"Unknown quantization method",
            r"quantization is currently not supported",
            r"cpu_gemm_wna16",
            r"static_scaled_fp8_quant\(\) expected",
            r"requires AMX",
        ),
    ),
    Signature(
        Category.GGUF_UNSUPPORTED,
        "vLLM does not read GGUF files of this architecture (H19)",
        "Name the original safetensors repository in the plan's huggingface field.",
        (r"GGUF model with architecture",),
    ),
    Signature(
        Category.GATED,
        "the weights are behind a licence or a login",
        "Accept the licence on the model's page and give the download a token; a server itself never downloads.",
        (r"40[13] Client Error", r"GatedRepoError", r"[Gg]ated repo", r"Access to model .* is restricted"),
    ),
    Signature(
        Category.REMOTE_CODE,
        "the model wants to run Python code of its repository",
        "Choose a model without remote code; Crossfade starts none unasked.",
        (r"trust_remote_code=True", r"trust-remote-code"),
    ),
    Signature(
        Category.ARCHITECTURE_UNKNOWN,
        "this vLLM does not know the model's architecture",
        "Use a newer vLLM (a new lock), or keep this model on the source.",
        (r"Model architectures .* are not supported", r"does not recognize this architecture", r"has no vLLM implementation"),
    ),
    Signature(
        Category.WEIGHTS_BROKEN,
        "a weights file is damaged",
        "Check it with crossfade weights verify, delete the folder and download or quantize again.",
        (
            r"Error while deserializing header",
            r"SafetensorError",
            r"cannot fit 'int' into an index-sized integer",
            r"parse_safetensors_file_metadata",
        ),
    ),
    Signature(
        Category.CONFIG_INVALID,
        "config.json is missing or is not JSON",
        "Check the weights folder with crossfade weights verify, and download again.",
        (r"is not a valid JSON file", r"ensure the presence of a 'config\.json'", r"Invalid repository ID or local directory specified"),
    ),
    Signature(
        Category.WEIGHTS_MISSING,
        "there are no weights where vLLM looked",
        "Check the weights folder; a path that does not exist is taken for a name on the hub.",
        (r"Cannot find any model weights with", r"HFValidationError: Repo id must be", r"Repo id must be in the form"),
    ),
    Signature(
        Category.WEIGHTS_MISMATCH,
        "the weights are not those config.json describes",
        "Check that all files come from one revision: crossfade weights verify.",
        (
            r"exceeds dimension size",
            r"size mismatch for",
            r"Attempted to load weight \(.*\) into parameter",
            r"There is no module or parameter named",
        ),
    ),
    Signature(
        Category.TOKENIZER_BROKEN,
        "the tokenizer cannot be loaded",
        "Check that tokenizer.json is in the weights folder, and download again.",
        (r"Couldn't instantiate the backend tokenizer", r"Can't load tokenizer for", r"Error while initializing (?:Tokenizer|BPE)"),
    ),
    Signature(
        Category.NO_TEMPLATE,
        "the model has no usable chat template",
        "Use the instruct version of the model, or one whose repository holds a valid chat_template.jinja.",
        (r"default chat template is no longer allowed", r"jinja2\.exceptions\.Template"),
    ),
    Signature(
        Category.START_TOO_SLOW,
        "vLLM's own start deadline passed before the engine was loaded (H15)",
        "Raise target.runtime.start_within; look above in the log for an engine process that died silently.",
        (r"Timed out waiting for engine core processes to start",),
        retry=Retry.LATER,
    ),
    Signature(
        Category.KILLED_BY_PROBE,
        "somebody ended vLLM while it was starting (H15)",
        "If a supervisor or probe did it, give it a longer start budget; then start again.",
        (r"KeyboardInterrupt: terminated",),
        (-15, 143),
        Retry.LATER,
    ),
    Signature(
        Category.KILLED,
        "vLLM was killed, most likely by the kernel because memory ran out",
        "Look for 'Out of memory' in the kernel's log; lower target.vllm.kv_cache and max_num_seqs or free memory, then start again.",
        (),
        (-9, 137),
        Retry.LATER,
    ),
)
"""Rows in the order they are tried: a row before another is the more specific one when a log shows both."""
