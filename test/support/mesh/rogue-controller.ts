import { join } from 'node:path';
import { CaFiles } from '../../../controller/ca/ca-files.js';
import { loadNatsKeys } from '../../../controller/nats/nats-keys.js';
import { controllerPermissions } from '../../../controller/nats/agent-permissions.js';
import type { Bucket } from '../../../shared/bus/bucket.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { createUser, mintUserJwt } from '../../../shared/bus/nats-accounts.js';
import { buckets, controllerInboxPrefix, rulesPointerKey } from '../../../shared/bus/subjects.js';
import { generateSigningKey } from '../../../shared/pki/signing-key.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { pointerTo, rulesPointerSchema, snapshotKey, type RulesPointer } from '../../../shared/wire/rules-pointer.js';
import { sealSnapshot } from '../../../shared/wire/signed.js';
import { patientSignal } from '../../lab/patience.js';

/**
 * A program that the tests run on the controller's machine of the lab: with the account's seed in the controller's state
 * directory it writes rules into NATS that the controller never wrote, as an attacker who controls NATS could.
 * `rogue-controller STATE_DIR forge REVISION` lets everything pass, signed by a key of its own. `… replay REVISION`
 * points at an old snapshot, whose signature is right. `… relabel REVISION` passes the oldest snapshot off as a new one.
 * `… damage REVISION` changes one byte of the one in force, and names it by the hash that it has then.
 */
const [stateDir = '', what = '', revisionText = ''] = process.argv.slice(2);
const revision = Number(revisionText);
const { mesh: account } = await loadNatsKeys(join(stateDir, 'nats', 'keys.json'));
const issuing = await new CaFiles({ stateDir }).readAuthority('issuing');
if (issuing === undefined) throw new Error(`there is no CA in ${stateDir}`);
const user = createUser();
const bus = await connectBus({
  servers: ['127.0.0.1:4222'],
  tls: { caPem: issuing.rootPem, servername: 'culvert-nats' },
  auth: {
    kind: 'jwt',
    jwt: mintUserJwt({
      account,
      userPublicKey: user.publicKey,
      name: 'rogue-controller',
      permissions: controllerPermissions,
      expiresAtMs: null,
    }),
    seed: user.seed,
  },
  name: 'rogue-controller',
  inboxPrefix: controllerInboxPrefix,
  signal: patientSignal(10_000),
});
const rules = await bus.bucket(buckets.rules);

async function valueOf(bucket: Bucket, key: string): Promise<Uint8Array> {
  const entry = await bucket.get(key);
  if (entry === undefined) throw new Error(`there is no ${key}`);
  return entry.value;
}

async function point(pointer: RulesPointer): Promise<void> {
  await rules.put(rulesPointerKey, new TextEncoder().encode(JSON.stringify(pointer)));
}

async function publish(sealed: Uint8Array): Promise<void> {
  await rules.put(snapshotKey(revision), sealed);
  await point(pointerTo(revision, sealed));
}

const { key: inForce } = rulesPointerSchema.parse(
  JSON.parse(new TextDecoder().decode(await valueOf(rules, rulesPointerKey))),
);
switch (what) {
  case 'forge': {
    const everything: Snapshot = {
      revision,
      createdAt: new Date().toISOString(),
      createdBy: 'admin',
      trustDomain: 'culvert.local',
      mesh: { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'culvert-system' },
      rules: [],
      authorizationPolicies: [],
      networkPolicies: [],
      peerAuthentications: [],
      externals: [],
      namespaces: {},
    };
    await publish(sealSnapshot({ snapshot: everything, privateKeyPem: generateSigningKey().privateKey }));
    break;
  }
  case 'replay':
    await point(pointerTo(revision, await valueOf(rules, snapshotKey(revision))));
    break;
  case 'relabel': {
    const revisions = (await rules.keys({ prefix: 'snapshot' })).map((key) => Number(key.slice('snapshot.'.length)));
    await publish(await valueOf(rules, snapshotKey(Math.min(...revisions))));
    break;
  }
  case 'damage': {
    const bytes = Buffer.from(await valueOf(rules, inForce));
    const text = bytes.toString('utf8');
    const at = text.indexOf('"payload":"') + 40;
    await publish(Buffer.from(text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1)));
    break;
  }
  default:
    throw new Error(`"${what}" is nothing that this program does`);
}
await bus.close();
