"""The fixtures of the pytest plugin, used as any test uses them."""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal
import pytest
import shop
from modal.exception import ExecutionError, NotFoundError

if TYPE_CHECKING:
    from emulator.emulator import Emulator
    from emulator.testing.apps import Deploy, RunningApp
    from emulator.testing.aws import AwsAccess

pytestmark = pytest.mark.any_containers

TABLE: dict[str, Any] = {
    "TableName": "orders",
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture(scope="module")
def running(module_deploy: Deploy) -> RunningApp:
    return module_deploy(shop.app)


class TestAnAppThatIsDeployed:
    """Unittest-style, with a fixture for all of its tests."""

    app: RunningApp

    @pytest.fixture(autouse=True)
    def _deployed(self, running: RunningApp) -> None:
        self.app = running

    def test_its_functions_are_called_as_they_are_written(self) -> None:
        assert shop.price.remote(2) == 6
        assert shop.orders[2] == 6
        assert list(shop.count.remote_gen(3)) == [0, 1, 2]

    def test_its_functions_and_classes_are_found_by_name_without_a_client(self) -> None:
        assert modal.Function.from_name("shop", "price").remote(3) == 9
        assert self.app.function("price").remote(3) == 9
        assert self.app.cls("Till")().pid.remote() > 0

    async def test_asynchronous_tests_call_it_too(self) -> None:
        assert await shop.price.remote.aio(5) == 15

    def test_it_has_addresses(self) -> None:
        assert self.app.urls == {"window": self.app.url("window")}
        assert self.app.url() == self.app.url("window")
        with urllib.request.urlopen(self.app.url("window")) as answer:
            assert answer.read() == b"apples"

    def test_what_it_does_not_have_is_said_where_it_is_asked_for(self) -> None:
        with pytest.raises(LookupError, match=r"no function 'prize': it has .*'price'"):
            self.app.function("prize")
        with pytest.raises(LookupError, match=r"no class 'price': it has \['Till'\]"):
            self.app.cls("price")
        with pytest.raises(LookupError, match="no Server 'Till'"):
            self.app.server("Till")
        with pytest.raises(LookupError, match=r"'door': it has \['window'\]"):
            self.app.url("door")

    def test_its_containers_words_are_in_its_logs(self) -> None:
        shop.price.remote(77)
        assert "| asked for 77\n" in self.app.logs()


def test_each_test_has_an_emulator_of_its_own(running: RunningApp, emulator: Emulator, deploy: Deploy) -> None:
    with pytest.raises(NotFoundError):
        modal.Function.from_name("shop", "price").hydrate()
    with pytest.raises(ExecutionError, match="not been hydrated"):
        shop.price.remote(1)
    deploy(shop)
    assert shop.orders.len() == 0
    assert emulator.web_url("shop", "window") == shop.window.get_web_url() != running.url("window")


def test_the_wider_scopes_emulator_is_in_force_again(running: RunningApp) -> None:
    assert shop.window.get_web_url() == running.url("window")
    assert shop.price.remote(4) == 12


def test_an_app_may_run_for_as_long_as_a_block(emulator: Emulator) -> None:
    with shop.app.run():
        assert shop.price.remote(6) == 18
    with pytest.raises(ExecutionError):
        shop.price.remote(6)


async def test_an_asynchronous_test_deploys_without_blocking_its_loop(deploy: Deploy) -> None:
    app = await deploy.aio(shop, name="kiosk")
    assert app.name == "kiosk"
    assert app.url("window").startswith("http://127.0.0.1:")


@pytest.mark.filterwarnings("error:A blocking Modal interface")
async def test_an_asynchronous_test_may_deploy_the_plain_way(deploy: Deploy) -> None:
    assert deploy(shop).name == "shop"


def test_an_app_is_deployed_from_its_file(deploy: Deploy, tmp_path: Path) -> None:
    file = tmp_path / "corner_shop.py"
    file.write_text("import modal\napp = modal.App('corner')\n@app.function()\ndef greet(): return 'hello'\n")
    deploy(file)
    assert sys.modules["corner_shop"].__file__ == str(file)
    assert deploy(f"{file}::app").name == "corner"


def test_a_file_that_was_imported_for_a_test_is_forgotten_after_it() -> None:
    assert "corner_shop" not in sys.modules


def test_a_file_without_an_app_or_with_several_is_refused(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "no_app.py").write_text("x = 1\n")
    with pytest.raises(LookupError, match=r"no_app has no modal\.App named 'app': it has none"):
        deploy(tmp_path / "no_app.py")
    (tmp_path / "two_apps.py").write_text("import modal\na = modal.App('a')\nb = modal.App('b')\n")
    with pytest.raises(LookupError, match=r"two_apps has no .* named 'app': it has a, b"):
        deploy(tmp_path / "two_apps.py")
    with pytest.raises(FileNotFoundError):
        deploy(tmp_path / "nowhere.py")
    with pytest.raises(TypeError, match="not int"):
        deploy(3)  # type: ignore[arg-type]


def test_s3_and_dynamodb_are_the_tests_own_and_can_be_emptied(aws: AwsAccess, emulator: Emulator) -> None:
    import boto3

    aws.client("s3").create_bucket(Bucket="orders")
    aws.resource("dynamodb").create_table(**TABLE)
    assert [bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]] == ["orders"]
    aws.reset()
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.client("dynamodb").list_tables()["TableNames"] == []
    assert os.environ["AWS_ENDPOINT_URL"] == aws.endpoint_url == emulator.environment["AWS_ENDPOINT_URL"]


@pytest.mark.emulator(containers="process", max_containers=1)
def test_a_mark_chooses_the_kind_of_containers_and_the_rest(emulator: Emulator) -> None:
    assert emulator.options.containers == "process"
    assert emulator.options.max_containers == 1
