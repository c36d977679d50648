import { z } from 'zod';
import { parseCidr } from '../../../shared/address.js';
import { authorizationConditionKeys, type AuthorizationConditionKey } from '../../../shared/policy/snapshot.js';
import { fieldNotes } from './field-notes.js';
import { isNamespacedName, isPort, maskedCidr } from './field-schemas.js';

const emptyList = 'must not be empty: leave it out';
const httpOnly = 'needs HTTP, and Culvert carries TCP without reading it';

/** Prefixes of Istio's condition keys that no TCP connection can satisfy. */
const refusedKeys: Readonly<Record<string, string>> = {
  'request.': httpOnly,
  'remote.ip': `comes from X-Forwarded-For or the PROXY protocol: it ${httpOnly}. Use source.ip`,
  'connection.sni': 'is in the TLS of the application, which Culvert carries without reading it',
  'experimental.envoy.': 'belongs to the filters of Envoy, and there are none',
};

const key = z
  .string()
  .transform((text, context): AuthorizationConditionKey => {
    const known = authorizationConditionKeys.find((candidate) => candidate === text);
    if (known !== undefined) return known;
    const refused = Object.entries(refusedKeys).find(([start]) => text.startsWith(start));
    const message = refused?.[1] ?? `is no condition: the keys are ${authorizationConditionKeys.join(', ')}`;
    context.issues.push({ code: 'custom', input: text, message });
    return z.NEVER;
  })
  .register(fieldNotes, {
    example: 'source.ip',
    limits: `one of ${authorizationConditionKeys.map((known) => `\`${known}\``).join(', ')}`,
  });

const values = z
  .array(z.string().min(1, 'must not be empty').max(512).register(fieldNotes, { example: '"10.0.0.0/8"' }))
  .min(1, emptyList)
  .exactOptional();

/**
 * One entry of `when`: the connection's value is in `values` and not in `notValues`. Source: Istio's reference,
 * Authorization Policy Conditions; the keys that apply to TCP.
 */
export const authorizationConditionSchema = z
  .strictObject({
    key: key.describe('What is compared.'),
    values: values.describe('The condition holds when the value of the connection is one of these.'),
    notValues: values.describe('The condition holds when the value of the connection is none of these.'),
  })
  .refine((condition) => condition.values !== undefined || condition.notValues !== undefined, {
    message: 'must have values or notValues',
  })
  .transform((condition, context) => {
    const read = (listed: readonly string[] | undefined, field: string) =>
      listed?.map((text, index) => {
        const value = readValue(condition.key, text);
        if (typeof value === 'string') return value;
        const { problem: message, example } = value;
        context.issues.push({ code: 'custom', input: text, path: [field, index], message, params: { example } });
        return text;
      });
    const [among, notAmong] = [read(condition.values, 'values'), read(condition.notValues, 'notValues')];
    return {
      key: condition.key,
      ...(among === undefined ? {} : { values: among }),
      ...(notAmong === undefined ? {} : { notValues: notAmong }),
    };
  })
  .register(fieldNotes, {
    example: '{ key: source.ip, values: ["10.0.0.0/8"] }',
    limits: 'at least one of `values` and `notValues`',
  });

type Unreadable = { readonly problem: string; readonly example: string };

/** The value as it is compiled: networks without bits right of the prefix. */
function readValue(conditionKey: AuthorizationConditionKey, text: string): string | Unreadable {
  const unless = (value: string | undefined, problem: string, example: string): string | Unreadable =>
    value ?? { problem, example };
  switch (conditionKey) {
    case 'source.ip':
    case 'destination.ip': {
      const network = parseCidr(text) === undefined ? maskedCidr(text) : text;
      return unless(network ?? undefined, 'is neither an IP address nor a CIDR', '"10.0.0.0/8"');
    }
    case 'destination.port': {
      const isRight = /^[1-9]\d{0,4}$/.test(text) && isPort(Number(text));
      return unless(isRight ? text : undefined, 'must be a port from 1 to 65535', '"5432"');
    }
    case 'source.principal': {
      const isRight = !text.startsWith('spiffe://');
      const example = '"cluster.local/ns/billing/sa/api"';
      return unless(isRight ? text : undefined, 'is written without "spiffe://", as in Istio', example);
    }
    case 'source.serviceAccount': {
      const isName = isNamespacedName(text.includes('/') ? text : `x/${text}`);
      const problem = 'must be NAMESPACE/NAME, or NAME in the namespace of the policy';
      return unless(isName ? text : undefined, problem, '"billing/api"');
    }
    case 'source.namespace':
    case 'source.trustDomain':
      return text;
  }
}
