import type { SetDiff } from '../../../controller/analysis/diff/diff-sets.js';
import type { AuditedPair, AuditedRule } from '../../../controller/analysis/flows/audit-report.js';
import type { FlowChange } from '../../../controller/analysis/flows/diff-flows.js';
import type { CommandResult } from '../../../test/lab/command.js';
import { patientMs } from '../../../test/lab/patience.js';
import type { Stage } from '../stage.js';
import { require, type Step } from '../step.js';

const auditedFile = 'deploy/demo/rules/site-audited.yaml';
const enforcedFile = 'deploy/demo/rules/site-enforced.yaml';
const fixFile = 'deploy/demo/rules/site-from-api.yaml';
const rule = 'site-deny-others';
const requests = 3;

/** Step 4: recorded traffic reveals that a rule would break a client, before any connection is refused. */
export const tryBeforeItBites: Step = {
  id: 'try-before-it-bites',
  title: 'A rule is tested on real traffic, corrected and only then enforced',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    const first = (await stage.mesh.controller.culvertJson(['apply', '-f', auditedFile])) as Applied;
    await enforcedEverywhere(stage, first.revision);
    for (let request = 0; request < requests; request += 1) {
      for (const client of ['web', 'api']) require(isPage(await stage.readSite(client)), `shop/${client} reads nginx`);
    }
    say(`culvert apply -f ${auditedFile} → revision ${first.revision}; shop/web and shop/api read nginx ${requests}×`);

    narrator.doing('the agents send their records, and the audit finds them');
    const { pair, recordedAfterMs } = await auditedPair(stage);
    require(pair.port === 80, `the audit names the port (${pair.port})`);
    say(
      `culvert audit → ${rule} would have denied ${pair.source} → ${pair.destination}:${pair.port}, ${pair.connections} connections (recorded after ${recordedAfterMs} ms)`,
    );

    narrator.doing('the rules are compared on the recorded connections');
    const before = await diff(stage, [enforcedFile]);
    require(before.exitCode === 2, `culvert diff --flows ends with 2 (it ended with ${before.exitCode})`);
    const [broken] = before.broken;
    require(before.broken.length === 1 && broken?.source === 'shop/api', 'it names exactly what would break');
    require(broken.after === `SegmentationRule/${rule}`, `it names the rule (${broken.after})`);
    say(
      `culvert diff -f ${enforcedFile} --flows → exit 2: ${broken.worked} connections of ${broken.source} worked and would be denied`,
    );

    const after = await diff(stage, [fixFile, enforcedFile]);
    require(after.exitCode === 0 && after.broken.length === 0, `with ${fixFile} nothing would break`);
    say(`culvert diff with ${fixFile} → exit 0: no recorded connection that works would be denied`);
    narrator.doing('the corrected rules are enforced');
    await stage.mesh.controller.culvertJson(['apply', '-f', fixFile]);
    const promoted = (await stage.mesh.controller.culvertJson(['promote', rule])) as Applied;
    await enforcedEverywhere(stage, promoted.revision);

    for (const client of ['web', 'api'])
      require(isPage(await stage.readSite(client)), `shop/${client} still reads nginx`);
    const intruder = await stage.readSite('intruder');
    require(intruder.code !== 0 && !isPage(intruder), 'guest/intruder is refused');
    say(
      `culvert promote ${rule} → revision ${promoted.revision}; web and api still read nginx, intruder → "${intruder.stderr.trim()}"`,
    );
    const why = await whyNot(stage);
    say(`culvert why guest/intruder shop/site:80 → ${why.verdict} by ${why.rule} (revision ${why.revision})`);
    return {
      auditedRevision: first.revision,
      audited: pair,
      recordedAfterMs,
      diffOfFirstTry: before,
      diffOfFixed: after,
      promotedRevision: promoted.revision,
      intruderGot: intruder.stderr.trim(),
      why,
    };
  },
};

type Applied = { readonly revision: number };

async function enforcedEverywhere(stage: Stage, revision: number): Promise<void> {
  await Promise.all(stage.mesh.agents.map((agent) => agent.waitForRevision(revision)));
}

function isPage({ stdout }: CommandResult): boolean {
  return stdout.startsWith('hello from nginx');
}

/** What the rule would have denied to shop/api. Polls until it is there, since agents send their records every 10 s. */
async function auditedPair(stage: Stage): Promise<{ readonly pair: AuditedPair; readonly recordedAfterMs: number }> {
  const startedAt = performance.now();
  for (;;) {
    const report = (await stage.mesh.controller.culvertJson(['audit'])) as readonly AuditedRule[];
    const found = report.find((audited) => audited.rule === `SegmentationRule/${rule}`);
    const pair = found?.pairs.find(({ source }) => source === 'shop/api');
    const recordedAfterMs = Math.round(performance.now() - startedAt);
    if (found !== undefined && pair !== undefined && pair.connections >= requests) {
      require(found.pairs.length === 1, 'the audit names shop/api only, since shop/web is allowed');
      return { pair, recordedAfterMs };
    }
    require(recordedAfterMs < patientMs(25_000), 'culvert audit shows the records within 25 s on an idle machine');
  }
}

type BrokenFlow = Pick<FlowChange, 'source' | 'destination' | 'port' | 'worked' | 'before' | 'after'>;

async function diff(
  stage: Stage,
  files: readonly string[],
): Promise<{ readonly exitCode: number; readonly broken: readonly BrokenFlow[] }> {
  const result = await stage.mesh.controller.culvert(['diff', '-f', ...files, '--flows', '-o', 'json']);
  require(result.code === 0 || result.code === 2, `culvert diff can compare (${result.stderr})`);
  const { flows } = JSON.parse(result.stdout) as SetDiff;
  require(flows !== null, 'culvert diff looked at the records');
  const broken = flows.broken.map(({ source, destination, port, worked, before, after }) => {
    return { source, destination, port, worked, before, after };
  });
  return { exitCode: result.code, broken };
}

async function whyNot(stage: Stage): Promise<{ verdict: string; rule: string; revision: number }> {
  const answer = (await stage.mesh.controller.culvertJson(['why', 'guest/intruder', 'shop/site:80'])) as {
    readonly decision: { readonly verdict: string; readonly rule: { readonly kind: string; readonly name: string } };
    readonly revision: number;
  };
  const named = `${answer.decision.rule.kind}/${answer.decision.rule.name}`;
  const { verdict } = answer.decision;
  require(verdict === 'deny' && named === `SegmentationRule/${rule}`, `culvert why names the rule (${named})`);
  return { verdict, rule: named, revision: answer.revision };
}
