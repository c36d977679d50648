import assert from 'node:assert/strict';
import { validateSet } from '../../../controller/compile/check/validate-set.js';
import { formatProblem } from '../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { formatRuleRef, type Connection } from '../../../shared/policy/connection.js';
import { evaluate } from '../../../shared/policy/evaluate.js';
import { api, clock, connection, external, web } from './policy-fixture.js';
import { compileDocuments } from './policy-published-fixture.js';

/**
 * One sentence of a published API text, in our words, and what must follow of it here. `verdicts`: of dials from
 * billing/api, shop/web and an address outside in plaintext, to billing/db port 5432 unless `to` says otherwise: `a`llowed
 * or `d`enied. `refused` and `warned`: what the author reads. `nothing`: why the sentence says nothing that can be run.
 */
export type PublishedRow = {
  readonly says: string;
} & (
  | {
      readonly given: readonly object[];
      readonly verdicts: string;
      readonly to?: Partial<Connection>;
      /** The policies that are counted as ones that would have denied the first dial. */
      readonly audited?: readonly string[];
    }
  | { readonly given: readonly object[]; readonly refused: RegExp }
  | { readonly given: readonly object[]; readonly warned: RegExp }
  | { readonly nothing: string }
);

/** By the part of the text: a message and field, or a heading. */
export type PublishedText = Readonly<Record<string, readonly PublishedRow[]>>;

const sources = [api, web, external('203.0.113.9')];

/** Checks what follows of one sentence. */
export function checkPublished(row: PublishedRow): void {
  if ('nothing' in row) {
    assert.ok(row.nothing.length > 0);
    return;
  }
  if ('verdicts' in row) {
    const snapshot = compileDocuments(...row.given);
    const decisions = sources.map((source) => evaluate(snapshot, connection({ source, ...row.to }), clock));
    assert.equal(decisions.map(({ verdict }) => verdict[0]).join(''), row.verdicts);
    if (row.audited !== undefined) assert.deepEqual(decisions[0]?.audited.map(formatRuleRef), row.audited);
    return;
  }
  const { resources, problems } = parseDocuments(row.given.map((each) => JSON.stringify(each)).join('\n---\n'));
  if ('refused' in row) {
    assert.match(problems.map(formatProblem).join('\n'), row.refused);
    return;
  }
  assert.deepEqual(problems, []);
  const found = validateSet(resources).map((problem) => `${problem.severity} ${formatProblem(problem)}`);
  assert.match(found.join('\n'), row.warned);
}
