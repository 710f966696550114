"""What the AI tests share: a gateway before stand-ins of all vendors, and calls in each vendor's shape."""
import http.client
import json

from ai_vendors import Anthropic, Azure, Gemini, Mistral, OpenAi
from harness import HANG, Sluice, free_port

KINDS = {"openai": OpenAi, "azure": Azure, "anthropic": Anthropic, "gemini": Gemini, "mistral": Mistral, "compatible": OpenAi}


class Gateway:
    """`more`: further lines of `ai`; `route`: further members of the route; `top`: further sections."""

    def __init__(self, scratch, kinds=tuple(KINDS), models="", more="", route="", top="", providers=None, keys="none"):
        self.vendors = {}
        lines = []
        for kind in kinds:
            vendor = self.vendors[kind] = KINDS[kind](scratch, kind, key=f"secret-of-{kind}")
            key = scratch.write(f"{kind}.key", vendor.key + "\n")
            lines.append(f'    {kind}: {{ kind: {kind}, base_url: "http://127.0.0.1:{vendor.port}", key: "file:{key}"'
                         f'{(providers or {}).get(kind, "")} }}')
        self.port = free_port()
        self.policy = f"""version: 1
state_dir: {scratch.path}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
routes: [{{ ai: true{route} }}]
ai:
  providers:
""" + "\n".join(lines) + "\n" + (f"  models:\n{models}\n" if models else "") + f"  keys: {keys}\n" + more + "\n" + top
        self.sluice = Sluice(scratch, self.policy)

    def __getitem__(self, kind):
        return self.vendors[kind]

    def request(self, method, path, body=None, headers=None):
        """(status, headers in lower case, bytes)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        try:
            content = response.read()
        except http.client.IncompleteRead as cut:
            content = cut.partial + b"<cut>"
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, content

    def post(self, path, body, headers=None):
        status, _, content = self.request("POST", path, body, headers)
        return status, json.loads(content)

    def stream(self, path, body, headers=None):
        """(events as (name, data), whether the stream ended in good order)"""
        status, fields, content = self.request("POST", path, body, headers)
        assert status == 200, (status, content)
        assert fields["content-type"].startswith("text/event-stream"), fields
        whole = not content.endswith(b"<cut>")
        return events_of(content.decode().removesuffix("<cut>")), whole


def events_of(text):
    events = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        name, data = "", []
        for line in block.split("\n"):
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].strip())
        if data:
            joined = "\n".join(data)
            events.append((name, joined if joined == "[DONE]" else json.loads(joined)))
    return events


TOOL_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False,
               "$schema": "http://json-schema.org/draft-07/schema#"}


class OpenAiCaller:
    """The same questions in OpenAI's shape."""
    shape, headers = "openai", {}

    def __init__(self, gateway):
        self.gateway = gateway

    def path(self, model, stream):
        return "/v1/chat/completions"

    def body(self, model, text="Hi", stream=False, tools=(), **more):
        body = {"model": model, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}], **more}
        if stream:
            body["stream"] = True
        if tools:
            body["tools"] = [{"type": "function", "function": {"name": t, "description": "d", "parameters": TOOL_SCHEMA}} for t in tools]
        return body

    def call(self, model, **arguments):
        return self.gateway.post(self.path(model, False), self.body(model, **arguments), self.headers)

    def streamed(self, model, **arguments):
        return self.gateway.stream(self.path(model, True), self.body(model, stream=True, **arguments), self.headers)

    def text(self, answer):
        return answer["choices"][0]["message"]["content"]

    def usage(self, answer):
        return answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]

    def calls(self, answer):
        return [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in answer["choices"][0]["message"]["tool_calls"]]

    def streamed_text(self, events):
        assert events[-1] == ("", "[DONE]"), events[-1]
        return "".join(c["delta"].get("content") or "" for _, e in events[:-1] for c in e["choices"])

    def streamed_calls(self, events):
        calls = {}
        for _, event in events[:-1]:
            for choice in event["choices"]:
                for piece in choice["delta"].get("tool_calls", []):
                    call = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                    call["id"] += piece.get("id", "")
                    call["name"] += piece.get("function", {}).get("name", "") or ""
                    call["arguments"] += piece.get("function", {}).get("arguments", "") or ""
        return [(c["id"], c["name"], json.loads(c["arguments"])) for _, c in sorted(calls.items())]

    def results(self, model, answer, tools):
        body = self.body(model, tools=tools)
        message = answer["choices"][0]["message"]
        body["messages"].append(message)
        body["messages"] += [{"role": "tool", "tool_call_id": c["id"], "content": "sunny"} for c in message["tool_calls"]]
        return self.gateway.post(self.path(model, False), body, self.headers)

    def message(self, error):
        return error["error"]["message"]


class AnthropicCaller(OpenAiCaller):
    shape, headers = "anthropic", {"anthropic-version": "2023-06-01"}

    def path(self, model, stream):
        return "/v1/messages"

    def body(self, model, text="Hi", stream=False, tools=(), **more):
        body = {"model": model, "max_tokens": 2048, "system": "Be brief.", "messages": [{"role": "user", "content": text}], **more}
        if stream:
            body["stream"] = True
        if tools:
            schema = {k: v for k, v in TOOL_SCHEMA.items()}
            body["tools"] = [{"name": t, "description": "d", "input_schema": schema} for t in tools]
        return body

    def text(self, answer):
        return "".join(b.get("text", "") for b in answer["content"])

    def usage(self, answer):
        usage = answer["usage"]
        return usage["input_tokens"] + usage["cache_read_input_tokens"] + usage.get("cache_creation_input_tokens", 0), usage["output_tokens"]

    def calls(self, answer):
        return [(b["id"], b["name"], b["input"]) for b in answer["content"] if b["type"] == "tool_use"]

    def streamed_text(self, events):
        assert events[0][0] == "message_start" and events[-1][0] == "message_stop", events
        return "".join(e["delta"].get("text", "") for n, e in events if n == "content_block_delta")

    def streamed_calls(self, events):
        blocks, texts = {}, {}
        for name, event in events:
            if name == "content_block_start" and event["content_block"]["type"] == "tool_use":
                blocks[event["index"]] = event["content_block"]
            if name == "content_block_delta" and event["index"] in blocks:
                texts[event["index"]] = texts.get(event["index"], "") + event["delta"]["partial_json"]
        return [(b["id"], b["name"], json.loads(texts[i])) for i, b in sorted(blocks.items())]

    def results(self, model, answer, tools):
        body = self.body(model, tools=tools)
        body["messages"] += [{"role": "assistant", "content": answer["content"]},
                             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": b["id"], "content": "sunny"}
                                                          for b in answer["content"] if b["type"] == "tool_use"]}]
        return self.gateway.post(self.path(model, False), body, self.headers)


class GeminiCaller(OpenAiCaller):
    shape = "gemini"
    headers = {"x-goog-api-key": "of-the-caller"}

    def path(self, model, stream):
        return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent")

    def body(self, model, text="Hi", stream=False, tools=(), **more):
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}], "systemInstruction": {"parts": [{"text": "Be brief."}]}, **more}
        if tools:
            schema = {k: v for k, v in TOOL_SCHEMA.items() if k in ("type", "properties", "required")}
            body["tools"] = [{"functionDeclarations": [{"name": t, "description": "d", "parameters": schema} for t in tools]}]
        return body

    def parts(self, answer):
        return answer["candidates"][0].get("content", {}).get("parts", [])

    def text(self, answer):
        return "".join(p.get("text", "") for p in self.parts(answer))

    def usage(self, answer):
        usage = answer["usageMetadata"]
        return usage["promptTokenCount"], usage["candidatesTokenCount"] + usage.get("thoughtsTokenCount", 0)

    def calls(self, answer):
        return [(p["functionCall"].get("id"), p["functionCall"]["name"], p["functionCall"]["args"])
                for p in self.parts(answer) if "functionCall" in p]

    def streamed_text(self, events):
        assert events[-1][1]["candidates"][0]["finishReason"] == "STOP", events[-1]
        return "".join(self.text(e) for _, e in events if e.get("candidates"))

    def streamed_calls(self, events):
        return [call for _, e in events if e.get("candidates") for call in self.calls(e)]

    def results(self, model, answer, tools):
        body = self.body(model, tools=tools)
        responses = []
        for part in self.parts(answer):
            if "functionCall" in part:
                response = {"name": part["functionCall"]["name"], "response": {"output": "sunny"}}
                if "id" in part["functionCall"]:
                    response["id"] = part["functionCall"]["id"]
                responses.append({"functionResponse": response})
        body["contents"] += [{"role": "model", "parts": self.parts(answer)}, {"role": "user", "parts": responses}]
        return self.gateway.post(self.path(model, False), body, self.headers)


class ResponsesCaller(OpenAiCaller):
    """OpenAI's Responses API."""

    def path(self, model, stream):
        return "/v1/responses"

    def body(self, model, text="Hi", stream=False, tools=(), **more):
        if isinstance(text, dict):  # the API's field of that name: the form of the answer
            text, more = "Hi", {**more, "text": text}
        body = {"model": model, "instructions": "Be brief.", "input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}],
                "store": False, **more}
        if stream:
            body["stream"] = True
        if tools:
            body["tools"] = [{"type": "function", "name": t, "description": "d", "parameters": TOOL_SCHEMA, "strict": True} for t in tools]
        return body

    def text(self, answer):
        assert answer["object"] == "response" and answer["status"] == "completed", answer
        return "".join(p["text"] for i in answer["output"] if i["type"] == "message" for p in i["content"] if p["type"] == "output_text")

    def usage(self, answer):
        return answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]

    def calls(self, answer):
        return [(i["call_id"], i["name"], json.loads(i["arguments"])) for i in answer["output"] if i["type"] == "function_call"]

    def order(self, events):
        """What every SDK relies on: each event says its own name, numbers go on, and what was begun is ended."""
        assert [e["sequence_number"] for _, e in events] == list(range(len(events)))
        assert all(name == e["type"] for name, e in events)
        assert [n for n, _ in events[:2]] == ["response.created", "response.in_progress"], events[:2]
        begun = [e["output_index"] for n, e in events if n == "response.output_item.added"]
        done = {e["output_index"]: e["item"] for n, e in events if n == "response.output_item.done"}
        assert begun == list(range(len(begun))) and sorted(done) == begun
        assert [done[i] for i in begun] == events[-1][1]["response"]["output"]

    def streamed_text(self, events):
        self.order(events)
        assert events[-1][0] == "response.completed", events[-1]
        text = "".join(e["delta"] for n, e in events if n == "response.output_text.delta")
        assert text == self.text(events[-1][1]["response"])
        return text

    def streamed_calls(self, events):
        self.order(events)
        whole = self.calls(events[-1][1]["response"])
        pieces = {}
        for name, event in events:
            if name == "response.function_call_arguments.delta":
                pieces[event["output_index"]] = pieces.get(event["output_index"], "") + event["delta"]
        assert [json.loads(p) for _, p in sorted(pieces.items())] == [arguments for _, _, arguments in whole]
        return whole

    def results(self, model, answer, tools):
        body = self.body(model, tools=tools)
        body["input"] += answer["output"]
        body["input"] += [{"type": "function_call_output", "call_id": i["call_id"], "output": "sunny"}
                          for i in answer["output"] if i["type"] == "function_call"]
        return self.gateway.post(self.path(model, False), body, self.headers)


CALLERS = {"openai": OpenAiCaller, "anthropic": AnthropicCaller, "gemini": GeminiCaller}
