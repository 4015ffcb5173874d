// Requests to the server, and its event streams.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const headersOf = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

// The server's own words, behind its status and code.
function describe(status, error, retryAfter) {
  const label = [status, error.code].filter(Boolean).join(" ");
  const wait = retryAfter ? ` (retry after ${retryAfter} s)` : "";
  return new ServerError(status, `${label}: ${error.message}${wait}`);
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, `the server cannot be reached (${error.message})`);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const error = body?.error?.message ? body.error : { message: response.statusText || "no reason given" };
  throw describe(response.status, error, response.headers.get("retry-after"));
}

export async function get(path, key = "") {
  return (await send(path, { headers: headersOf(key) })).json();
}

// The data of each event of a stream, as the specification of server-sent events has it.
async function* dataOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (held + value).split(/\r?\n/);
    held = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
      if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new ServerError(0, `the stream held what is no JSON: ${data.slice(0, 80)}`);
  }
}

async function* chunksOf(stream) {
  for await (const data of dataOf(stream)) {
    if (data === "[DONE]") return;
    const chunk = parse(data);
    if (chunk.error) throw describe("", chunk.error);
    yield chunk;
  }
  throw new ServerError(0, "the stream broke off before its end");
}

// The chunks of a chat completion; throws a ServerError, or an AbortError where it was stopped.
export async function* chat(body, key, signal) {
  const response = await send("v1/chat/completions", {
    method: "POST",
    headers: { ...headersOf(key), "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  try {
    yield* chunksOf(response.body);
  } catch (error) {
    if (error instanceof ServerError || error.name === "AbortError") throw error;
    throw new ServerError(0, `the stream broke off before its end (${error.message})`);
  }
}
