// @ts-check
/**
 * Chargehand in a browser: start runs, and follow them as they happen, across broken connections.
 *
 * A page that strangers open holds no key: its own server starts the run and hands it a subscription
 * (`{token, hub_url, topic}`), see `subscribe`. One file, no dependencies.
 *
 * @typedef {{ url?: string, token?: string, key?: string, tries?: number }} Options
 *   `url`: where Chargehand is, default: the page's own origin; `token` or `key`: what it sends as
 *   bearer; `tries`: attempts in a row before it gives up (8: about 12 s).
 * @typedef {{ variables?: object, version?: string, metadata?: object, end_user?: string,
 *   workspace?: { upload_id: string }, run_at?: string, await_event?: object, tools?: object[],
 *   idempotencyKey?: string, signal?: AbortSignal }} RunOptions
 * @typedef {{ after?: string, signal?: AbortSignal }} FollowOptions
 *   `after`: the id of the event behind which to begin.
 * @typedef {{ id: string, type: string, data: any }} RunEvent
 *   `type` is for example `output.delta`, whose `data.text` is a piece of the answer; events of all
 *   runs of a user have the run's id in `data.execution_id`.
 * @typedef {{ id: string, status: string, output: any, error: any, [field: string]: any }} Execution
 * @typedef {"pause" | "resume" | "kill" | "input" | "approve" | "deny" | "retry" | "fork"} Verb
 * @typedef {{ token: string, hub_url: string, topic: string }} Subscription
 *   The answer of `POST /api/v1/executions/{id}/subscription-token`.
 */

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;
const LONGEST_WISH_S = 30;
// A connection that lasted this long was good, though nothing new came.
const GOOD_CONNECTION_MS = 10_000;
// The service sends a heartbeat at least every 15 s: after this silence a connection is dead.
const SILENCE_MS = 45_000;
const TRANSIENT = new Set([502, 503, 504]);
const GOING_ON = new Set(["pending", "running", "awaiting_event"]);

/** What the service refused, or that it does not answer (`code` is then `Unreachable`). */
export class ChargehandError extends Error {
  /**
   * @param {string} message
   * @param {{ code: string, status?: number, details?: any, requestId?: string }} about
   */
  constructor(message, { code, status = 0, details = {}, requestId = "" }) {
    super(message);
    this.name = "ChargehandError";
    this.code = code;
    this.status = status;
    this.details = details;
    this.requestId = requestId;
  }
}

/** A connection to one Chargehand. Every method rejects with ChargehandError. */
export class Chargehand {
  /** @param {Options} [options] */
  constructor({ url = "", token, key, tries = 8 } = {}) {
    const base = url || globalThis.location?.origin || "";
    this.url = base.replace(/\/+$/, "").replace(/\/api\/v1$/, "");
    this.tries = tries;
    this._bearer = token ?? key;
  }

  /**
   * Run an agent and wait until it has ended or waits for a person.
   * @type {(agent: string, input: any, options?: RunOptions) => Promise<Execution>}
   */
  async run(agent, input, options = {}) {
    const started = await this.start(agent, input, options);
    for await (const event of this.follow(started.id, { signal: options.signal })) {
      if (event.type === "status.changed" && !GOING_ON.has(event.data.status)) {
        const execution = await this.execution(started.id);
        if (!GOING_ON.has(execution.status)) return execution;
      }
    }
    return this.execution(started.id);
  }

  /**
   * Start a run and return as soon as it is stored.
   * @type {(agent: string, input: any, options?: RunOptions) => Promise<Execution>}
   */
  async start(agent, input, { idempotencyKey = randomKey(), signal, ...fields } = {}) {
    const body = JSON.stringify({ ...fields, input, mode: "async" });
    const headers = { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey };
    const path = `/agents/${encodeURIComponent(agent)}/execute`;
    return (await this._send(path, { method: "POST", headers, body, signal })).json();
  }

  /**
   * Start a run and iterate over its events: each once and in order, until `done`.
   * @type {(agent: string, input: any, options?: RunOptions) => AsyncGenerator<RunEvent>}
   */
  async *stream(agent, input, options = {}) {
    const started = await this.start(agent, input, options);
    yield* this.follow(started.id, { signal: options.signal });
  }

  /**
   * Iterate over the events of a run: all of them, or those behind `after`.
   * @type {(executionId: string, options?: FollowOptions) => AsyncGenerator<RunEvent>}
   */
  follow(executionId, { after, signal } = {}) {
    const path = `/executions/${encodeURIComponent(executionId)}/events`;
    const open = (/** @type {RequestInit} */ init) => this._send(path, init);
    return resumed(open, this.tries, after, signal, true);
  }

  /**
   * Iterate over the events of all your runs, without their text and logs: from the first `next()` on
   * or behind `after`, and for ever. `user` is another member, for the organization's admins.
   * @type {(options?: FollowOptions & { user?: string }) => AsyncGenerator<RunEvent>}
   */
  followUser({ user, after, signal } = {}) {
    const path = user === undefined ? "/me/events" : `/me/events?user=${encodeURIComponent(user)}`;
    const open = (/** @type {RequestInit} */ init) => this._send(path, init);
    return resumed(open, this.tries, after, signal, false);
  }

  /**
   * Iterate over the events of a topic, with its token only; a run's topic ends behind `done`.
   *
   * Give a function that fetches a new subscription where it should outlive its token (1 h).
   * @param {Subscription | (() => Promise<Subscription>)} subscription
   * @param {FollowOptions} [options]
   * @returns {AsyncGenerator<RunEvent>}
   */
  async *subscribe(subscription, { after, signal } = {}) {
    const renew = typeof subscription === "function" ? subscription : null;
    let current = typeof subscription === "function" ? await subscription() : subscription;
    const open = async (/** @type {RequestInit} */ init) => {
      try {
        return await this._listen(current, init);
      } catch (error) {
        if (!renew || !(error instanceof ChargehandError) || error.status !== 401) throw error;
        current = await renew();
        return this._listen(current, init);
      }
    };
    yield* resumed(open, this.tries, after, signal, current.topic.startsWith("agent/"));
  }

  /**
   * One execution as it stands now.
   * @type {(executionId: string) => Promise<Execution>}
   */
  async execution(executionId) {
    return (await this._send(`/executions/${encodeURIComponent(executionId)}`)).json();
  }

  /**
   * Cancel a run: at once, or within 2 s where it runs.
   * @type {(executionId: string) => Promise<Execution>}
   */
  async cancel(executionId) {
    const path = `/executions/${encodeURIComponent(executionId)}/cancel`;
    return (await this._send(path, { method: "POST" })).json();
  }

  /**
   * Steer a run, or answer what it waits for. `fork` and `retry` answer with the new run; `body` is that
   * of the route, as in `steer(id, "approve", { wait: execution.waiting_for.wait })`.
   * @type {(executionId: string, verb: Verb, body?: object) => Promise<Execution>}
   */
  async steer(executionId, verb, body = {}) {
    return (await this._tell(`/executions/${encodeURIComponent(executionId)}/${verb}`, body)).json();
  }

  /**
   * Tell of something that happened: each run that waits for it goes on, once.
   * @type {(event_type: string, payload?: any, user?: string) => Promise<{ woken: string[] }>}
   */
  async sendEvent(event_type, payload = null, user) {
    return (await this._tell("/events", { event_type, payload, user })).json();
  }

  /** @type {(path: string, body: object) => Promise<Response>} sent once: twice might do it twice */
  _tell(path, body) {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": randomKey() };
    return this._send(path, { method: "POST", headers, body: JSON.stringify(body) }, 1);
  }

  /** @type {(path: string, init?: RequestInit, tries?: number) => Promise<Response>} */
  _send(path, init = {}, tries = this.tries) {
    const headers = new Headers(init.headers);
    if (this._bearer) headers.set("Authorization", `Bearer ${this._bearer}`);
    return sent(`${this.url}/api/v1${path}`, { ...init, headers }, tries);
  }

  /** @type {(subscription: Subscription, init: RequestInit) => Promise<Response>} */
  _listen({ token, hub_url, topic }, init) {
    const url = new URL(hub_url, `${this.url}/`);
    const headers = new Headers(init.headers);
    url.searchParams.set("topic", topic);
    // Our own hub takes it as a parameter, which needs no CORS preflight; Mercure as a bearer.
    if (url.pathname.endsWith("/api/v1/hub")) url.searchParams.set("token", token);
    else headers.set("Authorization", `Bearer ${token}`);
    // Ours tells a run from its beginning by itself, Mercure where it is asked.
    const asks = topic.startsWith("agent/") && !headers.has("Last-Event-ID");
    if (asks && headers.has("Authorization")) url.searchParams.set("lastEventID", "earliest");
    return sent(url.href, { ...init, headers }, this.tries);
  }
}

/**
 * Fetch until it is answered well. Everything here may be repeated: reads, cancellation, and starts,
 * which carry an idempotency key.
 * @type {(url: string, init: RequestInit, tries: number) => Promise<Response>}
 */
async function sent(url, init, tries) {
  for (let attempt = 1; ; attempt += 1) {
    /** @type {ChargehandError} */
    let error;
    try {
      const response = await fetch(url, { cache: "no-store", credentials: "omit", ...init });
      if (response.ok) return response;
      error = await errorOf(response);
      if (!TRANSIENT.has(response.status)) throw error;
    } catch (reason) {
      if (init.signal?.aborted || reason instanceof ChargehandError) throw reason;
      error = new ChargehandError(`Chargehand does not answer at ${shown(url)}: ${reason}`, {
        code: "Unreachable",
      });
    }
    const wishedS = Number(error.details.retry_after_s ?? 0);
    if (attempt >= tries || wishedS > LONGEST_WISH_S) throw error;
    await wait(Math.max(delayMs(attempt), 1000 * wishedS), init.signal);
  }
}

/**
 * The events of as many connections as it takes, each once. Those `ofOneRun` have growing ids, and
 * end behind `done`.
 * @type {(open: (init: RequestInit) => Promise<Response>, tries: number, last: string | undefined,
 *   signal: AbortSignal | undefined, ofOneRun: boolean) => AsyncGenerator<RunEvent>}
 */
async function* resumed(open, tries, last, signal, ofOneRun) {
  for (let fruitless = 0; ; ) {
    const connection = new AbortController();
    const abort = () => connection.abort(signal?.reason);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    const opened = Date.now();
    const before = last;
    try {
      const headers = new Headers({ Accept: "text/event-stream" });
      if (last !== undefined) headers.set("Last-Event-ID", last);
      const response = await open({ headers, signal: connection.signal });
      if (response.status === 204 || !response.body) return;
      for await (const event of parsed(response.body, connection)) {
        if (ofOneRun && last !== undefined && !isLater(event.id, last)) continue;
        last = event.id || last;
        // An id alone says where a user's topic begins.
        if (event.data === undefined) continue;
        yield event;
        if (ofOneRun && event.type === "done") return;
      }
    } catch (reason) {
      if (signal?.aborted || reason instanceof ChargehandError) throw reason;
    } finally {
      signal?.removeEventListener("abort", abort);
      connection.abort();
    }
    const good = last !== before || Date.now() - opened >= GOOD_CONNECTION_MS;
    fruitless = good ? 0 : fruitless + 1;
    if (fruitless >= tries) {
      const message = "The events break off again and again. The run goes on.";
      throw new ChargehandError(message, { code: "Unreachable" });
    }
    await wait(delayMs(fruitless), signal);
  }
}

/**
 * The server-sent events of a body (WHATWG HTML, section 9.2.6); a silent connection is aborted.
 * Where an id came alone, `data` is undefined.
 * @type {(body: ReadableStream<Uint8Array>, connection: AbortController) =>
 *   AsyncGenerator<RunEvent>}
 */
async function* parsed(body, connection) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let [buffer, id, type, idCame] = ["", "", "", false];
  let data = /** @type {string[]} */ ([]);
  for (;;) {
    const silence = setTimeout(() => connection.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    buffer += decoder.decode(value, { stream: true });
    // The last piece may go on; a CR at its end may be half of a CRLF.
    const lines = buffer.split(/\r\n|\n|\r(?!$)/);
    buffer = lines.pop() ?? "";
    for (const line of lines) {
      const [, field = "", text = ""] = /^([^:]*)(?:: ?)?([^]*)$/.exec(line) ?? [];
      if (field === "event") type = text;
      else if (field === "data") data.push(text);
      else if (field === "id" && !text.includes("\0")) [id, idCame] = [text, true];
      else if (line === "") {
        const json = data.join("\n") || undefined;
        if (json || idCame) yield { id, type: type || "message", data: json && JSON.parse(json) };
        [type, data, idCame] = ["", [], false];
      }
    }
  }
}

/** @type {(response: Response) => Promise<ChargehandError>} */
async function errorOf(response) {
  const document = await response.json().catch(() => null);
  const { code, message, details, request_id } = document?.error ?? {};
  const { status } = response;
  return new ChargehandError(message ?? `${shown(response.url)} answered with ${status}.`, {
    code: code ?? `HTTP${status}`,
    status,
    details: details ?? {},
    requestId: request_id ?? "",
  });
}

/** @type {(id: string, other: string) => boolean} whether an id, `<epoch>.<seq>`, is behind another */
function isLater(id, other) {
  const [epoch = 0, seq = 0] = id.replace(/.*:/, "").split(".").map(Number);
  const [otherEpoch = 0, otherSeq = 0] = other.replace(/.*:/, "").split(".").map(Number);
  return epoch > otherEpoch || (epoch === otherEpoch && seq > otherSeq);
}

/** @type {(url: string) => string} without its parameters: a token may be among them */
const shown = (url) => url.replace(/\?.*/, "");

/** @type {(failures: number) => number} doubling, bounded, with jitter */
const delayMs = (failures) =>
  Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** failures) * (0.5 + Math.random() / 2);

/** @type {(ms: number, signal: AbortSignal | null | undefined) => Promise<void>} */
function wait(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(signal?.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", stop), resolve()), ms);
    signal?.aborted ? stop() : signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Not randomUUID, which pages have only over HTTPS and on the machine itself. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
