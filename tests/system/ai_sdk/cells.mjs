// Each vendor's own SDK, unmodified but for its base URL, asks each model for each thing. One line of JSON a cell.
//   node cells.mjs BASE KEY MODEL...        SDKs are found in NODE_SDKS (a directory with node_modules)
import assert from "node:assert";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.env.NODE_SDKS + "/"));
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const [base, key, ...models] = process.argv.slice(2);

// What the last answer said of the cache; the SDKs do not see the difference.
let fromCache;
const plainFetch = globalThis.fetch;
globalThis.fetch = async (...asked) => {
  const response = await plainFetch(...asked);
  fromCache = response.headers.get("x-sluice-cache");
  return response;
};

const OpenAI = (await load("openai")).default;
const Anthropic = (await load("@anthropic-ai/sdk")).default;
const { GoogleGenAI } = await load("@google/genai");
const { Mistral } = await load("@mistralai/mistralai");

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const TOOLS = ["weather", "time"];
const NONE = Symbol("the provider has no such API");
const TEXTS = ["one", "three"], VECTORS = [[3, 0.5], [5, 0.5]];  // a stand-in's vector says how long the text is
const paris = (args) => assert.deepEqual(typeof args === "string" ? JSON.parse(args) : args, { city: "Paris" });

function openai() {
  const client = new OpenAI({ baseURL: base + "/v1", apiKey: key, maxRetries: 0 });
  const ask = (model, more = {}) => ({ model, messages: [{ role: "system", content: "Brief." }, { role: "user", content: "Hi" }], ...more });
  const tools = TOOLS.map((name) => ({ type: "function", function: { name, description: "d", parameters: schema } }));
  return {
    async text(model) {
      const answer = await client.chat.completions.create(ask(model));
      assert.match(answer.choices[0].message.content, /Hello from .*🦀/);
      assert.equal(answer.usage.prompt_tokens, 20);
    },
    async stream(model) {
      let text = "", usage;
      for await (const chunk of await client.chat.completions.create(ask(model, { stream: true, stream_options: { include_usage: true } }))) {
        text += chunk.choices[0]?.delta?.content ?? "";
        usage = chunk.usage ?? usage;
      }
      assert.match(text, /Hello from .*🦀/);
      assert.equal(usage.completion_tokens, 10);
    },
    async tools(model) {
      const first = await client.chat.completions.create(ask(model, { tools }));
      const message = first.choices[0].message;
      assert.deepEqual(message.tool_calls.map((call) => call.function.name), TOOLS);
      message.tool_calls.forEach((call) => paris(call.function.arguments));
      const again = ask(model, { tools });
      again.messages.push(message, ...message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: "sunny" })));
      assert.match((await client.chat.completions.create(again)).choices[0].message.content, /sunny/);
    },
    async "tools in a stream"(model) {
      const runner = client.chat.completions.stream(ask(model, { tools }));
      const final = await runner.finalChatCompletion();
      assert.deepEqual(final.choices[0].message.tool_calls.map((call) => call.function.name), TOOLS);
      final.choices[0].message.tool_calls.forEach((call) => paris(call.function.arguments));
    },
    async structured(model) {
      const format = { type: "json_schema", json_schema: { name: "who", strict: true, schema: { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false } } };
      const answer = await client.chat.completions.create(ask(model, { response_format: format }));
      assert.ok(answer.choices[0].message.content.length > 0);
    },
    async image(model) {
      const content = [{ type: "text", text: "What?" }, { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } }];
      const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
      assert.match(answer.choices[0].message.content, /Hello/);
    },
    async responses(model) {
      const answer = await client.responses.create({ model, instructions: "Brief.", input: "Hi" });
      assert.match(answer.output_text, /Hello from .*🦀/);
      assert.equal(answer.usage.input_tokens, 20);
    },
    async "responses, streamed"(model) {
      let text = "", last;
      for await (const event of await client.responses.create({ model, instructions: "Brief.", input: "Hi", stream: true })) {
        if (event.type === "response.output_text.delta") text += event.delta;
        last = event;
      }
      assert.match(text, /Hello from .*🦀/);
      assert.equal(last.type, "response.completed");
      assert.equal(last.response.usage.output_tokens, 10);
    },
    async "responses, tools"(model) {
      const tools = TOOLS.map((name) => ({ type: "function", name, description: "d", parameters: schema, strict: false }));
      const input = [{ role: "user", content: "Hi" }];
      const final = await client.responses.stream({ model, input, tools }).finalResponse();
      const calls = final.output.filter((item) => item.type === "function_call");
      assert.deepEqual(calls.map((call) => call.name), TOOLS);
      calls.forEach((call) => paris(call.arguments));
      input.push(...calls.map(({ parsed_arguments, ...call }) => call),
        ...calls.map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "sunny" })));
      assert.match((await client.responses.create({ model, input, tools })).output_text, /sunny/);
    },
    async embeddings(model) {
      if (model.includes("anthropic")) return NONE;
      const answer = await client.embeddings.create({ model, input: TEXTS });
      assert.deepEqual(answer.data.map((one) => one.embedding), VECTORS);
    },
    async error() {
      await assert.rejects(client.chat.completions.create(ask("nobody-knows")), (error) => error instanceof OpenAI.NotFoundError && /nobody-knows/.test(error.message));
      const stranger = new OpenAI({ baseURL: base + "/v1", apiKey: "wrong", maxRetries: 0 });
      await assert.rejects(stranger.chat.completions.create(ask(models[0])), OpenAI.AuthenticationError);
    },
    async cancel(model) {
      const stream = await client.chat.completions.create(ask(model, { stream: true }));
      for await (const chunk of stream) { assert.ok(chunk.choices); break; }
      stream.controller.abort();
    },
    async models() {
      const ids = [];
      for await (const model of client.models.list()) ids.push(model.id);
      assert.ok(ids.includes(models[0]));
    },
  };
}

function anthropic() {
  const client = new Anthropic({ baseURL: base, apiKey: key, maxRetries: 0 });
  const ask = (model, more = {}) => ({ model, max_tokens: 2048, system: "Brief.", messages: [{ role: "user", content: "Hi" }], ...more });
  const tools = TOOLS.map((name) => ({ name, description: "d", input_schema: schema }));
  return {
    async text(model) {
      const answer = await client.messages.create(ask(model));
      assert.match(answer.content[0].text, /Hello from .*🦀/);
      assert.equal(answer.usage.input_tokens + answer.usage.cache_read_input_tokens, 20);
      assert.equal(answer.stop_reason, "end_turn");
    },
    async stream(model) {
      const final = await client.messages.stream(ask(model)).finalMessage();
      assert.match(final.content[0].text, /Hello from .*🦀/);
      assert.equal(final.usage.output_tokens, 10);
    },
    async tools(model) {
      const first = await client.messages.create(ask(model, { tools }));
      assert.equal(first.stop_reason, "tool_use");
      const calls = first.content.filter((block) => block.type === "tool_use");
      assert.deepEqual(calls.map((call) => call.name), TOOLS);
      calls.forEach((call) => paris(call.input));
      const again = ask(model, { tools });
      again.messages.push({ role: "assistant", content: first.content },
        { role: "user", content: calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "sunny" })) });
      assert.match((await client.messages.create(again)).content[0].text, /sunny/);
    },
    async "tools in a stream"(model) {
      const final = await client.messages.stream(ask(model, { tools })).finalMessage();
      const calls = final.content.filter((block) => block.type === "tool_use");
      assert.deepEqual(calls.map((call) => call.name), TOOLS);
      calls.forEach((call) => paris(call.input));
    },
    async image(model) {
      const content = [{ type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } }, { type: "text", text: "What?" }];
      assert.match((await client.messages.create({ model, max_tokens: 100, messages: [{ role: "user", content }] })).content[0].text, /Hello/);
    },
    async error() {
      await assert.rejects(client.messages.create(ask("nobody-knows")), Anthropic.NotFoundError);
      const stranger = new Anthropic({ baseURL: base, apiKey: "wrong", maxRetries: 0 });
      await assert.rejects(stranger.messages.create(ask(models[0])), Anthropic.AuthenticationError);
    },
    async cancel(model) {
      const stream = client.messages.stream(ask(model));
      for await (const event of stream) { assert.ok(event.type); break; }
      stream.abort();
    },
  };
}

function google() {
  const client = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: base } });
  const declarations = [{ functionDeclarations: TOOLS.map((name) => ({ name, description: "d", parameters: { type: "OBJECT", properties: { city: { type: "STRING" } }, required: ["city"] } })) }];
  const ask = (model, config = {}) => ({ model, contents: "Hi", config: { systemInstruction: "Brief.", ...config } });
  return {
    async text(model) {
      const answer = await client.models.generateContent(ask(model));
      assert.match(answer.text, /Hello from .*🦀/);
      assert.equal(answer.usageMetadata.promptTokenCount, 20);
    },
    async stream(model) {
      let text = "", usage;
      for await (const chunk of await client.models.generateContentStream(ask(model))) {
        text += chunk.text ?? "";
        usage = chunk.usageMetadata ?? usage;
      }
      assert.match(text, /Hello from .*🦀/);
      assert.equal(usage.candidatesTokenCount + (usage.thoughtsTokenCount ?? 0), 10);
    },
    async tools(model) {
      const first = await client.models.generateContent(ask(model, { tools: declarations }));
      assert.deepEqual(first.functionCalls.map((call) => call.name), TOOLS);
      first.functionCalls.forEach((call) => paris(call.args));
      const contents = [{ role: "user", parts: [{ text: "Hi" }] }, first.candidates[0].content,
        { role: "user", parts: first.functionCalls.map((call) => ({ functionResponse: { id: call.id, name: call.name, response: { output: "sunny" } } })) }];
      assert.match((await client.models.generateContent({ model, contents, config: { tools: declarations } })).text, /sunny/);
    },
    async "tools in a stream"(model) {
      const calls = [];
      for await (const chunk of await client.models.generateContentStream(ask(model, { tools: declarations }))) calls.push(...(chunk.functionCalls ?? []));
      assert.deepEqual(calls.map((call) => call.name), TOOLS);
      calls.forEach((call) => paris(call.args));
    },
    async structured(model) {
      const answer = await client.models.generateContent(ask(model, { responseMimeType: "application/json", responseSchema: { type: "OBJECT", properties: { name: { type: "STRING" } } } }));
      assert.ok(answer.text.length > 0);
    },
    async image(model) {
      const contents = [{ role: "user", parts: [{ text: "What?" }, { inlineData: { mimeType: "image/png", data: "iVBORw0KGgo=" } }] }];
      assert.match((await client.models.generateContent({ model, contents })).text, /Hello/);
    },
    async embeddings(model) {
      if (model.includes("anthropic")) return NONE;
      const answer = await client.models.embedContent({ model, contents: TEXTS });
      assert.deepEqual(answer.embeddings.map((one) => one.values), VECTORS);
    },
    async error() {
      await assert.rejects(client.models.generateContent(ask("nobody-knows")), (error) => error.status === 404 && /nobody-knows/.test(error.message));
    },
    async cancel(model) {
      for await (const chunk of await client.models.generateContentStream(ask(model))) { assert.ok(chunk); break; }
    },
  };
}

function mistral() {
  const client = new Mistral({ serverURL: base, apiKey: key, retryConfig: { strategy: "none" } });
  const ask = (model, more = {}) => ({ model, messages: [{ role: "system", content: "Brief." }, { role: "user", content: "Hi" }], ...more });
  const tools = TOOLS.map((name) => ({ type: "function", function: { name, description: "d", parameters: schema } }));
  return {
    async text(model) {
      const answer = await client.chat.complete(ask(model));
      assert.match(answer.choices[0].message.content, /Hello from .*🦀/);
      assert.equal(answer.usage.promptTokens, 20);
    },
    async stream(model) {
      let text = "";
      for await (const event of await client.chat.stream(ask(model))) text += event.data.choices[0]?.delta?.content ?? "";
      assert.match(text, /Hello from .*🦀/);
    },
    async tools(model) {
      const first = await client.chat.complete(ask(model, { tools }));
      const message = first.choices[0].message;
      assert.deepEqual(message.toolCalls.map((call) => call.function.name), TOOLS);
      message.toolCalls.forEach((call) => paris(call.function.arguments));
      const again = ask(model, { tools });
      again.messages.push({ role: "assistant", ...message }, ...message.toolCalls.map((call) => ({ role: "tool", toolCallId: call.id, name: call.function.name, content: "sunny" })));
      assert.match((await client.chat.complete(again)).choices[0].message.content, /sunny/);
    },
    async embeddings(model) {
      if (!model.includes("mistral")) return NONE;  // the SDK insists on an id, which only Mistral's own embeddings have
      const answer = await client.embeddings.create({ model, inputs: TEXTS });
      assert.deepEqual(answer.data.map((one) => one.embedding), VECTORS);
    },
    async error() {
      await assert.rejects(client.chat.complete(ask("nobody-knows")), (error) => error.statusCode === 404);
    },
    async cancel(model) {
      for await (const event of await client.chat.stream(ask(model))) { assert.ok(event.data); break; }
    },
  };
}

// The same again is answered from memory, and the SDK reads it as it read the first one.
function again(cells) {
  const twice = (run) => async (model) => {
    const kept = "kept-" + model;
    if (await run(kept) === NONE) return NONE;
    await run(kept);
    assert.equal(fromCache, "hit");
  };
  const added = { text: "from the cache", stream: "stream from the cache", embeddings: "embeddings from the cache" };
  return { ...cells, ...Object.fromEntries(Object.entries(added).filter(([cell]) => cells[cell]).map(([cell, name]) => [name, twice(cells[cell])])) };
}

for (const [sdk, make] of Object.entries({ "openai": openai, "@anthropic-ai/sdk": anthropic, "@google/genai": google, "@mistralai/mistralai": mistral })) {
  const cells = again(make());
  for (const model of models) {
    for (const [cell, run] of Object.entries(cells)) {
      let failure = null, none = false;
      try {
        none = await run(model) === NONE;
      } catch (error) {
        failure = String(error.stack ?? error).slice(0, 800);
      }
      console.log(JSON.stringify({ sdk, model, cell, failure, none }));
    }
  }
}
process.exit(0);
