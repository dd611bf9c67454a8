"""What functions ask of machines: recorded and shown, without effect where one machine is all there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import modal
import pytest

from emulator.emulator import Emulator
from tests.parity.kit import for_emulator

if TYPE_CHECKING:
    from modal.types import FunctionInfo

    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("resources.py")


@pytest.fixture
def info(app: DeployedApp) -> FunctionInfo:
    found: FunctionInfo = app.function("asks").info()
    return found


def refused(target: Target, complaint: str, **options: Any) -> None:
    app = modal.App(target.unique("refused"))
    with pytest.raises(modal.exception.Error, match=complaint):
        app.function(serialized=True, name="f", **options)(lambda: None)
        app.deploy(client=target.client)


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "cpu")
def test_cpu_is_shown_as_request_and_limit(info: FunctionInfo) -> None:
    assert info.cpu == (1.5, 4.0)


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "memory")
def test_memory_is_shown(info: FunctionInfo) -> None:
    assert info.memory_mib == 1024  # this client shows the limit where there is one


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "ephemeral_disk")
def test_the_disk_is_shown_and_no_larger_than_any_that_modal_has(target: Target, info: FunctionInfo) -> None:
    assert info.ephemeral_disk_mib == 600_000
    refused(target, "ephemeral_disk", ephemeral_disk=4 * 1024 * 1024)


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "gpu")
def test_gpus_are_shown_in_their_order_of_preference(app: DeployedApp, info: FunctionInfo) -> None:
    assert info.gpus == [("H100", 2)]
    assert app.function("falls_back").info().gpus == [("H100", 1), ("A100-80GB", 4)]


@pytest.mark.row("Functions", "gpu")
def test_more_gpus_than_a_machine_has_are_refused(target: Target) -> None:
    refused(target, "GPU", gpu="H100:9")
    refused(target, "Invalid GPU count", gpu="H100:many")


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "region, cloud, routing_region")
def test_where_it_is_to_run_is_shown(info: FunctionInfo) -> None:
    assert (info.regions, info.cloud, info.routing_region) == (["us-east", "eu-west"], "aws", "eu-west")


@pytest.mark.row("Functions", "region, cloud, routing_region")
@pytest.mark.emulator_only("Modal's are the names of its providers' own regions")
def test_containers_are_told_that_they_are_where_they_asked_to_be(app: DeployedApp) -> None:
    assert app.function("asks").remote() == ("aws", "us-east")


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "nonpreemptible")
def test_nonpreemptible_is_shown(app: DeployedApp, info: FunctionInfo) -> None:
    assert (info.nonpreemptible, app.function("falls_back").info().nonpreemptible) == (False, True)


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "Function.info")
def test_what_else_was_asked_for_is_shown(app: DeployedApp, info: FunctionInfo) -> None:
    assert (info.timeout, info.max_retries, info.single_use_containers) == (77, 3, True)
    assert info.concurrency_info == type(info).ConcurrencyInfo(max_inputs=8, target_inputs=5)
    [(path, mount)] = info.volumes.items()
    assert (path, mount.read_only) == ("/data", True)
    batching = app.function("falls_back").info().batching_info
    assert batching == type(info).BatchingInfo(max_batch_size=4, wait_ms=250)
    plain = app.function("plain").info()
    assert (plain.cpu, plain.gpus, plain.schedule, plain.regions, plain.max_retries) == (None, [], None, None, None)


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "enable_memory_snapshot, restrict_modal_access, i6pn")
def test_what_one_machine_cannot_do_is_recorded(info: FunctionInfo) -> None:
    assert info.restrict_modal_access


@pytest.mark.row("Functions", "enable_memory_snapshot, restrict_modal_access, i6pn")
@pytest.mark.emulator_only("it is the emulator that says what it does not do")
@pytest.mark.slow
def test_what_has_no_effect_is_said_when_it_is_deployed(target: Target) -> None:
    said: list[str] = []
    with Emulator(log=lambda line: said.append(line.text)) as emulator:
        listening = for_emulator(emulator)
        listening.deploy("resources.py")
        listening.client.close()
    [line] = [text for text in said if text.startswith("asks: ")]
    assert line == (
        "asks: no effect here: gpu, cpu, memory, ephemeral_disk, region, cloud, memory snapshots, restrict_modal_access"
    )


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "with_options")
def test_other_options_lie_over_the_definition(app: DeployedApp) -> None:
    other = app.function("asks").with_options(gpu="L4", timeout=5, retries=1, region="ap-south")
    other.hydrate()
    found = other.info(refresh=True)
    assert (found.gpus, found.timeout, found.max_retries, found.regions) == ([("L4", 1)], 5, 1, ["ap-south"])
    assert (found.cpu, found.ephemeral_disk_mib, found.cloud) == ((1.5, 4.0), 600_000, "aws")


@pytest.mark.row("Functions", "CloudBucketMount")
@pytest.mark.emulator_only("Modal has them")
def test_buckets_are_not_mounted_and_a_deploy_that_wants_one_fails(target: Target) -> None:
    bucket = modal.CloudBucketMount("some-bucket", secret=modal.Secret.from_dict({"AWS_ACCESS_KEY_ID": "x"}))
    refused(target, "emulator does not implement: CloudBucketMount", volumes={"/bucket": bucket})


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "network_file_systems")
@pytest.mark.emulator_only("Modal has them")
def test_there_are_no_network_file_systems(target: Target) -> None:
    with pytest.warns(modal.exception.DeprecationError):
        refused(
            target,
            "emulator does not implement",
            network_file_systems={"/nfs": modal.NetworkFileSystem.from_name("some-nfs", create_if_missing=True)},
        )


@pytest.mark.row("Functions", "proxy")
@pytest.mark.emulator_only("Modal has them")
def test_there_are_no_proxies(target: Target) -> None:
    refused(target, "emulator does not implement", proxy=modal.Proxy.from_name("some-proxy"))


@pytest.mark.since("1.6")
@pytest.mark.row("Functions", "@modal.clustered")
@pytest.mark.emulator_only("Modal has them")
def test_there_are_no_clusters(target: Target) -> None:
    app = modal.App(target.unique("clustered"))
    app.function(serialized=True, name="f")(modal.clustered(size=2)(lambda: None))
    with pytest.raises(modal.exception.Error, match="clusters of containers"):
        app.deploy(client=target.client)


@pytest.mark.row("Functions", "experimental_options")
@pytest.mark.row("Functions", "gpu")
@pytest.mark.emulator_only("Modal itself knows its GPUs and its experiments")
def test_gpus_and_experiments_that_nobody_has_heard_of_are_warnings_at_the_deploy(target: Target) -> None:
    done = target.cli("deploy", "--name", target.unique("odd"), "odd.py", env={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert "Modal's documentation knows no GPU 'H1000'" in done.stdout + done.stderr
    assert "its experimental options have no effect (sideways)" in done.stdout + done.stderr
