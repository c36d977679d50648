import type { Bus, BusMessage } from '../../shared/bus/bus.js';
import { parseSubject, subjectForAllNodes, type BusVerb } from '../../shared/bus/subjects.js';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { enrolmentRequestSchema } from '../../shared/wire/node-enrolment.js';
import {
  decodeWire,
  heartbeatSchema,
  renewRequestSchema,
  signRequestSchema,
  type WireError,
} from '../../shared/wire/requests.js';
import { nodeSpiffeId } from '../../shared/identity.js';
import { sealAnswer } from '../../shared/wire/sealed-answer.js';
import { nodeRemoved, openRequest } from '../../shared/wire/sealed-request.js';
import type { SignService } from '../ca/sign-service.js';
import type { NodeCredentials } from '../join/node-credentials.js';
import type { FlowHistory } from '../flows/flow-history.js';
import type { NodeMembers } from '../join/node-members.js';
import { Episodes } from './episodes.js';
import { AgentRates, type Lifetimes } from './agent-rates.js';
import type { AgentRegistry } from './agent-registry.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Of messages that the bus drops. Anyone with a credential can send many. */
const droppedCodes: ReadonlySet<string> = new Set(['BUS_DENIED', 'BUS_OVERLOADED']);

export type AgentServicesInit = {
  readonly bus: Bus;
  readonly signing: SignService;
  readonly credentials: NodeCredentials;
  readonly agents: AgentRegistry;
  readonly members: NodeMembers;
  readonly flows: Pick<FlowHistory, 'takeRecent'>;
  /** The list of pods that wait for a node's agent; null: there is no cluster. */
  readonly enrolments: { readonly sealedFor: (node: NodeName) => Uint8Array | null } | null;
  readonly trustDomain: string;
  /** The roots that node certificates may chain to now, PEM. */
  readonly rootsPem: () => string;
  readonly nowMs: () => number;
  readonly lifetimes: Lifetimes;
  /** Agents pin its public half. */
  readonly signingKeyPem: string;
  readonly log: Log;
  /** Called for a message that was refused. */
  readonly onBadRequest: (verb: BusVerb) => void;
  readonly onRenewed: () => void;
};

/**
 * Answers agents over NATS. Each answer, a refusal too, is signed for the one request that it answers. The subject names
 * the node; a request for certificates or credentials must also be signed with that node's key. Returns the function that
 * stops serving.
 */
export function serveAgents(init: AgentServicesInit): () => void {
  const { bus, signing, credentials, agents, members, flows, log } = init;

  const rates = new AgentRates({ nowMs: init.nowMs, lifetimes: init.lifetimes });
  const episodes = new Episodes({ nowMs: init.nowMs });
  const drop = (verb: BusVerb, node: NodeName): undefined => {
    init.onBadRequest(verb);
    if (!episodes.begins(`${verb} ${node}`)) return;
    log.warn({ node, verb }, 'a node sends too many messages: dropping what is above its limit');
  };
  const isWelcome = (verb: BusVerb, subject: string): boolean => {
    const node = parseSubject(subject)?.node;
    if (node === undefined) return false;
    if (rates.take(verb, node)) return true;
    drop(verb, node);
    return false;
  };
  const onError = (verb: BusVerb, error: unknown): void => {
    init.onBadRequest(verb);
    const isDropped = error instanceof CulvertError && droppedCodes.has(error.code);
    if (isDropped && !episodes.begins(`${verb} ${error.code}`)) return;
    log.warn({ err: error, verb }, 'could not answer an agent');
  };

  const prove = (node: NodeName, { subject, bytes }: BusMessage): Uint8Array => {
    const spiffeId = nodeSpiffeId(init.trustDomain, node);
    // Before any signature is checked.
    if (members.isRemoved(node)) throw nodeRemoved(spiffeId);
    const isRevoked = (serial: string): boolean => members.isRevoked(node, serial);
    return openRequest({ subject, bytes, spiffeId, rootsPem: init.rootsPem(), nowMs: init.nowMs(), isRevoked });
  };

  const serve = (verb: BusVerb, handle: (node: NodeName, message: BusMessage) => Promise<unknown>): (() => void) =>
    bus.serve(
      subjectForAllNodes(verb),
      async (message) => {
        const { subject, bytes } = message;
        const node = parseSubject(subject)?.node;
        if (node === undefined) return undefined;
        if (!rates.begin(verb, node)) return drop(verb, node);
        const seal = (answer: unknown): Uint8Array =>
          sealAnswer({ asked: { subject, request: bytes }, answer, privateKeyPem: init.signingKeyPem });
        const standing = members.standing(node);
        try {
          const answer = await handle(node, message);
          // What the node proved before it was removed must not be answered afterwards.
          members.assertStanding(node, standing);
          return answer === undefined ? undefined : seal(answer);
        } catch (error) {
          init.onBadRequest(verb);
          log.warn({ err: error, node, verb }, 'refused a request from an agent');
          return verb === 'status' ? undefined : seal({ error: toWireError(error) });
        } finally {
          rates.end(verb, node);
        }
      },
      (error) => onError(verb, error),
      (subject) => isWelcome(verb, subject),
    );

  const stops = [
    serve('sign', async (node, message) => {
      const request = decodeWire(signRequestSchema, prove(node, message));
      if (!rates.maySign(node, request.requests.length)) throw tooManyCertificates(node);
      return signing.sign(node, request);
    }),
    serve('renew', async (node, message) => {
      const standing = members.standing(node);
      const request = decodeWire(renewRequestSchema, prove(node, message));
      const response = await credentials.issue({ node, ...request, standing, by: 'renewal' });
      init.onRenewed();
      return response;
    }),
    serve('status', async (node, { bytes }) => {
      const heartbeat = decodeWire(heartbeatSchema, bytes);
      if (heartbeat.node !== node) throw wrongNode(node, heartbeat.node);
      // Where the operator runs NATS, a node that was removed can publish until its credential ends.
      if (members.isRemoved(node)) return log.debug({ node }, 'ignored a heartbeat of a node that was removed');
      agents.receive(node, heartbeat);
    }),
    serve('recent', async (node, { bytes }) => {
      if (members.isRemoved(node)) throw nodeRemoved(nodeSpiffeId(init.trustDomain, node));
      return flows.takeRecent(node, bytes);
    }),
    serve('enrolment', async (node, message) => {
      decodeWire(enrolmentRequestSchema, prove(node, message));
      const sealed = init.enrolments?.sealedFor(node) ?? null;
      return { list: sealed === null ? null : Buffer.from(sealed).toString() };
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

function toWireError(error: unknown): WireError {
  if (error instanceof CulvertError) return { code: error.code, message: error.message, hint: error.hint ?? null };
  return { code: 'INTERNAL', message: describeError(error), hint: 'check the log of the controller' };
}

function tooManyCertificates(node: NodeName): CulvertError {
  return new CulvertError({
    code: 'TOO_MANY_CERTIFICATES',
    message: `the node ${node} asks for more certificates than a node needs`,
    hint: 'look at why its agent asks so often; it is served again in some minutes',
  });
}

function wrongNode(subject: string, claimed: string): CulvertError {
  return new CulvertError({
    code: 'NODE_MISMATCH',
    message: `the agent on ${subject} sent a heartbeat in the name of ${claimed}`,
    hint: 'rejoin this host under its own name',
  });
}
