import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import type { z } from 'zod';
import { agentSettingsTable } from '../../agent/config/agent-settings.js';
import { nodeCredentialsSchema } from '../../agent/control/credentials/node-credentials.js';
import { stateFileSchema } from '../../agent/control/state/last-good-state.js';
import { agentSocketPath } from '../../agent/control/succession/agent-socket.js';
import { hostPorts } from '../../agent/ports.js';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import { openSnapshot } from '../../shared/wire/signed.js';
import type { Lab } from './lab.js';
import { labHttp } from './lab-http.js';
import type { LabNode } from './lab-node.js';
import type { LabProcess, ProcessExit } from './lab-process.js';
import type { MeshController } from './mesh-controller.js';
import { type MetricSample, parseMetrics } from './metric-samples.js';
import { patience, patientMs } from './patience.js';
import { programs } from './programs.js';
import { waitUntil } from './wait-until.js';

/** The real agent as a process in the namespace of a lab's host. */
export class MeshAgent {
  /** Name of its host in the lab, and of its node in the mesh. */
  readonly name: string;
  readonly node: LabNode;
  readonly stateDir: string;
  /** The log of all its runs. */
  readonly logFile: string;
  readonly #controller: MeshController;
  readonly #tokenFile: string;
  readonly #args: readonly string[];
  readonly #command: 'run' | 'supervise';
  readonly #output: 'read' | 'file';
  #process: LabProcess | null = null;

  constructor(init: {
    lab: Lab;
    host: string;
    controller: MeshController;
    args: readonly string[];
    command?: 'run' | 'supervise';
    /** `file`: it writes its log directly to the file, and `process.lines` stays empty. */
    output?: 'read' | 'file';
  }) {
    this.name = init.host;
    this.node = init.lab.host(init.host);
    this.stateDir = path.join(init.lab.tempDir, `agent-${init.host}`);
    this.logFile = path.join(init.lab.tempDir, `agent-${init.host}.log`);
    this.#tokenFile = path.join(init.lab.tempDir, `token-${init.host}`);
    this.#controller = init.controller;
    this.#args = init.args;
    this.#command = init.command ?? 'run';
    this.#output = init.output ?? 'read';
  }

  get process(): LabProcess {
    if (this.#process === null) throw new Error(`the agent of ${this.name} was not started`);
    return this.#process;
  }

  /** Gets a join token from the controller and stores it where the agent reads it. */
  async fetchToken(): Promise<string> {
    const answer = await this.#controller.culvertJson(['token', 'create', '--node', this.name]);
    const { token } = answer as { token: string };
    writeFileSync(this.#tokenFile, token, { mode: 0o600 });
    return token;
  }

  /**
   * Starts the process, without waiting until it is ready. With state from an earlier run it needs no token. `within`: the words
   * of a program that starts it.
   */
  async start(extraArgs: readonly string[] = [], within: readonly string[] = []): Promise<void> {
    const where = ['--node', this.name, '--controller', this.#controller.url, '--state-dir', this.stateDir];
    // A test starts it again, or next to the running one, because it wants to.
    const common = ['--token-file', this.#tokenFile, '--take-over', ...limitsOfBusyMachine()];
    const flags = [...where, ...common, ...this.#args, ...extraArgs];
    const argv = [
      ...within,
      ...programs.agent,
      this.#command,
      ...(this.#command === 'supervise' ? ['--'] : []),
      ...flags,
    ];
    const output = this.#output === 'file' ? { outputFile: this.logFile } : { logFile: this.logFile };
    this.#process = await this.node.spawn(argv, output);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM', graceMs = 15_000): Promise<ProcessExit> {
    return this.process.stop(signal, graceMs);
  }

  /** Waits until /readyz has nothing pending. */
  async waitReady(deadlineMs = 45_000): Promise<void> {
    let last = '';
    await waitUntil(
      `the agent of ${this.name} is ready`,
      () => this.#askReady((text) => (last = text)),
      deadlineMs,
    ).catch((cause: unknown) => {
      this.process.requireRunning();
      const log = this.process.lines.slice(-15).join('\n');
      throw new Error(`the agent of ${this.name} is not ready: ${last}\n${log}`, { cause });
    });
  }

  /** Waits until every worker enforces this revision or a later one. */
  async waitForRevision(revision: number, deadlineMs = 30_000): Promise<void> {
    await waitUntil(
      `the agent of ${this.name} enforces revision ${revision}`,
      async () => {
        const samples = await this.metrics();
        const applied = samples.find((sample) => sample.name === 'culvert_enforced_revision');
        return applied !== undefined && applied.value >= revision ? true : undefined;
      },
      deadlineMs,
    );
  }

  async metrics(): Promise<readonly MetricSample[]> {
    return parseMetrics((await this.#get(hostPorts.metrics, '/metrics')).body);
  }

  /** The sum of all series of a metric that have these labels. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const samples = await this.metrics();
    return samples
      .filter(
        (sample) =>
          sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
      )
      .reduce((sum, sample) => sum + sample.value, 0);
  }

  /** The answer of an admin endpoint, as JSON. */
  async admin(pathname: string): Promise<unknown> {
    try {
      const socketPath = agentSocketPath(this.stateDir);
      const request = http.get({ socketPath, path: pathname, agent: false, timeout: 20_000 });
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      return await json(response);
    } catch (error) {
      this.#process?.requireRunning();
      throw error;
    }
  }

  /** Every access-log line so far, of all runs. */
  records(): AccessLogLine[] {
    return this.logLines().filter((line): line is AccessLogLine => (line as { kind?: unknown }).kind === 'access');
  }

  /** Every log line so far, of all runs, parsed. */
  logLines(): unknown[] {
    const lines = readFileSync(this.logFile, 'utf8').split('\n');
    return lines
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as unknown);
  }

  /** The first matching access-log line, already written or written within the deadline. */
  async waitForRecord(
    what: string,
    fits: (record: AccessLogLine) => boolean,
    deadlineMs = 30_000,
  ): Promise<AccessLogLine> {
    const find = (): AccessLogLine | undefined => {
      const hasEnded = this.process.hasExited;
      const found = this.records().find(fits);
      if (found === undefined && hasEnded) this.process.requireRunning();
      return found;
    };
    return waitUntil(`${this.name} logs ${what}`, find, deadlineMs);
  }

  /**
   * Waits until rules of this revision or a later one, and every certificate that the agent has, are on disk: what it starts
   * from when controller and NATS are away.
   */
  async waitForSavedState(revision: number): Promise<void> {
    await waitUntil(`the agent of ${this.name} has revision ${revision} on disk`, async () => {
      const { certificates } = (await this.admin('/dump')) as { certificates: readonly object[] };
      const { signingPublicKeys } = this.#onDisk('credentials.json', nodeCredentialsSchema);
      const saved = this.#onDisk('state.json', stateFileSchema);
      if (saved.sealedSnapshot === null || saved.certificates.length < certificates.length) return undefined;
      const snapshot = openSnapshot({ bytes: saved.sealedSnapshot, publicKeysPem: signingPublicKeys });
      return snapshot.revision >= revision ? true : undefined;
    });
  }

  #onDisk<T>(name: string, schema: z.ZodType<T>): T {
    const [, text = ''] = readFileSync(path.join(this.stateDir, name), 'utf8').split('\n');
    return schema.parse(JSON.parse(text));
  }

  async #askReady(remember: (text: string) => void): Promise<true | undefined> {
    this.process.requireRunning();
    const answer = await this.#get(hostPorts.health, '/readyz');
    remember(answer.body);
    return answer.status === 200 ? true : undefined;
  }

  async #get(port: number, pathname: string): Promise<{ status: number; body: string }> {
    try {
      return await labHttp({ from: this.node, ip: '127.0.0.1', port, path: pathname });
    } catch (error) {
      this.#process?.requireRunning();
      throw error;
    }
  }
}

/**
 * The limits of a dial and of a handshake, and the time in which a workload gets its rules and certificate: as long as on an
 * idle machine when one counts the time that the agents have. What a test gives the agent comes later and counts.
 */
function limitsOfBusyMachine(): string[] {
  if (patience() === 1) return [];
  const { connectTimeoutMs, tlsHandshakeTimeoutMs, captureWaitMs } = agentSettingsTable;
  return [connectTimeoutMs, tlsHandshakeTimeoutMs, captureWaitMs].flatMap(({ flag, default: idleMs, max }) => [
    flag,
    `${Math.min(patientMs(idleMs), max)}ms`,
  ]);
}
