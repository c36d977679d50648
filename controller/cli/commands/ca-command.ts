import type { Command } from 'commander';
import type { CaStatusAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { formatAge, formatExpiry } from '../view/format-time.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { printable, renderTable } from '../view/table.js';

/** `culvert ca status`: shows roots and issuing CA, and which agent trusts and proves what. */
export function addCaCommand(program: Command, cli: Cli): void {
  const ca = program.command('ca').description('Show the certificate authority and who trusts it.');
  const status = ca
    .command('status')
    .description('Show the roots, the CA that signs, and which agent trusts and proves itself with what.')
    .addHelpText('after', '\nExample: culvert ca status');
  addOutputOption(status).action(async ({ output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const answer = await client.call<CaStatusAnswer>({ method: 'GET', path: ['ca', 'status'] });
    cli.io.print(output === 'table' ? renderCaStatus(answer, cli.io.nowMs()) : renderData(answer, output));
  });
}

/** As long as kubeadm and git show a hash. */
const shownHashLength = 12;

function renderCaStatus({ issuing, roots, rotation, agents }: CaStatusAnswer, nowMs: number): string {
  const roleOf = new Map<string, string>(roots.map(({ hash, role }) => [hash, role]));
  const name = (hash: string): string => roleOf.get(hash) ?? hash.slice(0, shownHashLength);
  const names = (hashes: readonly string[] | null): string =>
    hashes === null ? 'not reported' : hashes.map(name).join(', ');
  const authorities = renderTable(
    ['CA', 'HASH', 'EXPIRES', 'SUBJECT'],
    [
      ...roots.map(({ hash, role, notAfter, subject }) => [
        `root, ${role}`,
        hash.slice(0, shownHashLength),
        formatExpiry(Date.parse(notAfter), nowMs),
        subject,
      ]),
      [
        'issuing',
        issuing.hash.slice(0, shownHashLength),
        formatExpiry(Date.parse(issuing.notAfter), nowMs),
        issuing.subject,
      ],
    ],
  );
  const nodes =
    agents.length === 0
      ? 'No node has joined.'
      : renderTable(
          ['NODE', 'TRUSTS', 'PROVES', 'SEEN'],
          agents.map(({ node, trusts, proves, lastSeenMs }) => [
            node,
            names(trusts),
            names(proves),
            formatAge(lastSeenMs, nowMs),
          ]),
        );
  return [authorities, '', nodes, ...renderRotation(rotation)].join('\n');
}

function renderRotation({ nextStep, unconfirmed }: CaStatusAnswer['rotation']): string[] {
  if (nextStep === null) return [];
  if (unconfirmed.length === 0) {
    return ['', `Every node is ready: stop the controller and run culvert-controller ca rotate ${nextStep}`];
  }
  const waiting = unconfirmed.map(({ node, why }) => printable(`  ${node} ${why}`));
  return ['', `ca rotate ${nextStep} has to wait for:`, ...waiting];
}
