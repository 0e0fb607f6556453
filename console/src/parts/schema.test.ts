import { describe, expect, it } from "vitest";
import { buildArguments, buildFields, InputError } from "./schema";

const PARAMETERS = {
  type: "object",
  properties: {
    to: { type: "string" },
    count: { type: "integer", default: 3 },
    ratio: { anyOf: [{ type: "number" }, { type: "null" }], default: null },
    urgent: { type: "boolean", default: false },
    size: { enum: ["small", "large"], default: "small" },
    tags: { type: "array", items: { type: "string" } },
  },
  required: ["to", "tags"],
};
const fields = buildFields(PARAMETERS);
const initial = new Map(fields.map((field) => [field.name, field.initial]));
const typed = (values: Record<string, string>) => new Map([...initial, ...Object.entries(values)]);

describe("a form from the parameters of a task", () => {
  it("has a field of the right kind for each parameter", () => {
    expect(fields.map((field) => [field.name, field.kind, field.required, field.initial])).toEqual([
      ["to", "text", true, ""],
      ["count", "integer", false, "3"],
      ["ratio", "number", false, ""],
      ["urgent", "boolean", false, "false"],
      ["size", "choice", false, '"small"'],
      ["tags", "json", true, ""],
    ]);
  });

  it("leaves out what is empty and need not be there", () => {
    const values = buildArguments(fields, typed({ to: "ann", tags: '["a"]', count: "" }));
    expect(values).toEqual({ to: "ann", urgent: false, size: "small", tags: ["a"] });
  });

  it.each([
    [{ to: "ann", tags: "[" }, "tags"],
    [{ to: "ann", tags: "" }, "tags"],
    [{ to: "ann", tags: "[]", count: "1.5" }, "count"],
    [{ to: "ann", tags: "[]", ratio: "much" }, "ratio"],
  ])("says which field is wrong: %j", (values, field) => {
    expect(() => buildArguments(fields, typed(values))).toThrow(InputError);
    try {
      buildArguments(fields, typed(values));
    } catch (error) {
      expect((error as InputError).field).toBe(field);
    }
  });

  it("is empty for a task whose parameters nobody knows", () => {
    expect(buildFields(null)).toEqual([]);
  });
});
