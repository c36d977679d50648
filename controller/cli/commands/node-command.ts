import type { Command } from 'commander';
import type { NodeRemovedAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { printable } from '../view/table.js';

/** `culvert node remove`: takes a node out of the mesh. */
export function addNodeCommand(program: Command, cli: Cli): void {
  const node = program.command('node').description('Manage one node.');
  const remove = node
    .command('remove')
    .description('Remove a node: its credentials and the identities of its workloads end until it joins again.')
    .argument('<node>', 'name of the node')
    .addHelpText('after', '\nExample: culvert node remove host-a');
  addOutputOption(remove).action(async (name: string, { output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const answer = await client.call<NodeRemovedAnswer>({ method: 'DELETE', path: ['nodes', name] });
    cli.io.print(output === 'table' ? renderRemoved(answer) : renderData(answer, output));
  });
}

const maxNamedWorkloads = 10;

export function renderRemoved({ node, nats, tokensRevoked, identities, workloads }: NodeRemovedAnswer): string {
  const lines = [`node ${node} removed`];
  if (tokensRevoked > 0) lines.push(`${tokensRevoked} unused join ${tokensRevoked === 1 ? 'token' : 'tokens'} revoked`);
  if (nats.kind === 'operator') {
    const users = nats.users.length === 0 ? 'USER' : nats.users.join(' ');
    lines.push(
      `its NATS credential is valid until it expires, because your own servers issued the account: nsc revocations add-user --user-public-key ${users}`,
    );
  }
  if (nats.kind === 'pending') {
    lines.push(
      `its NATS credential is still valid, because nats-server has not taken over the revocation: ${nats.problem}`,
      'the controller tries again every minute and logs when it is done; if the disk is full, make room',
    );
  }
  if (nats.kind === 'unknown') {
    lines.push('its NATS credential is of an earlier version and cannot be revoked: it ends when it expires');
  }
  if (workloads.length > 0) {
    const named = workloads.slice(0, maxNamedWorkloads).join(', ');
    const more = workloads.length > maxNamedWorkloads ? ` and ${workloads.length - maxNamedWorkloads} more` : '';
    lines.push(
      `still registered there: ${named}${more}; other agents refuse them and cut their connections. Move these Workloads, or delete them last`,
    );
  }
  if (identities === 'pending') {
    lines.push(
      'their certificates are still accepted, because the registry could not be written',
      'the controller tries again every minute and logs when it is done; if the disk is full, make room',
    );
  }
  return lines.map(printable).join('\n');
}
