import json
import urllib.request

import guestbook


def test_whoever_signs_is_on_the_page_even_when_a_container_dies(deploy, faults):
    running = deploy(guestbook.app)
    faults.kill_at_input("sign", 2)
    assert [guestbook.sign.remote(name) for name in ("Grace", "Ada")] == [1, 2]
    assert json.load(urllib.request.urlopen(running.url("page"))) == ["Ada", "Grace"]
