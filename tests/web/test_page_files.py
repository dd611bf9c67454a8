"""The files of the chat page as browsers are given them: compressed, kept where they may be, under a strict policy."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any

import pytest

from infra.keys import fingerprint
from infra.settings import ApiKey, Security
from tests.web.conftest import settings_with
from web.routes.page import FOLDER
from web.static_files import StaticFiles, best_coding, unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Serve, Served

BUDGET = 150 * 1024
"""Bytes of a first load, compressed."""


async def fetch(http: Any, url: str, **headers: str) -> tuple[int, Any, bytes]:
    """Without undoing any coding."""
    asked = {"accept-encoding": "identity", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with http.get(url, headers=asked, auto_decompress=False) as answer:
        return answer.status, answer.headers, await answer.read()


def parts(html: bytes) -> list[str]:
    """What the page itself names: fetched before anything is shown."""
    return re.findall(r'(?:src|href)="(static/[^"]+)"', html.decode())


class TestThePage:
    async def test_it_is_served_to_anybody_where_keys_are_asked_for(self, serve: Serve, http: Any) -> None:
        security = Security(enable_auth=True, api_keys=(ApiKey(key=fingerprint("sk-0123456789"), name="one"),))
        locked = serve("http://127.0.0.1:9", settings=settings_with().model_copy(update={"security": security}))
        status, headers, html = await fetch(http, locked.url + "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"<!doctype html>" in html
        for part in parts(html):
            assert (await fetch(http, f"{locked.url}/{part}"))[0] == 200, part

    async def test_a_browser_lets_it_run_its_own_scripts_only_and_talk_to_its_service_only(
        self, served: Served, http: Any
    ) -> None:
        _, headers, html = await fetch(http, served.url + "/")
        policy = dict(directive.split(" ", 1) for directive in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' data: blob:"
        assert (policy["require-trusted-types-for"], policy["frame-ancestors"]) == ("'script'", "'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert not re.search(rb"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?://", html)

    async def test_images_of_elsewhere_are_for_who_asks_for_them(self, served: Served, http: Any) -> None:
        _, headers, _ = await fetch(http, served.url + "/?images=allow")
        assert "img-src 'self' data: blob: https: http:;" in headers["content-security-policy"]
        assert "script-src 'self';" in headers["content-security-policy"]

    async def test_a_first_load_is_small(self, served: Served, http: Any) -> None:
        _, _, html = await fetch(http, served.url + "/")
        loaded = [await fetch(http, f"{served.url}/{path}", accept_encoding="gzip") for path in ["", *parts(html)]]
        assert sum(len(content) for _, _, content in loaded) < BUDGET


class TestAFile:
    async def test_one_whose_name_holds_its_hash_is_kept_for_ever_and_the_page_is_asked_for_again(
        self, served: Served, http: Any
    ) -> None:
        _, page, html = await fetch(http, served.url + "/")
        assert page["cache-control"] == "no-cache"
        (script,) = [part for part in parts(html) if part.endswith(".js")]
        _, headers, _ = await fetch(http, f"{served.url}/{script}")
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["content-type"].startswith("text/javascript")

    async def test_it_comes_compressed_as_its_caller_takes_it(self, served: Served, http: Any) -> None:
        _, _, plain = await fetch(http, served.url + "/")
        status, headers, packed = await fetch(http, served.url + "/", accept_encoding="gzip")
        assert (status, headers["content-encoding"], gzip.decompress(packed)) == (200, "gzip", plain)
        _, best, _ = await fetch(http, served.url + "/", accept_encoding="gzip, deflate, br, zstd")
        assert best["content-encoding"] == "br"
        assert "accept-encoding" in best["vary"].lower()

    async def test_who_has_it_is_told_so(self, served: Served, http: Any) -> None:
        _, headers, _ = await fetch(http, served.url + "/")
        status, again, body = await fetch(http, served.url + "/", if_none_match=f'"other", W/{headers["etag"]}')
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
        assert again["content-security-policy"] == headers["content-security-policy"]

    async def test_head_tells_what_get_would(self, served: Served, http: Any) -> None:
        _, headers, content = await fetch(http, served.url + "/")
        async with http.head(served.url + "/", headers={"accept-encoding": "identity"}) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
            assert answer.headers["content-length"] == str(len(content)) == headers["content-length"]

    @pytest.mark.parametrize(
        "path", ["nothing.js", "..%2Fauth.py", "index.html.br", "index.html%00", "%2Fetc%2Fpasswd", ""]
    )  # fmt: skip
    async def test_what_is_none_of_them_is_a_404(self, served: Served, http: Any, path: str) -> None:
        assert (await fetch(http, f"{served.url}/static/{path}"))[0] == 404

    def test_it_is_found_by_its_name_only(self, tmp_path: Path) -> None:
        (tmp_path / "static").mkdir()
        (tmp_path / "static" / "a.js").write_text("1")
        (tmp_path / "static" / "a.secret").write_text("2")
        (tmp_path / "b.js").write_text("3")
        files = StaticFiles(tmp_path / "static")
        found = files.find("a.js", accept_encoding="br")
        assert found is not None
        assert (found.content, "content-encoding" in found.headers) == (b"1", False)
        assert files.find("../b.js", accept_encoding=None) is None
        assert files.find("a.secret", accept_encoding=None) is None


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0.5, gzip", "gzip"), ("br;q=0, gzip;q=0", None), (None, None),
        ("*", "br"), ("identity", None), ("br;q=nonsense, gzip;q=0.1", "gzip"), ("BR", "br"),
    ],
)  # fmt: skip
def test_of_the_codings_that_are_there_the_best_one_that_is_taken_is_chosen(
    header: str | None, coding: str | None
) -> None:
    assert best_coding(header, ["br", "gzip"]) == coding


@pytest.mark.parametrize(
    ("header", "same"), [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False)]
)
def test_an_entity_tag_is_compared_weakly(header: str | None, same: bool) -> None:
    assert unchanged(header, '"a"') is same


def test_what_is_committed_names_no_other_place_to_fetch_from() -> None:
    styles = "".join(path.read_text() for path in FOLDER.glob("*.css"))
    assert not re.search(r"url\((?!\"?(?:\./|data:)?[\w.-]+\.woff2)|@import", styles), "a style sheet fetches"
