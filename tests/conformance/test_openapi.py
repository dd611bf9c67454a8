"""The OpenAPI document tells the truth: schemathesis tries every operation of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance import fuzzing
from tests.conformance.targets import needs

if TYPE_CHECKING:
    from tests.conformance.conftest import Tried
    from tests.conformance.targets import Target


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_operation_fails_or_answers_what_it_does_not_document(target: Target, tried: Tried) -> None:
    needs(target, "own-dialect")
    if target.name == "emulator":
        pytest.skip("it is the same document, and tried standalone")
    trial = fuzzing.try_out(target)
    tried(target, trial)
    assert not trial.failures, "\n".join(trial.failures) + "\n" + trial.told
    assert trial.operations >= 25
    fitting = sum(trial.answered.values())  # how many there were is a matter of the machine's speed
    assert trial.answered["accepted"] > max(20, fitting / 3), "data that fits is answered, not only refused"
