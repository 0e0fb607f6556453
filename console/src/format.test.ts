import { describe, expect, it } from "vitest";
import { count, duration, rate, UNKNOWN } from "./format";

describe("figures", () => {
  it("tell unknown from zero", () => {
    expect([count(null), rate(null), duration(null)]).toEqual([UNKNOWN, UNKNOWN, UNKNOWN]);
    expect([count(0), rate(0), duration(0)]).toEqual(["0", "0", "0 s"]);
  });

  it.each([
    [0.0042, "4 ms"], [0.25, "250 ms"], [9.96, "10.0 s"], [59, "59 s"], [61, "1 min 1 s"], [3_725, "1 h 2 min"], [200_000, "2 d 7 h"],
  ])("of %d seconds", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  it.each([[0.004, "<0.01"], [0.333, "0.33"], [12.345, "12.3"], [1234.5, "1,235"]])("of %d a second", (value, text) => {
    expect(rate(value)).toBe(text);
  });
});
