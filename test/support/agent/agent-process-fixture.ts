import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TokenAnswer } from '../../../controller/api/api-types.js';
import { createLab, type Lab } from '../../lab/lab.js';
import { labHttp, type LabRequest, type LabResponse } from '../../lab/lab-http.js';
import type { LabNode, LabWorkload } from '../../lab/lab-node.js';
import type { LabProcess } from '../../lab/lab-process.js';
import { programs } from '../../lab/programs.js';
import type { LabTopology } from '../../lab/topology.js';
import { waitUntil } from '../../lab/wait-until.js';

const topology: LabTopology = {
  hasController: true,
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'web', namespace: 'shop', serviceAccount: 'web' },
        { name: 'db', namespace: 'shop', serviceAccount: 'db' },
      ],
    },
  ],
};

const apiPort = 15443;

/**
 * One agent with two workloads and its controller, as processes in a lab. Every question is asked from inside the lab.
 */
export class AgentProcess implements AsyncDisposable {
  readonly lab: Lab;
  readonly host: LabNode;
  readonly web: LabWorkload;
  readonly db: LabWorkload;
  readonly stateDir: string;
  readonly logFile: string;
  readonly #controllerDir: string;
  #agent: LabProcess | null = null;
  #controller: LabProcess | null = null;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.host = lab.host('node1');
    this.web = lab.workload('web');
    this.db = lab.workload('db');
    this.stateDir = path.join(lab.tempDir, 'agent');
    this.logFile = path.join(lab.tempDir, 'agent.log');
    this.#controllerDir = path.join(lab.tempDir, 'controller');
  }

  /** Lab and controller, the two workloads registered, an echo server in `db`; no agent yet. */
  static async prepare(): Promise<AgentProcess> {
    const lab = await createLab(topology);
    try {
      const fixture = new AgentProcess(lab);
      await fixture.startController();
      await fixture.api('POST', '/v1/apply', { documents: lab.resources(), dryRun: false });
      const { token } = (await fixture.api('POST', '/v1/tokens', { node: 'node1' })) as TokenAnswer;
      writeFileSync(path.join(lab.tempDir, 'token'), token, { mode: 0o600 });
      await fixture.db.listen({ port: 8080 }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.on('data', (bytes) => socket.write(bytes));
        socket.on('end', () => socket.end());
      });
      return fixture;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  get agent(): LabProcess {
    if (this.#agent === null) throw new Error('the agent was not started');
    return this.#agent;
  }

  async startController(): Promise<void> {
    const node = this.lab.host('controller');
    const argv = [...programs.controller, 'run', '--state-dir', this.#controllerDir, '--advertise', node.ipv4];
    const controller = await node.spawn(argv, { logFile: path.join(this.lab.tempDir, 'controller.log') });
    this.#controller = controller;
    const isReady = async (): Promise<true | undefined> => {
      controller.requireRunning();
      return (await this.#askController('/readyz')).status === 200 ? true : undefined;
    };
    await waitUntil('the controller is ready', isReady, 45_000);
  }

  /** Not before the agent has on disk what it needs without one: it is ready a moment earlier. */
  async killController(): Promise<void> {
    if (this.#agent !== null) await waitUntil('the state is saved', () => this.#hasSavedState || undefined);
    await this.#controller?.stop('SIGKILL', 1000);
  }

  get #hasSavedState(): boolean {
    const [, text = '{}'] = readFileSync(path.join(this.stateDir, 'state.json'), 'utf8').split('\n');
    const { sealedSnapshot, certificates = [] } = JSON.parse(text) as {
      sealedSnapshot?: string;
      certificates?: object[];
    };
    const registry = path.join(this.stateDir, 'registry.state');
    const isComplete = existsSync(registry) && readFileSync(registry, 'latin1').includes('"isComplete":true');
    const hasBoth = certificates.length === 2 && isComplete;
    return hasBoth && typeof sealedSnapshot === 'string';
  }

  /** `within`: a command that runs the one that follows it. */
  async startAgent(
    command: 'run' | 'supervise' = 'run',
    extra: readonly string[] = [],
    within: readonly string[] = [],
  ): Promise<void> {
    const where = ['--node', 'node1', '--controller', this.#url, '--state-dir', this.stateDir, '--workers', '1'];
    const flags = [...where, '--token-file', path.join(this.lab.tempDir, 'token'), '--take-over', ...extra];
    const argv = [...within, ...programs.agent, command, ...(command === 'supervise' ? ['--'] : []), ...flags];
    this.#agent = await this.host.spawn(argv, { logFile: this.logFile });
  }

  /** `culvert-agent …` in the host, to its end. */
  command(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    return this.host.exec([...programs.agent, ...args]);
  }

  async waitReady(): Promise<string> {
    return waitUntil(
      'the agent is ready',
      async () => {
        this.agent.requireRunning();
        const { status, body } = await this.get(15021, '/readyz');
        return status === 200 ? body : undefined;
      },
      45_000,
    );
  }

  get(port: number, pathname: string): Promise<LabResponse> {
    return labHttp({ from: this.host, ip: '127.0.0.1', port, path: pathname });
  }

  async api(method: 'GET' | 'POST' | 'DELETE', pathname: string, body?: unknown): Promise<unknown> {
    const token = /^token: (\S+)/m.exec(readFileSync(path.join(this.#controllerDir, 'admin.yaml'), 'utf8'))?.[1] ?? '';
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const answer = await this.#askController(pathname, { method, headers, ...sent });
    if (answer.status >= 300) throw new Error(`${method} ${pathname}: ${answer.status} ${answer.body}`);
    return JSON.parse(answer.body);
  }

  /** What `web` hears from `db`: `pong` when the connection worked, otherwise how it failed. */
  async ping(timeoutMs = 15_000): Promise<string> {
    try {
      const socket = await this.web.connect({ ip: this.db.ipv4, port: 8080, timeoutMs });
      return await new Promise((resolve) => {
        socket.setTimeout(timeoutMs, () => resolve('timeout'));
        socket.on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? error.message));
        socket.on('close', () => resolve('closed'));
        socket.once('data', (bytes) => {
          resolve(String(bytes));
          socket.destroy();
        });
        socket.write('pong');
      });
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  }

  /** Everything that iptables and ip know of a namespace: to compare before and after. */
  async netfilter(node: LabNode): Promise<string> {
    const script =
      'iptables-save; ip6tables-save; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all';
    const { stdout } = await node.exec(['sh', '-c', script]);
    return stdout
      .replace(/^#.*$/gm, '')
      .replace(/\[\d+:\d+\]/g, '')
      .replace(/ expires \d+sec/g, '');
  }

  async hasRules(node: LabNode): Promise<boolean> {
    return (await this.netfilter(node)).includes('CULVERT_');
  }

  /** Log lines with this message, parsed. */
  logged(message: string): readonly Readonly<Record<string, unknown>>[] {
    const lines = readFileSync(this.logFile, 'utf8').split('\n');
    const parsed = lines
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    return parsed.filter((line) => typeof line['msg'] === 'string' && line['msg'].includes(message));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.close();
  }

  get #url(): string {
    return `https://${this.lab.host('controller').ipv4}:${apiPort}`;
  }

  #askController(pathname: string, more: Partial<LabRequest> = {}): Promise<LabResponse> {
    const from = this.lab.host('controller');
    return labHttp({ from, ip: from.ipv4, port: apiPort, path: pathname, isTls: true, ...more });
  }
}
