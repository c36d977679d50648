import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import type { CommandResult } from './command.js';
import { CulvertProcess } from './culvert-process.js';
import type { Lab } from './lab.js';
import { labHttp } from './lab-http.js';
import type { LabNode } from './lab-node.js';
import type { LabProcess, ProcessExit } from './lab-process.js';
import { programs } from './programs.js';
import { waitUntil } from './wait-until.js';

/** Port of the controller's HTTPS API in a lab. */
const apiPort = 15443;

/**
 * How `culvert` commands are run: `program` starts the installed program for each; `library` runs its command line in one
 * process for all, for tests that are about something else.
 */
export type CulvertKind = 'program' | 'library';

/** The real controller as a process on the lab's controller machine, and the `culvert` command that talks to it. */
export class MeshController {
  readonly node: LabNode;
  readonly stateDir: string;
  readonly logFile: string;
  readonly #args: readonly string[];
  readonly #culvert: CulvertKind;
  #culvertProcess: CulvertProcess | null = null;
  #process: LabProcess | null = null;

  constructor(init: { lab: Lab; args: readonly string[]; culvert?: CulvertKind }) {
    this.#culvert = init.culvert ?? 'library';
    this.node = init.lab.host('controller');
    this.stateDir = path.join(init.lab.tempDir, 'controller');
    this.logFile = path.join(init.lab.tempDir, 'controller.log');
    this.#args = init.args;
  }

  get url(): string {
    return `https://${this.node.ipv4}:${apiPort}`;
  }

  /** The context file with address, CA and token that the controller writes. */
  get contextFile(): string {
    return path.join(this.stateDir, 'admin.yaml');
  }

  /** Throws when it was not started or has exited. */
  get process(): LabProcess {
    if (this.#process === null) throw new Error('the controller of this lab was not started');
    return this.#process;
  }

  /** Resolves when /readyz reports ready. */
  async start(): Promise<void> {
    const own = ['--state-dir', this.stateDir, '--advertise', this.node.ipv4, '--listen', `[::]:${apiPort}`];
    const argv = [...programs.controller, 'run', ...own, ...this.#args];
    this.#process = await this.node.spawn(argv, { logFile: this.logFile });
    await waitUntil('the controller is ready', () => this.#isReady(), 45_000);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<ProcessExit> {
    return this.process.stop(signal);
  }

  /** Runs a `culvert` command to its end, whatever its exit code. */
  culvert(args: readonly string[], input = ''): Promise<CommandResult> {
    const env = { CULVERT_CONTEXT: this.contextFile };
    if (this.#culvert === 'program') {
      return this.node.exec([...programs.culvert, ...args], { timeoutMs: 30_000, env, input });
    }
    this.#culvertProcess ??= new CulvertProcess(this.node.netns);
    return this.#culvertProcess.run(args, { timeoutMs: 30_000, env, input });
  }

  /** Runs `culvert … -o json`, which must succeed, and returns what it printed. Says so when the controller has ended. */
  async culvertJson(args: readonly string[], input?: string): Promise<unknown> {
    const { code, stdout, stderr } = await this.culvert([...args, '-o', 'json'], input);
    if (code !== 0) this.#process?.requireRunning();
    if (code !== 0) throw new Error(`culvert ${args.join(' ')} ended with ${code}: ${stderr}${stdout}`);
    return JSON.parse(stdout);
  }

  /** Sends a GET to the HTTPS API, or a POST with a body, with the administrator's token. The answer must be 200. */
  async api(pathname: string, sent?: unknown): Promise<unknown> {
    const { token } = parse(readFileSync(this.contextFile, 'utf8')) as { readonly token: string };
    const headers = { authorization: `Bearer ${token}` };
    const where = { from: this.node, ip: this.node.ipv4, port: apiPort, isTls: true };
    const posted =
      sent === undefined
        ? { headers }
        : {
            method: 'POST',
            headers: { ...headers, 'content-type': 'application/json' },
            body: JSON.stringify(sent),
            timeoutMs: 30_000,
          };
    const { status, body } = await labHttp({ ...where, path: pathname, ...posted });
    if (status !== 200) throw new Error(`${pathname} was answered with ${status}: ${body}`);
    return JSON.parse(body);
  }

  async #isReady(): Promise<true | undefined> {
    this.process.requireRunning();
    const answer = await labHttp({ from: this.node, ip: this.node.ipv4, port: apiPort, path: '/readyz', isTls: true });
    return answer.status === 200 ? true : undefined;
  }
}
