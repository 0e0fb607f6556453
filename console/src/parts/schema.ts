// From the schema of a task's parameters to the fields of a form, and from what was typed to arguments.
export type Schema = Record<string, unknown>;

export type Kind = "text" | "integer" | "number" | "boolean" | "choice" | "json";

export interface Field {
  name: string;
  kind: Kind;
  required: boolean;
  /** The values of a choice. */
  choices: readonly unknown[];
  /** As it would be typed; empty when there is none. */
  initial: string;
  nullable: boolean;
  hint: string;
}

/** What was typed is not what the field takes. */
export class InputError extends Error {
  constructor(readonly field: string, message: string) {
    super(message);
  }
}

export function buildFields(parameters: Schema | null): Field[] {
  const properties = (parameters?.["properties"] ?? {}) as Record<string, Schema>;
  const required = new Set((parameters?.["required"] ?? []) as string[]);
  return Object.entries(properties).map(([name, schema]) => buildField(name, schema, required.has(name)));
}

function buildField(name: string, schema: Schema, required: boolean): Field {
  const options = (schema["anyOf"] ?? []) as Schema[];
  const real = options.filter((option) => option["type"] !== "null");
  const inner = real.length === 1 ? { ...real[0]!, ...("default" in schema ? { default: schema["default"] } : {}) } : schema;
  const kind = findKind(inner);
  const value = inner["default"];
  return {
    name,
    kind,
    required,
    choices: (inner["enum"] ?? []) as unknown[],
    initial: value === undefined || value === null ? "" : kind === "json" || kind === "choice" ? JSON.stringify(value) : String(value),
    nullable: real.length < options.length,
    hint: kind === "json" ? describeJson(inner) : String(inner["format"] ?? kind),
  };
}

function findKind(schema: Schema): Kind {
  if (Array.isArray(schema["enum"])) return "choice";
  const type = schema["type"];
  if (type === "string") return "text";
  if (type === "integer" || type === "number" || type === "boolean") return type;
  return "json";
}

function describeJson(schema: Schema): string {
  const type = schema["type"];
  return type === "array" ? "JSON list" : type === "object" ? "JSON object" : "JSON";
}

/** The named arguments; what was left empty and need not be there is left out. Throws InputError. */
export function buildArguments(fields: readonly Field[], typed: ReadonlyMap<string, string>): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const field of fields) {
    const text = typed.get(field.name) ?? "";
    if (text === "" && !(field.required && field.kind === "text" && !field.nullable)) {
      if (!field.required) continue;
      if (!field.nullable) throw new InputError(field.name, `${field.name} is needed.`);
      values[field.name] = null;
    } else values[field.name] = parse(field, text);
  }
  return values;
}

function parse(field: Field, text: string): unknown {
  if (field.kind === "text") return text;
  if (field.kind === "boolean") return text === "true";
  if (field.kind === "json" || field.kind === "choice") return parseJson(field.name, text);
  const number = Number(text);
  if (!Number.isFinite(number) || (field.kind === "integer" && !Number.isInteger(number)))
    throw new InputError(field.name, `${field.name} must be ${field.kind === "integer" ? "a whole number" : "a number"}.`);
  return number;
}

export function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new InputError(name, `${name} must be JSON: texts stand in double quotes.`);
  }
}
