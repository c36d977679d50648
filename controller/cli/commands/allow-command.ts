import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import type { SegmentationRule } from '../../resources/kinds/segmentation-rule.js';
import type { ApplyAnswer, WhyAnswer } from '../../api/api-types.js';
import { breakGlassMark } from '../../resources/kinds/break-glass.js';

import { renderChanges } from './apply-command.js';
import { readDuration } from '../input/quantity-arguments.js';
import { readReason } from '../input/text-arguments.js';
import { namedPeer } from '../input/break-glass-peer.js';
import type { Cli } from '../cli.js';
import { formatExpiry } from '../view/format-time.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { loadPresentSet } from '../client/present-set.js';
import { waitForAgents } from '../client/wait-for-agents.js';
import { parseWhyTarget } from '../input/why-target.js';

type Options = { for: number; reason: string; dryRun: boolean; wait?: number; output: OutputFormat };

/** `culvert allow`: creates an emergency rule that precedes all others and expires by itself. */
export function addAllowCommand(program: Command, cli: Cli): void {
  const command = program
    .command('allow')
    .description(
      'Allow a connection immediately for a limited time (break glass). culvert status shows it until it expires.',
    )
    .argument(
      '<source>',
      'workload or service account as NAMESPACE/NAME (prefix workload: or sa: to choose), address or CIDR',
    )
    .argument('<destination>', 'workload, service or service account as NAMESPACE/NAME:PORT, or ADDRESS:PORT')
    .requiredOption('--for <duration>', 'how long, such as 2h', readDuration)
    .requiredOption('--reason <text>', 'why, such as an incident number', readReason)
    .option('--dry-run', 'check and show what would change', false)
    .option('--wait <duration>', 'wait until every agent that is not silent enforces it, such as 30s', readDuration)
    .addHelpText('after', '\nExample: culvert allow ops/shell billing/db:5432 --for 2h --reason INC-42');
  addOutputOption(command).action(async (source: string, destination: string, options: Options) =>
    allow(cli, source, destination, options),
  );
}

async function allow(cli: Cli, source: string, destination: string, options: Options): Promise<void> {
  const { io } = cli;
  const { dryRun, wait, output, reason } = options;
  const client = await cli.client();
  const { entries } = await loadPresentSet(client);
  const from = namedPeer(source, 'source', entries);
  const to = namedPeer(destination, 'destination', entries);
  const expiresAtMs = io.nowMs() + options.for;
  const rule = breakGlassRule({ source, destination, from, to, reason, expiresAtMs });
  const body = { documents: renderData(rule, 'yaml'), dryRun, message: `break glass: ${reason}` };
  const answer = await cli.change<ApplyAnswer>(client, { method: 'POST', path: ['apply'], body });
  const { name } = rule.metadata;
  const revoke = `culvert delete SegmentationRule ${name}`;
  if (output === 'table') {
    cli.printWarnings(answer.warnings);
    io.print(renderChanges(answer));
    io.print(`expires ${formatExpiry(expiresAtMs, io.nowMs())}, at ${new Date(expiresAtMs).toISOString()}`);
    io.print(`revoke it with: ${revoke}`);
  } else io.print(renderData({ ...answer, rule, revoke }, output));
  if (dryRun) return;
  const target = parseWhyTarget(destination);
  const query = { source, destination: target.destination, port: target.port ?? undefined };
  // `culvert why` needs a single address, so a CIDR cannot be checked.
  if (from.peer.cidr === undefined || !source.includes('/')) {
    const why = await client.call<WhyAnswer>({ method: 'GET', path: ['why'], query });
    const { verdict, reason: still } = why.decision;
    if (verdict === 'deny')
      io.printError(`warning: it is still denied (${still}): culvert why ${source} ${destination}`);
  }
  if (wait === undefined) return;
  await waitForAgents({ client, io, revision: answer.revision, waitMs: wait, output });
}

/** The same source, destination and port give the same name, so allowing them again only changes the expiry. */
export function breakGlassRule(init: {
  readonly source: string;
  readonly destination: string;
  readonly from: ReturnType<typeof namedPeer>;
  readonly to: ReturnType<typeof namedPeer>;
  readonly reason: string;
  readonly expiresAtMs: number;
}): SegmentationRule {
  const { source, destination, from, to, reason, expiresAtMs } = init;
  const words = `${source}-${destination}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  const hash = createHash('sha256')
    .update(JSON.stringify([from, to]))
    .digest('hex')
    .slice(0, 8);
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: {
      name: `break-glass-${words.slice(0, 40).replaceAll(/^-|-$/g, '')}-${hash}`,
      annotations: { [breakGlassMark]: reason },
    },
    spec: {
      tier: 'platform',
      priority: 0,
      action: 'allow',
      mode: 'enforce',
      from: [from.peer],
      to: [to.peer],
      ...(to.port === null ? {} : { ports: [to.port] }),
      expiresAt: new Date(expiresAtMs).toISOString(),
      reason,
    },
  };
}
