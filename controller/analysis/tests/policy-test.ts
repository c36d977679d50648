import { Composer, LineCounter, type Document } from 'yaml';
import { z } from 'zod';
import { describeIssue } from '../../resources/parse/describe-issue.js';
import { fieldNotes } from '../../resources/kinds/field-notes.js';
import {
  apiVersionText,
  culvertApiVersion,
  kindText,
  meshMetadata,
  metadataText,
  specText,
} from '../../resources/kinds/metadata.js';
import { formatPath, type Problem } from '../../resources/kinds/problem.js';
import { ruleTestSchema, type RuleTest } from '../../resources/kinds/rule-test.js';
import { LimitError } from '../../resources/parse/document-limits.js';
import { lineOfPath, writtenAt, yamlProblems, yamlToJson, yamlTokens } from '../../resources/parse/yaml-document.js';

const testsField = z
  .array(ruleTestSchema)
  .min(1, 'must not be empty')
  .register(fieldNotes, { example: '[{ from: billing/api, to: billing/db:5432, expect: allow }]' });

/** A file of assertions for `culvert test`; it is never applied. */
export const policyTestSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('PolicyTest').describe(kindText),
    metadata: meshMetadata.describe(metadataText),
    spec: z
      .strictObject({ tests: testsField.describe('What must be decided of these connections.') })
      .describe(specText),
  })
  .describe('Assertions about the rules, for `culvert test`. It is never stored: `culvert apply` leaves it out.');

/** An assertion and its place in the text. */
export type WrittenAssertion = {
  readonly assertion: RuleTest;
  /** The name of its PolicyTest; null: it is in a bare list. */
  readonly test: string | null;
  readonly fileName: string | null;
  readonly line: number | null;
};

export type ParsedPolicyTests = {
  readonly assertions: readonly WrittenAssertion[];
  /** All problems of all documents. If there are any, do not use the rest. */
  readonly problems: readonly Problem[];
};

/** Whether {@link parsePolicyTests} reads a document (plain data): a PolicyTest, or a bare list of assertions. */
function isPolicyTest(json: unknown): boolean {
  if (Array.isArray(json)) return true;
  return typeof json === 'object' && json !== null && 'kind' in json && json.kind === 'PolicyTest';
}

/**
 * Parses the PolicyTests and bare lists of assertions in a text. `parseDocuments` reads documents of other kinds from
 * the result of {@link withoutPolicyTests}. Nothing is thrown.
 */
export function parsePolicyTests(
  text: string,
  { fileName = null }: { fileName?: string | null } = {},
): ParsedPolicyTests {
  const lines = new LineCounter();
  const assertions: WrittenAssertion[] = [];
  const problems: Problem[] = [];
  const add = (number: number | null, line: number | null, found: Partial<Problem> & { message: string }): void => {
    problems.push({
      severity: 'error',
      fileName,
      document: number,
      line,
      resource: null,
      path: '',
      hint: '',
      ...found,
    });
  };
  for (const { document, number, json } of documentsOf(text, lines, add)) {
    if (!isPolicyTest(json)) continue;
    const schema: z.ZodType = Array.isArray(json) ? testsField : policyTestSchema;
    const parsed = schema.safeParse(json);
    const test = nameOf(json);
    if (!parsed.success) {
      const resource = test === null ? null : `PolicyTest/${test}`;
      for (const { path, message, hint } of parsed.error.issues.flatMap((issue) =>
        describeIssue(schema, issue, json, (path) => writtenAt(document, path)),
      )) {
        add(number, lineOfPath(document, lines, path), { resource, path: formatPath(path), message, hint });
      }
      continue;
    }
    const path = Array.isArray(json) ? [] : ['spec', 'tests'];
    for (const [index, assertion] of testsOf(parsed.data).entries()) {
      assertions.push({ assertion, test, fileName, line: lineOfPath(document, lines, [...path, index]) });
    }
  }
  return { assertions, problems };
}

/** The text with the documents of {@link isPolicyTest} blanked out; every line keeps its number. */
export function withoutPolicyTests(text: string): { readonly text: string; readonly isEmpty: boolean } {
  const lines = new LineCounter();
  let rest = text;
  let kept = 0;
  for (const { document, json } of documentsOf(text, lines, () => kept++)) {
    if (!isPolicyTest(json)) {
      kept++;
      continue;
    }
    const [start, , end] = document.range;
    rest = rest.slice(0, start) + blank(text.slice(start, end)) + rest.slice(end);
  }
  return { text: rest, isEmpty: kept === 0 };
}

/** Replaces everything but line ends and document markers with spaces. */
function blank(document: string): string {
  return document.replaceAll(/^(---|\.\.\.)?(.*)$/gm, (_, marker: string | undefined, line: string) => {
    return (marker ?? '') + ' '.repeat(line.length);
  });
}

type Read = { readonly document: Document.Parsed; readonly number: number; readonly json: unknown };
type Report = (number: number | null, line: number | null, found: { message: string; hint: string }) => void;

function* documentsOf(text: string, lines: LineCounter, report: Report): Generator<Read> {
  let number = 0;
  try {
    const composer = new Composer({ merge: true, stringKeys: true, strict: true, uniqueKeys: false });
    for (const document of composer.compose(yamlTokens(text, lines))) {
      if (document.errors.length === 0 && document.contents === null) continue;
      number++;
      const unreadable = yamlProblems(document);
      for (const { offset, ...problem } of unreadable) report(number, lines.linePos(offset).line, problem);
      if (unreadable.length === 0) yield { document, number, json: yamlToJson(document) };
    }
  } catch (error) {
    if (error instanceof LimitError) {
      report(number + 1, lines.linePos(error.offset).line, error);
    } else if (error instanceof ReferenceError) {
      report(number, null, { message: 'an alias cannot be used here', hint: 'write the values out' });
    } else throw error;
  }
}

function testsOf(data: unknown): readonly RuleTest[] {
  if (Array.isArray(data)) return data as RuleTest[];
  return (data as z.output<typeof policyTestSchema>).spec.tests;
}

function nameOf(json: unknown): string | null {
  if (typeof json !== 'object' || json === null || !('metadata' in json)) return null;
  const { metadata } = json;
  const hasName = typeof metadata === 'object' && metadata !== null && 'name' in metadata;
  return hasName && typeof metadata.name === 'string' ? metadata.name : null;
}
