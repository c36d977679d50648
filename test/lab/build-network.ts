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
 * Creates the namespaces, links and files of a plan. One shell does all of it: what copies this process, with its memory, costs
 * more than the programs that the shell starts. Throws `COMMAND_FAILED`; the caller tears down.
 */
export async function buildNetwork(plan: LabPlan): Promise<void> {
  const { fabric, machines, workloads } = renderNetwork(plan);
  const scripts = [fabric, ...machines, ...workloads];
  const lines = [
    ...batch(
      'ip',
      plannedNamespaces(plan).map((name) => `netns add ${name}`),
    ),
    ...scripts.flatMap(setSysctls),
    ...scripts.flatMap(({ netns, ipCommands }) => batch(`ip -n ${netns}`, ipCommands)),
  ];
  await requireSuccess(['sh', '-e'], { input: lines.join('\n') });
  writeNetnsFiles(plan);
}

function batch(ip: string, commands: readonly string[]): string[] {
  return [`${ip} -batch - <<E`, ...commands, 'E'];
}

/** Paths below /proc/sys/net belong to the namespace of the process that opens them, so one shell inside sets them all. */
function setSysctls({ netns, sysctls }: NamespaceScript): string[] {
  const lines = Object.entries(sysctls).map(([key, value]) => `echo ${value} > /proc/sys/net/${key}`);
  return [`nsenter --net=/run/netns/${netns} sh -e <<E`, ...lines, 'E'];
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
