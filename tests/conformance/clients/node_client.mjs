// Node's client, @grpc/grpc-js: node_client.mjs TRANSPORT ADDRESS [CA CERT KEY].
//
// Prints "pass CASE" or "fail CASE: why" for each case.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const SIZES = [31415, 9, 2653, 58979];
const SPECIAL_TEXT = "\t\n100 % é \r\n ☺ 😈\t\n";
const Code = grpc.status;

const [, , transport, address, ...files] = process.argv;
const proto = grpc.loadPackageDefinition(loadSync(
  fileURLToPath(new URL("../conformance.proto", import.meta.url)),
  { keepCase: true, longs: Number, defaults: true })).hotline.conformance;

function connect(Service, more = {}) {
  const [authority, certificate, key] = files.map((name) => readFileSync(name));
  const credentials = transport === "tls"
    ? grpc.credentials.createSsl(authority, key, certificate)
    : grpc.credentials.createInsecure();
  // Node has no server name for an IP address.
  return new Service(address, credentials,
    { "grpc.enable_retries": 0, "grpc.ssl_target_name_override": "localhost",
      ...more });
}
const client = connect(proto.Conformance);

function body(size) {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; ++i) bytes[i] = i % 251;
  return bytes;
}
const ask = (size, ...sizes) => ({ body: body(size), sizes });
// No case takes long; a call that hangs fails.
const limit = () => ({ deadline: Date.now() + 30000 });
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// A unary method's answer.
function unary(stub, method, request, metadata = new grpc.Metadata(),
  options = limit()) {
  return new Promise((resolve, reject) => {
    stub[method](request, metadata, options, (error, answer) => {
      if (error) reject(error);
      else resolve(answer);
    });
  });
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("the call has not failed");
}

// All answers of a stream, when its status is OK.
function answersOf(call) {
  return new Promise((resolve, reject) => {
    const answers = [];
    call.on("data", (answer) => answers.push(answer));
    call.on("error", reject);
    call.on("end", () => resolve(answers));
  });
}

// Resolves with an event's first argument.
const event = (call, name) =>
  new Promise((resolve) => { call.once(name, resolve); });

async function compressed(algorithm, name) {
  const stub = connect(proto.Conformance,
    { "grpc.default_compression_algorithm": algorithm });
  try {
    const answer = await unary(stub, "Unary", ask(271828, 314159));
    assert.equal(answer.encoding, name);
    assert.equal(answer.received_bytes, 271828);
    assert.ok(answer.body.equals(body(314159)));
    const call = stub.Duplex(new grpc.Metadata(), limit());
    const done = answersOf(call);
    for (const size of SIZES) call.write(ask(size, size));
    call.end();
    const answers = await done;
    assert.deepEqual(answers.map((each) => each.body), SIZES.map(body));
    assert.equal(answers.at(-1).encoding, name);
  } finally {
    stub.close();
  }
}

const cases = {
  async empty_unary() {
    assert.deepEqual({ ...await unary(client, "Nothing", {}) }, {});
  },

  async large_unary() {
    const answer = await unary(client, "Unary", ask(271828, 314159));
    assert.ok(answer.body.equals(body(314159)));
    assert.equal(answer.received_bytes, 271828);
  },

  async many_calls() {
    const calls = Array.from({ length: 100 }, (_, i) =>
      unary(client, "Unary", ask(i, 1000 + i)));
    for (const [i, answer] of (await Promise.all(calls)).entries()) {
      assert.equal(answer.received_bytes, i);
      assert.equal(answer.body.length, 1000 + i);
    }
  },

  async client_stream() {
    const answer = await new Promise((resolve, reject) => {
      const call = client.ClientStream(new grpc.Metadata(), limit(),
        (error, result) => (error ? reject(error) : resolve(result)));
      for (const size of SIZES) call.write(ask(size));
      call.end();
    });
    assert.equal(answer.received_bytes, sum(SIZES));
  },

  async server_stream() {
    const answers = await answersOf(client.ServerStream(
      ask(0, ...SIZES), new grpc.Metadata(), limit()));
    assert.deepEqual(answers.map((each) => each.body), SIZES.map(body));
  },

  async ping_pong() {
    const call = client.Duplex(new grpc.Metadata(), limit());
    const ended = event(call, "status");
    let received = 0;
    for (const size of SIZES) {
      received += size;
      call.write(ask(size, size));
      const answer = await event(call, "data");
      assert.ok(answer.body.equals(body(size)));
      assert.equal(answer.received_bytes, received);
    }
    call.end();
    assert.equal((await ended).code, Code.OK);
  },

  // More in each direction than a window holds.
  async duplex() {
    const call = client.Duplex(new grpc.Metadata(), limit());
    const done = answersOf(call);
    for (let i = 0; i < 50; ++i) call.write(ask(100000, 50000, 50000));
    call.end();
    const answers = await done;
    assert.equal(answers.length, 100);
    for (const answer of answers) assert.ok(answer.body.equals(body(50000)));
    assert.equal(answers.at(-1).received_bytes, 5000000);
  },

  async empty_stream() {
    const call = client.Duplex(new grpc.Metadata(), limit());
    call.end();
    assert.deepEqual(await answersOf(call), []);
  },

  async cancel_after_begin() {
    const failed = new Promise((resolve) => {
      const call = client.ClientStream(new grpc.Metadata(), limit(), resolve);
      (async () => {
        while ((await unary(client, "Count", {})).running === 0);
        call.cancel();
      })();
    });
    assert.equal((await failed).code, Code.CANCELLED);
  },

  async cancel_after_first_answer() {
    const call = client.Duplex(new grpc.Metadata(), limit());
    const failed = event(call, "error");
    call.write(ask(1, 1));
    assert.ok((await event(call, "data")).body.equals(body(1)));
    call.cancel();
    assert.equal((await failed).code, Code.CANCELLED);
  },

  async deadline() {
    const error = await refusal(unary(client, "Unary", { delay_ms: 60000 },
      new grpc.Metadata(), { deadline: Date.now() + 500 }));
    assert.equal(error.code, Code.DEADLINE_EXCEEDED);
  },

  async status_codes() {
    for (let code = 1; code <= Code.UNAUTHENTICATED; ++code) {
      const error = await refusal(unary(client, "Unary",
        { status: code, status_text: `text ${code}` }));
      assert.equal(error.code, code);
      assert.equal(error.details, `text ${code}`);
    }
  },

  async status_text() {
    const error = await refusal(unary(client, "Unary",
      { status: Code.UNKNOWN, status_text: SPECIAL_TEXT }));
    assert.equal(error.code, Code.UNKNOWN);
    assert.equal(error.details, SPECIAL_TEXT);
  },

  async status_before_half_close() {
    const call = client.Duplex(new grpc.Metadata(), limit());
    const failed = event(call, "error");
    call.write(ask(1, 1));
    assert.ok((await event(call, "data")).body.equals(body(1)));
    call.write({ status: Code.FAILED_PRECONDITION, status_text: "enough" });
    const error = await failed;
    assert.equal(error.code, Code.FAILED_PRECONDITION);
    assert.equal(error.details, "enough");
  },

  async status_details() {
    const error = await refusal(unary(client, "Unary",
      { status: Code.INVALID_ARGUMENT, status_text: "bad", details: true }));
    assert.equal(error.code, Code.INVALID_ARGUMENT);
    const [details] = error.metadata.get("grpc-status-details-bin");
    assert.ok(details.includes("BAD_MESSAGE"));
  },

  async unknown_method() {
    const error = await refusal(unary(client, "Unserved", {}));
    assert.equal(error.code, Code.UNIMPLEMENTED);
  },

  async unknown_service() {
    const stub = connect(proto.Absent);
    try {
      const error = await refusal(unary(stub, "Nothing", {}));
      assert.equal(error.code, Code.UNIMPLEMENTED);
    } finally {
      stub.close();
    }
  },

  async metadata() {
    const binary = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const fields = { text: ["a b, c"], two: ["1", "2"],
      "bytes-bin": [binary], "none-bin": [Buffer.alloc(0)] };
    const sent = new grpc.Metadata();
    for (const [name, values] of Object.entries(fields)) {
      for (const value of values) {
        sent.add(`head-${name}`, value);
        sent.add(`trail-${name}`, value);
      }
    }
    const call = client.Metadata(ask(0), sent, limit(), () => {});
    const [head, { code, metadata: trailers }] =
      await Promise.all([event(call, "metadata"), event(call, "status")]);
    assert.equal(code, Code.OK);
    for (const [name, values] of Object.entries(fields)) {
      // It joins what has the same name, unless it is binary.
      const expected = name.endsWith("-bin") ? values : [values.join(", ")];
      assert.deepEqual(head.get(`head-${name}`), expected);
      assert.deepEqual(trailers.get(`trail-${name}`), expected);
    }
  },

  gzip: () =>
    compressed(grpc.compressionAlgorithms.gzip, "gzip"),
  deflate: () =>
    compressed(grpc.compressionAlgorithms.deflate, "deflate"),

  async oversized_message() {
    const error = await refusal(unary(client, "Unary", ask(9 << 20)));
    assert.equal(error.code, Code.RESOURCE_EXHAUSTED);
    await cases.empty_unary();
  },

  async oversized_metadata() {
    const metadata = new grpc.Metadata();
    metadata.set("large", "x".repeat(20480));
    const error = await refusal(unary(client, "Nothing", {}, metadata));
    assert.equal(error.code, Code.RESOURCE_EXHAUSTED);
    await cases.empty_unary();
  },
};

for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log(`pass ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`fail ${name}: ${JSON.stringify(String(error.stack))}`);
  }
}
client.close();
