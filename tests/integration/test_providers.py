"""Each provider through its simulated API: what is sent is what its vendor takes, and every row gets its own
answer, whatever goes wrong."""
import http.client
import json

import pytest
from conftest import KEY, Simulator, ask_simulator, read_jsonl, write_jsonl
from test_run import ANSWER_FAULTS, check_tags, distinct

# provider, path of the endpoint
TEXT_APIS = [
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/responses"),
    ("azure-openai", ""),
    ("azure-openai", "/openai/v1/responses"),
    ("azure-openai", "/openai/deployments/d?api-version=2024-10-21"),
    ("ollama", ""),
    ("vllm", "/v1"),
    ("llama.cpp", "/v1/chat/completions"),
    ("anthropic", ""),
    ("gemini", ""),
]
VECTOR_APIS = [("openai", ""), ("azure-openai", "/openai/v1"), ("ollama", ""), ("vllm", ""),
               ("gemini", "")]
FAULTS = [word for fault in ANSWER_FAULTS for word in ("--fault", f"{fault}=5%")]
FAULTS += [word for fault in ("500", "429", "cut", "html") for word in ("--fault", f"{fault}=2%")]


def run(box, sql, rows, *options):
    (box.path / "models.sql").write_text(sql)
    write_jsonl(box.path / "in.jsonl", rows)
    done = box.run("headrace", "run", "-f", box.path / "models.sql", "-m", "m", "-i", "in.jsonl",
                   "-o", "out.jsonl", "--set", "max.retries=40", "--set", "ambiguous.retries=40", *options,
                   env={**box.env, "OPENAI_API_KEY": KEY})
    return done, read_jsonl(box.path / "out.jsonl") if (box.path / "out.jsonl").exists() else []


def text_model(provider, endpoint, more=""):
    return f"""CREATE MODEL m INPUT (text STRING) OUTPUT (tag STRING)
WITH ('provider' = '{provider}', 'endpoint' = '{endpoint}', 'model' = 'd', 'api_key' = '${{OPENAI_API_KEY}}',
      'max.tokens' = '4096', 'batch.size' = '20', 'batch.timeout.ms' = '200'{more});"""


def vector_model(provider, endpoint, more="", inner="FLOAT"):
    return f"""CREATE MODEL m INPUT (text STRING) OUTPUT (vector ARRAY<{inner}>)
WITH ('provider' = '{provider}', 'endpoint' = '{endpoint}', 'model' = 'd', 'api_key' = '${{OPENAI_API_KEY}}',
      'task' = 'embedding', 'batch.size' = '20', 'batch.timeout.ms' = '200'{more});"""


def vectors(box, texts, n):
    """The simulator's vectors: byte k of the text's hash, the lowest first, around zero."""
    hashes = [int(text, 16) for text in ask_simulator(box, "--hash", texts)]
    return [[((hash >> (8 * (k % 8)) & 0xff) - 128) / 128 for k in range(n)] for hash in hashes]


def check_vectors(box, rows, given, n):
    assert [row["id"] for row in rows] == [row["id"] for row in given]
    assert [(row["id"], row["error"]) for row in rows if row["error"] is not None] == []
    wrong = [row["id"] for row, want in zip(rows, vectors(box, [row["text"] for row in given], n))
             if row["vector"] != want]
    assert wrong == []


@pytest.mark.parametrize("provider,path", TEXT_APIS)
def test_every_review_gets_its_own_answer(box, provider, path, reviews):
    simulator = Simulator(box, "--api-key", KEY, "--retry-after-ms", "100", *FAULTS)
    given = distinct(reviews, 300)
    done, rows = run(box, text_model(provider, f"http://127.0.0.1:{simulator.port}{path}"), given)
    assert done.returncode == 0, done.stderr.decode()
    check_tags(box, rows, given)
    calls = simulator.calls()
    assert any(call["fault"] for call in calls)
    assert {call["status"] for call in calls} <= {0, 200, 429, 500, 502}  # nothing was refused as wrong
    assert len(calls) < 300  # twenty records to a call


@pytest.mark.parametrize("provider,path", VECTOR_APIS)
def test_every_review_gets_its_own_vector(box, provider, path, reviews):
    simulator = Simulator(box, "--api-key", KEY, "--retry-after-ms", "100", *FAULTS)
    given = distinct(reviews, 300)
    endpoint = f"http://127.0.0.1:{simulator.port}{path}"
    done, rows = run(box, vector_model(provider, endpoint, ", 'dimensions' = '12'"), given)
    assert done.returncode == 0, done.stderr.decode()
    check_vectors(box, rows, given, 12)
    calls = simulator.calls()
    assert any(call["fault"] for call in calls)
    assert {call["status"] for call in calls} <= {0, 200, 429, 500, 502}


# What makes an http model of the simulator's chat completions.
TEMPLATE = """{"model": {{model}}, "messages": [{{#system}}{"role": "system", "content": {{system}}}, {{/system}}
{"role": "user", "content": {{prompt}}}], "max_tokens": {{max_tokens}}{{#schema}}, "response_format": {"type": "json_schema", "json_schema":
{"name": "x", "strict": true, "schema": {{schema}}}}{{/schema}}}"""
HTTP = f""", 'request.template' = '{TEMPLATE}', 'answer.path' = '$.choices[0].message.content',
 'usage.input.path' = '$.usage.prompt_tokens', 'usage.output.path' = '$.usage.completion_tokens'"""


def tensor_model(simulator, columns, more="", path=""):
    return f"""CREATE MODEL m {columns}
WITH ('provider' = 'kserve', 'endpoint' = 'http://127.0.0.1:{simulator.port}{path}', 'model' = 'd',
      'api_key' = '${{OPENAI_API_KEY}}', 'batch.timeout.ms' = '200', 'response.correct' = 'off'{more});"""


def check_run(box, simulator, sql, reviews):
    given = distinct(reviews, 300)
    done, rows = run(box, sql, given)
    assert done.returncode == 0, done.stderr.decode()
    check_tags(box, rows, given)
    calls = simulator.calls()
    assert any(call["fault"] for call in calls)
    assert {call["status"] for call in calls} <= {0, 200, 429, 500, 502}


@pytest.mark.parametrize("more", ["", ", 'structured.output' = 'required', 'system.prompt' = 'Be brief.'"],
                         ids=["plain", "schema"])
def test_every_review_gets_its_own_answer_of_any_endpoint(box, more, reviews):
    simulator = Simulator(box, "--api-key", KEY, "--retry-after-ms", "100", *FAULTS)
    check_run(box, simulator, text_model("http", simulator.url, HTTP + more), reviews)


@pytest.mark.parametrize("path,more", [("", ""), ("/v2", ", 'tensor.version' = '7', 'tensor.flat' = 'on'")],
                         ids=["host", "version"])
def test_every_review_gets_its_own_tensor(box, path, more, reviews):
    simulator = Simulator(box, "--api-key", KEY, "--retry-after-ms", "100", *FAULTS)
    sql = tensor_model(simulator, "INPUT (text STRING) OUTPUT (tag STRING)", ", 'batch.size' = '20'" + more, path)
    check_run(box, simulator, sql, reviews)


def test_tensors_become_columns_of_every_kind(box, reviews):
    simulator = Simulator(box, *FAULTS)
    given = distinct(reviews, 300)
    sql = tensor_model(simulator, "INPUT (text STRING) OUTPUT (vector ARRAY<FLOAT>, tag STRING, score BIGINT)",
                       ", 'task' = 'embedding', 'batch.size' = '20'")
    done, rows = run(box, sql, given)
    assert done.returncode == 0, done.stderr.decode()
    check_vectors(box, rows, given, 8)
    check_tags(box, rows, given)
    assert [row["score"] for row in rows] == [int(row["tag"][2:], 16) % 100 for row in rows]


def test_several_inputs_one_record_a_call(box):
    simulator = Simulator(box)
    given = [{"id": "a", "text": "x", "stars": 5, "good": True, "weight": 0.5},
             {"id": "b", "text": "y", "stars": None, "good": True, "weight": 0.5}]
    sql = tensor_model(simulator, "INPUT (text STRING, stars INT, good BOOLEAN, weight DOUBLE) OUTPUT (label STRING)",
                       ", 'response.value.field' = 'tag'")
    done, rows = run(box, sql, given)
    assert done.returncode == 1, done.stderr.decode()  # one row is an error
    assert rows[0]["label"] == "h:" + ask_simulator(box, "--hash", ["x 5 true 0.5"])[0]
    assert rows[1]["error"] is not None and len(simulator.calls()) == 1


def number_text(number):
    return repr(number) if number % 1 else str(int(number))


# Statements of Flink's documentation of its triton provider, with the simulator's endpoint and outputs.
FLINK = {
    "arrays of floats": ("""CREATE MODEL m
INPUT (image_pixels ARRAY<FLOAT>)
OUTPUT (tag STRING, score FLOAT)
WITH (
  'provider' = 'triton',
  'endpoint' = 'http://127.0.0.1:{port}/v2/models',
  'model-name' = 'resnet50',
  'model-version' = '1',
  'timeout' = '10000',
  'compression' = 'gzip'
);""", ["image_pixels"]),
    "arrays of each kind": ("""CREATE MODEL m
INPUT (
  user_features ARRAY<FLOAT>,
  browsing_history ARRAY<STRING>,
  context_features ARRAY<FLOAT>
)
OUTPUT (tag STRING, vector ARRAY<FLOAT>)
WITH (
  'provider' = 'triton',
  'endpoint' = 'http://127.0.0.1:{port}/v2/models',
  'model-name' = 'product_recommender',
  'model-version' = '2'
);""", ["user_features", "browsing_history", "context_features"]),
    "no dimension for records": ("""CREATE MODEL m
INPUT (flat_vector ARRAY<FLOAT>)
OUTPUT (vector ARRAY<FLOAT>, tag STRING)
WITH (
    'provider' = 'triton',
    'endpoint' = 'http://127.0.0.1:{port}/v2/models',
    'model-name' = 'vector-transform',
    'model-version' = '1',
    'flatten-batch-dim' = 'true'
);""", ["flat_vector"]),
}


@pytest.mark.parametrize("name,batch", [(name, batch) for name in FLINK for batch in (1, 16)
                                        if not (name.startswith("no ") and batch > 1)])
def test_arrays_become_tensors(box, name, batch):
    """Every record's arrays reach its own answer, in batches and through every fault of an answer."""
    simulator = Simulator(box, *FAULTS)
    sql, columns = FLINK[name]
    given = []
    for i in range(120):
        n = 5 if i % 40 == 7 else 3  # some are longer: they share no tensor with the others
        row = {"id": i}
        for column in columns:
            row[column] = [f"{i} «{k}» \"" if "history" in column else i + k / 8 for k in range(n)]
        given.append(row)
    # A model of tensors hears no reason: a misfit is asked again as other faults are, not once.
    done, rows = run(box, sql.format(port=simulator.port), given, "--set", f"batch.size={batch}",
                     "--set", "batch.timeout.ms=200", "--set", "response.correct=off")
    assert done.returncode == 0, done.stderr.decode()
    texts = [" ".join(number_text(v) if isinstance(v, float) else str(v) for c in columns for v in row[c])
             for row in given]
    want = ["h:" + text for text in ask_simulator(box, "--hash", texts)]
    assert [(row["id"], row["tag"], row["error"]) for row in rows] == [(i, tag, None) for i, tag in enumerate(want)]
    calls = simulator.calls()
    assert any(call["fault"] for call in calls)
    assert {call["status"] for call in calls} <= {0, 200, 429, 500, 502}
    assert batch == 1 or len(calls) < 100


def test_arrays_that_no_tensor_can_hold_are_errors_that_say_so(box):
    simulator = Simulator(box)
    sql = tensor_model(simulator, "INPUT (m ARRAY<ARRAY<ARRAY<INT>>>) OUTPUT (tag STRING)", ", 'batch.size' = '4'")
    given = [{"id": 0, "m": [[[1], [2]]]}, {"id": 1, "m": [[[1, 2], [3]]]}, {"id": 2, "m": [[[1, 2]], [[3]]]},
             {"id": 3, "m": [[[1, None]]]}, {"id": 4, "m": "x"}, {"id": 5, "m": [[["7"], [8]]]}]
    done, rows = run(box, sql, given)
    assert done.returncode == 1, done.stderr.decode()
    errors = [row["error"] and (row["error"]["code"], row["error"]["message"]) for row in rows]
    assert errors[0] is None and errors[5] is None
    assert [error[0] for error in errors[1:5]] == ["bad-record"] * 4
    for error, words in zip(errors[1:5], ["an array of 1 behind one of 2", "cannot be one tensor",
                                          "null, which a tensor cannot hold", "a string that is no JSON array"]):
        assert words in error[1]
    assert [row["tag"] for row in (rows[0], rows[5])] == ["h:" + h for h in ask_simulator(box, "--hash", ["1 2", "7 8"])]


def test_a_batch_that_the_model_does_not_take_is_split(box, reviews):
    simulator = Simulator(box)
    given = distinct(reviews, 300)
    sql = tensor_model(simulator, "INPUT (text STRING) OUTPUT (tag STRING)", ", 'batch.size' = '100'")
    done, rows = run(box, sql, given)
    assert done.returncode == 0, done.stderr.decode()
    check_tags(box, rows, given)
    assert {call["status"] for call in simulator.calls()} == {200, 400}


def test_a_tensor_that_the_model_does_not_have_stops_it(box, reviews):
    simulator = Simulator(box)
    sql = tensor_model(simulator, "INPUT (text STRING) OUTPUT (nothing STRING)", ", 'batch.size' = '20'")
    done, _ = run(box, sql, distinct(reviews, 20))
    assert done.returncode not in (0, 1)
    assert b"unexpected inference output 'nothing'" in done.stderr, done.stderr.decode()


def test_a_vector_of_doubles_of_the_usual_length(box, reviews):
    simulator = Simulator(box)
    given = distinct(reviews, 30)
    sql = vector_model("openai", f"http://127.0.0.1:{simulator.port}",
                       ", 'params' = '{\"encoding_format\":\"float\"}'", "DOUBLE")
    done, rows = run(box, sql, given)
    assert done.returncode == 0, done.stderr.decode()
    check_vectors(box, rows, given, 8)


def test_a_schema_that_is_refused_is_left_out(box, reviews):
    simulator = Simulator(box, "--no-schemas")
    given = distinct(reviews, 300)
    done, rows = run(box, text_model("vllm", f"http://127.0.0.1:{simulator.port}"), given)
    assert done.returncode == 0, done.stderr.decode()
    check_tags(box, rows, given)
    statuses = [call["status"] for call in simulator.calls()]
    assert 400 in statuses and statuses.count(200) >= 15


def test_a_schema_that_is_required_and_refused_stops_the_model(box, reviews):
    simulator = Simulator(box, "--no-schemas")
    done, _ = run(box, text_model("vllm", f"http://127.0.0.1:{simulator.port}", ", 'structured.output' = 'required'"),
                  distinct(reviews, 20))
    assert done.returncode not in (0, 1)
    assert b"response_format" in done.stderr, done.stderr.decode()
    assert {call["status"] for call in simulator.calls()} == {400}


def post(simulator, path, body, headers):
    c = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=10)
    try:
        c.request("POST", path, json.dumps(body), headers)
        answer = c.getresponse()
        return answer.status, answer.read().decode()
    finally:
        c.close()


TENSOR = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
MESSAGES = {**CHAT, "max_tokens": 9}
ANTHROPIC = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
GENERATE = {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}
GEMINI = {"x-goog-api-key": KEY}
EMBED = {"model": "models/m", "content": {"parts": [{"text": "a"}]}}
BEARER, AZURE = {"Authorization": f"Bearer {KEY}"}, {"api-key": KEY}


def with_schema(schema):
    return {**CHAT, "response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "strict": True, "schema": schema}}}


def with_format(schema):
    return {**MESSAGES, "output_config": {"format": {"type": "json_schema", "schema": schema}}}


def with_config(**config):
    return {**GENERATE, "generationConfig": config}


def with_response(schema):
    return with_config(responseMimeType="application/json", responseSchema=schema)


M = "/v1beta/models/m:generateContent"
E = "/v1beta/models/m:batchEmbedContents"


@pytest.mark.parametrize("path,body,headers,status,words", [
    ("/v1/chat/completions", CHAT, BEARER, 200, ""),
    ("/v1/chat/completions", CHAT, AZURE, 401, "key"),
    ("/openai/v1/chat/completions", CHAT, AZURE, 200, ""),
    ("/openai/v1/chat/completions", CHAT, BEARER, 200, ""),
    ("/openai/v1/chat/completions", CHAT, {**AZURE, **BEARER}, 401, "key"),
    ("/v1/chat/completions", {**CHAT, "max_output_tokens": 9}, BEARER, 400, "max_output_tokens"),
    ("/v1/chat/completions", with_schema(SCHEMA), BEARER, 400, "additionalProperties"),
    ("/v1/chat/completions", with_schema({**SCHEMA, "additionalProperties": False}), BEARER, 400, "Missing 'a'"),
    ("/v1/chat/completions", with_schema({**SCHEMA, "additionalProperties": False, "required": ["a"]}), BEARER,
     200, ""),
    ("/v1/chat/completions", with_schema({"type": "array"}), BEARER, 400, "object"),
    ("/v1/responses", {"model": "m", "input": "a"}, BEARER, 200, "output_text"),
    ("/v1/responses", {"model": "m", "input": "a", "max_output_tokens": 9}, BEARER, 400, ">= 16"),
    ("/v1/responses", {"model": "m", "input": "a", "response_format": {}}, BEARER, 400, "text.format"),
    ("/v1/responses", {"model": "m", "input": "a", "seed": 1}, BEARER, 400, "seed"),
    ("/v1/responses", {"model": "m"}, BEARER, 400, "input"),
    ("/v1/embeddings", {"model": "m", "input": ["a"]}, BEARER, 200, "embedding"),
    ("/v1/embeddings", {"model": "m", "input": [""]}, BEARER, 400, "empty"),
    ("/v1/embeddings", {"model": "m", "input": ["a"] * 2049}, BEARER, 400, "too long"),
    ("/v1/embeddings", {"model": "m", "input": ["a"], "temperature": 1}, BEARER, 400, "temperature"),
    ("/v1/completions", CHAT, BEARER, 404, "URL"),
    (M, GENERATE, GEMINI, 200, "candidates"),
    (M, GENERATE, BEARER, 400, "API_KEY_INVALID"),
    (M, {**GENERATE, "model": "m"}, GEMINI, 400, 'Unknown name \\"model\\"'),
    (M, {}, GEMINI, 400, "contents is not specified"),
    (M, {"contents": [{"role": "system", "parts": [{"text": "a"}]}]}, GEMINI, 400, "valid role"),
    (M, with_config(max_tokens=9), GEMINI, 400, "Unknown name"),
    (M, with_config(responseSchema={"type": "STRING"}), GEMINI, 400, "response_mime_type"),
    (M, with_response({"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}}), GEMINI, 200, ""),
    (M, with_response({"type": "OBJECT"}), GEMINI, 400, "non-empty"),
    (M, with_response({"type": ["STRING", "null"]}), GEMINI, 400, "Invalid value"),
    (M, with_response({"type": "STRING", "format": "date"}), GEMINI, 400, "date-time"),
    (M, with_response({**SCHEMA, "type": "OBJECT", "properties": {"a": {"type": "STRING"}},
                       "additionalProperties": False}), GEMINI, 400, "additionalProperties"),
    (E, {"requests": [EMBED] * 2}, GEMINI, 200, "embeddings"),
    (E, {"requests": [EMBED] * 101}, GEMINI, 400, "at most 100 requests"),
    (E, {"requests": [{**EMBED, "model": "m"}]}, GEMINI, 400, "model name"),
    (E, {"requests": [{**EMBED, "dimensions": 3}]}, GEMINI, 400, "Unknown name"),
    ("/v1/messages", MESSAGES, ANTHROPIC, 200, "end_turn"),
    ("/v1/messages", CHAT, ANTHROPIC, 400, "max_tokens: Field required"),
    ("/v1/messages", MESSAGES, BEARER, 401, "authentication_error"),
    ("/v1/messages", MESSAGES, {"x-api-key": KEY}, 400, "anthropic-version: header is required"),
    ("/v1/messages", {**MESSAGES, "seed": 1}, ANTHROPIC, 400, "seed: Extra inputs"),
    ("/v1/messages", {**MESSAGES, "temperature": 1.5}, ANTHROPIC, 400, "less than or equal to 1"),
    ("/v1/messages", {**MESSAGES, "messages": [{"role": "system", "content": "a"}]}, ANTHROPIC, 400, "Unexpected role"),
    ("/v1/messages", {**MESSAGES, "messages": [{"role": "user", "content": " "}]}, ANTHROPIC, 400, "non-empty"),
    ("/v1/messages", {**MESSAGES, "messages": MESSAGES["messages"] + [{"role": "assistant", "content": "["}]}, ANTHROPIC,
     400, "prefill"),
    ("/v1/messages", {**MESSAGES, "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}] * 5},
     ANTHROPIC, 400, "maximum of 4"),
    ("/v1/messages", with_format(SCHEMA), ANTHROPIC, 400, "additionalProperties"),
    ("/v1/messages", with_format({**SCHEMA, "additionalProperties": False}), ANTHROPIC, 200, ""),
    ("/v1/messages", with_format({**SCHEMA, "additionalProperties": False, "properties": {
        "a": {"type": "integer", "minimum": 1}}}), ANTHROPIC, 400, "'minimum' is not supported"),
    ("/v1/messages", with_format({**SCHEMA, "additionalProperties": False, "properties": {
        f"c{i}": {"type": ["string", "null"]} for i in range(17)}}), ANTHROPIC, 400, "too complex"),
    ("/v2/models/d/infer", {"inputs": [TENSOR]}, BEARER, 200, "model_version"),
    ("/v2/models/d/infer", {"inputs": [TENSOR]}, {}, 401, '{"error":"'),
    ("/v2/models/d/infer", {"inputs": []}, BEARER, 400, "inputs"),
    ("/v2/models/d/infer", {"inputs": [TENSOR], "outputs": [{"name": "x"}]}, BEARER, 400, "unexpected inference"),
    ("/v2/models/d/infer", {"inputs": [{**TENSOR, "shape": [3, 1]}]}, BEARER, 400, "size of data"),
    ("/v2/models/d/infer", {"inputs": [{**TENSOR, "shape": [1, 2]}]}, BEARER, 200, "model_version"),
    ("/v2/models/d/infer", {"inputs": [{**TENSOR, "shape": [2, 0]}]}, BEARER, 400, "unexpected shape"),
    ("/v2/models/d/infer", {"inputs": [{**TENSOR, "datatype": "STRING"}]}, BEARER, 400, "data-type"),
    ("/v2/models/d/infer", {"inputs": [{**TENSOR, "datatype": "INT32"}]}, BEARER, 400, "another type"),
    ("/v2/models/d/infer", {"inputs": [TENSOR, {**TENSOR, "shape": [1], "data": ["a"]}]}, BEARER, 400, "does not match"),
    ("/v2/models/d/infer", {"inputs": [TENSOR], "model": "d"}, BEARER, 400, "model"),
])
def test_the_simulator_refuses_what_the_vendor_refuses(box, path, body, headers, status, words):
    simulator = Simulator(box, "--api-key", KEY)
    got, text = post(simulator, path, body, headers)
    assert (got, words in text) == (status, True), text
