import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import type { LabPlan } from './address-plan.js';
import { plannedNamespaces } from './address-plan.js';
import { requireSuccess } from './command.js';
import { renderHostsFile } from './hosts-file.js';
import type { NamespaceScript } from './network-script.js';
import { renderNetwork } from './network-script.js';
import { netnsConfigDirectory } from './teardown.js';

/**
 * Creates the namespaces, links and files of a plan. It starts a few processes per namespace instead of one per command,
 * so six workloads on two hosts take a fraction of a second. Throws `COMMAND_FAILED`; the caller tears down.
 */
export async function buildNetwork(plan: LabPlan): Promise<void> {
  const namespaces = plannedNamespaces(plan);
  await requireSuccess(['ip', '-batch', '-'], { input: namespaces.map((name) => `netns add ${name}\n`).join('') });
  const script = renderNetwork(plan);
  await Promise.all([script.fabric, ...script.machines, ...script.workloads].map(setSysctls));
  await runIpCommands(script.fabric);
  await Promise.all(script.machines.map(runIpCommands));
  await Promise.all(script.workloads.map(runIpCommands));
  writeNetnsFiles(plan);
}

/** Paths below /proc/sys/net belong to the namespace of the process that opens them, so one shell inside sets them all. */
async function setSysctls(script: NamespaceScript): Promise<void> {
  const lines = Object.entries(script.sysctls).map(([key, value]) => `echo ${value} > /proc/sys/net/${key}`);
  const inside = ['nsenter', `--net=/run/netns/${script.netns}`];
  await requireSuccess([...inside, 'sh', '-e', '-c', lines.join('\n')]);
}

async function runIpCommands(script: NamespaceScript): Promise<void> {
  await requireSuccess(['ip', '-n', script.netns, '-batch', '-'], { input: `${script.ipCommands.join('\n')}\n` });
}

function writeNetnsFiles(plan: LabPlan): void {
  for (const machine of plan.machines) writeFilesFor(machine.netns, renderHostsFile(plan, null));
  for (const workload of plan.workloads) writeFilesFor(workload.netns, renderHostsFile(plan, workload));
}

/**
 * Points the resolver to a closed port, because a lab has no DNS: a name that is not in the hosts file fails at once
 * instead of waiting for the machine's own name server.
 */
function writeFilesFor(netns: string, hosts: string): void {
  const directory = path.join(netnsConfigDirectory, netns);
  makeDirectory(directory);
  const files = { hosts, 'resolv.conf': 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' };
  for (const [name, text] of Object.entries(files)) {
    // ip netns exec can only bind over a file that exists.
    if (existsSync(path.join('/etc', name))) writeFileSync(path.join(directory, name), text, { mode: 0o644 });
  }
}

/** Retries, because another lab may remove the empty shared parent between the two steps of a recursive mkdir. */
function makeDirectory(directory: string): void {
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      mkdirSync(directory, { recursive: true });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new CulvertError({ code: 'LAB_FILES', message: `Cannot create ${directory}: its parent keeps disappearing.` });
}
