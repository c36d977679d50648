import { readFileSync } from 'node:fs';
import type { AccessLogLine } from '../../../agent/telemetry/access-log.js';
import type { LabNode } from '../../../test/lab/lab-node.js';
import type { Stage } from '../stage.js';
import { require, type Step } from '../step.js';

const redisRulesFile = 'deploy/demo/rules/redis-only-from-web.yaml';
const expectedRule = 'SegmentationRule/redis-deny-others';

/**
 * Step 5. While the rule is applied, the intruder's host is disconnected from the controller, like a slow or compromised
 * host. It still lets the intruder out, so the destination has to refuse, and both ends can be compared. When the host is
 * back, its own agent refuses.
 */
export const segmentationRule: Step = {
  id: 'segmentation-rule',
  title: 'A rule is applied: an allowed client works, an intruder is refused, and both ends record why',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    const before = await stage.redis('intruder', ['GET', 'demo']);
    require(before.code === 0 && before.stdout.startsWith('pattern-'), 'without a rule the intruder reads redis');
    say(`before the rule, guest/intruder can read redis: ${before.stdout.trim()}`);

    narrator.doing('node1 is disconnected from the controller, and the rule is applied');
    const controllerIp = stage.mesh.controller.node.ipv4;
    const node1 = stage.mesh.agent('node1').node;
    const { revision, late } = await cutOff(node1, controllerIp, () => applyUnreachable(stage, say));

    narrator.doing('node1 connects again and takes the rule');
    await stage.mesh.agent('node1').waitForRevision(revision, 60_000);
    const allowed = await stage.redis('web', ['PING']);
    require(allowed.stdout.trim() === 'PONG', `shop/web still reaches redis (${allowed.stdout}${allowed.stderr})`);
    const refused = await stage.redis('intruder', ['GET', 'demo']);
    require(isRefused(refused), `the intruder is refused (${refused.stdout}${refused.stderr})`);
    const early = await findRefusal(stage, 'node1', 'node1 itself refuses', (line) => line.revision >= revision);
    say(
      `node1 is connected again and refuses by itself: shop/web → "${allowed.stdout.trim()}", intruder → "${refused.stderr.trim()}"`,
    );

    const why = await whyNot(stage);
    say(`culvert why guest/intruder shop/cache:6379 → ${why.verdict} by ${why.rule} (revision ${why.revision})`);
    return {
      revision,
      allowedClient: allowed.stdout.trim(),
      intruderGot: refused.stderr.trim() || refused.stdout.trim(),
      atDestination: late.destination,
      atSource: late.source,
      earlyRefusal: { reason: early.reason, rule: early.rule, bytesSent: early.bytesSent },
      why,
    };
  },
};

type BothEnds = { readonly source: LoggedRefusal; readonly destination: LoggedRefusal };

/** Runs the task while the node cannot reach the address. */
async function cutOff<T>(node: LabNode, ip: string, task: () => Promise<T>): Promise<T> {
  await node.check(['ip', 'route', 'add', 'blackhole', `${ip}/32`]);
  try {
    return await task();
  } finally {
    await node.check(['ip', 'route', 'del', 'blackhole', `${ip}/32`]);
  }
}

type LoggedRefusal = Pick<AccessLogLine, 'reason' | 'rule' | 'revision' | 'traceId'>;

async function applyUnreachable(
  stage: Stage,
  say: (line: string) => void,
): Promise<{ readonly revision: number; readonly late: BothEnds }> {
  const answer = await stage.mesh.controller.culvertJson(['apply', '-f', redisRulesFile]);
  const { revision } = answer as { revision: number };
  await stage.mesh.agent('node2').waitForRevision(revision);
  say(`culvert apply -f ${redisRulesFile} → revision ${revision}; node1 is disconnected and does not have it yet`);

  const refused = await stage.redis('intruder', ['GET', 'demo']);
  require(isRefused(refused), `the destination refuses the intruder (${refused.stdout}${refused.stderr})`);
  const destination = await findRefusal(stage, 'node2', 'node2 refuses', (line) => line.direction === 'inbound');
  const source = await findRefusal(
    stage,
    'node1',
    'node1 learns the reason',
    (line) => line.traceId === destination.traceId,
  );
  require(source.reason === destination.reason && source.rule === destination.rule, 'both ends logged the same reason');
  require(destination.rule === expectedRule, `the rule is named (${destination.rule})`);
  say(
    `intruder → "${refused.stderr.trim()}"; node2 logged ${destination.reason} by ${destination.rule}, node1 logged the same`,
  );
  return { revision, late: { source: logged(source), destination: logged(destination) } };
}

function findRefusal(
  stage: Stage,
  host: string,
  what: string,
  fits: (line: AccessLogLine) => boolean,
): Promise<AccessLogLine> {
  return stage.mesh
    .agent(host)
    .waitForRecord(
      what,
      (line) => line.sourceWorkload === 'guest/intruder' && line.reason === 'POLICY_DENY' && fits(line),
    );
}

function logged({ reason, rule, revision, traceId }: AccessLogLine): LoggedRefusal {
  return { reason, ...(rule === undefined ? {} : { rule }), revision, traceId };
}

function isRefused(result: { readonly code: number; readonly stdout: string }): boolean {
  return result.code !== 0 && !result.stdout.includes('pattern-');
}

async function whyNot(stage: Stage): Promise<{ verdict: string; rule: string; revision: number }> {
  const answer = (await stage.mesh.controller.culvertJson(['why', 'guest/intruder', 'shop/cache:6379'])) as {
    readonly decision: { readonly verdict: string; readonly rule: { readonly kind: string; readonly name: string } };
    readonly revision: number;
  };
  const rule = `${answer.decision.rule.kind}/${answer.decision.rule.name}`;
  require(answer.decision.verdict === 'deny' && rule === expectedRule, `culvert why names the rule (${rule})`);
  require(readFileSync(redisRulesFile, 'utf8').includes(answer.decision.rule.name), 'it is the rule of the file');
  return { verdict: answer.decision.verdict, rule, revision: answer.revision };
}
