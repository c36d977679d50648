import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LabProcess } from '../lab/lab-process.js';
import type { BenchLab } from './bench-lab.js';
import { type ServiceName, servicePorts } from './bench-ports.js';
import { waitForListener } from './listening.js';

/** Starts the applications on both of their ports in the server's workload. The teardown of the lab stops them. */
export async function startServices(lab: BenchLab, wanted: readonly ServiceName[]): Promise<void> {
  await Promise.all(wanted.map((service) => starters[service](lab)));
}

const starters: Readonly<Record<ServiceName, (lab: BenchLab) => Promise<void>>> = {
  http: startNginx,
  bulk: (lab) => onBothPorts(lab, 'bulk', (port) => ['iperf3', '-s', '-p', String(port)]),
  redis: (lab) => onBothPorts(lab, 'redis', (port) => ['redis-server', ...redisArgs(lab, port)]),
  peer: async (lab) => {
    const program = fileURLToPath(new URL('load/peer-server.js', import.meta.url));
    await start(lab, [process.execPath, program, ...portsOf('peer').map(String)], portsOf('peer'));
  },
};

function portsOf(service: ServiceName): number[] {
  return Object.values(servicePorts[service]);
}

async function onBothPorts(lab: BenchLab, service: ServiceName, argv: (port: number) => string[]): Promise<void> {
  await Promise.all(portsOf(service).map((port) => start(lab, argv(port), [port])));
}

async function start({ server }: BenchLab, argv: readonly string[], ports: readonly number[]): Promise<LabProcess> {
  const started = await server.spawn(argv);
  for (const port of ports) await waitForListener(started, port);
  return started;
}

function redisArgs(lab: BenchLab, port: number): string[] {
  const where = ['--port', String(port), '--bind', '*', '-::*', '--protected-mode', 'no'];
  return [...where, '--dir', lab.makeDirectory('redis'), '--save', '', '--daemonize', 'no', '--maxclients', '1000'];
}

/** One small page; a connection may carry any number of requests. */
async function startNginx(lab: BenchLab): Promise<void> {
  const directory = lab.makeDirectory('nginx');
  mkdirSync(path.join(directory, 'www'));
  writeFileSync(path.join(directory, 'www', 'index.html'), 'served by nginx\n');
  const configuration = path.join(directory, 'nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    configuration,
    `
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${directory}/nginx.pid;
error_log stderr error;
events { worker_connections 10000; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
${temporary.map((name) => `  ${name}_temp_path ${directory}/${name};`).join('\n')}
  server {
${portsOf('http')
  .map((port) => `    listen ${port} backlog=4096;`)
  .join('\n')}
    root ${directory}/www;
  }
}
`,
  );
  await start(lab, ['nginx', '-e', 'stderr', '-p', directory, '-c', configuration], portsOf('http'));
}
