"""Setting up, whatever fails: what was made without the answer arriving is not a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.provision import Provision

if TYPE_CHECKING:
    from tests.chaos.conftest import Faulty

pytestmark = pytest.mark.slow


def test_a_table_and_a_bucket_whose_making_was_not_told_are_made(on_moto: Faulty) -> None:
    name = f"{on_moto.state.name}-again"
    lost = [on_moto.proxy.plan("lost", "CreateTable"), on_moto.proxy.plan("lost", "CreateBucket", service="s3")]
    provision = Provision(on_moto.state.admin, table_name=name, bucket_name=name)
    for step in provision.steps():
        step.do()
    assert [fault.struck for fault in lost] == [1, 1]
    assert list(provision.steps()) == []
