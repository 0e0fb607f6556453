// Reading a resource: what it is, why not, and again when asked or after a while.
import { useEffect, useRef, useState } from "preact/hooks";
import { isAbort } from "../api/client";

export interface Reading<T> {
  value: T | undefined;
  error: unknown;
  refresh(): void;
  /** Puts what was learnt otherwise in place of what was read. */
  set(value: T): void;
}

/** Reads at once, when `key` changes, every `seconds` while the page is seen, and on `refresh`. */
export function useReading<T>(key: string, read: (signal: AbortSignal) => Promise<T>, seconds?: number): Reading<T> {
  const [state, setState] = useState<{ key: string; value?: T; error?: unknown }>({ key });
  const [turn, setTurn] = useState(0);
  const reader = useRef(read);
  reader.current = read;
  const refresh = () => setTurn((count) => count + 1);

  useEffect(() => {
    const ending = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    reader.current(ending.signal)
      .then((value) => setState({ key, value }))
      .catch((error: unknown) => {
        if (!isAbort(error)) setState((before) => (before.key === key ? { ...before, error } : { key, error }));
      })
      .finally(() => {
        if (seconds && !ending.signal.aborted) timer = setTimeout(() => document.hidden || refresh(), seconds * 1000);
      });
    return () => (clearTimeout(timer), ending.abort());
  }, [key, turn]);
  useEffect(() => {
    const show = () => document.hidden || refresh();
    document.addEventListener("visibilitychange", show);
    return () => document.removeEventListener("visibilitychange", show);
  }, []);

  const current = state.key === key ? state : { key };
  return { value: current.value, error: current.error, refresh, set: (value) => setState({ key, value }) };
}
