import type { Bus, BusMessage } from '../../shared/bus/bus.js';
import { parseSubject, subjectForAllNodes, type BusVerb } from '../../shared/bus/subjects.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import {
  decodeWire,
  heartbeatSchema,
  renewRequestSchema,
  signRequestSchema,
  type WireError,
} from '../../shared/wire/requests.js';
import { nodeSpiffeId } from '../../shared/identity.js';
import { sealAnswer } from '../../shared/wire/sealed-answer.js';
import { openRequest } from '../../shared/wire/sealed-request.js';
import type { SignService } from '../ca/sign-service.js';
import type { NodeCredentials } from '../join/node-credentials.js';
import type { AgentRegistry } from './agent-registry.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * Answers what agents ask over NATS, refusals included, signed for just the request that they answer. Returns the
 * function that stops it. The node is the one that the subject names; who asks for certificates or credentials proves
 * with the node's key that he is that node.
 */
export function serveAgents(init: {
  readonly bus: Bus;
  readonly signing: SignService;
  readonly credentials: NodeCredentials;
  readonly agents: AgentRegistry;
  readonly trustDomain: string;
  /** The roots that the certificates of nodes may come from now, PEM. */
  readonly rootsPem: () => string;
  readonly nowMs: () => number;
  /** What agents pin the public half of. */
  readonly signingKeyPem: string;
  readonly log: Log;
  /** A message that could not be used. */
  readonly onBadRequest: (verb: BusVerb) => void;
  readonly onRenewed: () => void;
}): () => void {
  const { bus, signing, credentials, agents, log } = init;

  const prove = (node: NodeName, { subject, bytes }: BusMessage): Uint8Array => {
    const spiffeId = nodeSpiffeId(init.trustDomain, node);
    return openRequest({ subject, bytes, spiffeId, rootsPem: init.rootsPem(), nowMs: init.nowMs() });
  };

  const serve = (verb: BusVerb, handle: (node: NodeName, message: BusMessage) => Promise<unknown>): (() => void) =>
    bus.serve(
      subjectForAllNodes(verb),
      async (message) => {
        const { subject, bytes } = message;
        const node = parseSubject(subject)?.node;
        if (node === undefined) return undefined;
        const seal = (answer: unknown): Uint8Array =>
          sealAnswer({ asked: { subject, request: bytes }, answer, privateKeyPem: init.signingKeyPem });
        try {
          const answer = await handle(node, message);
          return answer === undefined ? undefined : seal(answer);
        } catch (error) {
          init.onBadRequest(verb);
          log.warn({ err: error, node, verb }, 'refused a request of an agent');
          return verb === 'status' ? undefined : seal({ error: toWireError(error) });
        }
      },
      (error) => log.warn({ err: error, verb }, 'could not answer an agent'),
    );

  const stops = [
    serve('sign', async (node, message) => signing.sign(node, decodeWire(signRequestSchema, prove(node, message)))),
    serve('renew', async (node, message) => {
      const response = await credentials.issue({ node, ...decodeWire(renewRequestSchema, prove(node, message)) });
      init.onRenewed();
      return response;
    }),
    serve('status', async (node, { bytes }) => {
      const heartbeat = decodeWire(heartbeatSchema, bytes);
      if (heartbeat.node !== node) throw wrongNode(node, heartbeat.node);
      agents.receive(node, heartbeat);
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

function toWireError(error: unknown): WireError {
  if (error instanceof CulvertError) return { code: error.code, message: error.message, hint: error.hint ?? null };
  return { code: 'INTERNAL', message: describeError(error), hint: 'look at the log of the controller' };
}

function wrongNode(subject: string, claimed: string): CulvertError {
  return new CulvertError({
    code: 'NODE_MISMATCH',
    message: `the agent of ${subject} sent a heartbeat in the name of ${claimed}`,
    hint: 'join this host again under its own name',
  });
}
