import { capturePorts, hostPorts } from '../../agent/ports.js';

/** Where an attack comes from, where it goes, and what gets the same load in its place to compare. */
export type Attack = {
  readonly id: string;
  readonly title: string;
  /** Of `load/attacker.ts`. */
  readonly kind:
    | 'silent'
    | 'spoken'
    | 'handshakes'
    | 'tunnels'
    | 'replay'
    | 'tiny-data'
    | 'tiny-acks'
    | 'tiny-windows'
    | 'resets';
  readonly count: number;
  /** A machine outside of the mesh, or a workload on the neighbour's host. */
  readonly from: 'stranger' | 'workload';
  /** `closing port`: as `captured port`, but its server ends the oldest of more than 256 connections. */
  readonly to: 'tunnel port' | 'captured port' | 'closing port' | 'health' | 'API';
  /** `own`: with the certificate of its workload, as a program that got hold of the agent's keys. */
  readonly certificate: 'own' | 'none';
};

const stranger = { from: 'stranger', to: 'tunnel port', certificate: 'none' } as const;
const peer = { from: 'workload', to: 'tunnel port', certificate: 'own' } as const;

export const attacks = [
  { id: 'silent-tunnel', title: '2,600 silent sockets on a tunnel port', kind: 'silent', count: 2600, ...stranger },
  {
    id: 'silent-captured',
    title: '2,600 silent captured connections',
    kind: 'silent',
    count: 2600,
    from: 'workload',
    to: 'captured port',
    certificate: 'none',
  },
  {
    id: 'captured-churn',
    title: 'captured connections without end',
    kind: 'silent',
    count: 2600,
    from: 'workload',
    to: 'closing port',
    certificate: 'none',
  },
  { id: 'handshakes', title: 'TLS handshakes without end', kind: 'handshakes', count: 200, ...stranger },
  { id: 'replay', title: 'a recorded ClientHello without end', kind: 'replay', count: 200, ...stranger },
  {
    id: 'replay-many',
    title: 'a recorded ClientHello without end, 1,000 at a time',
    kind: 'replay',
    count: 1000,
    ...stranger,
  },
  { id: 'proved', title: 'proved tunnels without end', kind: 'tunnels', count: 64, ...peer },
  { id: 'data-1', title: 'DATA of one byte, one stream', kind: 'tiny-data', count: 1, ...peer },
  { id: 'data-90', title: 'DATA of one byte, 90 streams', kind: 'tiny-data', count: 90, ...peer },
  { id: 'acks', title: 'acknowledgements of settings', kind: 'tiny-acks', count: 0, ...peer },
  { id: 'windows', title: 'windows that grow by a byte', kind: 'tiny-windows', count: 0, ...peer },
  { id: 'resets', title: 'streams that are opened and reset', kind: 'resets', count: 0, ...peer },
  {
    id: 'silent-health',
    title: '80 silent health probes',
    kind: 'silent',
    count: 80,
    from: 'stranger',
    to: 'health',
    certificate: 'none',
  },
  {
    id: 'silent-endpoint',
    title: '3,500 silent connections to an endpoint of the agent',
    kind: 'silent',
    count: 3500,
    from: 'stranger',
    to: 'health',
    certificate: 'none',
  },
  {
    id: 'spoken-endpoint',
    title: '3,500 connections to an endpoint of the agent, of one byte each',
    kind: 'spoken',
    count: 3500,
    from: 'stranger',
    to: 'health',
    certificate: 'none',
  },
  {
    id: 'silent-api',
    title: '3,500 silent connections to the API',
    kind: 'silent',
    count: 3500,
    from: 'stranger',
    to: 'API',
    certificate: 'none',
  },
] as const satisfies readonly Attack[];

export type AttackId = (typeof attacks)[number]['id'];

export function attackOf(id: AttackId): Attack {
  return attacks.find((attack) => attack.id === id) ?? attacks[0];
}

export const attackedPorts = { tunnel: capturePorts.inboundTunnel, health: hostPorts.health, api: 15_443 } as const;
