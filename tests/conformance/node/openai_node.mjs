// openai-node, as its users write it.

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { COLD, FULL, SINGLE, check, cool, fails, holds, same, scripted, target } from "./harness.mjs";

const HELLO = [{ role: "user", content: "one two three" }];
const PARAMETERS = { type: "object", properties: { at: { type: "integer" } }, required: ["at"] };
const LOOK = { type: "function", function: { name: "look", description: "Look at a place", parameters: PARAMETERS } };
const LONG = { gap: 0.02, tokens: 5000 };
const Place = z.object({ at: z.int() });

const client = (options = {}) =>
  new OpenAI({ baseURL: `${target.url}/v1`, apiKey: target.api_key, maxRetries: 0, timeout: 80_000, ...options });

const ask = (more = {}, { options, request } = {}) =>
  client(options).chat.completions.create(
    { model: target.model, messages: HELLO, max_tokens: 32, ...more },
    request,
  );

async function all(stream) {
  const found = [];
  for await (const item of stream) found.push(item);
  return found;
}

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

/** An error tells its reader something only where the body is nested as OpenAI nests it. */
function told(error) {
  same(Object.keys(error.error).sort(), ["code", "message", "param", "type"]);
  holds(error.error.message && error.message.includes(error.error.message), error.message);
  return error;
}

async function freed() {
  const began = performance.now();
  for (;;) {
    try {
      await ask({ model: SINGLE, ...scripted({ tokens: 1 }) });
      break;
    } catch (error) {
      if (!(error instanceof OpenAI.InternalServerError)) throw error;
      holds(performance.now() - began < 1000, "the engine is still at work");
    }
  }
  holds(performance.now() - began < 1000, "the engine was at work for long");
}

check("a_plain_chat_is_answered", [], async () => {
  const answer = await ask();
  same([answer.object, answer.choices[0].message.role], ["chat.completion", "assistant"]);
  holds(answer.choices[0].message.content && ["stop", "length"].includes(answer.choices[0].finish_reason), answer);
});

check("a_stream_is_read_to_its_end", [], async () => {
  const chunks = await all(await ask({ stream: true }));
  holds(textOf(chunks), chunks);
  same(chunks[0].choices[0].delta.role, "assistant");
  holds(["stop", "length"].includes(chunks.at(-1).choices[0].finish_reason));
});

check("a_stream_and_a_plain_answer_say_the_same_words", ["scripted"], async () => {
  const text = 'Grüße, 世界! "quoted" \\ and\nlines 🎈';
  same((await ask(scripted({ text }))).choices[0].message.content, text);
  same(textOf(await all(await ask({ stream: true, ...scripted({ text }) }))), text);
});

check("usage_tells_cached_tokens_always", [], async () => {
  const { usage } = await ask();
  same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  holds(usage.prompt_tokens_details.cached_tokens >= 0, usage);
  const chunks = await all(await ask({ stream: true, stream_options: { include_usage: true } }));
  same(chunks.at(-1).choices, []);
  holds(chunks.at(-1).usage.prompt_tokens_details.cached_tokens >= 0, chunks.at(-1));
  holds(chunks.slice(0, -1).every((chunk) => chunk.usage === null), chunks);
});

check("a_tool_is_called_and_its_result_understood", ["scripted"], async () => {
  const script = scripted({ text: "", tool_calls: [{ name: "look", arguments: '{"at": 7}' }] });
  const { message, finish_reason } = (await ask({ tools: [LOOK], ...script })).choices[0];
  same([finish_reason, message.content, message.tool_calls[0].function.name], ["tool_calls", null, "look"]);
  same(JSON.parse(message.tool_calls[0].function.arguments), { at: 7 });
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "a tree" };
  const answer = await ask({ messages: [...HELLO, message, result], tools: [LOOK], ...script });
  same(answer.choices[0].finish_reason, "stop");
});

check("the_tool_runner_runs_its_loop_to_the_end", ["scripted"], async () => {
  const looked = [];
  const run = (given) => (looked.push(given), "a tree");
  const tool = { type: "function", function: { function: run, parse: JSON.parse, name: "look", parameters: PARAMETERS } };
  const script = scripted({ text: "seen ", tool_calls: [{ name: "look", arguments: '{"at": 7}' }] });
  const runner = client().chat.completions.runTools({ model: target.model, messages: HELLO, tools: [tool], ...script });
  same(await runner.finalContent(), "seen ");
  same(looked, [{ at: 7 }]);
});

check("parallel_tool_calls_are_streamed_by_index", ["scripted"], async () => {
  const calls = [1, 2].map((at) => ({ name: "look", arguments: `{"at": ${at}}` }));
  const stream = await ask({ stream: true, tools: [LOOK], ...scripted({ text: "", tool_calls: calls }) });
  const pieces = (await all(stream)).flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  holds(pieces.every((piece) => Number.isInteger(piece.index)), pieces);
  const joined = [0, 1].map((index) => pieces.filter((piece) => piece.index === index)
    .map((piece) => piece.function.arguments ?? "").join(""));
  same(joined, ['{"at": 1}', '{"at": 2}']);
});

check("a_required_tool_is_called", ["tools"], async () => {
  for (const choice of ["required", { type: "function", function: { name: "look" } }]) {
    const answer = await ask({ model: target.tool_model, tools: [LOOK], tool_choice: choice, max_tokens: 200 });
    same(answer.choices[0].message.tool_calls.map((call) => call.function.name), ["look"]);
  }
});

check("a_zod_schema_is_parsed_from_the_answer", ["scripted"], async () => {
  const format = zodResponseFormat(Place, "place");
  const asked = { model: target.model, messages: HELLO, response_format: format, ...scripted({ text: '{"at": 3}' }) };
  same((await client().chat.completions.parse(asked)).choices[0].message.parsed, { at: 3 });
});

check("the_stream_helper_puts_the_final_answer_together", ["scripted"], async () => {
  const script = scripted({ text: "well", tool_calls: [{ name: "look", arguments: '{"at": 1}' }] });
  const stream = client().chat.completions.stream({ model: target.model, messages: HELLO, tools: [LOOK], ...script });
  const { message } = (await stream.finalChatCompletion()).choices[0];
  same([message.content, message.tool_calls[0].function.arguments], ["well", '{"at": 1}']);
});

check("a_completion_continues_its_prompt", [], async () => {
  const asked = { model: target.model, prompt: "one two", max_tokens: 4 };
  holds((await client().completions.create(asked)).choices[0].text);
  const chunks = await all(await client().completions.create({ ...asked, stream: true }));
  holds(chunks.map((chunk) => chunk.choices[0].text).join(""));
});

check("the_models_are_listed_and_found", [], async () => {
  const models = await all(client().models.list());
  holds(models.length, models);
  same((await client().models.retrieve(target.model)).object, "model");
});

check("a_text_and_a_list_of_texts_are_embedded", ["embeddings"], async () => {
  const embed = (input, more = {}) => client().embeddings.create({ model: target.embedding_model, input, ...more });
  const one = await embed("a tree");
  const several = await embed(["a tree", "a house"], { encoding_format: "float" });
  same(several.data.map((item) => item.index), [0, 1]);
  holds(one.data[0].embedding.every((value, at) => Math.abs(value - several.data[0].embedding[at]) < 1e-6));
});

check("a_wrong_key_is_an_authentication_error", ["keys"], async () => {
  const error = told(await fails(OpenAI.AuthenticationError, ask({}, { options: { apiKey: "sk-nobody" } })));
  same([error.status, error.code], [401, "invalid_api_key"]);
});

check("an_unknown_model_is_a_not_found_error", [], async () => {
  const error = told(await fails(OpenAI.NotFoundError, ask({ model: "no/such-model" })));
  same([error.status, error.code], [404, "model_not_found"]);
});

check("an_unknown_path_is_a_not_found_error_with_a_message", [], async () => {
  told(await fails(OpenAI.NotFoundError, client().fineTuning.jobs.list()));
});

check("a_wrong_type_is_a_bad_request_error_that_names_the_field", [], async () => {
  const error = told(await fails(OpenAI.BadRequestError, ask({ temperature: "warm" })));
  same([error.status, error.param, error.type], [400, "temperature", "invalid_request_error"]);
});

check("a_body_that_is_too_large_is_an_error_with_a_status", ["small-bodies"], async () => {
  const error = await fails(OpenAI.APIError, ask({ messages: [{ role: "user", content: "x".repeat(1_500_000) }] }));
  same(told(error).status, 413);
});

check("a_rate_limit_is_an_error_that_says_when_to_come_back", ["limits"], async () => {
  for (let turn = 0; turn < 20; turn++) {
    try {
      await ask({ max_tokens: 1 }, { options: { apiKey: target.limited_key } });
    } catch (error) {
      holds(error instanceof OpenAI.RateLimitError, error);
      same(told(error).code, "rate_limit_exceeded");
      const wait = Number(error.headers.get("retry-after"));
      holds(wait > 0 && wait <= 60, wait);
      return;
    }
  }
  throw new Error("no limit was met");
});

check("a_full_engine_is_an_internal_server_error_worth_a_retry", ["scripted"], async () => {
  const error = told(await fails(OpenAI.InternalServerError, ask({ model: FULL })));
  same([error.status, error.code, error.type], [503, "server_is_overloaded", "service_unavailable_error"]);
  holds(Number(error.headers.get("retry-after")) > 0);
});

check("a_stream_that_breaks_throws_and_never_ends_quietly", ["scripted"], async () => {
  for (const script of [{ error_after: 2 }, { cut_after: 2 }]) {
    const said = [];
    try {
      for await (const chunk of await ask({ stream: true, ...scripted(script) })) said.push(chunk);
    } catch (error) {
      holds(error instanceof OpenAI.APIError && error.message, error);
      holds(said.length >= 2, said);
      continue;
    }
    throw new Error(`ended quietly after ${said.length} chunks`);
  }
});

check("breaking_out_of_a_stream_frees_the_engine", ["single"], async () => {
  for await (const _ of await ask({ model: SINGLE, stream: true, max_tokens: 5000, ...scripted(LONG) })) break;
  await freed();
});

check("aborting_a_plain_request_frees_the_engine", ["single"], async () => {
  const leaving = new AbortController();
  const asked = ask({ model: SINGLE, max_tokens: 5000, ...scripted(LONG) }, { request: { signal: leaving.signal } });
  setTimeout(() => leaving.abort(), 500);
  await fails(OpenAI.APIUserAbortError, asked);
  await freed();
});

check("a_cold_model_is_no_error", ["cold"], async () => {
  await cool();
  holds(textOf(await all(await ask({ model: COLD, stream: true }))));
  await cool();
  holds((await ask({ model: COLD })).choices[0].message.content);
});

check("a_plain_answer_that_takes_long_is_understood", ["keepalive"], async () => {
  same((await ask(scripted({ ttft: 1.2, text: "at last" }))).choices[0].message.content, "at last");
});

check("a_plain_answer_that_fails_late_is_an_error", ["keepalive"], async () => {
  let answer;
  try {
    answer = await ask(scripted({ ttft: 1.2, error_after: 0 }));
  } catch (error) {
    holds(error.message, error);
    return;
  }
  throw new Error(`taken for an answer: ${JSON.stringify(answer)}`);
});

check("a_response_is_answered_with_its_usage", ["responses"], async () => {
  const answer = await client().responses.create({ model: target.model, input: "one two three", store: false });
  same(answer.object, "response");
  holds(answer.output_text && answer.usage.input_tokens_details.cached_tokens >= 0, answer);
});

check("a_responses_events_come_in_order_and_are_numbered", ["responses", "scripted"], async () => {
  const asked = { model: target.model, input: "one", store: false, stream: true, ...scripted({ tokens: 2 }) };
  const events = await all(await client().responses.create(asked));
  same(events.map((event) => event.sequence_number), events.map((_, index) => index));
  same([events[0].type, events.at(-1).type], ["response.created", "response.completed"]);
  same(events.at(-1).response.output[0].content[0].text, "t0 t1 ");
});

check("a_function_is_called_by_responses", ["responses", "scripted"], async () => {
  const { function: flat } = LOOK;
  const script = scripted({ text: "", tool_calls: [{ name: "look", arguments: '{"at": 7}' }] });
  const tools = [{ type: "function", strict: false, ...flat }];
  const asked = { model: target.model, input: "where?", store: false, tools, ...script };
  const stream = client().responses.stream(asked);
  const [call] = (await stream.finalResponse()).output.filter((item) => item.type === "function_call");
  same([call.name, call.arguments], ["look", '{"at": 7}']);
});
