import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { describeError } from '../../../shared/errors.js';
import { agentSocketPath } from '../succession/agent-socket.js';
import { timeoutSignal } from '../../../shared/timeout-signal.js';

const timeoutMs = 10_000;
const rejoinedSchema = z.object({ isComplete: z.boolean() });
const failureSchema = z.object({ message: z.string() });

/**
 * Tells the agent that runs with this state directory that it has new credentials. Returns null when it uses them, or why it
 * does not. Never rejects. An agent that waits for its join finds them by itself.
 */
export async function tellRejoined(stateDir: string): Promise<string | null> {
  try {
    const { status, body } = await post(agentSocketPath(stateDir), '/rejoin');
    const answer: unknown = JSON.parse(body);
    if (status === 404) return 'it is of an earlier version';
    if (status !== 200) return failureSchema.parse(answer).message;
    return rejoinedSchema.parse(answer).isComplete ? null : 'the addresses of NATS are others';
  } catch (error) {
    return describeError(error);
  }
}

async function post(socketPath: string, path: string): Promise<{ readonly status: number; readonly body: string }> {
  return await new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method: 'POST', signal: timeoutSignal(timeoutMs) });
    asked.on('error', reject);
    asked.on('response', (answer) => {
      text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body }), reject);
    });
    asked.end();
  });
}
