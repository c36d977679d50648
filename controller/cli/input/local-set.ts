import type { RuleSet } from '../../analysis/pairs/rule-set.js';
import { withoutPolicyTests } from '../../analysis/tests/policy-test.js';
import { parseDocuments, type ParsedDocuments } from '../../resources/parse/parse-documents.js';
import type { Problem } from '../../resources/kinds/problem.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { validateSet } from '../../compile/check/validate-set.js';
import { compileSnapshot } from '../../compile/compile-snapshot.js';
import { registryEntries } from '../../inventory/registry-entries.js';
import type { Cli } from '../cli.js';
import { CliError } from '../exit-codes.js';
import type { Input } from './input-files.js';

/** A set of documents from files, compiled as the controller would. */
export type LocalSet = RuleSet & { readonly resources: readonly Resource[]; readonly warnings: readonly Problem[] };

/** Parses the documents of files and skips PolicyTests in them. Never throws. */
export function parseRuleFiles(text: string): ParsedDocuments {
  const documents = withoutPolicyTests(text);
  return documents.isEmpty ? { resources: [], problems: [], locations: new Map() } : parseDocuments(documents.text);
}

/**
 * Compiles a whole set. Prints all problems, also those from parsing, with their file and line when one is an error, and
 * throws CliError (failed).
 */
export function compileLocalSet(
  cli: Cli,
  init: {
    readonly resources: readonly Resource[];
    readonly locations: ParsedDocuments['locations'];
    /** Problems from parsing the files. */
    readonly problems: readonly Problem[];
    readonly input: Input;
    readonly trustDomain: string;
  },
): LocalSet {
  const { resources, locations, problems, input, trustDomain } = init;
  const nowMs = cli.io.nowMs();
  const checked = [...problems, ...validateSet(resources, locations, { nowMs })];
  const isBroken = checked.some(({ severity }) => severity === 'error');
  const meta = { revision: 1, createdAt: new Date(nowMs).toISOString(), createdBy: 'culvert', trustDomain };
  const compiled = isBroken ? { problems: [] } : compileSnapshot(resources, meta);
  const registered = isBroken ? { problems: [] } : registryEntries(resources, trustDomain);
  if ('problems' in compiled || 'problems' in registered) {
    const late = [compiled, registered].flatMap((result) => ('problems' in result ? result.problems : []));
    cli.printProblems([...checked, ...late].map(input.locate));
    throw new CliError({
      exit: 'failed',
      code: 'INVALID_RESOURCES',
      message: 'the documents have problems',
      hint: 'fix the problems above',
    });
  }
  return { snapshot: compiled.snapshot, entries: registered.entries, resources, warnings: checked };
}
