// Requests to the API that sent this page: one place for the key, the time limit and problem documents.
import type { FieldErrorModel, ProblemModel } from "./types";
import { rejectKey, session } from "../state/session";

const LIMIT_MILLISECONDS = 20_000;
/** The console lies at `<prefix>/ui/`, the API beside it. */
export const API = new URL("../api/v1/", document.baseURI);

/** An answer that is none of success; `status` 0 when there was no answer at all. */
export class Problem extends Error {
  readonly status: number;
  readonly errors: readonly FieldErrorModel[];

  constructor(status: number, detail: string, errors: readonly FieldErrorModel[] = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }

  get isOutage(): boolean {
    return this.status === 0 || this.status >= 502;
  }
}

export interface Options {
  method?: "GET" | "POST" | "DELETE";
  body?: unknown;
  query?: Record<string, string | number | readonly string[] | undefined>;
  signal?: AbortSignal;
}

/** The address of a resource; `parts` are escaped. */
export function address(parts: readonly string[], query: Options["query"] = {}): URL {
  const url = new URL(`./${parts.map(encodeURIComponent).join("/").replaceAll("%3A", ":")}`, API);
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === "") continue;
    for (const item of typeof value === "object" ? value : [value]) url.searchParams.append(name, String(item));
  }
  return url;
}

/** Headers of every request: the key, if one was given. */
export function headers(more: Record<string, string> = {}): Record<string, string> {
  const key = session.value.key;
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

/** The document of an answer. Throws Problem; AbortError when the caller gave up. */
export async function request<T>(parts: readonly string[], options: Options = {}): Promise<T> {
  const limit = AbortSignal.timeout(LIMIT_MILLISECONDS);
  const hasBody = options.body !== undefined;
  const answer = await send(address(parts, options.query), {
    method: options.method ?? "GET",
    headers: headers(hasBody ? { "Content-Type": "application/json" } : {}),
    signal: options.signal ? AbortSignal.any([options.signal, limit]) : limit,
    cache: "no-store",
    ...(hasBody ? { body: JSON.stringify(options.body) } : {}),
  });
  try {
    return (await answer.json()) as T;
  } catch {
    options.signal?.throwIfAborted();
    throw new Problem(0, "The API's answer broke off.");
  }
}

/** A successful answer. Throws Problem; a missing or wrong key also asks the user for one. */
export async function send(url: URL, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "The API does not answer.");
  }
  if (answer.ok) return answer;
  const problem = await readProblem(answer);
  if (answer.status === 401) rejectKey();
  throw problem;
}

async function readProblem(answer: Response): Promise<Problem> {
  try {
    const document = (await answer.json()) as ProblemModel;
    return new Problem(answer.status, document.detail || document.title, document.errors ?? []);
  } catch {
    return new Problem(answer.status, `The API answered ${answer.status}.`);
  }
}

/** What to show of anything that was thrown. */
export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
