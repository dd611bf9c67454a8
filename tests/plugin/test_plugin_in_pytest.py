"""The plugin in a pytest of its own: what it costs who does not use it, reports, wrong marks, xdist, a real home."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SHOP = """
    import modal

    app = modal.App("shop")

    @app.function()
    def price(pieces):
        print("asked for", pieces)
        assert pieces > 0, "nobody buys less than nothing"
        return 3 * pieces
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return inner.runpytest_subprocess("-p", "emulator.pytest_plugin", *arguments)


@pytest.mark.slow
def test_nothing_is_imported_for_tests_that_use_no_fixture_of_it(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import sys

        def test_it():
            heavy = {"modal", "moto", "boto3", "aiohttp", "grpclib", "google", "emulator.emulator"}
            assert not heavy & sys.modules.keys()
    """)
    run(inner, "-p", "no:xdist", "-p", "no:asyncio").assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_failing_tests_report_tells_what_its_containers_wrote(inner: pytest.Pytester) -> None:
    inner.makepyfile(shop=SHOP)
    inner.makepyfile("""
        import shop

        def test_first(module_deploy):
            module_deploy(shop)
            assert shop.price.remote(11) == 33

        def test_second(module_emulator):
            shop.price.remote(-1)
    """)
    result = run(inner)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*- emulator and its containers -*", "price ???? | asked for -1", "*nobody buys*"])
    result.stdout.no_fnmatch_line("*| asked for 11")


@pytest.mark.slow
def test_a_wrong_mark_is_an_error_that_names_what_is_wrong(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest

        @pytest.mark.emulator(contianers="zygote")
        def test_misspelt(emulator): ...

        @pytest.mark.emulator(containers="zygote")
        def test_for_nothing(): ...
    """)
    result = run(inner, "--strict-markers")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*has no option 'contianers': it has *", "*mark.emulator is for tests that use*"])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--emulator-containers", "process"), ("-o", "emulator_containers=process")])
def test_the_default_kind_of_containers_is_configured(inner: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    inner.makepyfile("""
        import pytest

        def test_default(emulator):
            assert emulator.options.containers == "process"

        @pytest.mark.emulator(containers="auto")
        def test_marked(emulator):
            assert emulator.options.containers == "auto"
    """)
    run(inner, *arguments).assert_outcomes(passed=2)


@pytest.mark.slow
def test_synchronous_and_asynchronous_tests_run_side_by_side_under_xdist(inner: pytest.Pytester) -> None:
    inner.makepyfile(shop=SHOP)
    inner.makepyfile("""
        import pytest
        import shop

        @pytest.mark.parametrize("pieces", [1, 2])
        def test_plain(deploy, pieces):
            deploy(shop.app)
            assert shop.price.remote(pieces) == 3 * pieces

        @pytest.mark.parametrize("pieces", [3, 4])
        async def test_async(deploy, pieces):
            await deploy.aio(shop.app)
            assert await shop.price.remote.aio(pieces) == 3 * pieces
    """)
    run(inner, "-n", "2").assert_outcomes(passed=4)


@pytest.mark.slow
def test_the_developers_own_configuration_is_never_used(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = "http://127.0.0.1:9"  # nobody answers there
    inner.path.joinpath(".modal.toml").write_text(
        f'[work]\ntoken_id = "ak-real"\nserver_url = "{trap}"\noauth_client_id = "real"\n[home]\nenvironment = "mine"\n'
    )
    monkeypatch.setenv("HOME", str(inner.path))
    for name, value in {"MODAL_PROFILE": "work", "MODAL_SERVER_URL": trap, "AWS_PROFILE": "production"}.items():
        monkeypatch.setenv(name, value)
    inner.makepyfile(shop=SHOP)
    inner.makepyfile("""
        import os
        import shop

        def test_it(deploy, aws):
            deploy(shop)
            assert shop.price.remote(1) == 3
            assert aws.client("s3").list_buckets()["Buckets"] == []

        def test_after():
            assert os.environ["MODAL_PROFILE"] == "work"
            assert os.environ["AWS_PROFILE"] == "production"
            import modal.config
            assert modal.config.config.get("token_id") == "ak-real"
    """)
    run(inner).assert_outcomes(passed=2)
