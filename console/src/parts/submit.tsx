// Submitting a task: a form made from the parameters that the workers announced, or plain JSON.
import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { describe, request } from "../api/client";
import type { SubmittedTaskModel, TaskNameModel, TaskSubmission } from "../api/types";
import { go, href } from "../state/router";
import { tell } from "./dialogs";
import { buildArguments, buildFields, InputError, parseJson, type Field } from "./schema";

export function SubmitForm({ queue, tasks }: { queue: string; tasks: readonly TaskNameModel[] }): JSX.Element {
  const [name, setName] = useState(tasks[0]?.name ?? "");
  const known = tasks.find((task) => task.name === name);
  return (
    <div class="body">
      <label class="field">
        <span>Task</span>
        {tasks.length
          ? <select value={name} onChange={(event) => setName(event.currentTarget.value)}>{tasks.map((task) => <option key={task.name}>{task.name}</option>)}</select>
          : <input value={name} placeholder="name of the task" onInput={(event) => setName(event.currentTarget.value)} />}
      </label>
      {known && typeof known.parameters?.["description"] === "string" && <p class="note">{known.parameters["description"]}</p>}
      <Arguments key={name} queue={queue} name={name} task={known} />
    </div>
  );
}

function Arguments({ queue, name, task }: { queue: string; name: string; task: TaskNameModel | undefined }): JSX.Element {
  const fields = useMemo(() => buildFields(task?.parameters ?? null), [task?.parameters]);
  const isOpen = !task?.parameters || task.parameters["additionalProperties"] !== false || task.parameters["x-variadic"] === true;
  const [typed, setTyped] = useState<ReadonlyMap<string, string>>(new Map(fields.map((field) => [field.name, field.initial])));
  const [wrong, setWrong] = useState<{ field: string; text: string } | null>(null);
  const [busy, setBusy] = useState(false);
  const type = (field: string, text: string) => setTyped(new Map(typed).set(field, text));
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setWrong(null);
    try {
      const submission = buildSubmission(queue, name, fields, typed, isOpen);
      const accepted = await request<SubmittedTaskModel>(["tasks"], { method: "POST", body: submission });
      tell(`Accepted: ${accepted.id}`);
      go(href(["tasks", accepted.id]));
    } catch (error) {
      setWrong({ field: error instanceof InputError ? error.field : "", text: describe(error) });
      setBusy(false);
    }
  };
  return (
    <form class="submit" onSubmit={submit}>
      {fields.map((field) => (
        <Input key={field.name} field={field} text={typed.get(field.name) ?? ""} wrong={wrong?.field === field.name} type={(text) => type(field.name, text)} />
      ))}
      {isOpen && <Area name="args" hint="positional, JSON list" text={typed.get(" args") ?? ""} wrong={wrong?.field === "args"} type={(text) => type(" args", text)} />}
      {isOpen && <Area name="kwargs" hint={fields.length ? "more of them, JSON object" : "named, JSON object"} text={typed.get(" kwargs") ?? ""} wrong={wrong?.field === "kwargs"} type={(text) => type(" kwargs", text)} />}
      <details>
        <summary>When and how often</summary>
        <div class="more">
          <Plain name="Wait before it starts, seconds" min="0" text={typed.get(" countdown") ?? ""} type={(text) => type(" countdown", text)} />
          <Plain name="Attempts in all" min="1" text={typed.get(" attempts") ?? ""} type={(text) => type(" attempts", text)} />
          <Plain name="Priority, 0 to 9" min="0" max="9" text={typed.get(" priority") ?? ""} type={(text) => type(" priority", text)} />
        </div>
      </details>
      {wrong && <p class="wrong" role="alert">{wrong.text}</p>}
      <div class="buttons"><button class="primary" disabled={busy || !name}>Submit</button></div>
    </form>
  );
}

function buildSubmission(
  queue: string, task: string, fields: readonly Field[], typed: ReadonlyMap<string, string>, isOpen: boolean,
): TaskSubmission {
  const get = (name: string) => typed.get(` ${name}`)?.trim() ?? "";
  const args = isOpen && get("args") ? parseJson("args", get("args")) : [];
  if (!Array.isArray(args)) throw new InputError("args", "args must be a JSON list.");
  const more = isOpen && get("kwargs") ? parseJson("kwargs", get("kwargs")) : {};
  if (typeof more !== "object" || more === null || Array.isArray(more)) throw new InputError("kwargs", "kwargs must be a JSON object.");
  // Positional arguments fill the first fields: those are then not sent by name.
  const named = args.length ? fields.filter((field) => (typed.get(field.name) ?? "") !== field.initial) : fields;
  return {
    queue,
    task,
    args,
    kwargs: { ...buildArguments(named, typed), ...(more as Record<string, unknown>) },
    ...(get("countdown") ? { countdown_seconds: Number(get("countdown")) } : {}),
    ...(get("attempts") ? { retry: { max_attempts: Number(get("attempts")) } } : {}),
    ...(get("priority") ? { priority: Number(get("priority")) } : {}),
  };
}

interface Typing {
  text: string;
  type(text: string): void;
  wrong?: boolean;
}

function Input({ field, text, type, wrong }: Typing & { field: Field }): JSX.Element {
  const label = <span>{field.name}<small> {field.hint}{field.required ? "" : ", optional"}</small></span>;
  if (field.kind === "json") return <Area name={field.name} hint={`${field.hint}${field.required ? "" : ", optional"}`} text={text} type={type} wrong={wrong ?? false} />;
  const choices = field.kind === "boolean" ? ["true", "false"] : field.choices.map((choice) => JSON.stringify(choice));
  if (field.kind === "boolean" || field.kind === "choice")
    return (
      <label class="field">
        {label}
        <select value={text} onChange={(event) => type(event.currentTarget.value)}>
          {(!field.initial || !field.required) && <option value="" />}
          {choices.map((choice) => <option key={choice} value={choice}>{choice.replace(/^"|"$/g, "")}</option>)}
        </select>
      </label>
    );
  const mode = field.kind === "text" ? "text" : "decimal";
  return <label class="field">{label}<input value={text} inputMode={mode} aria-invalid={wrong} onInput={(event) => type(event.currentTarget.value)} /></label>;
}

function Area({ name, hint, text, type, wrong }: Typing & { name: string; hint: string }): JSX.Element {
  return (
    <label class="field">
      <span>{name}<small> {hint}</small></span>
      <textarea rows={2} spellcheck={false} value={text} aria-invalid={wrong} onInput={(event) => type(event.currentTarget.value)} />
    </label>
  );
}

function Plain({ name, text, type, min, max }: Typing & { name: string; min: string; max?: string }): JSX.Element {
  return <label class="field"><span>{name}</span><input type="number" min={min} {...(max ? { max } : {})} step="any" value={text} onInput={(event) => type(event.currentTarget.value)} /></label>;
}
