import { once } from 'node:events';
import { StateDirectory } from '../../../agent/control/state/state-directory.js';
import type { DeniedOperation } from '../../../shared/bus/bus.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { inboxPrefixFor, subjectFor } from '../../../shared/bus/subjects.js';
import { parseSpiffeId } from '../../../shared/identity.js';
import { createLog } from '../../../shared/log.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { decodeWire, encodeWire, signResponseSchema } from '../../../shared/wire/requests.js';
import { openAnswer } from '../../../shared/wire/sealed-answer.js';
import { sealRequest } from '../../../shared/wire/sealed-request.js';
import { patientSignal } from '../../lab/patience.js';

/**
 * A program that the tests run on a host of the lab: it does with the stored credential of an agent what an agent never
 * does. `rogue-agent STATE_DIR publish SUBJECT` prints the operations that NATS denied; `… sign IDENTITY` prints what the
 * controller answered to a request for that certificate. JSON, one line.
 */
const [stateDir = '', what, argument = ''] = process.argv.slice(2);
const log = createLog({ name: 'rogue-agent', level: 'error' });
const credentials = await new StateDirectory({ path: stateDir }).readCredentials(log);
if (credentials === undefined) throw new Error(`there is no credential in ${stateDir}`);
const { node, natsServers, natsServerName, natsCaPem, rootsPem, natsJwt, natsSeed, signingPublicKeys } = credentials;
const bus = await connectBus({
  servers: natsServers,
  tls: {
    caPem: natsCaPem ?? rootsPem,
    ...(natsServerName === null ? {} : { servername: natsServerName }),
  },
  auth: { kind: 'jwt', jwt: natsJwt, seed: natsSeed },
  name: 'rogue-agent',
  inboxPrefix: inboxPrefixFor(node),
  signal: patientSignal(30_000),
});

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

if (what === 'publish') {
  const denied: DeniedOperation[] = [];
  const events = new EventTarget();
  bus.onDenied((operation) => {
    denied.push(operation);
    events.dispatchEvent(new Event('denied'));
  });
  const heard = once(events, 'denied', { signal: patientSignal(20_000) });
  bus.publish(argument, encodeWire({ node }));
  // Nothing heard is told as an empty list.
  await heard.catch(() => {});
  print(denied);
} else {
  const identity = parseSpiffeId(argument);
  if (identity === undefined) throw new Error(`"${argument}" is no identity`);
  const { csrPem } = await createCsr({ commonName: 'rogue' });
  const subject = subjectFor('sign', node);
  const body = { requests: [{ identity: argument, csrPem }] };
  const asked = { subject, request: sealRequest({ subject, body, nodeKey: credentials }) };
  const bytes = await bus.request(asked.subject, asked.request, { timeoutMs: 5000 });
  const answer = openAnswer({ asked, bytes, publicKeysPem: signingPublicKeys });
  print(decodeWire(signResponseSchema, answer).certificates);
}
await bus.close();
