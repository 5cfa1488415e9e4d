"""How llama.cpp's server is started, wherever Lorimer starts one. Needs neither torch nor transformers."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
BEGIN_SECONDS = 600.0
"""How long the first token may take: a large model is read from a slow disk meanwhile."""
_CACHE_MIB = 1024
# Threads of llama.cpp wait for each other spinning; below this size one is faster, on a busy machine a hundredfold.
_ONE_THREAD = 256 * 1024**2


def parameters(
    path: Path,
    *,
    context: int,
    key: str,
    exact: bool = False,
    lora: Path | None = None,
    gpu_layers: int = -1,
    port: int = 0,
    parallel: int = 1,
    alias: str = "",
) -> Any:
    """What `xllamacpp.Server` is started with: on this machine only, without a web page. Every use of it comes here.

    Args:
        context: length of the longest text in tokens; 0 for the model's own.
        key: what a client must name; any process of this machine could else ask.
        exact: on the CPU with a cache in 32-bit floats and without shortcuts in the attention, for a comparison; else
            as fast as it goes, on a GPU where the wheel knows one.
        lora: GGUF of an adapter to put on the weights.
        gpu_layers: layers on a GPU where there is one, -1 for as many as fit. Not with ``exact``.
        port: 0 for a free one.
        parallel: answers at a time; each has ``context`` tokens.
        alias: the model's name in answers; empty for its path.
    """
    import xllamacpp

    values = xllamacpp.CommonParams()
    values.model.path = str(path)
    values.n_ctx = context * parallel
    values.n_parallel = parallel
    values.hostnames = [HOST]
    values.port = port
    # A page in a browser may ask what is on this machine; no page of another origin is let in.
    values.cors_origins, values.cors_origins_explicit, values.cors_credentials = f"http://{HOST}", True, False
    values.n_gpu_layers = 0 if exact else gpu_layers
    if exact:
        values.cache_type_k = values.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        values.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if lora is not None:
        values.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(lora), 1.0)]
    if alias:
        values.model_alias = {alias}
    values.cpuparams.n_threads = values.cpuparams_batch.n_threads = threads(path)
    values.use_jinja = True
    values.warmup = values.ui = values.endpoint_slots = False
    # On a GPU, as many layers as its free memory holds.
    values.fit_params = not exact
    # Conversations that wait for their next turn.
    values.cache_ram_mib = 0 if exact else _CACHE_MIB
    values.verbosity = -1
    values.api_keys = [key] if key else []
    return values


def started(values: Any) -> Any:
    """A running `xllamacpp.Server` of `parameters`, which has made one token.

    A server that is ended before its queue has begun to wait may never end; an answer shows that it has begun (seen
    with xllamacpp 2026.10: one in fifty).

    Raises:
        RuntimeError, ValueError: llama.cpp does not load the file, or does not answer.
    """
    import xllamacpp

    server = xllamacpp.Server(values)
    connection = http.client.HTTPConnection(server.listening_address.partition("://")[2], timeout=BEGIN_SECONDS)
    key = next(iter(values.api_keys), "")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    asked = json.dumps({"prompt": [0], "n_predict": 1})
    try:
        connection.request("POST", "/completion", asked, headers)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(str(error)) from error
    finally:
        connection.close()
    return server


def threads(path: Path) -> int:
    """How many threads suit a GGUF on this machine."""
    return 1 if path.stat().st_size < _ONE_THREAD else max(1, (os.cpu_count() or 2) - 1)
