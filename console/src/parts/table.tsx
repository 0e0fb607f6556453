// A table that draws only the rows in sight: 10,000 rows scroll like 50. Rows are walked with j and k or the arrows.
import type { ComponentChildren, JSX, RefObject, TargetedKeyboardEvent } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

export interface Column<T> {
  id: string;
  title: string;
  /** Width in CSS; the one without takes the rest. */
  width?: string;
  numeric?: boolean;
  /** Left out on screens that are narrower: s < m < l. */
  from?: "s" | "m" | "l";
  hint?: string;
  sortable?: boolean;
  draw(row: T): ComponentChildren;
}

export interface Sorting {
  column: string;
  descending: boolean;
}

export interface TableProps<T> {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  keyOf(row: T): string;
  open?(row: T): void;
  sorting?: Sorting;
  sort?(column: string): void;
  selected?: ReadonlySet<string>;
  toggle?(key: string): void;
  /** The last rows are in sight. */
  reachEnd?(): void;
  /** Which rows are in sight. */
  see?(first: number, last: number): void;
  after?: ComponentChildren;
}

export const ROW_PIXELS = 36;
const SPARE_ROWS = 12;

export function Table<T>(props: TableProps<T>): JSX.Element {
  const { rows, columns, keyOf } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const view = useView(scroller);
  const [active, setActive] = useState<string | null>(null);
  const first = Math.max(0, Math.floor(view.top / ROW_PIXELS) - SPARE_ROWS);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW_PIXELS) + SPARE_ROWS);

  useEffect(() => {
    props.see?.(first, last);
    if (rows.length > 0 && last >= rows.length - SPARE_ROWS) props.reachEnd?.();
  }, [first, last, rows.length]);

  return (
    <div
      class="scroller" ref={scroller} tabIndex={0} role="region" aria-label={`${props.label}, ${rows.length} rows`}
      onKeyDown={(event) => walk(event, props, active, setActive)}
    >
      <table class="rows" aria-rowcount={rows.length + 1}>
        <colgroup>
          {props.toggle && <col class="mark" />}
          {columns.map((column) => (
            <col key={column.id} class={column.from && `from-${column.from}`} style={{ width: column.width ?? "auto" }} />
          ))}
        </colgroup>
        <thead>
          <tr>
            {props.toggle && <th class="mark" scope="col"><span class="unseen">Selected</span></th>}
            {columns.map((column) => <Heading key={column.id} column={column} {...props} />)}
          </tr>
        </thead>
        <tbody>
          <Gap rows={first} />
          {rows.slice(first, last).map((row, index) => (
            <Row key={keyOf(row)} row={row} place={first + index} active={active} activate={setActive} {...props} />
          ))}
          <Gap rows={rows.length - last} />
        </tbody>
      </table>
      {props.after}
    </div>
  );
}

/** Which part of the table is in sight, in pixels. */
function useView(scroller: RefObject<HTMLDivElement | null>): { top: number; height: number } {
  const [view, setView] = useState({ top: 0, height: 800 });
  useLayoutEffect(() => {
    const element = scroller.current!;
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    measure();
    return () => (observer.disconnect(), element.removeEventListener("scroll", measure));
  }, []);
  return view;
}

/** A key was pressed in the table: to another row, or something with the one that is active. */
function walk<T>(
  event: TargetedKeyboardEvent<HTMLDivElement>, { rows, keyOf, open, toggle }: TableProps<T>,
  active: string | null, activate: (key: string) => void,
): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const scroller = event.currentTarget;
  const isHere = event.target === scroller;
  const at = rows.findIndex((row) => keyOf(row) === active);
  const page = Math.floor(scroller.clientHeight / ROW_PIXELS) - 1;
  const steps: Record<string, number> = {
    ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1,
    PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1,
  };
  const row = rows[at];
  const step = steps[event.key];
  if (step !== undefined) {
    const index = Math.max(0, Math.min(rows.length - 1, step));
    if (rows[index]) activate(keyOf(rows[index]));
    reveal(scroller, index);
  } else if (event.key === "Enter" && isHere && row) open?.(row);
  else if ((event.key === "x" || (event.key === " " && isHere)) && row && toggle) toggle(keyOf(row));
  else return;
  event.preventDefault();
}

function reveal(scroller: HTMLElement, index: number): void {
  const top = index * ROW_PIXELS;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  const overhang = top + 2 * ROW_PIXELS - scroller.scrollTop - scroller.clientHeight;
  if (overhang > 0) scroller.scrollTop += overhang;
}

interface RowProps<T> extends TableProps<T> {
  row: T;
  place: number;
  active: string | null;
  activate(key: string): void;
}

function Row<T>({ row, place, active, activate, columns, keyOf, selected, toggle }: RowProps<T>): JSX.Element {
  const key = keyOf(row);
  return (
    <tr aria-rowindex={place + 2} class={key === active ? "active" : undefined} data-key={key} onClick={() => activate(key)}>
      {toggle && (
        <td class="mark">
          <input
            type="checkbox" aria-label={`Select ${key}`} checked={selected?.has(key) ?? false}
            onChange={() => toggle(key)} tabIndex={-1}
          />
        </td>
      )}
      {columns.map((column) => (
        <td key={column.id} class={classes(column)}>{column.draw(row)}</td>
      ))}
    </tr>
  );
}

/** Room for rows that are not drawn. */
function Gap({ rows }: { rows: number }): JSX.Element | null {
  return rows > 0 ? <tr aria-hidden="true" class="gap" style={{ height: `${rows * ROW_PIXELS}px` }} /> : null;
}

function Heading<T>({ column, sorting, sort }: TableProps<T> & { column: Column<T> }): JSX.Element {
  const isSorted = sorting?.column === column.id;
  const order = isSorted ? (sorting.descending ? "descending" : "ascending") : undefined;
  return (
    <th scope="col" class={classes(column)} aria-sort={order} title={column.hint}>
      {column.sortable && sort ? (
        <button type="button" class="sort" onClick={() => sort(column.id)}>
          {column.title}<span aria-hidden="true" class="arrow">{isSorted ? (sorting.descending ? "▾" : "▴") : ""}</span>
        </button>
      ) : column.title}
    </th>
  );
}

function classes(column: { numeric?: boolean; from?: string; id: string }): string {
  return [`c-${column.id}`, column.numeric && "numeric", column.from && `from-${column.from}`].filter(Boolean).join(" ");
}
