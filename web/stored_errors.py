"""What can go wrong with stored responses and with conversations."""

from __future__ import annotations

from web.errors import INVALID, LONGEST_ECHO, UNAVAILABLE, ServiceError


class ResponseNotFound(ServiceError):
    status, type, code, param = 404, INVALID, "response_not_found", "response_id"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Response with id '{response_id[:LONGEST_ECHO]}' not found.")


class PreviousResponseNotFound(ServiceError):
    """What is to be continued is not there: in OpenAI's words, by which its SDKs' users tell it."""

    status, type, code, param = 400, INVALID, "previous_response_not_found", "previous_response_id"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Previous response with id '{response_id[:LONGEST_ECHO]}' not found.")


class ConversationNotFound(ServiceError):
    status, type, code, param = 404, INVALID, "conversation_not_found", "conversation"

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation with id '{conversation_id[:LONGEST_ECHO]}' not found.")


class ItemNotFound(ServiceError):
    """An item that is not in a conversation, or not among a response's."""

    status, type, code, param = 404, INVALID, "item_not_found", "item_id"

    def __init__(self, item_id: str) -> None:
        super().__init__(f"Item with id '{item_id[:LONGEST_ECHO]}' not found.")


class ConversationLocked(ServiceError):
    """Another response is under way on the conversation, and did not end while this one waited."""

    status, type, code, param = 409, "conflict_error", "conversation_locked", "conversation"
    again, retry_after = True, 1.0

    def __init__(self) -> None:
        super().__init__("Another process is currently operating on this conversation. Please retry in a few seconds.")


class ConversationGone(ServiceError):
    """The conversation was deleted while a response was made for it, or is another's by now, since this one's container
    had shown no life for too long. Nothing of the response is kept."""

    status, type, code, param = 409, "conflict_error", "conversation_gone", "conversation"
    again = False

    def __init__(self) -> None:
        super().__init__("The conversation was deleted, or taken by another response, before this one was complete.")


class ResponsesUnavailable(ServiceError):
    """What keeps responses cannot be reached, or refuses: those that are not stored are answered all the same."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "responses_unavailable", True, 2.0

    def __init__(self) -> None:
        super().__init__(
            "Responses and conversations cannot be read or written now. Try again, or send all of 'input' with "
            "'store': false."
        )
