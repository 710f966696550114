"""The Responses API of OpenAI's stand-in (ai_vendors.py): as strict about items as it, with the events that its SDKs rely on."""
import json

FIELDS = {"model", "input", "instructions", "stream", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "max_output_tokens",
          "text", "reasoning", "store", "metadata", "previous_response_id", "include", "truncation", "user", "service_tier"}


def output(vendor, body, expect, arguments):
    """Items of the answer: a call of each tool until there are outputs, else one message."""
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    called = {item["call_id"] for item in items if item.get("type") == "function_call"}
    outputs = [item for item in items if item.get("type") == "function_call_output"]
    for item in outputs:
        expect(item["call_id"] in called, f"No tool call found for function call output with call_id {item['call_id']}.")
    expect(len(outputs) == len(called), "No tool output found for a function call.")
    tools = [tool["name"] for tool in body.get("tools", [])]
    if tools and not outputs and body.get("tool_choice") != "none":
        return [{"type": "function_call", "id": f"fc_{i}", "call_id": vendor.call_id(i), "name": name, "arguments": json.dumps(arguments),
                 "status": "completed"} for i, name in enumerate(tools)]
    pieces = [f"result: {outputs[-1]['output']}"] if outputs else vendor.words()
    if body.get("text", {}).get("format", {}).get("type", "text") != "text":
        pieces = [json.dumps({"name": vendor.name})]
    return [{"type": "message", "id": "msg_0", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "".join(pieces), "annotations": []}]}]


def response(body, items, status="completed"):
    usage = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 10,
             "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 30}
    return {"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": body["model"] + "-2025", "output": items,
            "error": None, "incomplete_details": None, "instructions": body.get("instructions"), "metadata": {}, "parallel_tool_calls": True,
            "temperature": 1, "top_p": 1, "tool_choice": "auto", "tools": body.get("tools", []), "usage": usage if status == "completed" else None}


def events(vendor, body, items):
    """Bytes each, numbered."""
    number = 0

    def event(kind, **fields):
        nonlocal number
        data = json.dumps({"type": kind, "sequence_number": number, **fields})
        number += 1
        return f"event: {kind}\ndata: {data}\n\n".encode()

    yield event("response.created", response=response(body, [], "in_progress"))
    yield event("response.in_progress", response=response(body, [], "in_progress"))
    for index, item in enumerate(items):
        at = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            text = item["content"][0]["text"]
            words = vendor.words() if text == "".join(vendor.words()) else [text]
            yield event("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []})
            yield event("response.content_part.added", **at, content_index=0, part=part)
            for word in words:
                yield event("response.output_text.delta", **at, content_index=0, delta=word, logprobs=[])
            yield event("response.output_text.done", **at, content_index=0, text=text, logprobs=[])
            yield event("response.content_part.done", **at, content_index=0, part={**part, "text": text})
        else:
            yield event("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""})
            for start in range(0, len(item["arguments"]), 5):
                yield event("response.function_call_arguments.delta", **at, delta=item["arguments"][start:start + 5])
            yield event("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"])
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=response(body, items))
