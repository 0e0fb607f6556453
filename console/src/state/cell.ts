// A value that components follow: the smallest store that does.
import { useEffect, useState } from "preact/hooks";

export class Cell<T> {
  private listeners = new Set<() => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(value: T): void {
    if (Object.is(value, this.current)) return;
    this.current = value;
    this.listeners.forEach((listener) => listener());
  }

  update(change: Partial<T>): void {
    this.set({ ...this.current, ...change });
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

/** The value of a cell; the component is drawn again when it changes. */
export function useCell<T>(cell: Cell<T>): T {
  const [, redraw] = useState(0);
  const drawn = cell.value;
  useEffect(() => {
    const listener = () => redraw((count) => count + 1);
    if (!Object.is(cell.value, drawn)) listener(); // it changed before anybody listened
    return cell.subscribe(listener);
  }, [cell]);
  return drawn;
}
