import { once } from 'node:events';
import type { Socket } from 'node:net';
import { addAbortSignal } from 'node:stream';
import type { ClosedConnection } from '../../../agent/dataplane/report/closed-connection.js';
import { parseIp } from '../../../shared/address.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { LabNode } from '../../lab/lab-node.js';
import { patientSignal } from '../../lab/patience.js';

/** A server that speaks first: says who dialled, then echoes until the client ends. */
export function greetAndEcho(socket: Socket): void {
  socket.on('error', () => {});
  socket.write(`hello ${parseIp(socket.remoteAddress ?? '')}\n`);
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
}

/** Sends, closes its write side, and returns everything that came back. */
export async function exchange(socket: Socket, text: string): Promise<string> {
  addAbortSignal(patientSignal(60_000), socket);
  socket.end(text);
  let answer = '';
  for await (const chunk of socket) answer += String(chunk);
  return answer;
}

/** The error code with which an open connection ends; what it receives before is dropped. */
export async function errorOf(socket: Socket, withinMs = 20_000): Promise<string> {
  socket.resume();
  if (socket.errored !== null) return codeOf(socket.errored);
  const [error] = (await once(socket, 'error', { signal: patientSignal(withinMs) })) as [Error];
  return codeOf(error);
}

/** Dials and returns the error that the application sees, be it at once or after a connect that the agent accepted. */
export async function refusal(node: LabNode, target: { ip: string; port: number }): Promise<string> {
  let socket: Socket;
  try {
    socket = await node.connect(target);
  } catch (error) {
    return codeOf(error);
  }
  return await errorOf(socket);
}

/** Dials, sends a text and its end, and returns all of the answer; null: refused or reset, be it before the connect was seen. */
export async function answerTo(
  node: LabNode,
  target: { ip: string; port: number },
  text: string,
): Promise<string | null> {
  try {
    return await exchange(await node.connect(target), text);
  } catch (error) {
    // EPIPE: the reset came before the text was sent.
    if (!['ECONNRESET', 'EPIPE'].includes(codeOf(error))) throw error;
    return null;
  }
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** As the access log has it; empty when no rule was asked. */
export function ruleOf({ rule }: Pick<ClosedConnection, 'rule'>): string {
  return rule === null ? '' : formatRuleRef(rule);
}

export const inbound = (record: ClosedConnection): boolean => record.direction === 'inbound';
export const outbound = (record: ClosedConnection): boolean => record.direction === 'outbound';
