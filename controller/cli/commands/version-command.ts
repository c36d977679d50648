import type { Command } from 'commander';
import { version } from '../../../shared/version.js';
import type { StatusAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';

/** The output of `-o json` and `-o yaml`. */
export type Versions = {
  readonly culvert: string;
  /** Null: it was not asked. */
  readonly controller: string | null;
  /** The nodes by the version of their agents; an agent that is silent counts with its last one. */
  readonly agents: Readonly<Record<string, readonly string[]>>;
};

type Options = { readonly client: boolean; readonly output: OutputFormat };

/** `culvert version`: which versions the parts of a mesh have. */
export function addVersionCommand(program: Command, cli: Cli): void {
  const command = program
    .command('version')
    .description('Show the version of this program, of the controller and of the agents.')
    .option('--client', 'only of this program; asks no controller', false)
    .addHelpText('after', '\nExample: culvert version');
  addOutputOption(command).action(async ({ client, output }: Options) => {
    const versions = client ? own() : await ofAll(cli);
    cli.io.print(output === 'table' ? render(versions) : renderData(versions, output));
  });
}

function own(): Versions {
  return { culvert: version, controller: null, agents: {} };
}

async function ofAll(cli: Cli): Promise<Versions> {
  const client = await cli.client();
  const { controller, agents } = await client.call<StatusAnswer>({ method: 'GET', path: ['status'] });
  const nodes: Record<string, string[]> = {};
  for (const { node, heartbeat } of agents) {
    if (heartbeat !== null) (nodes[heartbeat.version] ??= []).push(node);
  }
  return { culvert: version, controller: controller.version, agents: nodes };
}

function render({ culvert, controller, agents }: Versions): string {
  const lines = [`culvert     ${culvert}`];
  if (controller !== null) lines.push(`controller  ${controller}`);
  const counted = Object.entries(agents).map(([of, nodes]) => `${of} (${nodes.length})`);
  if (counted.length > 0) lines.push(`agents      ${counted.join(', ')}`);
  return lines.join('\n');
}
