"""What the Postman collection asks and expects, beside what the OpenAPI document tells. Pure data."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

USER = [{"role": "user", "content": "Say hello."}]
BODIES: dict[str, Json] = {
    "/v1/chat/completions": {"model": "{{model}}", "messages": USER, "max_tokens": 16},
    "/v1/completions": {"model": "{{model}}", "prompt": "Hello", "max_tokens": 16},
    "/chat/completions": {"model": "{{model}}", "prompt": "Say hello.", "max_tokens": 16},
    "/completions": {"model": "{{model}}", "prompt": "Hello", "max_tokens": 16},
    "/v1/embeddings": {"model": "{{embedding_model}}", "input": "Hello"},
    "/v1/tokenize": {"model": "{{model}}", "prompt": "Hello"},
    "/tokenize": {"model": "{{model}}", "messages": USER},
    "/v1/detokenize": {"model": "{{model}}", "tokens": [1, 2]},
    "/detokenize": {"model": "{{model}}", "tokens": [1, 2]},
    "/v1/responses": {"model": "{{model}}", "input": "Say hello.", "max_output_tokens": 16, "store": False},
    "/v1/responses/input_tokens": {"model": "{{model}}", "input": "Say hello."},
    "/v1/messages": {"model": "{{model}}", "max_tokens": 16, "messages": USER},
    "/v1/messages/count_tokens": {"model": "{{model}}", "messages": USER},
    "/v1/conversations": {"metadata": {"of": "postman"}},
    "/v1/conversations/{conversation_id}": {"metadata": {"of": "postman"}},
    "/v1/conversations/{conversation_id}/items": {"items": [{"type": "message", **USER[0]}]},
    "/v1/sessions": {"title": "From Postman"},
    "/v1/sessions/{session_id}": {"title": "From Postman"},
    "/v1/sessions/{session_id}/fork": {"messages": 1},
    "/chat/history/{session_id}/rollback": {"amount": 1},
    "/v1/batches": {"input_file_id": "file-none", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "/admin/keys": {"name": "from postman"},
    "/admin/keys/{key_id}": {"name": "from postman"},
    "/admin/keys/{key_id}/rotate": {"grace_seconds": 0},
}
"""Path -> a body that fits."""

VALUES = {"model": "{{model}}", "session_id": "postman"}
"""Of names in paths; others name nothing that is there."""

IS_JSON = 'pm.response.to.have.header("content-type");\nconst told = pm.response.json();'


def ok(*lines: str, status: int = 200) -> list[str]:
    return [f'pm.test("{status}", () => pm.response.to.have.status({status}));', *lines]


def says(name: str, expression: str) -> str:
    return f'pm.test("{name}", () => {{ const told = pm.response.json(); pm.expect({expression}).to.be.true; }});'


STREAMED = (
    'pm.test("a whole stream", () => { const text = pm.response.text();'
    ' pm.expect(text).to.include("data: ");'
    ' pm.expect(text.trim().endsWith("data: [DONE]")).to.be.true; });'
)
STEPS: list[tuple[str, str, str, Json | None, list[str]]] = [
    ("It is alive", "GET", "/health", None, ok(says("status is ok", 'told.status === "ok"'))),
    ("A model can serve", "GET", "/readiness", None, ok(says("models are there", "told.models_available > 0"))),
    ("The models, without waking one", "GET", "/v1/models", None,
     ok(says("ours is there", 'told.data.some((one) => one.id === pm.variables.get("model")'
             ' || one.name === pm.variables.get("model"))'))),
    ("A chat", "POST", "/v1/chat/completions", BODIES["/v1/chat/completions"],
     ok(says("an answer of the assistant", 'told.choices[0].message.role === "assistant"'),
        says("tokens are counted", "told.usage.total_tokens > 0"),
        'pm.test("a request id", () => pm.response.to.have.header("x-request-id"));')),
    ("The same, streamed", "POST", "/v1/chat/completions", {**BODIES["/v1/chat/completions"], "stream": True},
     ok(STREAMED, 'pm.test("events", () => pm.expect(pm.response.headers.get("content-type"))'
        '.to.include("text/event-stream"));')),
    ("A response that is stored", "POST", "/v1/responses", {**BODIES["/v1/responses"], "store": True},
     ok(says("complete, or cut for its length", '["completed", "incomplete"].includes(told.status)'),
        'pm.collectionVariables.set("response_id", pm.response.json().id);')),
    ("Going on from it", "POST", "/v1/responses",
     {**BODIES["/v1/responses"], "input": "And again.", "previous_response_id": "{{response_id}}"},
     ok(says("it knows what it follows",
             'told.previous_response_id === pm.collectionVariables.get("response_id")'))),
    ("Forgetting it", "DELETE", "/v1/responses/{{response_id}}", None, ok(says("deleted", "told.deleted"))),
    ("A message, as Anthropic has it", "POST", "/v1/messages", BODIES["/v1/messages"],
     ok(says("a message", 'told.type === "message" && told.content.length > 0'))),
    ("A turn of a session", "POST", "/chat/completions",
     {"model": "{{model}}", "prompt": "Say hello.", "session-id": "postman", "max_tokens": 16},
     ok('pm.test("it ends well", () => pm.expect(pm.response.text()).to.include("event: done"));')),
    ("Its history", "GET", "/chat/history/postman", None,
     ok(says("system prompt, question and answer", "told.length >= 3"))),
    ("Taking the turn back", "POST", "/chat/history/postman/rollback", {"amount": 2},
     ok(says("done", 'told.status === "ok"'))),
    ("Forgetting the session", "DELETE", "/chat/history/postman", None, ok(status=204)),
    ("Metrics", "GET", "/metrics", None,
     ok('pm.test("requests were counted", () => pm.expect(pm.response.text()).to.include("http_requests_total"));')),
    ("A mistake is named", "POST", "/v1/chat/completions", {"model": "{{model}}", "messages": []},
     ok(says("the parameter", 'told.error.param === "messages"'), status=400)),
    ("A model that is not there", "POST", "/v1/chat/completions", {"model": "no/such-model", "messages": USER},
     ok(says("its code", 'told.error.code === "model_not_found"'), status=404)),
    ("A path that is not there", "GET", "/v1/nothing", None,
     ok(says("its code", 'told.error.code === "unknown_url"'), status=404)),
]  # fmt: skip
"""Name, method, path, body and what the answer is held to: in this order, each on what came before."""
