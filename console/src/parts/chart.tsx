// A chart over time. Its figures are those of the points given; nothing is made up between them.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { useCell } from "../state/cell";
import { dark } from "../state/theme";

export interface Line {
  name: string;
  colour: "accent" | "good" | "warn" | "calm";
  dashed?: boolean;
}

export interface ChartProps {
  label: string;
  times: readonly number[];
  values: readonly (readonly (number | null)[])[];
  lines: readonly Line[];
  format(value: number): string;
  /** Steps, for what changes by jumps. */
  stepped?: boolean;
}

const HEIGHT_PIXELS = 150;

export function Chart(props: ChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const isDark = useCell(dark);
  const data = [props.times, ...props.values] as unknown as uPlot.AlignedData;

  useEffect(() => {
    const element = place.current!;
    const made = new uPlot(buildOptions(props, element.clientWidth), data, element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT_PIXELS }));
    observer.observe(element);
    return () => (observer.disconnect(), made.destroy());
  }, [isDark]);
  useEffect(() => plot.current?.setData(data), [props.times, props.times.length, props.times.at(-1)]);

  const last = props.values.map((values) => values.at(-1));
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
      { ...axis, space: 80, size: 26, values: (_plot, times) => times.map((time) => new Date(time * 1000).toLocaleTimeString("en-GB")) },
      { ...axis, size: 48, space: 34, values: (_plot, numbers) => numbers.map((number) => (Number.isInteger(number) || number < 1 ? String(number) : number.toFixed(1))) },
    ],
    series: [
      {},
      ...props.lines.map((item, index) => ({
        stroke: colours[index]!,
        width: 1.6,
        points: { show: false },
        ...(item.dashed ? { dash: [5, 4] } : {}),
        ...(index === 0 ? { fill: colours[index]!.replace("rgb(", "rgba(").replace(")", ", 0.09)") } : {}),
        ...(props.stepped ? { paths: uPlot.paths.stepped!({ align: 1 }) } : {}),
      })),
    ],
  };
  return options;
}
