import { Option, type Command } from 'commander';
import { runAssertions } from '../../analysis/tests/assertions.js';
import { outsideItsTime } from '../../analysis/tests/outside-its-time.js';
import { parsePolicyTests, type WrittenAssertion } from '../../analysis/tests/policy-test.js';
import type { ParsedDocuments } from '../../resources/parse/parse-documents.js';
import type { Problem } from '../../resources/kinds/problem.js';
import { resourceKey } from '../../resources/kinds/resource-key.js';
import type { SegmentationRule } from '../../resources/kinds/segmentation-rule.js';
import { controllerSettings } from '../../config/settings.js';
import { asEnforced, loadPresentSet } from '../client/present-set.js';
import type { Cli } from '../cli.js';
import { CliError, usageError } from '../exit-codes.js';
import { readInput, type Input } from '../input/input-files.js';
import { compileLocalSet, parseRuleFiles, type LocalSet } from '../input/local-set.js';
import { readTrustDomain } from '../input/text-arguments.js';
import { renderData } from '../view/output-format.js';
import {
  renderTestReport,
  testReportFormats,
  type TestedAssertion,
  type TestReportFormat,
} from '../view/render-tests.js';

type Options = { file: string[]; trustDomain: string; joined: boolean; output: TestReportFormat | 'json' | 'yaml' };

/** `culvert test`: checks assertions on documents in files. Makes no connection unless nodes are to be as they have joined. */
export function addTestCommand(program: Command, cli: Cli): void {
  program
    .command('test')
    .description('Run the PolicyTests and the tests of rules in files. Needs no controller without --joined.')
    .requiredOption('-f, --file <path...>', 'files, directories, or - for the standard input')
    .option(
      '--trust-domain <name>',
      'trust domain of the mesh',
      readTrustDomain,
      controllerSettings.trustDomain.default,
    )
    .option(
      '--joined',
      'ask the controller which nodes an agent has joined for: workloads on others count as without an agent, as for why, diff, lint and matrix; otherwise every node has one',
      false,
    )
    .addOption(
      new Option('-o, --output <format>', 'output format')
        .choices([...testReportFormats, 'json', 'yaml'])
        .default('text'),
    )
    .addHelpText('after', '\nExit code 1: an assertion fails; a right verdict by the wrong rule also fails.')
    .addHelpText('after', 'Example: culvert test -f rules/ --output junit > report.xml')
    .action(async (options: Options) => test(cli, options));
}

async function test(cli: Cli, { file, trustDomain, joined, output }: Options): Promise<void> {
  const { io } = cli;
  const input = await readInput(file, io);
  const tests = parsePolicyTests(input.text);
  const parsed = parseRuleFiles(input.text);
  const problems = distinct([...tests.problems, ...parsed.problems]);
  const { resources, locations } = parsed;
  const compiled = compileLocalSet(cli, { resources, locations, problems, input, trustDomain });
  cli.printProblems(compiled.warnings.map(input.locate));
  const set = joined ? await asJoined(cli, compiled) : compiled;
  const ofRules = testsOfRules(parsed);
  const written = [...tests.assertions, ...ofRules];
  if (written.length === 0) {
    const hint = 'add a PolicyTest, or tests in the spec of a SegmentationRule';
    throw usageError('these files contain no tests', hint);
  }
  const assertions = written.map(({ assertion }) => assertion);
  const clock = { nowMs: io.nowMs };
  const results = runAssertions({ ...set, assertions, clock });
  const tested = results.map((result, index) => {
    const rule = ofRules[index - tests.assertions.length]?.rule;
    const outside = rule === undefined ? null : outsideItsTime({ rule, test: result.assertion, clock });
    const isExplained = result.failure !== null && outside !== null;
    const failure = isExplained ? `${result.failure}; ${outside.text}: ${outside.hint}` : result.failure;
    return placed({ ...result, failure }, written[index], input);
  });
  io.print(output === 'json' || output === 'yaml' ? renderData(tested, output) : renderTestReport(tested, output));
  const failed = tested.filter(({ isPassed }) => !isPassed).length;
  if (failed === 0) return;
  throw new CliError({
    exit: 'failed',
    code: 'TESTS_FAILED',
    message: `${failed} of ${tested.length} tests failed`,
    hint: 'fix the rules or the tests',
  });
}

/** The set with the agents that the mesh has. */
async function asJoined(cli: Cli, set: LocalSet): Promise<LocalSet> {
  const present = await loadPresentSet(await cli.client());
  if (present.nodesWithAgent !== null) return asEnforced(set, present, cli.io.printError);
  throw new CliError({
    exit: 'failed',
    code: 'OTHER_VERSION',
    message: 'the controller does not say which nodes have an agent',
    hint: 'run it in the version of culvert, or test without --joined',
  });
}

/** Removes duplicates: both readers report a text that is not YAML. */
function distinct(problems: readonly Problem[]): Problem[] {
  const byText = new Map(problems.map((problem) => [`${problem.line} ${problem.path} ${problem.message}`, problem]));
  return [...byText.values()];
}

function testsOfRules({
  resources,
  locations,
}: ParsedDocuments): (WrittenAssertion & { readonly rule: SegmentationRule })[] {
  return resources.flatMap((resource) => {
    if (resource.kind !== 'SegmentationRule') return [];
    const location = locations.get(resourceKey(resource));
    return (resource.spec.tests ?? []).map((assertion, index) => ({
      assertion,
      rule: resource,
      test: `SegmentationRule/${resource.metadata.name}`,
      fileName: null,
      line: location?.lineOf(['spec', 'tests', index]) ?? null,
    }));
  });
}

function placed(
  result: ReturnType<typeof runAssertions>[number],
  written: WrittenAssertion | undefined,
  { locate }: Input,
): TestedAssertion {
  const { test = null, line: at = null } = written ?? {};
  const place = { severity: 'error', fileName: null, document: null, resource: null, path: '', message: '', hint: '' };
  const { fileName, line } = locate({ ...place, severity: 'error', line: at });
  return { ...result, test, fileName, line };
}
