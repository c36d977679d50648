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

/** A root that the issuer replaces. A CA of the controller that is prepared follows the commands. */
const issuerSteps = {
  activate:
    'Every node trusts the next root: let the issuer sign under it (or, for a CA of the controller: stop it and run culvert-controller ca rotate activate --issuer own)',
  finish:
    'Every node proves itself with the root in use: remove the previous one from the file of --issuer-roots-file, or, after a move to the issuer, stop the controller and run culvert-controller ca rotate finish',
} as const;

/** As long as kubeadm and git show a hash. */
const shownHashLength = 12;

function renderCaStatus(answer: CaStatusAnswer, nowMs: number): string {
  const { issuing, roots, rotation, agents, users = 0, issuer = null } = answer;
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
  return [
    authorities,
    ...renderIssuer(issuer),
    '',
    nodes,
    ...renderRotation(rotation, issuer),
    ...renderUsers(rotation, users),
  ].join('\n');
}

/** The roots in a context file are those of the time when it was made or refreshed. */
function renderUsers({ nextStep }: CaStatusAnswer['rotation'], users: number): string[] {
  if (nextStep === null || users === 0) return [];
  const who = `${users} ${users === 1 ? 'user has' : 'users have'} a context file of their own`;
  return nextStep === 'activate'
    ? [`${who}: before activate, each has to run culvert context refresh`]
    : [`${who}: those that were not refreshed before activate are refused, and need culvert user renew NAME`];
}

function renderIssuer(issuer: NonNullable<CaStatusAnswer['issuer']> | null): string[] {
  if (issuer === null) return [];
  return [
    '',
    printable(`Signed by ${issuer.place}${issuer.problem === null ? '' : `, which has a problem: ${issuer.problem}`}`),
    ...(issuer.hasNamedRoots === false
      ? ['Its root is the one of the first start: confirm it with --issuer-roots-file']
      : []),
  ];
}

function renderRotation(
  { nextStep, unconfirmed }: CaStatusAnswer['rotation'],
  issuer: NonNullable<CaStatusAnswer['issuer']> | null,
): string[] {
  if (nextStep === null) return [];
  if (unconfirmed.length === 0 && issuer !== null) return ['', issuerSteps[nextStep]];
  if (unconfirmed.length === 0) {
    return ['', `Every node is ready: stop the controller and run culvert-controller ca rotate ${nextStep}`];
  }
  const waiting = unconfirmed.map(({ node, why }) => printable(`  ${node} ${why}`));
  const step =
    issuer === null
      ? `ca rotate ${nextStep}`
      : nextStep === 'activate'
        ? 'the new root'
        : 'the removal of the old root';
  return ['', `${step} has to wait for:`, ...waiting];
}
