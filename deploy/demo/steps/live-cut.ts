import type { LabProcess, ProcessExit } from '../../../test/lab/lab-process.js';
import { PatientTimer } from '../../../test/lab/patience.js';
import { require, type Step } from '../step.js';

const rulesFile = 'deploy/demo/rules/no-ssh-from-api.yaml';

/** Step 6: a new rule terminates a session that was allowed when it began. */
export const liveCut: Step = {
  id: 'live-cut',
  title: 'A new rule terminates a live connection that it denies',
  run: async (stage, narrator) => {
    const say = (line: string): void => narrator.say(line);
    const argv = stage.ssh.clientArgv(stage.workload('bastion').ipv4, ['echo session is open; sleep 600']);
    const session = await stage.workload('api').spawn(argv);
    narrator.doing('shop/api logs in on ops/bastion');
    await session.waitForLine(/session is open/, 60_000);
    say('shop/api has a live ssh session on ops/bastion');

    narrator.doing('the rule is applied; the session must end');
    const appliedAt = performance.now();
    const answer = await stage.mesh.controller.culvertJson(['apply', '-f', rulesFile]);
    const { revision } = answer as { revision: number };
    const exit = await endOf(session);
    require(exit !== null, 'the session ended within 10 s on an idle machine');
    const cutAfterMs = Math.round(performance.now() - appliedAt);
    require(exit.code === 255, `ssh was disconnected (it ended with ${exit.code})`);

    const isCut = (line: { reason: string; destinationWorkload?: string }): boolean =>
      line.reason === 'POLICY_TERMINATED' && line.destinationWorkload === 'ops/bastion';
    const atSource = await stage.mesh.agent('node1').waitForRecord('the cut', isCut);
    const atDestination = await stage.mesh
      .agent('node2')
      .waitForRecord('the cut', (line) => isCut(line) && line.traceId === atSource.traceId);
    require(atSource.rule === 'SegmentationRule/no-ssh-from-api', `node1 names the rule (${atSource.rule})`);
    require(atDestination.rule === atSource.rule, `node2 names the same rule (${atDestination.rule})`);
    say(`culvert apply -f ${rulesFile} → ssh ended ${cutAfterMs} ms later: ${session.lines.at(-1)}`);
    say(`both ends logged ${atSource.reason} by ${atSource.rule}`);
    return {
      revision,
      cutAfterMs,
      sshExitCode: exit.code,
      sshSaid: session.lines.at(-1) ?? '',
      atSource: { reason: atSource.reason, rule: atSource.rule, bytesSent: atSource.bytesSent },
      atDestination: { reason: atDestination.reason, rule: atDestination.rule, bytesSent: atDestination.bytesSent },
    };
  },
};

/** How the session ended; null: it lives on. */
async function endOf(session: LabProcess): Promise<ProcessExit | null> {
  let timer: PatientTimer | undefined;
  const late = new Promise<null>((resolve) => {
    timer = new PatientTimer(10_000, () => resolve(null));
  });
  try {
    return await Promise.race([session.exited, late]);
  } finally {
    timer?.clear();
  }
}
