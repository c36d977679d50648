/**
 * One problem in a user's input. All problems of an input are reported together; an `error` refuses the whole input, a
 * `warning` does not.
 */
export type Problem = {
  readonly severity: 'error' | 'warning';
  readonly fileName: string | null;
  /** Number of the document in the input, counted from 1; null: not known. */
  readonly document: number | null;
  /** Line in the whole input, counted from 1; null: not known. */
  readonly line: number | null;
  /** `SegmentationRule/db-only` or `Workload/billing/api`; null when the document has no readable name. */
  readonly resource: string | null;
  /** `spec.from[0].segment`; empty for the document as a whole. */
  readonly path: string;
  readonly message: string;
  /** How to fix it: the nearest name, the allowed values or an example. */
  readonly hint: string;
  /** Of a warning that comes with a change: it was there before, about a document that the change does not contain. */
  readonly isEarlier?: true;
};

/** `rules.yaml:12: SegmentationRule/db-only: spec.from[0].segment: there is no such segment (did you mean "batch"?)`. */
export function formatProblem(problem: Problem): string {
  const place = [problem.fileName ?? (problem.line === null ? null : 'line'), problem.line].filter((x) => x !== null);
  const parts = [place.join(':'), problem.resource ?? '', problem.path, problem.message].filter((part) => part !== '');
  const text = parts.join(': ');
  return problem.hint === '' ? text : `${text} (${problem.hint})`;
}

/** The segments of a path that {@link formatPath} wrote. */
export function parsePath(text: string): PropertyKey[] {
  const segments: PropertyKey[] = [];
  for (const [, name, index, quoted] of text.matchAll(/([A-Za-z_$][\w$]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]/g)) {
    if (name !== undefined) segments.push(name);
    else if (index !== undefined) segments.push(Number(index));
    else if (quoted !== undefined) segments.push(JSON.parse(quoted) as string);
  }
  return segments;
}

/** Formats path segments as problems show them: `spec.from[0].labels["app.kubernetes.io/name"]`. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const segment of path) {
    if (typeof segment === 'number') text += `[${segment}]`;
    else if (/^[A-Za-z_$][\w$]*$/.test(String(segment))) text += text === '' ? String(segment) : `.${String(segment)}`;
    else text += `[${JSON.stringify(String(segment))}]`;
  }
  return text;
}
