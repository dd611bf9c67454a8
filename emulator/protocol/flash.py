"""Short-lived tokens with which the client itself asks a Server: `Modal-Authorization: Bearer …`.

`Server.sessions` and `modal curl` get one of the control plane instead of being given a proxy token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.dispatch import not_found

if TYPE_CHECKING:
    from emulator.protocol.dispatch import Caller
    from emulator.protocol.tokens import ShortTokens
    from emulator.state import State


class FlashHandlers:
    def __init__(self, state: State, tokens: ShortTokens) -> None:
        self._state = state
        self._tokens = tokens

    async def FunctionGetFlashAuthToken(
        self, request: api_pb2.FunctionGetFlashAuthTokenRequest, _: Caller
    ) -> api_pb2.FunctionGetFlashAuthTokenResponse:
        record = self._state.functions.get(request.function_id)
        if record is None or not record.definition.is_server:
            raise not_found(f"No Server with ID {request.function_id}")
        return api_pb2.FunctionGetFlashAuthTokenResponse(token=self._tokens.issue())

    async def CurlGetAuthToken(
        self, _request: api_pb2.CurlAuthTokenRequest, _: Caller
    ) -> api_pb2.CurlAuthTokenResponse:
        return api_pb2.CurlAuthTokenResponse(token=self._tokens.issue())
