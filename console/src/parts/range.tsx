// The time that charts and sparklines show.
import type { JSX } from "preact";
import { RANGES, type Range } from "../state/history";

export function RangeChoice({ range, choose }: { range: Range; choose(range: Range): void }): JSX.Element {
  return (
    <div class="choice" role="group" aria-label="Time shown">
      {(Object.keys(RANGES) as Range[]).map((key) => (
        <button key={key} type="button" aria-pressed={key === range} onClick={() => choose(key)}>{RANGES[key]}</button>
      ))}
    </div>
  );
}
