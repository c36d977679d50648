import type { Command } from 'commander';
import { didYouMean } from '../../../shared/nearest-name.js';
import type { StatusAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { CliError } from '../exit-codes.js';
import { formatAge, formatExpiry } from '../view/format-time.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderTable } from '../view/table.js';

type Agent = StatusAnswer['agents'][number];

/** `culvert nodes`: lists the nodes that joined, or shows the workloads of one. */
export function addNodesCommand(program: Command, cli: Cli): void {
  const command = program
    .command('nodes')
    .description('List the nodes that joined, or show the workloads of one.')
    .argument('[node]', 'name of a node');
  command.addHelpText('after', '\nExample: culvert nodes host-a');
  addOutputOption(command).action(async (node: string | undefined, { output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const { agents } = await client.call<StatusAnswer>({ method: 'GET', path: ['status'] });
    const nowMs = cli.io.nowMs();
    if (node === undefined) {
      if (output === 'table' && agents.length === 0) return cli.io.printError('no agent has joined');
      return cli.io.print(output === 'table' ? renderNodes(agents, nowMs) : renderData(agents, output));
    }
    const agent = agentOf(agents, node);
    cli.io.print(output === 'table' ? renderNode(agent, nowMs) : renderData(agent, output));
  });
}

function agentOf(agents: readonly Agent[], node: string): Agent {
  const agent = agents.find((candidate) => candidate.node === node);
  if (agent !== undefined) return agent;
  const names = agents.map((candidate) => candidate.node);
  throw new CliError({
    exit: 'notFound',
    code: 'NOT_FOUND',
    message: `no agent has joined as node "${node}"`,
    hint: didYouMean(node, names, 'list them: culvert nodes'),
  });
}

function renderNodes(agents: readonly Agent[], nowMs: number): string {
  const rows = agents.map(({ node, state, heartbeat, joinedAtMs, lastSeenMs }) => [
    node,
    state,
    heartbeat?.version ?? '',
    heartbeat === null ? '' : String(heartbeat.workloads.length),
    formatAge(heartbeat?.startedAtMs ?? null, nowMs),
    formatAge(joinedAtMs, nowMs),
    formatAge(lastSeenMs, nowMs),
  ]);
  return renderTable(['NODE', 'STATE', 'VERSION', 'WORKLOADS', 'STARTED', 'JOINED', 'SEEN'], rows);
}

export function renderNode({ heartbeat, ...agent }: Agent, nowMs: number): string {
  const table = renderNodes([{ heartbeat, ...agent }], nowMs);
  if (heartbeat === null || heartbeat.workloads.length === 0) return `${table}\n\nIt has reported no workloads.`;
  const rows = heartbeat.workloads.map(({ name, captured, certificateNotAfterMs, problem }) => [
    name,
    captured ? 'yes' : 'no',
    formatExpiry(certificateNotAfterMs, nowMs),
    problem ?? '',
  ]);
  return `${table}\n\n${renderTable(['WORKLOAD', 'CAPTURED', 'CERTIFICATE', 'PROBLEM'], rows)}`;
}
