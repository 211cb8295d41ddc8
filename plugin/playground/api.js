// Requests to the server with the tab's token, and errors in OpenAI's shape.

import { readEvents } from "./sse.js";

const KEY = "steermap-token";
// Also kept in memory, for browsers without session storage.
let memory = null;

export const token = {
  get() {
    try {
      return sessionStorage.getItem(KEY) ?? memory;
    } catch {
      return memory;
    }
  },
  set(value) {
    memory = value;
    try {
      if (value === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, value);
    } catch {
      // The token then lasts as long as the page.
    }
  },
};

export class ApiError extends Error {
  constructor(message, { status = 0, param = null, code = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, param, code, retryAfter });
  }
}

// Sends a request with `body` as JSON. Throws an ApiError unless the status is a success.
export async function request(method, path, { body, signal, admin = false } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (admin && token.get() !== null) headers.Authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it running?");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export const getJson = async (path, options) => (await request("GET", path, options)).json();
export const postJson = async (path, body, options) => (await request("POST", path, { ...options, body })).json();

async function errorOf(response) {
  const { status } = response;
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isFinite(seconds) ? seconds : null;
  let message = `The server answered with status ${status}.`;
  let param = null;
  let code = null;
  try {
    ({ message = message, param = null, code = null } = (await response.json()).error);
  } catch {
    // Not JSON: report the status.
  }
  if (status === 429 && retryAfter !== null) message += ` Try again in ${retryAfter} s.`;
  return new ApiError(message, { status, param, code, retryAfter });
}

// Streams an answer: `onEvent` gets each event's JSON. Ends when the stream says that it is done; a stream that ends before,
// or has an error in it, is an ApiError.
export async function stream(path, body, { signal, onEvent }) {
  const response = await request("POST", path, { body: { ...body, stream: true }, signal });
  let done = false;
  try {
    for await (const data of readEvents(response.body)) {
      if (data === "[DONE]") {
        done = true;
        break;
      }
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message ?? "The server stopped the answer.", event.error);
      onEvent(event);
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("The connection was lost before the answer was complete.");
  }
  if (!done) throw new ApiError("The stream ended before the answer was complete.");
}
