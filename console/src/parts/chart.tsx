// A chart over time. Its figures are those of the points given; nothing is made up between them.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { useCell } from "../state/cell";
import { dark } from "../state/theme";

export interface Line {
  name: string;
  colour: "accent" | "good" | "warn" | "calm" | "bad";
  dashed?: boolean;
  /** Known now and then: the last known value stands above the chart. */
  sparse?: boolean;
}

/** Something that happened at a time (Unix seconds), told where one points at it. */
export interface Mark {
  at: number;
  title: string;
  text: string;
}

export interface ChartProps {
  label: string;
  times: readonly number[];
  values: readonly (readonly (number | null)[])[];
  lines: readonly Line[];
  format(value: number): string;
  /** Steps, for what changes by jumps. */
  stepped?: boolean;
  marks?: readonly Mark[];
}

const HEIGHT_PIXELS = 150;

export function Chart(props: ChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const isDark = useCell(dark);
  const marks = useRef(props.marks ?? []);
  marks.current = props.marks ?? [];
  const data = [props.times, ...props.values] as unknown as uPlot.AlignedData;

  useEffect(() => {
    const element = place.current!;
    const options = buildOptions(props, element.clientWidth);
    const made = new uPlot({ ...options, hooks: { draw: [(drawn) => drawMarks(drawn, marks.current)] } }, data, element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT_PIXELS }));
    observer.observe(element);
    return () => (observer.disconnect(), made.destroy());
  }, [isDark]);
  useEffect(() => plot.current?.setData(data), [props.times, props.times.length, props.times.at(-1)]);

  const last = props.values.map((values, index) =>
    props.lines[index]?.sparse ? values.findLast((value) => value !== null) : values.at(-1));
  return (
    <figure class="chart">
      <figcaption>
        <b>{props.label}</b>
        {props.lines.map((line, index) => (
          <span key={line.name} class={`key k-${line.colour} ${line.dashed ? "dashed" : ""}`}>
            {line.name} <b>{last[index] === null || last[index] === undefined ? "–" : props.format(last[index])}</b>
          </span>
        ))}
      </figcaption>
      <div class="plot" ref={place} role="img" aria-label={`${props.label} over time`} />
    </figure>
  );
}

/** Lines over the plot with what happened there; a list below the decision has the last of them for who cannot point. */
function drawMarks(plot: uPlot, marks: readonly Mark[]): void {
  const width = plot.over.clientWidth;
  // Those that stay are moved, so that what one points at does not go away under the pointer.
  const drawn = new Map([...plot.over.querySelectorAll<HTMLElement>(".happened")].map((element) => [element.dataset["at"], element]));
  for (const mark of marks) {
    const left = plot.valToPos(mark.at, "x");
    if (left < 0 || left > width) continue;
    const element = drawn.get(String(mark.at)) ?? plot.over.appendChild(buildMark(mark));
    drawn.delete(String(mark.at));
    element.classList.toggle("to-left", left > width / 2);
    element.style.left = `${left}px`;
  }
  drawn.forEach((element) => element.remove());
}

function buildMark(mark: Mark): HTMLElement {
  const element = document.createElement("span");
  element.className = "happened";
  element.dataset["at"] = String(mark.at);
  const tip = element.appendChild(document.createElement("span"));
  tip.className = "tip";
  tip.appendChild(document.createElement("b")).textContent = mark.title;
  tip.append(mark.text);
  return element;
}

function findLonely(plot: uPlot, series: number): number[] {
  const values = plot.data[series]!;
  const isKnown = (index: number) => values[index] !== null && values[index] !== undefined;
  return [...values.keys()].filter((index) => isKnown(index) && !isKnown(index - 1) && !isKnown(index + 1));
}

const MINUTES_ONLY_SECONDS = 2400;

function tick(time: number, shown: number): string {
  const text = new Date(time * 1000).toLocaleTimeString("en-GB");
  return shown > MINUTES_ONLY_SECONDS ? text.slice(0, 5) : text;
}

function buildOptions(props: ChartProps, width: number): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  // Colours are pairs of light and dark: the browser picks one where they are used.
  const probe = document.body.appendChild(document.createElement("span"));
  const colour = (name: string) => {
    probe.style.color = style.getPropertyValue(`--${name}`);
    return getComputedStyle(probe).color;
  };
  const [line, dim] = [colour("line"), colour("dim")];
  const colours = props.lines.map((item) => colour(item.colour));
  probe.remove();
  const axis = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11.5px system-ui" };
  const options: uPlot.Options = {
    width,
    height: HEIGHT_PIXELS,
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    padding: [8, 8, 0, 0],
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [
      { ...axis, space: 80, size: 26, values: (plot, times) => times.map((time) => tick(time, (plot.scales["x"]!.max ?? 0) - (plot.scales["x"]!.min ?? 0))) },
      { ...axis, size: 48, space: 34, values: (_plot, numbers) => numbers.map((number) => (Number.isInteger(number) || number < 1 ? String(number) : number.toFixed(1))) },
    ],
    series: [
      {},
      ...props.lines.map((item, index) => ({
        stroke: colours[index]!,
        width: 1.6,
        // A value between two that are not known has no line: a point says where.
        points: { show: item.sparse ?? false, size: 4, fill: colours[index]!, filter: findLonely },
        ...(item.dashed ? { dash: [5, 4] } : {}),
        ...(index === 0 ? { fill: colours[index]!.replace("rgb(", "rgba(").replace(")", ", 0.09)") } : {}),
        ...(props.stepped ? { paths: uPlot.paths.stepped!({ align: 1 }) } : {}),
      })),
    ],
  };
  return options;
}
