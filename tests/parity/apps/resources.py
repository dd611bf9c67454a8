"""What functions ask of machines."""

import os

import modal

app = modal.App("resources")
volume = modal.Volume.from_name("parity-resources", create_if_missing=True)


@app.function(
    cpu=(1.5, 4.0),
    memory=(512, 1024),
    ephemeral_disk=600_000,
    gpu="H100:2",
    region=["us-east", "eu-west"],
    cloud="aws",
    routing_region="eu-west",
    timeout=77,
    startup_timeout=66,
    retries=3,
    enable_memory_snapshot=True,
    restrict_modal_access=True,
    single_use_containers=True,
    volumes={"/data": volume.read_only()},
)
@modal.concurrent(max_inputs=8, target_inputs=5)
def asks() -> tuple[str, str]:
    return os.environ["MODAL_CLOUD_PROVIDER"], os.environ["MODAL_REGION"]


@app.function(gpu=["H100", "A100-80GB:4"], nonpreemptible=True, i6pn=True)
@modal.batched(max_batch_size=4, wait_ms=250)
def falls_back(xs: list[int]) -> list[int]:
    return xs


@app.function()
def plain() -> None: ...
