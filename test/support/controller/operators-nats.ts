import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ControllerSettings } from '../../../controller/config/settings.js';
import { NatsFixture } from '../bus/bus-fixture.js';

/** External NATS servers, and the settings with which a controller uses them. */
export async function operatorsNats(): Promise<
  AsyncDisposable & { nats: NatsFixture; changes: Partial<ControllerSettings> }
> {
  const nats = await NatsFixture.start();
  const seedFile = path.join(nats.stateDir, 'account.seed');
  const caFile = path.join(nats.stateDir, 'nats-ca.pem');
  await writeFile(seedFile, `${nats.server.account.seed}\n`, { mode: 0o600 });
  await writeFile(caFile, nats.ca.root.certificatePem);
  const changes = {
    nats: `tls://127.0.0.1:${nats.server.port}`,
    natsAccountSeedFile: seedFile,
    natsCaFile: caFile,
  };
  return { nats, changes, [Symbol.asyncDispose]: () => nats[Symbol.asyncDispose]() };
}
