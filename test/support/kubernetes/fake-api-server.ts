import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { httpsIdentity } from '../http/https-identity.js';

type KubernetesObject = {
  readonly metadata: { readonly namespace?: string; readonly name: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
};
type Definition = {
  readonly uid: string;
  readonly creationTimestamp: string;
  readonly annotations: Record<string, string>;
};
/** What the tests read of one. */
export type StoredEvent = {
  readonly reason: string;
  readonly type: string;
  readonly note: string;
  readonly regarding: { readonly kind: string; readonly name: string; readonly uid: string };
  readonly series?: { readonly count: number };
};
type Event = { readonly type: string; readonly object: unknown; readonly version: number; readonly path: string };
type Watch = { readonly path: string; readonly selector: string; readonly response: ServerResponse };

/**
 * Lists and watches of an API server over HTTPS, with resource versions, pages, bookmarks and 410, as the API concepts of the
 * Kubernetes documentation say. `caFile` and `tokenFile` are what a pod has.
 */
export class FakeApiServer implements AsyncDisposable {
  readonly directory: string;
  readonly caFile: string;
  readonly tokenFile: string;
  /** `METHOD /path?query` of each request, in order. */
  readonly heard: string[] = [];
  token = 'token-1';
  /** Answers everything with this status; null: it works. */
  status: number | null = null;
  retryAfter: string | null = null;
  /** In place of an answer. */
  body: string | null = null;
  /** It takes requests and never answers. */
  isSilent = false;
  /** What was patched, in order. */
  readonly patches: { readonly path: string; readonly type: string; readonly body: unknown }[] = [];
  /** Status of the TokenReview of each token; others are not authenticated. */
  readonly reviews = new Map<string, object>();
  /** Events (events.k8s.io/v1) by path. */
  readonly events = new Map<string, StoredEvent>();
  /** Objects of a page, at most. */
  pageSize = 500;
  /** Called between two pages of a list. */
  onPage: () => void = () => undefined;
  readonly #server: Server;
  readonly #objects = new Map<string, Map<string, KubernetesObject>>();
  readonly #watches = new Set<Watch>();
  readonly #refused = new Map<string, number>();
  readonly #unserved = new Set<string>();
  readonly #terminating = new Set<string>();
  /** Objects that are asked for by their name, by path: what was patched into them. */
  readonly #single = new Map<string, object>();
  /** Those that were made again, by name. */
  readonly #definitions = new Map<string, Definition>();
  #events: Event[] = [];
  #version = 100;
  /** Versions up to this one are no longer kept. */
  #compacted = 0;

  private constructor(init: { directory: string; caFile: string; tokenFile: string; server: Server }) {
    this.directory = init.directory;
    this.caFile = init.caFile;
    this.tokenFile = init.tokenFile;
    this.#server = init.server;
    init.server.on('request', (request, response) => this.#serve(request, response));
    init.server.on('tlsClientError', () => undefined);
  }

  /** `directory`: for the files, which go with it. */
  static async start(where: { readonly port?: number; readonly directory?: string } = {}): Promise<FakeApiServer> {
    const directory = where.directory ?? (await mkdtemp(join(tmpdir(), 'culvert-kubernetes-')));
    const [caFile, tokenFile] = [join(directory, 'ca.crt'), join(directory, 'token')];
    const { cert, key, caPem } = await httpsIdentity();
    await writeFile(caFile, caPem);
    await writeFile(tokenFile, 'token-1\n');
    const server = createServer({ cert, key });
    server.listen(where.port ?? 0, '127.0.0.1');
    await once(server, 'listening');
    return new FakeApiServer({ directory, caFile, tokenFile, server });
  }

  get url(): URL {
    return new URL(`https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
  }

  /** Watches that are open. */
  get watches(): number {
    return this.#watches.size;
  }

  put(path: string, object: KubernetesObject): void {
    const objects = this.#objects.get(path) ?? new Map<string, KubernetesObject>();
    this.#objects.set(path, objects);
    const key = `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
    const type = objects.has(key) ? 'MODIFIED' : 'ADDED';
    const creationTimestamp = objects.get(key)?.metadata['creationTimestamp'] ?? new Date().toISOString();
    const metadata = { ...object.metadata, creationTimestamp, resourceVersion: String(++this.#version) };
    const stored = { ...object, metadata };
    objects.set(key, stored);
    this.#tell({ path, type, object: stored, version: this.#version });
  }

  /** The object as it is now. */
  get(path: string, key: string): KubernetesObject | undefined {
    return this.#objects.get(path)?.get(key);
  }

  remove(path: string, key: string): void {
    const object = this.#objects.get(path)?.get(key);
    if (object === undefined) return;
    this.#objects.get(path)?.delete(key);
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.#version) } };
    this.#tell({ path, type: 'DELETED', object: last, version: this.#version });
  }

  /** An object that is asked for by its name (ConfigMaps, webhook configurations), as it is now. */
  single(path: string): object | undefined {
    return this.#single.get(path);
  }

  /** As another client does. */
  overwrite(path: string, object: object): void {
    this.#single.set(path, object);
  }

  /** Answers requests for one kind with this status; null: it works. */
  refuse(path: string, status: number | null): void {
    if (status === null) this.#refused.delete(path);
    else this.#refused.set(path, status);
  }

  /** Whether one version of a kind is served; its definition is there all the same, with other versions. */
  serve(path: string, isServed: boolean): void {
    if (isServed) this.#unserved.delete(path);
    else this.#unserved.add(path);
  }

  /** Begins to delete the definition of a kind: it is marked, and all its objects go first. {@link refuse} with 404 ends it. */
  deleteDefinition(path: string): void {
    this.#terminating.add(definitionOf(path));
    for (const key of this.#objects.get(path)?.keys() ?? []) this.remove(path, key);
  }

  /** The definition of a kind is there again, without objects. */
  define(path: string): void {
    this.#terminating.delete(definitionOf(path));
    this.#definitions.set(definitionOf(path), {
      uid: `uid-${++this.#version}`,
      creationTimestamp: new Date().toISOString(),
      annotations: {},
    });
    this.refuse(path, null);
  }

  /** Annotates a definition that was made by {@link define}. `text` has its UID in place of `UID`. */
  annotateDefinition(path: string, annotation: string, text: string): void {
    const definition = this.#definitions.get(definitionOf(path)) ?? assert.fail(path);
    definition.annotations[annotation] = text.replace('UID', definition.uid);
  }

  bookmark(path: string): void {
    const object = { metadata: { resourceVersion: String(++this.#version) } };
    for (const watch of this.#watches) if (watch.path === path) write(watch, { type: 'BOOKMARK', object });
  }

  /** To all watches, as it is. */
  say(line: string): void {
    for (const { response } of this.#watches) response.write(line);
  }

  /** Ends all watches with a reset. What happens until they are back is kept. */
  dropWatches(): void {
    for (const { response } of this.#watches) response.destroy();
  }

  /** Forgets the past. Watches that are open end with 410, in an event. */
  compact(): void {
    this.#compacted = ++this.#version;
    this.#events = [];
    for (const watch of this.#watches) {
      write(watch, { type: 'ERROR', object: status(410, 'too old resource version') });
      watch.response.end();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.directory, { recursive: true });
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '', headers } = request;
    this.heard.push(`${method} ${url}`);
    if (this.isSilent) return;
    if (this.body !== null) return void response.writeHead(200).end(this.body);
    if (this.status !== null) return refuse(response, this.status, 'as the test wants it', this.retryAfter);
    if (headers.authorization !== `Bearer ${this.token}`) return refuse(response, 401, 'Unauthorized', null);
    const { pathname: path, searchParams: query } = new URL(url, 'https://127.0.0.1');
    const refused = this.#unserved.has(path) ? 404 : this.#refused.get(path);
    if (refused !== undefined) return refuse(response, refused, 'as the test wants it', null);
    if (path === '/apis/authentication.k8s.io/v1/tokenreviews') return void this.#review(request, response);
    if (path.startsWith(definitions)) return this.#definition(path.slice(definitions.length), response);
    if (path.startsWith('/apis/events.k8s.io/v1/')) return void this.#event(method, path, request, response);
    if (/\/leases\/[^/]+$/.test(path)) return void this.#lease(path, request, response);
    if (method === 'PATCH' && path.startsWith(`${nodes}/`)) return void this.#patchNode(path, request, response);
    if (method === 'PATCH') return void this.#patch(path, request, response);
    if (isSingle(path)) return void response.end(JSON.stringify(this.#single.get(path) ?? {}));
    const selector = query.get('labelSelector') ?? '';
    if (query.get('watch') === null) return this.#list({ path, selector }, query.get('continue'), response);
    this.#watch({ path, selector, response }, Number(query.get('resourceVersion')));
  }

  /** A read, or a merge patch that counts only for the version that it names. */
  async #lease(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, kind = '', namespace = '', name = ''] = /^(.*\/namespaces\/([^/]+)\/leases)\/([^/]+)$/.exec(path) ?? [];
    const body = request.method === 'PATCH' ? ((await json(request)) as KubernetesObject) : null;
    const object = this.#objects.get(kind)?.get(`${namespace}/${name}`);
    if (object === undefined) return refuse(response, 404, 'not found', null);
    if (body !== null) {
      if (body.metadata['resourceVersion'] !== object.metadata['resourceVersion'])
        return refuse(response, 409, 'the object has been modified', null);
      const merged = { ...(object['spec'] as object), ...(body['spec'] as object) };
      const spec = Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null));
      const { annotations } = body.metadata;
      const tied = { ...(object.metadata['annotations'] as object), ...(annotations as object) };
      this.put(kind, { ...object, metadata: { ...object.metadata, annotations: tied }, spec });
    }
    response.end(JSON.stringify(this.get(kind, `${namespace}/${name}`)));
  }

  #definition(name: string, response: ServerResponse): void {
    const isGone = [...this.#refused].some(([path, code]) => code === 404 && definitionOf(path) === name);
    if (isGone) return refuse(response, 404, 'not found', null);
    const marked = this.#terminating.has(name) ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {};
    const metadata = { name, ...(this.#definitions.get(name) ?? firstDefinition), ...marked };
    response.end(JSON.stringify({ kind: 'CustomResourceDefinition', metadata }));
  }

  /** As the API validates them: ValidateEventCreate of Kubernetes for this version. */
  async #event(method: string, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = (await json(request)) as StoredEvent & KubernetesObject & Readonly<Record<string, unknown>>;
    const key = method === 'POST' ? `${path}/${body.metadata.name}` : path;
    const present = this.events.get(key);
    if (method === 'POST' && present !== undefined) return refuse(response, 409, 'already exists', null);
    if (method === 'PATCH' && present === undefined) return refuse(response, 404, 'not found', null);
    const wrong =
      method === 'POST' ? wrongInEvent(path, body) : Object.keys(body).filter((field) => field !== 'series');
    if (wrong.length > 0) return refuse(response, 422, `wrong: ${wrong.join(', ')}`, null);
    this.events.set(key, { ...present, ...body });
    response.writeHead(method === 'POST' ? 201 : 200, { 'content-type': 'application/json' }).end('{}');
  }

  async #patch(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = (await json(request)) as { readonly status?: object };
    this.patches.push({ path, type: request.headers['content-type'] ?? '', body });
    if (isSingle(path)) this.#single.set(path, merged(this.#single.get(path) ?? {}, body) as object);
    if (path.endsWith('/status')) this.#putStatus(path, body.status ?? {});
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  }

  /** A JSON patch (RFC 6902) of one taint: a test and a removal, of which either both count or none. */
  async #patchNode(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await json(request);
    this.patches.push({ path, type: request.headers['content-type'] ?? '', body });
    const node = this.get(nodes, path.slice(nodes.length));
    if (node === undefined) return refuse(response, 404, 'not found', null);
    const [check, removal] = body as readonly {
      readonly op: string;
      readonly path: string;
      readonly value?: unknown;
    }[];
    assert.deepEqual([check?.op, removal?.op, removal?.path], ['test', 'remove', check?.path]);
    const index = Number(/^\/spec\/taints\/(\d+)$/.exec(check?.path ?? '')?.[1]);
    const { taints = [] } = node['spec'] as { readonly taints?: readonly unknown[] };
    if (!isDeepStrictEqual(taints[index], check?.value)) return refuse(response, 422, 'the test failed', null);
    this.put(nodes, { ...node, spec: { taints: taints.filter((_, at) => at !== index) } });
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  }

  /** As a merge patch of the subresource does, for objects that are there. */
  #putStatus(path: string, status: object): void {
    const [, start, namespace = '', plural, name] =
      /^(.*?\/v1)(?:\/namespaces\/([^/]+))?\/([^/]+)\/([^/]+)\/status$/.exec(path) ?? [];
    const kind = `${start}/${plural}`;
    const object = this.#objects.get(kind)?.get(`${namespace}/${name}`);
    if (object !== undefined) this.put(kind, { ...object, status: { ...(object['status'] as object), ...status } });
  }

  async #review(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { spec } = (await json(request)) as { readonly spec: { readonly token: string } };
    response.writeHead(201, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ status: this.reviews.get(spec.token) ?? { authenticated: false } }));
  }

  #list({ path, selector }: Pick<Watch, 'path' | 'selector'>, from: string | null, response: ServerResponse): void {
    const [start = 0, version = this.#version] = from === null ? [] : from.split(':').map(Number);
    if (from !== null) this.onPage();
    if (version < this.#compacted) return refuse(response, 410, 'the continue token is too old', null);
    const all = [...(this.#objects.get(path)?.values() ?? [])].filter((object) => isSelected(object, selector));
    const end = start + this.pageSize;
    const more = end < all.length ? { continue: `${end}:${version}` } : {};
    response.end(
      JSON.stringify({ metadata: { resourceVersion: String(version), ...more }, items: all.slice(start, end) }),
    );
  }

  #watch(watch: Watch, from: number): void {
    const { path, response } = watch;
    if (from < this.#compacted) return refuse(response, 410, 'too old resource version', null);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const event of this.#events) if (event.path === path && event.version > from) write(watch, event);
    this.#watches.add(watch);
    response.on('close', () => this.#watches.delete(watch));
  }

  #tell(event: Event): void {
    this.#events.push(event);
    if (this.isSilent) return;
    for (const watch of this.#watches) if (watch.path === event.path) write(watch, event);
  }
}

const firstDefinition = { uid: 'uid-first', creationTimestamp: '2026-01-01T00:00:00Z' };

function wrongInEvent(path: string, event: StoredEvent & KubernetesObject): readonly string[] {
  const { namespace } = event.regarding as { readonly namespace?: string };
  const rules: Readonly<Record<string, boolean>> = {
    eventTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(String(event['eventTime'])),
    'metadata.namespace': path === `/apis/events.k8s.io/v1/namespaces/${event.metadata.namespace}/events`,
    regarding: event.metadata.namespace === (namespace ?? 'default'),
    note: Buffer.byteLength(event.note) <= 1024,
    type: ['Normal', 'Warning'].includes(event.type),
    ...Object.fromEntries(
      ['reportingController', 'reportingInstance', 'action', 'reason'].map((field) => {
        const text = event[field];
        return [field, typeof text === 'string' && text !== '' && text.length <= 128];
      }),
    ),
  };
  return Object.entries(rules).flatMap(([field, isRight]) => (isRight ? [] : [field]));
}

const nodes = '/api/v1/nodes';
const definitions = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/';

/** `segments.culvert.dev` of `/apis/culvert.dev/v1/segments`. */
function definitionOf(path: string): string {
  const [, , group = '', , plural = ''] = path.split('/');
  return `${plural}.${group}`;
}

function isSingle(path: string): boolean {
  return /\/(?:configmaps|validatingwebhookconfigurations)\/[^/]+$/.test(path);
}

/** Lists of items with names by those, as a strategic merge does; other lists are replaced. */
function merged(present: unknown, patch: unknown): unknown {
  if (Array.isArray(patch)) {
    const named = patch as readonly { readonly name?: string }[];
    if (!Array.isArray(present) || named.some(({ name }) => name === undefined)) return patch;
    const before = present as readonly { readonly name?: string }[];
    const rest = before.filter(({ name }) => named.every((each) => each.name !== name));
    return [...rest, ...named.map((each) => merged(before.find(({ name }) => name === each.name) ?? {}, each))];
  }
  if (typeof patch !== 'object' || patch === null) return patch;
  const fields = (typeof present === 'object' && present !== null ? present : {}) as Record<string, unknown>;
  return {
    ...fields,
    ...Object.fromEntries(Object.entries(patch).map(([field, value]) => [field, merged(fields[field], value)])),
  };
}

/** `KEY!=VALUE` and `KEY=VALUE`, separated by commas, or nothing. */
function isSelected(object: unknown, selector: string): boolean {
  const { metadata } = object as { readonly metadata: { readonly labels?: Record<string, string> } };
  return selector.split(',').every((part) => {
    const [, label = '', not = '', value = ''] = /^([^!=]*)(!?)=(.*)$/.exec(part) ?? [];
    return part === '' || (metadata.labels?.[label] === value) === (not === '');
  });
}

function write(
  { response, selector }: Watch,
  { type, object }: { readonly type: string; readonly object: unknown },
): void {
  if (type !== 'BOOKMARK' && type !== 'ERROR' && !isSelected(object, selector)) return;
  response.write(`${JSON.stringify({ type, object })}\n`);
}

function status(code: number, message: string): object {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, message };
}

function refuse(response: ServerResponse, code: number, message: string, retryAfter: string | null): void {
  response.writeHead(code, {
    'content-type': 'application/json',
    ...(retryAfter === null ? {} : { 'retry-after': retryAfter }),
  });
  response.end(JSON.stringify(status(code, message)));
}
