import { spawn } from 'node:child_process';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** As `npm run build` makes it. */
export const cniPluginFile = fileURLToPath(new URL('../../../agent/native/culvert-cni', import.meta.url));

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION';

export type CniAnswer = {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly tookMs: number;
};

/** An error object of CNI. */
export type CniError = {
  readonly cniVersion: string;
  readonly code: number;
  readonly msg: string;
  readonly details: string;
};

export const previousResult =
  '{ "cniVersion":"1.0.0", "ips":[{"address":"10.88.0.5\\/16"}],  "big": 12345678901234567890.10 }';

/** A configuration as a runtime hands it to the plugin. */
export function cniConfig(o: {
  readonly socket: string;
  readonly enrolled: string;
  readonly timeoutMs?: number;
  readonly cniVersion?: string;
}): string {
  const { socket, enrolled, timeoutMs = 10_000, cniVersion = '1.0.0' } = o;
  const own = {
    cniVersion,
    name: 'pods',
    type: 'culvert-cni',
    socket,
    enrolled,
    ownNamespace: 'culvert-system',
    timeoutMs,
  };
  return `${JSON.stringify(own).slice(0, -1)},"prevResult":${previousResult}}`;
}

/** What a runtime says of a pod in the environment. */
export function cniEnvironment(o: {
  readonly command: CniCommand;
  readonly netns?: string;
  readonly namespace?: string;
  readonly name?: string;
}): NodeJS.ProcessEnv {
  const { command, netns = '/run/netns/none', namespace = 'shop', name = 'web-1' } = o;
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: '0f3a',
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: [
      'IgnoreUnknown=1',
      'K8S_POD_UID=6e2c-1',
      `K8S_POD_NAME=${name}`,
      `K8S_POD_NAMESPACE=${namespace}`,
      'K8S_POD_INFRA_CONTAINER_ID=0f3a',
    ].join(';'),
  };
}

/** Runs the real plugin. `onStart` gets its process id. */
export async function runCniPlugin(o: {
  readonly env: NodeJS.ProcessEnv;
  readonly stdin: string | Uint8Array;
  readonly file?: string;
  readonly onStart?: (pid: number) => void;
}): Promise<CniAnswer> {
  const startedAtMs = performance.now();
  const child = spawn(o.file ?? cniPluginFile, [], { env: o.env });
  const ended = new Promise<Pick<CniAnswer, 'code' | 'signal'>>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  if (child.pid !== undefined) o.onStart?.(child.pid);
  // One that does not read it is judged by what it says.
  child.stdin.on('error', () => undefined);
  child.stdin.end(o.stdin);
  const [end, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { ...end, stdout, stderr, tookMs: performance.now() - startedAtMs };
}

/** Answers the plugin in place of an agent. `answer` null: never. It gets the request as it came, and its number from 0. */
export async function fakeCniAgent(
  path: string,
  answer: (request: string, count: number) => string | null,
): Promise<AsyncDisposable & { readonly requests: readonly string[] }> {
  const requests: string[] = [];
  const open = new Set<net.Socket>();
  const server = net.createServer((connection) => {
    open.add(connection);
    connection.on('error', () => undefined);
    connection.once('close', () => open.delete(connection));
    let said = '';
    connection.setEncoding('utf8');
    connection.on('data', (part: string) => {
      said += part;
      if (!said.endsWith('\n')) return;
      requests.push(said);
      const text = answer(said, requests.length - 1);
      if (text !== null) connection.end(text);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return {
    requests,
    [Symbol.asyncDispose]: async () => {
      for (const connection of open) connection.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
