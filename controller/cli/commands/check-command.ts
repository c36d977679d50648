import type { Command } from 'commander';
import { version } from '../../../shared/version.js';
import type { ResourceList, RolloutAnswer, StatusAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { CliError, usageError } from '../exit-codes.js';
import type { MeshCheck } from '../view/mesh-check.js';
import { checkMesh } from '../view/mesh-checks.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { paint } from '../view/terminal.js';
import { printable } from '../view/table.js';

type Options = {
  strict?: boolean;
  pre?: boolean;
  filename: readonly string[];
  kubectl?: string;
  kubeContext?: string;
  output: OutputFormat;
};

/** `culvert check`: reports the health of the mesh, for people and for monitoring. */
export function addCheckCommand(program: Command, cli: Cli): void {
  const command = program
    .command('check')
    .description(
      'Check the health of controller, agents, certificates, clocks and rules; with --pre, whether a Kubernetes cluster can take an installation. Exits with 1 when a check fails.',
    )
    .option('--strict', 'also exit with 1 for a warning')
    .option('--pre', 'check a cluster before the installation, with kubectl; nothing is changed there')
    .option(
      '-f, --filename <path...>',
      'with --pre: the objects that will be applied, - for standard input (default: those of culvert install)',
      [],
    )
    .option('--kubectl <program>', 'with --pre: kubectl of the cluster (default: "kubectl")')
    .option('--kube-context <context>', "with --pre: context of kubectl (default: the current one's)")
    .addHelpText('after', '\nExample: culvert check --strict')
    .addHelpText('after', 'Example: culvert install --storage empty-dir | culvert check --pre -f -');
  addOutputOption(command).action(async (options: Options) => {
    const { strict = false, output } = options;
    const checks = options.pre === true ? await checksBefore(options, cli) : await checksOfMesh(options, cli);
    cli.io.print(output === 'table' ? renderChecks(checks) : renderData(checks, output));
    const wrong = checks.filter(({ state }) => state === 'fail' || (strict && state === 'warn'));
    if (wrong.length > 0) throw checksFailed(wrong.length);
  });
}

async function checksBefore({ filename, kubectl, kubeContext }: Options, cli: Cli): Promise<MeshCheck[]> {
  const { checkBefore } = await import('./check-before.js');
  const options = { files: filename, kubectl: kubectl ?? 'kubectl', kubeContext: kubeContext ?? null };
  return await checkBefore(options, cli.io);
}

async function checksOfMesh({ filename, kubectl, kubeContext }: Options, cli: Cli): Promise<MeshCheck[]> {
  if (filename.length > 0 || kubectl !== undefined || kubeContext !== undefined) {
    throw usageError('-f, --kubectl and --kube-context are for --pre', 'add --pre, or leave them out');
  }
  const client = await cli.client();
  const [status, workloads, { uncaptured }] = await Promise.all([
    client.call<StatusAnswer>({ method: 'GET', path: ['status'] }),
    client.call<ResourceList>({ method: 'GET', path: ['resources', 'Workload'] }),
    // A controller of an earlier version does not say.
    client.call<Partial<RolloutAnswer>>({ method: 'GET', path: ['rollout'], query: { capture: 'true' } }),
  ]);
  return checkMesh({
    status,
    workloadsByNode: countByNode(workloads),
    uncaptured: uncaptured ?? null,
    version,
    nowMs: cli.io.nowMs(),
  });
}

function countByNode({ items }: ResourceList): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { resource } of items) {
    // A workload without a node is deliberately registered but not meshed.
    const node = resource.kind === 'Workload' ? resource.spec.node : undefined;
    if (node !== undefined) counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}

const marks = { ok: '✔', warn: '!', fail: '✖', unchecked: '?' } as const;
const markColours = { ok: 'green', warn: 'yellow', fail: 'red', unchecked: undefined } as const;

export function renderChecks(checks: readonly MeshCheck[]): string {
  const lines = checks.map(({ check, state, message, hint }) => {
    const text = printable(`${check}: ${message}${hint === '' ? '' : ` (${hint})`}`);
    return `${paint(marks[state], markColours[state])} ${text}`;
  });
  return lines.join('\n');
}

function checksFailed(count: number): CliError {
  return new CliError({
    exit: 'failed',
    code: 'NOT_WELL',
    message: `${count} ${count === 1 ? 'check' : 'checks'} failed`,
    hint: 'follow the hint in each line above',
  });
}
